#!/usr/bin/env python3
"""Hostile HTTP against the leader's Pod under its limit of 8 MiB: it goes on leading, is not killed, and answers its probes
again as soon as it is left alone.

    python3 tests/cluster/hostile.py [CASE…]

Each case is attack.py, started inside the Pod's network namespace against its loopback.
"""

import datetime
import http.client
import json
import sys
import time

import attack
import deploy
from kube import ROOT, check, main, run, table, wait_until
from observe import LEASES, Memory, Watch, lease_watch, service_watch

PORT = 8080


def healthy(ip):
    """Whether the probe of the kubelet would pass now."""
    try:
        connection = http.client.HTTPConnection(ip, PORT, timeout=1)
        connection.request("GET", "/healthz", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def renewals():
    """Each renewal of the Lease, as its holder wrote it."""
    return Watch("renewal", LEASES, "leasehold", lambda lease: lease["spec"].get("renewTime"))


def longest_gap(watch, start):
    """Between two renewals by the clock of the one who wrote them: what rivals wait for."""
    def moment(text):
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    times = [moment(c.value) for c in watch.changes if c.value]
    gaps = [(after - before).total_seconds() for before, after, change in zip(times, times[1:], watch.changes[1:]) if change.at >= start]
    return max(gaps, default=0.0)


def under_attack(case, leader, pod, pid):
    """One case; the row of the table."""
    watch, memory = renewals(), Memory(every=0.2)
    wait_until("the Lease to be watched", lambda: watch.changes)
    start = time.monotonic()
    done = run(["nsenter", "--net", "--target", pid, sys.executable, ROOT / "tests/cluster/attack.py", case, PORT], timeout=300)
    left = time.monotonic()
    wait_until(f"/healthz to answer after {case}", lambda: healthy(pod["ip"]), 30, every=0.02)
    recovery = time.monotonic() - left
    outcome = json.loads(done.stdout)
    wait_until("a renewal after it", lambda: watch.changes[-1].at > left, 30)
    watch.stop()
    memory.stop()
    peak = memory.peak.get(pod["container"], 0) / 1048576
    anonymous = memory.anonymous.get(pod["container"], 0) / 1048576
    now = deploy.pods()[leader]
    check(now["container"] == pod["container"] and now["restarts"] == pod["restarts"], f"{case}: neither killed nor restarted: {outcome}")
    return case, f"{longest_gap(watch, start):.2f}", f"{anonymous:.2f}", f"{peak:.2f}", f"{recovery:.2f}", json.dumps(outcome)[1:-1]


def body():
    cases = sys.argv[1:] or list(attack.CASES)
    deploy.deploy(replicas=2, timing=(10, 5, 1))
    lease, service = lease_watch(), service_watch()
    leader = deploy.settled(lease, service)
    pod = deploy.pods()[leader]
    pid, terms = deploy.process(pod["container"]), len(lease.changes)
    rows = [under_attack(case, leader, pod, pid) for case in cases]
    table("Hostile HTTP against the leader, limit 8 MiB; renewals are due every 2.5 s, rivals wait 10 s",
          ["case", "longest time between renewals, s", "anonymous memory, peak, MiB", "with page cache, peak, MiB",
           "probe answers again after, s", "what was sent and answered"], rows)
    check(len(lease.changes) == terms and lease.now() == leader, f"{leader} has led all the while")


if __name__ == "__main__":
    main(body)
