#!/usr/bin/env python3
"""The manifests on a real API server ($KUBECONFIG): rendered by an old kubectl and a new one, taken as they stand, and
the ServiceAccount may do exactly what SECURITY.md says: every verb on every resource is asked for.

    python3 tests/cluster/manifests.py [--kubectl NEW] [--old-kubectl OLD]
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

from kube import ROOT, Api, Failure, check, main, run, table

MANIFESTS = ROOT / "manifests"
USER = "system:serviceaccount:leasehold:leasehold"
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
# The kit's API server is Kubernetes 1.20; these kinds have since moved on, with the same fields.
OLDER_VERSIONS = {"policy/v1": "policy/v1beta1", "flowcontrol.apiserver.k8s.io/v1": "flowcontrol.apiserver.k8s.io/v1beta1"}

# What each variant of the manifests grants: resource, name (None: no name), verbs. Nothing else may be allowed.
ELECTION = [("leases.coordination.k8s.io", "leasehold", {"get", "update", "watch"})]
CREATE = [("leases.coordination.k8s.io", None, {"create"})]
EVENTS = [("events", None, {"create"})]
SERVICE = [("services", "leasehold", {"get", "patch", "watch"})]
PODS = [("pods", None, {"get", "patch"})]
STATEFUL_PODS = [("pods", "leasehold-0", {"get"}), ("pods", "leasehold-1", {"get"})]
VARIANTS = {
    (): ELECTION + CREATE + EVENTS + SERVICE + PODS,
    ("lease-precreated",): ELECTION + EVENTS + SERVICE + PODS,
    ("statefulset",): ELECTION + CREATE + EVENTS + SERVICE + STATEFUL_PODS,
    ("no-routing",): ELECTION + CREATE + EVENTS,
    ("lease-precreated", "statefulset"): ELECTION + EVENTS + SERVICE + STATEFUL_PODS,
    ("lease-precreated", "no-routing"): ELECTION + EVENTS,
    ("lease-precreated", "statefulset", "no-routing"): ELECTION + EVENTS,
    ("disruption-budget",): None,
    ("flowschema",): None,
    ("monitoring",): None,
    ("egress-any-port", "memory-16mi", "openshift"): None,
    ("admission-policy",): None,
}
# Kinds of the Prometheus operator, which the kit's API server does not have: their names, and any content.
OPERATOR_KINDS = {"podmonitors": "PodMonitor", "prometheusrules": "PrometheusRule"}


def options():
    """The two kubectls, and nothing else."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubectl", default="kubectl", help="one that knows components: 1.21 or later")
    parser.add_argument("--old-kubectl", help="the oldest that must render the base")
    parser.add_argument("--promtool", default="promtool", help="of Debian's package prometheus")
    return parser.parse_args()


def render(kubectl, folder):
    """What kustomize makes of a folder, as text; a warning is a failure."""
    done = run([kubectl, "kustomize", folder])
    if done.stderr.strip():
        raise Failure(f"{kubectl} kustomize {folder} warns: {done.stderr.strip()}")
    return done.stdout


def render_components(kubectl, components):
    """The base with these components, by an overlay as a user would write it."""
    lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "resources: [../../manifests/base]"]
    lines += ["components:"] + [f"- ../../manifests/components/{name}" for name in components] if components else []
    return render_overlay(kubectl, "\n".join(lines) + "\n")


def render_overlay(kubectl, kustomization):
    """What kustomize makes of this text in a folder below target/."""
    (ROOT / "target").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
        Path(folder, "kustomization.yaml").write_text(kustomization)
        return render(kubectl, folder)


def check_the_readmes_overlay(kubectl):
    """The overlay that manifests/README.md shows makes what it says."""
    shown = re.search(r"```yaml\n# kustomization.yaml\n(.*?)```", (MANIFESTS / "README.md").read_text(), re.S)
    rendered = render_overlay(kubectl, shown[1].replace("path/to/manifests", "../../manifests"))
    for line in ("namespace: shop", "image: registry.example.org/leasehold:0.1.0", 'LEASE_DURATION: "30"',
                 "terminationGracePeriodSeconds: 45"):
        check(line in rendered, f"manifests/README.md's overlay renders {line}")


def for_this_server(text):
    """The same objects in the API versions that the kit's server has."""
    for new, old in OLDER_VERSIONS.items():
        text = re.sub(rf"^apiVersion: {re.escape(new)}$", f"apiVersion: {old}", text, flags=re.M)
    return text


def apply(kubectl, text, *more):
    """Applies rendered text, strictly as `kubectl apply -k` would."""
    return run([kubectl, "apply", "--namespace=leasehold", *more, "-f", "-"], stdin=for_this_server(text))


def may(api, verb, resource, name, namespace):
    """Whether the program's ServiceAccount may; a SubjectAccessReview, as the API server itself would decide."""
    group = ""
    if "." in resource:
        resource, group = resource.split(".", 1)
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": USER, "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
                 "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": resource, "group": group,
                                        **({"name": name} if name else {})}},
    }
    status, answer = api.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    if status != 201:
        raise Failure(f"no SubjectAccessReview: {status} {answer}")
    return answer["status"]["allowed"]


def asked_for(grants):
    """Every question worth asking: each granted resource and some that are not, with its own name, another, and none."""
    resources = {"leases.coordination.k8s.io", "events", "services", "pods", "secrets", "configmaps", "endpoints",
                 "pods/exec", "pods/attach", "pods/portforward", "services/proxy", "serviceaccounts/token", "deployments.apps", "roles.rbac.authorization.k8s.io"}
    for resource in sorted(resources):
        names = {name for granted, name, _ in grants if granted == resource} | {None, "leasehold", "another"}
        for name in sorted(names, key=str):
            for verb in VERBS:
                yield verb, resource, name


def granted(grants, verb, resource, name):
    """Whether the list of grants covers the question: one without a name covers every name."""
    return any(resource == r and verb in verbs and n in (None, name) for r, n, verbs in grants)


def check_grants(api, components, grants):
    """Asks every question in the own namespace and in another, where everything must be refused."""
    questions = [(verb, resource, name, space) for verb, resource, name in asked_for(grants) for space in ("leasehold", "default")]

    def wrong():
        return [question for question in questions
                if may(api, *question) != (question[3] == "leasehold" and granted(grants, *question[:3]))]

    # The API server's authorizer hears of a changed Role a moment later.
    differing = wrong()
    for _ in range(20):
        if not differing:
            break
        time.sleep(0.2)
        differing = wrong()
    check(not differing, f"{label(components)}: the ServiceAccount may do what is listed and nothing else "
          f"({len(questions)} questions; differing: {differing or 'none'})")
    return len(questions)


def label(components):
    """A variant's name."""
    return " + ".join(components) or "manifests/"


def body():
    given = options()
    new = given.kubectl
    base = render(new, MANIFESTS)
    if given.old_kubectl:
        check(without_hash(render(given.old_kubectl, MANIFESTS)) == without_hash(base), "an old kubectl and a new one render the same")
        run([given.old_kubectl, "apply", "-k", MANIFESTS])
        check(True, "the old kubectl applies manifests/ as they stand")
    run([new, "apply", "-k", MANIFESTS])
    check(True, "kubectl applies manifests/ as they stand")

    selector = {"spec": {"selector": {"pod": "leasehold-x"}}}
    run([new, "-n", "leasehold", "patch", "service", "leasehold", "--type=merge", "-p", json.dumps(selector)])
    run([new, "apply", "-k", MANIFESTS])
    kept = run([new, "-n", "leasehold", "get", "service", "leasehold", "-o", "jsonpath={.spec.selector.pod}"]).stdout
    check(kept == "leasehold-x", "applying them again leaves the leader's selector alone")

    add_operator_kinds(new)
    check_alerts(new, given.promtool)
    api, rows = Api(), []
    knows_policies = "validatingadmissionpolicies" in run([new, "api-resources", "--api-group=admissionregistration.k8s.io"]).stdout
    for components, grants in VARIANTS.items():
        if "admission-policy" in components and not knows_policies:
            render_components(new, components)
            print(f"{label(components)}: rendered only, since this server is older than the policies; admission.py evaluates them")
            continue
        rendered = render_components(new, components)
        apply(new, rendered, "--dry-run=server")
        if grants is None:
            check(True, f"{label(components)}: taken by the API server")
            rows.append((label(components), "–"))
            continue
        role = json.loads(run([new, "create", "--dry-run=client", "-o", "json", "-f", "-"], stdin=only(rendered, "Role")).stdout)
        run([new, "apply", "-f", "-"], stdin=json.dumps(role))
        rows.append((label(components), check_grants(api, components, grants)))
    for folder in sorted(p.parent for p in MANIFESTS.glob("examples/*/kustomization.yaml")):
        apply(new, render(new, folder), "--dry-run=server")
        check(True, f"examples/{folder.name}: taken by the API server")
    check_the_readmes_overlay(new)
    table("Variants, and questions put to the API server about each", ["variant", "questions"], rows)


def add_operator_kinds(kubectl):
    """Makes the API server take the Prometheus operator's kinds."""
    for plural, kind in OPERATOR_KINDS.items():
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
                     "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}]}}
        run([kubectl, "apply", "-f", "-"], stdin=json.dumps(definition))
    for plural in OPERATOR_KINDS:
        run([kubectl, "wait", "--for=condition=Established", f"crd/{plural}.monitoring.coreos.com", "--timeout=60s"])
        run([kubectl, "get", plural, "--all-namespaces"])


def check_alerts(kubectl, promtool):
    """The alert rules fire when they should, by Prometheus' own judgement."""
    rule = run([kubectl, "create", "--dry-run=client", "-o", "json", "-f", MANIFESTS / "components/monitoring/prometheusrule.yaml"]).stdout
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "rules.yaml").write_text(json.dumps({"groups": json.loads(rule)["spec"]["groups"]}))
        Path(folder, "test.yaml").write_text((ROOT / "tests/cluster/alerts_test.yaml").read_text())
        run([promtool, "check", "rules", Path(folder, "rules.yaml")])
        run([promtool, "test", "rules", Path(folder, "test.yaml")])
    check(True, "the alert rules fire when they should, and not beside it (promtool)")


def without_hash(rendered):
    """The generated name ends in a hash that other versions of kustomize compute otherwise."""
    return re.sub(r"(leasehold-timing)-\w+", r"\1", rendered)


def only(rendered, kind):
    """The documents of one kind."""
    documents = [d for d in re.split(r"^---$", rendered, flags=re.M) if re.search(rf"^kind: {kind}$", d, flags=re.M)]
    return "---\n".join(documents)


if __name__ == "__main__":
    main(body)
