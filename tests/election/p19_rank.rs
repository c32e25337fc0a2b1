//! P19: in a rollout the candidate that stays goes first.

use leasehold::election::{Annotations, CallKind, Election, Identity, Input, Timing};

use crate::scenario::{ME, Network, RIVAL, Scenario, held, millis, secs};

/// A candidate of the revision `mine`; the leader's and the named successor's are as given.
fn watching(mine: Option<&str>, leaders: Option<&str>, successors: Option<&str>) -> Scenario {
    let identity = Identity { name: ME.into(), incarnation: "i".into(), revision: mine.map(Into::into) };
    let mut scenario = Scenario::new();
    scenario.election = Election::new(identity, Timing::default(), 7);
    let annotations = Annotations {
        successor: Some("pod-c".into()),
        successor_revision: successors.map(Into::into),
        holder_revision: leaders.map(Into::into),
        ..Annotations::default()
    };
    scenario.put(held(RIVAL, 15), annotations);
    scenario.look();
    scenario.input(Input::Watching(true));
    scenario
}

#[test]
fn a_new_pod_takes_an_old_successors_place_soon() {
    for successors in [Some("old"), None] {
        let mut scenario = watching(Some("new"), Some("old"), successors);
        scenario.run_until_call(millis(250));
        let (_, annotations) = scenario.written(CallKind::Announce);
        assert_eq!(annotations.successor.as_deref(), Some(ME));
        assert_eq!(annotations.successor_revision.as_deref(), Some("new"));
        assert_eq!(annotations.holder_revision.as_deref(), Some("old"), "kept");
    }
}

#[test]
fn between_equals_and_where_a_revision_is_unknown_the_one_already_named_stays() {
    for (mine, leaders, successors) in [
        (Some("new"), Some("old"), Some("new")),
        (Some("old"), Some("old"), Some("old")),
        (Some("old"), Some("old"), Some("new")),
        (None, Some("old"), Some("old")),
        (Some("new"), None, Some("old")),
        (None, None, None),
    ] {
        let mut scenario = watching(mine, leaders, successors);
        scenario.run(secs(14), Network::Hangs);
        assert!(scenario.pending.is_none(), "{mine:?} {leaders:?} {successors:?}: {:?}", scenario.pending);
    }
}

#[test]
fn the_winner_states_its_revision() {
    let mut scenario = watching(Some("new"), Some("old"), Some("new"));
    scenario.run(secs(16), Network::Hangs);
    assert_eq!(scenario.written(CallKind::Acquire).1.holder_revision.as_deref(), Some("new"));
}
