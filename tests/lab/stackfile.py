"""What a test needs to know of a stack file before it deploys it, without a YAML library: its images."""

import os
import re


def images(path):
    """The images that a stack file names, with `${NAME:-default}` filled in as `docker stack deploy` does."""
    found = []
    for line in path.read_text().splitlines():
        match = re.match(r"\s+image:\s*(.+?)\s*(?:\s#.*)?$", line)
        if match:
            found.append(expand(match[1].strip("'\"")))
    return found


def expand(text):
    def value(match):
        return os.environ.get(match["name"]) or match["default"] or ""
    return re.sub(r"\$\{(?P<name>\w+)(?::?-(?P<default>[^}]*))?[^}]*\}", value, text)


def find_stack(folder):
    """The stack file in a folder: the one .yml that has services in it."""
    return [p for p in sorted(folder.glob("*.y*ml")) if re.search(r"^services:", p.read_text(), re.M)]
