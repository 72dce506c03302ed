//! The example servers and clients of theirs: what resumes, what becomes of early data, how
//! connections end, and what a new certificate changes.
#![cfg(unix)]

mod closing;
mod distant;
mod early;
mod early_browsers;
mod early_clients;
mod firefox;
mod grpc;
mod http;
#[path = "../../../../tests/common/process.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "the harness of the library's tests, of which these use a part"
)]
mod process;
#[path = "../../../../tests/common/programs.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "as above"
)]
mod programs;
mod reload;
mod rustls_client;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use frameworks::support::Kind;
use process::{Scratch, Server};

/// The modes, and what their sessions resume from.
const MODES: [(&str, &str); 2] = [("stateful", "store"), ("stateless", "ticket")];

/// The versions of TLS, and how they read in an outcome.
const VERSIONS: [(Kind, &str); 2] = [(Kind::Tls12, "TLSv1.2"), (Kind::Tls13, "TLSv1.3")];

fn start(program: &str, mode: &str) -> Server {
    Server::run(Command::new(program).arg(mode))
}

/// With what becomes of requests that come early: `wait`, `too-early` or `mark`.
fn start_early(program: &str, mode: &str, requests: &str) -> Server {
    Server::run(Command::new(program).args([mode, requests]))
}

/// Has a client meet the server with no session, and then with the one that it has: in both modes
/// and versions, both ends say that the first handshake is full and the others are not.
///
/// `meet` connects once, offers the session in the file if it exists, and leaves its own there. It
/// returns what the server answered, and whether the client says that it resumed.
#[track_caller]
fn resumes(program: &str, mut meet: impl FnMut(SocketAddr, Kind, &Path) -> (String, bool)) {
    for (mode, source) in MODES {
        let server = start(program, mode);
        let scratch = Scratch::new(&format!("{}-{}", mode, server.address.port()));
        let (mut full, mut resumed) = (0, 0);
        for (kind, version) in VERSIONS {
            let session = scratch.0.join(version);
            for first in [true, false, false] {
                let (answer, reused) = meet(server.address, kind, &session);
                let became = if first {
                    full += 1;
                    "full: nothing offered".into()
                } else {
                    resumed += 1;
                    format!("resumed: {source}")
                };
                let expected = format!("{version} {became} ({full} full, {resumed} resumed)");
                assert!(answer.contains(&expected), "{mode}: {expected}: {answer}");
                assert_eq!(reused, !first, "{mode}: {expected}");
            }
        }
    }
}
