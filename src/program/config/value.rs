//! How the program's own kinds of value are read: ports, switches, the log's settings, HEALTH_URL.
//!
//! PURE. As `environment::value`: each function returns the value, or what is wrong and what would be right.

use std::num::NonZeroU32;

use log::LevelFilter;

use super::LogFormat;
use crate::environment::shown;
use crate::environment::value::{Problem, Url, dns_subdomain};

/// A port to listen on; 0 is any free one.
pub(super) fn port_or_zero(text: &str) -> Result<u16, Problem> {
    text.parse().map_err(|_| "not a port; write a number from 1 to 65535, or 0 for any free one".into())
}

/// A number of times, at least once.
pub(super) fn count(text: &str) -> Result<u32, Problem> {
    text.parse().map(NonZeroU32::get).map_err(|_| "not a count; write a whole number, 1 or more".into())
}

/// `on` or `off`, in the spellings that manifests use.
pub(super) fn switch(text: &str) -> Result<bool, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" => Ok(true),
        "off" | "false" | "0" => Ok(false),
        _ => Err("neither on nor off".into()),
    }
}

/// `text` or `json`.
pub(super) fn log_format(text: &str) -> Result<LogFormat, Problem> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("unknown; write text or json".into()),
    }
}

/// A filter in the form that `RUST_LOG` has everywhere: levels and `MODULE=LEVEL`, separated by commas.
///
/// The logger would take a misspelt level (`inof`) for a module's name, log that module and silence all others.
pub(super) fn log_filter(text: &str) -> Result<String, Problem> {
    let directives = text.split('/').next().unwrap_or_default();
    for directive in directives.split(',').filter(|directive| !directive.trim().is_empty()) {
        let level = directive.rsplit('=').next().unwrap_or_default();
        if level.trim().parse::<LevelFilter>().is_err() {
            return Err(format!(
                "\"{}\" is not a level; write off, error, warn, info or debug, or MODULE=LEVEL",
                shown(level)
            ));
        }
    }
    Ok(text.to_owned())
}

/// A label key: a name, and before it perhaps a DNS subdomain and a slash.
pub(super) fn label_key(text: &str) -> Result<String, Problem> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let edge = |c: char| c.is_ascii_alphanumeric();
    let inside = |c: char| edge(c) || "-_.".contains(c);
    let named = name.len() <= 63 && name.chars().all(inside) && name.starts_with(edge) && name.ends_with(edge);
    if named && prefix.is_none_or(|prefix| dns_subdomain(prefix).is_ok()) {
        return Ok(text.to_owned());
    }
    Err("not a label key; use at most 63 letters, digits, -, _ and . (pod, or example.com/pod)".into())
}

/// The URL whose answer tells whether the workload is healthy.
pub(super) fn health_url(text: &str) -> Result<String, Problem> {
    let Url { tls, host, port, rest } = Url::parse(text)?;
    if tls || !host.ip().is_loopback() {
        return Err("must be http:// to a loopback address (127.0.0.1, [::1], localhost): it asks a neighbour in the \
                    same Pod"
            .into());
    }
    let slash = if rest.starts_with('/') { "" } else { "/" };
    Ok(format!("http://{host}:{port}{slash}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_are_as_long_as_kubernetes_lets_them_be() {
        let letters = |n| "a".repeat(n);
        assert!(label_key(&letters(63)).is_ok() && label_key(&letters(64)).is_err());
        assert!(label_key(&format!("{}/{}", letters(253), letters(63))).is_ok());
        assert!(label_key(&format!("{}/a", letters(254))).is_err());
        assert!(label_key("a_B.c-9").is_ok());
    }
}
