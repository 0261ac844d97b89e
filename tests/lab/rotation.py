"""Watches the json-files of containers while they are written: how often each rotated, and what is in them at the end."""

import os
import threading
from pathlib import Path


class Watcher(threading.Thread):
    """Counts for each live log file how many times another file took its place."""

    def __init__(self, paths):
        super().__init__(daemon=True)
        self.rotations = {str(p): 0 for p in paths}
        self.files = {str(p): 0 for p in paths}     # the most that were there at once
        self.inodes = {}
        self.ended = threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.02):
            for path in self.rotations:
                try:
                    inode = os.stat(path).st_ino
                except OSError:
                    continue
                if self.inodes.setdefault(path, inode) != inode:
                    self.inodes[path] = inode
                    self.rotations[path] += 1
                    self.files[path] = max(self.files[path], len(chain(path)))

    def stop(self):
        self.ended.set()
        self.join()
        return sum(self.rotations.values())


def chain(path):
    """A container's log files, the oldest first: X.log.4 ... X.log.1, X.log."""
    path = Path(path)
    older = [p for p in path.parent.glob(path.name + ".*") if p.suffix[1:].isdigit()]
    return sorted(older, key=lambda p: -int(p.suffix[1:])) + ([path] if path.exists() else [])


def entries(path):
    """How many log entries lie in the files of a container now."""
    total = 0
    for file in chain(path):
        try:
            total += file.read_bytes().count(b"\n")
        except FileNotFoundError:  # rotated away between the two
            pass
    return total
