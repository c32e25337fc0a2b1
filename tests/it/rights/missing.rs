//! Each right of the shipped Role taken away in turn: the program says exactly what is missing, once, and does the rest.

use leasehold::kube::request::{Resource, Verb};
use serde_json::{Value, json};

use super::{ends, is_untouched, told, wait_for_label};
use crate::audit;
use crate::manifests;
use crate::process::{LEASE, Pace, Process, Program, SERVICE, World, eventually};
use crate::rules::RULES;

/// What is taken away, and what becomes of the program then.
pub(crate) struct Right {
    taken: Taken,
    /// The call that misses it.
    resource: Resource,
    verb: Verb,
    then: fn(&World, &Process),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The verb.
    Verb,
    /// The object's name: the rule names another one.
    Name,
}

const fn verb(resource: Resource, verb: Verb, then: fn(&World, &Process)) -> Right {
    Right { taken: Taken::Verb, resource, verb, then }
}

const fn name(resource: Resource, then: fn(&World, &Process)) -> Right {
    Right { taken: Taken::Name, resource, verb: Verb::Get, then }
}

pub(crate) const RIGHTS: &[Right] = &[
    verb(Resource::Lease, Verb::Get, nobody_leads_until_it_is_granted),
    verb(Resource::Lease, Verb::Update, it_follows_and_does_not_lead_until_it_is_granted),
    verb(Resource::Lease, Verb::Watch, a_hand_over_is_seen_by_polling),
    verb(Resource::Lease, Verb::Create, it_leads_once_somebody_has_made_the_lease),
    verb(Resource::Pod, Verb::Get, it_labels_without_looking),
    verb(Resource::Pod, Verb::Patch, it_routes_by_a_label_that_is_there),
    verb(Resource::Service, Verb::Get, it_leads_and_routes_when_it_is_granted),
    verb(Resource::Service, Verb::Patch, it_leads_and_routes_when_it_is_granted),
    verb(Resource::Service, Verb::Watch, an_edit_is_seen_by_polling),
    verb(Resource::Event, Verb::Create, it_tells_nothing),
    name(Resource::Lease, nobody_leads_until_it_is_granted),
    name(Resource::Service, it_leads_and_routes_when_it_is_granted),
];

impl Right {
    /// What it is called in the list of scenarios.
    pub(crate) fn title(&self) -> String {
        match self.taken {
            Taken::Verb => format!("without {} on {}", self.verb.as_str(), self.resource.plural()),
            Taken::Name => format!("with {} of another name", self.resource.plural()),
        }
    }

    /// The shipped Role without it.
    fn role(&self) -> Value {
        let mut role = manifests::object("Role");
        let rules = role["rules"].as_array_mut().expect("rules");
        for rule in rules.iter_mut().filter(|rule| rule["resources"] == json!([self.resource.plural()])) {
            match self.taken {
                Taken::Verb => {
                    rule["verbs"].as_array_mut().expect("verbs").retain(|verb| *verb != self.verb.as_str());
                }
                Taken::Name if rule.get("resourceNames").is_some() => rule["resourceNames"] = json!(["another"]),
                Taken::Name => {}
            }
        }
        rules.retain(|rule| rule["verbs"] != json!([]));
        role
    }

    /// The rule in the words of a Role, as somebody must add it.
    fn lacks(&self) -> String {
        let by_name = RULES.iter().any(|rule| {
            let Right { resource, verb, .. } = self;
            rule.by_name && (rule.resource, rule.verb) == (*resource, *verb)
        });
        let name = match self.resource {
            _ if !by_name => String::new(),
            Resource::Lease => format!(", resourceNames: [{LEASE}]"),
            _ => format!(", resourceNames: [{SERVICE}]"),
        };
        let (group, plural, verb) = (self.resource.group(), self.resource.plural(), self.verb.as_str());
        format!("apiGroups: [{group:?}], resources: [{plural}]{name}, verbs: [{verb}]")
    }

    /// How the line begins, or how it ends.
    fn form(&self) -> (&'static str, &'static str) {
        match (self.resource, self.verb) {
            (_, Verb::Watch) => ("cannot watch ", ""),
            (Resource::Event, _) => ("no Events will be written (EVENTS=off avoids the attempt): ", ""),
            _ => ("", "; trying again"),
        }
    }
}

/// Starts a candidate without this right, hears what it says, sees what it does. A row for people.
pub(crate) fn take_away(world: &World, right: &Right) {
    world.make_service();
    if right.verb != Verb::Create || right.resource != Resource::Lease {
        world.make_lease(&json!({}));
    }
    let program = candidate(world, "pod-a");
    let token = std::fs::read_to_string(world.file("account-of-pod-a").join("token")).expect("a token");
    world.grant("pod-a", &right.role());
    let process = program.start();
    let lacks = format!("the ServiceAccount's Role in namespace {} lacks {}", world.namespace, right.lacks());
    let said = process.says(&lacks);
    let (begin, end) = right.form();
    assert!(said.contains(begin) && said.ends_with(&format!("{}{end}", right.lacks())), "{said}");
    assert!(said.contains(": 403 Forbidden: ") && said.contains(" /api") && said.contains(&world.namespace), "{said}");
    (right.then)(world, &process);
    ends(&process);
    let all = process.log.to_the_end();
    let complaints: Vec<_> = all.iter().filter(|line| line.contains(" lacks ") && is_said(line)).collect();
    assert_eq!(complaints, [&said], "this is said once, and nothing else is missing");
    leaked_nothing(world, &all, &token);
}

/// What people are told, and not only those who look for every call.
fn is_said(line: &str) -> bool {
    !line.contains(" DEBUG ") && !line.contains(" works again: ")
}

/// The most talkative there is. Its Lease lasts, but it renews it often: without a watch that is when it sees what it is
/// asked for.
fn candidate(world: &World, pod: &str) -> Program {
    let program = world.candidate(pod, Pace::Hours).with("RENEW_INTERVAL", "1s");
    program.with("RUST_LOG", "trace").with("DRAIN_TIMEOUT", "0")
}

/// Neither the log nor an audit log has the token, nor a body.
fn leaked_nothing(world: &World, log: &[String], token: &str) {
    let audited = world.pages().into_iter().map(|page| std::fs::read_to_string(page.file).expect("an audit log"));
    for text in audited.chain([log.join("\n")]) {
        for content in [token, "leaseDurationSeconds", "acquireTime", "Bearer", "panicked"] {
            assert!(!text.is_empty() && !content.is_empty() && !text.contains(content), "{content} is in:\n{text}");
        }
    }
}

fn grant_all(world: &World) {
    world.grant("pod-a", &manifests::object("Role"));
}

// ------------------------------------------------------------------------------------------ what works without

fn no_election(world: &World, process: &Process) {
    eventually("it counts as an answer", || (process.get("/readyz").status == 200).then_some(()));
    for (path, status) in [("/", 200), ("/healthz", 200), ("/leading", 503)] {
        assert_eq!(process.get(path).status, status, "{path}");
    }
    wait_for_label(world, "pod-a");
    let holder = world.lease().map_or_else(String::new, |lease| lease.holder);
    assert!(holder.is_empty() && is_untouched(world) && !process.said("became leader"));
}

fn nobody_leads_until_it_is_granted(world: &World, process: &Process) {
    no_election(world, process);
    grant_all(world);
    process.wait_until_it_leads();
    world.wait_for_target("pod-a");
}

fn it_follows_and_does_not_lead_until_it_is_granted(world: &World, process: &Process) {
    no_election(world, process);
    world.patch_lease(&json!({ "spec": { "holderIdentity": "pod-x", "leaseDurationSeconds": 10800 } }));
    process.says("new leader pod-x");
    assert_eq!(process.get("/leader").json()["leader"], "pod-x");
    grant_all(world);
    world.patch_lease(&json!({ "spec": { "holderIdentity": "" } }));
    process.wait_until_it_leads();
    world.wait_for_target("pod-a");
}

fn a_hand_over_is_seen_by_polling(world: &World, process: &Process) {
    process.wait_until_it_leads();
    world.wait_for_target("pod-a");
    let program = candidate(world, "pod-b");
    let Some(right) = RIGHTS.iter().find(|right| (right.resource, right.verb) == (Resource::Lease, Verb::Watch)) else {
        unreachable!("it is in the table")
    };
    world.grant("pod-b", &right.role());
    let second = program.start();
    second.says("new leader pod-a");
    second.says("cannot watch ");
    let asked = world.stranger("pod-a").without("SERVICE_NAME").args(["yield", "--to", "pod-b"]).start();
    assert_eq!(asked.exit_code(), 0, "{}", asked.log.text());
    second.wait_until_it_leads();
    world.wait_for_target("pod-b");
    ends(&second);
}

fn it_leads_once_somebody_has_made_the_lease(world: &World, process: &Process) {
    no_election(world, process);
    world.make_lease(&json!({}));
    process.wait_until_it_leads();
    world.wait_for_target("pod-a");
}

fn it_labels_without_looking(world: &World, process: &Process) {
    process.wait_until_it_leads();
    wait_for_label(world, "pod-a");
    world.wait_for_target("pod-a");
}

fn it_routes_by_a_label_that_is_there(world: &World, process: &Process) {
    process.wait_until_it_leads();
    assert!(is_untouched(world) && world.pod_label("pod-a", "pod").is_none());
    world.label_pod("pod-a", "pod", "pod-a");
    world.wait_for_target("pod-a");
}

fn it_leads_and_routes_when_it_is_granted(world: &World, process: &Process) {
    process.wait_until_it_leads();
    wait_for_label(world, "pod-a");
    assert!(is_untouched(world));
    grant_all(world);
    world.wait_for_target("pod-a");
}

fn an_edit_is_seen_by_polling(world: &World, process: &Process) {
    process.wait_until_it_leads();
    world.wait_for_target("pod-a");
    world.patch_service(&json!({ "spec": { "selector": { "pod": "pod-x" } } }));
    process.says("Service leasehold was changed to pod=pod-x while this process leads");
    world.wait_for_target("pod-a");
}

fn it_tells_nothing(world: &World, process: &Process) {
    process.wait_until_it_leads();
    world.wait_for_target("pod-a");
    assert!(told(world).is_empty());
}

// -------------------------------------------------------------------------------------------------- the tests

/// The one way to lead without `update`: to make the Lease.
pub(crate) fn a_lease_that_is_made_and_cannot_be_updated_is_led_for_one_term(world: &World) {
    let program = candidate(world, "pod-a").with("LEASE_DURATION", "3s").with("RENEWAL_DEADLINE", "2s");
    let right = RIGHTS.iter().find(|right| (right.resource, right.verb) == (Resource::Lease, Verb::Update));
    world.grant("pod-a", &right.expect("it is in the table").role());
    let process = program.with("RETRY_PERIOD", "250ms").start();
    process.says("pod-a became leader");
    process.says("pod-a stopped being leader: no renewal was acknowledged before the deadline");
    eventually("its record has run out, and it has tried to take it", || {
        let audited = std::fs::read_to_string(&world.pages()[0].file).unwrap_or_default();
        let tried = |line: &str| line.contains(r#""verb":"update""#) && line.contains(r#""why":"acquire""#);
        audited.lines().any(tried).then_some(())
    });
    assert!(!process.leads());
    grant_all(world);
    process.log.lines_with("pod-a became leader", 2);
    ends(&process);
}

#[test]
fn each_right_that_is_missing_is_named_and_missed_no_more_than_need_be() {
    for right in RIGHTS {
        audit::in_memory(|world| take_away(world, right));
    }
}

#[test]
fn without_update_one_term_may_be_led() {
    audit::in_memory(a_lease_that_is_made_and_cannot_be_updated_is_led_for_one_term);
}

#[test]
fn every_rule_and_every_name_is_taken_away_once() {
    let taken = |taken: Taken| {
        let of_kind = RIGHTS.iter().filter(move |right| right.taken == taken);
        of_kind.map(|right| (right.resource.plural(), right.verb.as_str())).collect::<Vec<_>>()
    };
    let all: Vec<_> = RULES.iter().map(|rule| (rule.resource.plural(), rule.verb.as_str())).collect();
    assert_eq!(taken(Taken::Verb), all);
    let mut named: Vec<_> = RULES.iter().filter(|rule| rule.by_name).map(|rule| rule.resource.plural()).collect();
    named.dedup();
    assert_eq!(taken(Taken::Name).iter().map(|(plural, _)| *plural).collect::<Vec<_>>(), named);
    for right in RIGHTS {
        assert_ne!(right.role(), manifests::object("Role"), "{}: nothing is taken away", right.title());
    }
}
