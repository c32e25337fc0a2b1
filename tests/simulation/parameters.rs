//! What a schedule is made of, all drawn from its seed.
//!
//! PURE.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use leasehold::election::{Mutant, Timing};

use crate::clock::{MILLI, Real, SECOND};
use crate::random::Random;

/// How long after its due instant the kernel may take to kill. Part of the margin that the clocks' rates leave.
pub const KILL_LATENCY: Real = 10 * MILLI;

/// A mistake built into every node of a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnyMutant {
    /// Of the election, the routing or the JSON.
    Election(Mutant),
    /// Of what drives it.
    Node(NodeMistake),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeMistake {
    /// `CLOCK_MONOTONIC` for `CLOCK_BOOTTIME`: the clock stands still while the machine is suspended.
    ClockStopsInSuspend,
    /// The work is killed by the process's own loop only, which a pause stops.
    NoKillTimer,
    /// "The work has stopped" is said when it was told to stop.
    StoppedWhenTold,
    /// The work is started without asking once more whether the term still holds.
    StartsUnasked,
    /// Two sandboxes with one Pod's uid count as one incarnation.
    IncarnationWithoutNamespace,
}

#[derive(Clone, Debug)]
pub struct NodeParameters {
    pub name: String,
    pub timing: Timing,
    /// Boot nanoseconds a real second, drawn anew at a change of rate.
    pub rate: u64,
    pub boot_offset: u64,
    pub wall_offset_micros: i64,
    /// Whether it may watch the Lease.
    pub watches: bool,
}

/// How long things take when nothing is wrong.
#[derive(Clone, Debug)]
pub struct Latency {
    /// A replacement's connection, where it needs a new one.
    pub connect: RangeInclusive<Real>,
    /// A request, until it is applied.
    pub out: RangeInclusive<Real>,
    /// Its reply.
    pub back: RangeInclusive<Real>,
    /// A watch event.
    pub event: RangeInclusive<Real>,
}

/// What can go wrong, beyond single calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    Crash,
    Shutdown,
    Pause,
    Suspend,
    Partition,
    Outage,
    CutWatch,
    StepWallClock,
    ChangeClockRate,
    Unfit,
    WorkEnds,
    Operator,
    Restore,
    /// An admission webhook undoes what is written to the Lease, and the answer is 200.
    UndoWrites,
}

const FAULTS: [Fault; 12] = [
    Fault::Crash,
    Fault::Shutdown,
    Fault::Pause,
    Fault::Suspend,
    Fault::Partition,
    Fault::Outage,
    Fault::CutWatch,
    Fault::StepWallClock,
    Fault::ChangeClockRate,
    Fault::Unfit,
    Fault::WorkEnds,
    Fault::Operator,
];

#[derive(Clone, Debug)]
pub struct Parameters {
    pub seed: u64,
    pub latency: Latency,
    pub nodes: Vec<NodeParameters>,
    /// A candidate that speaks client-go: its timing and its clock's rate.
    pub foreign: Option<(Timing, u64)>,
    /// Clocks run at 1 to this many millionths of the slowest one's rate.
    pub fastest: u64,
    /// Rates are within the bound for leading, but not within the narrower one for work that is being killed.
    pub work_may_overlap: bool,
    /// Whether a Service follows the leader.
    pub routes: bool,
    /// How long faults last.
    pub safety: Real,
    pub faults: Vec<Fault>,
    /// The mean time between two faults.
    pub fault_every: Real,
    /// So many of a thousand calls go wrong.
    pub call_trouble: u64,
    /// So many of ten thousand steps of a process are followed by a pause.
    pub step_pause: u64,
}

fn timings() -> Vec<Timing> {
    let timing = |lease: u64, deadline: u64, retry: u64, interval: Option<u64>| {
        Timing::new(
            Duration::from_secs(lease),
            Duration::from_secs(deadline),
            Duration::from_secs(retry),
            interval.map(Duration::from_millis),
        )
        .expect("a valid timing")
    };
    vec![
        timing(15, 10, 2, None),
        timing(15, 10, 2, Some(2000)),
        timing(15, 10, 5, None),
        timing(3, 2, 1, None),
        timing(3, 2, 1, Some(400)),
        timing(30, 15, 10, None),
        timing(60, 15, 5, Some(3000)),
        timing(11, 10, 8, None),
    ]
}

impl Parameters {
    pub fn draw(seed: u64) -> Parameters {
        let mut random = Random::new(seed);
        let timings = timings();
        let count = *random.pick(&[1, 2, 2, 3, 3, 3, 4, 5]);
        let mixed = random.chance(350);
        let one = *random.pick(&timings);
        let draw_timing = |random: &mut Random| if mixed { *random.pick(&timings) } else { one };
        let chosen: Vec<Timing> = (0..count).map(|_| draw_timing(&mut random)).collect();
        let foreign_timing = random.chance(150).then(|| draw_timing(&mut random));

        let work_may_overlap = random.chance(250);
        let fastest = fastest(chosen.iter(), work_may_overlap);
        let foreign = foreign_timing.map(|timing| (timing, rate(&mut random, fastest)));
        let twins = count >= 2 && random.chance(120);
        let watching = *random.pick(&[0, 500, 1000, 1000]);
        let nodes = chosen
            .iter()
            .enumerate()
            .map(|(index, timing)| NodeParameters {
                name: format!("pod-{}", if twins && index == 1 { 0 } else { index }),
                timing: *timing,
                rate: rate(&mut random, fastest),
                boot_offset: random.magnitude(SECOND..=400 * 86_400 * SECOND),
                wall_offset_micros: wall_offset(&mut random),
                watches: random.chance(watching),
            })
            .collect();
        let longest = chosen.iter().map(Timing::lease_duration).max().expect("a node");
        let longest = u64::try_from(longest.as_nanos()).expect("a short duration");
        let mut faults: Vec<Fault> = FAULTS.into_iter().filter(|_| random.chance(400)).collect();
        if random.chance(60) {
            faults.push(Fault::Restore);
        }
        if seed % 8 == 3 {
            faults.push(Fault::UndoWrites);
        }
        let quick = 300_000..=3 * MILLI;
        // Up to what a crowd on a small machine waits. Not in three of four: most connections are kept.
        let connect = if seed.is_multiple_of(4) { 0..=60 * MILLI } else { 0..=0 };
        Parameters {
            seed,
            latency: Latency { connect, out: quick.clone(), back: quick.clone(), event: quick },
            nodes,
            foreign,
            fastest,
            work_may_overlap,
            safety: random.within(3..=10) * longest,
            faults,
            fault_every: random.magnitude(longest / 20..=longest),
            call_trouble: *random.pick(&[0, 20, 100, 300, 600]),
            step_pause: *random.pick(&[0, 0, 20, 200]),
            routes: random.chance(500),
        }
    }

    /// A fleet of candidates that watch, and nothing goes wrong: on a LAN, a PUT takes 3 to 6 ms and an event 1 to 2.
    pub fn fleet(seed: u64, count: usize) -> Parameters {
        let half = 1_500_000..=3 * MILLI;
        let latency = Latency { connect: MILLI..=2 * MILLI, out: half.clone(), back: half, event: MILLI..=2 * MILLI };
        let node = |index| NodeParameters {
            name: format!("pod-{index}"),
            timing: Timing::default(),
            rate: SECOND,
            boot_offset: SECOND,
            wall_offset_micros: 0,
            watches: true,
        };
        let nodes = (0..count).map(node).collect();
        let quiet =
            Parameters { faults: Vec::new(), foreign: None, step_pause: 0, routes: false, ..Parameters::draw(seed) };
        Parameters { latency, nodes, work_may_overlap: false, fastest: 1_000_000, call_trouble: 0, ..quiet }
    }

    pub fn longest(&self, of: impl Fn(&Timing) -> Duration) -> Real {
        let own = self.nodes.iter().map(|node| of(&node.timing));
        let all = own.chain(self.foreign.iter().map(|(timing, _)| of(timing)));
        u64::try_from(all.max().expect("a node").as_nanos()).expect("a short duration")
    }
}

/// The fastest rate at which a clock may run beside one that keeps real time, so that everything of a term is over
/// before a rival's clock has counted the lease duration. Nobody's clock is slower than real time: that only scales.
fn fastest<'a>(timings: impl Iterator<Item = &'a Timing>, work_may_overlap: bool) -> u64 {
    let ratio = timings.map(|timing| {
        let ends = if work_may_overlap {
            timing.renewal_deadline()
        } else {
            timing.kill_after() + 4 * Duration::from_nanos(KILL_LATENCY)
        };
        timing.lease_duration().as_nanos() * 999_000 / ends.as_nanos()
    });
    u64::try_from(ratio.min().expect("a node").min(3_000_000)).expect("a small ratio").max(1_000_000)
}

/// A rate within the bound, the ends of it more often than chance would have them.
pub fn rate(random: &mut Random, fastest: u64) -> u64 {
    let fastest = fastest * 1000;
    match random.below(3) {
        0 => SECOND,
        1 => fastest,
        _ => random.within(SECOND..=fastest),
    }
}

/// Right, somewhat off, or anywhere from the year 1 to 9998.
pub fn wall_offset(random: &mut Random) -> i64 {
    let anywhere = i64::try_from(random.within(0..=250_000_000_000_000_000)).expect("in range");
    let off = i64::try_from(random.magnitude(1..=86_400_000_000)).expect("in range");
    match random.below(4) {
        0 => 0,
        1 => off,
        2 => -off,
        _ => anywhere - crate::clock::WALL_START_MICROS,
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |real: Real| real as f64 / SECOND as f64;
        writeln!(f, "SIMULATION_SEED={}", self.seed)?;
        writeln!(
            f,
            "  {:.0} s of faults, one each {:.2} s of {:?}; {} of 1000 calls in trouble; {} of 10000 steps paused",
            seconds(self.safety),
            seconds(self.fault_every),
            self.faults,
            self.call_trouble,
            self.step_pause,
        )?;
        writeln!(
            f,
            "  clocks run up to {:.3} times as fast as the slowest{}; client-go beside us: {:?}; a Service: {}",
            self.fastest as f64 / 1e6,
            if self.work_may_overlap { " (work may overlap, leading may not)" } else { "" },
            self.foreign,
            self.routes,
        )?;
        for (index, node) in self.nodes.iter().enumerate() {
            let NodeParameters { name, timing, rate, wall_offset_micros, watches, .. } = node;
            writeln!(
                f,
                "  node {index} ({name}): {:?}/{:?}/{:?} each {:?}, rate {:.4}, wall clock off by {:.1} s, {}",
                timing.lease_duration(),
                timing.renewal_deadline(),
                timing.retry_period(),
                timing.renew_interval(),
                *rate as f64 / SECOND as f64,
                *wall_offset_micros as f64 / 1e6,
                if *watches { "watches" } else { "polls" },
            )?;
        }
        Ok(())
    }
}
