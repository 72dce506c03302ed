//! Renegotiation (TLS 1.2), where a server allows it, resumes nothing.

mod common;

use std::ffi::c_int;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use common::*;
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{NameType, Ssl, SslContext, SslOptions, SslRef, SslSession};
use openssl_resumption::{Handshake::Resumed, Resumption, Source};
use openssl_sys as sys;

/// `SSL_OP_ALLOW_CLIENT_RENEGOTIATION`.
const ALLOW_CLIENT_RENEGOTIATION: u64 = 1 << 8;

#[expect(unsafe_code, reason = "the `openssl` crate does not renegotiate")]
unsafe extern "C" {
    fn SSL_renegotiate_abbreviated(ssl: *mut sys::SSL) -> c_int;
    fn TLSv1_2_client_method() -> *const sys::SSL_METHOD;
    fn SSL_CTX_set_ssl_version(ctx: *mut sys::SSL_CTX, method: *const sys::SSL_METHOD) -> c_int;
}

/// A client that can offer a session in a renegotiation: with the method for all versions OpenSSL
/// forgets the connection when it is given one.
#[expect(unsafe_code, reason = "the `openssl` crate does not have this method")]
fn client(kind: Kind) -> Client {
    let client = Client::with(kind, |context| {
        // SAFETY: a method is static.
        let method = unsafe { TLSv1_2_client_method() };
        // SAFETY: a context that is being built.
        let set = unsafe { SSL_CTX_set_ssl_version(context.as_ptr(), method) };
        assert_eq!(set, 1);
        context.set_min_proto_version(None)?;
        context.set_max_proto_version(None)
    });
    client.unwrap()
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

/// Connects `client`, which then renegotiates, asking for `name` and offering `session`: whether
/// the server resumed it, if it went well.
fn renegotiate(
    context: &SslContext,
    client: &Client,
    session: &[u8],
    name: &str,
) -> Result<bool, String> {
    renegotiate_at(context, client, session, name, |ssl, far| {
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
    client: &Client,
    session: &[u8],
    name: &str,
    server: impl FnOnce(Ssl, UnixStream) -> Result<bool, String> + Send + 'static,
) -> Result<bool, String> {
    let (near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || server(ssl, far));
    let mut stream = client.connect(near, None).unwrap();
    let pointer = stream.ssl().as_ptr();
    // SAFETY: nothing else uses the SSL meanwhile.
    unsafe { SslRef::from_ptr_mut(pointer) }
        .set_hostname(name)
        .unwrap();
    let session = SslSession::from_der(session).unwrap();
    // SAFETY: the client's own SSL and a session of its own.
    let set = unsafe { sys::SSL_set_session(pointer, session.as_ptr()) };
    assert_eq!(set, 1);
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
            let first = meet(&context, &client(kind).server_name("b.example"), None);
            let Some(session) = first.next() else {
                continue;
            };
            let outside = client(kind).server_name("a.example");
            let went = renegotiate(&context, &outside, session, "b.example");
            assert_eq!(went, Ok(false), "{mode} {kind:?}: full");
            demands.store(true, Relaxed);
            let went = renegotiate(&context, &outside, session, "b.example");
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
        let policy = if strict { policy.strict() } else { policy };
        let context = renegotiating(&policy, |_| ());
        let victim = client(Kind::Tls12).server_name("v.example");
        let victims = meet(&context, &victim, None);
        let mut guessed = victims.next().unwrap().to_vec();
        let secret = guessed.windows(2).position(|w| w == [4, 48]).unwrap() + 2;
        guessed[secret] ^= 1;
        let went = renegotiate(&context, &client(Kind::Tls12), &guessed, "v.example");
        assert_eq!(went, Ok(false), "strict {strict}: full");
        let met = meet(&context, &victim, victims.next());
        assert_eq!(met.agreed(), Resumed(Source::Store), "strict {strict}");
    }
}

/// Nobody would go on with it.
#[cfg(feature = "tokio")]
#[test]
fn a_renegotiation_after_an_asynchronous_accept_is_not_suspended() {
    use openssl_resumption::{MemoryStore, accept_async};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let policy = Resumption::stateful(MemoryStore::default()).suspend_lookups();
    let context = renegotiating(&policy, |_| ());
    for kind in [Kind::Tls12, Kind::Tls12WithoutTickets] {
        let first = meet(&context, &client(kind), None);
        let session = first.next().unwrap();
        let went = renegotiate_at(&context, &client(kind), session, "a.example", |ssl, far| {
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
