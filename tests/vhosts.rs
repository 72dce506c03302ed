//! Past client authentication by way of another virtual host (CVE-2025-23419, CVE-2025-23048): a
//! session made where no certificate is demanded is offered where one is.
//!
//! Every cell has its controls in the same run: the session would resume where it was made, a full
//! handshake without a certificate fails, and a resumption with one succeeds.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use common::*;
use openssl::ssl::{ClientHelloResponse, NameType, SslContext, SslRef, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl_resumption::{
    ClientCertificates, Handshake::Full, Resumption, SslContextBuilderExt, SslRefExt,
};

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

    // Somebody else's session, of a third name: nobody's attack is to touch it.
    let bystander = Client::new(kind).unwrap().server_name("c.example");
    let bystanders = meet(servers.a(), &bystander, None);

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

    // Control: the third name is as it was.
    if style != Style::Reload && style != Style::Separate {
        let met = meet(&servers.b, &bystander, bystanders.next());
        assert!(met.client.resumed, "{cell}: {:?}", met.outcome);
    }

    // Control: what B made resumes on B, under its name in any case, with the certificate.
    let resumed = meet(&servers.b, &client, full.next());
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

/// The server name callback changes the CAs, or asks for a certificate without insisting: what it
/// demands is more than the session was made under, and it is too late to decline.
#[test]
fn another_demand_in_the_server_name_callback_is_failed_once_and_full_from_then_on() {
    let (old, new) = (mint("old", None).unwrap(), mint("new", None).unwrap());
    let me = mint("me", Some(&old)).unwrap();
    for later in [DEMAND, SslVerifyMode::PEER] {
        for kind in [Kind::Tls12, Kind::Tls13] {
            for (mode, policy) in modes().into_iter().take(3) {
                let what = format!("{mode} {kind:?} {later:?}");
                let target = |cas: &[&Identity]| {
                    let mut builder = acceptor();
                    cas.iter()
                        .for_each(|ca| demand_certificates(&mut builder, ca));
                    builder.set_resumption(&policy).unwrap();
                    builder.build().into_context()
                };
                let (before, after) = (target(&[&old]), target(&[&old, &new]));
                let armed = Arc::new(AtomicBool::new(false));
                let switched = Arc::clone(&armed);
                let mut builder = acceptor();
                builder.set_servername_callback(move |ssl, _| {
                    let armed = switched.load(SeqCst);
                    ssl.set_ssl_context(if armed { &after } else { &before })
                        .unwrap();
                    // Before, a client that is asked for nothing where PEER alone comes later.
                    match (armed, later == DEMAND) {
                        (false, true) => ssl.set_verify(DEMAND),
                        (false, false) => ssl.set_verify(SslVerifyMode::NONE),
                        (true, _) => ssl.set_verify(later),
                    }
                    Ok(())
                });
                builder.set_resumption(&policy).unwrap();
                let context = builder.build().into_context();
                let client = client_as(kind, &me);
                let first = meet(&context, &client, None);
                assert!(
                    meet(&context, &client, first.next()).client.resumed,
                    "{what}"
                );

                armed.store(true, SeqCst);
                let failed = policy.stats().failed_closed;
                let (_, refused) = try_meet(&context, &client, first.next());
                assert!(refused.is_some(), "{what}");
                assert_eq!(policy.stats().failed_closed, failed + 1, "{what}");
                let full = meet(&context, &client, first.next());
                assert!(
                    matches!(full.agreed(), Full(_)) && full.authenticated,
                    "{what}"
                );
                assert!(
                    meet(&context, &client, full.next()).client.resumed,
                    "{what}"
                );
            }
        }
    }
}

/// The same name at another listener may be open to all: what was demanded too late at one is
/// nothing to the other.
#[test]
fn a_demand_that_came_too_late_is_remembered_where_it_was_made() {
    let ca = mint("clients", None).unwrap();
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let what = format!("{mode} {kind:?}");
            let public = context(&policy);
            let admin = Servers::new(Style::ServerName, Change::Same, &policy, &ca);
            admin.armed.store(true, SeqCst);
            let client = Client::new(kind).unwrap().server_name("b.example");
            let met = meet(&public, &client, None);
            let before = policy.stats().failed_closed;
            let (_, refused) = try_meet(&admin.b, &client, met.next());
            assert!(refused.is_some(), "{what}");
            assert_eq!(policy.stats().failed_closed, before + 1, "{what}");
            assert!(meet(&public, &client, met.next()).client.resumed, "{what}");
        }
    }
}

/// Certificates in a directory, which OpenSSL looks into when it verifies, are not to be compared.
#[test]
fn cas_in_a_directory_are_no_set_to_resume_across_contexts() {
    let (old, new) = (mint("ca", None).unwrap(), mint("ca", None).unwrap());
    let me = mint("me", Some(&old)).unwrap();
    let directory = |name: &str, ca: &Identity| {
        let path = format!("openssl-resumption-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(path);
        std::fs::create_dir_all(&path).unwrap();
        let hash = ca.cert.subject_name_hash();
        std::fs::write(
            path.join(format!("{hash:08x}.0")),
            ca.cert.to_pem().unwrap(),
        )
        .unwrap();
        path
    };
    let directories = [directory("old", &old), directory("new", &new)];
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let server = |policy: &Resumption, path: &std::path::Path| {
                let mut builder = acceptor();
                builder.load_verify_locations(None, Some(path)).unwrap();
                builder.set_verify(DEMAND);
                builder.set_resumption(policy).unwrap();
                builder.build().into_context()
            };
            let client = client_as(kind, &me);
            let context = server(&policy, &directories[0]);
            let first = meet(&context, &client, None);
            let second = meet(&context, &client, first.next());
            assert!(
                second.client.resumed,
                "{mode} {kind:?}: in the same context"
            );
            let (_, refused) = try_meet(&server(&policy, &directories[1]), &client, second.next());
            assert!(refused.is_some(), "{mode} {kind:?}: past the new CA");

            // Who names the set by a generation may resume it in another context.
            let named = policy.clone().generation("directory of May");
            let first = meet(&server(&named, &directories[0]), &client, None);
            let second = meet(&server(&named, &directories[0]), &client, first.next());
            assert!(second.client.resumed, "{mode} {kind:?}: named");
        }
    }
    directories
        .iter()
        .for_each(|path| std::fs::remove_dir_all(path).unwrap());
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

/// A client may send another name after a HelloRetryRequest; what was found for the first hello
/// must not be resumed under it.
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

/// Stores that come and go may have one address after another; what was found of one is not to be
/// taken for the next.
#[test]
fn a_store_in_the_place_of_another_is_looked_at_anew() {
    let (old, new) = (mint("old", None).unwrap(), mint("new", None).unwrap());
    let me = mint("me", Some(&old)).unwrap();
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let cas = [old.cert.clone(), new.cert.clone()];
            let revoked = Arc::new(AtomicBool::new(false));
            let switched = Arc::clone(&revoked);
            let mut builder = acceptor();
            builder.set_client_hello_callback(move |ssl, _| {
                let mut store = X509StoreBuilder::new().unwrap();
                let ca = &cas[usize::from(switched.load(SeqCst))];
                store.add_cert(ca.clone()).unwrap();
                ssl.set_verify_cert_store(store.build()).unwrap();
                ssl.set_verify(DEMAND);
                Ok(ClientHelloResponse::SUCCESS)
            });
            builder.set_resumption(&policy).unwrap();
            let context = builder.build().into_context();
            let client = client_as(kind, &me);
            let first = meet_here(&context, &client, None).expect("the CA is the right one");
            let second = meet_here(&context, &client, Some(&first.1)).unwrap();
            assert!(second.0, "{mode} {kind:?}");
            revoked.store(true, SeqCst);
            for _ in 0..8 {
                let third = meet_here(&context, &client, Some(&second.1));
                assert!(
                    third.is_none(),
                    "{mode} {kind:?}: a client of the CA that has gone"
                );
            }
        }
    }
}

/// Like `meet`, with the server on this thread, so that memory is used again; whether it resumed
/// and the client's next session, or nothing if the server refused.
fn meet_here(
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
) -> Option<(bool, Vec<u8>)> {
    use std::io::Write;
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(move || {
            let stream = client.connect(near, session).ok()?;
            client.finish(stream).ok()
        });
        let served = openssl::ssl::Ssl::new(context)
            .unwrap()
            .accept(far)
            .map(|mut stream| {
                stream.write_all(b"hello").unwrap();
                stream.shutdown().unwrap();
                stream.ssl().session_reused()
            });
        // Drops the server's end, if it failed.
        let resumed = served.ok();
        let seen = client.join().unwrap();
        Some((resumed?, seen?.sessions.last()?.clone()))
    })
}

/// What was found of the store that the ClientHello callback gave a connection says nothing of the
/// one that the server name callback gives it after that.
#[test]
fn a_connection_that_gets_another_store_on_its_way_is_looked_at_again() {
    let (old, new) = (mint("old", None).unwrap(), mint("new", None).unwrap());
    let me = mint("me", Some(&old)).unwrap();
    let store = |ca: &openssl::x509::X509| {
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(ca.clone()).unwrap();
        store.build()
    };
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let (first_ca, second_ca) = (old.cert.clone(), new.cert.clone());
            let armed = Arc::new(AtomicBool::new(false));
            let switched = Arc::clone(&armed);
            let mut builder = acceptor();
            builder.set_client_hello_callback(move |ssl, _| {
                ssl.set_verify_cert_store(store(&first_ca)).unwrap();
                ssl.set_verify(DEMAND);
                Ok(ClientHelloResponse::SUCCESS)
            });
            builder.set_servername_callback(move |ssl, _| {
                if switched.load(SeqCst) {
                    ssl.set_verify_cert_store(store(&second_ca)).unwrap();
                }
                Ok(())
            });
            builder.set_resumption(&policy).unwrap();
            let context = builder.build().into_context();
            let client = client_as(kind, &me);
            let met = meet(&context, &client, None);
            assert!(
                meet(&context, &client, met.next()).client.resumed,
                "{mode} {kind:?}"
            );
            armed.store(true, SeqCst);
            let (_, refused) = try_meet(&context, &client, met.next());
            assert!(
                refused.is_some(),
                "{mode} {kind:?}: a client of the other CA"
            );
        }
    }
}

/// After the handshake has been failed nothing is written or read either, however often it is
/// tried.
#[test]
fn a_connection_that_is_failed_passes_no_data() {
    use openssl::ssl::{Ssl, SslStream};
    use std::io::{Read, Write};
    let ca = mint("clients", None).unwrap();
    for kind in [Kind::Tls12, Kind::Tls13] {
        for (mode, policy) in modes().into_iter().take(3) {
            let servers = Servers::new(Style::ServerName, Change::Same, &policy, &ca);
            let client = Client::new(kind).unwrap().server_name("b.example");
            let met = meet(servers.a(), &client, None);
            servers.armed.store(true, SeqCst);
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            let ssl = Ssl::new(&servers.b).unwrap();
            let server = thread::spawn(move || {
                let mut stream = SslStream::new(ssl, far).unwrap();
                assert!(stream.accept().is_err());
                for _ in 0..3 {
                    assert!(stream.accept().is_err());
                    assert!(stream.ssl_write(b"secret").is_err());
                    assert!(!matches!(stream.ssl_read(&mut [0]), Ok(1..)));
                    assert_eq!(stream.ssl().resumption(), None);
                }
            });
            let mut got = Vec::new();
            if let Ok(mut stream) = client.connect(near, met.next()) {
                let _ = stream.write_all(b"give me the secret");
                let _ = stream.read_to_end(&mut got);
            }
            server.join().unwrap();
            assert_eq!(got, b"", "{mode} {kind:?}");
            assert_eq!(policy.stats().failed_closed, 1, "{mode} {kind:?}");
            assert_eq!(handshakes(&policy.stats()), (1, 0), "{mode} {kind:?}");
        }
    }
}
