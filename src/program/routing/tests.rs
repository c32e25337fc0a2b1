use super::*;

const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// A routing, its clock, and what it asked for last.
struct Scenario {
    routing: Routing,
    now: BootTime,
    call: Option<RouteRequest>,
    events: Vec<RouteEvent>,
    drained: Option<bool>,
    wake: Option<BootTime>,
}

fn fence(token: Version) -> Fence {
    Fence { lease_uid: "lease".to_owned(), token }
}

fn service(version: Version, target: &str, fence: Option<Fence>) -> Service {
    let selector = [("pod".to_owned(), target.to_owned())].into();
    Service { uid: "service".to_owned(), version, selector, fence }
}

impl Scenario {
    fn new() -> Scenario {
        let routing = Routing::new("pod".to_owned(), "pod-a".to_owned(), RETRY_PERIOD);
        let (now, events) = (BootTime(1_000_000_000), Vec::new());
        let mut scenario = Scenario { routing, now, call: None, events, drained: None, wake: None };
        scenario.handle(RouteInput::Timer);
        scenario
    }

    /// A leader in the term of token 10, whose Pod bears the label and whose watch is open.
    fn leading() -> Scenario {
        let mut scenario = Scenario::new();
        scenario.answer(Ok(RouteReply::Pod { labelled: true }));
        scenario.handle(RouteInput::Lead(fence(10)));
        scenario.handle(RouteInput::Watching(true));
        scenario
    }

    /// The same, and the Service of version 12 points here.
    fn routed() -> Scenario {
        let mut scenario = Scenario::leading();
        scenario.answer(Ok(RouteReply::Service(service(11, "pod-x", None))));
        scenario.answer(Ok(RouteReply::Service(service(12, "pod-a", Some(fence(10))))));
        assert!(matches!(scenario.events[..], [.., RouteEvent::ServiceUpdated]), "{:?}", scenario.events);
        scenario
    }

    fn handle(&mut self, input: RouteInput) {
        self.routing.handle(self.now, input);
        loop {
            match self.routing.poll() {
                RouteOutput::Call(request) => self.call = Some(request),
                RouteOutput::Report(event) => self.events.push(event),
                RouteOutput::Drained { elsewhere } => self.drained = Some(elsewhere),
                RouteOutput::WaitUntil(instant) => break self.wake = instant,
            }
        }
    }

    fn answer(&mut self, result: Result<RouteReply, RouteFailure>) -> RouteRequest {
        let request = self.call.take().expect("a call");
        self.handle(RouteInput::Reply(result));
        request
    }

    /// Lets time pass until the routing wants to be woken; how long that was.
    fn wait(&mut self) -> Duration {
        assert!(self.call.is_none(), "it waits for an answer");
        let wake = self.wake.expect("an instant");
        let waited = wake.since(self.now);
        self.now = wake;
        self.handle(RouteInput::Timer);
        waited
    }
}

#[test]
fn a_change_that_a_silent_watch_misses_is_set_again_within_a_minute() {
    let mut scenario = Scenario::routed();
    assert_eq!(scenario.wait(), LOOK_PERIOD);
    let request = scenario.answer(Ok(RouteReply::Service(service(20, "pod-x", None))));
    assert_eq!(request, RouteRequest::GetService);
    let request = scenario.call.expect("a call");
    assert!(matches!(request, RouteRequest::PatchService { version: 20, .. }), "{request:?}");
}

#[test]
fn a_service_restored_from_a_backup_is_seen_by_the_look_each_minute() {
    let mut scenario = Scenario::routed();
    scenario.wait();
    scenario.answer(Ok(RouteReply::Service(service(7, "pod-a", None))));
    let request = scenario.call.expect("a call");
    assert!(matches!(request, RouteRequest::PatchService { version: 7, .. }), "{request:?}");
}

#[test]
fn an_answer_is_older_than_what_the_watch_brought_meanwhile() {
    let mut scenario = Scenario::routed();
    scenario.wait();
    scenario.handle(RouteInput::Seen(service(21, "pod-a", Some(fence(10)))));
    scenario.answer(Ok(RouteReply::Service(service(20, "pod-x", None))));
    assert_eq!(scenario.call, None, "the Service points here");
}

#[test]
fn a_leader_that_steps_back_reports_it_again_every_five_minutes() {
    let mut scenario = Scenario::routed();
    let theirs = service(30, "pod-x", Some(fence(21)));
    scenario.handle(RouteInput::Seen(theirs.clone()));
    assert_eq!(scenario.events.pop(), Some(RouteEvent::SteppedBack { theirs: fence(21) }));
    assert!(!scenario.routing.is_unsettled(), "there is nothing to wait for");
    let begin = scenario.now;
    for _ in 0..REPORT_AGAIN.as_secs() / LOOK_PERIOD.as_secs() {
        assert!(!scenario.events.contains(&RouteEvent::SteppedBack { theirs: fence(21) }), "not so soon");
        assert_eq!(scenario.wait(), LOOK_PERIOD);
        assert_eq!(scenario.answer(Ok(RouteReply::Service(theirs.clone()))), RouteRequest::GetService);
    }
    assert_eq!(scenario.events.last(), Some(&RouteEvent::SteppedBack { theirs: fence(21) }));
    assert_eq!(scenario.now.since(begin), REPORT_AGAIN);
    scenario.handle(RouteInput::Seen(service(31, "pod-x", None)));
    assert!(matches!(scenario.call, Some(RouteRequest::PatchService { .. })), "the fence was removed");
}

#[test]
fn the_third_conflict_in_a_row_is_reported_and_the_next_try_waits() {
    let mut scenario = Scenario::leading();
    for conflict in 1..=5 {
        assert_eq!(scenario.answer(Ok(RouteReply::Service(service(11, "pod-x", None)))), RouteRequest::GetService);
        scenario.answer(Err(RouteFailure::Conflict));
        if conflict >= CONFLICTS_IN_A_ROW {
            assert_eq!(scenario.wait(), RETRY_PERIOD);
        }
    }
    let reported = scenario.events.iter().filter(|event| **event == RouteEvent::Conflicts).count();
    assert_eq!(reported, 1, "{:?}", scenario.events);
}

#[test]
fn a_patch_that_is_undone_is_repeated_after_a_retry_period() {
    for undone in [service(12, "pod-x", Some(fence(10))), service(12, "pod-a", None)] {
        let mut scenario = Scenario::leading();
        for _ in 0..3 {
            scenario.answer(Ok(RouteReply::Service(service(11, "pod-x", None))));
            scenario.answer(Ok(RouteReply::Service(undone.clone())));
            assert_eq!(scenario.wait(), RETRY_PERIOD, "{undone:?}");
            assert!(scenario.routing.is_unsettled());
        }
    }
}

#[test]
fn a_label_that_is_undone_is_repeated_after_a_retry_period() {
    let mut scenario = Scenario::new();
    for _ in 0..3 {
        assert_eq!(scenario.answer(Ok(RouteReply::Pod { labelled: false })), RouteRequest::GetPod);
        assert_eq!(scenario.answer(Ok(RouteReply::Pod { labelled: false })), RouteRequest::LabelPod);
        assert_eq!(scenario.wait(), RETRY_PERIOD);
    }
    scenario.answer(Ok(RouteReply::Pod { labelled: false }));
    scenario.answer(Ok(RouteReply::Pod { labelled: true }));
    assert_eq!(scenario.events, [RouteEvent::PodLabelled { patched: true }]);
}

#[test]
fn draining_ends_when_the_service_points_elsewhere() {
    let mut scenario = Scenario::routed();
    scenario.handle(RouteInput::Lost);
    assert!(scenario.routing.is_unsettled(), "the next leader has yet to take it over");
    scenario.handle(RouteInput::Drain { until: scenario.now + Duration::from_secs(5) });
    scenario.handle(RouteInput::Watching(false));
    assert_eq!(scenario.wait(), DRAIN_POLL);
    scenario.answer(Ok(RouteReply::Service(service(12, "pod-a", Some(fence(10))))));
    assert_eq!((scenario.drained, scenario.wait()), (None, DRAIN_POLL));
    scenario.answer(Ok(RouteReply::Service(service(40, "pod-b", Some(fence(39))))));
    assert_eq!(scenario.drained, Some(true));
}

#[test]
fn draining_ends_when_its_time_is_up() {
    let mut scenario = Scenario::routed();
    scenario.handle(RouteInput::Lost);
    scenario.handle(RouteInput::Drain { until: scenario.now + Duration::from_secs(5) });
    scenario.now = scenario.now + Duration::from_secs(5);
    scenario.handle(RouteInput::Timer);
    assert_eq!(scenario.drained, Some(false));
}
