#!/usr/bin/env python3
"""The two demonstrations on a real cluster ($KUBECONFIG, the image loaded), under a client that asks 20 times a second.

(a) One Pod is elected: the Lease names it as HOLDER, the Service answers with its name.
(b) Three Pods at 10/5/1: the leader's Pod deleted; its process killed from the node; its network cut. Lease and Service follow.

    python3 tests/cluster/demonstrations.py
"""

import contextlib
import re
import time

import deploy
from kube import check, kubectl, main, table, wait_until
from observe import Change, Client, Memory, answered_by, errors, fence_watch, lease_watch, service_watch, timeline, without_answer

TIMING = (10, 5, 1)


def one_pod():
    """Demonstration (a)."""
    deploy.deploy(replicas=1)
    (pod,) = deploy.pods()
    lease, service, client = lease_watch(), service_watch(), Client(deploy.cluster_ip())
    deploy.settled(lease, service, client)
    shown = kubectl("get", "lease", "leasehold")
    print(shown)
    check(re.search(rf"^leasehold\s+{re.escape(pod)}\s", shown, flags=re.M), f"`kubectl get lease` shows {pod} as HOLDER")
    check(service.now() == pod, "the Service's selector names it")
    answers = client.stop()
    check(answers[-1].pod == pod, "the Service answers with its name")
    lease.stop()
    service.stop()


def delete(pod, name):
    """The leader's Pod deleted: SIGTERM, and the Deployment makes another."""
    kubectl("delete", "pod", name, "--wait=false")


def kill(pod, name):
    """Its process killed: the kubelet starts the container anew in the same Pod, which takes its own lease back."""
    deploy.kill(pod)


def cut(pod, name):
    """Its network cut until somebody else leads and answers."""
    return deploy.Cut(pod["ip"])


CASES = [
    ("leader's Pod deleted", delete, "another"),
    ("leader's process killed", kill, "any"),
    ("leader's network cut", cut, "another"),
]


def fail_over(what, act, successor):
    """One case of demonstration (b); the row of its table."""
    lease, service, fence, client = lease_watch(), service_watch(), fence_watch(), Client(deploy.cluster_ip())
    leader = deploy.settled(lease, service, client)
    time.sleep(1)  # a second of undisturbed answers, for the timeline
    token = fence.now()
    start = time.monotonic()
    # Whatever act returns is undone only once another leads.
    with act(deploy.pods()[leader], leader) or contextlib.nullcontext():
        wait_until("a new term", lambda: fence.now() != token, 60)
        new = deploy.settled(lease, service, client)
    time.sleep(1)
    answers = client.stop()
    timeline(f"{what} ({leader})", start, [Change(start, "test", what)], lease.changes, service.changes, fence.changes, answered_by(answers))
    check(successor == "any" or new != leader, f"{what}: {new} leads, the Service names it, and it answers")
    for watch in (lease, service, fence):
        watch.stop()
    deploy.ready(3)
    led = next(c.at - start for c in fence.changes if c.at > start)
    return what, "the same Pod" if new == leader else "another", f"{led:.2f}", f"{without_answer(answers):.2f}", f"{errors(answers)} of {len(answers)}"


def body():
    memory = Memory()
    deploy.remove()
    one_pod()
    deploy.deploy(replicas=3, timing=TIMING)
    rows = [fail_over(*case) for case in CASES]
    table("Three Pods at 10/5/1, the ClusterIP asked 20 times a second",
          ["case", "who leads then", "until the Service bears the new term, s", "longest time without an answer, s", "failed requests"], rows)
    memory.stop()
    table("Memory of the containers under a limit of 8 MiB", ["containers", "peak", "anonymous, peak", "killed for memory"], [memory.summary()])
    check(memory.summary()[3] == 0, "no container was killed for memory")


if __name__ == "__main__":
    main(body)
