//! An Ssl that is used again by SSL_clear after a connection that was to have no tickets.
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "the openssl crate clears no SSL"
)]
use crate::common::*;
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::*;
use openssl_resumption::*;
use std::io::Write;
use std::os::unix::net::UnixStream;
unsafe extern "C" {
    fn SSL_clear(ssl: *mut openssl_sys::SSL) -> i32;
    fn SSL_up_ref(ssl: *mut openssl_sys::SSL) -> i32;
}
#[test]
fn tickets_after_clear() {
    let (ca, me) = ca_and_client();
    let policy =
        Resumption::stateless(TicketKeys::random()).client_certificates(ClientCertificates::Never);
    let ctx = context_with(&policy, |b| {
        b.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
        b.set_verify(SslVerifyMode::PEER);
    });
    let ssl = Ssl::new(&ctx).unwrap();
    let raw = ssl.as_ptr();
    unsafe { SSL_up_ref(raw) };
    let mut hold = Some(ssl);
    let mut got = vec![];
    for client in [
        client_as(Kind::Tls13, &me),
        Client::new(Kind::Tls13).unwrap(),
    ] {
        let ssl = hold.take().unwrap_or_else(|| unsafe {
            SSL_up_ref(raw);
            SSL_clear(raw);
            Ssl::from_ptr(raw)
        });
        let (near, far) = UnixStream::pair().unwrap();
        let t = std::thread::spawn(move || {
            let mut s = SslStream::new(ssl, far).unwrap();
            s.accept().unwrap();
            let _ = s.write_all(b"x");
            let _ = s.shutdown();
            unsafe {
                openssl_sys::SSL_set_bio(
                    s.ssl().as_ptr(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            };
        });
        let c = client.connect(near, None).unwrap();
        let seen = client.finish(c).unwrap();
        got.push(seen.sessions.len());
        t.join().unwrap();
    }
    unsafe { drop(Ssl::from_ptr(raw)) };
    println!(
        "tickets: with certificate {}, then without one on the same Ssl {}",
        got[0], got[1]
    );
    assert_eq!(got[1], 2);
}

/// What the first one carries is its own: with it in both it would be freed twice. (An `Ssl` of the `openssl` crate
/// carries something of that crate's, which is.)
#[test]
fn a_copy_of_a_cleared_ssl_carries_nothing() {
    unsafe extern "C" {
        fn SSL_dup(ssl: *mut openssl_sys::SSL) -> *mut openssl_sys::SSL;
    }
    let context = context(&Resumption::stateful(MemoryStore::default()));
    // SAFETY: an SSL that begins a handshake with nobody, is cleared, copied, and freed like the copy.
    unsafe {
        let raw = openssl_sys::SSL_new(context.as_ptr());
        let memory = openssl_sys::BIO_s_mem();
        let (read, write) = (openssl_sys::BIO_new(memory), openssl_sys::BIO_new(memory));
        openssl_sys::SSL_set_bio(raw, read, write);
        openssl_sys::SSL_set_accept_state(raw);
        openssl_sys::SSL_do_handshake(raw);
        assert_eq!(SSL_clear(raw), 1);
        let copy = SSL_dup(raw);
        assert!(!copy.is_null() && copy != raw);
        openssl_sys::SSL_free(copy);
        openssl_sys::SSL_free(raw);
    }
}
