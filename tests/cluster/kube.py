"""kubectl as functions, and the few waits that every script here needs. Python's standard library only."""

import base64
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The manifests' own; another for a test that must not meet the others.
NAMESPACE = os.environ.get("LEASEHOLD_TEST_NAMESPACE", "leasehold")


class Failure(Exception):
    """Something that must hold does not."""


def check(holds, what):
    """Says what holds, or ends the script with it."""
    if not holds:
        raise Failure(what)
    print(f"ok: {what}", flush=True)


def run(arguments, *, stdin=None, fail=True, env=None, timeout=120):
    """Runs a program; its output is what it printed, its failure says what it was and what it said."""
    done = subprocess.run(
        [str(a) for a in arguments], input=stdin, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, **(env or {})},
    )
    if fail and done.returncode != 0:
        shown = " ".join(str(a) for a in arguments)
        raise Failure(f"`{shown}` ended with {done.returncode}: {done.stderr.strip()} {done.stdout.strip()[-2000:]}")
    return done


def kubectl(*arguments, stdin=None, namespace=NAMESPACE, fail=True):
    """kubectl's standard output; with fail=False its exit code and both outputs."""
    done = run(["kubectl", "-n", namespace, *arguments], stdin=stdin, fail=fail)
    return done.stdout if fail else done


def get(*arguments, namespace=NAMESPACE):
    """An object or a list of them; None where there is none."""
    done = run(["kubectl", "-n", namespace, "get", *arguments, "--ignore-not-found", "-o", "json"])
    return json.loads(done.stdout) if done.stdout.strip() else None


class Api:
    """The API server without kubectl in between, on one connection, as the kubeconfig's user: thousands of calls in seconds."""

    def __init__(self):
        config = json.loads(run(["kubectl", "config", "view", "--raw", "--minify", "-o", "json"]).stdout)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.address = urllib.parse.urlsplit(cluster["server"])
        self.tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            pair.flush()
            self.tls.load_cert_chain(pair.name)
        self.connection = self.connect()

    def connect(self):
        """A connection of its own, for a watch."""
        return http.client.HTTPSConnection(self.address.hostname, self.address.port, context=self.tls, timeout=30)

    def call(self, method, path, body=None):
        """Status and parsed body."""
        self.connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())


class Rules:
    """Packet filter rules on this node, for as long as a test wants them. The kit's `down` takes out what is left, by the comment."""

    COMMENT = ["-m", "comment", "--comment", "kube-kit leasehold-test"]

    def __init__(self, rules):
        self.rules = rules
        self.program = shutil.which("iptables", path=os.environ["PATH"] + ":/usr/sbin:/sbin")

    def __enter__(self):
        for chain, *rule in self.rules:
            run([self.program, "-w", "-I", chain, "1", *self.COMMENT, *rule])
        return self

    def __exit__(self, *_):
        for chain, *rule in self.rules:
            run([self.program, "-w", "-D", chain, *self.COMMENT, *rule], fail=False)


def wait_until(what, condition, seconds=60, every=0.1):
    """Asks until the answer is truthy, and returns it. The limit only ends a hang."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failure(f"waited {seconds} s in vain for {what}")
        time.sleep(every)


def main(body):
    """Runs a script's body; a Failure is one line on stderr and exit code 1."""
    try:
        body()
    except Failure as failure:
        print(f"FAIL: {failure}", file=sys.stderr, flush=True)
        sys.exit(1)


def table(title, head, rows):
    """Prints a Markdown table."""
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)
