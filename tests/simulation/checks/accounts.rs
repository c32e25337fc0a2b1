//! Every term's beginning has its end: the work's, and the report of it.

use super::{Check, Checks};

#[derive(Debug, Default)]
pub struct Account {
    stopped: u32,
    reported: u32,
}

impl Checks {
    pub fn term_started(&mut self, node: usize, token: u128) {
        self.settled(node);
        let again = self.life_mut(node).accounts.insert(token, Account::default()).is_some();
        let rewound = self.restored; // A token may come again, and is another term's.
        self.require(!again || rewound, Check::Accounts, || format!("node {node} starts term {token} twice"));
    }

    pub fn stop_reported(&mut self, node: usize, token: u128) {
        let reported = self.life_mut(node).accounts.get_mut(&token).map(|account| {
            account.reported += 1;
            account.reported
        });
        self.require(reported == Some(1), Check::Accounts, || {
            format!("node {node} reports the end of term {token} for the {reported:?}th time")
        });
    }

    pub fn stop_told(&mut self, node: usize, token: u128) {
        let told = self.life_mut(node).accounts.get_mut(&token).map(|account| {
            account.stopped += 1;
            account.stopped
        });
        self.require(told == Some(1), Check::Accounts, || format!("node {node}'s work ended {told:?} times"));
    }

    /// Nothing that began is left open: before the next term, and when the node is done.
    pub fn settled(&mut self, node: usize) {
        let open = self.life(node).accounts.iter().find(|(_, account)| account.stopped != 1 || account.reported != 1);
        let open = open.map(|(token, account)| format!("node {node} left term {token} as {account:?}"));
        if let Some(open) = open {
            self.fail(Check::Accounts, || open);
        }
    }
}
