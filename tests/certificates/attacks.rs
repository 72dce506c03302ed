//! What somebody tried who was out to break all this.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foreign_types::ForeignTypeRef;
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::ssl::{Ssl, SslContext, SslRef, SslStream, SslVerifyMode};
use openssl::x509::{X509Crl, X509Ref};
use openssl_resumption::{
    ClientCertificates,
    Handshake::{Full, Resumed},
    Lineage, MemoryStore, Reason, Resumption, Source, SslContextBuilderExt, SslRefExt, TicketKeys,
};
use openssl_sys as sys;

use crate::common::*;
use crate::revoked::{assert_refused_as_revoked, verifying_clients};

type OnMessage =
    unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, usize, *mut sys::SSL, *mut c_void);

#[expect(unsafe_code, reason = "the `openssl` crate has no such calls")]
unsafe extern "C" {
    fn SSL_CTX_set_msg_callback(context: *mut sys::SSL_CTX, callback: Option<OnMessage>);
    fn SSL_verify_client_post_handshake(ssl: *mut sys::SSL) -> c_int;
    fn SSL_get_options(ssl: *const sys::SSL) -> u64;
    fn SSL_set_options(ssl: *mut sys::SSL, options: u64) -> u64;
    fn SSL_clear_options(ssl: *mut sys::SSL, options: u64) -> u64;
    fn SSL_clear(ssl: *mut sys::SSL) -> c_int;
}

/// A connection that is served with this `SSL`; what `look` saw of it in the end.
#[track_caller]
fn connect<T: Send>(
    ssl: Ssl,
    client: &Client,
    session: Option<&[u8]>,
    look: impl FnOnce(&SslRef) -> T + Send,
) -> (Seen, T) {
    let (near, far) = early::pair();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut stream = ssl.accept(far).unwrap();
            stream.write_all(b"hello").unwrap();
            // The client may be gone by now.
            let _ = stream.shutdown();
            look(stream.ssl())
        });
        let stream = client.connect(near, session).unwrap();
        let seen = client.finish(stream).unwrap();
        (seen, server.join().unwrap())
    })
}

fn last(seen: &Seen) -> Option<&[u8]> {
    seen.sessions.last().map(Vec::as_slice)
}

/// Tells one certificate from others.
fn digest(certificate: &X509Ref) -> Vec<u8> {
    let digest = certificate.digest(MessageDigest::sha256()).unwrap();
    digest[..4].to_vec()
}

/// Who the client of a connection is, as its application would note it.
fn who(ssl: &SslRef) -> Option<Vec<u8>> {
    ssl.peer_certificate().map(|own| digest(&own))
}

fn client_chain(lineage: &Lineage) -> Option<Vec<Vec<u8>>> {
    let chain = lineage.client_chain()?;
    Some(chain.iter().map(|one| digest(one)).collect())
}

/// A revocation list of this CA that is valid from a time on, in seconds since the Unix epoch.
#[expect(unsafe_code, reason = "the `openssl` crate changes no list")]
fn crl_from(begins: u64, ca: &Identity, revoked: &Identity) -> X509Crl {
    let begins = Asn1Time::from_unix(begins.try_into().unwrap()).unwrap();
    let crl = mint_crl(ca, &[revoked]);
    // SAFETY: copies a time into a live list, which nobody else has.
    let set = unsafe { sys::X509_CRL_set1_lastUpdate(crl.as_ptr(), begins.as_ptr()) };
    let hash = MessageDigest::sha256();
    // SAFETY: signs a live list with a live key.
    let signed = unsafe { sys::X509_CRL_sign(crl.as_ptr(), ca.key.as_ptr(), hash.as_ptr()) };
    assert!(set == 1 && signed > 0);
    // As in `mint_crl`.
    X509Crl::from_der(&crl.to_der().unwrap()).unwrap()
}

/// The clock of the CA is ahead. Until the list is valid OpenSSL goes by the one before, and what it found is remembered.
#[test]
fn a_list_that_begins_later_is_heeded_when_it_does() {
    let (ca, me) = ca_and_client();
    let mut servers: Vec<_> = verifying_clients()
        .map(|(what, policy, kind)| {
            let context = context_with(&policy, |builder| {
                demand_unrevoked(builder, &ca, &mint_crl(&ca, &[]));
            });
            let client = client_as(kind, &me);
            let [_, second] = meet_twice(&context, &client);
            assert!(second.client.resumed, "{what}: {:?}", second.outcome);
            (what, policy, context, client, second)
        })
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let begins = UNIX_EPOCH + Duration::from_secs(now.as_secs() + 2);
    let list = crl_from(now.as_secs() + 2, &ca, &me);
    // The clock that OpenSSL asks for a second is some milliseconds late.
    let late = Duration::from_millis(50);
    // Otherwise the machine is too busy to tell.
    let is_before = || SystemTime::now() + late < begins;
    for (what, policy, context, client, met) in &mut servers {
        add_crl(context.cert_store(), &list);
        let looks = policy.stats().certificates.verifications;
        for _ in 0..2 {
            if !is_before() {
                break;
            }
            let (again, refused) = try_meet(context, client, met.next());
            if !is_before() {
                break;
            }
            *met = again.unwrap_or_else(|_| panic!("{what}: {refused:?}"));
            assert!(met.client.resumed, "{what}: {:?}", met.outcome);
            let after = policy.stats().certificates.verifications;
            assert_eq!(after, looks + 1, "{what}: is remembered");
        }
    }
    if let Ok(left) = (begins + late).duration_since(SystemTime::now()) {
        thread::sleep(left);
    }
    for (what, policy, context, client, met) in &servers {
        assert_refused_as_revoked(policy, context, client, None, what);
        for _ in 0..2 {
            assert_refused_as_revoked(policy, context, client, met.next(), what);
        }
    }
}

/// A client that has a certificate when it is asked for one late, too.
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

/// A policy's server that lets everybody pass and looks later who it was, and a client that resumes there as `a` and is
/// then asked for another certificate, and gives that of `b`: the lineage before and after that, the server, and what the
/// client saw.
#[expect(unsafe_code, reason = "the `openssl` crate has no such calls")]
fn ask_again(
    policy: &Resumption,
    ca: &Identity,
    [a, b]: [&Identity; 2],
    tickets: bool,
) -> ([Lineage; 2], SslContext, Seen) {
    let context = context_with(policy, |builder| {
        builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
        builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
    });
    let first = meet(&context, &client_when_asked(a), None);
    let other = client_when_asked(b);
    let (near, far) = early::pair();
    let (lineages, seen) = thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut server = Ssl::new(&context).unwrap().accept(far).unwrap();
            assert!(server.ssl().session_reused());
            let before = server.ssl().lineage().unwrap();
            let ssl = server.ssl().as_ptr();
            if !tickets {
                // SAFETY: sets a field of a live SSL.
                assert_eq!(unsafe { sys::SSL_set_num_tickets(ssl, 0) }, 1);
            }
            // SAFETY: a live SSL of a server.
            assert_eq!(unsafe { SSL_verify_client_post_handshake(ssl) }, 1);
            server.do_handshake().unwrap();
            // What the client reads before this, it has answered.
            server.write_all(b"!").unwrap();
            // What the server reads before this, it has answered too: with tickets.
            server.read_exact(&mut [0]).unwrap();
            assert_eq!(who(server.ssl()), Some(digest(&b.cert)));
            let after = server.ssl().lineage().unwrap();
            server.shutdown().unwrap();
            [before, after]
        });
        let mut stream = other.connect(near, first.next()).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"?").unwrap();
        let seen = other.finish(stream).unwrap();
        (server.join().unwrap(), seen)
    });
    assert_eq!(client_chain(&lineages[0]), Some(vec![digest(&a.cert)]));
    assert_eq!(lineages[0].session_data(), Some(&*digest(&a.cert)));
    (lineages, context, seen)
}

#[test]
fn after_a_late_certificate_without_a_ticket_a_lineage_vouches_for_nobody() {
    let (ca, a) = ca_and_client();
    let elsewhere = mint("elsewhere", None).unwrap();
    let small = mint("b", Some(&elsewhere)).unwrap();
    let large = mint_with_padding("b", &elsewhere, 66_000);
    let known = mint("b", Some(&ca)).unwrap();
    for (mode, policy) in resuming() {
        let policy = policy.session_data(who);
        for (b, tickets) in [(&small, false), (&known, false), (&large, true)] {
            let what = format!("{mode}, {} bytes", b.cert.to_der().unwrap().len());
            let ([_, after], ..) = ask_again(&policy, &ca, [&a, b], tickets);
            assert_eq!(client_chain(&after), None, "{what}");
            // One that is too large to be sealed has a session of its own elsewhere.
            let is_made = tickets && mode != "stateless";
            let expected = is_made.then(|| digest(&b.cert));
            assert_eq!(after.session_data(), expected.as_deref(), "{what}");
        }
        assert_eq!(policy.stats().failed_closed, 0, "{mode}");
    }
}

#[test]
fn a_late_certificate_with_a_ticket_begins_a_lineage() {
    let (ca, a) = ca_and_client();
    let elsewhere = mint("elsewhere", None).unwrap();
    let known = mint("b", Some(&ca)).unwrap();
    let stranger = mint("b", Some(&elsewhere)).unwrap();
    for (mode, policy) in resuming() {
        let policy = policy.session_data(who);
        for (b, is_known) in [(&known, true), (&stranger, false)] {
            let what = format!("{mode}, of the CA: {is_known}");
            let ([before, after], context, seen) = ask_again(&policy, &ca, [&a, b], true);
            let ssl = Ssl::new(&context).unwrap();
            let client = client_when_asked(b);
            let (seen, next) = connect(ssl, &client, last(&seen), |ssl| ssl.lineage());
            assert!(seen.resumed, "{what}");
            let next = next.expect("a lineage");
            assert_eq!(next.id(), after.id(), "{what}");
            for lineage in [&after, &next] {
                assert_ne!(lineage.id(), before.id(), "{what}");
                let chain = is_known.then(|| vec![digest(&b.cert)]);
                assert_eq!(client_chain(lineage), chain, "{what}");
                assert_eq!(lineage.session_data(), Some(&*digest(&b.cert)), "{what}");
            }
        }
    }
}

/// It is too large to be sealed, which would be a fatal error to OpenSSL; and the library does not choose where the session
/// goes.
#[test]
fn with_a_message_callback_of_somebody_else_a_large_certificate_is_no_reason_to_fail() {
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
    fn set(policy: &Resumption, ca: &Identity) -> SslContext {
        let mut builder = acceptor();
        demand_certificates(&mut builder, ca);
        builder.set_resumption(policy).unwrap();
        // SAFETY: sets a field of a context that is being built.
        unsafe { SSL_CTX_set_msg_callback(builder.as_ptr(), Some(nothing)) };
        builder.build().into_context()
    }
    let ca = mint("clients", None).unwrap();
    let large = client_as(Kind::Tls13, &mint_with_padding("large", &ca, 66_000));
    let small = client_as(Kind::Tls13, &mint("small", Some(&ca)).unwrap());
    let policy = Resumption::hybrid(MemoryStore::default(), TicketKeys::random());
    let context = set(&policy, &ca);
    for _ in 0..2 {
        let met = meet(&context, &large, None);
        assert!(met.authenticated && met.client.sessions.is_empty());
        assert_eq!(met.client.reply, b"hello");
        // It is that certificate alone.
        let [_, second] = meet_twice(&context, &small);
        assert_eq!(second.agreed(), Resumed(Source::Ticket));
    }
    assert_eq!(policy.stats().store.puts, 0);
    assert_eq!(policy.stats().failed_closed, 0);
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum NoTicket {
    Set,
    Cleared,
}

/// Has an application say of one connection whether it has tickets.
#[expect(unsafe_code, reason = "the `openssl` crate has no such calls")]
fn say(ssl: &SslRef, no_ticket: NoTicket) {
    let option = sys::SSL_OP_NO_TICKET;
    match no_ticket {
        // SAFETY: sets a field of a live SSL.
        NoTicket::Set => unsafe { SSL_set_options(ssl.as_ptr(), option) },
        // SAFETY: as above.
        NoTicket::Cleared => unsafe { SSL_clear_options(ssl.as_ptr(), option) },
    };
}

#[expect(unsafe_code, reason = "the `openssl` crate has no such call")]
fn has_no_ticket(ssl: &SslRef) -> bool {
    // SAFETY: reads a field of a live SSL.
    unsafe { SSL_get_options(ssl.as_ptr()) & sys::SSL_OP_NO_TICKET != 0 }
}

/// How many of the tickets that a client got are sealed, and how many name a session in the store.
fn kinds(seen: &Seen) -> (usize, usize) {
    let tickets = seen
        .sessions
        .iter()
        .filter(|session| field(session, TICKET).is_some());
    let (sealed, stateful): (Vec<_>, Vec<_>) =
        tickets.partition(|session| ticket(session).len() > 32);
    (sealed.len(), stateful.len())
}

/// The policies that have sealed tickets, or those of TLS 1.3 alone, and clients without a certificate and with one.
fn sealing(tls12_tickets: bool, me: &Identity) -> Vec<(String, Resumption, Client)> {
    let mut all = Vec::new();
    for (mode, policy) in resuming().filter(|(mode, _)| *mode != "stateful") {
        let policy = policy.tls12_tickets(tls12_tickets);
        for kind in [Kind::Tls12, Kind::Tls13] {
            let what = format!("{mode} {kind:?}, TLS 1.2 tickets {tls12_tickets}");
            let anonymous = Client::new(kind).unwrap();
            all.push((what.clone(), policy.clone(), anonymous));
            let known = format!("{what}, known");
            all.push((known, policy.clone(), client_as(kind, me)));
        }
    }
    all
}

fn asking(policy: &Resumption, ca: &Identity) -> SslContext {
    context_with(policy, |builder| {
        demand_certificates(builder, ca);
        builder.set_verify(SslVerifyMode::PEER);
    })
}

#[test]
fn a_connection_that_is_to_have_no_ticket_has_none_that_is_sealed() {
    let (ca, me) = ca_and_client();
    for (what, policy, client) in sealing(true, &me) {
        let context = asking(&policy, &ca);
        let [first, second] = meet_twice(&context, &client);
        let before = policy.stats();
        let ssl = Ssl::new(&context).unwrap();
        say(&ssl, NoTicket::Set);
        let (seen, is_set) = connect(ssl, &client, None, has_no_ticket);
        let after = policy.stats();
        assert!(is_set, "{what}");
        assert_eq!(after.tickets.sealed, before.tickets.sealed, "{what}");
        assert_eq!(kinds(&seen).0, 0, "{what}");
        // What it got in place of it is as good elsewhere: from the store, if there is one.
        let met = meet(&context, &client, last(&seen));
        let has_store = what.contains("hybrid");
        assert_eq!(met.client.resumed, has_store, "{what}: {:?}", met.outcome);
        // A sealed one is not opened in such a connection.
        let sealed = last(&first.client).filter(|_| kinds(&first.client).0 > 0);
        let ssl = Ssl::new(&context).unwrap();
        say(&ssl, NoTicket::Set);
        let (seen, is_set) = connect(ssl, &client, sealed, has_no_ticket);
        assert!(is_set && !seen.resumed, "{what}");
        assert_eq!(kinds(&seen).0, 0, "{what}");
        // All others are as ever.
        let [first_again, second_again] = meet_twice(&context, &client);
        assert_eq!(kinds(&first_again.client), kinds(&first.client), "{what}");
        assert_eq!(second_again.agreed(), second.agreed(), "{what}");
        let stats = policy.stats();
        assert_eq!((stats.overridden, stats.failed_closed), (0, 0), "{what}");
    }
}

/// The policy says so of its context, for TLS 1.2.
#[test]
fn a_connection_that_is_to_have_tickets_after_all_has_sealed_ones_of_tls_1_3_alone() {
    let (ca, me) = ca_and_client();
    for (what, policy, client) in sealing(false, &me) {
        let context = asking(&policy, &ca);
        let [first, second] = meet_twice(&context, &client);
        let ssl = Ssl::new(&context).unwrap();
        assert!(has_no_ticket(&ssl), "{what}");
        say(&ssl, NoTicket::Cleared);
        let (seen, is_set) = connect(ssl, &client, None, has_no_ticket);
        assert!(!is_set, "{what}");
        let is_tls13 = what.contains("Tls13");
        assert_eq!(kinds(&seen), (if is_tls13 { 2 } else { 0 }, 0), "{what}");
        // Also of a client whose sessions are in the store otherwise.
        let met = meet(&context, &client, last(&seen));
        if is_tls13 {
            assert_eq!(met.agreed(), Resumed(Source::Ticket), "{what}");
        } else {
            assert!(matches!(met.agreed(), Full(_)), "{what}");
        }
        let [first_again, second_again] = meet_twice(&context, &client);
        assert_eq!(kinds(&first_again.client), kinds(&first.client), "{what}");
        assert_eq!(second_again.agreed(), second.agreed(), "{what}");
        let stats = policy.stats();
        assert_eq!((stats.overridden, stats.failed_closed), (0, 0), "{what}");
    }
}

/// A connection more with the `SSL` of this stream, which is cleared afterwards: what the client saw, and
/// whether it was without tickets.
#[track_caller]
#[expect(unsafe_code, reason = "the `openssl` crate clears no SSL")]
fn serve_again(
    server: &mut SslStream<UnixStream>,
    client: &Client,
    session: Option<&[u8]>,
) -> (Seen, bool) {
    let (near, far) = early::pair();
    *server.get_mut() = far;
    let served = thread::scope(|scope| {
        let server = scope.spawn(|| {
            server.accept().unwrap();
            server.write_all(b"hello").unwrap();
            let _ = server.shutdown();
            has_no_ticket(server.ssl())
        });
        let stream = client.connect(near, session).unwrap();
        let seen = client.finish(stream).unwrap();
        (seen, server.join().unwrap())
    });
    // SAFETY: a live SSL, which nobody uses now.
    assert_eq!(unsafe { SSL_clear(server.ssl().as_ptr()) }, 1);
    served
}

#[test]
fn an_ssl_that_is_used_again_keeps_what_it_was_told_of_tickets() {
    let (ca, me) = ca_and_client();
    for (no_ticket, back) in [
        (NoTicket::Set, NoTicket::Cleared),
        (NoTicket::Cleared, NoTicket::Set),
    ] {
        let is_set = no_ticket == NoTicket::Set;
        for (what, policy, client) in sealing(is_set, &me) {
            let context = asking(&policy, &ca);
            let [first, second] = meet_twice(&context, &client);
            // A client for which the library leaves the option as the policy has it.
            let plain = if is_set { Kind::Tls13 } else { Kind::Tls12 };
            let plain = Client::new(plain).unwrap();
            for before in [None, Some(&plain)] {
                let what = format!("{what}, used before: {}", before.is_some());
                let (_, far) = early::pair();
                let mut server = SslStream::new(Ssl::new(&context).unwrap(), far).unwrap();
                if let Some(before) = before {
                    serve_again(&mut server, before, None);
                }
                say(server.ssl(), no_ticket);
                for _ in 0..3 {
                    let (seen, was_set) = serve_again(&mut server, &client, first.next());
                    assert_eq!(was_set, is_set, "{what}");
                    let (sealed, stateful) = kinds(&seen);
                    let others = if is_set { sealed } else { stateful };
                    assert_eq!(others, 0, "{what}");
                }
                say(server.ssl(), back);
                let (seen, _) = serve_again(&mut server, &client, None);
                assert_eq!(kinds(&seen), kinds(&first.client), "{what}");
                let met = meet(&context, &client, last(&seen));
                assert_eq!(met.agreed(), second.agreed(), "{what}");
            }
            let stats = policy.stats();
            assert_eq!((stats.overridden, stats.failed_closed), (0, 0), "{what}");
        }
    }
}

/// There was no full handshake that it would descend from, and the session that the client offers beside its key is not its
/// own.
#[test]
fn a_connection_by_an_external_key_has_no_lineage() {
    const SUITE: &str = "TLS_AES_128_GCM_SHA256";
    let mallory = Client::with(Kind::Tls13, |context| {
        context.set_psk_client_callback(|_, _, identity, key| {
            identity[..8].copy_from_slice(b"mallory\0");
            key[..32].fill(7);
            Ok(32)
        });
        context.set_ciphersuites(SUITE)
    });
    let mallory = mallory.unwrap().server_name("another.example");
    let victim = Client::with(Kind::Tls13, |context| context.set_ciphersuites(SUITE)).unwrap();
    for (mode, policy) in modes() {
        let policy = policy.session_data(|_| Some(b"data".to_vec()));
        let context = context_with(&policy, |builder| {
            builder.set_psk_server_callback(|_, identity, key| {
                key[..32].fill(7);
                Ok(if identity == Some(b"mallory") { 32 } else { 0 })
            });
        });
        let victims = meet(&context, &victim, None);
        for session in [None, victims.next()] {
            let ssl = Ssl::new(&context).unwrap();
            let look = |ssl: &SslRef| (ssl.resumption().unwrap().handshake, ssl.lineage());
            let (_, (handshake, lineage)) = connect(ssl, &mallory, session, look);
            assert_eq!(handshake, Resumed(Source::Other), "{mode}");
            assert!(lineage.is_none(), "{mode}: {lineage:?}");
        }
    }
}

#[test]
fn a_full_handshake_has_chain_and_data_where_no_session_is_made() {
    let root = mint("root", None).unwrap();
    let middle = mint_intermediate("middle", &root);
    let me = mint("me", Some(&middle)).unwrap();
    let off = Kind::ALL.map(|kind| (Resumption::off(), kind));
    let stateless = Resumption::stateless(TicketKeys::random());
    let stateless = [
        (stateless.clone(), Kind::Tls12WithoutTickets),
        (stateless.clone().tls12_tickets(false), Kind::Tls12),
        (stateless.tickets(0), Kind::Tls13),
    ];
    for (policy, kind) in off.into_iter().chain(stateless) {
        let what = format!("{policy:?} {kind:?}");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let policy = policy.session_data(move |ssl| {
            count.fetch_add(1, SeqCst);
            who(ssl)
        });
        let context = demanding(&policy, &[&root]);
        let client = client_with_chain(kind, &me, &[&middle]);
        let ssl = Ssl::new(&context).unwrap();
        let (seen, lineage) = connect(ssl, &client, None, |ssl| ssl.lineage());
        assert!(seen.sessions.iter().all(|one| field(one, TICKET).is_none()));
        let lineage = lineage.expect("a lineage");
        let expected = Some([&me, &middle].map(|one| digest(&one.cert)).to_vec());
        assert_eq!(client_chain(&lineage), expected, "{what}");
        assert_eq!(lineage.session_data(), Some(&*digest(&me.cert)), "{what}");
        assert_eq!(asked.load(SeqCst), 1, "{what}");
        let again = meet(&context, &client, last(&seen));
        assert!(!again.client.resumed, "{what}");
        assert_eq!(asked.load(SeqCst), 2, "{what}");
    }
}

thread_local! {
    /// Whether this thread is in a hook.
    static IN_HOOK: Cell<bool> = const { Cell::new(false) };
}

/// What hooks use that belong to it themselves.
#[derive(Default)]
struct Own {
    policy: OnceLock<Resumption>,
    context: OnceLock<SslContext>,
    calls: AtomicUsize,
}

impl Own {
    /// Called by a hook: uses all of the policy, and serves two connections more on this very thread, in which the hooks are
    /// called too.
    fn use_all(&self, kind: Kind) {
        if IN_HOOK.replace(true) {
            return;
        }
        let policy = self.policy.get().unwrap();
        let before = handshakes(&policy.stats());
        policy.trust_changed();
        policy.forget_client([7; 32]);
        let mut session: Option<Vec<u8>> = None;
        for resumed in [false, true] {
            let (near, far) = early::pair();
            let offered = session.take();
            let client = thread::spawn(move || {
                let client = Client::new(kind).unwrap();
                let stream = client.connect(near, offered.as_deref()).unwrap();
                client.finish(stream).unwrap()
            });
            let context = self.context.get().unwrap();
            let mut stream = Ssl::new(context).unwrap().accept(far).unwrap();
            stream.write_all(b"hello").unwrap();
            let _ = stream.shutdown();
            assert!(stream.ssl().lineage().is_some());
            let seen = client.join().unwrap();
            assert_eq!(seen.resumed, resumed);
            session = last(&seen).map(<[u8]>::to_vec);
        }
        let (full, resumed) = handshakes(&policy.stats());
        assert_eq!((full, resumed), (before.0 + 1, before.1 + 1));
        IN_HOOK.set(false);
        // Not after a panic, which the library keeps to itself.
        self.calls.fetch_add(1, SeqCst);
    }
}

#[test]
fn hooks_may_call_the_library() {
    let (ca, me) = ca_and_client();
    for certificates in [ClientCertificates::Resume, ClientCertificates::Verify] {
        for (what, policy, kind) in resuming_clients() {
            let before = handshakes(&policy.stats());
            let own = Arc::new(Own::default());
            let [admitting, attaching] = [Arc::clone(&own), Arc::clone(&own)];
            let policy = policy
                .client_certificates(certificates)
                .admit_client(move |client| {
                    admitting.use_all(kind);
                    client.lineage().session_data() == Some(b"data")
                })
                .session_data(move |ssl| {
                    let (before, outcome) = (ssl.lineage(), ssl.resumption());
                    attaching.use_all(kind);
                    let after = ssl.lineage();
                    let ids = [&before, &after].map(|all| all.as_ref().map(|one| *one.id()));
                    assert_eq!(ids[0], ids[1]);
                    assert_eq!(ssl.resumption(), outcome);
                    Some(b"data".to_vec())
                });
            let context = asking(&policy, &ca);
            own.policy.set(policy.clone()).unwrap();
            own.context.set(context.clone()).unwrap();
            for client in [client_as(kind, &me), Client::new(kind).unwrap()] {
                let before = own.calls.load(SeqCst);
                let [_, second] = meet_twice(&context, &client);
                assert!(second.client.resumed, "{what}: {:?}", second.outcome);
                second.agreed();
                // In the full handshake, and before the resumption.
                assert_eq!(own.calls.load(SeqCst), before + 2, "{what}");
            }
            let stats = policy.stats();
            let (full, resumed) = handshakes(&stats);
            // In each of four hooks one more of either.
            let expected = (before.0 + 2 + 4, before.1 + 2 + 4);
            assert_eq!((full, resumed), expected, "{what}");
            assert_eq!(stats.full(Reason::NotAdmitted), 0, "{what}");
            assert_eq!(stats.certificates.data_failures, 0, "{what}");
            assert_eq!(stats.failed_closed, 0, "{what}");
        }
    }
}
