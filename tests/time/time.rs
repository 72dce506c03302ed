//! How long sessions live, and what is forgotten, over real handshakes with a shifted clock.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::common::child::{Clock, with_clock};
use crate::common::*;
use foreign_types::ForeignTypeRef;
use openssl::asn1::Asn1Time;
use openssl::ssl::{Ssl, SslContext, SslRef, SslVerifyMode};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, Source, SslContextBuilderExt, TicketKeys,
};

const LIFETIME: u64 = 1_000;

/// The modes that resume, with a lifetime of `LIFETIME`.
fn living() -> Vec<(&'static str, Resumption)> {
    let modes = modes().into_iter().take(3);
    modes
        .map(|(mode, policy)| (mode, policy.lifetime(Duration::from_secs(LIFETIME))))
        .collect()
}

/// The client's session with the longest lifetime hint that fits: the client would not offer it
/// past its end.
fn patient(session: &[u8]) -> Vec<u8> {
    let mut session = session.to_vec();
    if let Some(at) = field(&session, LIFETIME_HINT) {
        assert!(at.len() > 1, "no room for a longer hint");
        session[at.start] = 0x7f;
    }
    session
}

/// The session that was offered had ended. From a store it may have been taken out by then: every five seconds a
/// thread looks for what has ended.
#[track_caller]
fn assert_ended(met: &Met, mode: &str, what: &str) {
    let declined = met.agreed();
    let gone = mode != "stateless" && declined == Full(Reason::NotFound);
    assert!(
        gone || declined == Full(Reason::Expired),
        "{mode} {what}: {declined:?}"
    );
}

#[test]
fn a_chain_of_resumptions_ends_with_the_lifetime_of_its_full_handshake() {
    with_clock(
        "a_chain_of_resumptions_ends_with_the_lifetime_of_its_full_handshake",
        |clock| {
            for (mode, policy) in living() {
                let context = context(&policy);
                for kind in Kind::ALL {
                    if mode == "stateless" && kind == Kind::Tls12WithoutTickets {
                        continue;
                    }
                    let what = format!("{mode} {kind:?}");
                    clock.shift(0);
                    let client = Client::new(kind).unwrap();
                    let mut met = meet(&context, &client, None);
                    for age in [300, 600, 740] {
                        clock.shift(age);
                        met = meet(&context, &client, met.next());
                        assert!(met.client.resumed, "{what} at {age}");
                        let hint = hint(met.next().unwrap());
                        if kind == Kind::Tls13 {
                            // What is left; the handshakes may have taken a second or two.
                            let left = LIFETIME - age as u64;
                            assert!((left - 3..=left).contains(&hint), "{what} at {age}: {hint}");
                        }
                    }
                    let last = patient(met.next().unwrap());
                    clock.shift(990);
                    let met = meet(&context, &client, Some(&last));
                    assert!(met.client.resumed, "{what} before its end");
                    clock.shift(1_001);
                    let met = meet(&context, &client, Some(&last));
                    assert_ended(&met, mode, &what);
                    assert!(
                        meet(&context, &client, met.next()).client.resumed,
                        "{what} anew"
                    );
                }
            }
        },
    );
}

#[expect(
    unsafe_code,
    reason = "the `openssl` crate does not have this function"
)]
unsafe extern "C" {
    fn SSL_new_session_ticket(ssl: *mut openssl_sys::SSL) -> i32;
    fn SSL_get_options(ssl: *const openssl_sys::SSL) -> u64;
}

fn ask_for_a_ticket(ssl: &SslRef) {
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: the connection is live, and its handshake complete.
    let asked = unsafe { SSL_new_session_ticket(ssl.as_ptr()) };
    assert_eq!(asked, 1);
}

fn has_no_ticket(ssl: &SslRef) -> bool {
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: reads a field of a live connection.
    let options = unsafe { SSL_get_options(ssl.as_ptr()) };
    options & openssl_sys::SSL_OP_NO_TICKET != 0
}

/// A connection that is asked for a ticket at each of these ages, as FTPS servers do on the control connection
/// before each transfer (proftpd#1931). At each, how many the client got since the one before, and how many
/// sessions were stored or sealed; and whether the connection had `NO_TICKET` at its end.
fn long_connection(
    (policy, context): (&Resumption, &SslContext),
    client: &Client,
    session: Option<&[u8]>,
    (clock, ages): (&Clock, [i64; 3]),
) -> ([(usize, u64); 3], bool) {
    clock.shift(0);
    let (near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || {
        let mut stream = ssl.accept(far).unwrap();
        // Behind the tickets of the handshake.
        stream.write_all(b".").unwrap();
        for _ in ages {
            stream.read_exact(&mut [0]).unwrap();
            ask_for_a_ticket(stream.ssl());
            stream.write_all(b".").unwrap();
        }
        stream.shutdown().unwrap();
        has_no_ticket(stream.ssl())
    });
    let mut stream = client.connect(near, session).unwrap();
    assert_eq!(stream.ssl().session_reused(), session.is_some());
    stream.read_exact(&mut [0]).unwrap();
    assert!(!client.given().is_empty(), "tickets of the handshake");
    let got = ages.map(|age| {
        clock.shift(age);
        let counted = || {
            let stats = policy.stats();
            stats.store.puts + stats.tickets.sealed
        };
        let before = counted();
        stream.write_all(b".").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        (client.given().len(), counted() - before)
    });
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    (got, server.join().unwrap())
}

#[test]
fn a_ticket_asked_for_past_the_lifetime_is_not_sent() {
    with_clock(
        "a_ticket_asked_for_past_the_lifetime_is_not_sent",
        |clock| {
            let (ca, me) = ca_and_client();
            let cases = [false, true]
                .map(|certificate| [false, true].map(|resumed| (certificate, resumed)));
            for (mode, policy) in living() {
                for (certificate, resumed) in cases.into_iter().flatten() {
                    let what = format!("{mode}, certificate {certificate}, resumed {resumed}");
                    let context = match certificate {
                        true => demanding(&policy, &[&ca]),
                        false => context(&policy),
                    };
                    clock.shift(0);
                    let client = client_as(Kind::Tls13, &me);
                    let before = meet(&context, &client, None);
                    let session = before.next().filter(|_| resumed);
                    let at = (clock, [500, 1_001, 2_000]);
                    let (got, no_ticket) =
                        long_connection((&policy, &context), &client, session, at);
                    let [in_time, late @ ..] = got;
                    assert_eq!(in_time, (1, 1), "{what}");
                    assert_eq!(late, [(0, 0); 2], "{what}");
                    let is_stateful = mode == "stateful" || (mode == "hybrid" && certificate);
                    assert_eq!(no_ticket, is_stateful, "{what}: it is as it was");
                }
            }
        },
    );
}

/// A stateful ticket is called off by not sealing it, and more than 65,280 bytes fail that.
#[test]
fn a_ticket_past_the_lifetime_with_a_huge_certificate_costs_no_connection() {
    with_clock(
        "a_ticket_past_the_lifetime_with_a_huge_certificate_costs_no_connection",
        |clock| {
            let ca = mint("clients", None).unwrap();
            let huge = client_as(Kind::Tls13, &mint_with_padding("huge", &ca, 66_000));
            let policy = Resumption::stateful(MemoryStore::default())
                .max_session_size(100_000)
                .lifetime(Duration::from_secs(LIFETIME));
            let context = demanding(&policy, &[&ca]);
            let at = (clock, [500, 1_001, 2_000]);
            let (got, no_ticket) = long_connection((&policy, &context), &huge, None, at);
            let [in_time, late @ ..] = got;
            assert_eq!(in_time, (1, 1));
            assert_eq!(late.map(|(_, stored)| stored), [0; 2]);
            assert!(no_ticket);
        },
    );
}

#[test]
fn a_renewed_tls_1_2_ticket_lives_no_longer_than_the_first() {
    with_clock(
        "a_renewed_tls_1_2_ticket_lives_no_longer_than_the_first",
        |clock| {
            let keys = TicketKeys::random();
            let policy =
                Resumption::stateless(keys.clone()).lifetime(Duration::from_secs(LIFETIME));
            let context = context(&policy);
            let client = Client::new(Kind::Tls12).unwrap();
            let first = meet(&context, &client, None);
            clock.shift(500);
            keys.rotate().unwrap();
            let renewed = meet(&context, &client, first.next());
            assert_eq!(renewed.agreed(), Resumed(Source::Ticket));
            assert_eq!(policy.stats().tickets.sealed, 2);
            assert_eq!(hint(renewed.next().unwrap()), 0, "as OpenSSL does");
            clock.shift(990);
            assert!(meet(&context, &client, renewed.next()).client.resumed);
            clock.shift(1_001);
            let ended = meet(&context, &client, renewed.next());
            assert_eq!(ended.agreed(), Full(Reason::Expired));
        },
    );
}

#[test]
fn a_lifetime_shortened_later_ends_sessions_that_are_older() {
    with_clock(
        "a_lifetime_shortened_later_ends_sessions_that_are_older",
        |clock| {
            for (mode, policy) in living() {
                for kind in [Kind::Tls12, Kind::Tls13] {
                    clock.shift(0);
                    let client = Client::new(kind).unwrap();
                    let met = meet(&context(&policy), &client, None);
                    clock.shift(500);
                    let shorter = context(&policy.clone().lifetime(Duration::from_secs(400)));
                    let met = meet(&shorter, &client, met.next());
                    assert_ended(&met, mode, &format!("{kind:?}"));
                }
            }
        },
    );
}

#[test]
fn keys_rotate_and_retire_as_time_goes_by() {
    with_clock("keys_rotate_and_retire_as_time_goes_by", |clock| {
        let hours = |n: i64| n * 3_600;
        let policy = Resumption::stateless(TicketKeys::random());
        let context = context(&policy);
        let client = Client::new(Kind::Tls12).unwrap();
        let first = meet(&context, &client, None);
        clock.shift(hours(11));
        assert_eq!(
            meet(&context, &client, first.next()).agreed(),
            Resumed(Source::Ticket)
        );
        assert_eq!(policy.stats().tickets.opened_inactive, 0);
        clock.shift(hours(13));
        // The first handshake wakes the thread that makes the next key, and does not wait for it.
        let begun = Instant::now();
        while policy.stats().tickets.opened_inactive == 0 {
            assert_eq!(
                meet(&context, &client, first.next()).agreed(),
                Resumed(Source::Ticket)
            );
            assert!(begun.elapsed() < Duration::from_secs(10), "no new key");
        }
        clock.shift(hours(25));
        assert_eq!(
            meet(&context, &client, first.next()).agreed(),
            Full(Reason::Expired)
        );
        clock.shift(hours(50));
        assert_eq!(
            meet(&context, &client, first.next()).agreed(),
            Full(Reason::UnknownKey)
        );
    });
}

#[test]
fn a_session_ends_with_its_client_certificate() {
    with_clock("a_session_ends_with_its_client_certificate", |clock| {
        let ca = mint("clients", None).unwrap();
        for (mode, policy) in modes().into_iter().take(3) {
            let mut builder = acceptor();
            demand_certificates(&mut builder, &ca);
            // Verification would refuse the certificate in the full handshake at the end.
            builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
            builder.set_resumption(&policy).unwrap();
            let context = builder.build().into_context();
            for kind in [Kind::Tls12, Kind::Tls13] {
                clock.shift(0);
                let now = SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap();
                let end = Asn1Time::from_unix(now.as_secs() as i64 + 300).unwrap();
                let client = client_as(kind, &mint_until("me", Some(&ca), &end).unwrap());
                let first = meet(&context, &client, None);
                clock.shift(290);
                let second = meet(&context, &client, first.next());
                assert!(second.client.resumed, "{mode} {kind:?}");
                assert!(second.authenticated, "the leaf is there");
                clock.shift(301);
                let session = patient_if_short(second.next().unwrap());
                let met = meet(&context, &client, Some(&session));
                assert_ended(&met, mode, &format!("{kind:?}"));
            }
        }
    });
}

/// Like `patient`; a hint of one byte is made as long as it can be.
fn patient_if_short(session: &[u8]) -> Vec<u8> {
    match field(session, LIFETIME_HINT) {
        Some(at) if at.len() == 1 => {
            let mut session = session.to_vec();
            session[at.start] = 0x7f;
            session
        }
        _ => patient(session),
    }
}

#[test]
fn what_is_forgotten_does_not_resume_and_what_comes_after_does() {
    with_clock(
        "what_is_forgotten_does_not_resume_and_what_comes_after_does",
        |clock| {
            for kind in [Kind::Tls12, Kind::Tls13] {
                for (mode, policy) in living() {
                    let server = context(&policy);
                    let what = format!("{mode} {kind:?}");
                    let client = Client::new(kind).unwrap();
                    let connect = |met: &Met| meet(&server, &client, met.next()).agreed();
                    let resumes = |met: &Met| matches!(connect(met), Resumed(_));

                    clock.shift(0);
                    let old = meet(&server, &client, None);
                    clock.shift(10);
                    let between = SystemTime::now();
                    clock.shift(20);
                    // A resumption later does not make the session any younger.
                    let resumed = meet(&server, &client, old.next());
                    let young = meet(&server, &client, None);

                    policy.forget_before(between - Duration::from_secs(3_600));
                    assert!(resumes(&old) && resumes(&young), "{what}: older than both");
                    policy.forget_before(between);
                    assert_eq!(connect(&old), Full(Reason::Forgotten), "{what}");
                    assert_eq!(connect(&resumed), Full(Reason::Forgotten), "{what}");
                    assert!(resumes(&young), "{what}");

                    clock.shift(30);
                    policy.clone().forget_all();
                    assert_eq!(connect(&young), Full(Reason::Forgotten), "{what}");
                    clock.shift(40);
                    let new = meet(&server, &client, None);
                    assert!(resumes(&new), "{what}: made afterwards");

                    // A cut-off carried over a restart; the old policy has its own.
                    let later = policy.clone().not_before(SystemTime::now());
                    let met = meet(&context(&later), &client, new.next());
                    assert_eq!(met.agreed(), Full(Reason::Forgotten), "{what}");
                    assert!(
                        resumes(&new),
                        "{what}: a knob changes only the value it returns"
                    );
                    clock.shift(50);
                    let met = meet(&context(&later), &client, None);
                    assert!(
                        meet(&context(&later), &client, met.next()).client.resumed,
                        "{what}"
                    );
                }
            }
        },
    );
}

#[test]
fn a_forgotten_client_does_not_resume_and_others_do() {
    with_clock(
        "a_forgotten_client_does_not_resume_and_others_do",
        |clock| {
            let ca = mint("clients", None).unwrap();
            let (one, two) = (
                mint("one", Some(&ca)).unwrap(),
                mint("two", Some(&ca)).unwrap(),
            );
            for kind in [Kind::Tls12, Kind::Tls13] {
                for (mode, policy) in living() {
                    let mut builder = acceptor();
                    demand_certificates(&mut builder, &ca);
                    builder.set_resumption(&policy).unwrap();
                    let context = builder.build().into_context();
                    let what = format!("{mode} {kind:?}");
                    clock.shift(0);
                    let (gone, here) = (client_as(kind, &one), client_as(kind, &two));
                    let (gone_met, here_met) =
                        (meet(&context, &gone, None), meet(&context, &here, None));
                    let digest = one
                        .cert
                        .digest(openssl::hash::MessageDigest::sha256())
                        .unwrap();
                    policy.forget_client((*digest).try_into().unwrap());

                    let met = meet(&context, &gone, gone_met.next());
                    assert_eq!(met.agreed(), Full(Reason::Forgotten), "{what}");
                    assert!(
                        meet(&context, &here, here_met.next()).client.resumed,
                        "{what}"
                    );
                    clock.shift(5);
                    let met = meet(&context, &gone, None);
                    assert!(
                        meet(&context, &gone, met.next()).client.resumed,
                        "{what}: verified anew"
                    );
                }
            }
        },
    );
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    with_clock("a_clock_that_goes_back_does_no_harm", |clock| {
        for (mode, policy) in living() {
            let context = context(&policy);
            for kind in [Kind::Tls12, Kind::Tls13] {
                let what = format!("{mode} {kind:?}");
                let client = Client::new(kind).unwrap();
                clock.shift(0);
                let first = meet(&context, &client, None);
                for back in [-10, -500, -100_000, -40_000_000] {
                    clock.shift(back);
                    // Whatever becomes of the session, connections go on and agree.
                    let met = meet(&context, &client, first.next());
                    met.agreed();
                    assert!(hint(met.next().unwrap()) <= LIFETIME, "{what} at {back}");
                    let anew = meet(&context, &client, None);
                    assert!(
                        meet(&context, &client, anew.next()).client.resumed,
                        "{what} at {back}"
                    );
                }
                clock.shift(0);
                // Ticket keys of before may have gone with the clock.
                let met = meet(&context, &client, first.next());
                assert!(
                    met.client.resumed || mode != "stateful",
                    "{what} back again"
                );
                met.agreed();
            }
        }
    });
}

#[test]
fn forgetting_with_a_clock_that_goes_back_still_forgets() {
    with_clock(
        "forgetting_with_a_clock_that_goes_back_still_forgets",
        |clock| {
            // TLS 1.2, because a TLS 1.3 client offers no session from the future.
            for kind in [Kind::Tls12, Kind::Tls12WithoutTickets] {
                clock.shift(0);
                let policy = Resumption::hybrid(MemoryStore::default(), TicketKeys::random());
                let context = context(&policy);
                let client = Client::new(kind).unwrap();
                let met = meet(&context, &client, None);
                policy.forget_all();
                clock.shift(-3_600);
                let met = meet(&context, &client, met.next());
                assert_eq!(met.agreed(), Full(Reason::Forgotten), "{kind:?}");
            }
        },
    );
}

/// A session dates from the start of its handshake: one that was under way when sessions were
/// forgotten, with a certificate that had already been looked at, say, is forgotten with them.
#[test]
fn a_handshake_under_way_does_not_outlive_what_is_forgotten() {
    with_clock(
        "a_handshake_under_way_does_not_outlive_what_is_forgotten",
        |clock| {
            for kind in [Kind::Tls12, Kind::Tls13] {
                for (mode, policy) in living() {
                    clock.shift(0);
                    let slow = clock.clone();
                    let forgetful = policy.clone();
                    let mut builder = acceptor();
                    builder.set_servername_callback(move |_, _| {
                        slow.shift(10);
                        forgetful.forget_all();
                        slow.shift(20);
                        Ok(())
                    });
                    builder.set_resumption(&policy).unwrap();
                    let client = Client::new(kind).unwrap();
                    let met = meet(&builder.build().into_context(), &client, None);
                    let met = meet(&context(&policy), &client, met.next());
                    assert_eq!(met.agreed(), Full(Reason::Forgotten), "{mode} {kind:?}");
                }
            }
        },
    );
}

/// A session made while the clock was ahead is younger than any time to come for a while.
#[test]
fn what_was_made_in_the_future_is_forgotten_too() {
    with_clock("what_was_made_in_the_future_is_forgotten_too", |clock| {
        for kind in [Kind::Tls12, Kind::Tls12WithoutTickets] {
            clock.shift(900);
            let policy = Resumption::hybrid(MemoryStore::default(), TicketKeys::random())
                .lifetime(Duration::from_secs(LIFETIME));
            let context = context(&policy);
            let client = Client::new(kind).unwrap();
            let met = meet(&context, &client, None);
            clock.shift(0);
            assert!(
                meet(&context, &client, met.next()).client.resumed,
                "{kind:?}"
            );
            policy.forget_all();
            let met = meet(&context, &client, met.next());
            assert_eq!(met.agreed(), Full(Reason::Forgotten), "{kind:?}");
        }
    });
}

#[test]
fn a_session_from_beyond_any_difference_between_clocks_is_not_resumed() {
    with_clock(
        "a_session_from_beyond_any_difference_between_clocks_is_not_resumed",
        |clock| {
            clock.shift(2 * LIFETIME as i64);
            let policy = Resumption::stateful(MemoryStore::default());
            let policy = policy.lifetime(Duration::from_secs(LIFETIME));
            let context = context(&policy);
            let client = Client::new(Kind::Tls12).unwrap();
            let met = meet(&context, &client, None);
            clock.shift(0);
            let met = meet(&context, &client, met.next());
            assert_eq!(met.agreed(), Full(Reason::Expired));
        },
    );
}
