//! What goes wrong with nodes, clocks and the network, and what operators do by hand.
//!
//! PURE.

use leasehold::election::Input;

use crate::api::{Api, Edit};
use crate::checks::Writer;
use crate::clock::{MILLI, Real, SECOND, WALL_START_MICROS};
use crate::parameters::{Fault, rate, wall_offset};
use crate::world::{Event, Stimulus, World};

/// The longest duration that an operator writes into a Lease.
pub const LONGEST_EDITED_SECONDS: u64 = 90;

impl<A: Api> World<A> {
    pub fn schedule_fault(&mut self) {
        let after = self.random.within(0..=2 * self.parameters.fault_every);
        self.schedule(after, Event::NextFault);
    }

    pub fn next_fault(&mut self) {
        if self.calm() || self.parameters.faults.is_empty() {
            return;
        }
        let fault = *self.random.pick(&self.parameters.faults);
        let node = self.random.below(self.nodes.len());
        // Whoever leads is the one to be hit more often than not.
        let leader = (0..self.nodes.len()).find(|node| self.nodes[*node].leading(self.now).is_some());
        let node = leader.filter(|_| self.random.chance(400)).unwrap_or(node);
        let longest = self.parameters.longest(|timing| timing.lease_duration());
        let lasting = self.random.magnitude(MILLI..=3 * longest);
        self.inflict(fault, node, lasting);
        self.schedule_fault();
    }

    fn inflict(&mut self, fault: Fault, node: usize, lasting: Real) {
        match fault {
            Fault::Crash => {
                self.crash(node);
                self.restart_later(node, lasting);
            }
            Fault::Shutdown => {
                self.shut_down(node);
                self.restart_later(node, lasting);
            }
            Fault::Pause => self.pause(node, lasting, false),
            Fault::Suspend => self.pause(node, lasting, true),
            Fault::Partition => self.cut_off(node, lasting),
            Fault::Outage => {
                self.note(|_| "the API server is gone".to_owned());
                self.outage = true;
                (0..self.nodes.len()).for_each(|node| self.cut_watch(node));
                self.schedule(lasting, Event::EndOutage);
            }
            Fault::CutWatch => self.cut_watch(node),
            Fault::StepWallClock => {
                let offset = wall_offset(&mut self.random);
                self.note(|_| format!("node {node}'s wall clock is off by {offset} us now"));
                self.nodes[node].clock.step_wall(offset);
            }
            Fault::ChangeClockRate => {
                let rate = rate(&mut self.random, self.parameters.fastest);
                self.note(|_| format!("node {node}'s clock runs at {rate} now"));
                self.nodes[node].clock.set_rate(self.now, rate);
                self.rearm(node);
            }
            Fault::Unfit => {
                let life = self.nodes[node].life;
                self.deliver(node, Stimulus::Input(Input::Fit(false)));
                self.schedule(lasting, Event::Fit { node, life });
            }
            Fault::WorkEnds => {
                if let Some(work) = self.nodes[node].work_number() {
                    self.work_ends(node, work);
                }
            }
            Fault::Operator => self.operate(),
            Fault::Restore => self.restore_backup(),
            Fault::UndoWrites => {
                self.note(|_| "writes of the Lease are undone for a while".to_owned());
                self.count("admission webhooks on the Lease");
                self.api.undo_writes(true);
                self.schedule(lasting, Event::EndUndoing);
            }
        }
    }

    pub fn shut_down(&mut self, node: usize) {
        self.note(|_| format!("node {node} is asked to shut down"));
        self.deliver(node, Stimulus::Input(Input::Shutdown));
    }

    /// Another process takes the place of one that is dead, or done by then.
    fn restart_later(&mut self, node: usize, after: Real) {
        let life = self.nodes[node].next_life();
        self.schedule(after, Event::Start { node, life });
    }

    fn cut_off(&mut self, node: usize, lasting: Real) {
        let cut_off = &mut self.nodes[node];
        cut_off.partitions += 1;
        let number = cut_off.partitions;
        let way = self.random.below(3);
        let cut_off = &mut self.nodes[node];
        cut_off.mute = Some(number).filter(|_| way != 0).or(cut_off.mute);
        cut_off.deaf = Some(number).filter(|_| way != 1).or(cut_off.deaf);
        let direction = ["from", "towards", "from and towards"][way];
        self.note(|_| format!("node {node} is cut off {direction} the API server"));
        if way != 1 {
            self.cut_watch(node);
        }
        self.schedule(lasting, Event::EndPartition { node, number });
    }

    fn operate(&mut self) {
        let names = self.parameters.nodes.iter().map(|node| node.name.clone()).chain(["somebody".to_owned()]);
        let names: Vec<String> = names.collect();
        let edit = match self.random.below(10) {
            0 => Edit::Delete,
            1 => Edit::Holder(None),
            2 => Edit::Holder(Some(self.random.pick(&names).clone())),
            3 => Edit::Duration(Some(
                u32::try_from(self.random.within(1..=LONGEST_EDITED_SECONDS)).expect("a short duration"),
            )),
            4 => self.random.pick(&[Edit::Duration(None), Edit::ForgetTimes]).clone(),
            5 => {
                let until = self.random.magnitude(MILLI..=30 * SECOND);
                self.schedule(until, Event::Uncoordinate);
                Edit::Strategy(true)
            }
            6 => Edit::Label(self.random.next()),
            7 => Edit::YieldTo(String::new()),
            _ => Edit::YieldTo(self.random.pick(&names).clone()),
        };
        self.count("edits by hand");
        self.edit_lease(&edit);
    }

    pub fn edit_lease(&mut self, edit: &Edit) {
        let wall = WALL_START_MICROS + i64::try_from(self.now / 1000).expect("a schedule is short");
        self.note(|_| format!("an operator: {edit:?}"));
        self.change(Writer::Operator(edit.speaks_for_the_holder()), |api| api.edit(edit, wall));
    }

    /// etcd is restored from a backup: the first time it is made, from then on restored.
    fn restore_backup(&mut self) {
        if !self.saved {
            self.saved = true;
            return self.api.save();
        }
        self.note(|_| "the API server is restored from a backup".to_owned());
        self.count("backups restored");
        self.checks.versions_rewound();
        self.change(Writer::Operator(true), |api| api.restore());
        (0..self.nodes.len()).for_each(|node| self.cut_watch(node));
    }

    /// The faults stop, and what they left behind is put right.
    pub fn heal(&mut self) {
        self.note(|_| "the faults stop".to_owned());
        self.healed = Some(self.now);
        self.outage = false;
        // As the last fault: nothing but the candidates themselves makes the watches speak again. Before the server's
        // misbehaviour ends, because it is saved with the rest of the server.
        if self.saved {
            self.restore_backup();
        }
        self.misbehaves = false;
        self.api.undo_writes(false);
        self.api.misbehave(None);
        for node in &mut self.nodes {
            node.deaf = None;
            node.mute = None;
        }
        self.edit_lease(&Edit::Strategy(false));
        self.wake_all();
        for node in 0..self.nodes.len() {
            self.cut_watch(node);
            self.deliver(node, Stimulus::Input(Input::Fit(true)));
            let life = self.nodes[node].next_life();
            let after = self.random.within(0..=SECOND);
            self.schedule(after, Event::Start { node, life });
        }
        self.retire_foreign();
    }
}
