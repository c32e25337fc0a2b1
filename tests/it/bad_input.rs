//! What the program makes of everything that can be wrong around it: its settings, its credentials, its API server.
//!
//! Each mistake gets a message that names it. None ends in a panic, none shows the token or a body, and all but wrong
//! settings are survived: when the cause goes away the program leads, without having been started anew.

mod api;
mod credentials;
mod settings;

use leasehold_apiserver::Server;

use crate::process::{Pace, Process, Program, World};

/// The most talkative there is.
fn talkative(world: &World) -> Program {
    let program = world.candidate("pod-a", Pace::Hours).without("SERVICE_NAME");
    program.with("RETRY_PERIOD", "200ms").with("RUST_LOG", "trace").with("AUDIT_LOG", "stdout")
}

/// Ends the process and searches all that it has said (and sent) for what must not be there.
#[track_caller]
fn nothing_leaked(process: &Process, server: &Server, token: &str) {
    process.kill();
    let (said, audited) = (process.log.to_the_end().join("\n"), process.stdout.to_the_end().join("\n"));
    assert!(
        !token.is_empty() && !said.contains(token) && !audited.contains(token),
        "the token is in:\n{said}\n{audited}"
    );
    assert!(!said.contains("panicked"), "{said}");
    for content in ["leaseDurationSeconds", "acquireTime", "Bearer"] {
        assert!(!said.contains(content) && !audited.contains(content), "{content} is in:\n{said}\n{audited}");
    }
    for request in server.requests() {
        let (path, body) = (format!("{}?{}", request.path, request.query), String::from_utf8_lossy(&request.body));
        assert!(!path.contains(token) && !body.contains(token), "{path}");
        for (name, value) in &request.headers {
            assert!(name.eq_ignore_ascii_case("authorization") || !value.contains(token), "{name}: {value}");
        }
    }
}

/// The token that is mounted.
fn token_of(world: &World) -> String {
    std::fs::read_to_string(account(world).join("token")).expect("a token")
}

/// The service account's directory of pod-a.
fn account(world: &World) -> std::path::PathBuf {
    world.file("account-of-pod-a")
}

fn server(world: &World) -> &Server {
    world.memory().expect("a server in memory")
}
