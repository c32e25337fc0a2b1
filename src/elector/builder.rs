//! [`ElectorBuilder`]: everything an elector is told, checked all at once.
//!
//! IO: where a POD_UID is given, binds a socket that nobody connects to ([`Incarnation`]).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::callbacks::{Callbacks, Notice};
use super::{Elector, Stopped};
use crate::election::{Event, Identity, Timing};
use crate::environment::value::{dns_label, dns_subdomain, visible};
use crate::environment::{Mistake, Mistakes};
use crate::kube::{Client, ClientOptions, CredentialsError};
use crate::runtime::inbox::Inbox;
use crate::runtime::incarnation::Incarnation;
use crate::runtime::{Leadership, Setup};

/// Makes an [`Elector`]; from [`Elector::in_cluster`] or [`Elector::builder`].
pub struct ElectorBuilder {
    api: ClientOptions,
    namespace: String,
    lease: String,
    identity: String,
    pub(super) pod_uid: Option<String>,
    pub(super) pod_revision: Option<String>,
    lease_duration: Duration,
    renewal_deadline: Duration,
    retry_period: Duration,
    /// `None`: half of the renewal deadline, whatever that will be.
    renew_interval: Option<Duration>,
    callbacks: Callbacks,
}

/// Why an election cannot begin.
#[derive(Debug)]
#[non_exhaustive]
pub enum ElectorError {
    /// What is wrong with the settings: all of it, a line for each thing.
    Settings(Mistakes),
    /// The service account's files are not what they must be.
    Credentials(CredentialsError),
    /// The API server's URL or the audit log cannot be used.
    Api(String),
    /// The kernel refuses something.
    System {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

impl fmt::Display for ElectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElectorError::Settings(mistakes) => mistakes.fmt(f),
            ElectorError::Credentials(error) => error.fmt(f),
            ElectorError::Api(problem) => f.write_str(problem),
            ElectorError::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for ElectorError {}

impl Elector {
    /// A candidate called `identity` (unique among the candidates: the Pod's name, say) for the Lease
    /// `namespace/lease` of the API server that `api` describes.
    ///
    /// In a Pod, [`Elector::in_cluster`] finds all that out by itself. This is for elsewhere; here through
    /// `kubectl proxy`:
    ///
    /// ```
    /// use leasehold::{Elector, kube::ClientOptions};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let api = ClientOptions::new("http://127.0.0.1:8001");
    /// let elector = Elector::builder(api, "default", "nightly-report", "laptop")
    ///     .lease_duration(Duration::from_secs(30))
    ///     .renewal_deadline(Duration::from_secs(20))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(
        api: ClientOptions,
        namespace: impl Into<String>,
        lease: impl Into<String>,
        identity: impl Into<String>,
    ) -> ElectorBuilder {
        let timing = Timing::default();
        ElectorBuilder {
            api,
            namespace: namespace.into(),
            lease: lease.into(),
            identity: identity.into(),
            pod_uid: None,
            pod_revision: None,
            lease_duration: timing.lease_duration(),
            renewal_deadline: timing.renewal_deadline(),
            retry_period: timing.retry_period(),
            renew_interval: None,
            callbacks: Callbacks::default(),
        }
    }
}

impl ElectorBuilder {
    /// All four durations, checked already.
    pub fn timing(self, timing: Timing) -> ElectorBuilder {
        let interval = timing.renew_interval();
        let builder = self
            .lease_duration(timing.lease_duration())
            .renewal_deadline(timing.renewal_deadline())
            .retry_period(timing.retry_period());
        ElectorBuilder { renew_interval: (interval != timing.renewal_deadline() / 2).then_some(interval), ..builder }
    }

    /// How long rivals wait without a sign of life before they take over: whole seconds. Default: 15 s, as client-go's.
    pub fn lease_duration(mut self, duration: Duration) -> ElectorBuilder {
        self.lease_duration = duration;
        self
    }

    /// How long a term is valid after its last acknowledged renewal was sent: less than the lease duration. Default:
    /// 10 s, as client-go's.
    pub fn renewal_deadline(mut self, deadline: Duration) -> ElectorBuilder {
        self.renewal_deadline = deadline;
        self
    }

    /// Between tries that failed: less than the renewal deadline / 1.2. Default: 2 s, as client-go's.
    pub fn retry_period(mut self, period: Duration) -> ElectorBuilder {
        self.retry_period = period;
        self
    }

    /// Between renewals: at most half of the renewal deadline, which is the default.
    pub fn renew_interval(mut self, interval: Duration) -> ElectorBuilder {
        self.renew_interval = Some(interval);
        self
    }

    /// The name in the Lease's HOLDER column, unique among the candidates.
    pub fn identity(mut self, identity: impl Into<String>) -> ElectorBuilder {
        self.identity = identity.into();
        self
    }

    /// The Pod's uid (downward API): a container that restarts in its Pod then takes its lease back at once, instead
    /// of waiting for it to expire.
    pub fn pod_uid(mut self, uid: impl Into<String>) -> ElectorBuilder {
        self.pod_uid = Some(uid.into());
        self
    }

    /// The Pod's revision (downward API: the label `pod-template-hash` or `controller-revision-hash`): in a rollout the
    /// Lease then goes to a Pod that stays.
    pub fn pod_revision(mut self, revision: impl Into<String>) -> ElectorBuilder {
        self.pod_revision = Some(revision.into());
        self
    }

    /// Called when a term begins, before the work. As all callbacks: in the order of what happened, once each, on a
    /// thread that no renewal waits for; of several given, each. A panic ends the election, and [`Elector::run`] passes it
    /// on.
    pub fn on_started(self, mut callback: impl FnMut(&Leadership) + Send + 'static) -> ElectorBuilder {
        self.on(move |notice| {
            if let Notice::Started(leadership) = notice {
                callback(leadership);
            }
        })
    }

    /// Called when a term ends, whether the work has returned or not.
    pub fn on_stopped(self, mut callback: impl FnMut(&Stopped) + Send + 'static) -> ElectorBuilder {
        self.on(move |notice| {
            if let Notice::Event(Event::StoppedLeading { token, why }) = notice {
                callback(&Stopped { fencing_token: *token, why: why.clone() });
            }
        })
    }

    /// Called when another candidate is seen to hold the Lease than before, or none; also when it is this one.
    pub fn on_new_leader(self, mut callback: impl FnMut(Option<&str>) + Send + 'static) -> ElectorBuilder {
        self.on(move |notice| {
            if let Notice::Event(Event::LeaderChanged(leader)) = notice {
                callback(leader.as_deref());
            }
        })
    }

    fn on(mut self, callback: impl FnMut(&Notice) + Send + 'static) -> ElectorBuilder {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// The elector; it makes no call before [`Elector::run`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong with names and durations at once; or `api` names no usable API server; or the kernel
    /// refuses what the threads need.
    ///
    /// ```
    /// # use leasehold::{Elector, kube::ClientOptions};
    /// # use std::time::Duration;
    /// # let api = ClientOptions::new("http://127.0.0.1:8001");
    /// let refused = Elector::builder(api, "default", "Nightly Report", "pod-a")
    ///     .lease_duration(Duration::from_secs(10))
    ///     .build()
    ///     .unwrap_err();
    /// let text = refused.to_string();
    /// assert!(text.contains(r#"lease="Nightly Report": not a valid name"#), "{text}");
    /// assert!(text.contains(r#"LEASE_DURATION="10s": must be more than RENEWAL_DEADLINE (10s)"#), "{text}");
    /// ```
    pub fn build(self) -> Result<Elector, ElectorError> {
        let timing = self.checked().map_err(ElectorError::Settings)?;
        let ElectorBuilder { api, namespace, lease, identity, pod_uid, pod_revision, callbacks, .. } = self;
        let client = Arc::new(Client::new(api).map_err(ElectorError::Api)?);
        let inbox = Inbox::new().map_err(|error| ElectorError::System { what: "the election's inbox", error })?;
        let incarnation = Incarnation::of(pod_uid.as_deref(), &format!("{namespace}/{lease}"));
        let identity = Identity { name: identity, incarnation: incarnation.name.clone(), revision: pod_revision };
        let setup = Setup { namespace, lease, identity, timing, client, inbox };
        Ok(Elector { setup, callbacks, incarnation })
    }

    fn checked(&self) -> Result<Timing, Mistakes> {
        let names = [
            ("namespace", Some(&self.namespace), dns_label as fn(&str) -> Result<String, String>),
            ("lease", Some(&self.lease), dns_subdomain),
            ("identity", Some(&self.identity), visible),
            ("pod_uid", self.pod_uid.as_ref(), visible),
            ("pod_revision", self.pod_revision.as_ref(), visible),
        ];
        let mut mistakes = Vec::new();
        for (name, given, parse) in names {
            let problem = given.and_then(|given| parse(given).err());
            mistakes.extend(problem.map(|problem| Mistake::new(name, given.map(String::as_str), problem)));
        }
        let timing = Timing::new(self.lease_duration, self.renewal_deadline, self.retry_period, self.renew_interval);
        for error in timing.as_ref().err().into_iter().flatten() {
            mistakes.push(Mistake::new(error.setting, Some(&format!("{:?}", error.value)), &*error.problem));
        }
        timing.ok().filter(|_| mistakes.is_empty()).ok_or(Mistakes(mistakes))
    }
}

impl fmt::Debug for ElectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ElectorBuilder({} for {}/{})", self.identity, self.namespace, self.lease)
    }
}
