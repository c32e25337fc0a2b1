//! `docs/api-calls.md`: every call as it is sent and as it is answered, the rule that it needs and what is lost without.
//!
//! The page is made here: what the calls are for from the text of `src/kube/request.rs`, what they say from the election and
//! the builders themselves, with clock and identities given, and the answers from the in-memory store. The test fails when
//! the page is another; `UPDATE_API_CALLS=1 cargo test --test it api_calls` writes it anew. What the builders leave to the
//! client, the headers, is looked at as a process sends it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use leasehold::election::{Election, Identity, Input, Output, Timing};
use leasehold::kube::event::{Subject, event};
use leasehold::kube::request::{self, Request};
use leasehold::kube::service::selector_patch;
use leasehold::kube::{CallError, Fence, Lease, Purpose, Reply, Service, Verb};
use leasehold::runtime::lease_store::{self, LeaseStore};
use leasehold::time::{BootTime, Now, WallTime};
use leasehold_apiserver::store::{LEASES, PODS, SERVICES, Store};
use serde_json::{Value, json};

use crate::process::{Pace, World};
use crate::rules::{Needed, RULES, Rule};

const PAGE: &str = "docs/api-calls.md";
const NAMESPACE: &str = "team-a";
const WATCHED_FOR: Duration = Duration::from_secs(300);

/// An API server whose every answer is noted, and its clock.
struct Cluster {
    store: Store,
    now: Now,
    shown: Vec<Shown>,
}

/// One call on the page.
struct Shown {
    function: &'static str,
    title: &'static str,
    request: Request,
    status: u16,
    answer: String,
}

impl Cluster {
    fn new() -> Cluster {
        let mut store = Store::new(7);
        store.advance_resource_version(8100);
        let wall = WallTime::parse("2026-11-22T15:04:05Z").expect("a time");
        Cluster { store, now: Now { boot: BootTime(1_000_000_000_000), wall }, shown: Vec::new() }
    }

    fn wait(&mut self, span: Duration) {
        self.now.boot = self.now.boot + span;
        self.now.wall = WallTime(self.now.wall.0 + i64::try_from(span.as_micros()).expect("a short while"));
    }

    fn make(&mut self, function: &'static str, title: &'static str, request: &Request) -> Result<Reply, CallError> {
        let answer = self.store.handle(&sent(request), self.now.wall.0);
        let body = answer.body.to_string();
        let (status, pretty) = (answer.status, pretty(&answer.body));
        self.shown.push(Shown { function, title, request: request.clone(), status, answer: pretty });
        if status < 300 {
            return Ok(Reply { status, body: body.into_bytes() });
        }
        Err(CallError::from_answer(request, status, None, body.as_bytes()))
    }

    /// Opens a watch, lets something happen, and shows what came.
    fn watch(&mut self, function: &'static str, request: &Request, happens: impl FnOnce(&mut Cluster)) {
        let answer = self.store.handle(&sent(request), self.now.wall.0);
        let mut watch = answer.watch.expect("a watch is accepted");
        let at = self.shown.len();
        happens(self);
        let lines: Vec<u8> = self.store.read_watch(&mut watch).iter().flat_map(|event| event.line()).collect();
        let answer = String::from_utf8(lines).expect("JSON").trim_end().to_owned();
        let title = "Kept open; a line for each change";
        self.shown
            .insert(at, Shown { function, title, request: request.clone(), status: answer_status(&answer), answer });
    }
}

/// A stream has begun with 200, or there would be no lines.
fn answer_status(lines: &str) -> u16 {
    assert!(lines.starts_with("{\"type\":\"MODIFIED\""), "{lines}");
    200
}

fn sent(request: &Request) -> leasehold_apiserver::Request {
    leasehold_apiserver::Request {
        content_type: request.content_type.unwrap_or_default().to_owned(),
        body: request.body.clone().unwrap_or_default().into_bytes(),
        ..leasehold_apiserver::Request::new(request.verb.method(), request.path.clone())
    }
}

/// An object a field a line; a Status, which says little, on one.
fn pretty(value: &Value) -> String {
    let short = value["kind"] == "Status";
    let text = if short { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) };
    text.expect("JSON")
}

/// A candidate whose calls are made one by one.
struct Candidate {
    election: Election,
    exchange: LeaseStore,
    asked: Option<(u64, Request)>,
}

impl Candidate {
    fn new(name: &str, incarnation: &str) -> Candidate {
        let identity = Identity { name: name.to_owned(), incarnation: incarnation.to_owned(), revision: None };
        let exchange = LeaseStore::new(NAMESPACE, "web");
        Candidate { election: Election::new(identity, Timing::default(), 1), exchange, asked: None }
    }

    fn tell(&mut self, now: Now, input: Input) {
        self.election.handle(now, input);
        loop {
            match self.election.poll() {
                Output::WaitUntil(_) => return,
                Output::Call { call, request, purpose, .. } => {
                    self.asked = self.exchange.request(&request, purpose).map(|request| (call, request));
                }
                _ => {}
            }
        }
    }

    /// Makes the call that it has asked for, which must be of this verb.
    #[track_caller]
    fn makes(&mut self, verb: Verb, cluster: &mut Cluster, function: &'static str, title: &'static str) {
        let (call, request) = self.asked.take().expect("it asks for a call");
        assert_eq!(request.verb, verb, "{title}");
        let result = cluster.make(function, title, &request);
        let result = self.exchange.read(&request, result).or_else(|error| lease_store::failure(&error));
        self.tell(cluster.now, Input::Reply { call, result });
    }

    fn newest(&self, cluster: &Cluster) -> Lease {
        let object = cluster.store.object(LEASES, NAMESPACE, "web").expect("the Lease");
        Lease::from_object(object.clone()).expect("a Lease")
    }
}

/// Every call, each in a situation in which it is made.
fn play() -> Vec<Shown> {
    let mut cluster = Cluster::new();
    let interval = Timing::default().renew_interval();
    let mut a = Candidate::new("web-6c9f-aaaaa", "0b1f6a52-2f0e-4f0e-9d7c-0d8a4c1d2e3f");
    a.tell(cluster.now, Input::Timer);
    a.makes(Verb::Get, &mut cluster, "get_lease", "There is none");
    a.makes(Verb::Create, &mut cluster, "create_lease", "Acquiring a Lease that does not exist");
    let lease = a.newest(&cluster);
    let watch = request::watch_lease(NAMESPACE, "web", lease.snapshot.version, WATCHED_FOR, Purpose::Observe);
    cluster.watch("watch_lease", &watch, |cluster| {
        cluster.wait(interval);
        a.tell(cluster.now, Input::Timer);
        a.makes(
            Verb::Update,
            cluster,
            "replace_lease",
            "Renewing. The first renewal notes the term's fencing token, too",
        );
    });
    route(&mut cluster, &lease);
    tell(&mut cluster, &lease);

    cluster.store.patch_object(LEASES, NAMESPACE, "web", &json!({ "metadata": { "labels": { "edited": "by-hand" } } }));
    cluster.wait(interval);
    a.tell(cluster.now, Input::Timer);
    a.makes(Verb::Update, &mut cluster, "replace_lease", "Renewing after another write: refused");
    a.makes(Verb::Get, &mut cluster, "get_lease", "After a conflict");
    a.makes(Verb::Update, &mut cluster, "replace_lease", "The renewal that follows: the other label is kept");
    a.tell(cluster.now, Input::Shutdown);
    a.tell(cluster.now, Input::WorkStopped(lease.snapshot.version));
    a.makes(Verb::Update, &mut cluster, "replace_lease", "Releasing, once the work has stopped");

    let mut b = Candidate::new("web-6c9f-bbbbb", "7c0e6a52-90ab-4b1e-8a3d-5e4f3a2b1c0d");
    b.tell(cluster.now, Input::Timer);
    b.makes(Verb::Get, &mut cluster, "get_lease", "It was released");
    b.makes(Verb::Update, &mut cluster, "replace_lease", "Acquiring a Lease that was released");
    cluster.shown
}

/// Label and selector, as the leader of this Lease's present term sets them.
fn route(cluster: &mut Cluster, lease: &Lease) {
    let pod = "web-6c9f-aaaaa";
    let labels = json!({ "app": "web" });
    let put = |cluster: &mut Cluster, resource, object: Value| {
        let answer = cluster.store.put_object(resource, &object, cluster.now.wall.0);
        assert_eq!(answer.status, 201);
    };
    let metadata = |name: &str| json!({ "namespace": NAMESPACE, "name": name, "labels": labels });
    let container = json!([{ "name": "web", "image": "registry.example.com/web:1" }]);
    put(cluster, PODS, json!({ "metadata": metadata(pod), "spec": { "containers": container } }));
    put(
        cluster,
        SERVICES,
        json!({ "metadata": metadata("web"), "spec": { "selector": labels, "ports": [{ "port": 80 }] } }),
    );

    cluster.make("get_pod", "Is it labelled already?", &request::get_pod(NAMESPACE, pod)).expect("the Pod");
    cluster.make("label_pod", "No", &request::label_pod(NAMESPACE, pod, "pod", pod)).expect("the Pod");
    let look = request::get_service(NAMESPACE, "web", Purpose::Route);
    let found = cluster.make("get_service", "It points at no Pod yet", &look).expect("the Service");
    let service = Service::parse(&found.body).expect("a Service");
    let snapshot = lease.snapshot.clone();
    let fence = Fence { lease_uid: snapshot.uid, token: snapshot.version };
    let patch = selector_patch(service.version, &service.uid, "pod", pod, &fence);
    let watch = request::watch_service(NAMESPACE, "web", service.version, WATCHED_FOR, Purpose::Route);
    cluster.watch("watch_service", &watch, |cluster| {
        let request = request::patch_service(NAMESPACE, "web", &patch);
        cluster.make("patch_service", "Pointing it at the leader", &request).expect("the Service");
        let late = cluster.make("patch_service", "The same again, from what was read before: refused", &request);
        assert!(late.is_err(), "a patch from an old version is a conflict");
    });
}

fn tell(cluster: &mut Cluster, lease: &Lease) {
    let (uid, identity) = (lease.snapshot.uid.clone(), "web-6c9f-aaaaa");
    let subject = Subject { namespace: NAMESPACE, name: "web", uid: &uid, identity };
    let (name, object) = event(&subject, "became leader", cluster.now.wall, 0x17f3_5c0e_9a2b_4d68);
    let request = request::create_event(NAMESPACE, &name, &object);
    cluster.make("create_event", "It has become leader", &request).expect("the Event");
}

// -------------------------------------------------------------------------------------------------- the page

/// A builder of request.rs: its name, and what its text says.
struct Builder {
    name: String,
    purpose: String,
    without: String,
}

/// All builders, in the file's order.
fn builders() -> Vec<Builder> {
    let source = std::fs::read_to_string("src/kube/request.rs").expect("request.rs");
    let (mut builders, mut text) = (Vec::new(), Vec::new());
    for line in source.lines() {
        if let Some(words) = line.strip_prefix("///") {
            text.push(words.trim());
            continue;
        }
        let name = line.strip_prefix("pub fn ").and_then(|rest| rest.split_once('('));
        if let Some((name, _)) = name {
            builders.push(builder(name, &text.join("\n")));
        }
        text.clear();
    }
    builders
}

fn builder(name: &str, text: &str) -> Builder {
    let prose: Vec<String> = text
        .split("\n\n")
        .filter(|paragraph| !paragraph.starts_with("```") && !paragraph.starts_with('{') && !paragraph.ends_with("```"))
        .filter(|paragraph| !paragraph.starts_with("[`"))
        .map(|paragraph| {
            paragraph.replace('\n', " ").replace(" (see [`selector_patch`])", "").replace("[`", "`").replace("`]", "`")
        })
        .collect();
    let (rbac, purpose): (Vec<String>, Vec<String>) =
        prose.into_iter().partition(|paragraph| paragraph.starts_with("RBAC: "));
    let without = rbac.first().and_then(|rbac| rbac.split_once("Without it: "));
    let (_, without) = without.unwrap_or_else(|| panic!("{name} does not say what happens without its rule"));
    Builder { name: name.to_owned(), purpose: purpose.join("\n\n"), without: without.to_owned() }
}

fn rule_of(request: &Request) -> &'static Rule {
    let fits = |rule: &&Rule| rule.resource == request.resource && rule.verb == request.verb;
    RULES.iter().find(fits).unwrap_or_else(|| panic!("no rule for {request:?}"))
}

fn needed(rule: &Rule) -> &'static str {
    match rule.needed {
        Needed::Always => "always",
        Needed::ForRouting => "with SERVICE_NAME",
        Needed::Optional => "optional",
    }
}

fn page() -> String {
    let (shown, builders) = (play(), builders());
    let mut page = String::from(HEAD);
    let of = |builder: &Builder| -> Vec<&Shown> {
        let calls: Vec<_> = shown.iter().filter(|call| call.function == builder.name).collect();
        assert!(!calls.is_empty(), "{} is not shown", builder.name);
        calls
    };
    for builder in &builders {
        let call = &of(builder)[0].request;
        let rule = rule_of(call);
        let by_name = if rule.by_name { "by name" } else { "not by name" };
        let (name, verb, plural) = (&builder.name, call.verb.as_str(), call.resource.plural());
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            page,
            "| [`{name}`](#{name}) | `{}` | `{verb}` on `{plural}`, {by_name} | {} |",
            call.verb.method(),
            needed(rule)
        );
    }
    for builder in &builders {
        section(&mut page, builder, &of(builder));
    }
    page
}

fn section(page: &mut String, builder: &Builder, calls: &[&Shown]) {
    let request = &calls[0].request;
    let rule = rule_of(request);
    let _ = write!(page, "\n## {}\n\n{}\n\n", builder.name, builder.purpose);
    let _ = writeln!(
        page,
        "```yaml\n- apiGroups: [{:?}]\n  resources: [{}]",
        rule.resource.group(),
        rule.resource.plural()
    );
    if rule.by_name {
        let _ = writeln!(page, "  resourceNames: [{}]", request.name);
    }
    let _ = writeln!(page, "  verbs: [{}]\n```\n\nWithout it: {}", rule.verb.as_str(), builder.without);
    for call in calls {
        let _ = writeln!(
            page,
            "\n**{}**\n\n```http\n{} {} HTTP/1.1",
            call.title,
            call.request.verb.method(),
            call.request.path
        );
        if let (Some(content_type), Some(body)) = (call.request.content_type, &call.request.body) {
            let body: Value = serde_json::from_str(body).expect("JSON");
            let _ = writeln!(page, "content-type: {content_type}\n\n{}", pretty(&body));
        }
        let _ = writeln!(page, "```\n\n```http\nHTTP/1.1 {}\n\n{}\n```", call.status, call.answer);
    }
}

const HEAD: &str = "\
# API calls

Every call that leasehold can make to the Kubernetes API, as it is sent and as it is answered, with the rule that it needs. There
is no other: [`src/kube/request.rs`](../src/kube/request.rs) builds them all, and a test holds the Role in `manifests/` to it.
What your own process has sent is in its audit log (AUDIT_LOG), and a test compares that with [the API server's own](reference.md#audit-log).

This page is made by `tests/it/api_calls.rs` from that file, the election itself and an in-memory API server, whose answers are compared
with a real kube-apiserver's by another test. Beside what is shown, each call carries `host`, `user-agent: leasehold/VERSION (OS/ARCH)`,
`accept: application/json`, `content-length` where there is a body, and `authorization: Bearer TOKEN` over TLS. Bodies are sent without the line
breaks.

A call without its rule is answered 403. The log then names the missing rule, once; the call is tried again at RETRY_PERIOD, so
that a Role can be corrected without a restart.

| call | method | RBAC | needed |
|---|---|---|---|
";

#[test]
fn the_page_shows_every_call_as_it_is() {
    let page = page();
    if std::env::var_os("UPDATE_API_CALLS").is_some_and(|value| value == "1") {
        std::fs::write(PAGE, &page).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differs = kept.lines().zip(page.lines()).position(|(kept, made)| kept != made);
    assert!(
        kept == page,
        "{PAGE} is not what the code does, from line {} on; UPDATE_API_CALLS=1 cargo test --test it api_calls writes it anew",
        differs.unwrap_or_else(|| kept.lines().count().min(page.lines().count())) + 1
    );
}

/// The simple proof that the page is complete: as many sections as rules, each with its own.
#[test]
fn there_is_one_call_for_each_rule() {
    let mut shown: Vec<_> =
        play().iter().map(|call| (call.function, std::ptr::from_ref(rule_of(&call.request)))).collect();
    shown.sort_unstable();
    shown.dedup();
    assert_eq!(shown.len(), RULES.len());
    assert_eq!(builders().len(), RULES.len());
    for call in play() {
        let named = format!(", resourceNames: [{}]", call.request.name);
        let missing = call.request.missing_rule();
        assert_eq!(missing.contains(&named), rule_of(&call.request).by_name, "{missing}");
    }
}

/// What an auditor needs of each call, on the page as it lies there: the request, the answer, the rule, and what is lost
/// without it.
fn incomplete(page: &str) -> Vec<String> {
    let sections: Vec<_> = page.split("\n## ").skip(1).collect();
    let mut incomplete = Vec::new();
    for Builder { name, .. } in builders() {
        let Some(section) = sections.iter().find(|section| section.starts_with(&format!("{name}\n"))) else {
            incomplete.push(format!("{name} has no section"));
            continue;
        };
        let blocks: Vec<_> = section.split("\n```http\n").skip(1).collect();
        let is_request = |block: &&&str| ["GET /", "POST /", "PUT /", "PATCH /"].iter().any(|it| block.starts_with(it));
        let pairs = blocks.chunks(2).filter(|pair| is_request(&&pair[0]) && pair.len() == 2).count();
        for (what, there) in [
            ("request and answer", pairs > 0 && pairs * 2 == blocks.len()),
            ("answer", blocks.iter().skip(1).step_by(2).all(|block| block.starts_with("HTTP/1.1 "))),
            ("rule", section.matches("```yaml\n- apiGroups: [").count() == 1 && section.contains("\n  verbs: [")),
            ("loss", section.matches("\nWithout it: ").count() == 1),
        ] {
            if !there {
                incomplete.push(format!("{name} has no {what}"));
            }
        }
    }
    incomplete
}

#[test]
fn each_call_has_its_request_its_answer_its_rule_and_what_is_lost_without() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    assert_eq!(incomplete(&page), [""; 0]);
    for (from, to, missing) in [
        ("## get_pod\n", "## get_pods\n", "get_pod has no section"),
        ("```http\nPATCH /api/v1/namespaces/team-a/pods/", "```\nPATCH /api/", "label_pod has no request and answer"),
        ("\nWithout it: the label is patched", "\nThe label is patched", "get_pod has no loss"),
        ("  verbs: [create]", "", "create_lease has no rule"),
    ] {
        let changed = page.replacen(from, to, 1);
        assert!(incomplete(&changed).contains(&missing.to_owned()), "{missing}: {:?}", incomplete(&changed));
    }
}

/// As the introduction of the page says.
#[test]
fn a_process_sends_the_headers_that_the_page_names_and_no_others() {
    let world = World::in_memory();
    world.make_service();
    let process =
        world.candidate("pod-a", Pace::Hours).with("RENEW_INTERVAL", "100ms").with("DRAIN_TIMEOUT", "0").start();
    process.says("updated Service");
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0);
    let agent =
        format!("leasehold/{} ({}/{})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    let mut methods = BTreeSet::new();
    for call in world.memory().expect("a server in memory").requests() {
        if call.user != world.user("pod-a") {
            continue;
        }
        let headers: BTreeMap<_, _> =
            call.headers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
        let mut expected = BTreeMap::from([("accept", "application/json"), ("user-agent", agent.as_str())]);
        let length = call.body.len().to_string();
        if !call.body.is_empty() {
            let kind = if call.method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            expected.extend([("content-type", kind), ("content-length", length.as_str())]);
        }
        let host = headers.get("host").copied().unwrap_or_default();
        assert!(host.contains(':') && call.has_credentials, "{call:?}");
        expected.insert("host", host);
        assert_eq!(headers, expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), "{call:?}");
        methods.insert(call.method);
    }
    assert_eq!(methods.into_iter().collect::<Vec<_>>(), ["GET", "PATCH", "POST", "PUT"]);
}
