"""A TCP proxy of the test's own, in front of a server: the place where the network is cut, stalled and mended.

It runs in threads of the test process; its sockets live in the network namespace it is given."""

import socket
import struct
import threading
import time

import netns

OPEN, CUT, STALLED = "open", "cut", "stalled"


class Proxy:
    """Listens on `listen` and forwards to `target`, both (host, port) inside the namespace `path`.

    cut()     every connection is reset and new ones are refused
    stall()   connections stay up and new ones are accepted, but no byte moves any more
    restore() as new: those that were stalled go on where they stopped
    """

    def __init__(self, path, listen, target):
        self.path, self.listen, self.target = path, listen, target
        self.lock = threading.Condition()
        self.state = CUT
        self.listener = None
        self.pairs = set()          # (client, server) sockets of each connection
        self.connections = 0        # accepted so far
        self.bytes_in = 0           # from clients to the server
        self.outage_seconds = 0.0   # total time not open, since the first restore()
        self.since = None
        self.restore()

    def cut(self):
        self._leave_open(CUT)
        with self.lock:
            listener, self.listener = self.listener, None
            pairs, self.pairs = self.pairs, set()
        if listener:
            # close() alone does not wake a thread that sleeps in accept(): the port would stay open
            try:
                listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            listener.close()
        for pair in pairs:
            for s in pair:
                _reset(s)

    def stall(self):
        if self.listener is None:
            self.restore()
        self._leave_open(STALLED)

    def restore(self):
        with self.lock:
            if self.since is not None:
                self.outage_seconds += time.monotonic() - self.since
                self.since = None
            self.state = OPEN
            self.lock.notify_all()
            if self.listener is None:
                self.listener = netns.listen(self.path, self.listen)
                threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    close = cut

    def _leave_open(self, state):
        with self.lock:
            if self.since is None:
                self.since = time.monotonic()
            self.state = state
            self.lock.notify_all()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        self._wait_while_stalled()
        try:
            server = netns.connect(self.path, self.target)
            server.settimeout(None)
        except OSError:
            _reset(client)
            return
        with self.lock:
            if self.state == CUT:
                _reset(client)
                _reset(server)
                return
            pair = (client, server)
            self.pairs.add(pair)
            self.connections += 1
        back = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
        back.start()
        self._pump(client, server, True)
        back.join()
        with self.lock:
            self.pairs.discard(pair)
        client.close()
        server.close()

    def _pump(self, source, sink, inbound):
        try:
            while True:
                data = source.recv(65536)
                self._wait_while_stalled()
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
                if inbound:
                    self.bytes_in += len(data)
        except OSError:
            for s in (source, sink):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _wait_while_stalled(self):
        with self.lock:
            self.lock.wait_for(lambda: self.state != STALLED)


def _reset(s):
    """Ends a connection with RST and wakes whoever waits in it."""
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # AF_UNSPEC connect would do it at once; shutdown wakes the pumps, whose close() then sends the RST
        s.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    s.close()
