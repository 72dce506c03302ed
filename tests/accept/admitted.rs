//! The hook that is asked about clients that come back, while their handshakes are suspended.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason, Resumption, TicketKeys,
};
use parking_lot::Mutex;

use super::*;

/// The policies in which sessions resume, with lookups that wait.
fn suspending() -> impl Iterator<Item = (String, Resumption, Kind)> {
    resuming_clients().map(|(what, policy, kind)| {
        (
            what,
            policy.suspend_lookups(true).lookup_deadline(LONG),
            kind,
        )
    })
}

/// On another thread than that which drives the handshakes.
#[test]
fn it_is_asked_elsewhere_and_may_take_its_time() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in suspending() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let asks = Arc::clone(&asked);
        let policy = policy.admit_client(move |client| {
            // As long as a database that is far away.
            thread::sleep(Duration::from_millis(300));
            let certificate = client.certificate().map(|own| own.to_der().unwrap());
            asks.lock().push((thread::current().id(), certificate));
            true
        });
        let context = demanding(&policy, &[&ca]);
        let client = client_as(kind, &me);
        let [_, second] = meet_async_twice(&context, &client);
        assert!(matches!(second.agreed(), Resumed(_)), "{what}");
        let asked = asked.lock();
        let [(thread, certificate)] = &asked[..] else {
            panic!("{what}: asked {} times", asked.len());
        };
        assert_ne!(*thread, thread::current().id(), "{what}");
        assert_eq!(
            certificate.as_ref(),
            Some(&me.cert.to_der().unwrap()),
            "{what}"
        );
    }
}

#[test]
fn no_answer_by_the_deadline_is_a_full_handshake_and_so_is_a_panic_or_a_no() {
    for (what, policy, kind) in suspending() {
        let hooks: [fn() -> bool; 3] = [
            || {
                thread::sleep(Duration::from_secs(1));
                true
            },
            || panic!("who is that?"),
            || false,
        ];
        for (number, hook) in hooks.into_iter().enumerate() {
            let refusing = policy
                .clone()
                .lookup_deadline(if number == 0 {
                    Duration::from_millis(100)
                } else {
                    LONG
                })
                .admit_client(move |_| hook());
            let client = Client::new(kind).unwrap();
            let met = meet_async(&context(&policy), &client, None);
            let began = Instant::now();
            let declined = meet_async(&context(&refusing), &client, met.next());
            let refused = Full(Reason::NotAdmitted);
            assert_eq!(declined.agreed(), refused, "{what} {number}");
            assert!(began.elapsed() < Duration::from_secs(20), "{what} {number}");
            let kept = meet_async(&context(&policy), &client, met.next());
            assert!(
                kept.client.resumed,
                "{what} {number}: the session is still there"
            );
        }
    }
}

/// The hello that comes after a HelloRetryRequest is suspended only for what is new in it.
#[test]
fn it_is_asked_once_though_the_client_sends_its_hello_again() {
    for (mode, policy) in resuming() {
        let asked = Arc::new(Mutex::new(0));
        let asks = Arc::clone(&asked);
        let policy = policy.suspend_lookups(true).lookup_deadline(LONG);
        let (context, client) = retrying(&policy.admit_client(move |_| {
            *asks.lock() += 1;
            true
        }));
        let [_, second] = meet_async_twice(&context, &client);
        assert!(second.client.resumed, "{mode}");
        assert_eq!(*asked.lock(), 1, "{mode}");
    }
}

/// What cannot be opened is nobody's.
#[test]
fn damaged_tickets_are_not_asked_about() {
    let asked = Arc::new(Mutex::new(0));
    let asks = Arc::clone(&asked);
    let policy = Resumption::stateless(TicketKeys::random())
        .suspend_lookups(true)
        .admit_client(move |_| {
            *asks.lock() += 1;
            true
        });
    let context = context(&policy);
    for kind in [Kind::Tls12, Kind::Tls13] {
        let client = Client::new(kind).unwrap();
        let met = meet_async(&context, &client, None);
        let session = met.next().unwrap().to_vec();
        let ticket = field(&session, TICKET).unwrap();
        for at in [
            ticket.start,
            ticket.start + 20,
            ticket.start + 40,
            ticket.end - 1,
        ] {
            let mut damaged = session.clone();
            damaged[at] ^= 1;
            let met = meet_async(&context, &client, Some(&damaged));
            assert!(matches!(met.agreed(), Full(_)), "{kind:?}");
        }
        assert_eq!(*asked.lock(), 0, "{kind:?}");
    }
}

/// The stores of the policy are asked first, and the hook about what they have.
#[test]
fn a_session_that_is_not_let_in_makes_room_for_the_next_that_is_offered() {
    let (_, policy) = watched();
    let first = Arc::new(Mutex::new(None));
    let refused = Arc::clone(&first);
    let policy = policy.admit_client(move |client| {
        let id = *client.lineage().id();
        *refused.lock().get_or_insert(id) != id
    });
    let context = context(&policy);
    let sessions = [(); 2].map(|()| session_of(&context, Kind::Tls13));
    let client = Client::new(Kind::Tls13).unwrap();
    let declined = meet_async(&context, &client, Some(&sessions[0]));
    assert_eq!(declined.agreed(), Full(Reason::NotAdmitted));
    let met = meet_async(&context, &client, Some(&sessions[1]));
    assert!(matches!(met.agreed(), Resumed(_)));
}
