//! The Service: its fence never falls, and only the node of its term patches it.

use std::collections::VecDeque;
use std::time::Duration;

use leasehold::time::BootTime;

use super::{Check, Checks};
use crate::api::{Conditions, ServiceFacts};
use crate::routes;

/// So many calls about Pod and Service may be made within a retry period: two about the Pod, and for the Service three
/// tries to read and patch it, twice, as the period may begin in the middle.
const QUICK_CALLS: usize = 16;

/// When the last calls of a node's route were sent.
#[derive(Debug, Default)]
pub struct RouteCalls(VecDeque<BootTime>);

/// So many calls about the Lease may be made within a retry period: renewals, and what conflicts and edits cause.
const LEASE_CALLS: usize = 40;

impl Checks {
    /// Calls about the Lease are paced, whatever is answered.
    pub fn lease_call_sent(&mut self, node: usize, life: usize, at: BootTime, retry_period: Duration) {
        let calls = &mut self.lease_calls.entry((node, life)).or_default().0;
        calls.push_back(at);
        while calls.front().is_some_and(|first| at.since(*first) >= retry_period) {
            calls.pop_front();
        }
        let quick = calls.len();
        self.require(quick <= LEASE_CALLS, Check::Pace, || {
            format!("node {node} makes {quick} calls about the Lease within {retry_period:?}")
        });
    }

    /// A process or a term begins: its route may make calls at once.
    pub fn route_begins(&mut self, node: usize) {
        self.route_calls.entry(node).or_default().0.clear();
    }

    pub fn route_sent(&mut self, node: usize, conditions: Option<Conditions>, at: BootTime, retry_period: Duration) {
        let calls = &mut self.route_calls.entry(node).or_default().0;
        calls.push_back(at);
        while calls.front().is_some_and(|first| at.since(*first) >= retry_period) {
            calls.pop_front();
        }
        let quick = calls.len();
        self.require(quick <= QUICK_CALLS, Check::Pace, || {
            format!("node {node} makes {quick} calls about Pod and Service within {retry_period:?}")
        });
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
            return self.fail(Check::Route, || format!("node {node} patches the Service without a fence"));
        };
        if let Some(theirs) = before.and_then(|before| before.fence.as_ref()) {
            let falls = fence.token < theirs.token && theirs.token <= before.map_or(0, |before| before.version);
            self.require(!falls, Check::Route, || {
                format!("node {node} changes the fence from {theirs:?} to {fence:?}")
            });
        }
        let own = self.history.term(fence.token).is_some_and(|term| term.node == node);
        self.require(own, Check::Route, || {
            format!("node {node} annotates the Service with {fence:?}, not its own term")
        });
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
        self.require(right, Check::Settled, || {
            format!("node {leader} leads in term {token}, the Service is {service:?}")
        });
    }
}
