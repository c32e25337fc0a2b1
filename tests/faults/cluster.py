"""etcd and kube-apiserver of our own, and what a candidate needs of them: namespace, account, token, CA.

IO: starts both programs on free loopback ports with all their files in one temporary folder, and ends them.
They are never somebody else's: the faults stop them, restart them and change their CA.
"""

import base64
import contextlib
import ctypes
import functools
import glob
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
ISSUER = "https://kubernetes.default.svc.cluster.local"
START_LIMIT = 180
FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)
DAY = 86400


LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def end_with_us():
    """In a child, before exec: however this suite ends, nothing that it started goes on. It ends with the thread that started it."""
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class Missing(Exception):
    """Something that this suite needs is not on this machine; the text says what."""


def find_programs():
    """The folder with kube-apiserver, and etcd's path."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    kit = os.environ.get("KUBE_CLUSTER_DIR")
    folder = given or (kit and os.path.join(kit, "bin"))
    if not folder:
        raise Missing("set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver (as from setup-envtest), or "
                      "KUBE_CLUSTER_DIR to the folder of a cluster that the kit has started once")
    apiserver = os.path.join(folder, "kube-apiserver")
    if not os.access(apiserver, os.X_OK):
        raise Missing(f"there is no program {apiserver}")
    etcd = os.path.join(folder, "etcd")
    if not os.access(etcd, os.X_OK):
        etcd = shutil.which("etcd")
    if not etcd:
        raise Missing(f"there is no etcd, neither in {folder} nor in PATH (Debian: apt-get install etcd-server)")
    return apiserver, etcd


@functools.cache
def own_ports():
    """A thousand ports below the range from which the kernel takes a client's. Another run of this suite takes others: this
    one listens on the first for as long as it lives.
    """
    for first in range(20000, 30000, 1000):
        holder = socket.socket()
        with contextlib.suppress(OSError):
            holder.bind(("127.0.0.1", first))
            holder.listen()
            return holder, iter(range(first + 1, first + 1000))
        holder.close()
    raise Missing("ports between 20000 and 30000: ten other runs of this suite have them")


PORTS_LOCK = threading.Lock()


def free_port():
    """Never one twice: whoever has been given it may not listen yet, or not at the moment."""
    with PORTS_LOCK:
        _, ports = own_ports()
        for port in ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with contextlib.suppress(OSError):
                    probe.bind(("127.0.0.1", port))
                    return port
    raise Missing("another port between 20000 and 30000")


def openssl(*args, **more):
    result = subprocess.run(["openssl", *args], capture_output=True, check=False, **more)
    if result.returncode:
        raise RuntimeError(f"openssl {args[0]}: {result.stderr.decode(errors='replace')}")
    return result.stdout


def backdated():
    """An environment in which certificates begin a day ago: a candidate whose clock is behind must accept them."""
    env = dict(os.environ)
    if FAKETIME:
        env.update(LD_PRELOAD=FAKETIME, FAKETIME="-1d")
    return env


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.apiserver, self.etcd = find_programs()
        self.port, self.etcd_port, self.etcd_peer_port = free_port(), free_port(), free_port()
        self.processes = {}
        self.admin_token = base64.urlsafe_b64encode(os.urandom(24)).decode()
        self.local = threading.local()
        os.makedirs(folder, exist_ok=True)
        self.make_files()

    def file(self, name):
        return os.path.join(self.folder, name)

    # ------------------------------------------------------------------------------ certificates

    def make_files(self):
        openssl("genrsa", "-traditional", "-out", self.file("accounts.key"), "2048")
        openssl("rsa", "-in", self.file("accounts.key"), "-pubout", "-out", self.file("accounts.pub"))
        with open(self.file("tokens.csv"), "w", encoding="ascii") as tokens:
            tokens.write(f"{self.admin_token},admin,1,system:masters\n")
        self.new_ca()

    def new_ca(self):
        """A CA of the same name with another key, and a serving certificate by it."""
        ca, key, serving = self.file("ca.crt"), self.file("ca.key"), self.file("serving")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                "-out", ca, "-subj", "/CN=faults-ca", "-days", "30", env=backdated())
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", serving + ".key", "-out", serving + ".csr", "-subj", "/CN=kube-apiserver")
        with open(serving + ".ext", "w", encoding="ascii") as extensions:
            extensions.write("subjectAltName=IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", serving + ".csr", "-CA", ca, "-CAkey", key, "-days", "30", "-set_serial",
                "0x" + os.urandom(8).hex(), "-extfile", serving + ".ext", "-out", serving + ".crt", env=backdated())
        with open(ca, encoding="ascii") as pem:
            self.ca_pem = pem.read()

    def server_tls(self):
        """What speaks with this certificate is taken for the API server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file("serving.crt"), self.file("serving.key"))
        return context

    # --------------------------------------------------------------------------------- processes

    def spawn(self, name, *command):
        with open(self.file(name + ".log"), "ab") as log:
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                    start_new_session=True, preexec_fn=end_with_us)

    def start_etcd(self):
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        self.spawn("etcd", self.etcd, "--name", "faults", "--data-dir", self.file("etcd"), "--listen-client-urls", client,
                   "--advertise-client-urls", client, "--listen-peer-urls", peer, "--unsafe-no-fsync",
                   "--initial-advertise-peer-urls", peer, "--initial-cluster", f"faults={peer}", "--log-level", "error")

    def start_apiserver(self):
        self.spawn(
            "kube-apiserver", self.apiserver, "--bind-address", "127.0.0.1", "--secure-port", str(self.port),
            "--etcd-servers", f"http://127.0.0.1:{self.etcd_port}", "--cert-dir", self.folder,
            "--tls-cert-file", self.file("serving.crt"), "--tls-private-key-file", self.file("serving.key"),
            "--token-auth-file", self.file("tokens.csv"), "--service-account-issuer", ISSUER,
            "--service-account-key-file", self.file("accounts.pub"), "--api-audiences", ISSUER,
            "--service-account-signing-key-file", self.file("accounts.key"), "--authorization-mode", "RBAC",
            "--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none",
            "--disable-admission-plugins", "ServiceAccount")
        self.wait_ready()

    def wait_ready(self):
        limit = time.monotonic() + START_LIMIT
        while True:
            try:
                if self.call("GET", "/readyz")[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            ended = self.processes["kube-apiserver"].poll()
            if ended is not None or time.monotonic() > limit:
                raise RuntimeError(f"kube-apiserver does not get ready (exit {ended}): {self.file('kube-apiserver.log')}")
            time.sleep(0.1)

    def stop(self, name, how=signal.SIGKILL):
        process = self.processes.pop(name, None)
        if process and process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def up(self):
        self.start_etcd()
        while not self.etcd_serves():
            # Somebody has taken a port between our look and its start.
            self.etcd_port, self.etcd_peer_port = free_port(), free_port()
            self.start_etcd()
        self.start_apiserver()

    def etcd_serves(self):
        """False: it ended, because it could not have a port. Ends with an error if it does neither."""
        limit = time.monotonic() + START_LIMIT
        while time.monotonic() < limit:
            connection = http.client.HTTPConnection("127.0.0.1", self.etcd_port, timeout=5)
            try:
                connection.request("GET", "/version")
                if b"etcdserver" in connection.getresponse().read():
                    return True
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            if self.processes["etcd"].poll() is not None:
                with open(self.file("etcd.log"), encoding="utf-8", errors="replace") as log:
                    last = log.read().splitlines()[-1:]
                if not any("address already in use" in line for line in last):
                    raise RuntimeError(f"etcd has ended: {last}")
                return False
            time.sleep(0.05)
        raise RuntimeError(f"etcd does not serve: {self.file('etcd.log')}")

    def down(self):
        for name in ("kube-apiserver", "etcd"):
            self.stop(name)

    # ----------------------------------------------------------------------------------- its API

    def connect(self, limit=30):
        context = ssl.create_default_context(cadata=self.ca_pem)
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=limit)

    def call(self, method, path, body=None, kind="application/json"):
        """One call as administrator, straight to the API server: status and parsed body."""
        headers = {"Authorization": f"Bearer {self.admin_token}", "Content-Type": kind}
        data = None if body is None else json.dumps(body)
        connection = getattr(self.local, "connection", None)
        for fresh in (False, True):
            if connection is None or fresh:
                connection = self.local.connection = self.connect()
            try:
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                self.local.connection = None
                if fresh:
                    raise
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def must(self, method, path, body=None, kind="application/json"):
        status, answer = self.call(method, path, body, kind)
        if status not in (200, 201):
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def lease(self, namespace, name):
        status, lease = self.call("GET", LEASES.format(namespace) + "/" + name)
        return lease if status == 200 else None

    def edit_lease(self, namespace, name, change):
        """Reads, changes, writes with the resourceVersion read; once more where a renewal came between."""
        path = LEASES.format(namespace) + "/" + name
        while True:
            lease = self.must("GET", path)
            change(lease["spec"])
            status, answer = self.call("PUT", path, lease)
            if status == 200:
                return answer
            if status != 409:
                raise RuntimeError(f"PUT {path}: {status} {answer}")

    def make_namespace(self, namespace, leases):
        """With an account that may do what manifests/base/rbac.yaml allows, on these Leases."""
        self.must("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        account = self.must("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "leasehold"}})
        coordination = "coordination.k8s.io"
        rules = [
            {"apiGroups": [coordination], "resources": ["leases"], "resourceNames": leases,
             "verbs": ["get", "update", "watch"]},
            {"apiGroups": [coordination], "resources": ["leases"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
            # For the peers alone: kube-leader-election patches.
            {"apiGroups": [coordination], "resources": ["leases"], "resourceNames": ["peers"], "verbs": ["*"]},
        ]
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        self.must("POST", rbac + "/roles", {"metadata": {"name": "leasehold"}, "rules": rules})
        self.must("POST", rbac + "/rolebindings", {
            "metadata": {"name": "leasehold"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "leasehold"},
            "subjects": [{"kind": "ServiceAccount", "name": "leasehold", "namespace": namespace}]})
        return account["metadata"]["uid"]

    def token(self, namespace, seconds=3600):
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/leasehold/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}
        return self.must("POST", path, request)["status"]["token"]

    def short_token(self, namespace, uid, seconds):
        """TokenRequest gives none for less than ten minutes, so this one is signed here, with the API server's key."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": [ISSUER], "iat": now, "nbf": now, "exp": now + seconds,
                  "sub": f"system:serviceaccount:{namespace}:leasehold",
                  "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": "leasehold", "uid": uid}}}
        parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
        signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        signature = openssl("dgst", "-sha256", "-sign", self.file("accounts.key"), input=signed)
        return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
