//! Tickets over real handshakes: rotation, renewal, and tickets that are not ours.

use std::time::Duration;

use crate::common::*;
use openssl_resumption::{
    Handshake::{Full, Resumed},
    KeyError, KeySet, KeySource, Reason, Resumption, Source, TicketKey, TicketKeys,
};

fn stateless() -> (TicketKeys, Resumption) {
    let keys = TicketKeys::random();
    (keys.clone(), Resumption::stateless(keys))
}

/// The ticket that a client was left with.
fn ticket(met: &Met) -> &[u8] {
    let session = met.next().unwrap();
    &session[field(session, TICKET).unwrap()]
}

#[test]
fn in_tls_1_2_only_a_ticket_under_a_retired_key_is_renewed() {
    let (keys, policy) = stateless();
    let context = context(&policy);
    let client = Client::new(Kind::Tls12).unwrap();
    let first = meet(&context, &client, None);

    let current = meet(&context, &client, first.next());
    assert_eq!(current.agreed(), Resumed(Source::Ticket));
    assert_eq!(ticket(&current), ticket(&first), "nothing to renew");
    assert_eq!(policy.stats().tickets.sealed, 1);

    keys.rotate().unwrap();
    let retired = meet(&context, &client, first.next());
    assert_eq!(retired.agreed(), Resumed(Source::Ticket));
    assert_eq!(policy.stats().tickets.sealed, 2);
    assert_ne!(ticket(&retired), ticket(&first));

    let again = meet(&context, &client, retired.next());
    assert_eq!(again.agreed(), Resumed(Source::Ticket));
    let tickets = policy.stats().tickets;
    assert_eq!(
        (tickets.opened, tickets.opened_inactive, tickets.sealed),
        (3, 1, 2)
    );
}

#[test]
fn in_tls_1_3_every_resumption_brings_one_fresh_ticket() {
    let (keys, policy) = stateless();
    let context = context(&policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let mut met = meet(&context, &client, None);
    for round in 0..6 {
        if round == 3 {
            keys.rotate().unwrap();
        }
        met = meet(&context, &client, met.next());
        assert_eq!(met.agreed(), Resumed(Source::Ticket));
        assert_eq!(met.client.sessions.len(), 1);
    }
    let tickets = policy.stats().tickets;
    assert_eq!(
        (tickets.sealed, tickets.opened, tickets.opened_inactive),
        (8, 6, 1)
    );
}

#[test]
fn a_ticket_outlives_the_context_and_the_rotations_but_not_the_ring() {
    for kind in [Kind::Tls12, Kind::Tls13] {
        let (keys, policy) = stateless();
        let client = Client::new(kind).unwrap();
        let first = meet(&context(&policy), &client, None);
        for _ in 0..5 {
            keys.rotate().unwrap();
        }
        assert_eq!(
            meet(&context(&policy), &client, first.next()).agreed(),
            Resumed(Source::Ticket)
        );

        let (_, other) = stateless();
        let strayed = meet(&context(&other), &client, first.next());
        assert_eq!(strayed.agreed(), Full(Reason::UnknownKey));
        let tickets = other.stats().tickets;
        assert_eq!((tickets.unknown_key, tickets.opened), (1, 0));
        assert!(
            meet(&context(&other), &client, strayed.next())
                .client
                .resumed
        );
    }
}

#[test]
fn a_changed_ticket_is_a_full_handshake_whatever_byte_and_length() {
    for kind in [Kind::Tls12, Kind::Tls13] {
        let (_, policy) = stateless();
        let context = context(&policy);
        let client = Client::new(kind).unwrap();
        let session = meet(&context, &client, None).next().unwrap().to_vec();
        let ticket = field(&session, TICKET).unwrap();
        let before = policy.stats().tickets;
        for at in ticket.clone().step_by(3) {
            let mut changed = session.clone();
            changed[at] ^= 0x10;
            let met = meet(&context, &client, Some(&changed));
            let why = if at - ticket.start < 16 {
                Reason::UnknownKey
            } else {
                Reason::Malformed
            };
            assert_eq!(
                met.agreed(),
                Full(why),
                "{kind:?} byte {}",
                at - ticket.start
            );
            assert!(met.next().is_some(), "a declined client gets a ticket");
        }
        let after = policy.stats().tickets;
        assert_eq!(after.unknown_key - before.unknown_key, 6);
        let rest = (ticket.len() as u64).div_ceil(3) - 6;
        assert_eq!(after.malformed - before.malformed, rest);
        assert_eq!(after.opened, before.opened);
    }
}

#[test]
fn a_session_in_a_ticket_of_another_version_is_a_full_handshake() {
    // Both versions share the keys, so each can open the other's tickets.
    let (_, policy) = stateless();
    let context = context(&policy);
    for (made, asked) in [(Kind::Tls12, Kind::Tls13), (Kind::Tls13, Kind::Tls12)] {
        let foreign = meet(&context, &Client::new(made).unwrap(), None)
            .next()
            .unwrap()
            .to_vec();
        let client = Client::new(asked).unwrap();
        let own = meet(&context, &client, None).next().unwrap().to_vec();
        let grafted = graft(&own, &foreign[field(&foreign, TICKET).unwrap()]);
        // In TLS 1.3 the client's binder is made with the wrong secret, but is never looked at.
        let met = meet(&context, &client, Some(&grafted));
        assert_eq!(
            met.agreed(),
            Full(Reason::WrongContext),
            "{made:?} for {asked:?}"
        );
    }
}

/// The client's session with another ticket in it.
fn graft(session: &[u8], ticket: &[u8]) -> Vec<u8> {
    let place = field(session, TICKET).unwrap();
    let with_len = |tag: u8, content: &[u8]| {
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, len[0], len[1]], content].concat()
    };
    // From the start of `[10]` to its end: two headers of at most four bytes each before it.
    let before = (place.start - 8..place.start)
        .find(|at| session[*at] == 0xaa)
        .unwrap();
    let grafted = with_len(0xaa, &with_len(0x04, ticket));
    let body = [&session[4..before], &grafted, &session[place.end..]].concat();
    with_len(0x30, &body)
}

#[test]
fn an_empty_ticket_extension_offers_nothing() {
    // Every first TLS 1.2 hello has one; in hybrid mode the session id then still counts.
    let (_, policy) = stateless();
    let met = meet(&context(&policy), &Client::new(Kind::Tls12).unwrap(), None);
    assert_eq!(met.agreed(), Full(Reason::NothingOffered));
    assert_eq!(policy.stats().tickets.malformed, 0);
}

#[test]
fn tickets_of_one_host_open_on_another_that_has_the_keys() {
    struct Fleet;
    impl KeySource for Fleet {
        fn load(&self, now: std::time::SystemTime) -> Result<KeySet, KeyError> {
            let old = TicketKey::new([7; 16], &[8; 32], &[9; 32]);
            let hour = Duration::from_secs(3_600);
            Ok(KeySet::new(TicketKey::random()?, now + hour).opens(old))
        }
    }
    struct Old;
    impl KeySource for Old {
        fn load(&self, now: std::time::SystemTime) -> Result<KeySet, KeyError> {
            let old = TicketKey::new([7; 16], &[8; 32], &[9; 32]);
            Ok(KeySet::new(old, now + Duration::from_secs(3_600)))
        }
    }
    for kind in [Kind::Tls12, Kind::Tls13] {
        let (a, b) = (
            Resumption::stateless(TicketKeys::from_source(Old)),
            Resumption::stateless(TicketKeys::from_source(Fleet)),
        );
        let client = Client::new(kind).unwrap();
        let met = meet(&context(&a), &client, None);
        assert_eq!(
            meet(&context(&b), &client, met.next()).agreed(),
            Resumed(Source::Ticket)
        );
        assert_eq!(b.stats().tickets.opened_inactive, 1);
    }
}
