"""Runs inside the virtual machine: the agent's container metrics beside the cgroup files they come from (proof.py, life.py).

The agent runs by itself on the host, then in a container with the mounts of the stack file. Needs only Python's own library; everything it wants lies
in /lab. Output: PASS and FAIL lines and `N passed, N failed`."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

LAB = "/lab"
OUT = f"{LAB}/out"
sys.path.insert(0, LAB)
sys.dont_write_bytecode = True
import families
from life import Life
from oracles import Place
from proof import PATIENCE, Agent, Engine, compare, host, scrape, wait_for

# What is proved in which Debian. The life of containers takes an emulated machine half an hour, and the machine of the tests (cgroup v1) goes through it every time.
SECTIONS = {
    "bookworm": [("numbers",), ("files",), ("contained",), ("bytes_of_disk_and_network",)],
    "trixie": [("numbers",), ("files",), ("kills_for_want_of_memory",), ("restarts",)],
}
LIFE = [("kills_for_want_of_memory",), ("names_and_limits",), ("restarts",), ("exit_codes",), ("health",), ("short_jobs", 20), ("agent_restarts",), ("engine_restarts",),
        ("containers_vanish", 30, 50)]
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
    print(f"{'PASS' if good else 'FAIL'} {name}" + (f": {detail}" if detail else ""), flush=True)


def run(*command, check=True):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def docker(*words, check=True):
    return run("docker", *words, check=check)


class Control:
    """The engine as a service of systemd, which starts it again when it was killed."""

    def signal(self, number):
        os.kill(int(run("systemctl", "show", "-p", "MainPID", "--value", "docker")), number)

    def crash(self):
        self.signal(signal.SIGKILL)

    def start(self):
        wait_for("the engine to be back", lambda: docker("info"))

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)


class Proof(Life):
    def contained(self):
        """The numbers once more, by an agent in a container, as stack/skep.yml has it."""
        if not os.path.exists(f"{LAB}/skep.tar"):
            print("no image of the agent: the agent in a container is left out", flush=True)
            return
        docker("import", "-c", 'ENTRYPOINT ["/skep"]', f"{LAB}/skep.tar", "skep:dev")
        docker("run", "-d", "--name", "skep", "--cap-drop", "ALL", "--read-only", "--user", "0:0", "--memory", "128m",
               *(word for name, value in families.ENVIRONMENT.items() for word in ("-e", f"{name}={value}")), "-v", "skep:/var/lib/skep",
               "-v", "/var/run/docker.sock:/var/run/docker.sock:ro", "-v", "/proc:/host/proc:ro", "-v", "/sys:/host/sys:ro",
               "-v", "/:/host/root:ro", "skep:dev")
        try:
            address = docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "skep")
            base = f"http://{address}:7537"
            wait_for("the agent in its container to know every container", lambda: (
                lambda s: all(s.of("container_memory_usage_bytes", c) for c in self.all))(scrape(base)))
            compare(check, "contained", base, self.engine, [host(self.engine), *self.all], rounds=2, keep=f"{OUT}/contained-containers.txt",
                    # Disks are counted one container after the other, and sockets of another user's processes take a capability.
                    lacks=[*families.FILES, "container_sockets"])
        except (Exception, SystemExit) as error:
            check("contained: could run to its end", False, " | ".join(str(error).split("\n")))
        finally:
            done = subprocess.run(["docker", "logs", "skep"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            with open(f"{OUT}/contained.log", "w") as f:
                f.write(done.stdout)
            if docker("inspect", "-f", "{{.State.Running}}", "skep", check=False) != "true":
                print("the agent's container ended: " + done.stdout[-800:].replace("\n", " | "), flush=True)
            docker("rm", "-f", "skep", check=False)


def beside_node_exporter():
    """Host metrics beside Debian's node_exporter, on a machine with systemd, logind, swap and containers."""
    import beside
    run("fallocate", "-l", "32M", "/swapfile")
    run("chmod", "600", "/swapfile")
    run("mkswap", "/swapfile")
    run("swapon", "/swapfile")
    # logind counts sessions: one of root's, which lasts as long as somebody holds its end.
    session = subprocess.Popen(["systemd-run", "--quiet", "--pipe", "--uid=0", "-p", "PAMName=login", "sleep", "1000"], stdin=subprocess.DEVNULL)
    try:
        flags = ["--collector.systemd.enable-task-metrics", "--collector.systemd.enable-restarts-metrics", "--collector.systemd.enable-start-time-metrics",
                 "--collector.sysctl.include=vm.swappiness", "--collector.netclass.ignored-devices=^lo$"]
        beside.compare(lambda name, good, detail="": check(f"beside: {name}", good, detail), f"{LAB}/skep", "/usr/bin/prometheus-node-exporter", flags)
    finally:
        session.kill()
        session.wait()


def main():
    cli = argparse.ArgumentParser()
    cli.add_argument("suite", choices=SECTIONS)
    cli.add_argument("--without-ledger", action="store_true")
    cli.add_argument("--life", action="store_true")
    options = cli.parse_args()
    os.makedirs(OUT, exist_ok=True)
    print(f"kernel {os.uname().release}, up {time.clock_gettime(time.CLOCK_BOOTTIME):.0f} s", flush=True)
    wait_for("Docker", lambda: docker("info"))
    info = json.loads(docker("info", "--format", "{{json .}}"))
    check("Docker uses cgroup v2 and the systemd driver", (info["CgroupVersion"], info["CgroupDriver"]) == ("2", "systemd"),
          f"{info['ServerVersion']}, v{info['CgroupVersion']}, {info['CgroupDriver']}")
    # Its containers go on when the engine does not; that it takes over without a restart.
    with open("/etc/docker/daemon.json") as f:
        settings = json.load(f)
    with open("/etc/docker/daemon.json", "w") as f:
        json.dump({**settings, "live-restore": True}, f)
    Control().signal(signal.SIGHUP)
    wait_for("live-restore", lambda: docker("info", "--format", "{{.LiveRestoreEnabled}}") == "true")
    docker("import", "-c", "ENV PATH=/bin", f"{LAB}/shell.tar", "bb:1")
    if options.suite == "bookworm":
        try:
            beside_node_exporter()
        except (Exception, SystemExit) as error:
            check("beside: could run to its end", False, " | ".join(str(error).split("\n")))
    agent = Agent(f"{LAB}/skep", "unix:///var/run/docker.sock", "/var/lib/skep-native", f"{OUT}/native.log")
    try:
        agent.start()
        engine = Engine(docker, "/var/run/docker.sock", Place(2, lambda identity: f"system.slice/docker-{identity}.scope"))
        # /var/lib lies on a disk; /tmp may not.
        life = Proof(check, "native", agent, engine, Control(), "/var/lib/lab", not options.without_ledger)
        for section, *words in SECTIONS[options.suite] + (LIFE if options.life else []):
            getattr(life, section)(*words)
        with open(f"{OUT}/native-metrics.txt", "w") as f:
            f.write(scrape(agent.base, "/metrics").text)
    finally:
        check("native: ends by itself on SIGTERM", agent.stop() == 0)


try:
    main()
except (Exception, SystemExit) as error:
    check("the guest could run to its end", False, " | ".join(str(error).split("\n")))
print(f"{passed} passed, {failed} failed", flush=True)
subprocess.run(["sync"])
sys.exit(0)
