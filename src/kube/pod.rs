//! The JSON of a Pod, as far as routing goes: its labels, and the value that stands for its name in one.
//!
//! PURE. A Pod's JSON is the largest object leasehold reads: only its labels are kept.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::kube::hash::fnv_1a;

/// What a label value may hold at most.
const LABEL_VALUE_LIMIT: usize = 63;

/// A Pod as the API server stated it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Pod {
    kind: Option<String>,
    metadata: PodMetadata,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct PodMetadata {
    labels: Option<BTreeMap<String, String>>,
}

impl Pod {
    /// Reads a Pod from an answer's body.
    pub fn parse(body: &[u8]) -> Result<Pod, String> {
        let pod: Pod = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        match &pod.kind {
            Some(kind) if kind != "Pod" => Err(format!("a Pod was expected, not a {kind:.40}")),
            _ => Ok(pod),
        }
    }

    /// The value of the label `key`.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }
}

/// The label value that stands for a Pod's name, on the Pod and in the Service's selector alike: the name itself
/// where a label may hold it, else its beginning and a hash of the whole.
pub fn label_value(pod_name: &str) -> String {
    let made_valid = |length| {
        let valid = |c| if may_be_in_label(c) { c } else { '-' };
        let start: String = pod_name.chars().take(length).map(valid).collect();
        start.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
    };
    let whole = made_valid(LABEL_VALUE_LIMIT);
    if whole == pod_name && !whole.is_empty() {
        return whole;
    }
    let hash = format!("{:016x}", fnv_1a(pod_name.as_bytes()));
    let start = made_valid(LABEL_VALUE_LIMIT - hash.len() - 1);
    if start.is_empty() { hash } else { format!("{start}-{hash}") }
}

fn may_be_in_label(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read() {
        let body = br#"{"kind":"Pod","metadata":{"name":"web-0","labels":{"app":"web","pod":"web-0"}},"spec":{}}"#;
        let pod = Pod::parse(body).unwrap();
        assert_eq!((pod.label("pod"), pod.label("role")), (Some("web-0"), None));
        for body in [r#"{"metadata":{}}"#, r#"{"metadata":{"labels":null}}"#] {
            assert_eq!(Pod::parse(body.as_bytes()).unwrap().label("pod"), None);
        }
        for body in ["", "{}", "null", r#"{"kind":"Status","metadata":{}}"#, r#"{"metadata":{"labels":{"a":1}}}"#] {
            assert!(Pod::parse(body.as_bytes()).is_err(), "{body}");
        }
        for cut in 0..body.len() {
            assert!(Pod::parse(&body[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_name_that_fits_is_its_own_label() {
        for name in ["a", "web-0", "web-7d4b9c6f5-x2x4z", "a.b_c", &"x".repeat(63)] {
            assert_eq!(label_value(name), name);
        }
    }

    #[test]
    fn a_name_that_does_not_fit_is_shortened_with_a_hash() {
        let long = "x".repeat(64);
        // Fixed for good: two versions of leasehold in one rolling update must agree.
        assert_eq!(label_value(&long), format!("{}-b96a5acbb56db825", "x".repeat(46)));
        let other = format!("{}y", "x".repeat(63));
        assert_ne!(label_value(&long), label_value(&other));
    }

    #[test]
    fn whatever_the_name_the_value_is_valid() {
        let hyphens = "-".repeat(300);
        let dots = format!("{}{}", "a".repeat(45), ".".repeat(100));
        for name in ["", "-", "-a", "a-", "ünïcode", "with space", "../..", "a\0b", &hyphens, &dots, &"é".repeat(200)]
        {
            let value = label_value(name);
            assert!(value.len() <= 63 && value.chars().all(may_be_in_label), "{name:?} -> {value:?}");
            assert!(value.starts_with(|c: char| c.is_ascii_alphanumeric()), "{name:?} -> {value:?}");
            assert!(value.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name:?} -> {value:?}");
            assert_eq!(label_value(&value), value, "it fits");
        }
    }
}
