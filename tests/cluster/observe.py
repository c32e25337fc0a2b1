"""Who leads, where the Service points, who answers: seen from outside, each by a thread of its own.

Nothing here asks the program what it thinks of itself, except that an answer bears the answering Pod's name.
"""

import collections
import glob
import http.client
import json
import socket
import threading
import time

from kube import NAMESPACE, Api, Rules

Change = collections.namedtuple("Change", "at what value")
Answer = collections.namedtuple("Answer", "sent done pod error")

LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"


class Watch(threading.Thread):
    """Follows one object, and records each change of what `read` sees in it, when it arrived."""

    def __init__(self, what, collection, name, read):
        super().__init__(daemon=True)
        self.what, self.collection, self.name, self.read = what, collection, name, read
        self.changes, self.ended = [], threading.Event()
        self.start()

    def run(self):
        while not self.ended.is_set():
            try:
                self.follow(Api())
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                self.ended.wait(0.1)  # the API server is away; that is part of some tests

    def follow(self, api):
        """One watch, from its list on until the server ends it."""
        selector = f"fieldSelector=metadata.name%3D{self.name}"
        status, listed = api.call("GET", f"{self.collection}?{selector}")
        if status != 200:
            self.ended.wait(0.1)
            return
        for item in listed["items"]:
            self.saw(item)
        version = listed["metadata"]["resourceVersion"]
        api.connection.request("GET", f"{self.collection}?watch=1&{selector}&resourceVersion={version}&timeoutSeconds=25")
        stream = api.connection.getresponse()
        while not self.ended.is_set():
            line = stream.readline()
            if not line:
                return
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            self.saw(event["object"] if event["type"] != "DELETED" else None)

    def saw(self, item):
        """Records what it shows now, if that is new."""
        value = self.read(item) if item else None
        if not self.changes or self.changes[-1].value != value:
            self.changes.append(Change(time.monotonic(), self.what, value))

    def now(self):
        """The last value seen."""
        return self.changes[-1].value if self.changes else None

    def stop(self):
        """Ends it, at the latest when the server ends the watch."""
        self.ended.set()


def lease_watch(name="leasehold"):
    """The Lease's holder; empty when released."""
    return Watch("lease", LEASES, name, lambda lease: lease.get("spec", {}).get("holderIdentity") or "")


def service_watch(name="leasehold"):
    """The Pod that the Service's selector names."""
    return Watch("service", SERVICES, name, lambda service: service["spec"].get("selector", {}).get("pod"))


def fence_watch(name="leasehold"):
    """The fence that the leader has put onto the Service: another one is another term."""
    return Watch("fence", SERVICES, name, lambda service: service["metadata"].get("annotations", {}).get("leasehold.dev/fence"))


class Client(threading.Thread):
    """Asks an address again and again, each time on a new connection and without waiting for earlier answers; records all."""

    def __init__(self, host, port=80, per_second=20, limit=3.0):
        super().__init__(daemon=True)
        self.host, self.port, self.interval, self.limit = host, port, 1 / per_second, limit
        self.answers, self.ended, self.asking = [], threading.Event(), []
        # Where kube-proxy has no rule for a moment, a request must not leave this machine by its default route.
        self.fence = Rules([["OUTPUT", "-d", host, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"]])
        self.fence.__enter__()
        self.start()

    def run(self):
        due = time.monotonic()
        while not self.ended.is_set():
            thread = threading.Thread(target=self.ask, daemon=True)
            thread.start()
            self.asking = [t for t in self.asking if t.is_alive()] + [thread]
            due += self.interval
            self.ended.wait(max(0.0, due - time.monotonic()))

    def ask(self):
        """One request; its outcome is the Pod that answered, or what went wrong."""
        sent, pod, error = time.monotonic(), None, None
        try:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=self.limit)
            connection.request("GET", "/", headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200:
                pod = json.loads(body)["hostname"]
            else:
                error = f"status {answer.status}"
            connection.close()
        except ConnectionRefusedError:
            error = "refused"
        except ConnectionResetError:
            error = "reset"
        except (TimeoutError, socket.timeout):
            error = "timed out"
        except (OSError, http.client.HTTPException, ValueError) as problem:
            error = type(problem).__name__
        self.answers.append(Answer(sent, time.monotonic(), pod, error))

    def stop(self):
        """Ends it once every request under way has its outcome; returns all, in the order in which they were sent."""
        self.ended.set()
        self.join()
        for thread in self.asking:
            thread.join()
        self.fence.__exit__()
        return sorted(self.answers)

    def latest(self):
        """The Pod that gave the answer to the request sent last of those answered."""
        answered = [a for a in self.answers if a.pod]
        return max(answered).pod if answered else None


def without_answer(answers):
    """The longest time, in seconds, in which no answer arrived; undisturbed that is the client's own interval."""
    arrived = sorted(a.done for a in answers if a.pod)
    edges = [min(a.sent for a in answers), *arrived, max(a.done for a in answers)]
    return max(after - before for before, after in zip(edges, edges[1:]))


def errors(answers):
    """Failed requests by kind, for a table."""
    kinds = collections.Counter(a.error for a in answers if a.error)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "0"


def answered_by(answers):
    """The Pods that answered, in order, as changes."""
    changes = []
    for answer in sorted(answers, key=lambda a: a.done):
        if answer.pod and (not changes or changes[-1].value != answer.pod):
            changes.append(Change(answer.done, "answers", answer.pod))
    return changes


def timeline(title, start, *lists):
    """Prints what happened, in order, in seconds since `start`."""
    print(f"\n{title}")
    for change in sorted((change for changes in lists for change in changes if change.at >= start), key=lambda c: c.at):
        print(f"  {change.at - start:8.3f} s  {change.what:<8} {change.value or '(nobody)'}")
    print(flush=True)


class Memory(threading.Thread):
    """The peak memory of every container of the Pods in the namespace, read from its cgroup for as long as it lives."""

    PLACES = ["/sys/fs/cgroup/memory/kubepods/*/pod{uid}/{container}", "/sys/fs/cgroup/memory/kubepods/pod{uid}/{container}",
              "/sys/fs/cgroup/kubepods/*/pod{uid}/{container}"]

    def __init__(self, every=0.5):
        super().__init__(daemon=True)
        self.every, self.ended = every, threading.Event()
        self.peak, self.anonymous, self.kills, self.folders = {}, {}, {}, {}
        self.start()

    def run(self):
        api = None
        while not self.ended.wait(self.every):
            try:
                api = api or Api()
                self.find(api.call("GET", f"/api/v1/namespaces/{NAMESPACE}/pods")[1].get("items", []))
            except (OSError, http.client.HTTPException, ValueError):
                api = None
            self.sample()

    def find(self, pods):
        """Where the kernel keeps the accounts of containers not seen before."""
        for pod in pods:
            for status in pod.get("status", {}).get("containerStatuses", []):
                container = status.get("containerID", "").rpartition("/")[2]
                if container and container not in self.folders:
                    found = [f for p in self.PLACES for f in glob.glob(p.format(uid=pod["metadata"]["uid"], container=container))]
                    if found:
                        self.folders[container] = found[0]

    def sample(self):
        """One look at each."""
        for container, folder in self.folders.items():
            try:
                self.peak[container] = max(self.peak.get(container, 0), read_first(folder, "memory.max_usage_in_bytes", "memory.peak"))
                stat = dict(line.split() for line in open(f"{folder}/memory.stat"))
                self.anonymous[container] = max(self.anonymous.get(container, 0), int(stat.get("total_rss") or stat.get("anon") or 0))
                for file in ("memory.oom_control", "memory.events"):
                    for line in try_lines(folder, file):
                        name, _, count = line.partition(" ")
                        if name == "oom_kill":
                            self.kills[container] = int(count)
            except OSError:
                continue  # it has ended; what was seen stays

    def stop(self):
        """A last look, and the end."""
        self.sample()
        self.ended.set()
        self.join()

    def summary(self):
        """For a table: containers, highest peak, highest anonymous memory, killed for memory."""
        mib = 1024 * 1024
        return (len(self.peak), f"{max(self.peak.values(), default=0) / mib:.2f} MiB",
                f"{max(self.anonymous.values(), default=0) / mib:.2f} MiB", sum(self.kills.values()))


def read_first(folder, *names):
    """The number in the first of these files that exists: cgroup v1 and v2 call it differently."""
    for name in names:
        for line in try_lines(folder, name):
            return int(line)
    return 0


def try_lines(folder, name):
    """A file's lines; none if there is no such file."""
    try:
        with open(f"{folder}/{name}") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []
