#!/usr/bin/env python3
"""A rolling restart, scaling 3 → 1 → 3 and an upgrade on a real cluster, under a client that asks the ClusterIP 20 times a second.

    python3 tests/cluster/rolling.py [--rounds N]

How many requests fail is counted by kind; what the program can avoid must be none. See docs/guide.md.
"""

import argparse
import os
import time
from pathlib import Path

import deploy
from kube import check, kubectl, main, run, table
from observe import Change, Client, answered_by, errors, lease_watch, service_watch, timeline, without_answer


def restart():
    """Every Pod replaced, one by one."""
    kubectl("rollout", "restart", "deployment/leasehold")
    deploy.ready(3)


def scale():
    """Down to one and up again."""
    kubectl("scale", "deployment/leasehold", "--replicas=1")
    deploy.ready(1)
    kubectl("scale", "deployment/leasehold", "--replicas=3")
    deploy.ready(3)


def upgrade():
    """From one image to the next, by its name; the image is the same one under another tag."""
    current = kubectl("get", "deployment", "leasehold", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    following = current.rpartition(":")[0] + (":upgraded" if not current.endswith(":upgraded") else ":0.1.0")
    socket = Path(os.environ.get("KUBE_CLUSTER_DIR", "/var/tmp/kube-cluster")) / "run/containerd.sock"
    name = "docker.io/library/{}"
    run(["ctr", "--address", socket, "--namespace", "k8s.io", "images", "tag", "--force", name.format(current), name.format(following)])
    kubectl("set", "image", "deployment/leasehold", f"leasehold={following}")
    deploy.ready(3)


ACTS = [("rollout restart", restart), ("scale 3, 1, 3", scale), ("upgrade to another image", upgrade)]


def under_client(what, act):
    """One act under the client; the row of the table."""
    lease, service, client = lease_watch(), service_watch(), Client(deploy.cluster_ip())
    deploy.settled(lease, service, client)
    time.sleep(1)
    start, seen = time.monotonic(), len(lease.changes)
    act()
    deploy.settled(lease, service, client)
    time.sleep(3)  # the Pods that are still on their way out are part of it
    answers = client.stop()
    timeline(what, start, [Change(start, "test", what)], lease.changes, service.changes, answered_by(answers),
             [Change(a.sent, "failed", a.error) for a in answers if a.error])
    lease.stop()
    service.stop()
    hand_overs = len([c for c in lease.changes[seen:] if c.value])
    failed = sum(1 for a in answers if a.error)
    return failed, (what, len(answers), hand_overs, errors(answers), f"{without_answer(answers):.2f}")


def body():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="how often each is done")
    rounds = parser.parse_args().rounds
    deploy.deploy(replicas=3, timing=(10, 5, 1))
    results = [under_client(what, act)
               for _ in range(rounds) for what, act in ACTS]
    table("Requests while Pods are replaced", ["act", "requests", "terms begun", "failed", "longest time without an answer, s"],
          [row for _, row in results])
    check(sum(failed for failed, _ in results) == 0, "no request failed")


if __name__ == "__main__":
    main(body)
