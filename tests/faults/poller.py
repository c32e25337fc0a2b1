"""Asks every process, as densely as it can, whether it leads; a process of its own, so that nothing here delays it.

IO: orders come as JSON lines on stdin, `{"add": NAME, "port": N}`, `{"remove": NAME}`, `{"every": SECONDS}`; the answers go to
stdout when stdin ends. Each answer is known to have been given in the interval [asked, answered]. `/leader` (which bears the
fencing token) and `/leading` take turns on one connection, and a run of equal answers is kept as its first and its last.
"""

import contextlib
import heapq
import itertools
import json
import os
import re
import selectors
import socket
import sys
import time

TOKEN = re.compile(rb'"isLeader":(true|false).*?"fencingToken":(?:"(\d+)"|null)')
SILENT = 0.3  # a process that was stopped, or is gone, is tried again this often


class Asked:
    """One process."""

    def __init__(self, name, port):
        self.name, self.port = name, port
        self.connection = None
        self.pending = None
        self.buffer = b""
        self.turn = 0
        self.runs = []
        self.asks = 0
        self.gone = False

    def note(self, asked, answered, leads, token):
        """`token` is None for an answer that bears none."""
        self.asks += 1
        last = self.runs[-1] if self.runs else None
        if last and last["leads"] and leads and token is None:
            # It may belong to another term than the answer before it. The next one will tell.
            last["count"] += 1
        elif last and last["leads"] == leads and (last["token"] == token or leads and last["token"] is None):
            last["token"] = token  # The first answer of a term may have borne none.
            last["last"] = [asked, answered]
            last["spacing"] = max(last["spacing"], asked - last["previous"])
            last["previous"] = asked
            last["count"] += 1
        else:
            self.runs.append({"leads": leads, "token": token, "first": [asked, answered], "last": [asked, answered],
                              "previous": asked, "spacing": 0.0, "count": 1})


class Poller:
    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.asked = {}
        self.past = []
        self.due = []
        self.order = itertools.count()
        self.every = 0.005
        self.input = b""
        os.set_blocking(0, False)
        self.selector.register(0, selectors.EVENT_READ, None)

    def run(self):
        while True:
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                self.ask(heapq.heappop(self.due)[2])
            wait = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
            for key, _ in self.selector.select(wait):
                if key.data is not None:
                    self.read(key.data)
                elif not self.orders():
                    return

    def orders(self):
        data = os.read(0, 1 << 16)
        if not data:
            return False
        *lines, self.input = (self.input + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "every" in order:
                self.every = order["every"]
            elif "add" in order:
                one = self.asked[order["add"]] = Asked(order["add"], order["port"])
                self.again(one, 0.0)
            else:
                self.forget(self.asked.pop(order["remove"]))
        return True

    def again(self, one, after):
        heapq.heappush(self.due, (time.monotonic() + after, next(self.order), one))

    def forget(self, one):
        one.gone = True
        self.drop(one)
        self.past.append(one)

    def drop(self, one):
        if one.connection is not None:
            self.selector.unregister(one.connection)
            one.connection.close()
            one.connection = None
        one.pending, one.buffer = None, b""

    def ask(self, one):
        if one.gone or one.pending is not None:
            return
        try:
            if one.connection is None:
                one.connection = socket.create_connection(("127.0.0.1", one.port), timeout=SILENT)
                one.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.connection.setblocking(False)
                self.selector.register(one.connection, selectors.EVENT_READ, one)
            one.turn += 1
            one.pending = ("/leader" if one.turn % 2 else "/leading", time.monotonic())
            one.connection.send(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % one.pending[0].encode())
        except OSError:
            if one.connection is not None:
                self.drop(one)
            one.pending = None
            self.again(one, 0.02)

    def read(self, one):
        try:
            data = one.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        answered = time.monotonic()
        if not data:
            self.drop(one)
            self.again(one, 0.02)
            return
        one.buffer += data
        head, separator, body = one.buffer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if not separator or len(body) < (int(length[1]) if length else 0):
            return
        self.answer(one, int(head[9:12]), head, body, answered)

    def answer(self, one, status, head, body, answered):
        path, asked = one.pending
        one.pending, one.buffer = None, b""
        if path == "/leading" and status in (200, 503):
            one.note(asked, answered, status == 200, None)
        elif path == "/leader" and (found := TOKEN.search(body)):
            one.note(asked, answered, found[1] == b"true", found[2].decode() if found[2] and found[1] == b"true" else None)
        if b"onnection: close" in head:
            self.drop(one)
        self.again(one, max(0.0, asked + self.every - time.monotonic()))

    def answers(self):
        for one in [*self.past, *self.asked.values()]:
            with contextlib.suppress(OSError):
                self.drop(one)
            yield {"name": one.name, "asks": one.asks, "runs": one.runs}


if __name__ == "__main__":
    poller = Poller()
    poller.run()
    json.dump(list(poller.answers()), sys.stdout)
