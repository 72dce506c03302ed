//! Without tickets in TLS 1.2, whose keys would open recorded connections.

use crate::common::*;
use openssl::ssl::{SslContext, SslVersion};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, Source, TicketKeys,
};

/// The modes that have tickets, with those of TLS 1.2 or without.
fn ticketing(tls12_tickets: bool) -> [(&'static str, Resumption); 2] {
    let policies = [
        ("stateless", Resumption::stateless(TicketKeys::random())),
        (
            "hybrid",
            Resumption::hybrid(MemoryStore::default(), TicketKeys::random()),
        ),
    ];
    policies.map(|(mode, policy)| (mode, policy.tls12_tickets(tls12_tickets)))
}

/// A server that has TLS 1.2 only.
fn old(policy: &Resumption) -> SslContext {
    context_with(policy, |builder| {
        let version = Some(SslVersion::TLS1_2);
        builder.set_max_proto_version(version).unwrap();
    })
}

/// A client that has both versions, with a certificate if it is given one.
fn modern(me: Option<&Identity>) -> Client {
    Client::with(Kind::Tls13, |context| {
        if let Some(me) = me {
            context.set_certificate(&me.cert)?;
            context.set_private_key(&me.key)?;
        }
        context.set_min_proto_version(Some(SslVersion::TLS1_2))
    })
    .unwrap()
}

fn has_ticket(met: &Met) -> bool {
    met.next()
        .is_some_and(|session| field(session, TICKET).is_some())
}

#[test]
fn a_tls_1_2_client_gets_no_ticket_and_a_tls_1_3_client_does() {
    for (mode, policy) in ticketing(false) {
        for (what, context) in [
            ("both versions", context(&policy)),
            ("TLS 1.2", old(&policy)),
        ] {
            let [first, second] = meet_twice(&context, &Client::new(Kind::Tls12).unwrap());
            assert!(
                !has_ticket(&first) && !has_ticket(&second),
                "{mode}, {what}"
            );
            assert_eq!(
                first.next().is_some(),
                mode == "hybrid",
                "{mode}, {what}: an id"
            );
            let expected = match mode {
                "hybrid" => Resumed(Source::Store),
                _ => Full(Reason::NothingOffered),
            };
            assert_eq!(second.agreed(), expected, "{mode}, {what}");
        }
        assert_eq!(policy.stats().tickets.sealed, 0, "{mode}");
        let [first, second] = meet_twice(&context(&policy), &Client::new(Kind::Tls13).unwrap());
        assert!(has_ticket(&first), "{mode}");
        assert_eq!(second.agreed(), Resumed(Source::Ticket), "{mode}");
        assert_eq!(policy.stats().overridden, 0, "{mode}");
    }
}

/// Whoever has its key has the keys of the connections that it was in: it is not to be used in one more.
#[test]
fn a_tls_1_2_ticket_from_before_does_not_resume() {
    for (mode, policy) in ticketing(true) {
        let client = Client::new(Kind::Tls12).unwrap();
        let first = meet(&context(&policy), &client, None);
        assert!(has_ticket(&first), "{mode}");
        let without = context(&policy.clone().tls12_tickets(false));
        let declined = meet(&without, &client, first.next());
        let why = match mode {
            // The client sends an id with its ticket.
            "hybrid" => Reason::NotFound,
            _ => Reason::NothingOffered,
        };
        assert_eq!(declined.agreed(), Full(why), "{mode}");
        assert!(!has_ticket(&declined), "{mode}");
        assert_eq!(policy.stats().tickets.opened, 0, "{mode}");
        // A host that still gives them takes it.
        let met = meet(&context(&policy), &client, first.next());
        assert_eq!(met.agreed(), Resumed(Source::Ticket), "{mode}");
        // And in hybrid mode what the other one has stored.
        let met = meet(&context(&policy), &client, declined.next());
        assert_eq!(met.client.resumed, mode == "hybrid", "{mode}");
    }
}

/// What it offers of TLS 1.3, sealed or not, says nothing about its TLS 1.2.
#[test]
fn a_client_that_falls_back_to_tls_1_2_is_served_like_any_other() {
    let (ca, me) = ca_and_client();
    for tls12_tickets in [true, false] {
        for (mode, policy) in ticketing(tls12_tickets) {
            for me in [None, Some(&me)] {
                let certificate = me.is_some();
                let what = format!("{mode}, tickets {tls12_tickets}, certificate {certificate}");
                let client = modern(me);
                let new = context_with(&policy, |builder| {
                    if certificate {
                        demand_certificates(builder, &ca);
                    }
                });
                let of_tls13 = meet(&new, &client, None);
                let is_short = ticket(of_tls13.next().unwrap()).len() == 32;
                assert_eq!(is_short, mode == "hybrid" && certificate, "{what}");

                let old = context_with(&policy, |builder| {
                    let version = Some(SslVersion::TLS1_2);
                    builder.set_max_proto_version(version).unwrap();
                    if certificate {
                        demand_certificates(builder, &ca);
                    }
                });
                let fallen = meet(&old, &client, of_tls13.next());
                assert_eq!(fallen.client.version, "TLSv1.2", "{what}");
                assert!(matches!(fallen.agreed(), Full(_)), "{what}");
                assert_eq!(has_ticket(&fallen), tls12_tickets, "{what}");
                let met = meet(&old, &client, fallen.next());
                let expected = match (mode, tls12_tickets) {
                    (_, true) => Resumed(Source::Ticket),
                    ("hybrid", false) => Resumed(Source::Store),
                    _ => Full(Reason::NothingOffered),
                };
                assert_eq!(met.agreed(), expected, "{what}");
                // Its session of TLS 1.3 is as good as before.
                let back = meet(&new, &client, of_tls13.next());
                assert!(back.client.resumed, "{what}");
            }
            assert_eq!(policy.stats().overridden, 0, "{mode}");
        }
    }
}
