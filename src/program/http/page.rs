//! The page for people: who leads, for how long, and how it came about.
//!
//! PURE. One self-contained document. Names from outside are escaped; and the policy names the hashes of the one style
//! and the one script, so no other runs.

use crate::kube::status::one_line;
use crate::program::state::StateView;
use crate::time::{WallTime, human};
use std::time::Duration;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Everything is forbidden but this style, this script, and fetching this page again. The hashes are checked by a test,
/// which prints the right ones.
pub(super) const POLICY: &str = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; style-src 'sha256-ICNeBozOOdKBAuDf0bcXYJeQzEIPk5/XEhU/anKvkAk='; script-src 'sha256-LPly1Pu887+lCw/Vs039s7Bw9pMUNuF6hjFVFa7Ni5k='";

/// Characters shown of a name. A Lease takes a holder of any length.
const NAME_SHOWN: usize = 100;

/// The page at `now`.
pub(super) fn render(view: &StateView, now: WallTime) -> String {
    let (headline, class) = match &view.leader {
        _ if view.is_leader => ("This pod leads".to_owned(), " class=on"),
        Some(leader) => (format!("{} leads", html(leader)), ""),
        None => ("Nobody leads".to_owned(), " class=off"),
    };
    let health = match &view.unhealthy {
        None => "<span class=on>healthy</span>".to_owned(),
        Some(reason) => format!("<span class=off>{}</span>", html(reason)),
    };
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{headline} · {lease}</title><style>{STYLE}</style>\
         <noscript><meta http-equiv=refresh content=5></noscript>\
         <main><section><p class=soft>{lease}{health}</p><h1{class}>{headline}</h1><dl>{details}</dl>{history}</section></main>\
         <footer><span>leasehold {version}</span><span id=live></span>\
         <a href=leader>leader</a><a href=metrics>metrics</a></footer>\
         <script>{SCRIPT}</script></html>\n",
        lease = html(&view.lease),
        details = details(view, now),
        history = history(view, now),
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// Text from outside, as HTML text: shortened, and without anything that HTML or the eye could misread.
fn html(text: &str) -> String {
    let mut shown = one_line(text.chars().take(NAME_SHOWN));
    for (special, escape) in [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")] {
        shown = shown.replace(special, escape);
    }
    if text.chars().nth(NAME_SHOWN).is_some() { shown + "…" } else { shown }
}

fn details(view: &StateView, now: WallTime) -> String {
    let service = view.service.as_ref().map(|service| {
        let target = view.service_target.as_deref().unwrap_or("nobody yet");
        format!("{} → {}", html(service), html(target))
    });
    let rows = [
        ("This pod", Some(html(&view.pod))),
        ("Valid without renewal for", view.is_leader.then(|| human(view.valid_for))),
        ("Leading since", view.leader_since.map(|since| ago(since, now))),
        ("Next in line", view.successor.as_deref().map(html)),
        ("Transitions", Some(view.transitions.to_string())),
        ("Fencing token", view.fencing_token.map(|token| token.to_string())),
        ("Service", service),
    ];
    let known = rows.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known.map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>")).collect()
}

fn history(view: &StateView, now: WallTime) -> String {
    let item = |(at, leader): &(WallTime, Option<String>)| {
        let leader = leader.as_ref().map(|leader| format!("<b>{}</b>", html(leader)));
        let leader = leader.unwrap_or_else(|| "<span class=soft>nobody</span>".to_owned());
        let time = at.to_string();
        let clock = time.get(11..19).unwrap_or(&time);
        format!("<li>{leader}<time datetime=\"{time}\">{clock} UTC, {}</time></li>", ago(*at, now))
    };
    let items: String = view.history.iter().rev().map(item).collect();
    if items.is_empty() { items } else { format!("<h2>Transitions seen by this pod</h2><ol>{items}</ol>") }
}

/// How long ago a time was. Both are wall time: for people, and as right as the clocks are.
fn ago(at: WallTime, now: WallTime) -> String {
    let seconds = u64::try_from(now.seconds() - at.seconds()).unwrap_or(0);
    format!("{} ago", human(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::state::HISTORY;
    use ring::digest::{SHA256, digest};

    const NOW: WallTime = WallTime(1_795_359_845_000_000);

    fn seen(seconds: i64, leader: Option<&str>) -> (WallTime, Option<String>) {
        (WallTime(NOW.0 - seconds * 1_000_000), leader.map(str::to_owned))
    }

    fn view(name: &str) -> StateView {
        StateView {
            lease: format!("ns/{name}"),
            pod: name.to_owned(),
            leader: Some(name.to_owned()),
            is_leader: false,
            transitions: 3,
            fencing_token: Some(u128::MAX),
            renewal_age: None,
            term: None,
            valid_for: Duration::from_millis(7_340),
            successor: Some(name.to_owned()),
            leader_since: Some(WallTime(NOW.0 - 90_000_000)),
            history: vec![seen(400_000, Some("pod-a")), seen(120, None), seen(90, Some(name))],
            service: Some(name.to_owned()),
            service_target: Some(name.to_owned()),
            unhealthy: None,
            ready: true,
        }
    }

    fn unhealthy(name: &str) -> StateView {
        StateView { unhealthy: Some(name.to_owned()), ..view(name) }
    }

    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for at in 0..4 {
                let sextet = (bits >> (18 - 6 * at) & 63) as usize;
                text.push(if at <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
            }
        }
        text
    }

    #[test]
    fn the_policy_names_the_style_and_the_script_and_nothing_inline_beside_them() {
        for (directive, text) in [("style-src", STYLE), ("script-src", SCRIPT)] {
            let allowed = format!("{directive} 'sha256-{}'", base64(digest(&SHA256, text.as_bytes()).as_ref()));
            assert!(POLICY.contains(&allowed), "the policy must say {allowed}");
        }
        let page = render(&view("pod-a"), NOW);
        assert_eq!(page.matches("<style").count(), 1);
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("style=") && !page.contains(" on=") && !page.contains("http://"));
    }

    #[test]
    fn names_from_outside_stay_text() {
        for hostile in [
            "</title><script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "'--></style><script>",
            "&lt;b&gt;",
            "a\u{202e}b\u{0}\u{1b}[31m\n",
        ] {
            let page = render(&unhealthy(hostile), NOW);
            let harmless = render(&unhealthy("x"), NOW);
            for mark in ["<", ">", "\"", "'"] {
                assert_eq!(page.matches(mark).count(), harmless.matches(mark).count(), "{mark} from {hostile}");
            }
            assert!(!page.contains(['\u{202e}', '\u{0}', '\u{1b}']));
        }
        assert!(render(&view("&lt;"), NOW).contains("&amp;lt;"), "an escape in a name is no escape");
    }

    #[test]
    fn it_stays_small_whatever_it_shows() {
        let mut large = unhealthy(&"&".repeat(1_000_000));
        large.history = vec![seen(10_000, Some(&"\"".repeat(10_000))); HISTORY];
        let page = render(&large, NOW);
        assert!(page.len() < 32 << 10, "{}", page.len());
        let usual = render(&view("web-6b7f9c5d4-x2v8q"), NOW);
        assert!(usual.len() < 6 << 10, "{}", usual.len());
    }

    #[test]
    fn it_says_who_leads() {
        let mut shown = view("pod-b");
        let page = |view: &StateView| render(view, NOW);
        assert!(page(&shown).contains("<h1>pod-b leads</h1>"));
        assert!(page(&shown).contains("340282366920938463463374607431768211455"));
        assert!(page(&shown).contains("1m 30s ago"));
        shown.is_leader = true;
        assert!(page(&shown).contains("<h1 class=on>This pod leads</h1>"));
        assert!(page(&shown).contains("7.3s"));
        (shown.is_leader, shown.leader) = (false, None);
        assert!(page(&shown).contains("<h1 class=off>Nobody leads</h1>"));
    }
}
