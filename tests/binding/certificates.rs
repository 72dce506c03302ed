//! Clients with and without a certificate where one is asked for but not demanded.

use openssl::ssl::{SslContext, SslVerifyMode};
use openssl_resumption::{ClientCertificates, Handshake::Full, Reason, Resumption};

use crate::common::*;

/// A server that asks for certificates signed by `ca`.
fn asking(policy: &Resumption, ca: &Identity) -> SslContext {
    context_with(policy, |builder| {
        demand_certificates(builder, ca);
        builder.set_verify(SslVerifyMode::PEER);
    })
}

/// A client without a certificate resumes as such.
#[test]
fn an_optional_certificate_is_neither_lost_nor_invented() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in resuming_clients() {
        let context = asking(&policy, &ca);
        for (client, authenticated) in [
            (Client::new(kind).unwrap(), false),
            (client_as(kind, &me), true),
        ] {
            let [_, second] = meet_twice(&context, &client);
            assert!(second.client.resumed, "{what}");
            assert_eq!(second.authenticated, authenticated, "{what}");
        }
    }
}

#[test]
fn sessions_with_a_client_certificate_can_be_ruled_out() {
    let (ca, me) = ca_and_client();
    for (mode, policy) in resuming() {
        let never = policy
            .clone()
            .client_certificates(ClientCertificates::Never);
        for kind in Kind::ALL {
            let what = format!("{mode} {kind:?}");
            let client = client_as(kind, &me);
            // None is given, so none is stored and none is offered.
            let puts = policy.stats().store.puts;
            let met = meet(&asking(&never, &ca), &client, None);
            assert!(met.authenticated, "{what}");
            if kind == Kind::Tls13 || (mode != "stateful" && kind == Kind::Tls12) {
                let tickets = met.client.sessions.len();
                assert_eq!(tickets, 0, "{what}: a ticket that is good for nothing");
            }
            assert_eq!(policy.stats().store.puts, puts, "{what}");
            let met = meet(&asking(&never, &ca), &client, met.next());
            assert!(!met.client.resumed, "{what}");

            // One from before is not resumed.
            let met = meet(&asking(&policy, &ca), &client, None);
            if mode != "stateless" || kind != Kind::Tls12WithoutTickets {
                let declined = meet(&asking(&never, &ca), &client, met.next());
                let expected = Full(Reason::ClientCertificate);
                assert_eq!(declined.agreed(), expected, "{what}");

                // Clients without a certificate are not concerned.
                let anonymous = Client::new(kind).unwrap();
                let met = meet(&asking(&never, &ca), &anonymous, None);
                let met = meet(&asking(&never, &ca), &anonymous, met.next());
                assert!(met.client.resumed, "{what}");
            }
        }
    }
}
