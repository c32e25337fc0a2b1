//! A request's head: where it ends, and what of it tiny_http is given.
//!
//! PURE. tiny_http gets a head written anew from the method, the target and one bit of `Accept`. Nothing else of a
//! client's bytes may reach it: a `Content-Length` of 2^64 - 1 makes it panic, a version 2.0 blocks one of its threads
//! for ever, and a body announced but not sent leaves a request without an answer.

/// Bytes of a head.
pub const HEAD_MAX: usize = 8 << 10;

/// The head that tiny_http is given for the one that `received` begins with, or the status and the reason of a refusal;
/// `None` while it is not whole.
pub(super) fn read(received: &[u8]) -> Option<Result<String, (u16, &'static str)>> {
    const MALFORMED: (u16, &str) = (400, "not an HTTP/1 request\n");
    match end(received) {
        // A TLS client says hello without an empty line, and waits.
        _ if !received.first()?.is_ascii_graphic() => Some(Err(MALFORMED)),
        Some(end) if end <= HEAD_MAX => Some(rewrite(&received[..end]).ok_or(MALFORMED)),
        None if received.len() < HEAD_MAX => None,
        _ => Some(Err((431, "the head is too large\n"))),
    }
}

/// Where the head ends that `received` begins with: after its first empty line.
pub fn end(received: &[u8]) -> Option<usize> {
    let mut line_ends = (0..received.len()).filter(|at| received[*at] == b'\n');
    line_ends.find_map(|at| match received[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The head that tiny_http is given for a client's; `None` where it is not that of an HTTP/1 request.
pub fn rewrite(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let words: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = words[..] else { return None };
    if ![method, target].iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic())) {
        return None;
    }
    let fields = lines.filter_map(|line| line.split_once(':'));
    let html = fields.filter(|(name, _)| name.eq_ignore_ascii_case("accept")).any(|(_, value)| prefers_html(value));
    let accept = if html { "Accept: text/html\r\n" } else { "" };
    Some(format!("{method} {target} HTTP/1.1\r\n{accept}\r\n"))
}

/// Browsers name HTML first. Programs name JSON, or anything.
fn prefers_html(accept: &str) -> bool {
    accept.contains("text/html") && !accept.contains("application/json")
}

/// The path of a target in origin form (`/leader?x`) or in absolute form (`http://host/leader?x`), without its query.
pub(super) fn path_of(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_first_empty_line_and_not_before() {
        for text in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\n\n", "GET / HTTP/1.0\n\r\n"] {
            for cut in 0..text.len() {
                assert_eq!(end(&text.as_bytes()[..cut]), None, "{text:?} cut at {cut}");
            }
            assert_eq!(end(text.as_bytes()), Some(text.len()));
            assert_eq!(end(format!("{text}GET /next\n\n").as_bytes()), Some(text.len()));
        }
    }

    #[test]
    fn only_the_method_the_target_and_one_bit_of_accept_are_passed_on() {
        let hostile = b"POST /leader?x HTTP/1.0\r\nContent-Length: 18446744073709551615\r\nExpect: 100-continue\r\n\
                       Connection: upgrade\r\nTE: chunked\r\nAccept: \xc3\x28\r\n\r\n";
        assert_eq!(rewrite(hostile).as_deref(), Some("POST /leader?x HTTP/1.1\r\n\r\n"));
        let browser = "GET / HTTP/1.1\r\nhost: a\r\nACCEPT: text/html,*/*;q=0.8\r\n\r\n";
        assert_eq!(rewrite(browser.as_bytes()).as_deref(), Some("GET / HTTP/1.1\r\nAccept: text/html\r\n\r\n"));
        for accept in ["*/*", "application/json", "application/json, text/html;q=0.5", ""] {
            let head = format!("GET / HTTP/1.1\nAccept: {accept}\n\n");
            assert_eq!(rewrite(head.as_bytes()).as_deref(), Some("GET / HTTP/1.1\r\n\r\n"), "{accept}");
        }
    }

    #[test]
    fn what_is_not_http_1_is_not_passed_on() {
        for head in [
            "GET / HTTP/2.0",
            "GET / HTTP/0.9",
            "GET / http/1.1",
            "GET /",
            "GET  / HTTP/1.1",
            "GET / HTTP/2.0 HTTP/1.1",
            " / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /\u{e4} HTTP/1.1",
            "GET /\t HTTP/1.1",
            "G\rT / HTTP/1.1",
            "",
            "\0\0\0",
        ] {
            assert_eq!(rewrite(format!("{head}\r\n\r\n").as_bytes()), None, "{head:?}");
        }
    }

    #[test]
    fn a_path_is_found_in_both_forms_of_a_target() {
        for (target, path) in [
            ("/leader", "/leader"),
            ("/leader?pretty#x", "/leader"),
            ("http://a/leader?x", "/leader"),
            ("HTTP://a", "/"),
            ("https://a/leader", "https://a/leader"),
            ("/leader?next=http://a/", "/leader"),
            ("*", "*"),
            ("?", ""),
        ] {
            assert_eq!(path_of(target), path, "{target}");
        }
    }
}
