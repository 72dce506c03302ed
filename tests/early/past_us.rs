//! Servers whose owner changes what decides about early data after `set_resumption`, or demands more of a client than
//! its session shows: nothing is handed out that this library did not let pass.

use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::common::early::pair;
use crate::common::*;
use crate::connection::{policies, session_of};
use foreign_types::ForeignTypeRef;
use openssl::ssl::{Ssl, SslContextBuilder, SslOptions, SslRef, SslStream, SslVerifyMode};
use openssl_resumption::{Resumption, SslContextBuilderExt, accept_early};

type Allow = unsafe extern "C" fn(*mut openssl_sys::SSL, *mut c_void) -> c_int;

#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
unsafe extern "C" {
    fn SSL_CTX_set_allow_early_data_cb(
        context: *mut openssl_sys::SSL_CTX,
        callback: Option<Allow>,
        arg: *mut c_void,
    );
    fn SSL_set_allow_early_data_cb(
        ssl: *mut openssl_sys::SSL,
        callback: Option<Allow>,
        arg: *mut c_void,
    );
}

#[allow(unsafe_code, reason = "a callback of C")]
unsafe extern "C" fn yes(_: *mut openssl_sys::SSL, _: *mut c_void) -> c_int {
    1
}

/// What OpenSSL asks about early data on this context, or what it asks nothing about.
#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
fn allow_all(builder: &mut SslContextBuilder, callback: Option<Allow>) {
    // SAFETY: sets a field of a live context.
    unsafe { SSL_CTX_set_allow_early_data_cb(builder.as_ptr(), callback, ptr::null_mut()) };
}

#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
fn allow_one(ssl: &mut SslRef, callback: Option<Allow>) {
    // SAFETY: sets a field of a live SSL.
    unsafe { SSL_set_allow_early_data_cb(ssl.as_ptr(), callback, ptr::null_mut()) };
}

#[test]
fn what_another_callback_lets_pass_ends_the_connection() {
    for (mode, policy) in policies() {
        for callback in [Some(yes as Allow), None] {
            let context = context_changed(&policy, |builder| allow_all(builder, callback));
            let client = Client::new(Kind::Tls13).unwrap();
            let session = session_of(&context, &client);
            let sent = flight(&client, &session, b"buy one");
            assert_eq!(replay(&context, &sent), b"", "{mode}");
        }
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        let sent = flight(&client, &session, b"buy one");
        let mut ssl = Ssl::new(&context).unwrap();
        allow_one(&mut ssl, Some(yes));
        let (mut near, far) = pair();
        near.write_all(&sent).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let read = accept_early(ssl, far).map(|mut stream| stream.read(&mut [0; 10]).unwrap_or(0));
        assert_eq!(read.unwrap_or(0), 0, "{mode}");
        assert_eq!(policy.stats().failed_closed, 3, "{mode}");
    }
}

/// An application that switches early data on past a policy that takes none, and reads it with the `openssl` crate.
#[test]
fn early_data_that_the_policy_does_not_take_ends_the_connection() {
    for (mode, policy) in resuming() {
        let context = context_changed(&policy, |builder| {
            builder.set_max_early_data(1_000).unwrap();
            builder.set_options(SslOptions::from_bits_retain(1 << 24));
            allow_all(builder, Some(yes));
        });
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        let sent = flight(&client, &session, b"buy one");
        let (mut near, far) = pair();
        near.write_all(&sent).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let mut ssl = Ssl::new(&context).unwrap();
        ssl.set_accept_state();
        let mut stream = SslStream::new(ssl, far).unwrap();
        let mut buffer = [0; 100];
        assert!(stream.read_early_data(&mut buffer).is_err(), "{mode}");
        assert!(
            stream.read_early_data(&mut buffer).is_err(),
            "{mode}: again"
        );
        assert_eq!(buffer, [0; 100], "{mode}");
        assert_eq!(policy.stats().failed_closed, 1, "{mode}");
    }
}

/// A server name callback demands a certificate after the session was found.
#[test]
fn a_client_of_whom_more_is_demanded_hands_out_nothing() {
    for (mode, policy) in policies() {
        let demands = Arc::new(AtomicBool::new(false));
        let context = demanding(&policy, &demands);
        let client = Client::new(Kind::Tls13)
            .unwrap()
            .server_name("private.test");
        let session = session_of(&context, &client);
        let before = flight(&client, &session, b"buy one");
        demands.store(true, Relaxed);
        assert_eq!(replay(&context, &before), b"", "{mode}");
        assert_eq!(policy.stats().failed_closed, 1, "{mode}");
        demands.store(false, Relaxed);
    }
}

fn demanding(policy: &Resumption, demands: &Arc<AtomicBool>) -> openssl::ssl::SslContext {
    let mut builder = acceptor();
    let demands = Arc::clone(demands);
    builder.set_servername_callback(move |ssl, _| {
        if demands.load(Relaxed) {
            ssl.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        Ok(())
    });
    builder.set_resumption(policy).unwrap();
    builder.build().into_context()
}
