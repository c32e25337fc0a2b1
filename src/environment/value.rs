//! How each kind of value in a Pod's environment is read: durations, names, addresses, URLs.
//!
//! PURE. Every function takes the text as it was given and returns the value, or what is wrong with the text and what
//! would be right, to stand after the variable's name and value.

use std::path::PathBuf;
use std::time::Duration;

use crate::kube::AuditTarget;
pub use crate::kube::url::{Host, Problem, Url, port};

/// Leases hold their duration as a 32-bit number of seconds; no other wait is longer either.
const LONGEST: Duration = Duration::from_secs(i32::MAX as u64);

/// Seconds, or a number with `ms`, `s`, `m` or `h`; zero included. To the nanosecond.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let (whole, fraction) = number.rsplit_once('.').unwrap_or((number, "0"));
    // Nine digits, as many as nanoseconds have.
    let nanos = format!("{fraction:0<9.9}");
    let (Ok(whole), Ok(nanos)) = (whole.parse(), nanos.parse()) else { return Err(NOT_A_DURATION.into()) };
    let number = Duration::new(whole, nanos);
    let duration = match unit {
        "ms" => number / 1000,
        "" | "s" => number,
        "m" => number.saturating_mul(60),
        "h" => number.saturating_mul(3600),
        _ => return Err(NOT_A_DURATION.into()),
    };
    if duration > LONGEST {
        return Err(format!("too long; the longest is {} seconds", LONGEST.as_secs()));
    }
    Ok(duration)
}

const NOT_A_DURATION: &str = "not a duration; write seconds (15, 0.5) or a number with ms, s, m or h (500ms, 2m)";

/// A duration that a loop waits for: zero would spin.
pub fn interval(text: &str) -> Result<Duration, Problem> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than zero".into()),
        more => Ok(more),
    }
}

/// Where the audit log goes, if anywhere.
pub fn audit_target(text: &str) -> Result<Option<AuditTarget>, Problem> {
    match text {
        "off" => Ok(None),
        "stdout" => Ok(Some(AuditTarget::Stdout)),
        "stderr" => Ok(Some(AuditTarget::Stderr)),
        // These are not meant as a file's name.
        "on" | "true" | "yes" | "1" | "false" | "no" | "none" | "0" => {
            Err("unknown; write off, stdout, stderr or the path of a file".into())
        }
        path => Ok(Some(AuditTarget::File(PathBuf::from(path)))),
    }
}

fn is_dns_label(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

/// A DNS-1123 label, as namespaces and Services are named.
///
/// Kubernetes long demanded of a Service that its name begin with a letter and has begun to drop that; whether there is
/// such a Service is for the API server to say.
pub fn dns_label(text: &str) -> Result<String, Problem> {
    if is_dns_label(text) && text.len() <= 63 {
        return Ok(text.to_owned());
    }
    Err("not a valid name; use at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit".into())
}

/// A DNS-1123 subdomain, as Leases and Pods are named.
pub fn dns_subdomain(text: &str) -> Result<String, Problem> {
    if text.split('.').all(is_dns_label) && text.len() <= 253 {
        return Ok(text.to_owned());
    }
    Err("not a valid name; use at most 253 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit"
        .into())
}

/// What people can read in one column: an identity, as the Lease's HOLDER shows it; a Pod's uid or revision, whose form is
/// Kubernetes' business.
pub fn visible(text: &str) -> Result<String, Problem> {
    if (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 253 visible ASCII characters, without spaces".into())
}

/// The host of the API server.
pub fn service_host(text: &str) -> Result<Host, Problem> {
    Host::parse(text).ok_or_else(|| {
        "not an IP address, and names are not resolved; set KUBE_API_URL=https://ADDRESS:PORT with the address \
         (in a Pod, the ClusterIP of the Service kubernetes in the namespace default)"
            .into()
    })
}

/// The API server's URL, with its port and no path.
pub fn api_url(text: &str) -> Result<String, Problem> {
    Ok(Url::of_api_server(text)?.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact_to_the_nanosecond() {
        let nanos = |text: &str| duration(text).map(|d| d.as_nanos());
        for (text, expected) in [
            ("0", 0),
            ("15", 15_000_000_000),
            ("1.5", 1_500_000_000),
            ("1.5s", 1_500_000_000),
            ("1.5ms", 1_500_000),
            ("0.1", 100_000_000),
            ("1.", 1_000_000_000),
            ("0.7m", 42_000_000_000),
            ("12.000000001", 12_000_000_001),
            ("0.0000000001", 0),
            ("2h", 7_200_000_000_000),
            ("0.000000001", 1),
            ("1.500000000000000000000000000000000", 1_500_000_000),
            ("007", 7_000_000_000),
            ("2147483647", 2_147_483_647_000_000_000),
        ] {
            assert_eq!(nanos(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            " ",
            ".",
            ".5",
            "1..2",
            "1.2.3",
            "1.123456789.5",
            "-1",
            "+1",
            "1e3",
            "inf",
            "NaN",
            "s",
            "1 s",
            " 1",
            "1 ",
            "1S",
            "1d",
            "1us",
            "1sec",
            "1,5",
            "１５",
            "0x10",
        ] {
            assert!(nanos(text).is_err_and(|problem| problem.contains("not a duration")), "{text:?}");
        }
        for text in ["2147483647.1", "2147483648", "596524h", "18446744073709551615h"] {
            assert!(nanos(text).is_err_and(|problem| problem.contains("too long")), "{text:?}");
        }
    }

    #[test]
    fn names_are_as_long_as_kubernetes_lets_them_be() {
        let letters = |n| "a".repeat(n);
        assert!(dns_label(&letters(63)).is_ok() && dns_label(&letters(64)).is_err());
        assert!(dns_subdomain(&letters(253)).is_ok() && dns_subdomain(&letters(254)).is_err());
        assert!(visible(&letters(253)).is_ok() && visible(&letters(254)).is_err());
        assert!(dns_label("0").is_ok());
    }
}
