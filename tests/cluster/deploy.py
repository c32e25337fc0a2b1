"""Puts the program onto the cluster by its manifests, with as many replicas and such timings as a test wants."""

import json
import os
import signal
import tempfile
from pathlib import Path

from kube import NAMESPACE, ROOT, Failure, Rules, get, kubectl, run, wait_until

LABEL = "app.kubernetes.io/name=leasehold"


def deploy(replicas=2, timing=None, patches=()):
    """`kubectl apply -k` of manifests/, by an overlay where something differs; returns once all Pods are ready."""
    if replicas == 2 and not timing and not patches and NAMESPACE == "leasehold":
        run(["kubectl", "apply", "-k", ROOT / "manifests"])
    else:
        (ROOT / "target").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
            Path(folder, "kustomization.yaml").write_text(json.dumps(overlay(replicas, timing, patches)))
            run(["kubectl", "apply", "-k", folder])
    ready(replicas)


def overlay(replicas, timing, patches):
    """What a user would write to change the namespace, the replicas, the ConfigMap and parts of the Deployment."""
    lease, deadline, retry = timing or (15, 10, 2)
    literals = [f"LEASE_DURATION={lease}", f"RENEWAL_DEADLINE={deadline}", f"RETRY_PERIOD={retry}"]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": ["../../manifests/base"],
        "replicas": [{"name": "leasehold", "count": replicas}],
        "configMapGenerator": [{"name": "leasehold-timing", "behavior": "merge", "literals": literals}],
        "patches": [{"target": {"kind": "Deployment", "name": "leasehold"}, "patch": json.dumps(list(patches))}] if patches else [],
    }


def ready(replicas):
    """Waits until exactly so many Pods are there, all ready and of the newest template."""
    kubectl("rollout", "status", "deployment/leasehold", "--timeout=120s")
    wait_until(f"{replicas} Pods", lambda: len(pods()) == replicas and all(p["ready"] for p in pods().values()), 120)


def pods():
    """Name → what a test needs to know of a Pod that is not on its way out."""
    found = {}
    for pod in get("pods", "-l", LABEL)["items"]:
        if "deletionTimestamp" in pod["metadata"]:
            continue
        status = (pod["status"].get("containerStatuses") or [{}])[0]
        found[pod["metadata"]["name"]] = {
            "ip": pod["status"].get("podIP"), "uid": pod["metadata"]["uid"], "ready": status.get("ready", False),
            "container": status.get("containerID", "").rpartition("/")[2], "restarts": status.get("restartCount", 0),
        }
    return found


def process(container):
    """The pid, on this node, of a container's first process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if container in (folder / "cgroup").read_text():
                    found.append(int(folder.name))
            except OSError:
                continue
    if not found:
        raise Failure(f"no process of container {container} on this node")
    return min(found)


def kill(pod):
    """SIGKILL for a Pod's process, from the node."""
    os.kill(process(pod["container"]), signal.SIGKILL)


class Cut(Rules):
    """A Pod that hears nobody and is heard by nobody: neither the API server, nor the kubelet, nor other Pods."""

    def __init__(self, ip):
        super().__init__([[chain, direction, ip, "-j", "DROP"]
                          for chain, direction in (("INPUT", "-s"), ("OUTPUT", "-d"), ("FORWARD", "-s"), ("FORWARD", "-d"))])


def cluster_ip():
    """Where the Service answers."""
    return kubectl("get", "service", "leasehold", "-o", "jsonpath={.spec.clusterIP}")


def settled(lease, service, client=None, seconds=60):
    """Waits until the Lease's holder is a Pod, the Service names it, and (with a client) it is the one that answers."""
    def agree():
        holder = lease.now()
        if not holder or holder not in pods() or service.now() != holder:
            return None
        return holder if client is None or client.latest() == holder else None
    return wait_until("the Lease, the Service and the answers to agree", agree, seconds)


def no_restarts(but=0):
    """The number of restarts over all Pods; more than were meant is a failure."""
    restarts = sum(p["restarts"] for p in pods().values())
    if restarts > but:
        raise Failure(f"{restarts} restarts where {but} were meant: {kubectl('get', 'pods')}")
    return restarts


def remove():
    """Takes everything off the cluster again."""
    run(["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true", "--timeout=120s"], timeout=180)


def fence():
    """What the leader wrote onto the Service beside the selector: it bears the fencing token, so a new term has another."""
    annotations = get("service", "leasehold")["metadata"].get("annotations", {})
    return {key: value for key, value in annotations.items() if key.startswith("leasehold")}
