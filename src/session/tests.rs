use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::ssl::{SslVerifyMode, SslVersion};

use super::*;
use crate::outcome::Reason;

const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn stamp() -> Stamp {
    Stamp {
        time: NOW - 100,
        binding: binding(b"shop", Some(b"a.example"), b""),
        authority: None,
        client: ClientIs::Anonymous,
        lineage: [5; 16],
        ended: false,
        chain: None,
    }
}

fn claims() -> Claims {
    Claims {
        version: SslVersion::TLS1_3,
        expires_at: at(NOW + 1),
        has_context: true,
        has_credential: false,
        stamp: Some(stamp()),
    }
}

fn here() -> Here {
    Here {
        version: SslVersion::TLS1_3,
        binding: stamp().binding,
        lifetime: 101,
        cutoff: None,
        certificates: true,
        now: at(NOW),
    }
}

#[track_caller]
fn declined(claims: &Claims, here: &Here, reason: Reason) {
    assert_eq!(check(claims, here), Err(reason));
}

#[test]
fn a_session_passes_where_it_was_made_for() {
    assert_eq!(check(&claims(), &here()), Ok(stamp()));
}

#[test]
fn another_version_or_no_context_is_the_wrong_context() {
    let old = Claims {
        version: SslVersion::TLS1_2,
        ..claims()
    };
    declined(&old, &here(), Reason::WrongContext);
    let bare = Claims {
        has_context: false,
        ..claims()
    };
    declined(&bare, &here(), Reason::WrongContext);
}

#[test]
fn a_session_that_is_not_ours_has_no_stamp() {
    declined(
        &Claims {
            stamp: None,
            ..claims()
        },
        &here(),
        Reason::NoStamp,
    );
    // Of a server without a session id context, either.
    let bare = Claims {
        stamp: None,
        has_context: false,
        ..claims()
    };
    declined(&bare, &here(), Reason::NoStamp);
}

#[test]
fn it_ends_by_its_own_timeout_and_by_the_lifetime_from_the_full_handshake() {
    declined(
        &Claims {
            expires_at: at(NOW),
            ..claims()
        },
        &here(),
        Reason::Expired,
    );
    declined(
        &claims(),
        &Here {
            lifetime: 100,
            ..here()
        },
        Reason::Expired,
    );
    let ended = Stamp {
        ended: true,
        ..stamp()
    };
    let ended = Claims {
        stamp: Some(ended),
        ..claims()
    };
    declined(&ended, &here(), Reason::Expired);
}

#[test]
fn cutoffs_are_inclusive_to_the_second() {
    let cut = |cutoff| Here {
        cutoff: Some(cutoff),
        ..here()
    };
    assert!(check(&claims(), &cut(NOW - 101)).is_ok());
    declined(&claims(), &cut(NOW - 100), Reason::Forgotten);
    declined(&claims(), &cut(u64::MAX), Reason::Forgotten);
    // 1970 is a time too.
    let ancient = Stamp { time: 0, ..stamp() };
    let ancient = Claims {
        stamp: Some(ancient),
        ..claims()
    };
    declined(
        &ancient,
        &Here {
            lifetime: NOW + 9,
            ..cut(0)
        },
        Reason::Forgotten,
    );
}

#[test]
fn a_clock_that_went_back_does_no_harm() {
    // A session from the future is as good as new, and lives no longer than that; but not one
    // from a future that no difference between clocks explains.
    let made = NOW - 100;
    let earlier = |seconds| Here {
        now: at(made - seconds),
        ..here()
    };
    assert!(check(&claims(), &earlier(101)).is_ok());
    declined(&claims(), &earlier(102), Reason::Expired);
    assert_eq!(stamp().timeout(made - 10_000, 500, None), 500);
}

#[test]
fn bindings_differ_by_scope_name_and_generation_and_not_by_case() {
    let one = binding(b"shop", Some(b"a.example"), b"1");
    assert_eq!(one, binding(b"shop", Some(b"A.eXample"), b"1"));
    let others = [
        binding(b"shop", Some(b"b.example"), b"1"),
        binding(b"shop", Some(b""), b"1"),
        binding(b"shop", None, b"1"),
        binding(b"shop", Some(b"a.example"), b"2"),
        binding(b"blog", Some(b"a.example"), b"1"),
        binding(b"", Some(b"a.example"), b"shop1"),
    ];
    for (i, other) in others.iter().enumerate() {
        assert!(*other != one && !others[..i].contains(other), "{i}");
    }
    let elsewhere = Here {
        binding: others[0],
        ..here()
    };
    declined(&claims(), &elsewhere, Reason::OtherBinding);
}

#[test]
fn a_demand_is_met_by_a_session_made_under_it() {
    use ClientIs::{Anonymous, Unverified, Verified};

    let (ours, theirs) = (Some([1; 16]), Some([2; 16]));
    let peer = SslVerifyMode::PEER;
    let must = peer | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    let none = SslVerifyMode::NONE;
    let (unauthenticated, other) = (Err(Reason::Unauthenticated), Err(Reason::OtherBinding));
    let table = [
        // Demanded here, and made with: authority, client.
        (none, None, None, Anonymous, Ok(())),
        (none, None, ours, Verified, Ok(())),
        (none, None, ours, Unverified, Ok(())),
        (peer, ours, None, Anonymous, other),
        (peer, ours, ours, Anonymous, Ok(())),
        (peer, ours, ours, Verified, Ok(())),
        (peer, ours, ours, Unverified, unauthenticated),
        (peer, ours, theirs, Verified, other),
        (must, ours, None, Anonymous, unauthenticated),
        (must, ours, ours, Anonymous, unauthenticated),
        (must, ours, ours, Verified, Ok(())),
        (must, ours, ours, Unverified, unauthenticated),
        (must, ours, theirs, Verified, other),
    ];
    for (i, (verify, authority, made, client, expected)) in table.into_iter().enumerate() {
        let stamp = Stamp {
            authority: made,
            client,
            ..stamp()
        };
        let mut demand = Demand {
            verify,
            authority,
            callback: None,
        };
        assert_eq!(demand.is_met_by(&stamp), expected, "row {i}");
        // Where a callback decides, what did not verify passes if it was that callback that let it.
        demand.callback = Some([9; 16]);
        assert_eq!(demand.is_met_by(&stamp), expected, "row {i}, callback");
        let by_it = Stamp {
            authority: demand.unverified(),
            client: Unverified,
            ..stamp
        };
        let is_asked = verify.contains(peer);
        assert_eq!(demand.is_met_by(&by_it), Ok(()), "row {i}, its own");
        demand.callback = Some([8; 16]);
        let another = demand.is_met_by(&by_it);
        assert_eq!(another.is_err(), is_asked, "row {i}, another");
    }
}

#[test]
fn client_certificates_can_be_refused() {
    let with = Claims {
        has_credential: true,
        ..claims()
    };
    assert!(check(&with, &here()).is_ok());
    declined(
        &with,
        &Here {
            certificates: false,
            ..here()
        },
        Reason::ClientCertificate,
    );
    assert!(
        check(
            &claims(),
            &Here {
                certificates: false,
                ..here()
            }
        )
        .is_ok()
    );
}

#[test]
fn a_session_ends_with_the_lifetime_and_with_the_certificate() {
    let stamp = stamp();
    assert_eq!(stamp.timeout(NOW - 100, 300, None), 300, "a full handshake");
    assert_eq!(stamp.timeout(NOW, 300, None), 200, "a resumption later");
    assert_eq!(stamp.timeout(NOW + 200, 300, None), 0);
    assert_eq!(stamp.timeout(NOW, 300, Some(NOW + 50)), 50);
    assert_eq!(stamp.timeout(NOW, 300, Some(NOW + 5_000)), 200);
    assert_eq!(stamp.timeout(NOW, 300, Some(NOW - 1)), 0, "already over");
}

#[test]
fn stamps_survive_their_bytes_and_nothing_else_is_one() {
    let full = Stamp {
        authority: Some([7; 16]),
        client: ClientIs::Verified,
        chain: Some([8; 32]),
        ended: true,
        ..stamp()
    };
    let others = [
        stamp(),
        Stamp {
            client: ClientIs::Unverified,
            ..stamp()
        },
        Stamp {
            chain: None,
            ..full
        },
    ];
    for stamp in others.into_iter().chain([full]) {
        let bytes = stamp.to_bytes(b"");
        assert_eq!(Stamp::from_bytes(&bytes), Some(stamp));
        for len in 0..bytes.len() {
            assert_eq!(Stamp::from_bytes(&bytes[..len]), None, "{len}");
        }
        let mut other = bytes.clone();
        other[0] = 2;
        assert_eq!(Stamp::from_bytes(&other), None);
        for flags in [3, 0x80] {
            other.clone_from(&bytes);
            other[1] |= flags;
            assert_eq!(Stamp::from_bytes(&other), None, "not known: {flags}");
        }
    }
}

#[test]
fn data_follows_the_stamp_up_to_its_limit() {
    let data = [9; MAX_DATA + 1];
    let bytes = stamp().to_bytes(&data[1..]);
    assert_eq!(Stamp::with_data(&bytes), Some((stamp(), &data[1..])));
    assert_eq!(Stamp::with_data(&stamp().to_bytes(&data)), None);
}
