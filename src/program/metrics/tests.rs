//! Metrics as Prometheus reads them: by a strict parser that shares no code with the writer.

use super::*;
use std::collections::BTreeMap;

type Labels = Vec<(String, String)>;

/// One family, as its `TYPE` line and its samples tell.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<(String, Labels, f64)>,
}

/// Reads `text` by the rules of the exposition format 0.0.4, and stops at the first thing that breaks one.
fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut helped = String::new();
    if !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or(format!("no help: {line}"))?;
            if help.is_empty() || families.contains_key(name) {
                return Err(format!("empty or repeated: {line}"));
            }
            name.clone_into(&mut helped);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(format!("no type: {line}"))?;
            if name != helped || !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(format!("TYPE without HELP, or of no known kind: {line}"));
            }
            name.clone_into(&mut current);
            families.insert(current.clone(), Family { kind: kind.to_owned(), ..Family::default() });
        } else {
            let (name, labels, value) = parse_sample(line).ok_or(format!("not a sample: {line}"))?;
            let family = families.get_mut(&current).ok_or(format!("before any family: {line}"))?;
            let suffixes: &[&str] = if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            if !suffixes.iter().any(|suffix| name == format!("{current}{suffix}")) {
                return Err(format!("not of family {current}: {line}"));
            }
            if family.samples.iter().any(|(other, others, _)| *other == name && *others == labels) {
                return Err(format!("twice: {line}"));
            }
            family.samples.push((name, labels, value));
        }
    }
    Ok(families)
}

fn parse_sample(line: &str) -> Option<(String, Labels, f64)> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    };
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = unescape(after)?;
            if !is_name(label) || labels.iter().any(|(other, _)| other == label) {
                return None;
            }
            labels.push((label.to_owned(), value));
            match after.split_at_checked(1)? {
                (",", more) => rest = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                _ => return None,
            }
        }
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    is_name(name).then(|| (name.to_owned(), labels, value))
}

/// A label's value up to its closing quote, and what follows it.
fn unescape(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                '\\' => '\\',
                '"' => '"',
                'n' => '\n',
                _ => return None,
            }),
            (_, other) => value.push(other),
        }
    }
}

fn value(families: &BTreeMap<String, Family>, family: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let same = |sample: &Labels| {
        sample.len() == labels.len() && sample.iter().zip(labels).all(|((n, v), (name, value))| n == name && v == value)
    };
    families[family].samples.iter().find(|(n, l, _)| n == name && same(l)).map(|(_, _, value)| *value)
}

#[test]
fn the_parser_itself_refuses_what_prometheus_refuses() {
    for broken in [
        "no_type 1\n",
        "# HELP a b\n# TYPE a gauge\na 1",
        "# HELP a b\n# TYPE a gauge\na\n",
        "# HELP a b\n# TYPE a gauge\na{l=\"x\"y\"} 1\n",
        "# HELP a b\n# TYPE a gauge\na{l=\"\\x\"} 1\n",
        "# HELP a b\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a b\n# TYPE a gauge\nother 1\n",
        "# HELP a b\n# TYPE a histogram\na 1\n",
        "# TYPE a gauge\na 1\n",
    ] {
        assert!(parse(broken).is_err(), "{broken}");
    }
}

#[test]
fn a_fresh_registry_names_every_family_and_counts_nothing() {
    let families = parse(&Metrics::new("demo").text(&StateView::default())).unwrap();
    for (name, family) in &families {
        let expected = if name == "leasehold_build_info" { 1.0 } else { 0.0 };
        assert!(family.samples.iter().all(|(_, _, value)| *value == expected), "{name}");
        assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
    }
    for name in ["leasehold_fencing_token", "leasehold_term_seconds", "leasehold_renewal_age_seconds"] {
        assert_eq!(families[name].samples.len(), 0, "{name} is unknown while not leading");
    }
}

#[test]
fn what_was_counted_is_what_is_shown() {
    let metrics = Metrics::new("demo");
    for result in [TryResult::Ok, TryResult::Ok, TryResult::Failed] {
        metrics.counts().renewals[result as usize] += 1;
    }
    metrics.counts().route_updates[TryResult::Outranked as usize] += 1;
    metrics.counts().transitions += 1;
    metrics.counts().conflicts += 2;
    metrics.counts().watch_restarts += 3;
    metrics.counts().slow_paths += 1;
    let now = StateView {
        is_leader: true,
        valid_for: Duration::from_millis(7_500),
        renewal_age: Some(Duration::from_millis(2_500)),
        term: Some(Duration::from_secs(3_600)),
        fencing_token: Some(u128::MAX),
        ..StateView::default()
    };
    let text = metrics.text(&now);
    let families = parse(&text).unwrap();
    for (family, labels, expected) in [
        ("leader_election_master_status", &[("name", "demo")][..], 1.0),
        ("leader_election_slowpath_total", &[("name", "demo")], 1.0),
        ("leasehold_renewals_total", &[("result", "ok")], 2.0),
        ("leasehold_renewals_total", &[("result", "conflict")], 0.0),
        ("leasehold_renewals_total", &[("result", "failed")], 1.0),
        ("leasehold_route_updates_total", &[("result", "outranked")], 1.0),
        ("leasehold_route_updates_total", &[("result", "ok")], 0.0),
        ("leasehold_transitions_total", &[], 1.0),
        ("leasehold_conflicts_total", &[], 2.0),
        ("leasehold_watch_restarts_total", &[], 3.0),
        ("leasehold_is_successor", &[], 0.0),
        ("leasehold_valid_seconds", &[], 7.5),
        ("leasehold_renewal_age_seconds", &[], 2.5),
        ("leasehold_term_seconds", &[], 3_600.0),
    ] {
        assert_eq!(value(&families, family, family, labels), Some(expected), "{family} {labels:?}");
    }
    assert!(
        text.contains("\nleasehold_fencing_token 340282366920938463463374607431768211455\n"),
        "written exactly, not rounded"
    );
}

#[test]
fn the_histogram_is_cumulative_and_adds_up() {
    let metrics = Metrics::new("demo");
    for (code, millis) in [("200", 4), ("200", 5), ("409", 300), ("<error>", 90_000)] {
        metrics.request("PUT", code.into(), "10.0.0.1:443", Duration::from_millis(millis));
    }
    metrics.request("GET", "200".into(), "10.0.0.1:443", Duration::from_millis(1));
    let families = parse(&metrics.text(&StateView::default())).unwrap();
    for (code, method, expected) in
        [("200", "PUT", 2.0), ("409", "PUT", 1.0), ("<error>", "PUT", 1.0), ("200", "GET", 1.0)]
    {
        let labels = [("code", code), ("method", method), ("host", "10.0.0.1:443")];
        let found = value(&families, "rest_client_requests_total", "rest_client_requests_total", &labels);
        assert_eq!(found, Some(expected), "{code} {method}");
    }
    let family = "rest_client_request_duration_seconds";
    let put = [("verb", "PUT"), ("host", "10.0.0.1:443")];
    for (bound, expected) in [("0.005", 2.0), ("0.25", 2.0), ("0.5", 3.0), ("60", 3.0), ("+Inf", 4.0)] {
        let labels = [put[0], put[1], ("le", bound)];
        assert_eq!(value(&families, family, &format!("{family}_bucket"), &labels), Some(expected), "le {bound}");
    }
    assert_eq!(value(&families, family, &format!("{family}_count"), &put), Some(4.0));
    let sum = value(&families, family, &format!("{family}_sum"), &put).unwrap();
    assert!((sum - 90.309).abs() < 1e-9, "{sum}");
}

#[test]
fn hostile_labels_come_back_as_they_went_in() {
    let lease = "a\"} 1\nevil{x=\"\\";
    let metrics = Metrics::new(lease);
    metrics.request("G\\ET", "200".into(), "h\nost\"", Duration::ZERO);
    let families = parse(&metrics.text(&StateView::default())).unwrap();
    let status = "leader_election_master_status";
    assert_eq!(value(&families, status, status, &[("name", lease)]), Some(0.0));
    let labels = [("code", "200"), ("method", "G\\ET"), ("host", "h\nost\"")];
    let total = "rest_client_requests_total";
    assert_eq!(value(&families, total, total, &labels), Some(1.0));
}
