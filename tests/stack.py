"""stack.py FILE...: checks that stack files hold nothing that `docker stack deploy` ignores, warns of or refuses, and no mount that fails on hosts where
`/` is a private mount."""

import re
import sys
from pathlib import Path

import yaml

TOP = {"version", "services", "networks", "volumes", "configs", "secrets"}
# What the engine's client makes of a service when it deploys a stack. It ignores build, cgroup_parent, devices, domainname, external_links, ipc, links,
# mac_address, network_mode, pid, privileged, restart, security_opt, shm_size and userns_mode with a warning, depends_on and container_name too, and
# refuses what is in no version of the format.
SERVICE = {
    "image", "command", "entrypoint", "environment", "env_file", "user", "working_dir", "hostname", "labels", "cap_add", "cap_drop", "read_only", "tmpfs",
    "init", "sysctls", "ulimits", "stop_signal", "stop_grace_period", "healthcheck", "volumes", "networks", "ports", "configs", "secrets", "logging",
    "deploy", "dns", "dns_search", "extra_hosts", "stdin_open", "tty",
}
DEPLOY = {"mode", "replicas", "labels", "update_config", "rollback_config", "resources", "restart_policy", "placement", "endpoint_mode"}


def faults(path):
    stack = yaml.safe_load(path.read_text())
    yield from unknown(stack, TOP, "top level")
    for name, service in stack["services"].items():
        yield from unknown(service, SERVICE, name)
        yield from unknown(service.get("deploy", {}), DEPLOY, f"{name}.deploy")
        for mount in service.get("volumes", []):
            if not isinstance(mount, str):
                yield f"{name}: {mount} is not in the short form"
        tag = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", service["image"]).rpartition(":")[2]
        if not tag or tag == "latest":
            yield f"{name}: {service['image']} has no fixed tag"
        if "memory" not in service["deploy"].get("resources", {}).get("limits", {"memory": None}):
            yield f"{name}: limits without memory"
        if not {"max-size", "max-file"} <= set(service.get("logging", {}).get("options", {})):
            yield f"{name}: its own log has no bound"
        for kind in ("networks", "configs"):
            for used in service.get(kind, []):
                if (used["source"] if isinstance(used, dict) else used) not in stack.get(kind, {}):
                    yield f"{name}: {kind} has no {used}"
    for name, config in stack.get("configs", {}).items():
        if not (path.parent / config["file"]).is_file():
            yield f"configs.{name}: no file {config['file']}"


def unknown(mapping, known, where):
    for key in mapping.keys() - known:
        yield f"{where}: docker stack deploy does not take {key}"


status = 0
for argument in sys.argv[1:]:
    found = list(faults(Path(argument)))
    for fault in found:
        print(f"{argument}: {fault}")
    if not found:
        print(f"{argument}: good")
    status |= bool(found)
sys.exit(status)
