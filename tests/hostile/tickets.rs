//! Tickets that are changed, or sealed by the test.

use std::time::{Duration, SystemTime};

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::symm::{Cipher, decrypt, encrypt};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    KeyError, KeySet, KeySource, Reason, Source, TicketKey, TicketKeys,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::*;
use crate::elsewhere::related;
use crate::for_all;
use crate::server::{Guest, Server};

/// No ending of it is also a beginning of it, so that a ticket that lost its first bytes never names this key.
pub(crate) const NAME: [u8; 16] = *b"the key of tests";
const AES: [u8; 32] = [8; 32];
pub(crate) const HMAC: [u8; 32] = [9; 32];

/// A ring of one key, which the test has too.
pub(crate) fn known() -> TicketKeys {
    struct Known;
    impl KeySource for Known {
        fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
            let key = TicketKey::new(NAME, &AES, &HMAC);
            let hour = Duration::from_secs(3_600);
            Ok(KeySet::new(key, now + hour))
        }
    }
    TicketKeys::from_source(Known)
}

pub(crate) fn seal(session: &[u8]) -> Vec<u8> {
    seal_with(&AES, &HMAC, session)
}

/// A ticket: name, IV, what is sealed, and a MAC over all of it.
pub(crate) fn seal_with(aes: &[u8], hmac: &[u8], session: &[u8]) -> Vec<u8> {
    let iv = [0x1f; 16];
    let sealed = encrypt(Cipher::aes_256_cbc(), aes, Some(&iv), session).unwrap();
    with_mac(hmac, &[&NAME[..], &iv, &sealed].concat())
}

pub(crate) fn with_mac(hmac: &[u8], bytes: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(hmac).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    let mac = signer.sign_oneshot_to_vec(bytes).unwrap();
    [bytes, &mac].concat()
}

/// The session in a ticket.
pub(crate) fn open(ticket: &[u8]) -> Vec<u8> {
    let (head, _mac) = ticket.split_at(ticket.len() - 32);
    decrypt(
        Cipher::aes_256_cbc(),
        &AES,
        Some(&head[16..32]),
        &head[32..],
    )
    .unwrap()
}

/// Clients that take tickets, each with a session, on a server whose key is known.
pub(crate) fn with_tickets(check: impl Fn(&Guest<'_>)) {
    let [_, (_, stateless), (_, hybrid)] = related();
    let servers = [
        (Kind::Tls12, &stateless),
        // Where a ticket that is declined must not lead to a session in the store.
        (Kind::Tls12, &hybrid),
        (Kind::Tls13, &stateless),
    ];
    for (kind, policy) in servers {
        let server = Server::new(policy);
        let guest = server.guest(kind);
        check(&guest);
        guest.still_resumes();
        let store = policy.stats().store;
        assert_eq!((store.hits, store.errors), (0, 0));
    }
}

#[test]
fn whatever_bit_of_a_ticket_is_changed_the_handshake_is_full() {
    with_tickets(|guest| {
        let mut ticket = guest.ticket().to_vec();
        for bit in 0..ticket.len() * 8 {
            ticket[bit / 8] ^= 1 << (bit % 8);
            let why = if bit < 128 {
                Reason::UnknownKey
            } else {
                Reason::Malformed
            };
            assert_eq!(guest.offer(&ticket), Ok(Full(why)), "bit {bit}");
            ticket[bit / 8] ^= 1 << (bit % 8);
        }
    });
}

#[test]
fn whatever_the_length_of_a_ticket_becomes_the_handshake_is_full() {
    with_tickets(|guest| {
        let ticket = guest.ticket();
        // Without a ticket there is the id, which in hybrid mode is looked up.
        let none = guest.offer(b"").unwrap();
        assert!(
            [Reason::NothingOffered, Reason::NotFound]
                .map(Full)
                .contains(&none)
        );
        for len in 1..ticket.len() {
            let cut = guest.offer(&ticket[..len]);
            assert_eq!(cut, Ok(Full(Reason::Malformed)), "{len} bytes");
            let unnamed = guest.offer(&ticket[ticket.len() - len..]);
            let why = if len < 32 {
                Reason::Malformed
            } else {
                Reason::UnknownKey
            };
            assert_eq!(unnamed, Ok(Full(why)), "the last {len} bytes");
        }
        for more in (1..64).chain([256, 1_000, 10_000]) {
            let longer = [ticket, &vec![0; more]].concat();
            let outcome = guest.offer(&longer);
            assert_eq!(outcome, Ok(Full(Reason::Malformed)), "{more} bytes more");
        }
    });
}

#[test]
fn a_ticket_under_the_right_name_needs_the_right_mac() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let ticket = seal(&session);
        let end = ticket.len() - 32;
        assert_eq!(guest.offer(&ticket), Ok(Resumed(Source::Ticket)));
        let forged = [
            ("another key", seal_with(&AES, &[10; 32], &session)),
            ("no key", seal_with(&AES, &[0; 32], &session)),
            ("the other key", seal_with(&AES, &AES, &session)),
            ("zeros", [&ticket[..end], &[0; 32]].concat()),
            ("no MAC", ticket[..end].to_vec()),
            ("a MAC twice", [&ticket[..], &ticket[end..]].concat()),
            ("without the name", {
                let rest = with_mac(&HMAC, &ticket[16..end]);
                [&NAME, &rest[..]].concat()
            }),
            ("of the session", {
                let mac = with_mac(&HMAC, &session);
                [&ticket[..end], &mac[session.len()..]].concat()
            }),
        ];
        for (what, ticket) in forged {
            assert_eq!(guest.offer(&ticket), Ok(Full(Reason::Malformed)), "{what}");
        }
        for_all(32, vec(any::<u8>(), 0..400), |rest| {
            let ticket = [&NAME, &rest[..]].concat();
            assert_eq!(guest.offer(&ticket), Ok(Full(Reason::Malformed)));
        });
    });
}
