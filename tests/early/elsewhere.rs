//! Contexts that a hello is switched to, and keys that are nobody's session: of each flight one is accepted at most.

use std::ffi::{c_int, c_uchar};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::{Arc, Mutex};

use crate::common::*;
use crate::connection::{MAX, policies, session_of};
use foreign_types::ForeignType;
use openssl::ssl::{ClientHelloResponse, SslContext, SslContextBuilder, SslSession};
use openssl_resumption::{MemoryRegister, Resumption, SslContextBuilderExt, TicketKeys};
use openssl_sys as sys;

/// A context that switches each connection to another.
fn switching(policy: &Resumption, other: &SslContext, by_hello: bool) -> SslContext {
    let mut builder = acceptor();
    let other = other.clone();
    if by_hello {
        builder.set_client_hello_callback(move |ssl, _| {
            ssl.set_ssl_context(&other)?;
            Ok(ClientHelloResponse::SUCCESS)
        });
    } else {
        builder.set_servername_callback(move |ssl, _| {
            ssl.set_ssl_context(&other).unwrap();
            Ok(())
        });
    }
    builder.set_resumption(policy).unwrap();
    builder.build().into_context()
}

#[test]
fn whatever_context_a_hello_is_switched_to_its_flight_is_accepted_once() {
    let keys = TicketKeys::random();
    let plain = || Resumption::stateless(keys.clone());
    let with = |register: &Arc<MemoryRegister>| {
        plain()
            .early_data(MAX)
            .replay_register(Arc::clone(register))
    };
    let registers =
        [(); 2].map(|()| Arc::new(MemoryRegister::default().sessions_end_with_process()));
    for (name, other) in [
        ("another register", context(&with(&registers[1]))),
        ("no early data", context(&plain())),
        ("off", context(&Resumption::off())),
        ("no policy", acceptor().build().into_context()),
    ] {
        for by_hello in [false, true] {
            let policy = with(&registers[0]);
            let hosts = [switching(&policy, &other, by_hello), context(&policy)];
            let client = Client::new(Kind::Tls13).unwrap().server_name("a.example");
            let session = session_of(&hosts[0], &client);
            let sent = flight(&client, &session, b"buy one");
            let handed_out = [0, 1, 0, 1].map(|host| replay(&hosts[host], &sent).len());
            let accepted = handed_out.iter().filter(|len| **len > 0).count();
            assert!(accepted <= 1, "{name} {by_hello}: {handed_out:?}");
        }
    }
}

type Use = unsafe extern "C" fn(
    *mut sys::SSL,
    *const sys::EVP_MD,
    *mut *const c_uchar,
    *mut usize,
    *mut *mut sys::SSL_SESSION,
) -> c_int;
type Find =
    unsafe extern "C" fn(*mut sys::SSL, *const c_uchar, usize, *mut *mut sys::SSL_SESSION) -> c_int;

#[allow(unsafe_code, reason = "the openssl crate has no functions for it")]
unsafe extern "C" {
    fn SSL_CTX_set_psk_use_session_callback(context: *mut sys::SSL_CTX, callback: Option<Use>);
    fn SSL_CTX_set_psk_find_session_callback(context: *mut sys::SSL_CTX, callback: Option<Find>);
}

/// The session that both ends have a key of, as DER.
static KEY: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn key() -> *mut sys::SSL_SESSION {
    let session = SslSession::from_der(&KEY.lock().unwrap()).unwrap();
    let pointer = session.as_ptr();
    std::mem::forget(session);
    pointer
}

#[allow(unsafe_code, reason = "a callback of C")]
unsafe extern "C" fn use_key(
    _: *mut sys::SSL,
    _: *const sys::EVP_MD,
    id: *mut *const c_uchar,
    len: *mut usize,
    session: *mut *mut sys::SSL_SESSION,
) -> c_int {
    // SAFETY: an output of the callback.
    unsafe { *id = b"external".as_ptr() };
    // SAFETY: as above.
    unsafe { *len = 8 };
    // SAFETY: as above.
    unsafe { *session = key() };
    1
}

#[allow(unsafe_code, reason = "a callback of C")]
unsafe extern "C" fn find_key(
    _: *mut sys::SSL,
    id: *const c_uchar,
    len: usize,
    session: *mut *mut sys::SSL_SESSION,
) -> c_int {
    // SAFETY: OpenSSL passes so many bytes.
    let id = unsafe { std::slice::from_raw_parts(id, len) };
    let found = if id == b"external" {
        key()
    } else {
        ptr::null_mut()
    };
    // SAFETY: an output of the callback.
    unsafe { *session = found };
    1
}

#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
fn finds_keys(builder: &mut SslContextBuilder) {
    // SAFETY: sets a field of a live context.
    unsafe { SSL_CTX_set_psk_find_session_callback(builder.as_ptr(), Some(find_key)) };
}

/// A client that offers the key too.
#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
fn with_key() -> Client {
    Client::with(Kind::Tls13, |builder| {
        // SAFETY: sets a field of a live context.
        unsafe { SSL_CTX_set_psk_use_session_callback(builder.as_ptr(), Some(use_key)) };
        Ok(())
    })
    .unwrap()
}

/// OpenSSL looks at neither the age nor the register for these.
#[test]
fn early_data_under_a_key_of_the_applications_is_never_handed_out() {
    for (mode, policy) in policies() {
        let plain = context(&policy);
        for host in [
            context_with(&policy, |builder| finds_keys(builder)),
            context_changed(&policy, |builder| finds_keys(builder)),
        ] {
            let client = Client::new(Kind::Tls13).unwrap();
            *KEY.lock().unwrap() = session_of(&plain, &client);
            let (near, mut far) = UnixStream::pair().unwrap();
            let mut stream = with_key().start(near, None).unwrap();
            assert_eq!(stream.write_early_data(b"buy one").unwrap(), 7);
            drop(stream);
            let mut sent = Vec::new();
            far.read_to_end(&mut sent).unwrap();
            assert_eq!(replay(&host, &sent), b"", "{mode}");

            // Beside a session of ours, it is that which is accepted, once.
            let session = session_of(&plain, &client);
            let sent = flight(&with_key(), &session, b"buy one");
            let handed_out = [&host, &host, &plain].map(|host| replay(host, &sent).len());
            let accepted = handed_out.iter().filter(|len| **len > 0).count();
            assert!(accepted <= 1, "{mode}: {handed_out:?}");
        }
    }
}
