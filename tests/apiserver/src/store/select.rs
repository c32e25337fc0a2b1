//! Field and label selectors: equality and presence, which is what lists and watches here are asked for.
//!
//! PURE.

use serde_json::Value;

use super::Response;
use super::path::Query;
use super::resource::Resource;
use super::status;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    /// The text at a JSON pointer is (or is not) this one. Absent counts as empty.
    Field { pointer: &'static str, equal: bool, value: String },
    /// A label is (or is not) there, with this value if one is given.
    Label { key: String, equal: bool, value: Option<String> },
}

/// A list's or watch's selectors; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Term>);

impl Selector {
    /// From the query's `fieldSelector` and `labelSelector`.
    pub(crate) fn parse(query: &Query, resource: &Resource) -> Result<Selector, Box<Response>> {
        let fields = requirements(query.get("fieldSelector")).map(|term| parse_field(term, resource));
        let labels = requirements(query.get("labelSelector")).map(parse_label);
        fields
            .chain(labels)
            .collect::<Result<_, _>>()
            .map(Selector)
            .map_err(|message| status::bad_request(message).into())
    }

    /// The name that RBAC sees: of a selector that demands exactly one.
    pub(crate) fn exact_name(&self) -> Option<&str> {
        self.0.iter().find_map(|term| match term {
            Term::Field { pointer: "/metadata/name", equal: true, value } => Some(value.as_str()),
            _ => None,
        })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| match term {
            Term::Field { pointer, equal, value } => {
                let found = object.pointer(pointer).and_then(Value::as_str).unwrap_or("");
                (found == value) == *equal
            }
            Term::Label { key, equal, value } => {
                let found = object["metadata"]["labels"].get(key).and_then(Value::as_str);
                let holds = match value {
                    Some(value) => found == Some(value),
                    None => found.is_some(),
                };
                holds == *equal
            }
        })
    }
}

fn requirements(selector: Option<&str>) -> impl Iterator<Item = &str> {
    selector.unwrap_or("").split(',').filter(|term| !term.is_empty())
}

/// `key=value`, `key==value` or `key!=value`.
fn split_equality(term: &str) -> Option<(&str, bool, &str)> {
    let (key, value) = term.split_once('=')?;
    match (key.strip_suffix('!'), value.strip_prefix('=')) {
        (Some(key), _) => Some((key, false, value)),
        (None, Some(value)) => Some((key, true, value)),
        (None, None) => Some((key, true, value)),
    }
}

fn parse_field(term: &str, resource: &Resource) -> Result<Term, String> {
    let (key, equal, value) =
        split_equality(term).ok_or_else(|| format!("invalid selector: '{term}'; can't understand '{term}'"))?;
    let common = [("metadata.name", "/metadata/name"), ("metadata.namespace", "/metadata/namespace")];
    let known = common.iter().chain(resource.selectable).find(|(field, _)| *field == key);
    match known {
        Some((_, pointer)) => Ok(Term::Field { pointer, equal, value: value.to_owned() }),
        None if resource.selectable.is_empty() => {
            Err(format!("\"{key}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""))
        }
        None => Err(format!("field label not supported: {key}")),
    }
}

fn parse_label(term: &str) -> Result<Term, String> {
    if term.contains(['(', ')', ' ', '<', '>']) {
        return Err(format!("unable to parse requirement: this server knows no set-based selectors: '{term}'"));
    }
    Ok(match split_equality(term) {
        Some((key, equal, value)) => Term::Label { key: key.to_owned(), equal, value: Some(value.to_owned()) },
        None => match term.strip_prefix('!') {
            Some(key) => Term::Label { key: key.to_owned(), equal: false, value: None },
            None => Term::Label { key: term.to_owned(), equal: true, value: None },
        },
    })
}
