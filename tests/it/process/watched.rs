//! Every version of the Leases or Services of a namespace, as a watch tells them: the same on either API server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use leasehold::time::WallTime;
use leasehold_apiserver::client::{Client, Target};
use serde_json::Value;

use super::LIMIT;

/// The server ends a watch after so many seconds; the next goes on from there.
const LASTING: u32 = 10;

/// All versions so far, in order.
pub(crate) struct Watched(Arc<Shared>);

#[derive(Default)]
struct Shared {
    versions: Mutex<Vec<Version>>,
    news: Condvar,
    over: AtomicBool,
}

#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) deleted: bool,
    pub(crate) object: Value,
}

impl Watched {
    /// `collection`: the path of the Leases or Services of a namespace.
    pub(crate) fn new(operator: &Target, collection: &str) -> Watched {
        let shared = Arc::new(Shared::default());
        let (watcher, operator, collection) = (Arc::clone(&shared), operator.clone(), collection.to_owned());
        let list = Client::connect(&operator).and_then(|mut client| client.request("GET", &collection, "", b""));
        let mut from = list.expect("a list").version().parse().expect("a version");
        thread::spawn(move || {
            while !watcher.over.load(Ordering::Relaxed) {
                // A watch that breaks is begun anew: the server may be stopped by the test.
                let _ = watcher.follow(&operator, &collection, &mut from);
            }
        });
        Watched(shared)
    }

    /// Waits until the versions so far (and whether each is a deletion) hold something.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut(&[Version]) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut versions = self.0.versions.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&versions) {
                return found;
            }
            assert!(begun.elapsed() < LIMIT, "never came about: {what}; there was {versions:#?}");
            let pause = Duration::from_secs(1);
            versions = self.0.news.wait_timeout(versions, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All versions up to the one that the operator has just read, and those since.
    #[track_caller]
    pub(crate) fn all_up_to(&self, version: u128) -> Vec<Version> {
        self.wait(&format!("version {version}"), |versions| {
            let last = versions.last().map_or(0, Version::number);
            (last >= version).then(|| versions.to_vec())
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn follow(&self, operator: &Target, collection: &str, from: &mut u128) -> std::io::Result<()> {
        let path = format!("{collection}?watch=true&resourceVersion={from}&timeoutSeconds={LASTING}");
        let mut watch = Client::connect(operator)?.watch(&path)?;
        while let Some(event) = watch.next()? {
            if event["type"] == "ERROR" {
                // The server has forgotten what was before its restart. There is no going on from here.
                self.over.store(true, Ordering::Relaxed);
                return Ok(());
            }
            let version = Version { deleted: event["type"] == "DELETED", object: event["object"].clone() };
            *from = version.number();
            self.versions.lock().unwrap_or_else(PoisonError::into_inner).push(version);
            self.news.notify_all();
        }
        Ok(())
    }
}

impl Version {
    pub(crate) fn number(&self) -> u128 {
        number(&self.object)
    }

    pub(crate) fn lease(&self) -> Lease {
        Lease::of(&self.object)
    }

    pub(crate) fn service(&self) -> Service {
        Service::of(&self.object)
    }
}

/// `metadata.resourceVersion`.
pub(crate) fn number(object: &Value) -> u128 {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("a version: {object}"))
}

/// What the tests look at in a Lease.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Lease {
    pub(crate) uid: String,
    pub(crate) version: u128,
    /// Empty: vacant.
    pub(crate) holder: String,
    pub(crate) duration: u64,
    pub(crate) acquired: Option<WallTime>,
    pub(crate) renewed: Option<WallTime>,
    pub(crate) transitions: u64,
    pub(crate) annotations: Value,
}

impl Lease {
    /// The election fields.
    pub(crate) fn record(&self) -> impl PartialEq + '_ {
        (&self.uid, &self.holder, self.duration, self.acquired, self.renewed, self.transitions)
    }

    pub(crate) fn of(object: &Value) -> Lease {
        let spec = &object["spec"];
        let time = |key: &str| spec[key].as_str().and_then(WallTime::parse);
        Lease {
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            version: number(object),
            holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
            duration: spec["leaseDurationSeconds"].as_u64().unwrap_or_default(),
            acquired: time("acquireTime"),
            renewed: time("renewTime"),
            transitions: spec["leaseTransitions"].as_u64().unwrap_or_default(),
            annotations: object["metadata"]["annotations"].clone(),
        }
    }
}

/// What the tests look at in a Service.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Service {
    pub(crate) selector: Value,
    /// The annotation, as it is.
    pub(crate) fence: Option<String>,
}

impl Service {
    pub(crate) fn of(object: &Value) -> Service {
        Service {
            selector: object["spec"]["selector"].clone(),
            fence: object["metadata"]["annotations"]["leasehold.dev/fence"].as_str().map(str::to_owned),
        }
    }

    /// Where the routing key points.
    pub(crate) fn target(&self) -> Option<&str> {
        self.selector["pod"].as_str()
    }

    /// The fence's last part.
    pub(crate) fn token(&self) -> Option<u128> {
        self.fence.as_ref()?.rsplit('/').next()?.parse().ok()
    }
}
