"""TCP proxies between the candidates and the API server, with faults on demand.

IO: one thread serves them all. TLS passes through, so what is done here is what a network can do: hold bytes back (they
arrive once it heals, as after TCP's own retransmission, a late write included), delay them, cut, refuse. And what only
something that has the API server's certificate can do: answer every request with an error.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections import deque

from cluster import free_port

TO_SERVER, TO_CLIENT = "to the server", "to the client"
STEP = 0.005


class Pipe:
    """One direction of one connection: bytes with the instant at which they may go on."""

    def __init__(self, direction, source, sink):
        self.direction, self.source, self.sink = direction, source, sink
        self.waiting = deque()
        self.ended = False


class Proxy:
    """One candidate's way to the API server. Its faults are set from any thread and take effect within milliseconds."""

    def __init__(self, network, upstream):
        self.network, self.upstream = network, upstream
        self.held = frozenset()
        self.delay = {TO_SERVER: 0.0, TO_CLIENT: 0.0}
        self.pairs = []
        self.forwarded_at = None
        self.errors = None
        self.listener = None
        self.port = free_port()
        self.listen()

    def listen(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        self.listener.setblocking(False)
        self.network.do(lambda: self.network.add(self.listener, self.accept))

    def hold(self, *directions):
        """Bytes in these directions arrive no more, until `heal`."""
        self.held = frozenset(directions)

    def slow(self, direction, seconds):
        """Bytes that come from now on in this direction arrive so much later."""
        self.delay[direction] = seconds

    def heal(self):
        self.held = frozenset()
        self.delay = {TO_SERVER: 0.0, TO_CLIENT: 0.0}

    def cut(self):
        """Every connection is reset."""
        self.network.do(lambda: [self.close(pair) for pair in list(self.pairs)])

    def refuse(self):
        """And there are no new ones."""
        def closing():
            self.network.remove(self.listener)
            self.listener.close()
            for pair in list(self.pairs):
                self.close(pair)
        self.network.do(closing)

    def answer_with(self, errors):
        """`errors`: a Replier that answers in the API server's place, or None for the API server itself."""
        before, self.errors = self.errors, errors
        if before:
            before.stop()
        self.cut()

    # ------------------------------------------------------------------- on the network's thread

    def accept(self):
        with contextlib.suppress(OSError):
            client, _ = self.listener.accept()
            if self.errors is not None:
                threading.Thread(target=self.errors.serve, args=(client,), daemon=True).start()
                return
            server = socket.socket()
            server.setblocking(False)
            server.connect_ex(self.upstream)
            client.setblocking(False)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (Pipe(TO_SERVER, client, server), Pipe(TO_CLIENT, server, client))
            self.pairs.append(pair)
            for pipe in pair:
                self.network.add(pipe.source, lambda pipe=pipe, pair=pair: self.read(pair, pipe))

    def read(self, pair, pipe):
        try:
            data = pipe.source.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        pipe.waiting.append((time.monotonic() + self.delay[pipe.direction], data))
        if not data:
            pipe.ended = True
            self.network.remove(pipe.source)
        self.pass_on(pair, pipe)

    def pass_on(self, pair, pipe):
        while pipe.waiting and pipe.direction not in self.held and pipe.waiting[0][0] <= time.monotonic():
            _, data = pipe.waiting[0]
            if not data:
                self.close(pair)
                return
            try:
                sent = pipe.sink.send(data)
            except BlockingIOError:
                return
            except OSError:
                self.close(pair)
                return
            if pipe.direction == TO_SERVER:
                self.forwarded_at = time.monotonic()
            if sent == len(data):
                pipe.waiting.popleft()
            else:
                pipe.waiting[0] = (0.0, data[sent:])

    def tick(self):
        for pair in list(self.pairs):
            for pipe in pair:
                if pipe.waiting and pair in self.pairs:
                    self.pass_on(pair, pipe)

    def close(self, pair):
        if pair not in self.pairs:
            return
        self.pairs.remove(pair)
        for pipe in pair:
            self.network.remove(pipe.source)
        for pipe in pair:
            with contextlib.suppress(OSError):
                pipe.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            pipe.source.close()


class Replier:
    """Answers every request with one status, as an API server in trouble or a balancer before it does."""

    def __init__(self, tls, status, retry_after=None):
        self.tls, self.status, self.retry_after = tls, status, retry_after
        self.answered = 0
        self.clients = []

    def stop(self):
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def serve(self, client):
        with contextlib.suppress(OSError, ValueError):
            client.settimeout(30)
            with self.tls.wrap_socket(client, server_side=True) as stream, stream.makefile("rwb") as file:
                self.clients.append(stream)
                while self.read_request(file):
                    body = b'{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d}' % self.status
                    retry = b"Retry-After: %d\r\n" % self.retry_after if self.retry_after is not None else b""
                    file.write(b"HTTP/1.1 %d Trouble\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
                               % (self.status, retry, len(body), body))
                    file.flush()
                    self.answered += 1

    @staticmethod
    def read_request(file):
        length = 0
        if not file.readline():
            return False
        while (line := file.readline().strip()):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        file.read(length)
        return True


class Network:
    """The thread that moves all the bytes."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.orders = deque()
        self.proxies = []
        self.wake, self.woken = socket.socketpair()
        self.woken.setblocking(False)
        self.add(self.woken, lambda: self.woken.recv(4096))
        threading.Thread(target=self.run, name="network", daemon=True).start()

    def proxy(self, upstream):
        proxy = Proxy(self, upstream)
        self.proxies.append(proxy)
        return proxy

    def do(self, order):
        self.orders.append(order)
        self.wake.send(b"x")

    def add(self, source, action):
        self.selector.register(source, selectors.EVENT_READ, action)

    def remove(self, source):
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(source)

    def run(self):
        while True:
            busy = any(pipe.waiting for proxy in self.proxies for pair in proxy.pairs for pipe in pair)
            for key, _ in self.selector.select(STEP if busy else None):
                # Closed by another of this round's events.
                if key.fileobj.fileno() >= 0:
                    key.data()
            while self.orders:
                self.orders.popleft()()
            for proxy in self.proxies:
                proxy.tick()
