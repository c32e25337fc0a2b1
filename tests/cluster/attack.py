#!/usr/bin/env python3
"""One kind of hostile HTTP against 127.0.0.1 in whatever network namespace this is started in; bounded in count and time.

    nsenter --net --target PID python3 attack.py CASE PORT

hostile.py starts it inside a Pod of the test's own cluster: the traffic never leaves that Pod's loopback. It prints one
line of JSON: what was sent and what came of it.
"""

import collections
import json
import random
import resource
import selectors
import socket
import sys
import threading
import time

HOST = "127.0.0.1"
REQUEST = b"GET /leader HTTP/1.1\r\nHost: leasehold\r\n\r\n"
MEGABYTE = 1_000_000


def connect(port, limit=5.0):
    """A connection, or None where the server (or its backlog) takes no more."""
    try:
        return socket.create_connection((HOST, port), timeout=limit)
    except OSError:
        return None


def closed(sock):
    """Whether the other side has ended it."""
    sock.setblocking(False)
    try:
        return sock.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def idle(port):
    """1,000 connections that say nothing, held for 20 s."""
    held = [connect(port, 1.0) for _ in range(1000)]
    time.sleep(20)
    left = [s for s in held if s and not closed(s)]
    return {"opened": sum(1 for s in held if s), "still open after 20 s": len(left)}


def slow(port):
    """200 connections that send a header one byte a second, for 30 s."""
    line = b"GET /leader HTTP/1.1\r\nX-Slow: " + b"a" * 100
    held = {s for s in (connect(port, 1.0) for _ in range(200)) if s}
    opened = len(held)
    for at in range(30):
        for sock in list(held):
            try:
                sock.settimeout(0.2)
                sock.sendall(line[at:at + 1])
            except OSError:
                held.discard(sock)
        time.sleep(1)
    return {"opened": opened, "still open after 30 s": sum(1 for s in held if not closed(s))}


def pour(port, head, megabytes):
    """Sends a head and then as many megabytes as are taken; how many were, and the answer's first line."""
    sock = connect(port)
    if not sock:
        return 0, "refused"
    taken = 0
    sock.settimeout(5)
    try:
        sock.sendall(head)
        for _ in range(megabytes):
            sock.sendall(b"a" * MEGABYTE)
            taken += 1
    except OSError:
        pass
    try:
        answer = sock.recv(4096).split(b"\r\n")[0].decode(errors="replace")
    except OSError as problem:
        answer = type(problem).__name__
    sock.close()
    return taken, answer


def several(count, act):
    """`count` times at once, each in a thread of its own."""
    outcomes, threads = [], []
    for _ in range(count):
        threads.append(threading.Thread(target=lambda: outcomes.append(act())))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return {"megabytes taken": sum(taken for taken, _ in outcomes),
            "answers": dict(collections.Counter(answer for _, answer in outcomes))}


def headers(port):
    """Eight times at once a header of 10 MB."""
    return several(8, lambda: pour(port, b"GET /leader HTTP/1.1\r\nHost: leasehold\r\nX-Large: ", 10))


def bodies(port):
    """Four times at once a body of 1 GB."""
    head = b"POST /leader HTTP/1.1\r\nHost: leasehold\r\nContent-Length: 1000000000\r\n\r\n"
    return several(4, lambda: pour(port, head, 1000))


def pipelining(port):
    """50 connections, 200 requests on each in one go, nothing read until all are sent. Each gets one answer."""
    held = [s for s in (connect(port) for _ in range(50)) if s]
    sent = 0
    for sock in held:
        try:
            sock.settimeout(5)
            sock.sendall(REQUEST * 200)
            sent += 200
        except OSError:
            continue
    answers = 0
    for sock in held:
        answers += read_all(sock)
    return {"sent": sent, "answers": answers}


def read_all(sock):
    """Counts answers until the server is done or 2 s pass in silence."""
    seen, tail = 0, b""
    sock.settimeout(2)
    try:
        while data := sock.recv(65536):
            seen += (tail + data).count(b"HTTP/1.1 ") - tail.count(b"HTTP/1.1 ")
            tail = data[-8:]
    except OSError:
        pass
    sock.close()
    return seen


def garbage(port):
    """500 connections that send random bytes, seeded."""
    draw, answers = random.Random(6), collections.Counter()
    for _ in range(500):
        sock = connect(port)
        if not sock:
            answers["refused"] += 1
            continue
        try:
            sock.settimeout(2)
            sock.sendall(draw.randbytes(draw.randrange(1, 5000)) + b"\r\n\r\n")
            answers[sock.recv(4096).split(b"\r\n")[0].decode(errors="replace")[:40] or "closed"] += 1
        except OSError as problem:
            answers[type(problem).__name__] += 1
        sock.close()
    return {"answers": dict(answers)}


def flood(port, per_second=10_000, seconds=60, connections=64):
    """Up to 10,000 requests a second for a minute, each on a connection of its own, 64 at a time."""
    selector, sent, answered = selectors.DefaultSelector(), 0, 0
    started = time.monotonic()
    end = started + seconds
    while time.monotonic() < end:
        while len(selector.get_map()) < connections and (time.monotonic() - started) * per_second > sent:
            sock = connect(port, 0.5)
            if not sock:
                break
            try:
                sock.sendall(REQUEST)
            except OSError:
                sock.close()
                continue
            sent += 1
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        for key, _ in selector.select(0.001):
            try:
                answered += key.fileobj.recv(65536).startswith(b"HTTP/1.1 ")
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()
    return {"sent": sent, "answered": answered, "a second": round(answered / (time.monotonic() - started))}


def unread(port):
    """5,000 connections that ask for the metrics and read nothing, held for 20 s."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (6000, 6000))
    held = []
    for _ in range(5000):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # The kernel makes it its smallest.
        sock.settimeout(5)
        try:
            sock.connect((HOST, port))
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        except OSError:
            continue
        held.append(sock)
    time.sleep(20)
    return {"asked": len(held), "still open after 20 s": sum(1 for sock in held if not ended(sock))}


def ended(sock):
    """Whether the other side has ended it, whatever it sent before."""
    sock.setblocking(False)
    try:
        while sock.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


CASES = {act.__name__: act for act in (idle, slow, headers, bodies, pipelining, garbage, flood, unread)}

if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]](int(sys.argv[2]))))
