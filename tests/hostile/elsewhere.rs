//! Sessions of another mode, store, ring, scope or name, and of a certificate that has ended.

use std::sync::Arc;

use openssl::asn1::Asn1Time;
use openssl::ssl::SslVerifyMode;
use openssl_resumption::{
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, SessionStore, Source,
};

use crate::common::*;
use crate::der::{ID, elements, with_plain};
use crate::now;
use crate::server::Server;
use crate::tickets::known;

/// Where a session of this kind of client lives in this mode.
fn home(mode: &str, kind: Kind) -> Option<Source> {
    match (mode, kind) {
        ("stateful", _) | ("hybrid", Kind::Tls12WithoutTickets) => Some(Source::Store),
        ("stateless" | "hybrid", Kind::Tls12 | Kind::Tls13) => Some(Source::Ticket),
        _ => None,
    }
}

/// The same for a client with a certificate.
fn home_with_certificate(mode: &str, kind: Kind) -> Option<Source> {
    match (mode, kind) {
        ("hybrid", Kind::Tls13) => Some(Source::Store),
        _ => home(mode, kind),
    }
}

/// Whether a session that lives there can be had in this mode.
fn has(mode: &str, home: Source) -> bool {
    match home {
        Source::Store => mode == "stateful" || mode == "hybrid",
        _ => mode == "stateless" || mode == "hybrid",
    }
}

/// The three modes that resume, over one store and one ring.
pub(crate) fn related() -> [(&'static str, Resumption); 3] {
    let store: Arc<dyn SessionStore> = Arc::new(MemoryStore::default());
    let keys = known();
    [
        ("stateful", Resumption::stateful(Arc::clone(&store))),
        ("stateless", Resumption::stateless(keys.clone())),
        ("hybrid", Resumption::hybrid(store, keys)),
    ]
}

/// Like `resuming_clients`, in these modes and with each client that has sessions in one of them.
pub(crate) fn homes() -> impl Iterator<Item = (String, Resumption, Kind)> {
    related().into_iter().flat_map(|(mode, policy)| {
        Kind::ALL
            .into_iter()
            .filter(move |kind| home(mode, *kind).is_some())
            .map(move |kind| (format!("{mode} {kind:?}"), policy.clone(), kind))
    })
}

#[test]
fn a_session_of_another_mode_resumes_if_both_have_it_in_the_same_place() {
    let mut all = related().to_vec();
    all.push(("off", Resumption::off()));
    let (ca, me) = ca_and_client();
    for kind in Kind::ALL {
        for with_certificate in [false, true] {
            let server = |policy| match with_certificate {
                true => Server::with(policy, |builder| demand_certificates(builder, &ca)),
                false => Server::new(policy),
            };
            let home = match with_certificate {
                true => home_with_certificate,
                false => home,
            };
            for (made, from) in &all {
                let client = client_as(kind, &me);
                let first = server(from).meet(&client, None);
                assert_eq!(first.authenticated, with_certificate);
                let home = home(made, kind);
                for (asked, to) in &all {
                    let met = server(to).meet(&client, first.next());
                    let outcome = met.agreed();
                    let what =
                        format!("{kind:?} {with_certificate}: {made} for {asked}: {outcome:?}");
                    assert_eq!(met.authenticated, with_certificate, "{what}");
                    match home.filter(|home| has(asked, *home)) {
                        Some(home) => assert_eq!(outcome, Resumed(home), "{what}"),
                        None => assert!(matches!(outcome, Full(_)), "{what}"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_session_of_another_store_or_ring_does_not_resume() {
    for kind in Kind::ALL {
        for ((mode, own), (_, strange)) in modes().into_iter().zip(modes()).take(3) {
            let Some(home) = home(mode, kind) else {
                continue;
            };
            let (own, strange) = (Server::new(&own), Server::new(&strange));
            let (guest, stranger) = (own.guest(kind), strange.guest(kind));
            let outcome = own.meet(&stranger.client, Some(&stranger.session)).agreed();
            let why = match home {
                Source::Store => Reason::NotFound,
                _ => Reason::UnknownKey,
            };
            assert_eq!(outcome, Full(why), "{mode} {kind:?}");
            guest.still_resumes();
            stranger.still_resumes();
        }
    }
}

#[test]
fn a_session_of_another_scope_generation_name_or_demand_does_not_resume() {
    let (ca, me) = ca_and_client();
    for what in ["scope", "generation", "name", "demand"] {
        for (home, policy, kind) in homes() {
            let client = || client_as(kind, &me);
            let first = Server::new(&policy).meet(&client(), None);
            let (there, visitor) = match what {
                "scope" => (Server::new(&policy.clone().scope("shop")), client()),
                "generation" => (Server::new(&policy.clone().generation("2")), client()),
                "name" => (Server::new(&policy), client().server_name("other.example")),
                _ => {
                    let demand = |builder: &mut _| demand_certificates(builder, &ca);
                    (Server::with(&policy, demand), client())
                }
            };
            let met = there.meet(&visitor, first.next());
            assert!(matches!(met.agreed(), Full(_)), "{what} {home}");
            assert_eq!(met.authenticated, what == "demand");

            let back = Server::new(&policy).meet(&client(), first.next());
            assert!(matches!(back.agreed(), Resumed(_)), "{what} {home}");
        }
    }
}

/// Where the server lets such clients in, each connection is to ask it again.
#[test]
fn a_session_of_a_certificate_that_has_ended_does_not_resume_for_a_moment() {
    let ended = Asn1Time::from_unix(i64::try_from(now()).unwrap() - 1).unwrap();
    let me = mint_until("me", None, &ended).unwrap();
    for (mode, policy) in related() {
        let server = Server::with(&policy, |builder| {
            builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        });
        for kind in Kind::ALL {
            let client = client_as(kind, &me);
            let first = server.meet(&client, None);
            assert!(first.authenticated);
            let second = server.meet(&client, first.next());
            assert!(matches!(second.agreed(), Full(_)), "{mode} {kind:?}");
        }
    }
}

#[test]
fn a_session_of_another_version_does_not_resume_under_its_id() {
    let server = Server::new(&Resumption::stateful(MemoryStore::default()));
    let old = server.guest(Kind::Tls12WithoutTickets);
    let new = server.guest(Kind::Tls13);
    let id = elements(&old.session)[ID].1.clone();
    assert_eq!(new.offer(&id), Ok(Full(Reason::NotFound)));
    let grafted = with_plain(&old.session, ID, new.ticket());
    let met = server.meet(&old.client, Some(&grafted));
    assert_eq!(met.agreed(), Full(Reason::NotFound));
    old.still_resumes();
    new.still_resumes();
}
