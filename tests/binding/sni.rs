//! Contexts that a handshake switches to: the accepting context's policy governs.

use std::sync::OnceLock;

use crate::common::*;
use openssl::ssl::{ClientHelloResponse, NameType, SslContext, SslVerifyMode};
use openssl_resumption::{Handshake, MemoryStore, Resumption, SslContextBuilderExt, TicketKeys};

#[derive(Debug, Clone, Copy)]
enum Switch {
    ServerName,
    ClientHello,
}

#[derive(Debug, Clone, Copy)]
enum Vhost {
    SamePolicy,
    NoPolicy,
    Off,
    Stateless,
    OtherScope,
}

/// What clients would be verified against, if any had a certificate.
fn ca() -> &'static Identity {
    static CA: OnceLock<Identity> = OnceLock::new();
    CA.get_or_init(|| mint("clients", None).unwrap())
}

fn vhost(
    vhost: Vhost,
    verify: SslVerifyMode,
    policy: &Resumption,
) -> (SslContext, Option<Resumption>) {
    let policy = match vhost {
        Vhost::SamePolicy => Some(policy.clone()),
        Vhost::NoPolicy => None,
        Vhost::Off => Some(Resumption::off()),
        Vhost::Stateless => Some(Resumption::stateless(TicketKeys::random())),
        Vhost::OtherScope => Some(policy.clone().scope("elsewhere")),
    };
    let mut builder = acceptor();
    demand_certificates(&mut builder, ca());
    builder.set_verify(verify);
    if let Some(policy) = &policy {
        builder.set_resumption(policy).unwrap();
    }
    (builder.build().into_context(), policy)
}

fn front(policy: &Resumption, verify: SslVerifyMode, switch: Switch, to: SslContext) -> SslContext {
    let mut builder = acceptor();
    demand_certificates(&mut builder, ca());
    builder.set_verify(verify);
    match switch {
        Switch::ServerName => builder.set_servername_callback(move |ssl, _| {
            if ssl.servername(NameType::HOST_NAME) == Some("vhost") {
                ssl.set_ssl_context(&to).unwrap();
            }
            Ok(())
        }),
        Switch::ClientHello => builder.set_client_hello_callback(move |ssl, _| {
            ssl.set_ssl_context(&to).unwrap();
            Ok(ClientHelloResponse::SUCCESS)
        }),
    }
    builder.set_resumption(policy).unwrap();
    builder.build().into_context()
}

/// Where a switch leaves nothing to resume: OpenSSL reads the *vhost's* cache mode when it decides
/// whether a TLS 1.2 session gets an id, and takes over the vhost's session id context in a
/// ClientHello callback.
fn resumes(mode: &str, kind: Kind, switch: Switch, to: Vhost) -> bool {
    let ids = mode == "stateful" || mode == "hybrid";
    match kind {
        Kind::Tls12WithoutTickets if !ids => return false,
        Kind::Tls12 if mode != "stateful" => {}
        Kind::Tls12 | Kind::Tls12WithoutTickets => {
            if matches!(to, Vhost::Off | Vhost::Stateless) {
                return false;
            }
        }
        Kind::Tls13 => {}
    }
    // Without a policy the vhost has an empty session id context, which is never resumed.
    mode != "off" && !matches!((switch, to), (Switch::ClientHello, Vhost::NoPolicy))
}

#[test]
fn every_connection_completes_and_the_accepting_policy_governs() {
    let vhosts = [
        Vhost::SamePolicy,
        Vhost::NoPolicy,
        Vhost::Off,
        Vhost::Stateless,
        Vhost::OtherScope,
    ];
    // A server that asks for a certificate and goes on without.
    for verify in [SslVerifyMode::NONE, SslVerifyMode::PEER] {
        for vhost_verify in [SslVerifyMode::NONE, SslVerifyMode::PEER] {
            for switch in [Switch::ServerName, Switch::ClientHello] {
                for to in vhosts {
                    for (mode, policy) in modes() {
                        let (target, target_policy) = vhost(to, vhost_verify, &policy);
                        let context = front(&policy, verify, switch, target);
                        for kind in Kind::ALL {
                            let cell = format!(
                                "{mode} {kind:?} {switch:?} to {to:?}, verify {verify:?}/{vhost_verify:?}"
                            );
                            let client = Client::new(kind).unwrap().server_name("vhost");
                            let first = meet(&context, &client, None);
                            assert!(matches!(first.agreed(), Handshake::Full(_)), "{cell}");
                            let second = meet(&context, &client, first.next());
                            second.agreed();
                            let expected = resumes(mode, kind, switch, to);
                            assert_eq!(
                                second.client.resumed, expected,
                                "{cell}: {:?}",
                                second.outcome
                            );
                        }
                        // What could not be resumed is not stored, and no store is blamed.
                        assert_eq!(
                            policy.stats().store.errors,
                            0,
                            "{mode} {switch:?} to {to:?}"
                        );
                        if matches!((switch, to), (Switch::ClientHello, Vhost::NoPolicy)) {
                            assert_eq!(policy.stats().store.puts, 0, "{mode} {switch:?}");
                        }
                        let (full, resumed) = handshakes(&policy.stats());
                        assert_eq!(full + resumed, 6, "{mode} {switch:?} to {to:?}");
                        if let (Vhost::Off | Vhost::Stateless, Some(other)) = (to, target_policy) {
                            let stats = other.stats();
                            assert_eq!(handshakes(&stats), (0, 0), "the vhost's policy counted");
                            assert_eq!(stats.tickets.sealed, 0, "the vhost's keys sealed");
                        }
                    }
                }
            }
        }
    }
}

/// A session made before the switch to a vhost with another scope resumes there, and only there.
#[test]
fn a_client_hello_switch_separates_scopes() {
    for kind in [Kind::Tls12, Kind::Tls13] {
        let policy = Resumption::hybrid(MemoryStore::default(), TicketKeys::random());
        let (shop, _) = vhost(Vhost::OtherScope, SslVerifyMode::NONE, &policy);
        let switching = front(&policy, SslVerifyMode::NONE, Switch::ClientHello, shop);
        let plain = context(&policy);
        let client = Client::new(kind).unwrap();
        let met = meet(&switching, &client, None);
        assert!(
            !meet(&plain, &client, met.next()).client.resumed,
            "{kind:?}"
        );
        assert!(
            meet(&switching, &client, met.next()).client.resumed,
            "{kind:?}"
        );
    }
}
