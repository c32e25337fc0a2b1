//! The comparer is itself checked: with made-up lines of both sides, right ones and wrong ones.

use serde_json::{Value, json};

use super::compare::{Findings, Run, Uptime, compare};
use super::entry::{Entry, entries};

const POD: &str = "pod-a";

/// What both sides write down of one call.
struct Call {
    ours: Value,
    theirs: Vec<Value>,
}

fn call(number: u32, verb: &str, resource: &str, name: &str, status: u16) -> Call {
    let group = if resource == "leases" { "coordination.k8s.io" } else { "" };
    let path = format!("/a/path/to/{resource}/{name}?fieldManager=leasehold");
    let id = format!("id-{number}");
    let ours = json!({
        "time": "2026-11-22T15:04:05.000000Z", "verb": verb, "group": group, "resource": resource, "namespace": "ns",
        "name": name, "path": path, "why": "observe", "attempt": 1, "sentVersion": "41", "receivedVersion": "42",
        "status": status, "auditID": id, "reason": if status == 409 { "Conflict" } else { "" }, "millis": 3,
    });
    let object = json!({ "resource": resource, "namespace": "ns", "name": name, "apiGroup": group,
                         "resourceVersion": if verb == "update" { "41" } else { "" } });
    let response = if status == 409 { json!({ "code": 409, "reason": "Conflict" }) } else { json!({ "code": status }) };
    let user = json!({ "username": "system:serviceaccount:ns:leasehold",
                       "extra": { "authentication.kubernetes.io/pod-name": [POD] } });
    let theirs = |stage: &str| {
        json!({
            "auditID": id, "stage": stage, "requestURI": path, "verb": verb, "user": user, "userAgent": "leasehold/0.1.0",
            "objectRef": object, "responseStatus": response,
            "requestReceivedTimestamp": format!("2026-11-22T15:04:{number:02}.000000Z"),
        })
    };
    let stages: &[&str] =
        if verb == "watch" { &["ResponseStarted", "ResponseComplete"] } else { &["ResponseComplete"] };
    Call { ours, theirs: stages.iter().map(|stage| theirs(stage)).collect() }
}

/// A process's short life: every verb, a conflict, and a watch between.
fn life() -> Vec<Call> {
    vec![
        call(1, "get", "leases", "web", 404),
        call(2, "create", "leases", "web", 201),
        call(3, "watch", "leases", "web", 200),
        call(4, "get", "pods", "pod-a", 200),
        call(5, "patch", "pods", "pod-a", 200),
        call(6, "update", "leases", "web", 409),
        call(7, "get", "leases", "web", 200),
        call(8, "update", "leases", "web", 200),
        call(9, "create", "events", "web.1", 201),
    ]
}

fn found(calls: &[Call], cut: bool) -> Findings {
    found_when(calls, cut, Uptime::Whole)
}

fn found_when(calls: &[Call], cut: bool, uptime: Uptime) -> Findings {
    let lines =
        calls.iter().filter(|call| !call.ours.is_null()).map(|call| Entry::of_program(&call.ours, POD)).collect();
    let run = Run { name: "a process".to_owned(), pod: POD.to_owned(), lines, cut };
    let server = entries(calls.iter().flat_map(|call| call.theirs.clone()));
    compare(&[run], server.get("ns").map_or(&[], Vec::as_slice), uptime)
}

/// The life with one thing changed; what is found then.
fn changed(change: impl FnOnce(&mut Vec<Call>)) -> Vec<String> {
    let mut calls = life();
    change(&mut calls);
    found(&calls, false).differences
}

#[test]
fn what_agrees_is_counted_and_nothing_else_is_said() {
    let findings = found(&life(), false);
    assert_eq!(
        (findings.compared, findings.differences.as_slice()),
        (9, [].as_slice()),
        "a watch's two stages are one"
    );
    assert!(findings.without_answer.is_empty() && findings.without_line.is_empty());
    let kind = |resource: &str, verb: &str| findings.calls[&(resource.to_owned(), verb.to_owned())].clone();
    assert_eq!(kind("leases", "update"), [(200, 1), (409, 1)].into());
    assert_eq!(kind("events", "create"), [(201, 1)].into());
    assert_eq!(findings.used().len(), 7);
    let shown = findings.to_string();
    let first =
        "9 calls of 1 processes compared, 0 differences\n9 of them joined by auditID, 0 watches by their path\n";
    assert!(shown.starts_with(first), "{shown}");
    assert!(shown.contains("  leases    update      2  (200: 1, 409: 1)\n"), "{shown}");
}

#[test]
fn a_line_that_the_server_does_not_have_is_found() {
    for index in 0..life().len() {
        let said = changed(|calls| calls[index].theirs.clear());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("a process: the API server has no entry for: "), "{said:?}");
    }
}

#[test]
fn a_line_that_the_program_does_not_have_is_found() {
    for index in 0..life().len() {
        let said = changed(|calls| calls[index].ours = Value::Null);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("pod-a: the program has no line for: "), "{said:?}");
    }
    let mut calls = life();
    calls.iter_mut().for_each(|call| call.ours = Value::Null);
    assert_eq!(found(&calls, false).differences.len(), 9, "it has none at all");
}

#[test]
fn every_field_that_differs_is_found() {
    for (field, here, pointer, there) in [
        ("verb", "verb", "/verb", json!("list")),
        ("group", "group", "/objectRef/apiGroup", json!("apps")),
        ("resource", "resource", "/objectRef/resource", json!("secrets")),
        ("subresource", "", "/objectRef/subresource", json!("status")),
        ("namespace", "namespace", "", json!("kube-system")),
        ("name", "name", "/objectRef/name", json!("another")),
        ("path", "path", "/requestURI", json!("/elsewhere")),
        ("status", "status", "/responseStatus/code", json!(500)),
        ("resourceVersion", "sentVersion", "/objectRef/resourceVersion", json!("40")),
        ("Pod", "", "/user/extra/authentication.kubernetes.io~1pod-name/0", json!("pod-b")),
    ] {
        let wrong = |said: &[String]| {
            assert_eq!(said.len(), 1, "{field}: {said:?}");
            assert!(said[0].starts_with(&format!("a process: {field} is ")), "{said:?}");
        };
        if !here.is_empty() {
            wrong(&changed(|calls| calls[7].ours[here] = there.clone()));
        }
        if !pointer.is_empty() {
            let mut call = life().remove(7);
            let object = call.theirs[0]["objectRef"].as_object_mut().expect("an object");
            object.insert("subresource".to_owned(), json!(""));
            *call.theirs[0].pointer_mut(pointer).expect(pointer) = there;
            wrong(&changed(|calls| calls[7] = call));
        }
    }
    let said = changed(|calls| calls[5].ours["reason"] = json!("AlreadyExists"));
    assert_eq!(said[0].split(" in ").next().map(|it| it.contains("reason is")), Some(true), "{said:?}");
}

#[test]
fn what_one_side_does_not_know_is_no_difference() {
    let said = changed(|calls| {
        calls[8] = call(9, "create", "events", "web.1", 403);
        calls[8].theirs[0]["objectRef"]["name"] = json!("");
        calls[7].theirs[0]["objectRef"]["resourceVersion"] = json!("");
        calls[0] = call(1, "get", "leases", "web", 401);
        calls[0].theirs[0]["user"] = json!({});
    });
    assert_eq!(said, [""; 0]);
    let said = changed(|calls| calls[7].theirs[0]["objectRef"]["name"] = json!(""));
    assert_eq!(said.len(), 1, "a PUT's name stands in its path: {said:?}");
    let said = changed(|calls| calls[7].theirs[0]["user"] = json!({}));
    assert_eq!(said.len(), 1, "whose 200 it was is known: {said:?}");
}

#[test]
fn the_order_of_what_is_done_one_after_the_other_is_compared() {
    let said = changed(|calls| calls.swap(5, 6));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("the API server had it before the line above"), "{said:?}");
    let said = changed(|calls| calls.swap(3, 4));
    assert_eq!(said.len(), 1, "the errands' order: {said:?}");
    assert_eq!(changed(|calls| calls.swap(2, 3)), [""; 0], "two threads");
}

#[test]
fn a_call_that_is_told_twice_is_found_on_either_side() {
    let said = changed(|calls| {
        let again = calls[1].ours.clone();
        calls[0].ours = again;
    });
    // Its twin's entry is gone, and the call in whose place it is told has no line.
    assert_eq!(said.len(), 2, "{said:?}");
    let said = changed(|calls| {
        let again = calls[1].theirs.clone();
        calls[1].theirs.extend(again);
    });
    assert!(said[0].contains("two of the API server's entries have one ID"), "{said:?}");
}

#[test]
fn a_killed_process_may_lack_its_last_lines_and_no_others() {
    let mut calls = life();
    calls[7].ours = Value::Null;
    calls[8].ours = Value::Null;
    let findings = found(&calls, true);
    assert_eq!((findings.compared, findings.differences.len(), findings.without_line.len()), (7, 0, 2), "{findings}");
    assert_eq!(found(&calls, false).differences.len(), 2, "one that ended in its own time may not");
    calls[6].ours = Value::Null;
    calls[7] = life().remove(7);
    let findings = found(&calls, true);
    assert_eq!(findings.differences.len(), 1, "the one in the middle: {findings}");
}

#[test]
fn a_killed_api_server_may_lack_a_watch_and_nothing_else() {
    for index in 0..life().len() {
        let mut calls = life();
        calls[index].theirs.clear();
        let findings = found_when(&calls, false, Uptime::Broken);
        let excused = usize::from(calls[index].ours["verb"] == "watch");
        assert_eq!((findings.without_entry.len(), findings.differences.len()), (excused, 1 - excused), "{findings}");
    }
}

#[test]
fn a_call_without_an_answer_is_named_whether_the_server_has_had_it_or_not() {
    let lost = |reason: &str| {
        let mut calls = life();
        let line = calls[7].ours.as_object_mut().expect("an object");
        line.insert("status".to_owned(), Value::Null);
        line.insert("auditID".to_owned(), Value::Null);
        line.insert("reason".to_owned(), json!(reason));
        calls
    };
    let findings = found(&lost("timeout"), false);
    assert_eq!((findings.compared, findings.differences.len()), (8, 0), "{findings}");
    assert!(findings.without_answer[0].ends_with("no answer (timeout), there 200"), "{findings}");
    let mut calls = lost("cut");
    calls[7].theirs.clear();
    let findings = found(&calls, false);
    assert_eq!(findings.differences.len(), 0);
    assert!(findings.without_answer[0].ends_with("no answer (cut), not there"), "{findings}");
    let findings = found(&lost("connect"), false);
    assert_eq!(findings.differences.len(), 1, "what was never sent cannot be there: {findings}");
    let mut calls = lost("timeout");
    calls[7].theirs[0]["verb"] = json!("patch");
    assert_eq!(found(&calls, false).differences.len(), 1, "another call is not excused by it");
}

#[test]
fn an_answer_that_names_no_entry_is_a_difference() {
    let said = changed(|calls| calls[7].ours["auditID"] = Value::Null);
    assert_eq!(said.len(), 2, "neither side's can be joined: {said:?}");
}

#[test]
fn a_watch_without_a_name_is_joined_by_its_path_once() {
    let unnamed = |calls: &mut Vec<Call>| calls[2].ours["auditID"] = Value::Null;
    assert_eq!(changed(unnamed), [""; 0]);
    let mut calls = life();
    unnamed(&mut calls);
    let findings = found(&calls, false);
    assert_eq!((findings.compared, findings.by_path), (9, 1));
    let said = changed(|calls| {
        unnamed(calls);
        calls[2].theirs.iter_mut().for_each(|line| line["responseStatus"]["code"] = json!(403));
    });
    assert!(said.len() == 1 && said[0].contains("status is"), "{said:?}");
    let said = changed(|calls| {
        unnamed(calls);
        let (ours, theirs) = (calls[2].ours.clone(), vec![]);
        calls.push(Call { ours, theirs });
    });
    assert_eq!(said.len(), 1, "told twice, and there once: {said:?}");
    let said = changed(|calls| {
        unnamed(calls);
        calls[2].theirs.iter_mut().for_each(|line| line["requestURI"] = json!("/elsewhere"));
    });
    assert_eq!(said.len(), 2, "neither side's can be joined: {said:?}");
}

#[test]
fn whatever_uses_a_candidates_token_is_taken_into_account() {
    let said = changed(|calls| {
        let mut call = call(10, "get", "secrets", "keys", 200);
        (call.ours, call.theirs[0]["userAgent"]) = (Value::Null, json!("curl/8"));
        calls.push(call);
    });
    assert_eq!(
        said,
        ["pod-a: the program has no line for: get secrets (/a/path/to/secrets/keys?fieldManager=leasehold): 200"]
    );
    let said = changed(|calls| {
        let mut call = call(10, "get", "secrets", "keys", 200);
        (call.ours, call.theirs[0]["userAgent"], call.theirs[0]["user"]) = (Value::Null, json!("kubectl"), json!({}));
        calls.push(call);
    });
    assert_eq!(said, [""; 0], "an operator's");
}
