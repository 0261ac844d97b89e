"""Containers without an engine: real cgroups, processes and network namespaces, and a Docker engine on a unix socket that tells of them.

Only what an agent reads is there: the cgroup of every container in each tree of the machine (cgroup v1, hybrid, v2), one process in it that sleeps, an `eth0`
in a namespace of its own whose other end is a veth of the machine, and the answers of the engine to `/version`, `/info`, the list, inspect and the events.
"""
import http.server
import json
import os
import pathlib
import queue
import random
import socketserver
import subprocess
import threading
import time

CGROUPS = pathlib.Path("/sys/fs/cgroup")
PARENT = "skep-bench"
CONTROLLERS = ["cpu", "cpuacct", "memory", "blkio", "pids", "unified"]
NODE = "vjxqmnnvzdtiwpvdygqkwyaa4"


def trees():
    """The directories in which containers' cgroups are made, one for each tree."""
    if (CGROUPS / "cgroup.controllers").exists():
        for level in (CGROUPS, CGROUPS / PARENT):
            level.mkdir(exist_ok=True)
            for controller in ("cpu", "memory", "io", "pids"):
                try:
                    (level / "cgroup.subtree_control").write_text(f"+{controller}")
                except OSError:
                    pass
        return [CGROUPS / PARENT]
    roots = {os.path.realpath(CGROUPS / name) for name in CONTROLLERS if (CGROUPS / name).is_dir()}
    return [pathlib.Path(root) / PARENT for root in sorted(roots)]


def remove_cgroups():
    """All that are left; their processes have ended."""
    # An engine makes one for each controller, also for those that are not read here.
    for tree in [CGROUPS / PARENT, *CGROUPS.glob(f"*/{PARENT}")]:
        if not tree.is_dir():
            continue
        for cgroup in [*(path for path in tree.iterdir() if path.is_dir()), tree]:
            for _ in range(100):
                try:
                    cgroup.rmdir()
                    break
                except OSError:
                    time.sleep(0.05)


class Container:
    """A running one, with its cgroups and its process."""

    def __init__(self, number, directories, namespace=None):
        digits = "0123456789abcdef"
        self.id = "".join(random.choices(digits, k=64))
        task = "".join(random.choices("0123456789abcdefghijklmnopqrstuvwxyz", k=25))
        service = f"shop_service-{number % 20}"
        self.name = f"{service}.{number}.{task}"
        self.image = f"registry.example.net/shop/service-{number % 20}:1.4.2@sha256:" + "".join(random.choices(digits, k=64))
        self.labels = {
            "com.docker.stack.namespace": "shop",
            "com.docker.swarm.node.id": NODE,
            "com.docker.swarm.service.id": f"kqz0cb3ln1g8ed4ukf2v{number % 20:05}",
            "com.docker.swarm.service.name": service,
            "com.docker.swarm.task": "",
            "com.docker.swarm.task.id": task,
            "com.docker.swarm.task.name": self.name,
            "maintainer": "The shop's people <people@example.net>",
            "org.opencontainers.image.revision": "".join(random.choices(digits, k=40)),
            "org.opencontainers.image.source": "https://git.example.net/shop/service",
        }
        self.started = time.time()
        self.cgroups = [directory / self.id for directory in directories]
        # A namespace of its own (True), that of another process (its pid), or this process' own (None).
        enter = ["unshare", "--net"] if namespace is True else ["nsenter", f"--net=/proc/{namespace}/ns/net"] if namespace else []
        self.process = subprocess.Popen([*enter, "sleep", "1000000"], stdin=subprocess.DEVNULL)
        self.pid = self.process.pid
        for cgroup in self.cgroups:
            cgroup.mkdir()
            (cgroup / "cgroup.procs").write_text(str(self.pid))

    def end(self):
        self.process.kill()
        self.process.wait()

    def remove(self):
        for cgroup in self.cgroups:
            for _ in range(200):
                try:
                    cgroup.rmdir()
                    break
                except OSError:
                    # The kernel still takes the process out.
                    time.sleep(0.001)


class Engine:
    """Answers on a unix socket, in the form of API 1.41."""

    def __init__(self, path):
        self.path = path
        self.containers = {}
        self.listeners = []
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self):
                return "unix"

            def log_message(self, *_):
                pass

            def do_GET(self):
                path = self.path.split("?")[0]
                if path.startswith("/v1."):
                    path = "/" + path.split("/", 2)[2]
                if path == "/events":
                    return self.events()
                answer = engine.answer(path)
                body = json.dumps(answer if answer is not None else {"message": "No such container"}).encode()
                self.send_response(200 if answer is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def events(self):
                lines = queue.SimpleQueue()
                engine.listeners.append(lines)
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    while True:
                        line = lines.get()
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                except OSError:
                    engine.listeners.remove(lines)

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

        self.server = Server(path, Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def host(self):
        return f"unix://{self.path}"

    def add(self, container):
        self.containers[container.id] = container

    def remove(self, container):
        self.containers.pop(container.id, None)

    def tell(self, container, action):
        attributes = {**container.labels, "image": container.image, "name": container.name}
        now = time.time_ns()
        line = json.dumps({"Type": "container", "Action": action, "Actor": {"ID": container.id, "Attributes": attributes}, "scope": "local",
                           "time": now // 10**9, "timeNano": now}).encode() + b"\n"
        for listener in list(self.listeners):
            listener.put(line)

    def answer(self, path):
        if path == "/version":
            return {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
        if path == "/info":
            return {"Name": "bench-node", "DockerRootDir": "/nonexistent", "ServerVersion": "20.10.24", "Swarm": {"NodeID": NODE, "LocalNodeState": "active"},
                    "SystemTime": time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())}
        if path == "/containers/json":
            return [{"Id": container.id, "Names": ["/" + container.name], "Image": container.image, "ImageID": "sha256:0", "Created": int(container.started),
                     "Labels": container.labels, "State": "running", "Status": "Up 3 minutes", "HostConfig": {"NetworkMode": "default"}}
                    for container in list(self.containers.values())]
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "containers" and parts[3] == "json":
            container = self.containers.get(parts[2])
            return container and self.inspected(container)
        return None

    @staticmethod
    def inspected(container):
        since = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(container.started))
        return {
            "Id": container.id, "Created": since, "Path": "sleep", "Args": ["1000000"], "Name": "/" + container.name, "RestartCount": 0, "Driver": "overlay2",
            "State": {"Status": "running", "Running": True, "Paused": False, "Restarting": False, "OOMKilled": False, "Dead": False, "Pid": container.pid,
                      "ExitCode": 0, "Error": "", "StartedAt": since, "FinishedAt": "0001-01-01T00:00:00Z"},
            "LogPath": f"/nonexistent/containers/{container.id}/{container.id}-json.log",
            "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {}}, "NetworkMode": "default", "RestartPolicy": {"Name": ""}, "CpuShares": 0,
                           "Memory": 0, "NanoCpus": 0},
            "Config": {"Hostname": container.id[:12], "Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sleep", "1000000"], "Image": container.image,
                       "Labels": container.labels},
            "NetworkSettings": {"Networks": {"bridge": {"NetworkID": "0" * 64}}},
        }


def own_network(containers):
    """Gives each an `eth0`, whose other end is a veth of this namespace, behind a bridge as the engine's."""
    for container in containers:
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{container.pid}/ns/net") == own:
            time.sleep(0.001)
    lines = ["link set lo up", "link add docker0 type bridge"]
    for number, container in enumerate(containers):
        lines.append(f"link add veth{number:07x} type veth peer name eth0 netns {container.pid}")
        lines.append(f"link set veth{number:07x} master docker0 up")
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True, stdout=subprocess.DEVNULL)


def own_sysfs(scratch):
    """A sysfs of this network namespace, with the machine's cgroups in it."""
    held = pathlib.Path(scratch) / "cgroup"
    held.mkdir()
    run = lambda *words: subprocess.run(words, check=True)
    run("mount", "--rbind", str(CGROUPS), str(held))
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "--rbind", str(held), str(CGROUPS))
    # Nothing of the machine's may stay in a folder that is removed as a whole.
    run("umount", "--recursive", "--lazy", str(held))
    held.rmdir()
