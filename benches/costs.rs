//! What the steps of an election cost in computing, each beside a reference measured in the same run.
//!
//! `cargo bench --bench costs`. The ratio is what to compare: it depends little on the machine, the absolute times do.
//! The reference is what nobody who reads and writes JSON can do without: parsing one Lease into a tree of values
//! and writing that tree out again, with serde_json alone.

use std::hint::black_box;
use std::io::BufReader;
use std::time::{Duration, Instant};

use leasehold::election::{
    Annotations, Answer, Content, Election, Identity, Input, LeaseRequest, Output, Record, Snapshot, Timing, Version,
};
use leasehold::kube::watch::next_line;
use leasehold::kube::{Lease, Purpose, WatchEvent, request};
use leasehold::time::{BootTime, Now, WallTime};
use serde_json::{Value, json};

/// A batch is long against the clock's grain and short against the scheduler's.
const BATCH: Duration = Duration::from_millis(5);
const BATCHES: usize = 100;

/// The time that one `work` takes: of the quickest batch, because whatever disturbs a batch only makes it longer.
fn measure(mut work: impl FnMut()) -> Duration {
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed() < BATCH {
        work();
        count += 1;
    }
    let quickest = (0..BATCHES).map(|_| {
        let begun = Instant::now();
        (0..count).for_each(|_| work());
        begun.elapsed()
    });
    quickest.min().unwrap_or_default() / count
}

struct Table {
    reference: Duration,
}

impl Table {
    fn row(&self, name: &str, work: impl FnMut()) {
        let time = measure(work);
        let ratio = time.as_secs_f64() / self.reference.as_secs_f64();
        println!("{name:44} {:>9.0} ns {ratio:>8.3}", time.as_secs_f64() * 1e9);
    }
}

/// As an API server sends it: what a human applied, and what its managers left behind.
fn lease() -> String {
    let applied = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"web"}}"#;
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": "web", "namespace": "default", "uid": "7f0c0b0e-3f60-4c0b-9d4e-0f6f3c1f2a11",
            "resourceVersion": "8123", "creationTimestamp": "2026-11-22T15:00:00Z",
            "labels": { "app.kubernetes.io/name": "web", "team": "a" },
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": applied,
                "leasehold.dev/incarnation": "f2b1c9a4-6a40-4a0e-8f43-6a8d8a2f1b55",
            },
            "managedFields": [{
                "manager": "leasehold", "operation": "Update", "apiVersion": "coordination.k8s.io/v1",
                "time": "2026-11-22T15:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": { "f:holderIdentity": {}, "f:leaseDurationSeconds": {}, "f:renewTime": {} } },
            }],
        },
        "spec": {
            "holderIdentity": "web-7d4b9c6f5-x2x4z", "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "acquireTime": "2026-11-22T15:00:00.000001Z", "renewTime": "2026-11-22T15:04:05.123456Z",
        },
    })
    .to_string()
}

fn main() {
    let text = lease();
    let bytes = text.as_bytes();
    let reference = measure(|| {
        let value: Value = serde_json::from_slice(black_box(bytes)).expect("it is JSON");
        black_box(value.to_string());
    });
    println!("{:44} {:>9}    {:>8}", "", "time", "ratio");
    println!(
        "{:44} {:>9.0} ns {:>8.3}",
        "reference: JSON of a Lease, read and written",
        reference.as_secs_f64() * 1e9,
        1.0
    );
    let table = Table { reference };
    election(&table);
    kube(&table, &text);
}

const SECOND: Duration = Duration::from_secs(1);

/// A moment so long after the beginning, on both clocks.
fn at(since: Duration) -> Now {
    let micros = i64::try_from(since.as_micros()).expect("a short span");
    Now { boot: BootTime(0) + since, wall: WallTime(1_795_359_845_000_000 + micros) }
}

/// Drains the outputs; the call among them, if there is one.
fn outputs(election: &mut Election) -> Option<(u64, LeaseRequest)> {
    let mut asked = None;
    loop {
        match election.poll() {
            Output::Call { call, request, .. } => asked = Some((call, request)),
            Output::WaitUntil(_) => return asked,
            _ => {}
        }
    }
}

fn snapshot(version: Version, content: Content) -> Snapshot {
    let Content { record, annotations } = content;
    Snapshot { uid: "7f0c0b0e".to_owned(), version, record, annotations, coordinated: false }
}

/// The pure steps that a leader and a candidate take all day.
fn election(table: &Table) {
    let timing = Timing::new(15 * SECOND, 10 * SECOND, 2 * SECOND, None).expect("the defaults");
    let identity = Identity { name: "web-0".to_owned(), incarnation: "f2b1c9a4".to_owned(), revision: None };

    let mut leader = Election::new(identity.clone(), timing, 1);
    leader.handle(at(Duration::ZERO), Input::Timer);
    let (call, _) = outputs(&mut leader).expect("a look");
    leader.handle(at(Duration::ZERO), Input::Reply { call, result: Ok(Answer::Absent) });
    let (call, request) = outputs(&mut leader).expect("an attempt");
    let LeaseRequest::Create(content) = request else { panic!("there was no Lease") };
    let written = Answer::Written { lease: snapshot(1, content), created: true };
    leader.handle(at(Duration::ZERO), Input::Reply { call, result: Ok(written) });
    outputs(&mut leader);
    let (mut now, mut version) = (Duration::ZERO, 1);
    table.row("election: a renewal and its answer", || {
        now += 5 * SECOND;
        leader.handle(at(now), Input::Timer);
        let Some((call, LeaseRequest::Replace { content, .. })) = outputs(&mut leader) else { panic!("no renewal") };
        version += 1;
        let written = Answer::Written { lease: snapshot(version, content), created: false };
        leader.handle(at(now), Input::Reply { call, result: Ok(written) });
        black_box(outputs(&mut leader));
    });

    let mut candidate = Election::new(identity, timing, 2);
    candidate.handle(at(Duration::ZERO), Input::Timer);
    let (call, _) = outputs(&mut candidate).expect("a look");
    candidate.handle(at(Duration::ZERO), Input::Reply { call, result: Ok(Answer::Absent) });
    let (mut now, mut version) = (Duration::ZERO, 1);
    table.row("election: a rival's renewal is seen", || {
        (now, version) = (now + 5 * SECOND, version + 1);
        let record = Record {
            holder: Some("web-1".to_owned()),
            lease_duration_seconds: Some(15),
            acquire_time: Some(at(Duration::ZERO).wall),
            renew_time: Some(at(now).wall),
            transitions: 1,
        };
        candidate
            .handle(at(now), Input::Seen(snapshot(version, Content { record, annotations: Annotations::default() })));
        black_box(outputs(&mut candidate));
    });
}

/// The bytes that come in and go out.
fn kube(table: &Table, text: &str) {
    let bytes = text.as_bytes();
    table.row("Lease: parse", || drop(black_box(Lease::parse(black_box(bytes)))));

    let lease = Lease::parse(bytes).expect("it is a Lease");
    let snapshot = lease.snapshot.clone();
    let mut renewed = Content { record: snapshot.record, annotations: snapshot.annotations };
    renewed.record.renew_time = Some(WallTime(1_795_359_850_000_000));
    table.row("renewal: the request to be sent", || {
        let object = lease.with(black_box(&renewed));
        drop(black_box(request::replace_lease("default", "web", &object, Purpose::Renew)));
    });
    table.row("renewal: the answer read, the next one built", || {
        let lease = Lease::parse(black_box(bytes)).expect("it is a Lease");
        let object = lease.with(&renewed);
        drop(black_box(request::replace_lease("default", "web", &object, Purpose::Renew)));
    });

    let event = format!("{{\"type\":\"MODIFIED\",\"object\":{text}}}\n");
    let watch = request::watch_lease("default", "web", 1, Duration::from_secs(300), Purpose::Observe);
    table.row("watch: an event, in pieces of 512 bytes", || {
        let mut stream = BufReader::with_capacity(512, black_box(event.as_bytes()));
        while let Ok(Some(line)) = next_line(&mut stream) {
            if let Ok(WatchEvent::Modified(_, object)) = WatchEvent::parse(&watch, &line) {
                drop(black_box(Lease::from_object(object)));
            }
        }
    });
    table.row("a request without a body", || {
        drop(black_box(request::get_lease(black_box("default"), "web", Purpose::Observe)));
    });
    table.row("MicroTime: read and written", || {
        let time = WallTime::parse(black_box("2026-11-22T15:04:05.123456Z")).expect("it is a time");
        black_box(time.to_string());
    });
}
