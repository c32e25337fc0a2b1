//! `manifests/examples/`: each is rendered, read as the program and the API server would read it, and run: the program with
//! the recipe's environment, on an API server that grants exactly the recipe's Role.

pub(crate) mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;

use leasehold::program::config::{self, Config, Invocation};
use leasehold_apiserver::client::{Client, JSON, MERGE_PATCH};
use leasehold_apiserver::store::{LEASES, SERVICES};
use leasehold_apiserver::{Options, Server, real};
use serde_json::{Value, json};

use self::render::render;
use crate::process::{LIMIT, Program};
use crate::rules::RULES;

const EXAMPLES: [&str; 6] = [
    "active-passive-web",
    "client-go-neighbours",
    "copied-binary",
    "singleton-worker",
    "statefulset",
    "wrap-a-command",
];

fn example(name: &str) -> Vec<Value> {
    render(&Path::new("manifests/examples").join(name))
}

/// The objects of one kind.
fn all<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

pub(crate) fn named<'a>(objects: &'a [Value], kind: &str, name: &Value) -> &'a Value {
    let found = all(objects, kind).into_iter().find(|object| object["metadata"]["name"] == *name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> Vec<&str> {
    list(value).iter().map(|item| item.as_str().expect("text")).collect()
}

/// Deployments and StatefulSets.
fn workloads(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects.iter().filter(|object| object["spec"]["template"]["spec"]["containers"].is_array())
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["initContainers"]).iter().chain(list(&pod["containers"]))
}

/// The workload in which leasehold campaigns, and its container there.
fn candidate(objects: &[Value]) -> (&Value, &Value) {
    let mut found = workloads(objects).flat_map(|workload| {
        let campaigns =
            |container: &&Value| list(&container["env"]).iter().any(|variable| variable["name"] == "POD_UID");
        containers(&workload["spec"]["template"]["spec"]).filter(campaigns).map(move |container| (workload, container))
    });
    let one = found.next().expect("a candidate");
    assert!(found.next().is_none(), "one container campaigns");
    one
}

/// The label by which a controller marks a Pod's revision.
fn revision_label(objects: &[Value]) -> &'static str {
    match candidate(objects).0["kind"].as_str() {
        Some("Deployment") => "metadata.labels['pod-template-hash']",
        Some("StatefulSet") => "metadata.labels['controller-revision-hash']",
        other => panic!("{other:?} marks no revision"),
    }
}

/// The candidate's environment in a Pod of this name.
pub(crate) fn environment(objects: &[Value], pod: &str) -> BTreeMap<String, String> {
    let (_, container) = candidate(objects);
    let mut environment = BTreeMap::from([
        ("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()),
    ]);
    for source in list(&container["envFrom"]) {
        let data = &named(objects, "ConfigMap", &source["configMapRef"]["name"])["data"];
        let pairs = data.as_object().into_iter().flatten();
        environment.extend(pairs.map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())));
    }
    for variable in list(&container["env"]) {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => pod,
            Some("metadata.uid") => "0b1f6a52-2f0e-4f0e-9d7c-0d8a4c1d2e3f",
            Some(label) if label == revision_label(objects) => "7d4b9c6f5",
            _ => variable["value"].as_str().unwrap_or_else(|| panic!("{variable} is no text")),
        };
        environment.insert(variable["name"].as_str().expect("a name").to_owned(), value.to_owned());
    }
    environment
}

/// What comes after the binary's name.
fn arguments(container: &Value) -> Vec<OsString> {
    let mut words: Vec<OsString> = list(&container["command"])
        .iter()
        .chain(list(&container["args"]))
        .map(|word| word.as_str().expect("text").into())
        .collect();
    if container["command"].is_array() {
        let program = words.remove(0);
        assert!(program.to_string_lossy().ends_with("/leasehold"), "{program:?}");
    }
    words
}

pub(crate) fn pod_name(objects: &[Value]) -> String {
    let (workload, _) = candidate(objects);
    let name = workload["metadata"]["name"].as_str().expect("a name");
    if workload["kind"] == "StatefulSet" { format!("{name}-0") } else { format!("{name}-7d4b9c6f5-x2x7k") }
}

fn configuration(objects: &[Value]) -> Config {
    let environment = environment(objects, &pod_name(objects));
    let arguments = arguments(candidate(objects).1);
    let parsed =
        config::parse(&arguments, &|name| environment.get(name).map(OsString::from), &|_| Ok("leasehold".into()));
    match parsed {
        Ok(Invocation::Run(config)) => config,
        other => panic!("no candidate: {other:?}"),
    }
}

#[test]
fn these_are_all_and_the_page_lists_them() {
    let folders = std::fs::read_dir("manifests/examples").unwrap().map(|entry| entry.unwrap());
    let there: BTreeSet<String> =
        folders.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(there, EXAMPLES.map(str::to_owned).into());
    let page = std::fs::read_to_string("manifests/examples/README.md").unwrap();
    for name in EXAMPLES {
        assert_eq!(page.matches(&format!("| [`{name}`]({name}/kustomization.yaml) |")).count(), 1, "{name}");
    }
}

#[test]
fn no_right_is_granted_that_the_program_has_no_use_for() {
    for name in EXAMPLES {
        let objects = example(name);
        assert!(all(&objects, "ClusterRole").is_empty() && all(&objects, "ClusterRoleBinding").is_empty(), "{name}");
        for rule in all(&objects, "Role").into_iter().flat_map(|role| list(&role["rules"])) {
            let uses = |group: &Value, resource: &Value, verb: &Value| {
                RULES.iter().find(|used| {
                    (used.resource.group(), used.resource.plural(), used.verb.as_str())
                        == (group.as_str().unwrap(), resource.as_str().unwrap(), verb.as_str().unwrap())
                })
            };
            let (groups, resources) = (list(&rule["apiGroups"]), list(&rule["resources"]));
            assert!(groups.len() == 1 && resources.len() == 1, "{name}: {rule}");
            for verb in list(&rule["verbs"]) {
                let used = uses(&groups[0], &resources[0], verb).unwrap_or_else(|| panic!("{name}: {verb} in {rule}"));
                assert!(!used.by_name || !list(&rule["resourceNames"]).is_empty(), "{name}: {rule} names no object");
            }
        }
    }
}

#[test]
fn every_binding_is_of_a_role_to_an_account_and_every_pod_has_one() {
    for name in EXAMPLES {
        let objects = example(name);
        for binding in all(&objects, "RoleBinding") {
            let role = named(&objects, "Role", &binding["roleRef"]["name"]);
            let subject = &binding["subjects"][0];
            named(&objects, "ServiceAccount", &subject["name"]);
            assert_eq!((list(&binding["subjects"]).len(), &subject["namespace"]), (1, &role["metadata"]["namespace"]));
        }
        for workload in workloads(&objects) {
            named(&objects, "ServiceAccount", &workload["spec"]["template"]["spec"]["serviceAccountName"]);
            let labels = &workload["spec"]["template"]["metadata"]["labels"];
            assert_eq!(workload["spec"]["selector"]["matchLabels"], *labels, "{name}");
        }
    }
}

/// What the "restricted" Pod Security Standard asks of every container.
#[test]
fn every_pod_is_restricted() {
    for name in EXAMPLES {
        let objects = example(name);
        for workload in workloads(&objects) {
            let pod = &workload["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
                assert_eq!(pod.get(forbidden), None, "{name}");
            }
            for volume in list(&pod["volumes"]) {
                assert!(volume["emptyDir"].is_object(), "{name}: {volume}");
            }
            for container in containers(pod) {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false, "{name}: {}", container["name"]);
                assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }), "{name}: {}", container["name"]);
                assert!(container["resources"]["limits"]["memory"].is_string(), "{name}: {}", container["name"]);
                let image = container["image"].as_str().unwrap();
                assert!(image.contains(':') && !image.ends_with(":latest"), "{name}: {image}");
            }
        }
    }
}

#[test]
fn names_ports_and_times_agree() {
    for name in EXAMPLES {
        let objects = example(name);
        let (config, (workload, container)) = (configuration(&objects), candidate(&objects));
        let pod = &workload["spec"]["template"]["spec"];
        let role = named(&objects, "Role", &pod["serviceAccountName"]);
        assert_eq!(role["rules"][0]["resourceNames"], json!([config.access.lease_name]), "{name}");

        let ports: Vec<(&Value, &Value)> = containers(pod)
            .flat_map(|c| list(&c["ports"]))
            .map(|port| (&port["name"], &port["containerPort"]))
            .collect();
        let numbers: BTreeSet<String> = ports.iter().map(|(_, number)| number.to_string()).collect();
        assert_eq!(numbers.len(), ports.len(), "{name}: {ports:?}");
        let own = &container["livenessProbe"]["httpGet"]["port"];
        assert!(ports.contains(&(own, &json!(config.port))), "{name}: {own} is not PORT");

        if let Some(routed) = &config.service {
            let service = named(&objects, "Service", &json!(routed.name));
            assert_eq!(service["spec"]["selector"].get(&routed.route_label), None, "{name}: that key is the leader's");
            assert_eq!(service["spec"]["selector"], workload["spec"]["template"]["metadata"]["labels"], "{name}");
            let target = &service["spec"]["ports"][0]["targetPort"];
            assert!(ports.iter().any(|(port, _)| *port == target), "{name}: {target} is no container's");
        }
        if let Some(health) = &config.health {
            let port = health.url.split([':', '/']).nth(4).unwrap_or_default().to_owned();
            assert!(numbers.contains(&port) && port != config.port.to_string(), "{name}: {health:?}");
        }
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > (config.timing.lease_duration() + config.drain_timeout).as_secs(), "{name}: {grace} s");
    }
}

/// In a deleted leader's Pod the application answers for longer than leasehold waits for the Service, and both are stopped at once.
#[test]
fn the_web_application_answers_until_the_service_has_moved() {
    let objects = example("active-passive-web");
    let (config, (workload, own)) = (configuration(&objects), candidate(&objects));
    let pod = &workload["spec"]["template"]["spec"];
    assert!(list(&pod["containers"]).contains(own), "a native sidecar gets SIGTERM last");
    assert_eq!(own.get("lifecycle"), None);
    let application = list(&pod["containers"]).iter().find(|container| container["name"] != own["name"]).unwrap();
    let sleep = strings(&application["lifecycle"]["preStop"]["exec"]["command"]);
    assert_eq!(sleep[0], "sleep");
    let seconds: u64 = sleep[1].parse().unwrap();
    assert!(seconds >= config.drain_timeout.as_secs(), "{seconds} s");
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > seconds);
}

/// What an init container installs is what the main container runs, from the volume that both mount.
#[test]
fn the_copied_binary_is_run_from_where_it_is_put() {
    let objects = example("copied-binary");
    let (workload, container) = candidate(&objects);
    let install = &workload["spec"]["template"]["spec"]["initContainers"][0];
    let folder = match config::parse(&arguments(install), &|_| None, &|_| Err(std::io::ErrorKind::NotFound.into())) {
        Ok(Invocation::Install(folder)) => folder,
        other => panic!("{other:?}"),
    };
    for mounted in [install, container] {
        assert_eq!(mounted["volumeMounts"][0]["mountPath"], json!(folder));
        assert_eq!(mounted["volumeMounts"][0]["name"], workload["spec"]["template"]["spec"]["volumes"][0]["name"]);
    }
    assert_eq!(container["command"][0], json!(folder.join("leasehold")));
    assert_eq!(install["image"], json!(concat!("leasehold:", env!("CARGO_PKG_VERSION"))));
}

/// A neighbour that answers every request with 200, for the health gate.
fn healthy_neighbour() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    address
}

/// Under the recipe's Role the program leads, points the Service, and releases, and is refused nothing.
fn run(name: &str) {
    let objects = example(name);
    let (config, pod, (workload, container)) = (configuration(&objects), pod_name(&objects), candidate(&objects));
    let server = Server::start(Options::default()).unwrap();
    let account = &workload["spec"]["template"]["spec"]["serviceAccountName"];
    let user = format!("system:serviceaccount:leasehold:{}", account.as_str().unwrap());
    server.store().rbac().bind(&user, "leasehold", named(&objects, "Role", account)).unwrap();
    for lease in all(&objects, "Lease") {
        server.change_store(|store| store.put_object(LEASES, lease, 0));
    }
    for service in all(&objects, "Service") {
        server.change_store(|store| store.put_object(SERVICES, service, 0));
    }
    let mut labels = workload["spec"]["template"]["metadata"]["labels"].clone();
    if workload["kind"] == "StatefulSet" {
        labels["statefulset.kubernetes.io/pod-name"] = json!(pod);
    }
    server.create_pod("leasehold", &pod, &labels);

    let mount = std::env::temp_dir().join(format!("leasehold-recipe-{name}-{}", std::process::id()));
    server.write_service_account(&mount, &server.add_user(&user), "leasehold").unwrap();
    let mut program = Program::default();
    for (name, value) in environment(&objects, &pod) {
        program = program.with(&name, value);
    }
    let here = [
        ("KUBERNETES_SERVICE_HOST", server.addr().ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", server.addr().port().to_string()),
        ("SERVICE_ACCOUNT_DIR", mount.display().to_string()),
        ("PORT", "0".to_owned()),
        ("DRAIN_TIMEOUT", "0".to_owned()),
        ("PATH", std::env::var("PATH").unwrap_or_default()),
    ];
    for (name, value) in here {
        program = program.with(name, value);
    }
    if config.health.is_some() {
        program = program.with("HEALTH_URL", format!("http://{}/", healthy_neighbour()));
    }
    if !arguments(container).is_empty() {
        program = program.args(["--", "sleep", "1000000"]); // In the place of what this machine need not have.
    }
    let process = program.start();

    let lease = config.access.lease_name.as_str();
    let holds = |holder: Option<&str>| {
        server.wait_until(LIMIT, |now| {
            let holder_now =
                now.store.object(LEASES, "leasehold", lease).and_then(|l| l["spec"]["holderIdentity"].as_str());
            holder_now.filter(|holder| !holder.is_empty()) == holder
        })
    };
    assert!(holds(Some(&pod)), "{name}: {}", process.log.text());
    if let Some(service) = &config.service {
        let routed = server.wait_until(LIMIT, |now| {
            let service = now.store.object(SERVICES, "leasehold", &service.name);
            service.is_some_and(|service| {
                service["spec"]["selector"][&config.service.as_ref().unwrap().route_label] == json!(pod)
            })
        });
        assert!(routed, "{name}: {}", process.log.text());
    }
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0, "{name}: {}", process.log.text());
    assert!(holds(None), "{name}");
    let refused: Vec<String> = server
        .requests()
        .iter()
        .filter(|request| request.status == Some(403))
        .map(|request| format!("{} {}", request.verb, request.path))
        .collect();
    assert_eq!(refused, [""; 0], "{name}");
    std::fs::remove_dir_all(mount).unwrap();
}

#[test]
fn active_passive_web_runs_with_what_its_role_grants() {
    run("active-passive-web");
}

#[test]
fn client_go_neighbours_run_with_what_their_role_grants() {
    run("client-go-neighbours");
}

#[test]
fn copied_binary_runs_with_what_its_role_grants() {
    run("copied-binary");
}

#[test]
fn singleton_worker_runs_with_what_its_role_grants() {
    run("singleton-worker");
}

#[test]
fn statefulset_runs_with_what_its_role_grants_and_patches_no_pod() {
    run("statefulset");
}

#[test]
fn wrap_a_command_runs_with_what_its_role_grants() {
    run("wrap-a-command");
}

#[test]
fn a_real_api_server_takes_every_object() {
    let Some(server) = real::find().expect("a usable API server, or none") else { return };
    let mut client = Client::connect(&server.admin).expect("a connection");
    let mut send = |method: &str, path: &str, body: &Value| {
        let content_type = if method == "PATCH" { MERGE_PATCH } else { JSON };
        client.request(method, path, content_type, body.to_string().as_bytes()).expect("an answer")
    };
    for name in EXAMPLES {
        let space = format!("recipe-{name}-{}", std::process::id());
        let made = send("POST", "/api/v1/namespaces", &json!({ "metadata": { "name": space } }));
        assert_eq!(made.status, 201, "{}", made.message());
        for mut object in example(name) {
            if object["kind"] == "Namespace" {
                continue;
            }
            object["metadata"]["namespace"] = json!(space);
            if object["subjects"].is_array() {
                object["subjects"][0]["namespace"] = json!(space);
            }
            let answer = send("POST", &collection(&object, &space), &object);
            assert_eq!(answer.status, 201, "{name}: {}: {}", object["kind"], answer.message());
        }
        send("DELETE", &format!("/api/v1/namespaces/{space}"), &Value::Null);
    }
}

/// Where objects of this kind are created.
fn collection(object: &Value, namespace: &str) -> String {
    let plural = match object["kind"].as_str().expect("a kind") {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let version = object["apiVersion"].as_str().expect("a version");
    let base = if version.contains('/') { "apis" } else { "api" };
    format!("/{base}/{version}/namespaces/{namespace}/{plural}")
}
