//! A request's path and query, taken apart.
//!
//! PURE.

use super::resource::{RESOURCES, ResourceId};

/// What a path names, by the API's own conventions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A collection or one object of a known resource.
    Known(Object),
    /// A subresource, or a resource, group or version that this server does not have.
    Unknown { group: String, resource: String, namespace: String, name: String },
    /// A path outside the API (`/version`).
    NonResource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub resource: ResourceId,
    /// Empty: all namespaces.
    pub namespace: String,
    /// Empty: the collection.
    pub name: String,
}

/// Splits `/apis/…?watch=true` into the path's target and the query's pairs, decoded.
pub(crate) fn parse(path_and_query: &str) -> (Target, Query) {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    (parse_target(path), Query::parse(query))
}

fn parse_target(path: &str) -> Target {
    let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(decode_path).collect();
    let mut rest = segments.iter().map(String::as_str);
    let (group, version) = match rest.next() {
        Some("api") => ("", rest.next()),
        Some("apis") => (rest.next().unwrap_or(""), rest.next()),
        _ => return Target::NonResource,
    };
    let Some(version) = version else { return Target::NonResource };
    let Some(first) = rest.next() else { return Target::NonResource };
    // `namespaces/x` alone is the object x of the resource namespaces, which this server does not serve.
    let (namespace, plural) = match (first, rest.clone().count()) {
        ("namespaces", 2..) => (rest.next().unwrap_or(""), rest.next().unwrap_or("")),
        _ => ("", first),
    };
    let name = rest.next().unwrap_or("");
    let subresource = rest.next();
    let known = RESOURCES.iter().position(|r| r.group == group && r.version == version && r.plural == plural);
    match (known, subresource) {
        (Some(id), None) if namespace.is_empty() && !name.is_empty() => unknown(RESOURCES[id].group, plural, "", name),
        (Some(id), None) => {
            Target::Known(Object { resource: ResourceId(id), namespace: namespace.to_owned(), name: name.to_owned() })
        }
        (_, Some(subresource)) => unknown(group, &format!("{plural}/{subresource}"), namespace, name),
        (None, None) => unknown(group, plural, namespace, name),
    }
}

fn unknown(group: &str, resource: &str, namespace: &str, name: &str) -> Target {
    Target::Unknown {
        group: group.to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// The query's pairs, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_query(key), decode_query(value))
        });
        Query(pairs.collect())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// As the server reads a boolean: present, and neither `false` nor `0`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value != "false" && value != "0")
    }
}

fn decode_query(text: &str) -> String {
    percent_decode(text, true)
}

fn decode_path(text: &str) -> String {
    percent_decode(text, false)
}

fn percent_decode(text: &str, plus_is_space: bool) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[at], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) if plus_is_space => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_collections_and_objects() {
        let (target, query) = parse("/apis/coordination.k8s.io/v1/namespaces/ns/leases/a?fieldManager=x%2Fy&watch");
        let Target::Known(object) = target else { panic!("{target:?}") };
        assert_eq!((object.namespace.as_str(), object.name.as_str()), ("ns", "a"));
        assert_eq!(RESOURCES[object.resource.0].plural, "leases");
        assert_eq!(query.get("fieldManager"), Some("x/y"));
        assert!(query.flag("watch"));

        let (target, query) = parse("/api/v1/pods?watch=0&fieldSelector=metadata.name%3Da");
        let Target::Known(object) = target else { panic!("{target:?}") };
        assert_eq!((object.namespace.as_str(), object.name.as_str()), ("", ""));
        assert_eq!(query.get("fieldSelector"), Some("metadata.name=a"));
        assert!(!query.flag("watch"));
    }

    #[test]
    fn what_is_not_served_is_told_apart() {
        assert_eq!(parse("/version").0, Target::NonResource);
        assert_eq!(parse("/").0, Target::NonResource);
        for path in [
            "/apis/coordination.k8s.io/v2/namespaces/ns/leases/a",
            "/api/v1/namespaces/ns",
            "/api/v1/namespaces/ns/pods/x/status",
            "/api/v1/namespaces/ns/configmaps/x",
            "/api/v1/pods/x",
        ] {
            assert!(matches!(parse(path).0, Target::Unknown { .. }), "{path}");
        }
    }
}
