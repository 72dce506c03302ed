//! Certificates that are asked for after the handshake (RFC 8446, section 4.6.2).

mod common;

use std::ffi::c_int;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use common::*;
use foreign_types::ForeignTypeRef;
use openssl::ssl::{Ssl, SslContext, SslRef, SslStream, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl_resumption::{Handshake::Full, Reason, SslContextBuilderExt};
use openssl_sys as sys;

#[expect(unsafe_code, reason = "the `openssl` crate has no such call")]
unsafe extern "C" {
    fn SSL_verify_client_post_handshake(ssl: *mut sys::SSL) -> c_int;
}

/// Asks the client for a certificate issued by `ca`, on a connection whose handshake is complete.
#[expect(unsafe_code, reason = "the `openssl` crate has no such calls")]
fn ask_for_certificate(mut server: SslStream<UnixStream>, ca: &Identity) -> SslStream<UnixStream> {
    // SAFETY: the stream, which has the SSL, is ours alone.
    let ssl = unsafe { SslRef::from_ptr_mut(server.ssl().as_ptr()) };
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(ca.cert.clone()).unwrap();
    ssl.set_verify_cert_store(store.build()).unwrap();
    ssl.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    // SAFETY: a live SSL of a server.
    let asked = unsafe { SSL_verify_client_post_handshake(ssl.as_ptr()) };
    assert_eq!(asked, 1);
    server.do_handshake().unwrap();
    server
}

/// A TLS 1.3 client that has a certificate when asked for one.
fn client(me: &Identity) -> Client {
    Client::with(Kind::Tls13, |context| {
        context.set_certificate(&me.cert)?;
        context.set_private_key(&me.key)?;
        #[expect(unsafe_code, reason = "the `openssl` crate has no such call")]
        // SAFETY: sets a field of a context that is being built.
        unsafe {
            sys::SSL_CTX_set_post_handshake_auth(context.as_ptr(), 1);
        }
        Ok(())
    })
    .unwrap()
}

/// Resumes `session` and is then asked for a certificate issued by `ca`; returns the session that
/// comes after that.
fn reauthenticate(
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
    ca: &Identity,
) -> Vec<u8> {
    let (near, far) = UnixStream::pair().unwrap();
    for end in [&near, &far] {
        end.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let server = Ssl::new(context).unwrap().accept(far).unwrap();
            assert!(server.ssl().session_reused());
            let mut server = ask_for_certificate(server, ca);
            // What the client reads before it, it has answered.
            server.write_all(b"!").unwrap();
            // Reads the certificate and then this, having sent a new ticket in between.
            server.read_exact(&mut [0]).unwrap();
            server.shutdown().unwrap();
        });
        let mut stream = client.connect(near, session).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"?").unwrap();
        let mut seen = client.finish(stream).unwrap();
        seen.sessions.pop().unwrap()
    })
}

/// Otherwise the certificate of one CA would open a door that asks for one of another.
#[test]
fn a_session_says_who_issued_the_certificate_that_is_in_it() {
    let [one, other] = ["one", "other"].map(|name| mint(name, None).unwrap());
    let of_one = client(&mint("me", Some(&one)).unwrap());
    let of_other = client(&mint("me", Some(&other)).unwrap());
    for (mode, policy) in modes().into_iter().take(3) {
        let demanding = |ca: &Identity| {
            let mut builder = acceptor();
            demand_certificates(&mut builder, ca);
            builder.set_resumption(&policy).unwrap();
            builder.build().into_context()
        };
        let (at_one, at_other) = (demanding(&one), demanding(&other));
        let first = meet(&at_one, &of_one, None);
        let again = meet(&at_one, &of_one, first.next());
        assert!(again.client.resumed, "{mode}");

        let session = reauthenticate(&at_one, &of_other, again.next(), &other);
        let refused = meet(&at_one, &of_one, Some(&session));
        assert_eq!(refused.agreed(), Full(Reason::OtherBinding), "{mode}");
        let welcome = meet(&at_other, &of_other, Some(&session));
        assert!(welcome.client.resumed, "{mode}");
    }
}
