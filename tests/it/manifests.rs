//! The manifests as text: what needs no kubectl to be known. `tests/cluster/manifests.py` asks the rest of a real API server.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leasehold::program::config::{self, Config, Invocation};
use serde_json::{Value, json};

use crate::rules::RULES;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The documents of one YAML file.
pub(crate) fn documents(path: impl AsRef<Path>) -> Vec<Value> {
    use serde::Deserialize;
    let path = path.as_ref();
    serde_yaml_ng::Deserializer::from_str(&text(path))
        .map(|document| Value::deserialize(document).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .collect()
}

/// What overlays build on.
fn base() -> Value {
    documents("manifests/base/kustomization.yaml").remove(0)
}

/// The one object of that kind in it.
pub(crate) fn object(kind: &str) -> Value {
    let kustomization = base();
    let mut found: Vec<Value> = kustomization["resources"]
        .as_array()
        .expect("resources is a list")
        .iter()
        .flat_map(|file| documents(Path::new("manifests/base").join(file.as_str().expect("a file's name"))))
        .filter(|object| object["kind"] == kind)
        .collect();
    assert_eq!(found.len(), 1, "{kind} in manifests/");
    found.remove(0)
}

fn pod() -> Value {
    object("Deployment")["spec"]["template"]["spec"].clone()
}

fn container() -> Value {
    pod()["containers"][0].clone()
}

/// The environment that the Deployment gives to its container, with stand-ins for what the kubelet fills in.
fn environment() -> BTreeMap<String, String> {
    let stand_in = |path: &Value| match path.as_str() {
        Some("metadata.name") => "leasehold-7d4b9c6f5-x2x7k".to_owned(),
        Some("metadata.uid") => "0b1f6a52-2f0e-4f0e-9d7c-0d8a4c1d2e3f".to_owned(),
        Some("metadata.labels['pod-template-hash']") => "7d4b9c6f5".to_owned(),
        other => panic!("fieldPath {other:?} has no stand-in here"),
    };
    let mut environment = BTreeMap::from([
        ("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()),
    ]);
    let generator = &base()["configMapGenerator"][0];
    assert_eq!(container()["envFrom"], json!([{"configMapRef": {"name": generator["name"]}}]));
    for literal in generator["literals"].as_array().expect("literals is a list") {
        let (name, value) = literal.as_str().and_then(|l| l.split_once('=')).expect("NAME=VALUE");
        environment.insert(name.to_owned(), value.to_owned());
    }
    for variable in container()["env"].as_array().expect("env is a list") {
        let name = variable["name"].as_str().expect("a name").to_owned();
        let value = match variable["value"].as_str() {
            Some(value) => value.to_owned(),
            None => stand_in(&variable["valueFrom"]["fieldRef"]["fieldPath"]),
        };
        assert!(environment.insert(name.clone(), value).is_none(), "{name} is given twice");
    }
    environment
}

/// What the program makes of that environment.
fn configuration() -> Config {
    let environment = environment();
    let parsed = config::parse(&[], &|name| environment.get(name).map(OsString::from), &|_| Ok("leasehold".to_owned()));
    match parsed {
        Ok(Invocation::Run(config)) => config,
        other => panic!("the Deployment's environment is not a candidate's: {other:?}"),
    }
}

#[test]
fn the_folder_that_is_applied_says_what_its_base_says() {
    let (mut top, mut base) = (documents("manifests/kustomization.yaml").remove(0), base());
    let files: Vec<String> = base["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| format!("base/{}", file.as_str().expect("a name")))
        .collect();
    assert_eq!(top["resources"].take(), json!(files));
    base["resources"].take();
    assert_eq!(top, base);
}

#[test]
fn the_role_is_exactly_this() {
    assert_eq!(
        object("Role")["rules"],
        json!([
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["leasehold"],
             "verbs": ["get", "update", "watch"]},
            {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["services"], "resourceNames": ["leasehold"],
             "verbs": ["get", "patch", "watch"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "patch"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        ])
    );
}

/// Nothing missing, nothing spare: the Role grants what the audit file says, verb by verb.
#[test]
fn the_role_grants_what_the_program_can_call() {
    let words = |list: &Value| -> Vec<String> {
        list.as_array().expect("a list").iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let mut granted = BTreeSet::new();
    for rule in object("Role")["rules"].as_array().expect("rules is a list") {
        for (group, resource) in words(&rule["apiGroups"]).iter().zip(words(&rule["resources"])) {
            for verb in words(&rule["verbs"]) {
                let by_name = rule.get("resourceNames").is_some();
                assert!(
                    granted.insert((group.clone(), resource.clone(), verb.clone(), by_name)),
                    "{verb} {resource} twice"
                );
            }
        }
    }
    let needed: BTreeSet<(String, String, String, bool)> = RULES
        .iter()
        .map(|r| (r.resource.group().into(), r.resource.plural().into(), r.verb.as_str().into(), r.by_name))
        .collect();
    assert_eq!(granted, needed);
}

#[test]
fn nothing_is_granted_by_wildcard_or_cluster_wide() {
    for path in yaml_files(&root().join("manifests")) {
        for document in documents(&path) {
            let kind = document["kind"].as_str().unwrap_or_default().to_owned();
            assert!(!kind.starts_with("ClusterRole"), "{}: {kind}", path.display());
            assert!(!document["rules"].to_string().contains("\"*\""), "{}: a wildcard in {kind}", path.display());
        }
    }
}

#[test]
fn the_role_is_bound_to_the_account_the_pod_runs_as_and_to_no_other() {
    let (account, binding) = (object("ServiceAccount"), object("RoleBinding"));
    assert_eq!(binding["roleRef"]["kind"], "Role");
    assert_eq!(binding["roleRef"]["name"], object("Role")["metadata"]["name"]);
    assert_eq!(binding["subjects"], json!([{"kind": "ServiceAccount", "name": account["metadata"]["name"]}]));
    assert_eq!(pod()["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(account["automountServiceAccountToken"], false, "a token only where a Pod asks for it");
    assert_eq!(pod()["automountServiceAccountToken"], true);
}

#[test]
fn the_program_accepts_its_environment_and_the_names_agree() {
    let (config, role, service) = (configuration(), object("Role"), object("Service"));
    assert_eq!(role["rules"][0]["resourceNames"], json!([config.access.lease_name]));
    let routed = config.service.expect("SERVICE_NAME is given");
    assert_eq!(role["rules"][2]["resourceNames"], json!([routed.name]));
    assert_eq!(service["metadata"]["name"], json!(routed.name));
    assert_eq!(service["spec"]["selector"].get(&routed.route_label), None, "that key is the leader's to write");
    assert!(config.pod_uid.is_some(), "without POD_UID a restarted container waits for its own lease to expire");
    assert_eq!(container()["ports"][0]["containerPort"], json!(config.port));
}

#[test]
fn every_variable_is_one_that_the_program_reads() {
    let known: BTreeSet<&str> = config::VARIABLES.iter().map(|variable| variable.name).collect();
    let given = environment();
    let unknown: Vec<&String> = given.keys().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_timings_are_the_seeds_three_variables() {
    let generator = &base()["configMapGenerator"][0];
    assert_eq!(generator["literals"], json!(["LEASE_DURATION=15", "RENEWAL_DEADLINE=10", "RETRY_PERIOD=2"]));
}

/// kustomize follows references by name alone: a ConfigMap called as the Lease is would have its hash put into the Role.
#[test]
fn the_generated_name_is_no_other_objects() {
    let generator = &base()["configMapGenerator"][0];
    for path in yaml_files(&root().join("manifests")) {
        for document in documents(&path) {
            assert_ne!(document["metadata"]["name"], generator["name"], "{}", path.display());
        }
    }
}

#[test]
fn everything_selects_the_pods_that_the_deployment_makes() {
    let labels = &object("Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&object("Deployment")["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&object("Service")["spec"]["selector"], labels);
    assert_eq!(&object("NetworkPolicy")["spec"]["podSelector"]["matchLabels"], labels);
    assert_eq!(&pod()["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"], labels);
    let port = &container()["ports"][0]["name"];
    assert_eq!(&object("Service")["spec"]["ports"][0]["targetPort"], port);
    assert_eq!(&object("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"], port);
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(&container()[probe]["httpGet"]["port"], port, "{probe}");
    }
}

/// Asked at once, `/readyz` answers 503 until the API server has answered, and every start leaves a Warning Event on its Pod.
#[test]
fn the_first_readiness_probe_waits_for_the_first_answer() {
    assert!(container()["readinessProbe"]["initialDelaySeconds"].as_u64().is_some_and(|seconds| seconds >= 1));
}

/// What the "restricted" Pod Security Standard asks, and a read-only root on top.
#[test]
fn the_pod_is_restricted() {
    let (pod, container) = (pod(), container());
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    for forbidden in ["hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"] {
        assert_eq!(pod.get(forbidden), None, "{forbidden}");
    }
    assert_eq!(
        pod["securityContext"],
        json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(
        container["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(container["resources"]["limits"], json!({"memory": "8Mi"}));
    let labels = &object("Namespace")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
}

/// The kubelet kills what has not ended by then: the work's stop and the drain must both fit.
#[test]
fn the_grace_period_covers_stopping_and_draining() {
    let config = configuration();
    let grace = Duration::from_secs(pod()["terminationGracePeriodSeconds"].as_u64().expect("a number"));
    assert!(grace > config.timing.lease_duration() + config.drain_timeout, "{grace:?}");
}

#[test]
fn the_leader_stays_in_its_service_until_it_is_gone() {
    assert_eq!(object("Service")["spec"]["publishNotReadyAddresses"], true);
    assert_eq!(object("Deployment")["spec"]["strategy"]["rollingUpdate"], json!({"maxUnavailable": 0, "maxSurge": 1}));
}

#[test]
fn the_image_is_this_version_from_scratch_and_not_root() {
    let version = env!("CARGO_PKG_VERSION");
    let image = &base()["images"][0];
    assert_eq!(image["name"], container()["image"]);
    assert_eq!(image["newTag"], version);
    let dockerfile = text("Dockerfile");
    let last_stage = dockerfile.rsplit_once("\nFROM ").expect("two stages").1;
    for line in ["scratch", "USER 65532:65532", "ENTRYPOINT [\"/leasehold\"]", &format!("ARG VERSION={version}")] {
        assert!(last_stage.lines().any(|l| l == line), "{line}");
    }
    let copied: Vec<&str> = last_stage.lines().filter(|l| l.starts_with("COPY") || l.starts_with("ADD")).collect();
    assert_eq!(copied, ["COPY --from=build /out/leasehold /leasehold"]);
}

/// Alerts and dashboard ask for metrics that the program has.
#[test]
fn every_metric_asked_for_exists() {
    let source = text("src/program/metrics.rs") + &text("src/program/http/process.rs");
    let mut asked = BTreeSet::new();
    for file in ["prometheusrule.yaml", "dashboard.json"] {
        let content = text(Path::new("manifests/components/monitoring").join(file));
        for word in content.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if ["leader_election_", "leasehold_", "rest_client_", "process_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
            {
                asked.insert(word.strip_suffix("_bucket").unwrap_or(word).to_owned());
            }
        }
    }
    assert!(asked.len() > 8, "{asked:?}");
    let unknown: Vec<&String> = asked.iter().filter(|name| !source.contains(&format!("\"{name}\""))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()) {
        match entry.extension().and_then(|e| e.to_str()) {
            _ if entry.is_dir() => found.extend(yaml_files(&entry)),
            Some("yaml") => found.push(entry),
            _ => {}
        }
    }
    found
}
