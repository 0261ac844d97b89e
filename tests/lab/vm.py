"""Boots the virtual machine with a second disk that carries what a run needs, and hands back what the guest said and left.

Software emulation (no KVM needed): correct, and slow; no figure of time from in there means anything."""

import os
import subprocess
import threading
from pathlib import Path

import vm_rootfs
from common import need_tools, run


# The newer kernel allocates memory by cmpxchg16b, which QEMU 7.2 gets wrong when an interrupt comes in the middle (a double fault in __kmalloc); without the
# instruction the kernel does it in another way.
PROCESSORS = {"bookworm": "max", "trixie": "max,cx16=off"}


def boot(suite, payload, work, timeout, on_line=print):
    """Boots a suite of Debian with the folder `payload` as /lab, in which `start` is run; gives (console text, folder with what the guest put into
    /lab/out, whether it ended in time) after the guest has switched itself off or `timeout` seconds are over. `work` is a folder for the disks."""
    need_tools("qemu-system-x86_64", "debootstrap", "mke2fs", "debugfs")
    kernel, initrd, disk = vm_rootfs.build(suite)
    work = Path(work)
    second = work / "payload.img"
    (Path(payload) / "out").mkdir(exist_ok=True)
    size = sum(p.stat().st_size for p in Path(payload).rglob("*") if p.is_file() and not p.is_symlink())
    run("mke2fs", "-q", "-t", "ext4", "-d", payload, second, f"{size // 1_000_000 * 5 // 4 + 64}M")
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", PROCESSORS[suite], "-smp", "2", "-m", "2048", "-display", "none",
        "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none", "-kernel", kernel, "-initrd", initrd,
        # the cached disk is never written to: what the guest writes goes to a temporary file
        "-drive", f"file={disk},if=virtio,format=raw,snapshot=on", "-drive", f"file={second},if=virtio,format=raw",
        "-append", "root=/dev/vda rw console=ttyS0 quiet loglevel=1 systemd.show_status=0 systemd.unified_cgroup_hierarchy=1 panic=-1",
    ]
    machine = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(work)})
    late = threading.Event()

    def too_late():
        late.set()
        machine.kill()
    timer = threading.Timer(timeout, too_late)
    timer.start()
    console = []
    try:
        for raw in machine.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            console.append(line)
            on_line(line)
        machine.wait()
    finally:
        timer.cancel()
        if machine.poll() is None:
            machine.kill()
            machine.wait()
    left = work / "out"
    left.mkdir(exist_ok=True)
    run("debugfs", "-R", f"rdump /out {work}", second, check=False)
    second.unlink()
    return "\n".join(console), left, not late.is_set()
