//! What is sealed with the server's key, and is not a session that it made for its client.

use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason, Resumption, Source,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::der::*;
use crate::strange::{no_sessions, strange_sessions};
use crate::tickets::{HMAC, NAME, open, seal, seal_with, with_mac, with_tickets};
use crate::{for_all, now};

#[test]
fn what_is_no_session_does_not_resume_even_if_sealed_with_our_key() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let head = [&NAME[..], &[0x1f; 16]].concat();
        let mut tickets = vec![
            ("no block", with_mac(&HMAC, &head)),
            (
                "part of a block",
                with_mac(&HMAC, &[&head[..], &[1; 15]].concat()),
            ),
            (
                "no padding",
                with_mac(&HMAC, &[&head[..], &[17; 32]].concat()),
            ),
            ("another AES key", seal_with(&[1; 32], &HMAC, &session)),
        ];
        let sealed = no_sessions(&session).into_iter();
        tickets.extend(sealed.map(|(what, bytes)| (what, seal(&bytes))));
        for (what, ticket) in tickets {
            assert_eq!(guest.offer(&ticket), Ok(Full(Reason::Malformed)), "{what}");
        }
        for_all(64, vec(any::<u8>(), 0..400), |garbage| {
            assert_eq!(guest.offer(&seal(&garbage)), Ok(Full(Reason::Malformed)));
        });
    });
}

#[test]
fn a_strange_session_does_not_resume_even_if_sealed_with_our_key() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        for (what, strange, why) in strange_sessions(&session, guest.kind) {
            assert_eq!(guest.offer(&seal(&strange)), Ok(Full(why)), "{what}");
        }
        // Of tickets only: when a stored session ends, the header of its record says, not the DER.
        for made in [1, now() - Resumption::DEFAULT_LIFETIME.as_secs()] {
            let old = seal(&with_number(&session, TIME, made));
            assert_eq!(guest.offer(&old), Ok(Full(Reason::Expired)), "{made}");
        }
    });
}

/// A client with another secret than its session's ends its connection, and nobody else's.
#[test]
fn another_secret_in_a_ticket_is_a_failed_connection() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let secret = &elements(&session)[SECRET].1;
        let others = [
            vec![0; secret.len()],
            secret.iter().map(|byte| byte ^ 1).collect(),
        ];
        for other in others {
            let sealed = seal(&with_plain(&session, SECRET, &other));
            assert!(guest.offer(&sealed).is_err());
        }
    });
}

#[test]
fn a_sealed_session_with_any_byte_changed_resumes_as_it_is_or_not_at_all() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let secret = elements(&session)[SECRET].1.clone();
        let context = content(&session, ID_CONTEXT);
        let stamp = content(&session, STAMP);
        let change = (any::<Index>(), 1..=255_u8);
        for_all(300, vec(change, 1..4), |changes| {
            let mut other = session.clone();
            for (at, mask) in changes {
                other[at.index(session.len())] ^= mask;
            }
            // Completes, or fails by this client's Finished or binder.
            if let Ok(Resumed(_)) = guest.offer(&seal(&other)) {
                // All but a time, a flag or the like is as it was.
                let has = |part: &[u8]| other.windows(part.len()).any(|window| window == part);
                assert!(has(&secret) && has(context) && has(&stamp[10..26]));
            }
        });
    });
}

/// Where a stamp says who the client is, and what else is in it.
const FLAGS: usize = 1;
const HAS_AUTHORITY: u8 = 0x10;
const HAS_CHAIN: u8 = 0x20;

/// Version, flags, time, binding and lineage.
const SHORTEST: usize = 2 + 8 + 16 + 16;

/// How many bytes an application may add.
const DATA: usize = 1_024;

/// Whether this is a stamp of this version, with all that it says it has, and not too much behind it.
fn is_whole(stamp: &[u8]) -> bool {
    let [3, flags, ..] = *stamp else {
        return false;
    };
    let authority = if flags & HAS_AUTHORITY != 0 { 16 } else { 0 };
    let chain = if flags & HAS_CHAIN != 0 { 32 } else { 0 };
    let known = flags & !(HAS_AUTHORITY | HAS_CHAIN) <= 2;
    let data = stamp.len().checked_sub(SHORTEST + authority + chain);
    known && data.is_some_and(|data| data <= DATA)
}

/// What may stand in a stamp's place.
fn stamp_like(own: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let flipped = (Just(own.clone()), any::<Index>(), 0..8_u8).prop_map(|(mut stamp, at, bit)| {
        let at = at.index(stamp.len());
        stamp[at] ^= 1 << bit;
        stamp
    });
    // Around the longest that there is with each part, too.
    let len = prop_oneof![0..150_usize, SHORTEST + DATA - 3..SHORTEST + DATA + 60];
    let resized =
        (Just(own.clone()), len.clone(), any::<u8>()).prop_map(|(mut stamp, len, fill)| {
            stamp.resize(len, fill);
            stamp
        });
    // What it says it has may be there or not, and be any bytes.
    let flags = prop_oneof![
        Just(0),
        Just(HAS_AUTHORITY),
        Just(HAS_CHAIN),
        Just(0x30),
        any::<u8>()
    ];
    let flagged =
        (Just(own.clone()), flags, len, any::<u8>()).prop_map(|(mut stamp, flags, len, fill)| {
            stamp.resize(len.max(2), fill);
            stamp[FLAGS] |= flags;
            stamp
        });
    let retimed =
        (Just(own), 0..200_000_u64, any::<bool>()).prop_map(|(mut stamp, seconds, future)| {
            let time = if future {
                now() + seconds
            } else {
                now() - seconds
            };
            stamp[2..10].copy_from_slice(&time.to_be_bytes());
            stamp
        });
    prop_oneof![
        3 => flipped,
        3 => resized,
        3 => flagged,
        2 => retimed,
        3 => vec(any::<u8>(), 0..150),
    ]
}

#[test]
fn only_a_whole_stamp_of_this_name_and_lifetime_resumes() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let own = content(&session, STAMP).to_vec();
        assert!(is_whole(&own) && own.len() == SHORTEST);
        let day = Resumption::DEFAULT_LIFETIME.as_secs();
        for_all(400, stamp_like(own.clone()), |stamp| {
            let ticket = seal(&with_field(&session, STAMP, Some(&stamp)));
            let outcome = guest.offer(&ticket);
            let is_whole = is_whole(&stamp);
            let is_ours = is_whole && stamp[10..26] == own[10..26];
            let time = |stamp: &[u8]| u64::from_be_bytes(stamp[2..10].try_into().unwrap());
            let from_now = if is_whole {
                time(&stamp).abs_diff(now())
            } else {
                0
            };
            if from_now.abs_diff(day) <= 2 {
                // The clock may have ticked.
            } else if is_ours && from_now < day {
                assert_eq!(outcome, Ok(Resumed(Source::Ticket)), "{stamp:02x?}");
            } else {
                assert!(matches!(outcome, Ok(Full(_))), "{outcome:?} {stamp:02x?}");
            }
        });
    });
}

/// A stamp of the version before would be taken for one with a lineage that it does not have.
#[test]
fn a_stamp_of_another_version_does_not_resume() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let own = content(&session, STAMP).to_vec();
        for version in (0..=255).filter(|version| *version != own[0]) {
            let other = [&[version], &own[1..]].concat();
            let ticket = seal(&with_field(&session, STAMP, Some(&other)));
            assert_eq!(guest.offer(&ticket), Ok(Full(Reason::NoStamp)), "{version}");
        }
    });
}
