//! Who may do what: Roles bound to user names, evaluated as kube-apiserver's RBAC authorizer does.
//!
//! PURE.

use serde_json::Value;

/// What a request wants, in RBAC's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: &'a str,
    /// The API group; empty for core.
    pub group: &'a str,
    /// The plural, with the subresource if any: `pods/status`.
    pub resource: &'a str,
    /// The namespace; empty for all of them.
    pub namespace: &'a str,
    /// The object, also for a list or watch whose field selector is exactly `metadata.name=…`; otherwise empty.
    pub name: &'a str,
}

/// One rule of a Role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Groups; `""` is core, `*` is every group.
    pub api_groups: Vec<String>,
    /// Plurals; `*` is every one.
    pub resources: Vec<String>,
    /// Objects' names; empty is every one.
    pub resource_names: Vec<String>,
    /// Verbs; `*` is every one.
    pub verbs: Vec<String>,
}

impl Rule {
    fn allows(&self, attempt: &Attempt) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|entry| entry == "*" || entry == wanted);
        has(&self.verbs, attempt.verb)
            && has(&self.api_groups, attempt.group)
            && has(&self.resources, attempt.resource)
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == attempt.name))
    }
}

/// The rules of a Role or ClusterRole, from its manifest as JSON. The error names what is missing or of a wrong type.
pub fn rules_of(role: &Value) -> Result<Vec<Rule>, String> {
    let rules = role.get("rules").and_then(Value::as_array).ok_or("a Role has a list `rules`")?;
    rules
        .iter()
        .enumerate()
        .map(|(index, rule)| parse_rule(rule).map_err(|why| format!("rules[{index}]: {why}")))
        .collect()
}

fn parse_rule(rule: &Value) -> Result<Rule, String> {
    let strings = |key: &str| -> Result<Vec<String>, String> {
        let Some(list) = rule.get(key).filter(|v| !v.is_null()) else { return Ok(Vec::new()) };
        let list = list.as_array().ok_or_else(|| format!("`{key}` is not a list"))?;
        let text = |entry: &Value| entry.as_str().map(str::to_owned).ok_or_else(|| format!("`{key}` has {entry}"));
        list.iter().map(text).collect()
    };
    let parsed = Rule {
        api_groups: strings("apiGroups")?,
        resources: strings("resources")?,
        resource_names: strings("resourceNames")?,
        verbs: strings("verbs")?,
    };
    match (parsed.verbs.is_empty(), parsed.api_groups.is_empty(), parsed.resources.is_empty()) {
        (true, _, _) => Err("no `verbs`".to_owned()),
        (_, true, _) => Err("no `apiGroups`".to_owned()),
        (_, _, true) => Err("no `resources`".to_owned()),
        _ => Ok(parsed),
    }
}

#[derive(Clone, Debug)]
struct Binding {
    user: String,
    /// `None`: every namespace, as by a ClusterRoleBinding.
    namespace: Option<String>,
    rules: Vec<Rule>,
}

/// The bindings. Until the first one is made (or [`Rbac::enforce`] is called) everybody may do everything.
#[derive(Clone, Debug, Default)]
pub struct Rbac {
    enforced: bool,
    bindings: Vec<Binding>,
}

impl Rbac {
    /// From now on only what a binding grants is allowed.
    pub fn enforce(&mut self) {
        self.enforced = true;
    }

    /// Whether bindings decide.
    pub fn is_enforced(&self) -> bool {
        self.enforced
    }

    /// Gives `user` the rules of `role` (a Role's manifest as JSON) in `namespace`, beside what it has, and enforces.
    pub fn bind(&mut self, user: &str, namespace: &str, role: &Value) -> Result<(), String> {
        self.add(user, Some(namespace), rules_of(role)?);
        Ok(())
    }

    /// The same in every namespace, as a ClusterRoleBinding does.
    pub fn bind_everywhere(&mut self, user: &str, role: &Value) -> Result<(), String> {
        self.add(user, None, rules_of(role)?);
        Ok(())
    }

    fn add(&mut self, user: &str, namespace: Option<&str>, rules: Vec<Rule>) {
        self.enforced = true;
        self.bindings.push(Binding { user: user.to_owned(), namespace: namespace.map(str::to_owned), rules });
    }

    /// Takes every binding of `user` away.
    pub fn unbind(&mut self, user: &str) {
        self.bindings.retain(|binding| binding.user != user);
    }

    /// Whether `user` may make this attempt.
    pub fn allows(&self, user: &str, attempt: &Attempt) -> bool {
        !self.enforced
            || self.bindings.iter().any(|binding| {
                let in_scope = binding.namespace.as_deref().is_none_or(|namespace| namespace == attempt.namespace);
                binding.user == user && in_scope && binding.rules.iter().any(|rule| rule.allows(attempt))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attempt<'a>(verb: &'a str, name: &'a str) -> Attempt<'a> {
        Attempt { verb, group: "coordination.k8s.io", resource: "leases", namespace: "ns", name }
    }

    fn role() -> Value {
        json!({ "rules": [
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["a"],
              "verbs": ["get", "watch"] },
        ]})
    }

    #[test]
    fn nothing_is_forbidden_until_something_is_bound() {
        let mut rbac = Rbac::default();
        assert!(rbac.allows("u", &attempt("delete", "x")));
        rbac.enforce();
        assert!(!rbac.allows("u", &attempt("delete", "x")));
    }

    #[test]
    fn a_binding_grants_its_rules_to_its_user_in_its_namespace() {
        let mut rbac = Rbac::default();
        rbac.bind("u", "ns", &role()).unwrap();
        assert!(rbac.allows("u", &attempt("get", "a")));
        assert!(rbac.allows("u", &attempt("watch", "a")));
        assert!(rbac.allows("u", &attempt("create", "")));
        assert!(!rbac.allows("u", &attempt("get", "b")), "another name");
        assert!(!rbac.allows("u", &attempt("watch", "")), "a watch without the field selector has no name");
        assert!(!rbac.allows("u", &attempt("update", "a")), "a verb that was not given");
        assert!(!rbac.allows("v", &attempt("get", "a")), "another user");
        assert!(!rbac.allows("u", &Attempt { namespace: "other", ..attempt("get", "a") }));
        assert!(!rbac.allows("u", &Attempt { namespace: "", ..attempt("get", "a") }));
        assert!(!rbac.allows("u", &Attempt { group: "", ..attempt("get", "a") }));
        assert!(!rbac.allows("u", &Attempt { resource: "pods", ..attempt("get", "a") }));
        rbac.unbind("u");
        assert!(!rbac.allows("u", &attempt("get", "a")));
    }

    #[test]
    fn a_cluster_wide_binding_and_wildcards() {
        let mut rbac = Rbac::default();
        let all = json!({ "rules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }] });
        rbac.bind_everywhere("u", &all).unwrap();
        assert!(rbac.allows("u", &Attempt { namespace: "", ..attempt("list", "") }));
    }

    #[test]
    fn what_is_wrong_with_a_role_is_named() {
        assert_eq!(rules_of(&json!({})).unwrap_err(), "a Role has a list `rules`");
        let bad = json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": "get" }] });
        assert_eq!(rules_of(&bad).unwrap_err(), "rules[0]: `verbs` is not a list");
        let bad = json!({ "rules": [{ "apiGroups": [""], "verbs": ["get"] }] });
        assert_eq!(rules_of(&bad).unwrap_err(), "rules[0]: no `resources`");
    }
}
