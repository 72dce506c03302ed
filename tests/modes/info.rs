//! The info callback that the library takes for itself is shared with whoever had it before, and
//! counts a connection once.

#![expect(unsafe_code, reason = "the openssl crate has no info callback")]

use std::ffi::c_int;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use crate::common::child::in_child;
use crate::common::*;
use foreign_types::ForeignTypeRef;
use openssl::ssl::{Ssl, SslContext, SslContextRef, SslOptions, SslRef};
use openssl_resumption::{MemoryStore, Resumption, SslContextBuilderExt, SslRefExt};
use openssl_sys::{SSL, SSL_CTX};

type InfoCallback = unsafe extern "C" fn(*const SSL, c_int, c_int);

unsafe extern "C" {
    fn SSL_CTX_set_info_callback(ctx: *mut SSL_CTX, callback: Option<InfoCallback>);
    fn SSL_CTX_get_info_callback(ctx: *mut SSL_CTX) -> Option<InfoCallback>;
    fn SSL_renegotiate(ssl: *mut SSL) -> c_int;
}

const HANDSHAKE_DONE: c_int = 0x20;

static BEFORE: AtomicUsize = AtomicUsize::new(0);
static VHOST: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn before(_: *const SSL, event: c_int, _: c_int) {
    BEFORE.fetch_add(usize::from(event == HANDSHAKE_DONE), SeqCst);
}

unsafe extern "C" fn vhost(_: *const SSL, event: c_int, _: c_int) {
    VHOST.fetch_add(usize::from(event == HANDSHAKE_DONE), SeqCst);
}

fn set_info_callback(context: *mut SSL_CTX, callback: InfoCallback) {
    // SAFETY: the callers own the context, and nobody uses it yet.
    unsafe { SSL_CTX_set_info_callback(context, Some(callback)) }
}

#[test]
fn info_callbacks_of_others_are_called_as_they_would_be_without_us() {
    let bare = acceptor().build().into_context();
    set_info_callback(SslContextRef::as_ptr(&bare), vhost);
    let policy = Resumption::off().on_outcome(|_| panic!("a hook that keeps nobody else from it"));
    let mut builder = acceptor();
    set_info_callback(builder.as_ptr(), before);
    builder.set_servername_callback(move |ssl, _| {
        if ssl.servername_raw(openssl::ssl::NameType::HOST_NAME) == Some(b"vhost") {
            ssl.set_ssl_context(&bare).unwrap();
        }
        Ok(())
    });
    // Twice, so that the callback before is not taken for ours, nor ours for the one before.
    builder.set_resumption(&policy).unwrap();
    builder.set_resumption(&policy).unwrap();
    let context = builder.build().into_context();

    let client = Client::new(Kind::Tls13).unwrap();
    meet(&context, &client, None).agreed();
    assert_eq!((BEFORE.load(SeqCst), VHOST.load(SeqCst)), (1, 0));
    meet(&context, &client.server_name("vhost"), None).agreed();
    assert_eq!((BEFORE.load(SeqCst), VHOST.load(SeqCst)), (1, 1));
    assert_eq!(handshakes(&policy.stats()), (2, 0));
}

static WRAPPED: AtomicUsize = AtomicUsize::new(0);
static INNER: std::sync::OnceLock<InfoCallback> = std::sync::OnceLock::new();

unsafe extern "C" fn wrapping(ssl: *const SSL, event: c_int, value: c_int) {
    WRAPPED.fetch_add(usize::from(event == HANDSHAKE_DONE), SeqCst);
    // SAFETY: the callback that this one replaced, called as OpenSSL would.
    unsafe { INNER.get().unwrap()(ssl, event, value) }
}

/// In a process of its own, because an endless recursion would end it.
#[test]
fn an_info_callback_that_wraps_ours_does_not_recurse() {
    in_child("an_info_callback_that_wraps_ours_does_not_recurse", || {
        let policy = Resumption::off();
        let mut builder = acceptor();
        builder.set_resumption(&policy).unwrap();
        // SAFETY: reads a field of the builder's context.
        let ours = unsafe { SSL_CTX_get_info_callback(builder.as_ptr()) };
        INNER.set(ours.unwrap()).unwrap();
        set_info_callback(builder.as_ptr(), wrapping);
        let context = builder.build().into_context();
        meet(&context, &Client::new(Kind::Tls13).unwrap(), None).agreed();
        assert_eq!(handshakes(&policy.stats()), (1, 0));
        assert!(WRAPPED.load(SeqCst) > 0);
    });
}

unsafe extern "C" fn closing(ssl: *const SSL, event: c_int, _: c_int) {
    if event == HANDSHAKE_DONE {
        // SAFETY: OpenSSL's `const` is only in the signature; nothing else uses the SSL meanwhile.
        unsafe { openssl_sys::SSL_shutdown(ssl.cast_mut()) };
    }
}

/// A connection that is closed there is not one that was dropped.
#[test]
fn what_an_info_callback_of_others_does_is_seen() {
    let policy = Resumption::stateful(MemoryStore::default()).strict(true);
    let context = context_with(&policy, |builder| {
        set_info_callback(builder.as_ptr(), closing);
    });
    let client = Client::new(Kind::Tls12).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(&context).unwrap();
    let server = thread::spawn(move || drop(ssl.accept(far).unwrap()));
    client.finish(client.connect(near, None).unwrap()).unwrap();
    server.join().unwrap();
    let store = policy.stats().store;
    assert_eq!((store.puts, store.removed), (1, 0));
}

/// SSL_OP_ALLOW_CLIENT_RENEGOTIATION, which the openssl crate does not name.
const ALLOW_CLIENT_RENEGOTIATION: SslOptions = SslOptions::from_bits_retain(1 << 8);

/// The client asks for a second handshake in the connection.
fn renegotiate(context: &SslContext, client: &Client, session: Option<&[u8]>) -> Seen {
    let (near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || {
        let mut stream = ssl.accept(far).unwrap();
        let first = stream.ssl().resumption();
        stream.read_exact(&mut [0]).unwrap();
        assert_eq!(stream.ssl().resumption(), first);
        stream.write_all(b"hello").unwrap();
        stream.shutdown().unwrap();
    });
    let mut stream = client.connect(near, session).unwrap();
    let random = server_random(stream.ssl());
    // SAFETY: the stream's own SSL, on the thread that drives it.
    assert_eq!(unsafe { SSL_renegotiate(stream.ssl().as_ptr()) }, 1);
    stream.do_handshake().unwrap();
    assert_ne!(server_random(stream.ssl()), random, "no second handshake");
    stream.write_all(b"?").unwrap();
    let seen = client.finish(stream).unwrap();
    server.join().unwrap();
    seen
}

fn server_random(ssl: &SslRef) -> [u8; 32] {
    let mut random = [0; 32];
    ssl.server_random(&mut random);
    random
}

#[test]
fn a_renegotiated_connection_is_counted_once_and_keeps_its_outcome() {
    for (mode, policy) in modes() {
        let told = Arc::new(AtomicUsize::new(0));
        let hook = Arc::clone(&told);
        let policy = policy.on_outcome(move |_| {
            hook.fetch_add(1, SeqCst);
        });
        let mut builder = acceptor();
        builder.clear_options(SslOptions::NO_RENEGOTIATION);
        builder.set_options(ALLOW_CLIENT_RENEGOTIATION);
        builder.set_resumption(&policy).unwrap();
        let context = builder.build().into_context();
        let client = Client::new(Kind::Tls12).unwrap();
        let first = renegotiate(&context, &client, None);
        assert_eq!(handshakes(&policy.stats()), (1, 0), "{mode}");
        assert_eq!(told.load(SeqCst), 1, "{mode}");
        renegotiate(&context, &client, first.sessions.last().map(Vec::as_slice));
        let resumed = u64::from(mode != "off");
        assert_eq!(
            handshakes(&policy.stats()),
            (2 - resumed, resumed),
            "{mode}"
        );
        assert_eq!(told.load(SeqCst), 2, "{mode}");
    }
}
