"""One process that competes for the Lease, with its own proxy and its own service account's files.

IO: starts and signals processes, writes files.
"""

import os
import signal
import subprocess
import sys
import time

from cluster import LIBC, end_with_us, free_port

HERE = os.path.dirname(os.path.abspath(__file__))
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
END_LIMIT = 60
FAST = (("LEASE_DURATION", "3s"), ("RENEWAL_DEADLINE", "2s"), ("RETRY_PERIOD", "500ms"))
SLOW = (("LEASE_DURATION", "15"), ("RENEWAL_DEADLINE", "10"), ("RETRY_PERIOD", "2"))


def replace(path, text):
    """As the kubelet does: no reader sees half of it."""
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(text)
    os.replace(path + ".new", path)


class Candidate:
    def __init__(self, arena, name, lease="leasehold", timing=FAST, env=None, command=None, program=None):
        self.arena, self.name, self.program = arena, name, program or arena.program
        self.proxy = arena.network.proxy(("127.0.0.1", arena.cluster.port))
        self.folder = os.path.join(arena.folder, name)
        os.makedirs(self.folder, exist_ok=True)
        self.ca, self.token = os.path.join(self.folder, "ca.crt"), os.path.join(self.folder, "token")
        replace(self.ca, arena.cluster.ca_pem)
        replace(self.token, arena.token)
        replace(os.path.join(self.folder, "namespace"), arena.namespace)
        self.port = free_port()
        self.command = command or []
        self.env = {
            "PATH": "/usr/bin:/bin", "LEASE_NAME": lease, "LEASE_NAMESPACE": arena.namespace, "POD_NAME": name,
            "HOSTNAME": name, "PORT": str(self.port), "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.proxy.port), "SERVICE_ACCOUNT_DIR": self.folder, "DRAIN_TIMEOUT": "1",
            "RUST_LOG": "debug", **dict(timing), **(env or {})}
        self.log = os.path.join(arena.folder, name + ".log")
        self.process = None
        self.stopped = False

    def start(self):
        command = [self.program, *(["--", *self.command] if self.command else [])]
        # In a namespace of its own, a peer finds its files where every client looks for them.
        bound = None if self.program == self.arena.program else self.folder
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, env=self.env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, preexec_fn=lambda: prepare(bound))
        return self

    def signal(self, number):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def pause(self):
        self.signal(signal.SIGSTOP)
        self.stopped = True

    def go_on(self):
        self.stopped = False
        self.signal(signal.SIGCONT)

    def kill(self):
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait(END_LIMIT)
        self.stopped = False

    def terminate(self):
        """Its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(END_LIMIT)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def said(self, words):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return words in log.read()

    def wait_said(self, words, limit):
        """When it first did, or None."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self.said(words):
                return time.monotonic()
            time.sleep(0.01)
        return None


def worker(folder, *more):
    """A COMMAND that writes heartbeats into this folder."""
    return [sys.executable, "-I", "-S", os.path.join(HERE, "work.py"), folder, *more]


def prepare(bound):
    """In the child, before exec."""
    end_with_us()
    if bound:
        bind_account(bound)


def bind_account(folder):
    """In the child, before exec: a mount namespace in which this folder is the service account's."""
    if LIBC.unshare(CLONE_NEWNS) or LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        os._exit(120)
    # Nothing of the machine's own is touched: the mount is this process's alone.
    if LIBC.mount(b"none", b"/var/run/", b"tmpfs", 0, None) or (os.makedirs(ACCOUNT, exist_ok=True)):
        os._exit(121)
    if LIBC.mount(folder.encode(), ACCOUNT.encode(), None, MS_BIND, None):
        os._exit(122)
