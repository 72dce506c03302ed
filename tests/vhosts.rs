//! Past client authentication by way of another virtual host (CVE-2025-23419, CVE-2025-23048): a
//! session made where no certificate is demanded is offered where one is.
//!
//! Every cell has its controls in the same run: the session would resume where it was made, a full
//! handshake without a certificate fails, and a resumption with one succeeds.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::*;
use openssl::ssl::{ClientHelloResponse, NameType, SslContext, SslRef, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl_resumption::{ClientCertificates, Handshake::Full, Resumption, SslContextBuilderExt};

/// How a server comes to demand a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// The server name callback switches the context and raises the verify mode.
    ServerName,
    /// The ClientHello callback does.
    ClientHello,
    /// Another acceptor with the same store or keys does from the start.
    Separate,
    /// The acceptor was replaced by one that does.
    Reload,
}

/// What becomes of the server name between the session and its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Changed,
    Dropped,
    Added,
    Case,
    /// The name is the same, and has come to demand a certificate meanwhile.
    Same,
}

impl Change {
    /// The name that the session is made under, and the name that demands a certificate.
    fn names(self) -> (Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Changed => (Some("a.example"), Some("b.example")),
            Self::Dropped => (Some("a.example"), None),
            Self::Added => (None, Some("b.example")),
            Self::Case => (Some("b.example"), Some("B.eXample")),
            Self::Same => (Some("b.example"), Some("b.example")),
        }
    }
}

const DEMAND: SslVerifyMode = SslVerifyMode::PEER.union(SslVerifyMode::FAIL_IF_NO_PEER_CERT);

/// A cell's servers: vhost A, and vhost B where a certificate is demanded.
struct Servers {
    a: Option<SslContext>,
    b: SslContext,
    /// Set when B begins to demand, where A and B have one name.
    armed: Arc<AtomicBool>,
}

impl Servers {
    fn new(style: Style, change: Change, policy: &Resumption, ca: &Identity) -> Self {
        let armed = Arc::new(AtomicBool::new(false));
        let demanding = || {
            let mut builder = acceptor();
            demand_certificates(&mut builder, ca);
            builder.set_resumption(policy).unwrap();
            builder.build().into_context()
        };
        let (a, b) = match style {
            Style::Separate | Style::Reload => (context(policy), demanding()),
            Style::ServerName | Style::ClientHello => {
                let front = Self::switching(style, change, policy, demanding(), Arc::clone(&armed));
                (front.clone(), front)
            }
        };
        Self {
            a: Some(a),
            b,
            armed,
        }
    }

    fn switching(
        style: Style,
        change: Change,
        policy: &Resumption,
        b: SslContext,
        armed: Arc<AtomicBool>,
    ) -> SslContext {
        let (a_name, b_name) = change.names();
        let same = |x: Option<&str>, y: Option<&str>| match (x, y) {
            (Some(x), Some(y)) => x.eq_ignore_ascii_case(y),
            (x, y) => x == y,
        };
        let one_name = same(a_name, b_name);
        let switch = move |ssl: &mut SslRef, name: Option<&str>| {
            if same(name, b_name) && (!one_name || armed.load(SeqCst)) {
                ssl.set_ssl_context(&b).unwrap();
                ssl.set_verify(DEMAND);
            }
        };
        let mut builder = acceptor();
        if style == Style::ServerName {
            builder.set_servername_callback(move |ssl, _| {
                let name = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
                switch(ssl, name.as_deref());
                Ok(())
            });
        } else {
            builder.set_client_hello_callback(move |ssl, _| {
                let name = offered_name(ssl);
                switch(ssl, name.as_deref());
                Ok(ClientHelloResponse::SUCCESS)
            });
        }
        builder.set_resumption(policy).unwrap();
        builder.build().into_context()
    }

    fn a(&self) -> &SslContext {
        self.a.as_ref().expect("not reloaded yet")
    }
}

/// The name in the ClientHello, which the openssl crate does not offer.
#[expect(unsafe_code, reason = "SSL_client_hello_get0_ext has no safe wrapper")]
fn offered_name(ssl: &SslRef) -> Option<String> {
    use foreign_types::ForeignTypeRef;
    let (mut data, mut len) = (std::ptr::null(), 0);
    // SAFETY: in a ClientHello callback, with two writable outputs.
    let found =
        unsafe { openssl_sys::SSL_client_hello_get0_ext(ssl.as_ptr(), 0, &mut data, &mut len) };
    if found != 1 {
        return None;
    }
    // SAFETY: OpenSSL returned that many bytes, which live as long as the callback.
    let extension = unsafe { std::slice::from_raw_parts(data, len) };
    Some(String::from_utf8(extension[5..].to_vec()).unwrap())
}

fn named(client: Client, name: Option<&str>) -> Client {
    match name {
        Some(name) => client.server_name(name),
        None => client,
    }
}

fn attack(style: Style, change: Change, mode: &str, policy: &Resumption, kind: Kind) {
    let cell = format!("{mode} {kind:?} {style:?} {change:?}");
    let ca = mint("clients", None).unwrap();
    let me = mint("me", Some(&ca)).unwrap();
    let (a_name, b_name) = change.names();
    let mut servers = Servers::new(style, change, policy, &ca);
    let before = policy.stats();

    // The session, and the control that it is good for something.
    let stranger = named(Client::new(kind).unwrap(), a_name);
    let session = meet(servers.a(), &stranger, None);
    assert!(!session.authenticated, "{cell}");
    let again = meet(servers.a(), &stranger, session.next());
    assert!(again.client.resumed, "{cell}: the session is worth nothing");
    let session = again.next().expect("a session to attack with");

    servers.armed.store(true, SeqCst);
    if style == Style::Reload {
        servers.a = None;
    }

    // Control: B demands.
    let stranger = named(Client::new(kind).unwrap(), b_name);
    let (_, refused) = try_meet(&servers.b, &stranger, None);
    assert!(
        refused.is_some(),
        "{cell}: B takes clients without a certificate"
    );

    // The attack, twice: the first may be failed closed, the second is like any other.
    for round in 1..=2 {
        let (_, refused) = try_meet(&servers.b, &stranger, Some(session));
        assert!(
            refused.is_some(),
            "{cell}: past the demand for a certificate, round {round}"
        );
    }
    let closed = policy.stats().failed_closed - before.failed_closed;
    let too_late = style == Style::ServerName && matches!(change, Change::Case | Change::Same);
    assert_eq!(closed, u64::from(too_late), "{cell}");

    // The same session from a client with a certificate: a full handshake.
    let client = named(client_as(kind, &me), b_name);
    let full = meet(&servers.b, &client, Some(session));
    assert!(
        matches!(full.agreed(), Full(_)) && full.authenticated,
        "{cell}: {:?}",
        full.outcome
    );

    // Control: what B made resumes on B, under its name in any case, with the certificate.
    let first = if too_late {
        // Sessions of the second in which one was failed closed are forgotten with it.
        next_second();
        meet(&servers.b, &client, None)
    } else {
        full
    };
    let resumed = meet(&servers.b, &client, first.next());
    assert!(
        resumed.client.resumed && resumed.authenticated,
        "{cell}: {:?}",
        resumed.outcome
    );
    if let Some(name) = b_name {
        let shouting = client.server_name(&name.to_uppercase());
        let resumed = meet(&servers.b, &shouting, resumed.next());
        assert!(
            resumed.client.resumed && resumed.authenticated,
            "{cell}: {:?}",
            resumed.outcome
        );
    }
}

/// Waits for the clock to show another second.
fn next_second() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    thread::sleep(Duration::from_secs(1) - Duration::from_nanos(now.subsec_nanos().into()));
}

fn attack_all(style: Style) {
    thread::scope(|scope| {
        for change in [
            Change::Changed,
            Change::Dropped,
            Change::Added,
            Change::Case,
            Change::Same,
        ] {
            for kind in [Kind::Tls12, Kind::Tls13] {
                scope.spawn(move || {
                    for (mode, policy) in modes().into_iter().take(3) {
                        attack(style, change, mode, &policy, kind);
                    }
                });
            }
        }
    });
}

#[test]
fn switched_in_the_server_name_callback() {
    attack_all(Style::ServerName);
}

#[test]
fn switched_in_the_client_hello_callback() {
    attack_all(Style::ClientHello);
}

#[test]
fn separate_acceptors_that_share_store_or_keys() {
    attack_all(Style::Separate);
}

#[test]
fn a_reload_that_begins_to_demand() {
    attack_all(Style::Reload);
}

/// CVE-2025-68121: a session made under one set of CAs is resumed under another.
#[test]
fn another_set_of_cas_is_a_full_handshake() {
    let (old, new) = (mint("old", None).unwrap(), mint("new", None).unwrap());
    let me = mint("me", Some(&old)).unwrap();
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let server = |cas: &[&Identity]| {
                let mut builder = acceptor();
                for ca in cas {
                    demand_certificates(&mut builder, ca);
                }
                builder.set_resumption(&policy).unwrap();
                builder.build().into_context()
            };
            let client = client_as(kind, &me);
            let first = meet(&server(&[&old]), &client, None);
            let same = meet(&server(&[&old]), &client, first.next());
            assert!(
                same.client.resumed,
                "{mode} {kind:?}: the same CAs in a new context"
            );

            let more = meet(&server(&[&old, &new]), &client, first.next());
            assert_eq!(
                more.agreed(),
                Full(openssl_resumption::Reason::OtherBinding)
            );
            let both = server(&[&new, &old]);
            assert!(
                meet(&both, &client, more.next()).client.resumed,
                "in another order"
            );

            // The CA of the client is gone.
            let (_, refused) = try_meet(&server(&[&new]), &client, first.next());
            assert!(refused.is_some(), "{mode} {kind:?}");
        }
    }
}

/// A callback may give a connection a CA store of its own.
#[test]
fn another_set_of_cas_for_one_connection_is_a_full_handshake() {
    let (old, new) = (mint("old", None).unwrap(), mint("new", None).unwrap());
    let me = mint("me", Some(&old)).unwrap();
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let cas = [old.cert.clone(), new.cert.clone()];
            let own = Arc::new(AtomicBool::new(false));
            let switched = Arc::clone(&own);
            let mut builder = acceptor();
            demand_certificates(&mut builder, &old);
            builder.set_client_hello_callback(move |ssl, _| {
                if switched.load(SeqCst) {
                    let mut store = X509StoreBuilder::new().unwrap();
                    cas.iter()
                        .for_each(|ca| store.add_cert(ca.clone()).unwrap());
                    ssl.set_verify_cert_store(store.build()).unwrap();
                }
                Ok(ClientHelloResponse::SUCCESS)
            });
            builder.set_resumption(&policy).unwrap();
            let context = builder.build().into_context();
            let client = client_as(kind, &me);
            let first = meet(&context, &client, None);
            assert!(
                meet(&context, &client, first.next()).client.resumed,
                "{mode} {kind:?}"
            );
            own.store(true, SeqCst);
            let met = meet(&context, &client, first.next());
            let expected = Full(openssl_resumption::Reason::OtherBinding);
            assert_eq!(met.agreed(), expected, "{mode} {kind:?}");
            assert!(
                meet(&context, &client, met.next()).client.resumed,
                "{mode} {kind:?}"
            );
        }
    }
}

/// Where a certificate is asked for but not demanded, a client without one resumes as such.
#[test]
fn an_optional_certificate_is_neither_lost_nor_invented() {
    let ca = mint("clients", None).unwrap();
    let me = mint("me", Some(&ca)).unwrap();
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let mut builder = acceptor();
            demand_certificates(&mut builder, &ca);
            builder.set_verify(SslVerifyMode::PEER);
            builder.set_resumption(&policy).unwrap();
            let context = builder.build().into_context();
            for (client, authenticated) in [
                (Client::new(kind).unwrap(), false),
                (client_as(kind, &me), true),
            ] {
                let first = meet(&context, &client, None);
                let second = meet(&context, &client, first.next());
                assert!(second.client.resumed, "{mode} {kind:?}");
                assert_eq!(second.authenticated, authenticated, "{mode} {kind:?}");
            }
        }
    }
}

/// A client may send another name after a HelloRetryRequest; what was found for the first hello must
/// not be resumed under it.
mod another_name_after_a_hello_retry_request {
    #![expect(unsafe_code, reason = "no safe client does this")]

    use std::ffi::c_int;

    use foreign_types::ForeignTypeRef;
    use openssl::ssl::SslContextBuilder;
    use openssl_sys::{SSL, SSL_CTX};

    use super::*;

    unsafe extern "C" {
        fn SSL_CTX_set_info_callback(
            ctx: *mut SSL_CTX,
            callback: Option<unsafe extern "C" fn(*const SSL, c_int, c_int)>,
        );
    }

    const SSL_CB_CONNECT_LOOP: c_int = 0x1001;

    /// The client has read a server hello: the next one it sends, if any, is for b.example.
    unsafe extern "C" fn change_name(ssl: *const SSL, event: c_int, _: c_int) {
        // SAFETY: OpenSSL passes the live SSL that this thread drives.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl.cast_mut()) };
        if event == SSL_CB_CONNECT_LOOP && ssl.state_string_long().contains("read server hello") {
            ssl.set_hostname("b.example").unwrap();
        }
    }

    fn fickle(context: &mut SslContextBuilder) -> Result<(), openssl::error::ErrorStack> {
        // SAFETY: the builder owns the context, and nobody uses it yet.
        unsafe { SSL_CTX_set_info_callback(context.as_ptr(), Some(change_name)) };
        context.set_groups_list("P-256:P-384")
    }

    #[test]
    fn is_not_resumed() {
        for (mode, policy) in modes().into_iter().take(3) {
            let names = Arc::new(std::sync::Mutex::new(Vec::new()));
            let seen = Arc::clone(&names);
            let mut builder = acceptor();
            builder.set_groups_list("P-384").unwrap();
            builder.set_servername_callback(move |ssl, _| {
                let name = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
                seen.lock().unwrap().extend(name);
                Ok(())
            });
            builder.set_resumption(&policy).unwrap();
            let context = builder.build().into_context();

            let faithful = Client::with(Kind::Tls13, |c| c.set_groups_list("P-256:P-384")).unwrap();
            let faithful = faithful.server_name("a.example");
            let met = meet(&context, &faithful, None);
            assert!(
                meet(&context, &faithful, met.next()).client.resumed,
                "{mode}"
            );

            names.lock().unwrap().clear();
            let fickle = Client::with(Kind::Tls13, fickle)
                .unwrap()
                .server_name("a.example");
            let changed = meet(&context, &fickle, met.next());
            assert_eq!(*names.lock().unwrap(), ["a.example", "b.example"], "{mode}");
            let expected = Full(openssl_resumption::Reason::OtherBinding);
            assert_eq!(changed.agreed(), expected, "{mode}");
        }
    }
}

#[test]
fn generations_end_sessions() {
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let client = Client::new(kind).unwrap();
            let met = meet(&context(&policy), &client, None);
            let next = context(&policy.clone().generation("crl of today"));
            let declined = meet(&next, &client, met.next());
            let expected = Full(openssl_resumption::Reason::OtherBinding);
            assert_eq!(declined.agreed(), expected, "{mode} {kind:?}");
            assert!(
                meet(&next, &client, declined.next()).client.resumed,
                "{mode} {kind:?}"
            );
        }
    }
}

#[test]
fn sessions_with_a_client_certificate_can_be_ruled_out() {
    let ca = mint("clients", None).unwrap();
    let me = mint("me", Some(&ca)).unwrap();
    for (mode, policy) in modes().into_iter().take(3) {
        let never = policy
            .clone()
            .client_certificates(ClientCertificates::Never);
        for kind in Kind::ALL {
            let what = format!("{mode} {kind:?}");
            let server = |policy: &Resumption| {
                let mut builder = acceptor();
                demand_certificates(&mut builder, &ca);
                builder.set_verify(SslVerifyMode::PEER);
                builder.set_resumption(policy).unwrap();
                builder.build().into_context()
            };
            let client = client_as(kind, &me);
            // None is given, so none is stored and none is offered.
            let puts = policy.stats().store.puts;
            let met = meet(&server(&never), &client, None);
            assert!(met.authenticated, "{what}");
            if kind == Kind::Tls13 || (mode != "stateful" && kind == Kind::Tls12) {
                assert_eq!(
                    met.client.sessions.len(),
                    0,
                    "{what}: a ticket that is good for nothing"
                );
            }
            assert_eq!(policy.stats().store.puts, puts, "{what}");
            assert!(
                !meet(&server(&never), &client, met.next()).client.resumed,
                "{what}"
            );

            // One from before is not resumed.
            let met = meet(&server(&policy), &client, None);
            if mode != "stateless" || kind != Kind::Tls12WithoutTickets {
                let expected = Full(openssl_resumption::Reason::ClientCertificate);
                assert_eq!(
                    meet(&server(&never), &client, met.next()).agreed(),
                    expected,
                    "{what}"
                );

                // Clients without a certificate are not concerned.
                let anonymous = Client::new(kind).unwrap();
                let met = meet(&server(&never), &anonymous, None);
                assert!(
                    meet(&server(&never), &anonymous, met.next()).client.resumed,
                    "{what}"
                );
            }
        }
    }
}
