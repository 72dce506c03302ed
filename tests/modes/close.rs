//! How connections end, and what becomes of their sessions: nothing is lost by a dropped stream,
//! and nothing is taken from a stranger.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use crate::common::*;
use openssl::ssl::{ShutdownState, Ssl, SslContext, SslStream};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, Source, SslRefExt, TicketKeys,
};

/// How a server, or its client, ends a connection after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both say close_notify.
    Clean,
    /// The server's stream is dropped.
    Dropped,
    /// The client closes, and the server only then drops its stream.
    ClientFirst,
    /// The server's stream is dropped with OpenSSL told that it was shut down, which it was not.
    Quiet,
    /// The server sends a fatal alert: it got a record that is none.
    AlertSent,
    /// The server receives a fatal alert: its client got a record that is none.
    AlertReceived,
}

impl End {
    const ALL: [Self; 6] = [
        Self::Clean,
        Self::Dropped,
        Self::ClientFirst,
        Self::Quiet,
        Self::AlertSent,
        Self::AlertReceived,
    ];
}

/// A record of application data that no key ever protected.
const GARBAGE: &[u8] = b"\x17\x03\x03\x00\x20garbage garbage garbage garbage.";

/// Connects, offers `session`, and ends in this way; returns the sessions that the client has, and
/// whether it resumed.
fn end(
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
    end: End,
) -> (Vec<Vec<u8>>, bool) {
    let (near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || serve(ssl.accept(far).unwrap(), end));
    let mut stream = client.connect(near, session).unwrap();
    let resumed = stream.ssl().session_reused();
    // The tickets of TLS 1.3 come before it.
    stream.read_exact(&mut [0]).unwrap();
    match end {
        End::ClientFirst => {
            stream.shutdown().unwrap();
        }
        End::AlertSent => {
            stream.get_mut().write_all(GARBAGE).unwrap();
            assert!(stream.ssl_read(&mut [0]).is_err());
        }
        End::AlertReceived => assert!(stream.ssl_read(&mut [0]).is_err()),
        End::Clean => {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            let _ = stream.shutdown();
        }
        End::Dropped | End::Quiet => {}
    }
    let sessions = client.sessions(&stream);
    drop(stream);
    server.join().unwrap();
    (sessions, resumed)
}

fn serve(mut stream: SslStream<UnixStream>, end: End) {
    stream.write_all(b".").unwrap();
    match end {
        End::Clean => {
            stream.shutdown().unwrap();
        }
        End::Dropped => {}
        End::ClientFirst => assert_eq!(stream.read(&mut [0]).unwrap(), 0),
        End::Quiet => stream.set_shutdown(ShutdownState::SENT),
        End::AlertSent => assert!(stream.ssl_read(&mut [0]).is_err()),
        End::AlertReceived => {
            stream.get_mut().write_all(GARBAGE).unwrap();
            assert!(stream.ssl_read(&mut [0]).is_err());
        }
    }
}

fn stores() -> [(&'static str, Resumption); 2] {
    [
        (
            "stateful",
            Resumption::stateful(MemoryStore::default()).tickets(3),
        ),
        (
            "hybrid",
            Resumption::hybrid(MemoryStore::default(), TicketKeys::random()).tickets(3),
        ),
    ]
}

/// OpenSSL by itself keeps nothing of a connection whose stream is dropped, TLS 1.2 or the last
/// ticket of TLS 1.3.
#[test]
fn only_a_fatal_alert_forgets_and_only_a_tls_1_2_session() {
    for how in End::ALL {
        for (mode, policy) in stores() {
            for kind in Kind::ALL {
                let what = format!("{how:?} {mode} {kind:?}");
                let context = context(&policy);
                let client = Client::new(kind).unwrap();
                let (sessions, _) = end(&context, &client, None, how);
                assert_eq!(
                    sessions.len(),
                    if kind == Kind::Tls13 { 3 } else { 1 },
                    "{what}"
                );

                let alert = matches!(how, End::AlertSent | End::AlertReceived);
                let in_store = mode == "stateful" || kind == Kind::Tls12WithoutTickets;
                let forgotten = alert && in_store && kind != Kind::Tls13;
                for session in &sessions {
                    let met = meet(&context, &client, Some(session));
                    if forgotten {
                        assert_eq!(met.agreed(), Full(Reason::NotFound), "{what}");
                    } else {
                        assert!(matches!(met.agreed(), Resumed(_)), "{what}");
                    }
                }
            }
        }
    }
}

/// OpenSSL would call it for every connection that is dropped or fails.
#[test]
fn a_remove_session_callback_set_before_is_replaced() {
    use openssl_resumption::SslContextBuilderExt;
    for (mode, policy) in modes() {
        let mut builder = acceptor();
        builder.set_remove_session_callback(|_, _| std::process::exit(101));
        builder.set_resumption(&policy).unwrap();
        let context = builder.build().into_context();
        for how in End::ALL {
            for kind in Kind::ALL {
                end(&context, &Client::new(kind).unwrap(), None, how);
            }
        }
        assert_eq!(policy.stats().overridden, 0, "{mode}");
    }
}

#[test]
fn a_fatal_alert_after_a_resumption_forgets_the_session_too() {
    for how in [End::AlertSent, End::AlertReceived] {
        let policy = Resumption::stateful(MemoryStore::default());
        let context = context(&policy);
        let client = Client::new(Kind::Tls12).unwrap();
        let met = meet(&context, &client, None);
        let (_, resumed) = end(&context, &client, met.next(), how);
        assert!(resumed);
        let met = meet(&context, &client, met.next());
        assert_eq!(met.agreed(), Full(Reason::NotFound), "{how:?}");
        assert_eq!(policy.stats().store.removed, 1);
    }
}

#[test]
fn strict_forgets_what_ends_without_a_close_notify_of_ours() {
    for how in End::ALL {
        for (mode, policy) in stores() {
            for kind in Kind::ALL {
                let what = format!("{how:?} {mode} {kind:?}");
                let policy = policy.clone().strict(true);
                let context = context(&policy);
                let client = Client::new(kind).unwrap();
                let first = meet(&context, &client, None);
                let (sessions, resumed) = end(&context, &client, first.next(), how);
                assert!(resumed, "{what}");

                let in_store = match kind {
                    Kind::Tls12WithoutTickets => true,
                    Kind::Tls12 | Kind::Tls13 => mode == "stateful",
                };
                let forgotten = in_store && how != End::Clean;
                let used = first.next().unwrap();
                for session in sessions.iter().map(Vec::as_slice).chain([used]) {
                    let met = meet(&context, &client, Some(session));
                    assert_eq!(met.client.resumed, !forgotten, "{what}: {:?}", met.outcome);
                }
            }
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the `openssl` crate does not have this function"
)]
unsafe extern "C" {
    fn SSL_CTX_set_quiet_shutdown(ctx: *mut openssl_sys::SSL_CTX, on: i32);
}

/// Servers close so that need not tell their clients; `shutdown` then writes nothing.
#[test]
fn strict_keeps_what_is_shut_down_quietly_and_forgets_what_is_dropped() {
    for (mode, policy) in stores() {
        let policy = policy.strict(true);
        let context = context_with(&policy, |builder| {
            #[expect(unsafe_code, reason = "as above")]
            // SAFETY: sets a field of the live context.
            unsafe {
                SSL_CTX_set_quiet_shutdown(builder.as_ptr(), 1);
            }
        });
        for kind in Kind::ALL {
            let what = format!("{mode} {kind:?}");
            let client = Client::new(kind).unwrap();
            // Its server calls `shutdown`.
            let first = meet(&context, &client, None);
            let second = meet(&context, &client, first.next());
            assert!(second.client.resumed, "{what}: {:?}", second.outcome);

            let (sessions, resumed) = end(&context, &client, second.next(), End::Dropped);
            assert!(resumed, "{what}");
            let in_store = match kind {
                Kind::Tls12WithoutTickets => true,
                Kind::Tls12 | Kind::Tls13 => mode == "stateful",
            };
            let third = meet(&context, &client, sessions.last().map(Vec::as_slice));
            assert_eq!(
                third.client.resumed, !in_store,
                "{what}: {:?}",
                third.outcome
            );
        }
    }
}

#[test]
fn a_connection_that_fails_its_handshake_forgets_nothing_strict_or_not() {
    for strict in [false, true] {
        for (mode, policy) in stores() {
            let policy = if strict { policy.strict(true) } else { policy };
            let context = context(&policy);
            let victim = Client::new(Kind::Tls12WithoutTickets).unwrap();
            let met = meet(&context, &victim, None);
            let session = met.next().unwrap();

            // A stranger who saw the id, but does not know the secret: a wrong Finished.
            let (client, server) = try_meet(&context, &victim, Some(&guess(session)));
            assert!(client.is_err() && server.is_some(), "{mode}");

            // A hello without the cipher of the session.
            let cipher = session_cipher(session);
            let other = Client::with(Kind::Tls12WithoutTickets, |c| {
                c.set_cipher_list(&format!("ECDHE:!{cipher}"))
            });
            let failed = vanish(&context, &other.unwrap(), session);
            assert!(failed, "{mode}: the hello was accepted");

            // A client that resumes and vanishes before its Finished.
            assert!(vanish(&context, &victim, session), "{mode}");

            let met = meet(&context, &victim, Some(session));
            assert_eq!(
                met.agreed(),
                Resumed(Source::Store),
                "{mode} strict {strict}"
            );
            assert_eq!(policy.stats().store.removed, 0, "{mode} strict {strict}");
        }
    }
}

/// The OpenSSL name of the cipher in a session.
fn session_cipher(session: &[u8]) -> &'static str {
    // SSL_SESSION_ASN1: two integers, then the cipher's two bytes.
    let at = session.windows(2).position(|w| w == [4, 2]).unwrap() + 2;
    match session[at..at + 2] {
        [0xc0, 0x2b] => "ECDHE-ECDSA-AES128-GCM-SHA256",
        [0xc0, 0x2c] => "ECDHE-ECDSA-AES256-GCM-SHA384",
        [0xcc, 0xa9] => "ECDHE-ECDSA-CHACHA20-POLY1305",
        ref other => panic!("not expected: {other:02x?}"),
    }
}

/// Sends the hello of a client that offers `session` and vanishes when it has been answered;
/// whether the server failed.
fn vanish(context: &SslContext, client: &Client, session: &[u8]) -> bool {
    #[derive(Debug)]
    struct OneFlight(UnixStream);
    impl Read for OneFlight {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            // Whatever the answer is, it has come.
            self.0.read(buf)?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    impl Write for OneFlight {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0.write(buf)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let ssl = Ssl::new(context).unwrap();
    let (client, server) = try_meet_over(ssl, client, Some(session), OneFlight);
    client.is_err() && server.is_some()
}

/// OpenSSL copies the session id that a client sends with its ticket into the session that the
/// ticket resumes; to act on that id is to act on a stranger's session.
#[test]
fn a_ticket_resumed_under_a_victims_id_does_not_touch_the_victims_session() {
    for strict in [false, true] {
        for how in End::ALL {
            let policy = Resumption::hybrid(MemoryStore::default(), TicketKeys::random());
            let policy = if strict { policy.strict(true) } else { policy };
            let context = context(&policy);
            let victim = Client::new(Kind::Tls12WithoutTickets).unwrap();
            let victims = meet(&context, &victim, None);
            let victims_session = victims.next().unwrap();

            let attacker = Client::new(Kind::Tls12).unwrap();
            let own = meet(&context, &attacker, None);
            let mut forged = own.next().unwrap().to_vec();
            let at = id_at(&forged);
            forged[at].copy_from_slice(&victims_session[id_at(victims_session)]);
            let (_, resumed) = end(&context, &attacker, Some(&forged), how);
            assert!(resumed, "{how:?}: the attack was not mounted");

            let met = meet(&context, &victim, victims.next());
            assert_eq!(
                met.agreed(),
                Resumed(Source::Store),
                "{how:?} strict {strict}"
            );
        }
    }
}

/// OpenSSL goes on to the next identity when we decline one, and the next may be a key that the
/// application knows the client by.
#[test]
fn a_victims_ticket_offered_beside_a_pre_shared_key_does_not_touch_the_victims_session() {
    use openssl_resumption::SslContextBuilderExt;
    const SUITE: &str = "TLS_AES_128_GCM_SHA256";
    for strict in [false, true] {
        let policy = Resumption::stateful(MemoryStore::default());
        let policy = if strict { policy.strict(true) } else { policy };
        let mut builder = acceptor();
        builder.set_psk_server_callback(|_, identity, key| {
            key[..32].fill(7);
            Ok(if identity == Some(b"mallory") { 32 } else { 0 })
        });
        builder.set_resumption(&policy).unwrap();
        let context = builder.build().into_context();
        let victim = Client::with(Kind::Tls13, |c| c.set_ciphersuites(SUITE)).unwrap();
        let victims = meet(&context, &victim, None);

        let mallory = Client::with(Kind::Tls13, |c| {
            c.set_psk_client_callback(|_, _, identity, key| {
                identity[..8].copy_from_slice(b"mallory\0");
                key[..32].fill(7);
                Ok(32)
            });
            c.set_ciphersuites(SUITE)
        });
        let mallory = mallory.unwrap().server_name("another.example");
        let (_, resumed) = end(&context, &mallory, victims.next(), End::Dropped);
        assert!(resumed, "the key was not used");
        assert_eq!(policy.stats().resumed(Source::Other), 1);

        let met = meet(&context, &victim, victims.next());
        assert_eq!(met.agreed(), Resumed(Source::Store), "strict {strict}");
    }
}

/// Its state is that of the first connection until the second begins; a stranger's alert comes
/// before that.
#[test]
fn an_ssl_used_again_after_a_switch_ends_no_session_of_the_connection_before() {
    let policy = Resumption::stateful(MemoryStore::default());
    let elsewhere = acceptor().build().into_context();
    let context = context_with(&policy, |builder| {
        builder.set_servername_callback(move |ssl, _| {
            ssl.set_ssl_context(&elsewhere).unwrap();
            Ok(())
        });
    });
    let client = Client::new(Kind::Tls12).unwrap().server_name("v.example");
    let (near, far) = UnixStream::pair().unwrap();
    let first = thread::spawn(move || client.finish(client.connect(near, None).unwrap()));
    let mut stream = Ssl::new(&context).unwrap().accept(far).unwrap();
    stream.shutdown().unwrap();
    first.join().unwrap().unwrap();
    assert_eq!(policy.stats().store.puts, 1);

    let (mut near, far) = UnixStream::pair().unwrap();
    *stream.get_mut() = far;
    near.write_all(b"\x15\x03\x03\x00\x02\x02\x28").unwrap();
    // Clears the SSL and begins a handshake.
    stream.stateless().unwrap_err();
    assert_eq!(stream.ssl().resumption(), None);
    assert_eq!(policy.stats().store.removed, 0);
}

/// A store that fails to remove costs a counter.
#[test]
fn a_store_that_cannot_remove_is_counted() {
    use openssl_resumption::{Session, SessionKey, SessionStore, StoreError};
    struct Stubborn(MemoryStore);
    impl SessionStore for Stubborn {
        fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
            self.0.put(key, session)
        }
        fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
            self.0.get(key)
        }
        fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
            panic!("never let go")
        }
    }
    let store = Arc::new(Stubborn(MemoryStore::default()));
    let policy = Resumption::stateful(store).strict(true);
    let context = context(&policy);
    let client = Client::new(Kind::Tls12).unwrap();
    end(&context, &client, None, End::Dropped);
    end(&context, &client, None, End::AlertSent);
    let store = policy.stats().store;
    assert_eq!((store.removed, store.errors), (0, 2));
}
