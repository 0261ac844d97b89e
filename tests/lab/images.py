"""Images without a registry: a root file system is put together here and handed to `docker import`.

A `Root` is such a file system on its way: a folder and the image's settings."""

import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import HERE, LabError, cache_dir, digest_of, need_tools, run

# What a stack file mounts into the agent: a FROM-scratch image on a read-only root needs the mount points.
AGENT_FOLDERS = ["var/lib/skep", "var/run", "host/proc", "host/sys", "host/root", "run/secrets", "tmp", "etc"]


class Root:
    def __init__(self, tag, changes=()):
        self.tag, self.changes = tag, list(changes)
        self.path = Path(tempfile.mkdtemp(prefix="skep-image-", dir="/var/tmp"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)

    def folder(self, name, mode=0o755):
        path = self.path / name.lstrip("/")
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)

    def file(self, source, name):
        target = self.path / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755)

    def text(self, name, text):
        target = self.path / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def program(self, source, name):
        """A program with the shared libraries that it needs, if it needs any."""
        self.file(source, name)
        listed = subprocess.run(["ldd", str(source)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            self.file(os.path.realpath(library), library)

    def pack(self, target):
        """The tar that `docker import` takes."""
        run("tar", "--owner=0", "--group=0", "-C", self.path, "-cf", target, ".")
        return target


def writer_binary(name="writer"):
    """writer.c, or another of the lab's programs, compiled statically; kept in the cache by the digest of its source."""
    source = HERE / f"{name}.c"
    built = cache_dir() / f"{name}-{digest_of(source.read_bytes())}"
    if not built.exists():
        need_tools("gcc")
        new = built.with_suffix(f".new-{os.getpid()}")
        run("gcc", "-static", "-O2", "-Wall", "-o", new, source)
        new.rename(built)
    return built


def shell(tag="bb:1"):
    """busybox with all its applets, and the log writer at /bin/writer."""
    need_tools("busybox")
    root = Root(tag, ['ENV PATH=/bin', 'CMD ["/bin/sh"]'])
    busybox = shutil.which("busybox")
    root.file(busybox, "bin/busybox")
    for applet in run(busybox, "--list").split():
        if applet != "busybox":
            (root.path / "bin" / applet).symlink_to("busybox")
    root.file(writer_binary(), "bin/writer")
    root.folder("tmp", 0o1777)
    root.folder("etc")
    return root


def scratch(binary, tag, name=None, folders=AGENT_FOLDERS):
    """FROM scratch: one static binary as the entry point, and empty folders to mount things at."""
    listed = subprocess.run(["ldd", str(binary)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if "=>" in listed.stdout:
        raise LabError(f"{binary} is linked dynamically: an image FROM scratch cannot run it")
    name = name or Path(binary).name
    root = Root(tag, [f'ENTRYPOINT ["/{name}"]'])
    root.file(binary, name)
    for folder in folders:
        root.folder(folder, 0o1777 if folder == "tmp" else 0o755)
    return root


def debian_program(program, tag, at, folders=(), command=None):
    """A program of Debian's with its libraries, under the tag that a stack file names for the real one."""
    found = shutil.which(program)
    if not found:
        raise LabError(f"{program} is not installed (apt-get install {program})")
    changes = [f'ENTRYPOINT ["{at}"]'] + ([f"CMD {command}"] if command else [])
    root = Root(tag, changes)
    root.program(os.path.realpath(found), at)
    root.text("etc/passwd", "root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    root.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
    root.text("etc/nsswitch.conf", "hosts: files dns\n")
    for folder in ("tmp", *folders):
        root.folder(folder, 0o1777)
    return root


def prometheus(tag="prom/prometheus:v3.5.0"):
    """Debian's Prometheus, laid out as the official image."""
    return debian_program(
        "prometheus", tag, "/bin/prometheus", ["etc/prometheus", "prometheus"],
        '["--config.file=/etc/prometheus/prometheus.yml","--storage.tsdb.path=/prometheus"]')


def load(nodes, root):
    """Imports an image on the first node and carries it to the others, so that its id is the same on each."""
    with root, tempfile.NamedTemporaryFile(prefix="skep-image-", suffix=".tar", dir="/var/tmp") as packed:
        root.pack(packed.name)
        changes = [word for change in root.changes for word in ("-c", change)]
        nodes[0].docker("import", *changes, packed.name, root.tag)
        if len(nodes) > 1:
            nodes[0].docker("save", "-o", packed.name, root.tag)
            with ThreadPoolExecutor(len(nodes)) as pool:
                list(pool.map(lambda node: node.docker("load", "-q", "-i", packed.name), nodes[1:]))
