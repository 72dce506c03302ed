//! The alert user_canceled, which OpenSSL goes on after in TLS 1.3, in clear and marked fatal: it changes nothing.

use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::Handshake::{Full, Resumed};
use openssl_resumption::Reason;

use crate::common::*;

/// A client that sends the alert with what it sends second.
fn meet_with_alert(context: &SslContext, client: &Client, session: Option<&[u8]>) -> Met {
    let ssl = Ssl::new(context).unwrap();
    let (met, refused) = try_meet_over(ssl, client, session, Canceling::new);
    assert_eq!(refused, None);
    met.unwrap()
}

#[test]
fn an_alert_that_openssl_ignores_is_none_of_a_handshake_that_fails() {
    for (mode, policy) in resuming() {
        let client = Client::new(Kind::Tls13).unwrap();
        let first = meet(&context(&policy), &client, None);
        // One that has not made a ticket yet, and so does not know whose callbacks it has.
        let server = context(&policy);
        let met = meet_with_alert(&server, &client, first.next());
        assert!(matches!(met.agreed(), Resumed(_)), "{mode}");
        let met = meet_with_alert(&server, &client, None);
        assert_eq!(met.agreed(), Full(Reason::NothingOffered), "{mode}");
        assert!(
            matches!(meet(&server, &client, met.next()).agreed(), Resumed(_)),
            "{mode}"
        );
        let stats = policy.stats();
        assert_eq!((stats.failed_closed, stats.overridden), (0, 0), "{mode}");
    }
}

#[test]
fn nor_is_it_after_a_hello_retry_request() {
    for (mode, policy) in resuming() {
        let (server, client) = retrying(&policy);
        let first = meet(&server, &client, None);
        let hits = policy.stats().store.hits;
        let met = meet_with_alert(&server, &client, first.next());
        assert!(matches!(met.agreed(), Resumed(_)), "{mode}");
        assert!(policy.stats().store.hits - hits <= 1, "{mode}");
    }
}
