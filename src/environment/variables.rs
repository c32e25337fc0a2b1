//! The one table of variables, in the order in which people look for them.
//!
//! PURE. `Elector` and the program read the environment through this table only, `--help` prints it, and a test holds
//! `docs/reference.md` to it: what is documented, what is read and what applies when nothing is set are one thing.

use self::Fallback::{Described, Required, Value};

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name in the environment.
    pub name: &'static str,
    /// What holds when it is unset or empty.
    pub default: Fallback,
    /// What it is for, in a sentence or two.
    pub meaning: &'static str,
}

/// What holds when a variable is unset or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing can stand in for it.
    Required,
    /// This text, read exactly as if it had been set.
    Value(&'static str),
    /// Something that depends on the rest, in words.
    Described(&'static str),
}

impl Fallback {
    /// The text of the column "default".
    pub fn text(self) -> &'static str {
        match self {
            Fallback::Required => "required",
            Fallback::Value(text) | Fallback::Described(text) => text,
        }
    }
}

/// Declares each variable as a constant (name, default, meaning), and the list of all of them.
macro_rules! variables {
    ($($name:ident: $default:expr, $meaning:literal;)*) => {
        $(#[allow(missing_docs, reason = "the meaning says it")]
        pub const $name: Variable = Variable { name: stringify!($name), default: $default, meaning: $meaning };)*
        /// Every variable that leasehold reads.
        pub const VARIABLES: &[Variable] = &[$($name),*];
    };
}

variables! {
    LEASE_NAME: Required,
        "The Lease to elect through. It has no default: two programs that share one by accident would keep each other from leading.";
    LEASE_NAMESPACE: Described("the service account's namespace file"),
        "The namespace of the Lease, and of the Pod and the Service.";
    LEASE_DURATION: Value("15"),
        "How long rivals wait without a sign of life before they take over. Whole seconds.";
    RENEWAL_DEADLINE: Value("10"),
        "How long a leader tries to renew, counted from its last successful write, before it stops.";
    RETRY_PERIOD: Value("2"),
        "The wait between tries after a failure, and between polls where a watch is not possible.";
    RENEW_INTERVAL: Described("half of RENEWAL_DEADLINE"),
        "The wait between renewals.";
    POD_NAME: Described("HOSTNAME"),
        "The identity, as shown in the Lease's HOLDER column. Give it by the downward API (metadata.name).";
    HOSTNAME: Described("none"),
        "The identity when POD_NAME is unset. The container runtime sets it.";
    POD_UID: Described("none"),
        "This Pod's uid by the downward API (metadata.uid): a restarted container takes its lease back at once.";
    POD_REVISION: Described("none"),
        "This Pod's revision by the downward API (the label pod-template-hash or controller-revision-hash): in a rollout the Lease goes to a Pod that stays.";
    SERVICE_NAME: Described("none: no routing"),
        "The Service to point at the leader.";
    ROUTE_LABEL: Value("pod"),
        "The label key on Pods, and the selector key on the Service.";
    PORT: Value("8080"),
        "The HTTP port. 0 takes any free one and logs it.";
    TASK_INTERVAL: Value("1"),
        "The wait between two runs of the built-in leader loop.";
    HEALTH_URL: Described("none: no health gate"),
        "Campaign, and go on leading, only while this answers 2xx. http:// to a loopback address.";
    HEALTH_INTERVAL: Value("2"),
        "The wait between two health checks.";
    HEALTH_FAILURES: Value("3"),
        "How many failed checks in a row make a leader yield.";
    EVENTS: Value("on"),
        "Kubernetes Events on the Lease: on or off.";
    DRAIN_TIMEOUT: Value("5"),
        "How long HTTP is still answered after a release while the Service points here. 0: not at all.";
    KUBERNETES_SERVICE_HOST: Described("set in every Pod"),
        "The API server's address: an IPv4 or IPv6 address or localhost. Where it is a name, which is not resolved, KUBERNETES_PORT_443_TCP_ADDR is used.";
    KUBERNETES_SERVICE_PORT: Described("set in every Pod"),
        "The API server's port.";
    KUBERNETES_PORT_443_TCP_ADDR: Described("set in every Pod"),
        "The API server's address where KUBERNETES_SERVICE_HOST is a name.";
    KUBE_API_URL: Described("none"),
        "The API server's URL in place of the three above: https://ADDRESS:PORT, or http://LOOPBACK:PORT for kubectl proxy, to which no token is sent.";
    SERVICE_ACCOUNT_DIR: Value("/var/run/secrets/kubernetes.io/serviceaccount"),
        "The directory that holds token, ca.crt and namespace.";
    AUDIT_LOG: Value("off"),
        "One JSON line for each API call: off, stdout, stderr or a file.";
    RUST_LOG: Value("info"),
        "What is logged: off, error, warn, info or debug, or MODULE=LEVEL, separated by commas.";
    LOG_FORMAT: Value("text"),
        "How it is logged: text, or json for machines.";
}
