//! The URLs that are understood: scheme, address or localhost, port.
//!
//! PURE.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

/// What is wrong with a value, and what would be right.
pub type Problem = String;

/// A port to connect to.
pub fn port(text: &str) -> Result<u16, Problem> {
    let port = digits(text).and_then(|n| u16::try_from(n).ok()).filter(|&n| n > 0);
    port.ok_or_else(|| "not a port; write a number from 1 to 65535".into())
}

/// Decimal digits only: `str::parse` would let a sign through.
pub(crate) fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The host of a URL. Names other than `localhost` are not resolved (docs/adr/0005-ip-addresses-only.md).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// The one name that needs no resolver. Kept as a name, as a certificate may be issued for it.
    Localhost,
}

impl Host {
    /// The address to connect to.
    pub fn ip(self) -> IpAddr {
        match self {
            Host::Ip(ip) => ip,
            Host::Localhost => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Host> {
        if text.eq_ignore_ascii_case("localhost") {
            return Some(Host::Localhost);
        }
        match text.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(ip.into())),
            None => text.parse().ok().map(Host::Ip),
        }
    }
}

impl fmt::Display for Host {
    /// In the form of a URL: an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Localhost => f.write_str("localhost"),
        }
    }
}

/// A URL whose host is an address or localhost.
pub struct Url<'a> {
    /// https, else http.
    pub tls: bool,
    /// Where to connect to.
    pub host: Host,
    /// 80 or 443 where none is given.
    pub port: u16,
    /// From the path on; empty when there is none.
    pub rest: &'a str,
}

impl<'a> Url<'a> {
    /// Reads it.
    pub fn parse(text: &'a str) -> Result<Url<'a>, Problem> {
        let (scheme, after) = text.split_once("://").ok_or("not a URL; it begins with http:// or https://")?;
        let (tls, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err("not a URL for HTTP; it begins with http:// or https://".into()),
        };
        let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
        if authority.contains('@') {
            return Err("must not hold a user name or password".into());
        }
        if rest.contains('#') || !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("what follows the host must be visible ASCII characters without spaces or #".into());
        }
        // A colon inside brackets belongs to the address.
        let colon = authority.rfind(':').filter(|&at| at > authority.rfind(']').unwrap_or(0));
        let (host, port) = match colon {
            Some(at) if !authority[..at].contains(':') || authority.starts_with('[') => {
                (&authority[..at], port(&authority[at + 1..])?)
            }
            Some(_) => return Err("an IPv6 address in a URL stands in brackets, as in https://[fd00::1]:443".into()),
            None => (authority, default_port),
        };
        let host = Host::parse(host).ok_or("its host must be an IP address or localhost: names are not resolved")?;
        Ok(Url { tls, host, port, rest })
    }

    /// Reads the URL of an API server: no path, and plain HTTP to a loopback address alone, as no token may travel in
    /// the clear.
    pub fn of_api_server(text: &'a str) -> Result<Url<'a>, Problem> {
        let url = Url::parse(text)?;
        if !matches!(url.rest, "" | "/") {
            return Err("must end after host and port: a path or query is not supported".into());
        }
        if !url.tls && !url.host.ip().is_loopback() {
            return Err("http:// is for a loopback address only (127.0.0.1, [::1], localhost); use https://".into());
        }
        Ok(url)
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }
}
