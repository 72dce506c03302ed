//! ClientHellos that arrive in part, in pieces, or not as they were sent.

use openssl_resumption::Handshake::Resumed;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::elsewhere::homes;
use crate::ends::record;
use crate::for_all;
use crate::server::{Guest, Server};

/// A client with a session of each kind, in each mode in which it has one.
fn everywhere(check: impl Fn(&Guest<'_>)) {
    for (_, policy, kind) in homes() {
        let server = Server::new(&policy);
        let guest = server.guest(kind);
        check(&guest);
        guest.still_resumes();
    }
}

#[test]
fn a_client_that_leaves_after_any_byte_of_its_hello_harms_nobody() {
    everywhere(|guest| {
        for len in 0..=guest.hello.len() {
            guest.server.hear(&guest.hello[..len]);
        }
    });
}

#[test]
fn a_hello_cut_at_any_byte_with_lengths_that_are_right_is_refused() {
    everywhere(|guest| {
        let message = &guest.hello[5..];
        for len in 0..message.len() {
            guest.server.hear(&record(&message[..len]));
            if len >= 4 {
                guest.server.hear(&record(&with_len(&message[..len])));
            }
        }
    });
}

/// The message with its own length in its header.
fn with_len(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len() - 4).unwrap().to_be_bytes();
    [&message[..1], &len[1..], &message[4..]].concat()
}

#[test]
fn a_hello_that_arrives_in_two_pieces_resumes_wherever_it_is_cut() {
    everywhere(|guest| {
        let len = guest.hello.len();
        for at in 1..len {
            let outcome = guest.offer_over(|hello| {
                assert_eq!(hello.len(), len);
                vec![hello[..at].to_vec(), hello[at..].to_vec()]
            });
            assert!(matches!(outcome, Ok(Resumed(_))), "at {at}: {outcome:?}");
        }
        let outcome = guest.offer_over(|hello| hello.chunks(1).map(<[u8]>::to_vec).collect());
        assert!(
            matches!(outcome, Ok(Resumed(_))),
            "byte by byte: {outcome:?}"
        );
    });
}

#[test]
fn a_hello_in_two_records_resumes_wherever_it_is_cut() {
    everywhere(|guest| {
        for at in 1..guest.hello.len() - 5 {
            let outcome = guest.offer_over(|hello| {
                let (first, second) = hello[5..].split_at(at);
                vec![record(first), record(second)]
            });
            assert!(matches!(outcome, Ok(Resumed(_))), "at {at}: {outcome:?}");
        }
    });
}

#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
    Swap(Index, Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        let span = |at: &Index, n: usize| at.index(len)..(at.index(len) + n).min(len);
        match self {
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Self::Set(at, to) => bytes[at.index(len)] = *to,
            Self::Remove(at, n) => drop(bytes.drain(span(at, *n))),
            Self::Insert(at, new) => drop(bytes.splice(span(at, 0), new.iter().copied())),
            Self::Repeat(at, n) => {
                let again = bytes[span(at, *n)].to_vec();
                bytes.splice(span(at, 0), again);
            }
            Self::Swap(a, b) => bytes.swap(a.index(len), b.index(len)),
        }
    }
}

/// Which lengths are put right after the changes.
#[derive(Debug, Clone, Copy)]
enum Lengths {
    None,
    Record,
    Both,
}

fn changes() -> impl Strategy<Value = (Vec<Change>, Lengths)> {
    let index = any::<Index>;
    let change = prop_oneof![
        (index(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (index(), any::<u8>()).prop_map(|(at, to)| Change::Set(at, to)),
        (index(), 1..64_usize).prop_map(|(at, n)| Change::Remove(at, n)),
        (index(), vec(any::<u8>(), 1..64)).prop_map(|(at, new)| Change::Insert(at, new)),
        (index(), 1..64_usize).prop_map(|(at, n)| Change::Repeat(at, n)),
        (index(), index()).prop_map(|(a, b)| Change::Swap(a, b)),
    ];
    let lengths = prop_oneof![
        Just(Lengths::None),
        Just(Lengths::Record),
        Just(Lengths::Both)
    ];
    (vec(change, 1..4), lengths)
}

#[test]
fn a_hello_changed_on_its_way_resumes_nothing() {
    everywhere(|guest| {
        for_all(250, changes(), |(changes, lengths)| {
            let mut unchanged = false;
            let outcome = guest.offer_over(|hello| {
                let mut bytes = match lengths {
                    Lengths::None => hello.clone(),
                    Lengths::Record | Lengths::Both => hello[5..].to_vec(),
                };
                changes.iter().for_each(|change| change.apply(&mut bytes));
                let bytes = match lengths {
                    Lengths::None => bytes,
                    Lengths::Both if bytes.len() >= 4 => record(&with_len(&bytes)),
                    Lengths::Record | Lengths::Both => record(&bytes),
                };
                // The record's version counts for nothing.
                unchanged = bytes[3.min(bytes.len())..] == hello[3..];
                vec![bytes]
            });
            match outcome {
                Ok(outcome) => assert!(unchanged, "{outcome:?}"),
                Err(failure) => assert!(failure.starts_with("client"), "{failure}"),
            }
        });
    });
}

#[test]
fn noise_in_place_of_a_hello_is_refused() {
    everywhere(|guest| {
        let (start, message) = (&guest.hello[..11], &guest.hello[5..]);
        for_all(100, vec(any::<u8>(), 0..600), |noise| {
            guest.server.hear(&noise);
            guest.server.hear(&[start, &noise].concat());
            guest.server.hear(&record(&noise));
            guest
                .server
                .hear(&record(&with_len(&[&message[..39], &noise].concat())));
        });
    });
}
