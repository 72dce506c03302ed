//! Hybrid mode: TLS 1.3 sessions of clients with a certificate live in the store, those of others in tickets, and a
//! client may come back with either.

use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::*;
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{
    ClientHelloResponse, NameType, Ssl, SslAcceptorBuilder, SslContext, SslRef, SslStream,
    SslVerifyMode,
};
use openssl_resumption::{
    Handshake::{self, Full, Resumed},
    MemoryStore, Reason, Resumption, Session, SessionKey, SessionStore, Source,
    SslContextBuilderExt, SslRefExt, StoreError, StoreStats, TicketKeys,
};
use openssl_sys as sys;

const STORE: Handshake = Resumed(Source::Store);
const SEALED: Handshake = Resumed(Source::Ticket);
const NOTHING: Handshake = Full(Reason::NothingOffered);

type OnMessage =
    unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, usize, *mut sys::SSL, *mut c_void);

#[expect(unsafe_code, reason = "the `openssl` crate has no such calls")]
unsafe extern "C" {
    fn SSL_CTX_set_msg_callback(context: *mut sys::SSL_CTX, callback: Option<OnMessage>);
    fn SSL_verify_client_post_handshake(ssl: *mut sys::SSL) -> c_int;
    fn SSL_new_session_ticket(ssl: *mut sys::SSL) -> c_int;
    fn SSL_clear(ssl: *mut sys::SSL) -> c_int;
    fn SSL_up_ref(ssl: *mut sys::SSL) -> c_int;
}

fn hybrid() -> Resumption {
    Resumption::hybrid(MemoryStore::default(), TicketKeys::random())
}

/// A server that asks for a certificate, and serves clients without one all the same.
fn asking(policy: &Resumption, ca: &Identity) -> SslContext {
    context_with(policy, |builder| ask(builder, ca))
}

fn ask(builder: &mut SslAcceptorBuilder, ca: &Identity) {
    builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
    builder.set_verify(SslVerifyMode::PEER);
}

/// A client with a certificate and one without, at the same server, and what their sessions resume from.
fn both(me: &Identity) -> [(Client, Handshake); 2] {
    [
        (client_as(Kind::Tls13, me), STORE),
        (Client::new(Kind::Tls13).unwrap(), SEALED),
    ]
}

/// How long the tickets are that a client got.
fn lengths(met: &Met) -> Vec<usize> {
    let sessions = met.client.sessions.iter();
    sessions.map(|session| ticket(session).len()).collect()
}

/// Whether all tickets that a client got name a session in the store; there are some.
#[track_caller]
fn are_stateful(met: &Met) -> bool {
    let lengths = lengths(met);
    let short = lengths.iter().filter(|len| **len == 32).count();
    assert!(
        !lengths.is_empty() && [0, lengths.len()].contains(&short),
        "{lengths:?}"
    );
    short > 0
}

#[test]
fn the_hello_of_a_client_with_a_large_certificate_stays_small() {
    let ca = mint("clients", None).unwrap();
    let me = mint_with_padding("me", &ca, 4_096);
    let client = Client::with(Kind::Tls13, |context| {
        context.set_certificate(&me.cert)?;
        context.set_private_key(&me.key)?;
        // Newer versions of OpenSSL offer a key of their own accord that is larger than all the rest.
        context.set_groups_list("X25519")
    })
    .unwrap();
    for (policy, is_small) in [
        (hybrid(), true),
        (Resumption::stateless(TicketKeys::random()), false),
    ] {
        let context = asking(&policy, &ca);
        let [first, second] = meet_twice(&context, &client);
        for met in [&first, &second] {
            assert!(met.authenticated);
            assert_eq!(are_stateful(met), is_small, "{:?}", lengths(met));
            let hello = client.hello(met.next()).len();
            if is_small {
                assert!(hello < 600, "{hello} bytes");
            } else {
                assert!(hello > 4_000, "{hello} bytes");
            }
        }
        assert!(second.client.resumed);
    }
}

#[test]
fn of_clients_without_a_certificate_the_store_hears_nothing() {
    let (ca, me) = ca_and_client();
    let policy = hybrid();
    let context = asking(&policy, &ca);
    let anonymous = Client::new(Kind::Tls13).unwrap();
    let mut met = meet(&context, &anonymous, None);
    for _ in 0..3 {
        assert!(!are_stateful(&met) && !met.authenticated);
        met = meet(&context, &anonymous, met.next());
        assert_eq!(met.agreed(), SEALED);
    }
    let store = policy.stats().store;
    let lookups = store.hits + store.misses + store.expired;
    assert_eq!(
        (store.puts, lookups, store.errors, store.removed),
        (0, 0, 0, 0)
    );

    // And of clients with one the keys hear nothing.
    let tickets = policy.stats().tickets;
    let [first, second] = meet_twice(&context, &client_as(Kind::Tls13, &me));
    assert_eq!(second.agreed(), STORE);
    assert!(are_stateful(&first) && are_stateful(&second));
    let after = policy.stats().tickets;
    assert_eq!(
        (after.sealed, after.opened),
        (tickets.sealed, tickets.opened)
    );
    assert_eq!(policy.stats().overridden, 0);
}

/// The policies of a fleet: each host has its own, and all share a store and keys.
fn fleet<const HOSTS: usize>(
    policy: impl Fn(usize, Arc<dyn SessionStore>, TicketKeys) -> Resumption,
) -> [Resumption; HOSTS] {
    let store: Arc<dyn SessionStore> = Arc::new(MemoryStore::default());
    let keys = TicketKeys::random();
    std::array::from_fn(|host| policy(host, Arc::clone(&store), keys.clone()))
}

#[test]
fn a_client_comes_back_to_any_host_with_either() {
    let (ca, me) = ca_and_client();
    let policies = fleet::<3>(|_, store, keys| Resumption::hybrid(store, keys));
    let hosts = policies.each_ref().map(|policy| asking(policy, &ca));
    for (client, expected) in both(&me) {
        let mut met = meet(&hosts[0], &client, None);
        for host in [1, 2, 0, 0, 2, 1] {
            met = meet(&hosts[host], &client, met.next());
            assert_eq!(met.agreed(), expected, "at {host}");
            assert_eq!(met.authenticated, expected == STORE);
            assert_eq!(are_stateful(&met), expected == STORE);
        }
    }
    for policy in &policies {
        let stats = policy.stats();
        assert_eq!(
            (stats.overridden, stats.store.errors, stats.failed_closed),
            (0, 0, 0)
        );
    }
}

/// As while a fleet is changed from one mode to the other.
#[test]
fn a_stateful_host_and_a_hybrid_one_share_what_is_in_the_store() {
    let (ca, me) = ca_and_client();
    let [stateful, hybrid] = fleet::<2>(|host, store, keys| match host {
        0 => Resumption::stateful(store),
        _ => Resumption::hybrid(store, keys),
    })
    .map(|policy| asking(&policy, &ca));
    for (client, at_home) in both(&me) {
        let has_certificate = at_home == STORE;
        let first = meet(&stateful, &client, None);
        assert!(are_stateful(&first));
        // From the store, whoever it is of; the next ticket is of the kind that the host gives such a client.
        let second = meet(&hybrid, &client, first.next());
        assert_eq!(second.agreed(), STORE);
        assert_eq!(are_stateful(&second), has_certificate);
        let third = meet(&stateful, &client, second.next());
        let expected = if has_certificate { STORE } else { NOTHING };
        assert_eq!(third.agreed(), expected);
        let fourth = meet(&hybrid, &client, third.next());
        assert_eq!(fourth.agreed(), STORE);
        let fifth = meet(&hybrid, &client, fourth.next());
        assert_eq!(fifth.agreed(), at_home);
        assert_eq!(fifth.authenticated, has_certificate);
    }
}

#[test]
fn a_stateless_host_and_a_hybrid_one_share_what_is_sealed() {
    let (ca, me) = ca_and_client();
    let [stateless, hybrid] = fleet::<2>(|host, store, keys| match host {
        0 => Resumption::stateless(keys),
        _ => Resumption::hybrid(store, keys),
    })
    .map(|policy| asking(&policy, &ca));
    for (client, at_home) in both(&me) {
        let first = meet(&stateless, &client, None);
        let second = meet(&hybrid, &client, first.next());
        assert_eq!(second.agreed(), SEALED);
        assert_eq!(second.authenticated, at_home == STORE);
        // What was in the ticket until now has moved.
        let third = meet(&hybrid, &client, second.next());
        assert_eq!(third.agreed(), at_home);
        let back = meet(&stateless, &client, third.next());
        let expected = match at_home {
            STORE => Full(Reason::UnknownKey),
            _ => SEALED,
        };
        assert_eq!(back.agreed(), expected);
    }
}

#[test]
fn under_single_use_a_session_in_the_store_resumes_once_and_a_sealed_one_twice() {
    let (ca, me) = ca_and_client();
    for hello_retry in [false, true] {
        let policy = hybrid().single_use(true);
        let context = context_with(&policy, |builder| {
            ask(builder, &ca);
            if hello_retry {
                builder.set_groups_list("P-384").unwrap();
            }
        });
        for (client, expected) in both(&me) {
            let first = meet(&context, &client, None);
            let once = meet(&context, &client, first.next());
            assert_eq!(once.agreed(), expected, "retry {hello_retry}");
            let again = match expected {
                STORE => Full(Reason::NotFound),
                other => other,
            };
            let twice = meet(&context, &client, first.next());
            assert_eq!(twice.agreed(), again, "retry {hello_retry}");
            // What came in its place is as good.
            let next = meet(&context, &client, once.next());
            assert_eq!(next.agreed(), expected, "retry {hello_retry}");
        }
    }
}

/// The second hello is looked at anew.
#[test]
fn a_hello_retry_request_keeps_either_kind() {
    let (ca, me) = ca_and_client();
    let policy = hybrid();
    let context = context_with(&policy, |builder| {
        ask(builder, &ca);
        builder.set_groups_list("P-384").unwrap();
    });
    let with_groups = |me: Option<&Identity>| {
        Client::with(Kind::Tls13, |context| {
            if let Some(me) = me {
                context.set_certificate(&me.cert)?;
                context.set_private_key(&me.key)?;
            }
            context.set_groups_list("P-256:P-384")
        })
        .unwrap()
    };
    for (client, expected) in [(with_groups(Some(&me)), STORE), (with_groups(None), SEALED)] {
        let [first, second] = meet_twice(&context, &client);
        assert_eq!(second.agreed(), expected);
        for met in [first, second] {
            assert_eq!(are_stateful(&met), expected == STORE);
        }
    }
    let stats = policy.stats();
    assert_eq!((stats.store.hits, stats.store.misses), (1, 0), "asked once");
    assert_eq!((stats.tickets.opened, stats.tickets.malformed), (1, 0));
    assert_eq!(stats.overridden, 0);
}

/// Sends a hello, and leaves; the server's answer.
fn answer_to(context: &SslContext, hello: &[u8]) -> Vec<u8> {
    let (mut near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || ssl.accept(far).is_err());
    near.write_all(hello).unwrap();
    let mut answer = vec![0; 16_384];
    let read = near.read(&mut answer).unwrap();
    answer.truncate(read);
    near.shutdown(Shutdown::Write).unwrap();
    assert!(server.join().unwrap(), "a handshake without a client");
    answer
}

/// No client does that; OpenSSL looks for all of them where the first one is.
#[test]
fn both_kinds_in_one_hello_are_declined_or_not_and_nothing_fails() {
    let (ca, me) = ca_and_client();
    let policy = hybrid();
    let context = asking(&policy, &ca);
    // Of a name that the hello does not ask for, or OpenSSL would want a proof that the test does not have.
    let [stateful, sealed] = both(&me).map(|(client, _)| {
        let met = meet(&context, &client.server_name("a.example"), None);
        ticket(met.next().unwrap()).to_vec()
    });
    assert!(stateful.len() == 32 && sealed.len() > 32);
    let nobody = ticket_of_nobody(0);
    for (offered, lookups, opened) in [
        (vec![&stateful, &sealed], 1, 0),
        (vec![&sealed, &stateful], 0, 1),
        (vec![&nobody, &sealed, &stateful, &sealed], 2, 0),
        (vec![&sealed, &nobody, &stateful, &sealed], 0, 1),
    ] {
        let before = policy.stats().store;
        let hello = offering("P-256", offered.iter().map(|one| (*one).clone()));
        let answer = answer_to(&context, &hello);
        assert_eq!(
            [answer[0], answer[5]],
            [22, 2],
            "a ServerHello: {:02x?}",
            &answer[..16]
        );
        let after = policy.stats().store;
        let asked = |store: StoreStats| store.hits + store.misses;
        assert_eq!(asked(after) - asked(before), lookups, "{offered:?}");
        // A client that goes on is served as ever, with either, and what was offered is not used up.
        let opened_before = policy.stats().tickets.opened;
        for (client, expected) in both(&me) {
            let [_, second] = meet_twice(&context, &client);
            assert_eq!(second.agreed(), expected, "{opened}");
        }
        assert_eq!(policy.stats().tickets.opened - opened_before, 1);
    }
    let stats = policy.stats();
    assert_eq!(
        (stats.overridden, stats.failed_closed, stats.store.errors),
        (0, 0, 0)
    );
}

/// The `SSL` of a server, which is between two calls of its stream.
#[expect(unsafe_code, reason = "`SslStream` hands out no `&mut SslRef`")]
fn of(server: &mut SslStream<UnixStream>) -> &mut SslRef {
    // SAFETY: the stream, which has the SSL, is borrowed as long as the result.
    unsafe { SslRef::from_ptr_mut(server.ssl().as_ptr()) }
}

/// Asks the client for a certificate, on a connection whose handshake is complete.
#[expect(unsafe_code, reason = "the `openssl` crate has no such call")]
fn ask_late(server: &mut SslStream<UnixStream>) {
    of(server).set_verify(DEMAND);
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

/// A client that has a certificate when asked for one late.
#[expect(unsafe_code, reason = "the `openssl` crate has no such call")]
fn client_when_asked(me: &Identity) -> Client {
    Client::with(Kind::Tls13, |context| {
        context.set_certificate(&me.cert)?;
        context.set_private_key(&me.key)?;
        // SAFETY: sets a field of a context that is being built.
        unsafe { sys::SSL_CTX_set_post_handshake_auth(context.as_ptr(), 1) };
        Ok(())
    })
    .unwrap()
}

/// With the handshake alone the client is anonymous, and the tickets that it has by then say so.
#[test]
fn tickets_after_a_late_certificate_are_of_the_store() {
    let (ca, me) = ca_and_client();
    let policy = hybrid();
    let context = context_with(&policy, |builder| {
        builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
    });
    let client = client_when_asked(&me);
    for resumed in [false, true] {
        let before = meet(&context, &client, None);
        let session = before.next().filter(|_| resumed);
        let (near, far) = UnixStream::pair().unwrap();
        for end in [&near, &far] {
            end.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        let sessions = thread::scope(|scope| {
            scope.spawn(|| {
                let mut server = Ssl::new(&context).unwrap().accept(far).unwrap();
                assert_eq!(server.ssl().session_reused(), resumed);
                ask_late(&mut server);
                // What the client reads before this, it has answered.
                server.write_all(b"!").unwrap();
                // What the server reads before this, it has answered too: with tickets.
                server.read_exact(&mut [0]).unwrap();
                assert!(server.ssl().peer_certificate().is_some());
                send_ticket(&mut server);
                server.shutdown().unwrap();
            });
            let mut stream = client.connect(near, session).unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(b"?").unwrap();
            client.finish(stream).unwrap().sessions
        });
        let stateful = |session: &Vec<u8>| ticket(session).len() == 32;
        let kinds: Vec<_> = sessions.iter().map(stateful).collect();
        // Those of the handshake first.
        let sealed = kinds
            .iter()
            .take_while(|is_stateful| !**is_stateful)
            .count();
        assert_eq!(sealed, if resumed { 1 } else { 2 }, "{kinds:?}");
        let late = &kinds[sealed..];
        assert!(
            late.len() >= 2 && late.iter().all(|is_stateful| *is_stateful),
            "{kinds:?}"
        );
        for session in [&sessions[sealed], sessions.last().unwrap()] {
            let met = meet(&context, &client, Some(session));
            assert_eq!(met.agreed(), STORE);
            assert!(met.authenticated);
        }
        let anonymous = meet(&context, &client, Some(&sessions[0]));
        assert_eq!(anonymous.agreed(), SEALED);
        assert!(!anonymous.authenticated);
    }
    assert_eq!(policy.stats().overridden, 0);
}

/// One `SSL` for several connections, cleared in between.
struct Again(*mut sys::SSL);

#[expect(unsafe_code, reason = "the `openssl` crate clears no SSL")]
impl Again {
    fn new(context: &SslContext) -> Self {
        let ssl = Ssl::new(context).unwrap();
        // SAFETY: a live SSL; the reference is given back when this is dropped.
        unsafe { SSL_up_ref(ssl.as_ptr()) };
        Self(ssl.as_ptr())
    }

    fn meet(&self, client: &Client, session: Option<&[u8]>) -> (Seen, Handshake) {
        // SAFETY: as in `new`.
        unsafe { SSL_up_ref(self.0) };
        // SAFETY: the reference is that of the `Ssl`.
        let ssl = unsafe { Ssl::from_ptr(self.0) };
        let (near, far) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || {
            let mut stream = ssl.accept(far).unwrap();
            stream.write_all(b"hello").unwrap();
            stream.shutdown().unwrap();
            let handshake = stream.ssl().resumption().unwrap().handshake;
            // SAFETY: a live SSL, which would go on to use the stream that goes with this thread.
            unsafe { sys::SSL_set_bio(stream.ssl().as_ptr(), ptr::null_mut(), ptr::null_mut()) };
            handshake
        });
        let stream = client.connect(near, session).unwrap();
        let seen = client.finish(stream).unwrap();
        let handshake = server.join().unwrap();
        // SAFETY: a live SSL, which nobody else uses now.
        assert_eq!(unsafe { SSL_clear(self.0) }, 1);
        (seen, handshake)
    }
}

#[expect(unsafe_code, reason = "as above")]
impl Drop for Again {
    fn drop(&mut self) {
        // SAFETY: the reference that `new` has taken.
        drop(unsafe { Ssl::from_ptr(self.0) });
    }
}

/// `SSL_clear` leaves options as they are.
#[test]
fn an_ssl_that_is_used_again_begins_anew() {
    let (ca, me) = ca_and_client();
    for tls12_tickets in [true, false] {
        let policy = hybrid().tls12_tickets(tls12_tickets);
        let context = asking(&policy, &ca);
        let ssl = Again::new(&context);
        let tls12 = match tls12_tickets {
            true => SEALED,
            false => STORE,
        };
        let [(known, _), (anonymous, _)] = both(&me);
        let old = Client::new(Kind::Tls12).unwrap();
        let old_known = client_as(Kind::Tls12, &me);
        let clients = [
            (&known, STORE),
            (&anonymous, SEALED),
            (&old, tls12),
            (&old_known, tls12),
        ];
        // Each after each other.
        for before in clients {
            for (client, expected) in clients {
                ssl.meet(before.0, None);
                let (first, handshake) = ssl.meet(client, None);
                assert_eq!(handshake, NOTHING);
                ssl.meet(before.0, None);
                let session = first.sessions.last().map(Vec::as_slice);
                let (_, handshake) = ssl.meet(client, session);
                assert_eq!(handshake, expected, "TLS 1.2 tickets {tls12_tickets}");
                // A session made in such a connection is as good elsewhere.
                let met = meet(&context, client, session);
                assert_eq!(met.agreed(), expected);
            }
        }
        assert_eq!(policy.stats().overridden, 0);
    }
}

/// Then the library does not see what kind is offered: those of the store are not known, and nothing else is lost.
#[test]
fn with_a_message_callback_of_somebody_else_all_tickets_are_of_one_kind() {
    #[expect(unsafe_code, reason = "a callback of C")]
    unsafe extern "C" fn nothing(
        _: c_int,
        _: c_int,
        _: c_int,
        _: *const c_void,
        _: usize,
        _: *mut sys::SSL,
        _: *mut c_void,
    ) {
    }
    #[expect(unsafe_code, reason = "the `openssl` crate has no such call")]
    fn set(builder: &mut SslAcceptorBuilder, callback: Option<OnMessage>) {
        // SAFETY: sets a field of a context that is being built.
        unsafe { SSL_CTX_set_msg_callback(builder.as_ptr(), callback) };
    }
    let (ca, me) = ca_and_client();
    for callback in [Some(nothing as OnMessage), None] {
        for tls12_tickets in [true, false] {
            let policy = hybrid().tls12_tickets(tls12_tickets);
            let ours = asking(&policy, &ca);
            let mut builder = acceptor();
            ask(&mut builder, &ca);
            builder.set_resumption(&policy).unwrap();
            set(&mut builder, callback);
            let theirs = builder.build().into_context();
            // That which the context says.
            let only = if tls12_tickets {
                Resumed(Source::Ticket)
            } else {
                STORE
            };
            for (client, chosen) in both(&me) {
                let [_, second] = meet_twice(&theirs, &client);
                assert_eq!(second.agreed(), only);
                let elsewhere = meet(&ours, &client, second.next());
                assert_eq!(elsewhere.agreed(), only);
                // OpenSSL looks nowhere else.
                let strayed = meet(&theirs, &client, elsewhere.next());
                assert_eq!(strayed.client.resumed, chosen == only);
            }
            // Nor does an SSL that is used again remember the client before.
            let ssl = Again::new(&theirs);
            let [(known, _), (anonymous, _)] = both(&me);
            for (before, client) in [(&known, &anonymous), (&anonymous, &known)] {
                let session = meet(&theirs, client, None);
                ssl.meet(before, None);
                let (seen, _) = ssl.meet(client, session.next());
                let elsewhere = meet(&theirs, client, session.next());
                assert_eq!(seen.resumed, elsewhere.client.resumed);
            }
            let stats = policy.stats();
            assert_eq!(
                (stats.overridden, stats.failed_closed, stats.store.errors),
                (1, 0, 0)
            );
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Switch {
    ServerName,
    ClientHello,
}

/// Of two virtual hosts one asks for a certificate, and the server learns late which is meant.
#[test]
fn a_connection_that_is_switched_to_another_context_gets_tickets_for_who_its_client_is() {
    let (ca, me) = ca_and_client();
    for switch in [Switch::ServerName, Switch::ClientHello] {
        let policy = hybrid();
        let private = asking(&policy, &ca);
        let front = context_with(&policy, |builder| {
            let to = private.clone();
            match switch {
                Switch::ServerName => builder.set_servername_callback(move |ssl, _| {
                    if ssl.servername(NameType::HOST_NAME) == Some("private") {
                        ssl.set_ssl_context(&to).unwrap();
                        // Which a switch does not bring along.
                        ssl.set_verify(SslVerifyMode::PEER);
                    }
                    Ok(())
                }),
                Switch::ClientHello => builder.set_client_hello_callback(move |ssl, _| {
                    ssl.set_ssl_context(&to).unwrap();
                    ssl.set_verify(SslVerifyMode::PEER);
                    Ok(ClientHelloResponse::SUCCESS)
                }),
            }
        });
        for (client, expected) in both(&me) {
            let client = client.server_name("private");
            let first = meet(&front, &client, None);
            let second = meet(&front, &client, first.next());
            let third = meet(&front, &client, second.next());
            let direct = meet(&private, &client, third.next());
            for met in [&second, &third, &direct] {
                assert_eq!(met.agreed(), expected, "{switch:?}");
                assert_eq!(met.authenticated, expected == STORE, "{switch:?}");
                assert_eq!(are_stateful(met), expected == STORE, "{switch:?}");
            }
        }
        // Who is not switched there is nobody, whatever certificate it has.
        if matches!(switch, Switch::ServerName) {
            let [(client, _), _] = both(&me);
            let [_, second] = meet_twice(&front, &client.server_name("public"));
            assert_eq!(second.agreed(), SEALED);
        }
        assert_eq!(policy.stats().overridden, 0, "{switch:?}");
    }
}

/// What a callback of the application's lets pass is no less a certificate that would travel.
#[test]
fn a_certificate_that_did_not_verify_is_not_sealed_either() {
    let (_, me) = ca_and_client();
    let policy = hybrid();
    let context = context_with(&policy, |builder| {
        builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
    });
    let [first, second] = meet_twice(&context, &client_as(Kind::Tls13, &me));
    assert!(first.authenticated && are_stateful(&first));
    assert_eq!(second.agreed(), STORE);
    assert_eq!(policy.stats().tickets.sealed, 0);
}

#[test]
fn a_fleet_without_a_store_for_a_while_serves_clients_with_certificates_in_full() {
    struct Down;
    impl SessionStore for Down {
        fn put(&self, _: &SessionKey, _: Session) -> Result<(), StoreError> {
            Err(StoreError::new("down"))
        }
        fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
            Err(StoreError::new("down"))
        }
        fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
            Err(StoreError::new("down"))
        }
    }
    let (ca, me) = ca_and_client();
    let policy = Resumption::hybrid(Down, TicketKeys::random());
    let context = asking(&policy, &ca);
    for (client, expected) in both(&me) {
        let [_, second] = meet_twice(&context, &client);
        let expected = match expected {
            STORE => Full(Reason::StoreFailed),
            other => other,
        };
        assert_eq!(second.agreed(), expected);
    }
}
