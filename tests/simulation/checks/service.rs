//! The Service: its fence never falls, and whoever turns it is the term's own node.

use super::{Check, Checks};
use crate::api::{Conditions, ServiceFacts};
use crate::routes;

impl Checks {
    pub fn route_sent(&mut self, node: usize, conditions: Option<Conditions>) {
        if let Some(conditions) = conditions {
            self.require(conditions.version && conditions.uid, Check::Conditional, || {
                format!("node {node} patches the Service with {conditions:?}")
            });
        }
    }

    /// A node's patch was applied.
    pub fn routed(&mut self, node: usize, before: Option<&ServiceFacts>, after: Option<&ServiceFacts>) {
        let Some(after) = after else { return };
        let Some(fence) = &after.fence else {
            return self.fail(Check::Route, || format!("node {node} turns the Service without signing it"));
        };
        if let Some(theirs) = before.and_then(|before| before.fence.as_ref()) {
            let falls = fence.token < theirs.token && theirs.token <= before.map_or(0, |before| before.version);
            self.require(!falls, Check::Route, || {
                format!("node {node} turns the Service from {theirs:?} to {fence:?}")
            });
        }
        let own = self.history.term(fence.token).is_some_and(|term| term.node == node);
        self.require(own, Check::Route, || format!("node {node} signs the Service with {fence:?}, not its own term"));
        self.require(after.target == Some(routes::value(node)), Check::Route, || {
            format!("node {node} points the Service at {:?}", after.target)
        });
    }

    /// Nothing is wrong any more: the Service points at the leader and says by whose leave.
    pub fn settled_on(&mut self, leader: usize, token: u128, service: Option<&ServiceFacts>) {
        let right = service.is_some_and(|service| {
            service.target == Some(routes::value(leader))
                && service.fence.as_ref().is_some_and(|fence| fence.token == token)
        });
        self.require(right, Check::Route, || {
            format!("node {leader} leads in term {token}, the Service is {service:?}")
        });
    }
}
