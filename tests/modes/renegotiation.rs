//! Renegotiation (TLS 1.2), where a server allows it, resumes nothing.

use std::ffi::{c_int, c_uint, c_void};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::common::*;
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{NameType, Ssl, SslContext, SslOptions, SslRef, SslSession};
use openssl_resumption::{Handshake::Resumed, Resumption, Source};
use openssl_sys as sys;

/// `SSL_OP_ALLOW_CLIENT_RENEGOTIATION`.
const ALLOW_CLIENT_RENEGOTIATION: u64 = 1 << 8;

#[expect(unsafe_code, reason = "the `openssl` crate does not renegotiate")]
unsafe extern "C" {
    fn SSL_renegotiate(ssl: *mut sys::SSL) -> c_int;
    fn SSL_renegotiate_abbreviated(ssl: *mut sys::SSL) -> c_int;
    fn SSL_clear_options(ssl: *mut sys::SSL, options: u64) -> u64;
    fn SSL_set_session_ticket_ext(ssl: *mut sys::SSL, data: *mut c_void, len: c_int) -> c_int;
    fn SSL_SESSION_set1_id(session: *mut sys::SSL_SESSION, id: *const u8, len: c_uint) -> c_int;
    fn SSL_SESSION_set1_master_key(
        session: *mut sys::SSL_SESSION,
        key: *const u8,
        len: usize,
    ) -> c_int;
    fn SSL_SESSION_get0_ticket(
        session: *const sys::SSL_SESSION,
        at: *mut *const u8,
        len: *mut usize,
    );
}

/// Makes of the session of a connection, which has no ticket, the one that is to be offered when it
/// renegotiates. (OpenSSL forgets a connection that is given another session.)
#[expect(unsafe_code, reason = "the `openssl` crate does not renegotiate")]
fn offer(ssl: *mut sys::SSL, session: &SslSession) {
    let mut secret = [0; 48];
    assert_eq!(session.master_key(&mut secret), 48);
    let id = session.id();
    // SAFETY: a live SSL whose handshake is complete; nothing else uses it or its session meanwhile.
    let own = unsafe { sys::SSL_get_session(ssl) };
    // SAFETY: OpenSSL copies the bytes.
    let set = unsafe { SSL_SESSION_set1_id(own, id.as_ptr(), id.len() as c_uint) };
    assert_eq!(set, 1);
    // SAFETY: as above.
    let set = unsafe { SSL_SESSION_set1_master_key(own, secret.as_ptr(), secret.len()) };
    assert_eq!(set, 1);

    let (mut ticket, mut len) = (ptr::null(), 0);
    // SAFETY: both outputs are writable.
    unsafe { SSL_SESSION_get0_ticket(session.as_ptr(), &mut ticket, &mut len) };
    if len > 0 {
        // SAFETY: OpenSSL copies the bytes, which are the session's.
        let set =
            unsafe { SSL_set_session_ticket_ext(ssl, ticket.cast_mut().cast(), len as c_int) };
        assert_eq!(set, 1);
        // SAFETY: sets a field of a live SSL.
        unsafe { SSL_clear_options(ssl, sys::SSL_OP_NO_TICKET) };
    }
}

fn renegotiating(
    policy: &Resumption,
    more: impl FnOnce(&mut openssl::ssl::SslAcceptorBuilder),
) -> SslContext {
    context_with(policy, |builder| {
        builder.clear_options(SslOptions::NO_RENEGOTIATION);
        builder.set_options(SslOptions::from_bits_retain(ALLOW_CLIENT_RENEGOTIATION));
        more(builder);
    })
}

/// Connects a client for one name, which then renegotiates, asking for another and offering `session`:
/// whether the server resumed it, if it went well.
fn renegotiate(context: &SslContext, session: &[u8], names: [&str; 2]) -> Result<bool, String> {
    renegotiate_at(context, session, names, |ssl, far| {
        let mut stream = ssl.accept(far).unwrap();
        let read = stream.read_exact(&mut [0]);
        let reused = stream.ssl().session_reused();
        let _ = stream.write_all(b"!");
        read.map(|()| reused).map_err(|error| error.to_string())
    })
}

/// The same with a server that reads a byte and answers with one.
#[expect(unsafe_code, reason = "the `openssl` crate does not renegotiate")]
fn renegotiate_at(
    context: &SslContext,
    session: &[u8],
    [name, next]: [&str; 2],
    server: impl FnOnce(Ssl, UnixStream) -> Result<bool, String> + Send + 'static,
) -> Result<bool, String> {
    let (near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || server(ssl, far));
    let client = Client::new(Kind::Tls12WithoutTickets).unwrap();
    let client = client.server_name(name);
    let mut stream = client.connect(near, None).unwrap();
    let pointer = stream.ssl().as_ptr();
    // SAFETY: nothing else uses the SSL meanwhile.
    unsafe { SslRef::from_ptr_mut(pointer) }
        .set_hostname(next)
        .unwrap();
    offer(pointer, &SslSession::from_der(session).unwrap());
    // SAFETY: as above.
    assert_eq!(unsafe { SSL_renegotiate_abbreviated(pointer) }, 1);
    let _ = stream.do_handshake();
    let _ = stream.write_all(b"?");
    let _ = stream.read(&mut [0]);
    drop(stream);
    server.join().unwrap()
}

/// There would be no second look at the demand: the connection that begins as one name would end as
/// another, which demands a certificate, without one.
#[test]
fn a_renegotiation_does_not_resume_past_a_demand() {
    let ca = mint("clients", None).unwrap();
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls12WithoutTickets] {
            let demands = Arc::new(AtomicBool::new(false));
            let context = renegotiating(&policy, |builder| {
                builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
                let demands = Arc::clone(&demands);
                builder.set_servername_callback(move |ssl, _| {
                    if ssl.servername(NameType::HOST_NAME) == Some("b.example")
                        && demands.load(Relaxed)
                    {
                        ssl.set_verify(DEMAND);
                    }
                    Ok(())
                });
            });
            let client = Client::new(kind).unwrap().server_name("b.example");
            let first = meet(&context, &client, None);
            let Some(session) = first.next() else {
                continue;
            };
            let names = ["a.example", "b.example"];
            let went = renegotiate(&context, session, names);
            assert_eq!(went, Ok(false), "{mode} {kind:?}: full");
            demands.store(true, Relaxed);
            let went = renegotiate(&context, session, names);
            let refused = went.unwrap_err();
            assert!(
                refused.contains("peer did not return a certificate"),
                "{mode} {kind:?}: {refused}"
            );
        }
    }
}

/// A client that has a session of its own may offer a stranger's in a renegotiation.
#[test]
fn a_renegotiation_under_a_victims_id_does_not_touch_the_victims_session() {
    for strict in [false, true] {
        let policy = Resumption::stateful(openssl_resumption::MemoryStore::default());
        let policy = if strict { policy.strict(true) } else { policy };
        let context = renegotiating(&policy, |_| ());
        let victim = Client::new(Kind::Tls12).unwrap().server_name("v.example");
        let victims = meet(&context, &victim, None);
        let guessed = guess(victims.next().unwrap());
        let went = renegotiate(&context, &guessed, ["localhost", "v.example"]);
        assert_eq!(went, Ok(false), "strict {strict}: full");
        let met = meet(&context, &victim, victims.next());
        assert_eq!(met.agreed(), Resumed(Source::Store), "strict {strict}");
    }
}

/// It is decided at the first hello of a connection.
#[expect(unsafe_code, reason = "the `openssl` crate does not renegotiate")]
#[test]
fn a_renegotiation_hands_out_no_tls_1_2_ticket_where_there_are_none() {
    for (mode, policy) in modes().into_iter().take(3) {
        for tls12_tickets in [true, false] {
            let policy = policy.clone().tls12_tickets(tls12_tickets);
            let context = renegotiating(&policy, |_| ());
            let before = policy.stats();
            let client = Client::new(Kind::Tls12).unwrap();
            let (near, far) = UnixStream::pair().unwrap();
            let ssl = Ssl::new(&context).unwrap();
            let server = thread::spawn(move || {
                let mut stream = ssl.accept(far).unwrap();
                stream.read_exact(&mut [0]).unwrap();
                stream.write_all(b"!").unwrap();
            });
            let mut stream = client.connect(near, None).unwrap();
            let ticket = |stream: &openssl::ssl::SslStream<UnixStream>| {
                let session = stream.ssl().session().unwrap().to_der().unwrap();
                field(&session, TICKET).map(|at| session[at].to_vec())
            };
            let first = ticket(&stream);
            // SAFETY: nothing else uses the SSL meanwhile.
            assert_eq!(unsafe { SSL_renegotiate(stream.ssl().as_ptr()) }, 1);
            stream.do_handshake().unwrap();
            stream.write_all(b"?").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            server.join().unwrap();
            let second = ticket(&stream);
            let gives = tls12_tickets && mode != "stateful";
            assert_eq!(
                (first.is_some(), second.is_some()),
                (gives, gives),
                "{mode}"
            );
            let stats = policy.stats();
            let sealed = stats.tickets.sealed - before.tickets.sealed;
            assert_eq!(sealed, if gives { 2 } else { 0 }, "{mode}");
            let puts = stats.store.puts - before.store.puts;
            let stored = !gives && mode != "stateless";
            assert_eq!(puts, if stored { 2 } else { 0 }, "{mode}");
            assert_eq!(stats.overridden, 0, "{mode}");
        }
    }
}

/// Nobody would go on with it.
#[cfg(feature = "tokio")]
#[test]
fn a_renegotiation_after_an_asynchronous_accept_is_not_suspended() {
    use openssl_resumption::{MemoryStore, accept_async};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let policy = Resumption::stateful(MemoryStore::default()).suspend_lookups(true);
    let context = renegotiating(&policy, |_| ());
    for kind in [Kind::Tls12, Kind::Tls12WithoutTickets] {
        let client = Client::new(kind).unwrap().server_name("a.example");
        let first = meet(&context, &client, None);
        let session = first.next().unwrap();
        let names = ["localhost", "a.example"];
        let went = renegotiate_at(&context, session, names, |ssl, far| {
            let serve = async {
                far.set_nonblocking(true).unwrap();
                let far = tokio::net::UnixStream::from_std(far).unwrap();
                let mut stream = accept_async(ssl, far).await.unwrap();
                let read = stream.read_u8().await;
                let reused = stream.ssl().session_reused();
                let _ = stream.write_all(b"!").await;
                read.map(|_| reused).map_err(|error| error.to_string())
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(serve)
        });
        assert_eq!(went, Ok(false), "{kind:?}: full");
    }
}
