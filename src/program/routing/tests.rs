use super::*;

const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// A routing, its clock, and what it asked for last.
struct Scenario {
    routing: Routing,
    now: BootTime,
    events: Vec<RouteEvent>,
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
        let mut scenario = Scenario { routing, now, events };
        scenario.handle(RouteInput::Timer);
        scenario
    }

    /// A leader in the term of token 10, whose Pod bears the label and whose watch is open.
    fn leading() -> Scenario {
        let mut scenario = Scenario::new();
        scenario.answer(Ok(RouteReply::Labelled(true)));
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
        self.events.extend(self.routing.handle(self.now, input));
    }

    fn answer(&mut self, result: Result<RouteReply, Option<u16>>) -> RouteRequest {
        self.answer_asking(result, Duration::ZERO)
    }

    /// A failure asks to wait for so long.
    fn answer_asking(&mut self, result: Result<RouteReply, Option<u16>>, retry_after: Duration) -> RouteRequest {
        let request = self.routing.call.clone().expect("a call");
        self.handle(RouteInput::Reply(result.map_err(|status| RouteFailure { status, retry_after })));
        request
    }

    /// Lets time pass until the routing wants to be woken; how long that was.
    fn wait(&mut self) -> Duration {
        assert!(self.routing.call.is_none(), "it waits for an answer");
        let wake = self.routing.wake().expect("an instant");
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
    let request = scenario.routing.call.expect("a call");
    assert!(matches!(request, RouteRequest::PatchService { version: 20, .. }), "{request:?}");
}

#[test]
fn a_service_restored_from_a_backup_is_seen_by_the_look_each_minute() {
    let mut scenario = Scenario::routed();
    scenario.wait();
    scenario.answer(Ok(RouteReply::Service(service(7, "pod-a", None))));
    let request = scenario.routing.call.expect("a call");
    assert!(matches!(request, RouteRequest::PatchService { version: 7, .. }), "{request:?}");
}

#[test]
fn a_service_that_is_changed_again_and_again_is_read_and_set_after_a_retry_period() {
    let mut scenario = Scenario::routed();
    scenario.now = scenario.now + RETRY_PERIOD;
    for (version, again) in [(20, false), (30, true)] {
        scenario.handle(RouteInput::Seen(service(version, "pod-x", Some(fence(10)))));
        if again {
            assert_eq!(scenario.wait(), RETRY_PERIOD);
        }
        scenario.answer(Ok(RouteReply::Service(service(version, "pod-x", Some(fence(10))))));
        let request = scenario.answer(Ok(RouteReply::Service(service(version + 1, "pod-a", Some(fence(10))))));
        assert!(matches!(request, RouteRequest::PatchService { .. }), "{request:?}");
        let events: Vec<RouteEvent> = scenario.events.drain(..).collect();
        assert!(events.ends_with(&[RouteEvent::SelectorChanged, RouteEvent::ServiceUpdated]), "{events:?}");
    }
}

#[test]
fn a_leader_that_steps_back_reports_it_again_every_five_minutes() {
    let mut scenario = Scenario::routed();
    let theirs = service(30, "pod-x", Some(fence(21)));
    scenario.handle(RouteInput::Seen(theirs.clone()));
    assert_eq!(scenario.events.pop(), Some(RouteEvent::SteppedBack(fence(21))));
    let begin = scenario.now;
    for _ in 0..REPORT_AGAIN.as_secs() / LOOK_PERIOD.as_secs() {
        assert!(!scenario.events.contains(&RouteEvent::SteppedBack(fence(21))), "not so soon");
        assert_eq!(scenario.wait(), LOOK_PERIOD);
        assert_eq!(scenario.answer(Ok(RouteReply::Service(theirs.clone()))), RouteRequest::GetService);
    }
    assert_eq!(scenario.events.last(), Some(&RouteEvent::SteppedBack(fence(21))));
    assert_eq!(scenario.now.since(begin), REPORT_AGAIN);
    scenario.handle(RouteInput::Seen(service(31, "pod-x", None)));
    scenario.answer(Ok(RouteReply::Service(service(31, "pod-x", None))));
    assert!(matches!(scenario.routing.call, Some(RouteRequest::PatchService { .. })), "the fence was removed");
}

#[test]
fn the_third_conflict_in_a_row_is_reported_and_the_next_try_waits() {
    let mut scenario = Scenario::leading();
    for conflict in 1..=5 {
        assert_eq!(scenario.answer(Ok(RouteReply::Service(service(11, "pod-x", None)))), RouteRequest::GetService);
        scenario.answer(Err(Some(409)));
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
            assert!(scenario.events.is_empty(), "{:?}", scenario.events);
        }
    }
}

#[test]
fn a_label_that_is_undone_is_repeated_after_a_retry_period() {
    let mut scenario = Scenario::new();
    for _ in 0..3 {
        assert_eq!(scenario.answer(Ok(RouteReply::Labelled(false))), RouteRequest::GetPod);
        assert_eq!(scenario.answer(Ok(RouteReply::Labelled(false))), RouteRequest::LabelPod);
        assert_eq!(scenario.wait(), RETRY_PERIOD);
    }
    scenario.answer(Ok(RouteReply::Labelled(false)));
    scenario.answer(Ok(RouteReply::Labelled(true)));
    assert_eq!(scenario.events, [RouteEvent::PodLabelled]);
}

#[test]
fn a_former_leader_follows_the_service_until_it_points_elsewhere() {
    let mut scenario = Scenario::routed();
    scenario.handle(RouteInput::Lost);
    assert_eq!(scenario.routing.watch_from(), Some(12));
    scenario.handle(RouteInput::Watching(false));
    for _ in 0..3 {
        assert_eq!(scenario.wait(), RETRY_PERIOD);
        scenario.answer(Ok(RouteReply::Service(service(12, "pod-a", Some(fence(10))))));
        assert!(scenario.routing.points_here());
    }
    scenario.wait();
    scenario.answer(Ok(RouteReply::Service(service(40, "pod-b", Some(fence(39))))));
    assert!(!scenario.routing.points_here());
    assert_eq!((scenario.routing.watch_from(), scenario.routing.wake()), (None, None));
}

#[test]
fn a_patch_that_comes_after_the_term_is_not_sent_again() {
    let mut scenario = Scenario::leading();
    scenario.answer(Ok(RouteReply::Service(service(11, "pod-x", None))));
    assert!(matches!(scenario.routing.call, Some(RouteRequest::PatchService { .. })));
    scenario.handle(RouteInput::Lost);
    assert_eq!((scenario.routing.wake(), scenario.routing.call), (None, None));
}

#[test]
fn a_label_that_is_taken_from_the_pod_is_put_back_within_five_minutes() {
    let mut scenario = Scenario::routed();
    let mut looks = 0;
    let begin = scenario.now;
    loop {
        scenario.wait();
        if scenario.routing.call == Some(RouteRequest::GetPod) {
            break;
        }
        looks += 1;
        scenario.answer(Ok(RouteReply::Service(service(12, "pod-a", Some(fence(10))))));
    }
    assert_eq!((looks, scenario.now.since(begin)), (4, POD_LOOK_PERIOD));
    scenario.answer(Ok(RouteReply::Labelled(false)));
    assert_eq!(scenario.answer(Ok(RouteReply::Labelled(true))), RouteRequest::LabelPod);
    assert_eq!(scenario.events.last(), Some(&RouteEvent::PodLabelled));
    assert_eq!(scenario.routing.call, Some(RouteRequest::GetService), "the look that was due");
}

#[test]
fn a_new_term_does_not_wait_for_a_look_at_the_pod() {
    let mut scenario = Scenario::routed();
    scenario.handle(RouteInput::Lost);
    scenario.now = scenario.now + 2 * POD_LOOK_PERIOD;
    scenario.handle(RouteInput::Lead(fence(50)));
    assert_eq!(scenario.routing.call, Some(RouteRequest::GetService));
}

#[test]
fn a_pod_that_cannot_be_read_again_does_not_keep_the_service_from_being_read() {
    let mut scenario = Scenario::routed();
    scenario.now = scenario.now + POD_LOOK_PERIOD;
    scenario.handle(RouteInput::Timer);
    assert_eq!(scenario.answer(Err(Some(500))), RouteRequest::GetPod);
    assert_eq!(scenario.wait(), RETRY_PERIOD);
    assert_eq!(scenario.routing.call, Some(RouteRequest::GetService));
}

#[test]
fn the_pause_that_the_server_asks_for_is_kept_up_to_a_minute() {
    for (asked, waited) in [(0, 2), (1, 2), (30, 30), (3600, 60)] {
        let mut scenario = Scenario::leading();
        scenario.answer_asking(Err(Some(429)), Duration::from_secs(asked));
        assert_eq!(scenario.wait(), Duration::from_secs(waited), "asked for {asked} s");
    }
}

#[test]
fn after_a_patch_in_doubt_a_former_leader_reads_the_service_before_it_lets_go() {
    for status in [None, Some(504)] {
        let mut scenario = Scenario::leading();
        scenario.answer(Ok(RouteReply::Service(service(11, "pod-x", None))));
        scenario.answer(Err(status));
        scenario.handle(RouteInput::Lost);
        assert!(scenario.routing.may_point_here(), "{status:?}");
        scenario.wait();
        let read = scenario.answer(Ok(RouteReply::Service(service(11, "pod-x", None))));
        assert_eq!((read, scenario.routing.may_point_here()), (RouteRequest::GetService, false));
    }
    let mut scenario = Scenario::leading();
    scenario.answer(Ok(RouteReply::Service(service(11, "pod-x", None))));
    scenario.answer(Err(Some(403)));
    scenario.handle(RouteInput::Lost);
    assert!(!scenario.routing.may_point_here(), "it was refused");
}
