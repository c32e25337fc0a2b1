//! How each kind of value in a Pod's environment is read: durations, names, addresses, URLs.
//!
//! PURE. Every function takes the text as it was given and returns the value, or what is wrong with the text and what
//! would be right, to stand after the variable's name and value.

use std::path::PathBuf;
use std::time::Duration;

use crate::kube::AuditTarget;
pub use crate::kube::url::{Host, Problem, Scheme, Url, port};

/// Leases hold their duration as a 32-bit number of seconds; no other wait is longer either.
const LONGEST_SECONDS: u64 = i32::MAX as u64;

/// Seconds, or a number with `ms`, `s`, `m` or `h`; zero included. Exact: nothing is rounded.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let unit_nanos: u128 = match unit {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return Err(NOT_A_DURATION.into()),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (number, "0"),
    };
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(NOT_A_DURATION.into());
    }
    let too_long = || format!("too long; the longest is {LONGEST_SECONDS} seconds");
    let whole: u64 = whole.parse().map_err(|_| too_long())?;
    let fraction = fraction.trim_end_matches('0');
    let too_fine = || "finer than a nanosecond; give fewer digits".to_owned();
    // No unit leaves a whole nanosecond in the sixteenth digit.
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok().filter(|&n| n < 16).ok_or_else(too_fine)?);
    let part = fraction.bytes().fold(0, |n, digit| n * 10 + u128::from(digit - b'0'));
    if !(part * unit_nanos).is_multiple_of(scale) {
        return Err(too_fine());
    }
    let nanos = u128::from(whole) * unit_nanos + part * unit_nanos / scale;
    match u64::try_from(nanos) {
        Ok(nanos) if nanos <= LONGEST_SECONDS * 1_000_000_000 => Ok(Duration::from_nanos(nanos)),
        _ => Err(too_long()),
    }
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

/// A path, taken as it is.
pub fn path(text: &str) -> Result<PathBuf, Problem> {
    Ok(PathBuf::from(text))
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

/// What a Lease's holderIdentity may be here: anything that people can read in one column.
pub fn identity(text: &str) -> Result<String, Problem> {
    visible(text, 253)
}

/// A Pod's uid or revision. Its form is Kubernetes' business; it only has to be the same each time.
pub fn visible_id(text: &str) -> Result<String, Problem> {
    visible(text, 128)
}

fn visible(text: &str, longest: usize) -> Result<String, Problem> {
    if !text.is_empty() && text.len() <= longest && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(format!("must be 1 to {longest} visible ASCII characters, without spaces"))
}

/// Whether this is a name and no address, not even a wrong one.
pub fn is_host_name(text: &str) -> bool {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    Host::parse(text).is_none() && dns_subdomain(&name).is_ok() && name.bytes().any(|b| b.is_ascii_alphabetic())
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
    let Url { scheme, host, port, .. } = Url::of_api_server(text)?;
    let scheme = if scheme == Scheme::Https { "https" } else { "http" };
    Ok(format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        let nanos = |text: &str| duration(text).map(|d| d.as_nanos());
        for (text, expected) in [
            ("0", 0),
            ("15", 15_000_000_000),
            ("1.5", 1_500_000_000),
            ("1.5s", 1_500_000_000),
            ("1.5ms", 1_500_000),
            ("0.1", 100_000_000),
            ("0.7m", 42_000_000_000),
            ("2h", 7_200_000_000_000),
            ("0.000000001", 1),
            ("1.500000000000000000000000000000000", 1_500_000_000),
            ("007", 7_000_000_000),
            ("2147483647", 2_147_483_647_000_000_000),
        ] {
            assert_eq!(nanos(text), Ok(expected), "{text}");
        }
        for text in [
            "", " ", ".", "1.", ".5", "1..2", "1.2.3", "-1", "+1", "1e3", "inf", "NaN", "s", "1 s", " 1", "1 ", "1S",
            "1d", "1us", "1sec", "1,5", "１５", "0x10",
        ] {
            assert!(nanos(text).is_err_and(|problem| problem.contains("not a duration")), "{text:?}");
        }
        for text in ["2147483647.1", "2147483648", "596524h", "18446744073709551616", "99999999999999999999999999h"] {
            assert!(nanos(text).is_err_and(|problem| problem.contains("too long")), "{text:?}");
        }
        for text in ["0.0000000001", "0.0000001ms", "1.0000000000000000000000000000000000000001"] {
            assert!(nanos(text).is_err_and(|problem| problem.contains("nanosecond")), "{text:?}");
        }
    }

    #[test]
    fn names_are_as_long_as_kubernetes_lets_them_be() {
        let letters = |n| "a".repeat(n);
        assert!(dns_label(&letters(63)).is_ok() && dns_label(&letters(64)).is_err());
        assert!(dns_subdomain(&letters(253)).is_ok() && dns_subdomain(&letters(254)).is_err());
        assert!(identity(&letters(253)).is_ok() && identity(&letters(254)).is_err());
        assert!(visible_id(&letters(128)).is_ok() && visible_id(&letters(129)).is_err());
        assert!(dns_label("0").is_ok());
    }
}
