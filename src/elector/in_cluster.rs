//! [`Elector::in_cluster`]: what the `leasehold` program finds out about itself in a Pod, for the library.
//!
//! IO: reads the environment and the service account's files; opens the audit log.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{Elector, ElectorBuilder, ElectorError};
use crate::config::{self, Access, ApiEndpoint, Config, Invocation};
use crate::kube::{Audit, ClientOptions, Credentials};

/// What an elector reads of the environment. Everything else (PORT, RUST_LOG) is for the program it is part of.
const READ: &[&str] = &[
    "LEASE_NAMESPACE",
    "LEASE_DURATION",
    "RENEWAL_DEADLINE",
    "RETRY_PERIOD",
    "RENEW_INTERVAL",
    "POD_NAME",
    "HOSTNAME",
    "POD_UID",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "KUBE_API_URL",
    "SERVICE_ACCOUNT_DIR",
    "AUDIT_LOG",
];

impl Elector {
    /// A candidate for the Lease `lease` in this Pod's namespace, named after this Pod, with this Pod's service
    /// account: all that the `leasehold` program reads from the environment, and by the same variables. Durations set
    /// in the code take precedence.
    ///
    /// ```no_run
    /// use leasehold::Elector;
    /// use std::ops::ControlFlow;
    ///
    /// # fn main() -> Result<(), leasehold::ElectorError> {
    /// Elector::in_cluster("nightly-report")?.build()?.run(|leadership| -> ControlFlow<()> {
    ///     while leadership.is_held() {
    ///         // One step of the work.
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// | variable | |
    /// |---|---|
    /// | `POD_NAME`, else `HOSTNAME` | the identity. `HOSTNAME` is the Pod's name unless the Pod says otherwise |
    /// | `POD_UID` | the Pod's uid, see [`ElectorBuilder::pod_uid`] |
    /// | `LEASE_NAMESPACE` | in place of the service account's namespace |
    /// | `LEASE_DURATION`, `RENEWAL_DEADLINE`, `RETRY_PERIOD`, `RENEW_INTERVAL` | 15, 10, 2 and half of the second |
    /// | `KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT` | the API server, as every Pod is told |
    /// | `KUBE_API_URL` | in place of these; `http://127.0.0.1:8001` for `kubectl proxy` |
    /// | `SERVICE_ACCOUNT_DIR` | where token and CA are, if not where the kubelet puts them |
    /// | `AUDIT_LOG` | `stdout`, `stderr` or a file: a JSON line for each API call |
    ///
    /// # Errors
    ///
    /// Every variable that is missing or wrong, with its value and what would be right; or what is wrong with the
    /// service account's files.
    pub fn in_cluster(lease: impl Into<String>) -> Result<ElectorBuilder, ElectorError> {
        from_environment(lease.into(), &|name| env::var_os(name))
    }
}

fn from_environment(lease: String, env: &dyn Fn(&str) -> Option<OsString>) -> Result<ElectorBuilder, ElectorError> {
    let lookup = |name: &str| match name {
        "LEASE_NAME" => Some(OsString::from(&lease)),
        _ => READ.contains(&name).then(|| env(name)).flatten(),
    };
    let namespace_file = |path: &Path| fs::read_to_string(path).map_err(|error| error.to_string());
    let Invocation::Run(config) = config::parse(&[], &lookup, &namespace_file)? else {
        unreachable!("without arguments it is a candidate that is configured")
    };
    let Config { access, identity, pod_uid, timing, .. } = config;
    let mut api = ClientOptions::new(&access.api.url());
    api.audit = open_audit(&access).map_err(ElectorError::Api)?;
    if matches!(access.api, ApiEndpoint::Https { .. }) {
        api.credentials = Some(Arc::new(Credentials::open(&access.service_account_dir)?));
    }
    let builder = Elector::builder(api, access.namespace, lease, identity).timing(timing);
    Ok(match pod_uid {
        Some(uid) => builder.pod_uid(uid),
        None => builder,
    })
}

/// Opens the audit log, if one is asked for.
pub(crate) fn open_audit(access: &Access) -> Result<Option<Arc<Audit>>, String> {
    let Some(target) = &access.audit_log else { return Ok(None) };
    match Audit::open(target) {
        Ok(audit) => Ok(Some(Arc::new(audit))),
        Err(error) => {
            Err(format!("AUDIT_LOG={target}: {error}; set it to stdout, stderr or a file that can be written"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(variables: &[(&str, &str)]) -> String {
        let env =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        from_environment("web".into(), &env).unwrap_err().to_string()
    }

    const POD: [(&str, &str); 4] = [
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("POD_NAME", "web-0"),
        ("LEASE_NAMESPACE", "default"),
    ];

    #[test]
    fn outside_of_a_pod_everything_that_is_missing_is_named() {
        let text = refused(&[("SERVICE_ACCOUNT_DIR", "/nowhere")]);
        for part in ["POD_NAME: not set", "LEASE_NAMESPACE: not set", "KUBERNETES_SERVICE_HOST: not set"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_wrong_duration_is_named_by_its_variable() {
        let text = refused(&[&POD[..], &[("LEASE_DURATION", "10")]].concat());
        assert!(text.contains("LEASE_DURATION=\"10\": must be more than RENEWAL_DEADLINE (10s)"), "{text}");
    }

    #[test]
    fn a_missing_token_is_named() {
        let text = refused(&[&POD[..], &[("SERVICE_ACCOUNT_DIR", "/nowhere")]].concat());
        assert!(text.starts_with("/nowhere/token: cannot be read"), "{text}");
    }

    /// PORT=http of a program that links the library is that program's own business.
    #[test]
    fn what_an_elector_does_not_use_it_does_not_read() {
        let proxy =
            [("KUBE_API_URL", "http://127.0.0.1:8001"), ("PORT", "http"), ("SERVICE_NAME", "?"), ("RUST_LOG", "§")];
        let variables = [&POD[..], &proxy].concat();
        let env =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        assert!(from_environment("web".into(), &env).is_ok());
    }

    #[test]
    fn every_variable_is_one_of_the_table() {
        for name in READ {
            assert!(config::VARIABLES.iter().any(|variable| variable.name == *name), "{name}");
        }
    }
}
