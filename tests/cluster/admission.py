#!/usr/bin/env python3
"""components/admission-policy, evaluated by CEL's C++ implementation: what the program sends (docs/api-calls.md, and what is added
here) is let through, and what a thief would send with the token of Pod `web-a` is not. Without any one validation, something of
the latter is.

    pip install cel-expr-python==0.1.3 PyYAML==6.0.3
    python3 tests/cluster/admission.py [--kubectl NEW] [--dump CASES.json]
"""

import argparse
import copy
import json
import re

import yaml
from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

from kube import ROOT, Failure, check, main, table
from manifests import render_components

ACCOUNT = "system:serviceaccount:{}:leasehold"
POD_NAME = "authentication.kubernetes.io/pod-name"
GIVEN = ["request", "object", "oldObject", "params"]


class Cel:
    """Expressions as the API server compiles them: objects are dynamic, a variable has the type of its expression."""

    def __init__(self):
        self.types = {name: cel.Type.DYN for name in GIVEN}
        self.compiled = {}

    def declare(self, name, expression):
        """A variable for the expressions to come."""
        self.types[f"variables_{name}"] = self.compile(expression).return_type()

    def compile(self, expression):
        """Checks types; raises where they are wrong."""
        if expression not in self.compiled:
            extensions = [ext_optional.ExtOptional(), ext_strings.ExtStrings()]
            env = cel.NewEnv(variables=self.types, extensions=extensions)
            self.compiled[expression] = env.compile(expression.replace("variables.", "variables_"))
        return self.compiled[expression]

    def evaluate(self, expression, data):
        """The value; raises where there is none."""
        value = self.compile(expression).eval(data=data)
        if value.type() == cel.Type.ERROR:
            raise ValueError(f"{expression}: {value.value()}")
        return value.plain_value()


class Policy:
    """One ValidatingAdmissionPolicy, and whether it lets a request through."""

    def __init__(self, manifest):
        self.name = manifest["metadata"]["name"]
        self.spec = manifest["spec"]
        self.cel = Cel()
        for variable in self.spec["variables"]:
            self.cel.declare(variable["name"], variable["expression"])

    def matches(self, case):
        """Whether it has a say at all."""
        for rule in self.spec["matchConstraints"]["resourceRules"]:
            if (case["resource"] in rule["resources"] and case["operation"] in rule["operations"]
                    and case["object"]["metadata"]["name"] in rule.get("resourceNames", [case["object"]["metadata"]["name"]])):
                return all(self.cel.evaluate(c["expression"], data(case, {})) for c in self.spec["matchConditions"])
        return False

    def refuses(self, case, without=None):
        """What it says against the request; `without` leaves one validation out."""
        if not self.matches(case):
            return []
        if "paramKind" in self.spec and case["params"] is None:
            return ["no parameter"]
        variables = {}
        for variable in self.spec["variables"]:
            try:
                variables[f"variables_{variable['name']}"] = self.cel.evaluate(variable["expression"], data(case, variables))
            except (ValueError, RuntimeError) as error:
                # As in the API server: only what uses it fails.
                print(f"   {self.name}: {variable['name']}: {error}")
        against = []
        for index, validation in enumerate(self.spec["validations"]):
            if index == without:
                continue
            try:
                if not self.cel.evaluate(validation["expression"], data(case, variables)):
                    against.append(self.message(validation, case, variables))
            except (ValueError, RuntimeError) as error:
                against.append(f"{self.name}: {error}")
        return against

    def message(self, validation, case, variables):
        """What the thief reads."""
        if "messageExpression" in validation:
            return self.cel.evaluate(validation["messageExpression"], data(case, variables))
        return validation["message"]


def data(case, variables):
    """What an expression may name."""
    extra = {POD_NAME: [case["pod"]]} if case["pod"] else {}
    request = {"namespace": case["namespace"], "operation": case["operation"], "userInfo": {"username": case["user"], "extra": extra}}
    return {"request": request, "object": case["object"], "oldObject": case["oldObject"], "params": case["params"], **variables}


def policies(kubectl, components):
    """The policies of a variant of the manifests, and its Role's rules."""
    objects = list(yaml.safe_load_all(render_components(kubectl, components)))
    found = [Policy(item) for item in objects if item["kind"] == "ValidatingAdmissionPolicy"]
    bound = [item["spec"]["policyName"] for item in objects if item["kind"] == "ValidatingAdmissionPolicyBinding"]
    check(sorted(bound) == sorted(policy.name for policy in found), f"{components}: every policy is bound")
    return found


# --- requests -----------------------------------------------------------------------------


def case(title, pod, new, old, *, lease=None, namespace="leasehold", user=None):
    """A write as the API server's admission sees it."""
    kind = new["kind"]
    return {"title": title, "pod": pod, "namespace": namespace, "user": user or ACCOUNT.format(namespace),
            "resource": kind.lower() + "s", "operation": "UPDATE" if old else "CREATE",
            "object": new, "oldObject": old, "params": lease}


def merged(target, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def changed(item, patch):
    """A copy with a merge patch applied."""
    return merged(copy.deepcopy(item), patch)


def transcripts():
    """Every write on docs/api-calls.md as a case, with the object that it replaces."""
    page = (ROOT / "docs/api-calls.md").read_text().replace('"name": "web"', '"name": "leasehold"').replace('"team-a"', '"leasehold"')
    exchanges = re.findall(r"\*\*([^\n]*)\*\*\n\n```http\n(\w+) (\S+)[^\n]*\n(.*?)```\n\n```http\n[^\n]*\n(.*?)```", page, re.S)
    seen = {}

    def note(item):
        if item.get("kind") in ("Lease", "Pod", "Service"):
            seen[item["kind"], item["metadata"]["resourceVersion"]] = item

    for _, _, _, _, answer in exchanges:
        if answer.strip().startswith('{\n'):
            note(json.loads(answer))
    cases = []
    for title, method, path, request, _ in exchanges:
        kind = {"leases": "Lease", "pods": "Pod", "services": "Service"}.get(re.search(r"/(\w+)(?:/[\w.-]+)?(?:\?|$)", path)[1])
        body = request[request.find("{"):]
        if method == "GET" or kind is None:
            continue
        sent = json.loads(body)
        version = sent["metadata"].get("resourceVersion")
        if kind == "Pod":
            old = next(item for (k, _), item in seen.items() if k == "Pod")
            cases.append(case(title, old["metadata"]["name"], changed(old, sent), old))
        elif kind == "Service":
            old = seen["Service", version]
            (pod,) = sent["spec"]["selector"].values()
            lease = seen["Lease", sent["metadata"]["annotations"]["leasehold.dev/fence"].split("/")[-1]]
            cases.append(case(title, pod, changed(old, sent), old, lease=lease))
        else:
            old = seen["Lease", version] if method == "PUT" else None
            notes = sent["metadata"].get("annotations", {})
            same = old is not None and sent["spec"] == old["spec"]
            pod = (notes.get("leasehold.dev/successor") or "web-a") if same else sent["spec"]["holderIdentity"] or old["spec"]["holderIdentity"]
            cases.append(case(title, pod, sent, old))
    check(len(cases) >= 9, f"{len(cases)} writes on docs/api-calls.md")
    return cases


UID, OTHER_UID = "63cbe1e4-5932-4dd7-844c-3cd7f43c661c", "00000000-5932-4dd7-844c-3cd7f43c661c"
GREAT = "1" + 38 * "0"
HELD = {
    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
    "metadata": {"name": "leasehold", "namespace": "leasehold", "uid": UID, "resourceVersion": "8109", "labels": {"team": "a"},
                 "annotations": {"leasehold.dev/incarnation": "x", "leasehold.dev/fencing-token": "8101", "note": "kept"}},
    "spec": {"holderIdentity": "web-b", "leaseDurationSeconds": 15, "leaseTransitions": 3,
             "acquireTime": "2026-11-22T15:04:05.000000Z", "renewTime": "2026-11-22T15:04:10.000000Z"},
}
RENEWED = "2026-11-22T15:04:15.000000Z"
OURS = changed(HELD, {"spec": {"holderIdentity": "web-a"}})
VACANT = changed(HELD, {"metadata": {"annotations": {"leasehold.dev/incarnation": None, "leasehold.dev/fencing-token": None}},
                        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})
POD = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "web-a", "namespace": "leasehold", "uid": OTHER_UID, "resourceVersion": "90", "labels": {"app": "web"},
                 "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": UID}]},
    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
}
SERVICE = {
    "apiVersion": "v1", "kind": "Service",
    "metadata": {"name": "leasehold", "namespace": "leasehold", "uid": OTHER_UID, "resourceVersion": "8105", "labels": {"app": "web"},
                 "annotations": {"leasehold.dev/fence": f"{UID}/8050", "note": "kept"}},
    "spec": {"clusterIP": "10.96.99.18", "ports": [{"port": 80, "targetPort": 80}], "selector": {"app": "web", "pod": "web-b"}},
}


def notes(**annotations):
    """A merge patch of leasehold's annotations."""
    return {"metadata": {"annotations": {f"leasehold.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}}}


def spec(**fields):
    """A merge patch of the spec."""
    return {"spec": fields}


def both(*patches):
    """Several merge patches in one; what one of them takes away stays taken away."""
    result = {}
    for patch in patches:
        for key, value in patch.items():
            result[key] = both(result[key], value) if isinstance(result.get(key), dict) and isinstance(value, dict) else value
    return result


TAKEN = both(spec(holderIdentity="web-a", leaseTransitions=4, renewTime=RENEWED, acquireTime=RENEWED, leaseDurationSeconds=15),
             notes(incarnation="y", fencing_token=None, successor=None))


def fence(uid, token):
    """A merge patch that points the Service at web-a."""
    return both(notes(fence=f"{uid}/{token}"), spec(selector={"pod": "web-a"}))


def lease_case(title, patch, old=None, pod="web-a", **more):
    """A write of the Lease."""
    return case(title, pod, changed(old or HELD, patch), old or HELD, **more)


def service_case(title, patch, old=None, lease=None, pod="web-a", **more):
    """A write of the Service, by default under a Lease that web-a holds."""
    return case(title, pod, changed(old or SERVICE, patch), old or SERVICE, lease=lease or OURS, **more)


def pod_case(title, patch, old=None, pod="web-a", **more):
    """A write of a Pod."""
    return case(title, pod, changed(old or POD, patch), old or POD, **more)


def with_fence(uid, token):
    """The Service with another fence on it."""
    return changed(SERVICE, notes(fence=f"{uid}/{token}"))


def allowed():
    """What a candidate or a leader may write, beside what is on docs/api-calls.md; and what is no business of the policies'."""
    new = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leasehold", "namespace": "leasehold"},
           "spec": {"holderIdentity": "web-a", "leaseDurationSeconds": 15, "leaseTransitions": 0}}
    bare = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {},
            "metadata": {"name": "leasehold", "namespace": "leasehold", "uid": UID, "resourceVersion": "7"}}
    unrouted = changed(SERVICE, both(notes(fence=None), spec(selector={"pod": None})))
    return [
        case("makes the Lease", "web-a", new, None),
        lease_case("acquires a Lease of components/lease-precreated", both(TAKEN, spec(leaseTransitions=1)), bare),
        lease_case("acquires a released Lease", TAKEN, VACANT),
        lease_case("acquires one that ran out, and was its successor", TAKEN, changed(HELD, notes(successor="web-a"))),
        lease_case("renews, and notes the token", both(spec(renewTime=RENEWED), notes(fencing_token="8109")), OURS),
        lease_case("renews, and keeps the successor", spec(renewTime=RENEWED), changed(OURS, notes(successor="web-c"))),
        lease_case("renews a Lease with another program's fields", spec(renewTime=RENEWED), changed(OURS, spec(preferredHolder="x"))),
        lease_case("takes back its own", both(spec(renewTime=RENEWED, acquireTime=RENEWED), notes(incarnation="z", fencing_token=None)), OURS),
        lease_case("releases", both(spec(holderIdentity="", leaseDurationSeconds=1), notes(incarnation=None, fencing_token=None)), OURS),
        lease_case("releases for another", both(spec(holderIdentity="", leaseDurationSeconds=1),
                                                notes(incarnation=None, fencing_token=None, yield_to=None, yielded_to="web-c")),
                   changed(OURS, notes(yield_to="web-c"))),
        lease_case("names itself the successor", notes(successor="web-a", successor_revision="r2")),
        lease_case("names itself in a lesser one's place", notes(successor="web-a"), changed(HELD, notes(successor="web-c"))),
        lease_case("names itself, without a revision", notes(successor="web-a", successor_revision=None),
                   changed(HELD, notes(successor="web-c", successor_revision="r1"))),
        lease_case("names itself where no transitions were counted", both(notes(successor="web-a"), spec(leaseTransitions=0)),
                   changed(HELD, spec(leaseTransitions=None))),
        lease_case("names itself under another program's long lease", notes(successor="web-a"), changed(HELD, spec(leaseDurationSeconds=3600))),
        lease_case("takes its name back", notes(successor=None, successor_revision=None),
                   changed(HELD, notes(successor="web-a", successor_revision="r2"))),
        lease_case("acquires with its revision, and removes the successor", both(TAKEN, notes(holder_revision="r2", successor_revision=None)),
                   changed(HELD, notes(successor="web-c", successor_revision="r1", holder_revision="r1"))),
        lease_case("asks for a yield", notes(yield_to="")),
        service_case("routes", fence(UID, 8101)),
        service_case("routes with the fence that is there: the selector was changed", fence(UID, 8050)),
        service_case("routes for the first time", fence(UID, 8101), unrouted),
        service_case("routes over text that is no fence", fence(UID, 8101), changed(SERVICE, notes(fence="2026-11-22T15:04:05Z/x/9999"))),
        service_case("routes over an older Lease's fence", fence(UID, 8101), with_fence(OTHER_UID, 8100)),
        service_case("routes over a void fence of another history", fence(UID, 8101), with_fence(OTHER_UID, GREAT)),
        service_case("routes over a void fence of the same length", fence(UID, 8101), with_fence(OTHER_UID, 8106)),
        service_case("routes over a void fence of the same Lease, from before a restored backup", fence(UID, 8101), with_fence(UID, 8106)),
        service_case("routes with a token of 128 bits", fence(UID, GREAT), with_fence(UID, 9 * 10**37),
                     lease=changed(OURS, {"metadata": {"resourceVersion": GREAT}})),
        pod_case("labels itself", {"metadata": {"labels": {"pod": "web-a"}}}),
        pod_case("labels itself once more", {"metadata": {"labels": {"pod": "web-a"}}}, changed(POD, {"metadata": {"labels": {"pod": "old"}}})),
        lease_case("an administrator clears the holder", spec(holderIdentity=""), user="admin", pod=""),
        service_case("an administrator changes the ports", spec(ports=[{"port": 81}]), user="admin", pod=""),
        pod_case("the scheduler changes a Pod", spec(nodeName="n"), user="system:kube-scheduler", pod=""),
        service_case("a Service that the Role does not name", spec(ports=[]), changed(SERVICE, {"metadata": {"name": "shop"}})),
    ]


def refused():
    """What the thief of web-a's token sends."""
    new = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leasehold", "namespace": "leasehold"},
           "spec": {"holderIdentity": "web-a", "leaseDurationSeconds": 15, "leaseTransitions": 0}}
    label = {"metadata": {"labels": {"pod": "web-a"}}}
    far = 2**31 - 1
    return [
        # The Lease.
        lease_case("makes a stranger the holder", spec(holderIdentity="thief")),
        lease_case("makes another Pod the holder", spec(holderIdentity="web-c")),
        lease_case("erases the leader", spec(holderIdentity="")),
        lease_case("erases the leader by leaving the field out", spec(holderIdentity=None)),
        lease_case("empties the spec", {"spec": None}),
        lease_case("renews for the leader", spec(renewTime=RENEWED)),
        lease_case("lets the leader's lease run out sooner", spec(leaseDurationSeconds=1)),
        lease_case("holds it for 68 years", both(TAKEN, spec(leaseDurationSeconds=far))),
        lease_case("leaves no room for transitions", both(TAKEN, spec(leaseTransitions=far))),
        lease_case("turns transitions back", both(TAKEN, spec(leaseTransitions=0))),
        lease_case("hands it to coordinated election", both(TAKEN, spec(strategy="OldestEmulationVersion"))),
        lease_case("takes another program's field away", both(TAKEN, spec(preferredHolder=None)), changed(HELD, spec(preferredHolder="x"))),
        lease_case("sets a finalizer", both(TAKEN, {"metadata": {"finalizers": ["x/y"]}})),
        lease_case("sets a finalizer, as a candidate", {"metadata": {"finalizers": ["x/y"]}}),
        lease_case("lets the garbage collector delete it", {"metadata": {"ownerReferences": [{"kind": "Pod", "name": "web-a", "uid": UID}]}}),
        lease_case("changes a label", {"metadata": {"labels": {"team": "b"}}}),
        lease_case("adds an annotation", {"metadata": {"annotations": {"meta.helm.sh/release-name": "x"}}}),
        lease_case("changes another program's annotation as the holder", both(TAKEN, {"metadata": {"annotations": {"note": "x"}}})),
        lease_case("takes another program's annotation away", {"metadata": {"annotations": {"note": None}}}),
        lease_case("changes the leader's incarnation", notes(incarnation="y")),
        lease_case("takes the leader's incarnation away", notes(incarnation=None)),
        lease_case("says for whom the leader made room", notes(yielded_to="web-a"), VACANT),
        lease_case("notes a token for the leader", notes(fencing_token="8105")),
        lease_case("notes a token from the future", both(TAKEN, notes(fencing_token="8110"))),
        lease_case("notes a token of more digits", both(TAKEN, notes(fencing_token=GREAT))),
        lease_case("notes a token that is no number", both(TAKEN, notes(fencing_token="81o1"))),
        lease_case("names another the successor", notes(successor="web-c")),
        lease_case("names a stranger the successor as the holder", both(TAKEN, notes(successor="thief"))),
        lease_case("takes another's name away", notes(successor=None), changed(HELD, notes(successor="web-c"))),
        lease_case("gives another successor's revision", notes(successor_revision="r2"), changed(HELD, notes(successor="web-c"))),
        lease_case("gives a revision for another successor as the holder", both(TAKEN, notes(successor="web-c", successor_revision="r2")),
                   changed(HELD, notes(successor="web-c"))),
        lease_case("takes another successor's revision away", notes(successor_revision=None),
                   changed(HELD, notes(successor="web-c", successor_revision="r1"))),
        lease_case("changes the holder's revision", notes(holder_revision="r9"), changed(HELD, notes(holder_revision="r1"))),
        lease_case("asks for a yield without a Pod", notes(yield_to=""), pod=""),
        lease_case("vacates a vacant Lease for longer", spec(leaseDurationSeconds=600), VACANT),
        case("makes another program's Lease", "web-a", changed(new, {"metadata": {"name": "kube-scheduler"}}), None),
        case("makes the Lease with another holder", "web-a", changed(new, spec(holderIdentity="thief")), None),
        case("makes the Lease vacant, with a long duration", "web-a", changed(new, spec(holderIdentity="", leaseDurationSeconds=500)), None),
        case("makes the Lease for coordinated election", "web-a", changed(new, spec(strategy="OldestEmulationVersion")), None),
        case("makes the Lease with a token", "web-a", changed(new, notes(fencing_token="5")), None),
        case("makes the Lease with a finalizer", "web-a", changed(new, {"metadata": {"finalizers": ["x/y"]}}), None),
        case("makes the Lease at the last transition", "web-a", changed(new, spec(leaseTransitions=far)), None),
        # The Service.
        service_case("points the Service at itself while another leads", fence(UID, 8101), lease=HELD),
        service_case("points the Service at itself while there is no Lease", fence(UID, 8101)) | {"params": None},
        service_case("points the Service at another", both(fence(UID, 8101), spec(selector={"pod": "web-c"}))),
        service_case("points the Service at every Pod", both(notes(fence=f"{UID}/8101"), spec(selector={"pod": None}))),
        service_case("adds a key to the selector", both(fence(UID, 8101), spec(selector={"nobody": "x"}))),
        service_case("takes a key from the selector", both(fence(UID, 8101), spec(selector={"app": None}))),
        service_case("changes a key of the selector", both(fence(UID, 8101), spec(selector={"app": "shop"}))),
        service_case("turns the fence back", fence(UID, 8049)),
        service_case("turns the fence back by a digit", fence(UID, 999)),
        service_case("turns another Lease's fence back", fence(UID, 8101), with_fence(OTHER_UID, 8104)),
        service_case("fences the Service off with a great token", fence(UID, GREAT)),
        service_case("fences it off with the next token", fence(UID, 8110)),
        service_case("fences it off for another Lease", fence(OTHER_UID, 8101)),
        service_case("turns another Lease's fence back under that Lease's name", fence(OTHER_UID, 8101)),
        service_case("takes the fence away", both(notes(fence=None), spec(selector={"pod": "web-a"}))),
        service_case("writes a fence that is none", both(fence(UID, 8101), notes(fence="x"))),
        service_case("writes a fence of the old form", both(fence(UID, 8101), notes(fence=f"2026-11-22T15:04:05Z/{UID}/8101"))),
        service_case("changes the ports", both(fence(UID, 8101), spec(ports=[{"port": 80, "targetPort": 22}]))),
        service_case("draws other addresses here", both(fence(UID, 8101), spec(externalIPs=["192.0.2.1"]))),
        service_case("makes it an ExternalName", both(fence(UID, 8101), spec(type="ExternalName", externalName="thief.example"))),
        service_case("takes a field away", both(fence(UID, 8101), spec(clusterIP=None))),
        service_case("changes a label of the Service", both(fence(UID, 8101), {"metadata": {"labels": {"app": "shop"}}})),
        service_case("adds an annotation for a load balancer", both(fence(UID, 8101), {"metadata": {"annotations": {"lb/internal": "false"}}})),
        service_case("takes an annotation of the Service away", both(fence(UID, 8101), {"metadata": {"annotations": {"note": None}}})),
        service_case("sets a finalizer on the Service", both(fence(UID, 8101), {"metadata": {"finalizers": ["x/y"]}})),
        service_case("gives the Service an owner", both(fence(UID, 8101), {"metadata": {"ownerReferences": [{"uid": UID}]}})),
        service_case("routes without a Pod", both(fence(UID, 8101), spec(selector={"pod": ""})), pod="", lease=VACANT),
        # Pods.
        pod_case("labels another Pod", {"metadata": {"labels": {"pod": "web-b"}}}, changed(POD, {"metadata": {"name": "web-b"}})),
        pod_case("labels another Pod with its own name", label, changed(POD, {"metadata": {"name": "web-b"}})),
        pod_case("bears another's name", {"metadata": {"labels": {"pod": "web-b"}}}),
        pod_case("joins another Service", {"metadata": {"labels": {"app": "shop"}}}),
        pod_case("adds a label", {"metadata": {"labels": {"pod": "web-a", "shop": "x"}}}),
        pod_case("leaves its controller", {"metadata": {"labels": {"app": None}}}),
        pod_case("replaces its image", spec(containers=[{"name": "web", "image": "thief:1"}])),
        pod_case("replaces another Pod's image", spec(containers=[{"name": "web", "image": "thief:1"}]), changed(POD, {"metadata": {"name": "web-b"}})),
        pod_case("annotates itself", {"metadata": {"annotations": {"x": "y"}}}),
        pod_case("sets a finalizer on itself", {"metadata": {"finalizers": ["x/y"]}}),
        pod_case("leaves its owner", {"metadata": {"ownerReferences": None}}),
        pod_case("labels a Pod without a name", {"metadata": {"labels": {"pod": ""}}}, changed(POD, {"metadata": {"name": ""}}), pod=""),
    ]


def verdicts(given, cases, without=(None, None)):
    """The cases' titles, each with what is said against it."""
    result = {}
    for item in cases:
        against = [m for policy in given for m in policy.refuses(item, without[1] if policy.name == without[0] else None)]
        if item["title"] in result:
            raise Failure(f"two cases are called {item['title']}")
        result[item["title"]] = against
    return result


def body():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubectl", default="kubectl", help="one that knows components: 1.21 or later")
    parser.add_argument("--dump", help="a file for the cases, for another judge of CEL")
    options = parser.parse_args()
    given = policies(options.kubectl, ["admission-policy"])

    page, more, thefts = transcripts(), allowed(), refused()
    if options.dump:
        with open(options.dump, "w") as file:
            json.dump([item | {"allowed": item in page + more} for item in page + more + thefts], file)
    for title, cases in [("docs/api-calls.md", page), ("what candidates and others write", more)]:
        wrong = {name: against for name, against in verdicts(given, cases).items() if against}
        check(not wrong, f"{title}: {len(cases)} writes are let through{': not ' + str(wrong) if wrong else ''}")
    said = verdicts(given, thefts)
    passed = [title for title, against in said.items() if not against]
    check(not passed, f"{len(thefts)} attempts of a thief are refused{': not ' + str(passed) if passed else ''}")

    idle = []
    for policy in given:
        for index, validation in enumerate(policy.spec["validations"]):
            if all(verdicts(given, thefts, without=(policy.name, index)).values()):
                idle.append(f"{policy.name} {index}: {validation.get('message') or validation['messageExpression']}")
    check(not idle, f"without any one validation, an attempt is let through{': not without ' + str(idle) if idle else ''}")

    check_statefulset(options.kubectl)
    table("What the API server answers", ["attempt", "answer"], [(title, against[0]) for title, against in said.items()])


def check_statefulset(kubectl):
    """With components/statefulset the route label is the one that its Pods bear from the start."""
    given = policies(kubectl, ["admission-policy", "statefulset"])
    key = "statefulset.kubernetes.io/pod-name"
    by_name = service_case("routes a StatefulSet", both(fence(UID, 8101), spec(selector={key: "web-a", "pod": "web-b"})))
    check(not any(verdicts(given, [by_name]).values()), "statefulset: routed by the Pods' own label")
    check(all(verdicts(given, [service_case("routes", fence(UID, 8101))]).values()), "statefulset: no other label will do")


if __name__ == "__main__":
    main(body)
