"""Network namespaces, entered from inside Python.

setns(2) moves one thread only, and a socket stays for ever in the namespace in which it was made. So a thread that goes in,
makes a socket and ends is all it takes: the test process itself talks to servers and listens inside the lab's network."""

import ctypes
import http.client
import json
import os
import socket
import threading

from common import LabError

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def named(name):
    """The path of a namespace made by `ip netns add NAME`."""
    return f"/run/netns/{name}"


def of_process(pid):
    return f"/proc/{pid}/ns/net"


def inside(path, function):
    """Runs function() in a thread of its own inside the network namespace `path`, and gives back what it gave."""
    result = {}

    def body():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {path}")
            finally:
                os.close(fd)
            result["value"] = function()
        except BaseException as error:  # handed over to the caller, whatever it is
            result["error"] = error

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join()
    if "error" in result:
        raise result["error"]
    return result["value"]


def connect(path, address, timeout=10):
    return inside(path, lambda: socket.create_connection(address, timeout))


def listen(path, address):
    def make():
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(address)
        s.listen(128)
        return s
    return inside(path, make)


class Connection(http.client.HTTPConnection):
    """http.client, with the socket made inside a namespace."""

    def __init__(self, path, host, port, timeout=30):
        super().__init__(host, port, timeout=timeout)
        self.namespace = path

    def connect(self):
        self.sock = connect(self.namespace, (self.host, self.port), self.timeout)


def fetch(path, host, port, url, method="GET", body=None, timeout=30):
    """One request inside a namespace. A body is sent as JSON. Gives the answer's text; a status of 400 or more is an error."""
    connection = Connection(path, host, port, timeout)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, url, data, {"Content-Type": "application/json"} if data else {})
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        if answer.status >= 400:
            raise LabError(f"{method} {host}:{port}{url}: {answer.status} {text[:500]}")
        return text
    except http.client.HTTPException as error:
        raise LabError(f"{method} {host}:{port}{url}: {error!r}") from error
    finally:
        connection.close()
