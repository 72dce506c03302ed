//! Early data and handlers: whether they are called, what they are told, and what they may wait for.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use openssl_resumption::EarlyHandshake;
use openssl_resumption::http::{EarlyDataLayer, EarlyRequests};
use tower::{Layer, Service, service_fn};

use super::client::Returning;
use super::server::{Counts, Handled, Hyper, Protocol, body, is_silent, policies, protocols};

/// Says what is in the header `Early-Data`, and whether there is a handshake to wait for.
pub(super) fn told(request: Request<Incoming>, _: Arc<Counts>) -> Handled {
    let header = request.headers().get("early-data").cloned();
    let handshake = request.extensions().get::<EarlyHandshake>();
    let early = handshake.is_some_and(EarlyHandshake::is_early);
    Box::pin(async move { Ok(Response::new(format!("told {header:?} {early}\n"))) })
}

#[test]
fn a_handler_is_told_of_what_is_early() {
    for policy in policies() {
        for Protocol {
            alpn,
            hello,
            get,
            post,
        } in protocols()
        {
            for requests in [EarlyRequests::Wait, EarlyRequests::Mark] {
                let server = Hyper::serving(&policy, requests, told);
                let client = Returning::to(server.address, alpn, &hello);
                let mut connection = client.sends(&get);
                let expected = match requests {
                    EarlyRequests::Mark => r#"told Some("1") true"#,
                    _ => "told None true",
                };
                let said = body(&mut connection, alpn);
                assert!(said.contains(expected), "{requests:?}: {said}");
                let mut connection = client.sends(&post);
                is_silent(&mut connection, alpn);
                connection.finish();
                let said = body(&mut connection, alpn);
                assert!(said.contains("told None false"), "{requests:?}: {said}");
            }
        }
    }
}

/// Waits itself, in a task of its own.
pub(super) fn waiting(request: Request<Incoming>, counts: Arc<Counts>) -> Handled {
    Box::pin(async move {
        let Some(handshake) = request.extensions().get::<EarlyHandshake>().cloned() else {
            return Ok(Response::new("not early\n".into()));
        };
        let waits = tokio::spawn(wait(handshake, counts));
        let finished = waits.await.expect("no panic");
        Ok(Response::new(format!("waited: {finished}\n")))
    })
}

pub(super) async fn wait(handshake: EarlyHandshake, counts: Arc<Counts>) -> bool {
    let finished = handshake.finished().await;
    counts.failed.fetch_add(finished.is_err().into(), SeqCst);
    finished.is_ok() && handshake.resumption().is_some()
}

#[test]
fn a_handler_may_wait_for_the_end_itself() {
    for policy in policies() {
        for Protocol {
            alpn, hello, get, ..
        } in protocols()
        {
            let server = Hyper::serving(&policy, EarlyRequests::Wait, waiting);
            let client = Returning::to(server.address, alpn, &hello);
            let mut connection = client.sends(&get);
            is_silent(&mut connection, alpn);
            connection.finish();
            let said = body(&mut connection, alpn);
            assert!(said.contains("waited: true"), "{said}");
        }
    }
}

/// Whoever waits for the client is asleep meanwhile.
#[test]
fn nobody_polls_in_vain_while_a_handshake_is_unfinished() {
    for policy in policies() {
        for Protocol {
            alpn,
            hello,
            get,
            post,
        } in protocols()
        {
            let server = Hyper::serving(&policy, EarlyRequests::Wait, told);
            let client = Returning::to(server.address, alpn, &hello);
            for request in [get, post] {
                let mut connection = client.sends(&request);
                connection.rest();
                let before = server.count(|counts| &counts.reads);
                connection.rest();
                let reads = server.count(|counts| &counts.reads) - before;
                let alpn = String::from_utf8_lossy(alpn);
                assert!(reads < 20, "{alpn}: {reads} times it was tried to read");
                connection.finish();
            }
        }
    }
}

#[tokio::test]
async fn one_layer_for_all_does_not_hand_on_what_it_knows_nothing_of() {
    for requests in [
        EarlyRequests::Wait,
        EarlyRequests::TooEarly,
        EarlyRequests::Mark,
    ] {
        let called = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&called);
        let handler = service_fn(move |_: Request<()>| {
            counted.fetch_add(1, SeqCst);
            async { Ok::<_, Infallible>(Response::new(String::from("called"))) }
        });
        let layer = EarlyDataLayer::from_extensions().requests(requests);
        let answer = layer.layer(handler).call(Request::new(())).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!((answer.body().as_str(), called.load(SeqCst)), ("", 0));
    }
}
