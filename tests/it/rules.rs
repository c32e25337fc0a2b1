//! The rules that a Role must hold for every call of `src/kube/request.rs` to work, one line for each grant. `api_calls`
//! holds them to the calls, other modules hold manifests and servers to them.

use leasehold::kube::{Resource, Verb};

pub const RULES: &[Rule] = &[
    Rule { resource: Resource::Lease, verb: Verb::Get, by_name: true, needed: Needed::Always },
    Rule { resource: Resource::Lease, verb: Verb::Update, by_name: true, needed: Needed::Always },
    Rule { resource: Resource::Lease, verb: Verb::Watch, by_name: true, needed: Needed::Optional },
    // A name does not exist yet when it is created: RBAC cannot restrict `create` by name.
    Rule { resource: Resource::Lease, verb: Verb::Create, by_name: false, needed: Needed::Optional },
    // A Deployment's Pod names are not known beforehand.
    Rule { resource: Resource::Pod, verb: Verb::Get, by_name: false, needed: Needed::ForRouting },
    Rule { resource: Resource::Pod, verb: Verb::Patch, by_name: false, needed: Needed::ForRouting },
    Rule { resource: Resource::Service, verb: Verb::Get, by_name: true, needed: Needed::ForRouting },
    Rule { resource: Resource::Service, verb: Verb::Patch, by_name: true, needed: Needed::ForRouting },
    Rule { resource: Resource::Service, verb: Verb::Watch, by_name: true, needed: Needed::ForRouting },
    Rule { resource: Resource::Event, verb: Verb::Create, by_name: false, needed: Needed::Optional },
];

/// One grant in a Role.
pub struct Rule {
    pub resource: Resource,
    pub verb: Verb,
    /// Whether it can be restricted with `resourceNames`.
    pub by_name: bool,
    pub needed: Needed,
}

/// When a [`Rule`] is needed.
pub enum Needed {
    /// There is no election without it.
    Always,
    /// With SERVICE_NAME set.
    ForRouting,
    /// It works without, less well; what is lost is said in the function's text.
    Optional,
}
