//! Clients that do not finish the handshake, and servers that give up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use openssl_resumption::EarlyHandshake;
use openssl_resumption::http::EarlyRequests;

use super::client::{HTTP11, Returning, request};
use super::handlers::{told, wait, waiting};
use super::server::{Counts, Handled, Hyper, Protocol, policies, protocols};
use crate::programs::eventually;

/// Leaves it to a task to wait, and gives the connection up.
fn giving_up(request: Request<Incoming>, counts: Arc<Counts>) -> Handled {
    Box::pin(async move {
        let Some(handshake) = request.extensions().get::<EarlyHandshake>().cloned() else {
            return Ok(Response::new("not early\n".into()));
        };
        tokio::spawn(wait(handshake, counts));
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(io::Error::other("hyper drops a connection of HTTP/1 then"))
    })
}

#[test]
fn whoever_waits_is_told_when_the_server_gives_the_connection_up() {
    for policy in policies() {
        let server = Hyper::serving(&policy, EarlyRequests::Wait, giving_up);
        let client = Returning::to(server.address, HTTP11, &request("GET", ""));
        for n in 1..=5 {
            let _connection = client.sends(&request("GET", ""));
            eventually("the task has been told", || {
                server.count(|counts| &counts.failed) == n
            });
        }
    }
}

#[test]
fn a_request_whose_client_does_not_finish_is_never_handed_on() {
    for policy in policies() {
        for Protocol {
            alpn, hello, post, ..
        } in protocols()
        {
            let server = Hyper::serving(&policy, EarlyRequests::Wait, told);
            let client = Returning::to(server.address, alpn, &hello);
            let called = server.count(|counts| &counts.called);
            let others = server.count(|counts| &counts.arrived);
            for n in 1..=50 {
                let connection = client.sends(&post);
                eventually("the request waits", || {
                    server.count(|counts| &counts.arrived) == others + n
                });
                drop(connection);
            }
            // Whether those get as far that vanish at once, hyper decides.
            for _ in 0..50 {
                drop(client.sends(&post));
            }
            for _ in 0..10 {
                client.sends(&post).finishes_wrongly();
            }
            eventually("all connections have ended", || {
                server.count(|counts| &counts.ended) == 111
            });
            assert_eq!(server.count(|counts| &counts.called), called);
        }
    }
}

#[test]
fn a_handler_that_waits_is_told_when_its_client_vanishes() {
    for policy in policies() {
        for Protocol {
            alpn, hello, get, ..
        } in protocols()
        {
            let server = Hyper::serving(&policy, EarlyRequests::Wait, waiting);
            let client = Returning::to(server.address, alpn, &hello);
            let called = server.count(|counts| &counts.called);
            for n in 1..=20 {
                let connection = client.sends(&get);
                eventually("the handler waits", || {
                    server.count(|counts| &counts.called) == called + n
                });
                drop(connection);
            }
            eventually("all have been told", || {
                server.count(|counts| &counts.failed) == 20
            });
            eventually("all connections have ended", || {
                server.count(|counts| &counts.ended) == 21
            });
        }
    }
}

/// Of the example servers: nothing is left open.
#[cfg(target_os = "linux")]
#[test]
fn connections_whose_clients_vanish_are_closed() {
    use super::client::NO_ALPN;
    use crate::{MODES, start_early};

    let [http11, http2] = protocols();
    let servers = [
        (env!("CARGO_BIN_EXE_threads"), NO_ALPN, &http11),
        (env!("CARGO_BIN_EXE_hyper"), NO_ALPN, &http11),
        (env!("CARGO_BIN_EXE_axum_server"), http11.alpn, &http11),
        (env!("CARGO_BIN_EXE_axum_server"), http2.alpn, &http2),
        (env!("CARGO_BIN_EXE_tonic"), http2.alpn, &http2),
    ];
    for (program, alpn, Protocol { hello, post, .. }) in servers {
        for (mode, _) in MODES {
            let server = start_early(program, mode, "wait");
            let open = || {
                let open = std::fs::read_dir(format!("/proc/{}/fd", server.id()));
                open.expect("what it has open").count()
            };
            let before = open();
            let client = Returning::to(server.address, alpn, hello);
            for _ in 0..100 {
                drop(client.sends(post));
            }
            eventually(
                &format!("{program} {mode}: {before} are open again"),
                || open() <= before,
            );
        }
    }
}
