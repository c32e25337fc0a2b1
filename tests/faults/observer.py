"""What is seen from outside, and what follows from it.

IO: runs the poller, watches the Lease on a connection of its own straight to the API server, reads the work's heartbeats.
The judgements at the end are PURE. All instants are of CLOCK_MONOTONIC, which every process on a machine shares.

An overlap is counted only where it is certain. An answer says that its process led at some instant of [asked, answered]. Two
answers with the same fencing token belong to one term, which is unbroken (that it is resumed after a "no" is itself an error),
so their process led at least from the end of the first to the beginning of the second.
"""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from cluster import LEASES, end_with_us

RECORD = ("holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions")

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclass(frozen=True)
class Seen:
    """One version of the Lease with another record than the one before, and when word of it came."""

    at: float
    kind: str
    holder: str
    duration: float
    record: tuple
    version: int


@dataclass(frozen=True)
class Led:
    """A process led at some instant of `first`, at some of `last`, and all the time between, in one term."""

    name: str
    first: tuple
    last: tuple
    token: str | None


class Observer:
    """Of one Lease (or of several counted as one) and of the processes that compete for it."""

    def __init__(self, cluster, namespace, leases, every=0.005):
        self.cluster, self.namespace = cluster, namespace
        self.seen = {lease: [] for lease in leases}
        self.over = False
        self.poller = subprocess.Popen([sys.executable, "-I", os.path.join(HERE, "poller.py")], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, start_new_session=True, preexec_fn=end_with_us)
        self.order(every=every)
        for lease in leases:
            threading.Thread(target=self.watch, args=(lease,), daemon=True).start()

    def order(self, **order):
        self.poller.stdin.write(json.dumps(order).encode() + b"\n")
        self.poller.stdin.flush()

    def add(self, name, port):
        self.order(add=name, port=port)

    def remove(self, name):
        self.order(remove=name)

    def answers(self):
        """Ends the asking."""
        self.over = True
        if self.poller.poll() is None:
            self.poller.stdin.close()
            self.text = self.poller.stdout.read()
            self.poller.wait()
        return json.loads(self.text)

    def close(self):
        self.over = True
        if self.poller.poll() is None:
            self.poller.kill()
            self.poller.wait()

    # -------------------------------------------------------------------------------- the watch

    def watch(self, lease):
        path, seen = f"{LEASES.format(self.namespace)}?watch=true&fieldSelector=metadata.name%3D{lease}", self.seen[lease]
        remembered = True
        while not self.over:
            # A watch goes on where the one before it ended, so that nothing is missed between them.
            start = f"&resourceVersion={seen[-1].version}" if seen and remembered else ""
            remembered = True
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                try:
                    self.one_watch(path + start, seen)
                except KeyError:
                    remembered = False  # An ERROR event is no Lease: the server has forgotten what came after that version.
            time.sleep(0.05)

    def one_watch(self, path, seen):
        connection = self.cluster.connect(limit=600)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.cluster.admin_token}"})
            answer = connection.getresponse()
            while not self.over and (line := answer.readline()):
                at = time.monotonic()
                event = json.loads(line)
                spec, metadata = event["object"].get("spec", {}), event["object"]["metadata"]
                one = Seen(at, event["type"], spec.get("holderIdentity") or "", spec.get("leaseDurationSeconds") or 0,
                           tuple(spec.get(field) for field in RECORD), int(metadata["resourceVersion"]))
                # A watch that begins anew first shows what is there; and a changed annotation is no sign of life (P5),
                # whether it is seen as it changes or by the next watch.
                changed = not seen or one.record != seen[-1].record or "DELETED" in (one.kind, seen[-1].kind)
                if changed and (not seen or seen[-1].version < one.version):
                    seen.append(one)
        finally:
            connection.close()


# ------------------------------------------------------------------------------------ judgements

def terms(answers):
    """Every run of answers "I lead"."""
    return [Led(one["name"], tuple(run["first"]), tuple(run["last"]), run["token"])
            for one in answers for run in one["runs"] if run["leads"]]


def sure(led):
    """The time in which it led for certain, if there is any."""
    begin, end = led.first[1], led.last[0]
    return (begin, end) if begin <= end else None


def overlap(one, other):
    """For how long two terms of different processes certainly overlapped; None: not that one knows."""
    found = None
    for a, b in ((one, other), (other, one)):
        span = sure(a)
        if span is None:
            continue
        # An answer whose whole interval lies in the other's certain time; its length may be nothing at all.
        if any(span[0] <= asked and answered <= span[1] for asked, answered in (b.first, b.last)):
            found = found or 0.0
        whole = sure(b)
        if whole and (common := min(span[1], whole[1]) - max(span[0], whole[0])) >= 0:
            found = max(found or 0.0, common)
    return found


def overlaps(led):
    """Every pair of terms that overlapped, with for how long."""
    found = []
    for index, one in enumerate(led):
        for other in led[index + 1:]:
            if one.name != other.name and (length := overlap(one, other)) is not None:
                found.append((one, other, length))
    return found


def resumed(answers):
    """Terms that were given up and then went on (P15)."""
    found = []
    for one in answers:
        tokens = [run["token"] for run in one["runs"] if run["leads"] and run["token"]]
        found += [(one["name"], token) for token in set(tokens) if tokens.count(token) > 1]
    return found


def falling_tokens(led):
    """Terms that began after another had ended, with a token that is not greater."""
    known = sorted((one for one in led if one.token), key=lambda one: one.first[1])
    found = []
    for index, one in enumerate(known):
        for other in known[index + 1:]:
            if other.first[0] >= one.last[1] and other.token != one.token and int(other.token) <= int(one.token):
                found.append((one, other))
    return found


def gaps(led, begin, end):
    """The times between `begin` and `end` in which nobody said that it leads, longest first."""
    marks = sorted((one.first[1], one.last[0]) for one in led)
    found, covered = [], begin
    for first, last in marks:
        if first > covered and first <= end:
            found.append(first - covered)
        covered = max(covered, last, first)
    if covered < end:
        found.append(end - covered)
    return sorted(found, reverse=True)


ALLOWANCE = 0.5  # Between when word of a write came to the rivals and when it came here.


def taken_early(seen, clocks_agree=True):
    """Changes from one holder straight to another sooner than the record's own duration after its last change.

    Each writes when it wrote, by one machine's wall clock, and a rival waits from a later instant than that: no slowness of
    this machine can feign a change that is early by what was written. Where the clocks disagree, only the watch's counts.
    """
    found = []
    for before, after in zip(seen, seen[1:]):
        if before.holder and after.holder and before.holder != after.holder and "DELETED" not in (before.kind, after.kind):
            early = after.at - before.at < before.duration - ALLOWANCE
            if early and (not clocks_agree or written_between(before, after) < before.duration):
                found.append((before, after))
    return found


def written_between(before, after):
    """Seconds between two writes by what they state; nothing where one of them does not say."""
    stated = [one.record[RECORD.index("renewTime")] for one in (before, after)]
    return (datetime.fromisoformat(stated[1]) - datetime.fromisoformat(stated[0])).total_seconds() if all(stated) else 0.0


# ------------------------------------------------------------------------------------------ work

def work(folder):
    """Each COMMAND's life: who ran it, its token, its first and its last heartbeat."""
    found = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as beats:
            data = beats.read()
        instants = [int.from_bytes(data[at:at + 8], "little") / 1e9 for at in range(0, len(data) - 7, 8)]
        if instants:
            identity, token, _ = name.split("+")
            found.append(Led(identity, (instants[0],) * 2, (instants[-1],) * 2, token))
    return found
