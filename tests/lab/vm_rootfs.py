"""The virtual machine's root file system: a Debian with Docker and systemd, made once and kept in the cache.

Nothing of a run goes into it. What a run brings (the binary, the images, the guest's script) lies on a second disk
that the guest mounts at /lab, and the unit below starts /lab/start from there."""

import os
import re
import shutil
import sys
from pathlib import Path

from common import LabError, cache_dir, digest_of, run, say

PACKAGES = ["systemd-sysv", "udev", "dbus", "iproute2", "iptables", "docker.io", "linux-image-cloud-amd64",
            "initramfs-tools", "busybox-static", "ca-certificates", "curl", "netbase", "python3"]
SUITES = {
    # kernel 6.1, engine 20.10
    "bookworm": [*PACKAGES, "prometheus-node-exporter", "ethtool",  # what skep's host metrics are compared with
                 "apparmor"],  # as on a real Debian: containers run under the profile docker-default
    # kernel 6.12, engine 26.1; there the engine's package has no command line
    "trixie": [*PACKAGES, "docker-cli"],
}
IMAGE_SIZE = "3G"

FILES = {
    "etc/hostname": "guest\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 guest\n",
    "etc/resolv.conf": "nameserver 127.0.0.1\n",  # refuses at once: the guest has no network
    # Emulated on a busy machine, a disk may take minutes to turn up.
    "etc/fstab": "/dev/vda / ext4 defaults,x-systemd.device-timeout=900 0 1\n/dev/vdb /lab ext4 defaults,x-systemd.device-timeout=900 0 0\n",
    "etc/systemd/system.conf": "[Manager]\nDefaultTimeoutStartSec=900\nDefaultDeviceTimeoutSec=900\n",
    "etc/docker/daemon.json": '{"exec-opts": ["native.cgroupdriver=systemd"], "log-driver": "json-file"}\n',
    "etc/systemd/system/lab.service": """[Unit]
Description=The test that this machine was started for
After=docker.service
Wants=docker.service
RequiresMountsFor=/lab

[Service]
Type=oneshot
# docker reads $HOME; a unit has none
Environment=HOME=/root
ExecStart=-/lab/start
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
""",
}


def mirror():
    """The Debian mirror that this machine's own apt uses."""
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for place in places:
        if not place.is_file():
            continue
        for line in place.read_text(errors="replace").splitlines():
            found = (re.match(r"\s*URIs:\s*(\S+)", line)
                     or re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)", line))
            if found and re.search(r"/debian/?$", found[1]) and not found[1].startswith("file:"):
                return found[1]
    return "http://deb.debian.org/debian"


def build(suite):
    """Gives the cached (kernel, initrd, disk image) of a suite of Debian; makes them first if they are not there (2 to 4 minutes)."""
    packages = SUITES[suite]
    key = digest_of(suite, IMAGE_SIZE, *packages, *(f"{k}={v}" for k, v in sorted(FILES.items())))
    home = cache_dir() / f"guest-{suite}-{key}"
    kernel, initrd, disk = home / "vmlinuz", home / "initrd", home / "disk.img"
    if disk.exists():
        return kernel, initrd, disk
    # The bootstrapped tree is kept under its own key: a change of FILES does not download everything again.
    tree = cache_dir() / f"debootstrap-{suite}-{digest_of(suite, *packages)}"
    if not tree.exists():
        fresh = Path(f"{tree}.new-{os.getpid()}")
        say(f"debootstrap {suite} from {mirror()}: some minutes, once")
        try:
            run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, fresh, mirror(), timeout=1500)
            shutil.rmtree(fresh / "var/cache/apt/archives", ignore_errors=True)
            fresh.rename(tree)
        finally:
            if fresh.exists():
                shutil.rmtree(fresh)
    new = Path(f"{home}.new-{os.getpid()}")
    new.mkdir()
    try:
        root = new / "root"
        run("cp", "-a", "--reflink=auto", tree, root, timeout=300)
        for name, text in FILES.items():
            place = root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_symlink():
                place.unlink()
            place.write_text(text)
        (root / "lab").mkdir(exist_ok=True)
        # The console belongs to the test: no login there.
        for unit, target in (("serial-getty@ttyS0.service", "/dev/null"), ("getty@tty1.service", "/dev/null"),
                             ("prometheus-node-exporter.service", "/dev/null")):
            (root / "etc/systemd/system" / unit).symlink_to(target)
        wants = root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / "lab.service").symlink_to("/etc/systemd/system/lab.service")
        kernels, initrds = sorted((root / "boot").glob("vmlinuz-*")), sorted((root / "boot").glob("initrd.img-*"))
        if not kernels or not initrds:
            raise LabError(f"no kernel in {root}/boot")
        shutil.copy(kernels[-1], new / "vmlinuz")
        shutil.copy(initrds[-1], new / "initrd")
        run("mke2fs", "-q", "-t", "ext4", "-L", "guest", "-d", root, new / "disk.img", IMAGE_SIZE, timeout=300)
        shutil.rmtree(root)
        new.rename(home)
    finally:
        if new.exists():
            shutil.rmtree(new)
    return kernel, initrd, disk


if __name__ == "__main__":
    print(*build(sys.argv[1]))
