//! The hook that is asked about clients that come back.

use std::sync::Arc;
use std::time::Duration;

use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason, Resumption, ReturningClient, Source,
};
use parking_lot::Mutex;

use crate::common::*;

/// What the hook was told of a client: its certificate, its lineage, how long ago it began.
type Told = (Option<Vec<u8>>, [u8; 16], Duration);

fn told(client: &ReturningClient<'_>) -> Told {
    let certificate = client.certificate().map(|own| own.to_der().unwrap());
    (certificate, *client.lineage().id(), client.age())
}

#[test]
fn it_is_told_of_certificate_lineage_and_age_once_a_resumption() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in resuming_clients() {
        let asked = Arc::new(Mutex::new(Vec::<Told>::new()));
        let asks = Arc::clone(&asked);
        let policy = policy.admit_client(move |client| {
            asks.lock().push(told(client));
            true
        });
        let context = demanding(&policy, &[&ca]);
        let client = client_as(kind, &me);
        let [first, second] = meet_twice(&context, &client);
        assert!(matches!(first.agreed(), Full(_)), "{what}");
        assert!(matches!(second.agreed(), Resumed(_)), "{what}");
        let next = second.next().or_else(|| first.next());
        assert!(matches!(meet(&context, &client, next).agreed(), Resumed(_)));
        let asked = asked.lock();
        assert_eq!(asked.len(), 2, "{what}");
        for (certificate, lineage, age) in &*asked {
            assert_eq!(certificate.as_ref(), Some(&me.cert.to_der().unwrap()));
            assert_eq!(lineage, &asked[0].1, "{what}");
            assert!(*age < Duration::from_secs(60), "{what}");
        }
    }
}

#[test]
fn who_is_not_let_in_does_a_full_handshake_and_a_hook_that_panics_lets_nobody_in() {
    let (ca, me) = ca_and_client();
    let hooks: [fn() -> bool; 2] = [|| false, || panic!("who is that?")];
    for hook in hooks {
        for (what, policy, kind) in resuming_clients() {
            let refusing = policy.clone().admit_client(move |_| hook());
            for client in [client_as(kind, &me), Client::new(kind).unwrap()] {
                let context = |policy: &Resumption| {
                    context_with(policy, |builder| {
                        demand_certificates(builder, &ca);
                        builder.set_verify(openssl::ssl::SslVerifyMode::PEER);
                    })
                };
                let [first, second] = meet_twice(&context(&policy), &client);
                assert!(second.client.resumed, "{what}: without the hook");
                let next = second.next().or_else(|| first.next());
                let met = meet(&context(&refusing), &client, next);
                assert_eq!(met.agreed(), Full(Reason::NotAdmitted), "{what}");
            }
            assert_eq!(refusing.stats().failed_closed, 0, "{what}");
        }
    }
}

/// After a HelloRetryRequest OpenSSL looks the session up once more.
#[test]
fn it_is_asked_once_though_the_client_sends_its_hello_again() {
    for (what, policy) in resuming() {
        let asked = Arc::new(Mutex::new(0));
        let asks = Arc::clone(&asked);
        let (context, client) = retrying(&policy.admit_client(move |_| {
            *asks.lock() += 1;
            true
        }));
        let [_, second] = meet_twice(&context, &client);
        assert!(second.client.resumed, "{what}");
        assert_eq!(*asked.lock(), 1, "{what}");
    }
}

/// A rule of the application's: who has logged in with a password does so again each hour.
#[test]
fn it_can_go_by_the_data_of_the_session() {
    for (what, policy, kind) in resuming_clients() {
        let policy = policy
            .session_data(|_| Some(b"password".to_vec()))
            .admit_client(|client| client.lineage().session_data() != Some(b"password"));
        let [_, second] = meet_twice(&context(&policy), &Client::new(kind).unwrap());
        assert_eq!(second.agreed(), Full(Reason::NotAdmitted), "{what}");
    }
}

#[test]
fn it_cannot_let_in_what_would_be_declined_without_it() {
    for (what, policy, kind) in resuming_clients() {
        let asked = Arc::new(Mutex::new(0));
        let asks = Arc::clone(&asked);
        let policy = policy.admit_client(move |_| {
            *asks.lock() += 1;
            true
        });
        let context = context(&policy);
        let client = Client::new(kind).unwrap();
        let met = meet(&context, &client, None);
        policy.forget_all();
        let declined = meet(&context, &client, met.next());
        assert_eq!(declined.agreed(), Full(Reason::Forgotten), "{what}");
        assert_eq!(*asked.lock(), 0, "{what}");
        assert_eq!(policy.stats().resumed(Source::Ticket), 0, "{what}");
    }
}
