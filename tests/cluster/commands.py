#!/usr/bin/env python3
"""The commands of README.md and docs/ that need a cluster with a kubelet ($KUBECONFIG, the image loaded), as they stand there.

`tests/it/docs/commands.rs` holds the documents to this list.

    python3 tests/cluster/commands.py
"""

import json
import subprocess
import urllib.error
import urllib.request

import deploy
from kube import NAMESPACE, check, get, main, run, wait_until


def shell(command):
    """What the command prints, in the namespace under test."""
    command = f"{command} ".replace("--namespace leasehold ", f"--namespace {NAMESPACE} ").rstrip()
    print(f"$ {command}", flush=True)
    printed = run(["sh", "-c", command]).stdout
    print(printed, end="", flush=True)
    return printed


def holder():
    """Whom the Lease names."""
    lease = get("lease", "leasehold")
    return lease["spec"].get("holderIdentity") if lease else None


def moves_on(before):
    """Waits until another Pod than that one holds the Lease; its name."""
    return wait_until("another holder", lambda: (now := holder()) in deploy.pods() and now != before and now, 60)


def look_and_yield():
    """In the Pod, where everything is configured."""
    first = wait_until("a holder", lambda: (now := holder()) in deploy.pods() and now, 60)
    shown = shell("kubectl get lease leasehold --namespace leasehold").split()
    check(first in shown, "the HOLDER column shows the leader")
    shown = shell("kubectl exec deploy/leasehold --namespace leasehold -- /leasehold status")
    check(f"leader        {first}" in shown and f"leasehold -> {first} (the leader)" in shown, "status shows leader and Service")
    shown = shell("kubectl exec deploy/leasehold --namespace leasehold -- /leasehold yield")
    check(f"asked {first} to hand over to anyone else" in shown, "yield names whom it asked")
    second = moves_on(first)
    check(f"{second} leads, after" in shown, "yield waits for the successor")
    shell("kubectl annotate lease leasehold --namespace leasehold leasehold.dev/yield-to=leasehold-1")
    moves_on(second)
    check(True, "the annotation makes the leader hand over")


def through_the_proxy():
    """`kubectl proxy` answers where the guide's KUBE_API_URL points."""
    proxy = subprocess.Popen(["sh", "-c", "exec kubectl proxy --port=8001"], stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:8001/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/leasehold"

        def answer():
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    return json.load(response)
            except urllib.error.URLError:
                return None

        lease = wait_until("the proxy", answer, 60)
        check(lease["spec"]["holderIdentity"] in deploy.pods(), "the Lease can be read through kubectl proxy")
    finally:
        proxy.terminate()
        proxy.wait()


def body():
    """All of them, in the documents' order."""
    deploy.deploy(replicas=2)
    look_and_yield()
    through_the_proxy()


if __name__ == "__main__":
    main(body)
