//! Certificates that are asked for after the handshake (RFC 8446, section 4.6.2).

use std::ffi::c_int;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::common::child::with_clock;
use crate::common::*;
use foreign_types::ForeignTypeRef;
use openssl::ssl::{Ssl, SslContext, SslRef, SslStream};
use openssl::x509::store::X509StoreBuilder;
use openssl_resumption::{Handshake::Full, Reason};
use openssl_sys as sys;

#[expect(unsafe_code, reason = "the `openssl` crate has no such call")]
unsafe extern "C" {
    fn SSL_verify_client_post_handshake(ssl: *mut sys::SSL) -> c_int;
    fn SSL_new_session_ticket(ssl: *mut sys::SSL) -> c_int;
}

/// `SSL_VERIFY_POST_HANDSHAKE`.
const POST_HANDSHAKE: c_int = 8;

/// The `SSL` of a server, which is between two calls of its stream.
#[expect(unsafe_code, reason = "`SslStream` hands out no `&mut SslRef`")]
fn of(server: &mut SslStream<UnixStream>) -> &mut SslRef {
    // SAFETY: the stream, which has the SSL, is borrowed as long as the result.
    unsafe { SslRef::from_ptr_mut(server.ssl().as_ptr()) }
}

/// From now on the server verifies its client against this CA.
fn verify_against(server: &mut SslStream<UnixStream>, ca: &Identity) {
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(ca.cert.clone()).unwrap();
    of(server).set_verify_cert_store(store.build()).unwrap();
    of(server).set_verify(DEMAND);
}

/// Asks the client for a certificate issued by `ca`, on a connection whose handshake is complete.
#[expect(unsafe_code, reason = "the `openssl` crate has no such call")]
fn ask_for_certificate(server: &mut SslStream<UnixStream>, ca: &Identity) {
    verify_against(server, ca);
    // SAFETY: a live SSL of a server.
    let asked = unsafe { SSL_verify_client_post_handshake(of(server).as_ptr()) };
    assert_eq!(asked, 1);
    server.do_handshake().unwrap();
}

/// Sends a ticket more.
#[expect(unsafe_code, reason = "the `openssl` crate has no such call")]
fn send_ticket(server: &mut SslStream<UnixStream>) {
    // SAFETY: a live SSL of a server.
    let due = unsafe { SSL_new_session_ticket(of(server).as_ptr()) };
    assert_eq!(due, 1);
    server.do_handshake().unwrap();
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

/// Connects `client`, which offers `session`, to a server of `context` that then does `then` and
/// reads what that has the client send; returns the client's newest session.
fn connect(
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
    then: impl FnOnce(&mut SslStream<UnixStream>) + Send,
) -> Vec<u8> {
    let (near, far) = UnixStream::pair().unwrap();
    for end in [&near, &far] {
        end.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut server = Ssl::new(context).unwrap().accept(far).unwrap();
            assert_eq!(server.ssl().session_reused(), session.is_some());
            then(&mut server);
            // What the client reads before this, it has answered.
            server.write_all(b"!").unwrap();
            // What the server reads before this, it has answered too: with tickets.
            server.read_exact(&mut [0]).unwrap();
            server.shutdown().unwrap();
        });
        let mut stream = client.connect(near, session).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"?").unwrap();
        client.finish(stream).unwrap().sessions.pop().unwrap()
    })
}

/// The modes, each with a context that demands a certificate of one CA and one that demands one of
/// the other.
fn two_doors(one: &Identity, other: &Identity) -> Vec<(&'static str, SslContext, SslContext)> {
    let modes = modes().into_iter().take(3);
    modes
        .map(|(mode, policy)| {
            (
                mode,
                demanding(&policy, &[one]),
                demanding(&policy, &[other]),
            )
        })
        .collect()
}

/// Otherwise the certificate of one CA would open a door that asks for one of another.
#[test]
fn a_session_says_who_issued_the_certificate_that_is_in_it() {
    let [one, other] = ["one", "other"].map(|name| mint(name, None).unwrap());
    let of_one = client(&mint("me", Some(&one)).unwrap());
    let of_other = client(&mint("me", Some(&other)).unwrap());
    for (mode, at_one, at_other) in two_doors(&one, &other) {
        let first = meet(&at_one, &of_one, None);
        let asked = |server: &mut _| ask_for_certificate(server, &other);
        let session = connect(&at_one, &of_other, first.next(), asked);
        let refused = meet(&at_one, &of_one, Some(&session));
        assert_eq!(refused.agreed(), Full(Reason::OtherBinding), "{mode}");
        let welcome = meet(&at_other, &of_other, Some(&session));
        assert!(welcome.client.resumed, "{mode}");
    }
}

/// Or a client that shows its certificate again and again would have a session without end.
#[test]
fn another_certificate_does_not_make_a_session_live_longer() {
    let name = "another_certificate_does_not_make_a_session_live_longer";
    with_clock(name, |clock| {
        let (ca, me) = ca_and_client();
        let client = client(&me);
        for (mode, policy) in modes().into_iter().take(3) {
            clock.shift(0);
            let policy = policy.lifetime(Duration::from_secs(1_000));
            let context = demanding(&policy, &[&ca]);
            let first = meet(&context, &client, None);
            clock.shift(600);
            let asked = |server: &mut _| ask_for_certificate(server, &ca);
            let session = connect(&context, &client, first.next(), asked);
            let left = hint(&session);
            assert!((380..=400).contains(&left), "{mode}: {left} seconds");
        }
    });
}

/// The CA set may have been changed since, to ask for another certificate soon.
#[test]
fn a_late_ticket_says_what_the_certificate_was_verified_with() {
    let [one, other] = ["one", "other"].map(|name| mint(name, None).unwrap());
    let of_one = client(&mint("me", Some(&one)).unwrap());
    for (mode, at_one, at_other) in two_doors(&one, &other) {
        let session = connect(&at_one, &of_one, None, |server| {
            verify_against(server, &other);
            send_ticket(server);
        });
        assert!(
            meet(&at_one, &of_one, Some(&session)).client.resumed,
            "{mode}"
        );
        let stranger = Client::new(Kind::Tls13).unwrap();
        let (refused, _) = try_meet(&at_other, &stranger, Some(&session));
        assert!(refused.is_err(), "{mode}: {refused:?}");
    }
}

/// In the handshake itself nothing is demanded then.
#[test]
fn a_demand_for_after_the_handshake_does_not_keep_sessions_from_resuming() {
    #[expect(unsafe_code, reason = "the `openssl` crate does not know this mode")]
    fn demand_later(ssl: &mut SslRef) {
        let mode = DEMAND.bits() | POST_HANDSHAKE;
        // SAFETY: sets fields of a live SSL.
        unsafe { sys::SSL_set_verify(ssl.as_ptr(), mode, None) };
    }
    let ca = mint("clients", None).unwrap();
    let client = Client::new(Kind::Tls13).unwrap();
    for (mode, policy) in modes().into_iter().take(3) {
        let context = context_with(&policy, |builder| {
            builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
            builder.set_servername_callback(|ssl, _| {
                demand_later(ssl);
                Ok(())
            });
        });
        let first = meet(&context, &client, None);
        let again = meet(&context, &client, first.next());
        assert!(again.client.resumed, "{mode}: {:?}", again.outcome);
        assert_eq!(policy.stats().failed_closed, 0);
    }
}
