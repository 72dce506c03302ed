//! Clients with raw public keys (RFC 7250), which OpenSSL has since 3.2: `cargo test --features vendored`.

#![cfg(feature = "vendored")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::common::*;
use openssl::sha::sha256;
use openssl::ssl::{SslContext, SslVerifyMode};
use openssl_resumption::{
    ClientCertificates,
    Handshake::{Full, Resumed},
    Reason, Resumption,
};

#[expect(
    unsafe_code,
    reason = "the `openssl` crate does not have this function"
)]
unsafe extern "C" {
    fn SSL_CTX_set1_client_cert_type(
        ctx: *mut openssl_sys::SSL_CTX,
        types: *const u8,
        len: usize,
    ) -> i32;
}

fn take_raw_keys(context: *mut openssl_sys::SSL_CTX) {
    const RAW_PUBLIC_KEY: u8 = 2;
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: OpenSSL copies the bytes into the live context.
    let set = unsafe { SSL_CTX_set1_client_cert_type(context, [RAW_PUBLIC_KEY].as_ptr(), 1) };
    assert_eq!(set, 1);
}

/// A server that takes any key, and counts how often it is asked.
fn server(policy: &Resumption, verify: SslVerifyMode) -> (SslContext, Arc<AtomicU32>) {
    let verified = Arc::<AtomicU32>::default();
    let count = Arc::clone(&verified);
    let context = context_with(policy, |builder| {
        builder.set_verify_callback(verify, move |_, _| {
            count.fetch_add(1, Relaxed);
            true
        });
        take_raw_keys(builder.as_ptr());
    });
    (context, verified)
}

fn client(kind: Kind, me: &Identity) -> Client {
    Client::with(kind, |context| {
        context.set_certificate(&me.cert)?;
        context.set_private_key(&me.key)?;
        take_raw_keys(context.as_ptr());
        Ok(())
    })
    .unwrap()
}

#[test]
fn a_raw_public_key_that_is_demanded_resumes() {
    let me = mint("me", None).unwrap();
    for (what, policy, kind) in resuming_clients() {
        let (server, verified) = server(&policy, DEMAND);
        let [first, second] = meet_twice(&server, &client(kind, &me));
        assert!(matches!(first.agreed(), Full(_)), "{what}");
        assert!(matches!(second.agreed(), Resumed(_)), "{what}");
        assert!(verified.load(Relaxed) > 0, "{what}");
        // A listener that lets none pass.
        let strict = context_with(&policy, |builder| {
            builder.set_verify(DEMAND);
            take_raw_keys(builder.as_ptr());
        });
        let (met, refused) = try_meet(&strict, &client(kind, &me), first.next());
        assert!(met.is_err() && refused.is_some(), "{what}");
    }
}

#[test]
fn never_verifies_a_raw_public_key_each_time() {
    let me = mint("me", None).unwrap();
    for (what, policy, kind) in resuming_clients() {
        let policy = policy.client_certificates(ClientCertificates::Never);
        let (server, verified) = server(&policy, SslVerifyMode::PEER);
        let client = client(kind, &me);
        let mut session = None;
        for _ in 0..2 {
            let before = verified.load(Relaxed);
            let met = meet(&server, &client, session.as_deref());
            assert!(matches!(met.agreed(), Full(_)), "{what}");
            assert!(verified.load(Relaxed) > before, "{what}");
            session = met.next().map(<[u8]>::to_vec);
        }
    }
}

/// A session from before `Never` was set.
#[test]
fn a_session_with_a_raw_public_key_is_declined_where_none_is_resumed() {
    let me = mint("me", None).unwrap();
    for (what, policy, kind) in resuming_clients() {
        let (before, _) = server(&policy, SslVerifyMode::PEER);
        let first = meet(&before, &client(kind, &me), None);
        let never = policy.client_certificates(ClientCertificates::Never);
        let (after, _) = server(&never, SslVerifyMode::PEER);
        let met = meet(&after, &client(kind, &me), first.next());
        assert_eq!(met.agreed(), Full(Reason::ClientCertificate), "{what}");
    }
}

#[test]
fn a_raw_public_key_can_be_forgotten() {
    let [me, other] = [(); 2].map(|()| mint("me", None).unwrap());
    for (what, policy, kind) in resuming_clients() {
        let (server, _) = server(&policy, DEMAND);
        let clients = [&me, &other].map(|who| client(kind, who));
        let firsts = clients.each_ref().map(|client| meet(&server, client, None));
        let key = me.key.public_key_to_der().unwrap();
        policy.forget_client(sha256(&key));
        let met = meet(&server, &clients[0], firsts[0].next());
        assert_eq!(met.agreed(), Full(Reason::Forgotten), "{what}");
        let met = meet(&server, &clients[1], firsts[1].next());
        assert!(matches!(met.agreed(), Resumed(_)), "{what}");
    }
}
