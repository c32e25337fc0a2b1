#!/usr/bin/env python3
"""Credentials that change under a running program, on a real cluster started by the kit ($LEASEHOLD_KIT).

    python3 tests/cluster/rotation.py             # everything, in some eleven minutes
    python3 tests/cluster/rotation.py begin       # so that other tests can run while the token ages…
    python3 tests/cluster/rotation.py end         # …and the rest

1. The kubelet's projected token with the shortest life there is (ten minutes): it is renewed, and the term goes on.
2. The API server comes back with a new serving certificate of the same CA.
3. The CA is rotated: first every Pod's ca.crt gets both, then the API server's certificate is of the new one.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["LEASEHOLD_TEST_NAMESPACE"] = "leasehold-rotation"

import deploy  # noqa: E402  (reads the namespace)
from kube import Failure, check, get, kubectl, main, run, table, wait_until  # noqa: E402
from observe import LEASES, Watch, lease_watch, service_watch  # noqa: E402

STATE = Path(os.environ.get("KUBE_CLUSTER_DIR", "/var/tmp/kube-cluster"))
TOKEN_SECONDS = 600  # the least that the API server grants
NAMES = ("IP:127.0.0.1,IP:10.244.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,"
         "DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local")
MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
SHORT_TOKEN = [
    {"op": "replace", "path": "/spec/template/spec/automountServiceAccountToken", "value": False},
    {"op": "add", "path": "/spec/template/spec/volumes", "value": [{"name": "account", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}]},
    {"op": "add", "path": "/spec/template/spec/containers/0/volumeMounts",
     "value": [{"name": "account", "mountPath": MOUNT, "readOnly": True}]},
]


def begin():
    """Starts the program with short-lived tokens, and notes which term it is."""
    deploy.remove()
    deploy.deploy(replicas=2, patches=SHORT_TOKEN)
    lease, service = lease_watch(), service_watch()
    leader = deploy.settled(lease, service)
    kubectl("annotate", "namespace", "leasehold-rotation", f"test/began={time.time():.0f}", "test/term=" + str(deploy.fence()), "--overwrite")
    print(f"{leader} leads with a token of {TOKEN_SECONDS} s")


def account_file(pod, file):
    """A file of the service account as the container sees it."""
    return Path(f"/proc/{deploy.process(deploy.pods()[pod]['container'])}/root{MOUNT}/{file}").read_text()


def tokens():
    """Waits until the first token has expired; the term must be the same as at the beginning."""
    began = get("namespace", "leasehold-rotation", namespace="default")["metadata"]["annotations"]
    lease, service = lease_watch(), service_watch()
    leader = deploy.settled(lease, service)
    left = float(began["test/began"]) + TOKEN_SECONDS + 60 - time.time()
    while left > 0:  # not a verdict: the first token is worth nothing only after that
        print(f"  {left:.0f} s until the first token is past its life", flush=True)
        time.sleep(min(left, 60))
        left = float(began["test/began"]) + TOKEN_SECONDS + 60 - time.time()
    still_renewing(lease)
    check(str(deploy.fence()) == began["test/term"] and lease.now() == leader, "the token was renewed, and the term went on")
    deploy.no_restarts()
    return "token renewed by the kubelet", "the same"


def still_renewing(lease, renewals=3):
    """The holder writes the Lease: so many more changes of renewTime."""
    watch = Watch("renewal", LEASES, "leasehold", lambda item: (item["spec"].get("holderIdentity"), item["spec"].get("renewTime")))
    wait_until("renewals", lambda: len(watch.changes) > renewals and lease.now(), 90)
    watch.stop()


def sign(authority, key, certificate):
    """A new serving certificate for the API server, with a new key, by that CA."""
    pki = STATE / "pki"
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", pki / "apiserver.key"])
    request = run(["openssl", "req", "-new", "-key", pki / "apiserver.key", "-subj", "/CN=kube-apiserver"]).stdout
    with tempfile.NamedTemporaryFile("w", suffix=".ext") as extensions:
        extensions.write(f"keyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=clientAuth,serverAuth\nsubjectAltName={NAMES}\n")
        extensions.flush()
        run(["openssl", "x509", "-req", "-CA", authority, "-CAkey", key, "-set_serial", f"0x{os.urandom(8).hex()}",
             "-days", "30", "-extfile", extensions.name, "-out", certificate], stdin=request)


def restart(*components):
    """Kills components of the cluster, and lets the kit start them again. (An API server that is asked to end waits for its
    watches for a minute.)"""
    for component in components:
        pid = int((STATE / "pid" / component).read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        wait_until(f"{component} to end", lambda: not alive(pid), 60)
    kit = os.environ.get("LEASEHOLD_KIT")
    if not kit:
        raise Failure("LEASEHOLD_KIT is not set, and only the kit can start the API server again")
    subprocess.run([f"{kit}/cluster/up"], check=True, stdout=subprocess.DEVNULL, timeout=300)


def alive(pid):
    """Whether the process is there and no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def serving_certificate(authority="ca"):
    """The API server restarted with a new certificate."""
    lease, service = lease_watch(), service_watch()
    deploy.settled(lease, service)
    before = deploy.fence()
    pki = STATE / "pki"
    sign(pki / f"{authority}-only.crt" if authority != "ca" else pki / "ca.crt", pki / f"{authority}.key", pki / "apiserver.crt")
    restart("kube-apiserver")
    still_renewing(lease)
    deploy.settled(lease, service, seconds=120)
    check(lease.now() in deploy.pods(), f"the API server serves a new certificate, of the CA `{authority}`, and there is a leader")
    return "the same" if deploy.fence() == before else "another"


def trust(*authorities):
    """Makes the cluster's CA file these, and waits until every container sees it."""
    pki = STATE / "pki"
    bundle = "".join((pki / f"{name}-only.crt").read_text() for name in authorities)
    (pki / "ca.crt").write_text(bundle)
    for config in [STATE / "kubeconfig", *(STATE / "etc").glob("*.kubeconfig")]:
        run(["kubectl", "--kubeconfig", config, "config", "set-cluster", "kube-kit", "--embed-certs=true",
             f"--certificate-authority={pki / 'ca.crt'}"])
    restart("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
    wait_until("the containers to see the new CA file",
               lambda: all(account_file(pod, "ca.crt") == bundle for pod in deploy.pods()), 240, every=1)


def authority():
    """The CA rotated as a cluster's operator would."""
    pki = STATE / "pki"
    lease, service = lease_watch(), service_watch()
    deploy.settled(lease, service)
    before = deploy.fence()
    (pki / "ca-only.crt").write_text((pki / "ca.crt").read_text())
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", pki / "new.key"])
    run(["openssl", "req", "-x509", "-new", "-key", pki / "new.key", "-subj", "/CN=kube-kit-new-ca", "-days", "30",
         "-out", pki / "new-only.crt", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"])
    trust("ca", "new")
    check(True, "every container sees both CAs")
    serving_certificate("new")
    return "the same" if deploy.fence() == before else "another"


def end():
    """What follows once the tokens have aged."""
    rows = [tokens(),
            ("API server restarted, new serving certificate, same CA", serving_certificate()),
            ("CA rotated, API server's certificate of the new one", authority())]
    deploy.no_restarts()
    table("Credentials changed under the running program (15/10/2)", ["change", "term afterwards"], rows)
    deploy.remove()


def body():
    {"begin": begin, "end": end}.get("".join(sys.argv[1:]), lambda: (begin(), end()))()


if __name__ == "__main__":
    main(body)
