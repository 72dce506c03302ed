//! Sessions that OpenSSL could not resume in this handshake are declined before it tries: the handshake is full,
//! once, and the next one resumes.

use crate::common::*;
use openssl::ssl::{SslAcceptorBuilder, SslContext};
use openssl_resumption::{Handshake, Reason, Resumption};

const SHA256: &str = "TLS_AES_128_GCM_SHA256";
const SHA384: &str = "TLS_AES_256_GCM_SHA384";

const UNFIT: Handshake = Handshake::Full(Reason::WrongContext);

fn with_suites(policy: &Resumption, suites: &str) -> SslContext {
    context_with(policy, |builder| builder.set_ciphersuites(suites).unwrap())
}

/// Hosts whose ciphers have another order, or one before and after a reload.
#[test]
fn a_session_of_another_hash_is_declined_and_the_client_gets_one_that_fits() {
    for (mode, policy) in resuming() {
        let [before, after] = [SHA384, SHA256].map(|suites| with_suites(&policy, suites));
        let client = Client::new(Kind::Tls13).unwrap();
        let first = meet(&before, &client, None);
        let second = meet(&after, &client, first.next());
        assert_eq!(second.agreed(), UNFIT, "{mode}");
        let mut newest = second.next().expect("a ticket").to_vec();
        for _ in 0..3 {
            let met = meet(&after, &client, Some(&newest));
            assert!(met.server_reused, "{mode}: {:?}", met.outcome);
            newest = met.next().expect("a ticket").to_vec();
        }
        assert_eq!(meet(&before, &client, Some(&newest)).agreed(), UNFIT);
    }
}

#[test]
fn so_it_is_after_a_hello_retry_request() {
    for (mode, policy) in resuming() {
        let retrying = |suites: &str| {
            context_with(&policy, |builder: &mut SslAcceptorBuilder| {
                builder.set_groups_list("P-384").unwrap();
                builder.set_ciphersuites(suites).unwrap();
            })
        };
        let client = with_groups("P-256:P-384");
        let first = meet(&retrying(SHA384), &client, None);
        let after = retrying(SHA256);
        let second = meet(&after, &client, first.next());
        assert_eq!(second.agreed(), UNFIT, "{mode}");
        assert!(meet(&after, &client, second.next()).server_reused, "{mode}");
    }
}

/// RFC 8446, section 4.2.11: the hash is what a session and a cipher have in common.
#[test]
fn a_session_of_another_cipher_with_the_same_hash_resumes() {
    for (mode, policy) in resuming() {
        let [before, after] =
            [SHA256, "TLS_CHACHA20_POLY1305_SHA256"].map(|suites| with_suites(&policy, suites));
        let client = Client::new(Kind::Tls13).unwrap();
        let first = meet(&before, &client, None);
        assert!(meet(&after, &client, first.next()).server_reused, "{mode}");
    }
}

/// A device after an update: RFC 5246, section 7.4.1.2 forbids it, and clients on OpenSSL do not look.
#[test]
fn a_session_whose_cipher_is_no_longer_offered_is_declined() {
    let client = |cipher: &str| {
        Client::with(Kind::Tls12, |context| context.set_cipher_list(cipher)).unwrap()
    };
    let before = client("ECDHE-ECDSA-AES256-GCM-SHA384");
    let after = client("ECDHE-ECDSA-AES128-GCM-SHA256");
    for (mode, policy) in resuming() {
        let context = context(&policy);
        let first = meet(&context, &before, None);
        assert!(
            meet(&context, &before, first.next()).server_reused,
            "{mode}"
        );
        let second = meet(&context, &after, first.next());
        assert_eq!(second.agreed(), UNFIT, "{mode}");
        assert!(
            meet(&context, &after, second.next()).server_reused,
            "{mode}"
        );
    }
}

/// A client that asks for fragments of this length, if it is not 0 (RFC 6066, section 4).
#[allow(unsafe_code, reason = "not in the openssl crate")]
fn asking_for_fragments(kind: Kind, length: u8) -> Client {
    unsafe extern "C" {
        fn SSL_CTX_set_tlsext_max_fragment_length(
            context: *mut openssl_sys::SSL_CTX,
            length: u8,
        ) -> i32;
    }
    Client::with(kind, |context| {
        // SAFETY: sets a field of a live context.
        let set = unsafe { SSL_CTX_set_tlsext_max_fragment_length(context.as_ptr(), length) };
        assert_eq!(set, 1);
        Ok(())
    })
    .unwrap()
}

#[test]
fn a_session_of_another_length_of_fragments_is_declined() {
    for (mode, policy, kind) in resuming_clients() {
        let clients = [0, 1, 2].map(|length| asking_for_fragments(kind, length));
        let context = context(&policy);
        for (i, before) in clients.iter().enumerate() {
            let first = meet(&context, before, None);
            for (j, after) in clients.iter().enumerate() {
                // From 3.2 on OpenSSL's client holds all that it reads against the length of the session that it
                // offers, and fails by itself.
                let newer = openssl::version::number() >= 0x3020_0000;
                if newer && kind == Kind::Tls13 && i > 0 && i != j {
                    continue;
                }
                let second = meet(&context, after, first.next());
                if i == j {
                    assert!(second.server_reused, "{mode} {i}");
                } else {
                    assert_eq!(second.agreed(), UNFIT, "{mode} {i} {j}");
                    let third = meet(&context, after, second.next());
                    assert!(third.server_reused, "{mode} {i} {j}");
                }
            }
        }
    }
}
