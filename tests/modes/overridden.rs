//! Every setting and callback that others can replace after `set_resumption`, on the context and on the
//! connection: nothing resumes unchecked, connections complete, and what matters is counted.

#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "a table of setters that the `openssl` crate has no safe functions for"
)]

use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use crate::common::*;
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{
    ClientHelloResponse, NameType, Ssl, SslAcceptorBuilder, SslContext, SslOptions, SslSession,
    SslSessionCacheMode, SslVerifyMode,
};
use openssl_resumption::{
    Handshake::{self, Full, Resumed},
    MemoryStore, Reason, Resumption, Source, SslContextBuilderExt, TicketKeys,
};
use openssl_sys::{EVP_CIPHER_CTX, EVP_MAC_CTX, SSL, SSL_CTX, SSL_SESSION};

type Info = unsafe extern "C" fn(*const SSL, c_int, c_int);
type Message =
    unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, usize, *mut SSL, *mut c_void);
type Generate = unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int;
type Decrypt =
    unsafe extern "C" fn(*mut SSL, *mut SSL_SESSION, *const u8, usize, c_int, *mut c_void) -> c_int;
type Key = unsafe extern "C" fn(
    *mut SSL,
    *mut u8,
    *mut u8,
    *mut EVP_CIPHER_CTX,
    *mut EVP_MAC_CTX,
    c_int,
) -> c_int;

unsafe extern "C" {
    fn SSL_CTX_set_session_ticket_cb(
        ctx: *mut SSL_CTX,
        generate: Option<Generate>,
        decrypt: Option<Decrypt>,
        arg: *mut c_void,
    ) -> c_int;
    fn SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx: *mut SSL_CTX, callback: Option<Key>) -> c_int;
    fn SSL_CTX_callback_ctrl(ctx: *mut SSL_CTX, cmd: c_int, callback: Option<Generate>) -> c_long;
    fn SSL_CTX_set_info_callback(ctx: *mut SSL_CTX, callback: Option<Info>);
    fn SSL_set_info_callback(ssl: *mut SSL, callback: Option<Info>);
    fn SSL_CTX_set_msg_callback(ctx: *mut SSL_CTX, callback: Option<Message>);
    fn SSL_set_msg_callback(ssl: *mut SSL, callback: Option<Message>);
    fn SSL_set_session_id_context(ssl: *mut SSL, id: *const u8, len: c_uint) -> c_int;
    fn SSL_CTX_set_timeout(ctx: *mut SSL_CTX, seconds: c_long) -> c_long;
    fn SSL_CTX_set_allow_early_data_cb(
        ctx: *mut SSL_CTX,
        callback: Option<Generate>,
        arg: *mut c_void,
    );
    fn SSL_CTX_set_generate_session_id(ctx: *mut SSL_CTX, callback: Option<NewId>) -> c_int;
    fn SSL_CTX_set_cert_cb(ctx: *mut SSL_CTX, callback: Option<Generate>, arg: *mut c_void);
    fn SSL_SESSION_set1_ticket_appdata(
        session: *mut SSL_SESSION,
        data: *const c_void,
        len: usize,
    ) -> c_int;
    fn SSL_CTX_set_psk_find_session_callback(ctx: *mut SSL_CTX, callback: Option<FindPsk>);
    fn SSL_CTX_set_psk_use_session_callback(ctx: *mut SSL_CTX, callback: Option<UsePsk>);
    fn SSL_SESSION_up_ref(session: *mut SSL_SESSION) -> c_int;
    fn SSL_get_session(ssl: *const SSL) -> *mut SSL_SESSION;
    fn OSSL_PARAM_construct_utf8_string(
        key: *const c_char,
        buf: *mut c_char,
        len: usize,
    ) -> openssl_sys::OSSL_PARAM;
}

type FindPsk = unsafe extern "C" fn(*mut SSL, *const u8, usize, *mut *mut SSL_SESSION) -> c_int;
type UsePsk = unsafe extern "C" fn(
    *mut SSL,
    *const c_void,
    *mut *const u8,
    *mut usize,
    *mut *mut SSL_SESSION,
) -> c_int;
type NewId = unsafe extern "C" fn(*const SSL, *mut u8, *mut c_uint) -> c_int;

/// A server that keeps data of its own in tickets.
unsafe extern "C" fn generate(ssl: *mut SSL, _: *mut c_void) -> c_int {
    unsafe { SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), b"17".as_ptr().cast(), 2) }
}

unsafe extern "C" fn decrypt(
    _: *mut SSL,
    _: *mut SSL_SESSION,
    _: *const u8,
    _: usize,
    status: c_int,
    _: *mut c_void,
) -> c_int {
    const SUCCESS: c_int = 5;
    const IGNORE_RENEW: c_int = 2;
    const USE_RENEW: c_int = 4;
    if status >= SUCCESS {
        USE_RENEW
    } else {
        IGNORE_RENEW
    }
}

/// A server that has keys of its own.
unsafe extern "C" fn key(
    _: *mut SSL,
    name: *mut u8,
    iv: *mut u8,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut EVP_MAC_CTX,
    enc: c_int,
) -> c_int {
    use openssl_sys::{EVP_DecryptInit_ex, EVP_EncryptInit_ex, EVP_MAC_init, EVP_aes_256_cbc};
    let key = [9_u8; 32];
    unsafe {
        let (cbc, none) = (EVP_aes_256_cbc(), ptr::null_mut());
        if enc == 1 {
            name.write_bytes(7, 16);
            iv.write_bytes(8, 16);
            EVP_EncryptInit_ex(cipher, cbc, none, key.as_ptr(), iv);
        } else {
            EVP_DecryptInit_ex(cipher, cbc, none, key.as_ptr(), iv);
        }
        let digest = c"SHA256".as_ptr().cast_mut();
        let params = [
            OSSL_PARAM_construct_utf8_string(c"digest".as_ptr(), digest, 0),
            openssl_sys::OSSL_PARAM_construct_end(),
        ];
        EVP_MAC_init(mac, key.as_ptr(), 32, params.as_ptr());
    }
    1
}

unsafe extern "C" fn info(_: *const SSL, _: c_int, _: c_int) {}

unsafe extern "C" fn message(
    _: c_int,
    _: c_int,
    _: c_int,
    _: *const c_void,
    _: usize,
    _: *mut SSL,
    _: *mut c_void,
) {
}

unsafe extern "C" fn yes(_: *mut SSL, _: *mut c_void) -> c_int {
    1
}

unsafe extern "C" fn new_id(_: *const SSL, id: *mut u8, len: *mut c_uint) -> c_int {
    unsafe { openssl_sys::RAND_bytes(id, *len as c_int) }
}

type OnContext = fn(&mut SslAcceptorBuilder);
type OnConnection = fn(&mut Ssl);

enum Change {
    Context(OnContext),
    Connection(OnConnection),
}

use Change::{Connection, Context};

/// What is to become of a client that comes back.
#[derive(Clone, Copy)]
enum Then {
    /// As if nothing had been changed.
    Resumes,
    /// A full handshake, for this reason.
    Full(Reason),
    /// A full handshake that this library knows nothing of.
    Unknown,
    /// Full or resumed, but checked.
    Checked,
}

/// The modes in which a change is counted.
type Counted = &'static [&'static str];
const EVERYWHERE: Counted = &["stateful", "stateless", "hybrid", "off"];
const RESUMING: Counted = &["stateful", "stateless", "hybrid"];
const WITH_TICKETS: Counted = &["stateless", "hybrid"];
const WITH_BOTH: Counted = &["hybrid"];
const WITHOUT_TICKETS: Counted = &["stateful", "off"];
const NOWHERE: Counted = &[];

/// What is changed, where it is counted, and what becomes of clients there. Elsewhere they are checked.
#[rustfmt::skip]
fn changes() -> Vec<(&'static str, Change, Counted, Then)> {
    vec![
        // What `set_resumption` sets.
        ("SSL_CTX_set_options", Context(|b| { b.set_options(SslOptions::NO_TICKET); }), WITH_TICKETS, Then::Checked),
        ("SSL_CTX_clear_options", Context(|b| { b.clear_options(SslOptions::NO_TICKET); }), WITHOUT_TICKETS, Then::Checked),
        ("SSL_CTX_set_num_tickets", Context(|b| b.set_num_tickets(7).unwrap()), EVERYWHERE, Then::Checked),
        ("SSL_CTX_set_session_cache_mode", Context(|b| { b.set_session_cache_mode(SslSessionCacheMode::SERVER); }), EVERYWHERE, Then::Full(Reason::CacheMode)),
        ("SSL_CTX_sess_set_new_cb", Context(|b| b.set_new_session_callback(|_, _| ())), EVERYWHERE, Then::Full(Reason::SessionCallbacks)),
        ("SSL_CTX_sess_set_get_cb", Context(|b| unsafe { b.set_get_session_callback(|_, _| None) }), EVERYWHERE, Then::Full(Reason::SessionCallbacks)),
        ("SSL_CTX_sess_set_remove_cb", Context(|b| b.set_remove_session_callback(|_, _| ())), NOWHERE, Then::Resumes),
        ("SSL_CTX_set_session_id_context", Context(|b| b.set_session_id_context(b"mine").unwrap()), EVERYWHERE, Then::Checked),
        ("SSL_CTX_set_timeout", Context(|b| unsafe { SSL_CTX_set_timeout(b.as_ptr(), 1); }), NOWHERE, Then::Resumes),
        ("SSL_CTX_set_max_early_data", Context(|b| b.set_max_early_data(1_000).unwrap()), EVERYWHERE, Then::Checked),
        ("SSL_CTX_set_allow_early_data_cb", Context(|b| unsafe { SSL_CTX_set_allow_early_data_cb(b.as_ptr(), Some(yes), ptr::null_mut()) }), NOWHERE, Then::Resumes),
        ("SSL_CTX_set_session_ticket_cb", Context(|b| unsafe { SSL_CTX_set_session_ticket_cb(b.as_ptr(), Some(generate), Some(decrypt), ptr::null_mut()); }), RESUMING, Then::Full(Reason::TicketCallbacks)),
        ("SSL_CTX_set_session_ticket_cb none", Context(|b| unsafe { SSL_CTX_set_session_ticket_cb(b.as_ptr(), None, None, ptr::null_mut()); }), RESUMING, Then::Full(Reason::TicketCallbacks)),
        ("SSL_CTX_set_tlsext_ticket_key_evp_cb", Context(|b| unsafe { SSL_CTX_set_tlsext_ticket_key_evp_cb(b.as_ptr(), Some(key)); }), WITH_TICKETS, Then::Full(Reason::TicketKeyCallback)),
        ("SSL_CTX_set_tlsext_ticket_key_evp_cb none", Context(|b| unsafe { SSL_CTX_set_tlsext_ticket_key_evp_cb(b.as_ptr(), None); }), WITH_TICKETS, Then::Full(Reason::TicketKeyCallback)),
        ("SSL_CTX_set_info_callback", Context(|b| unsafe { SSL_CTX_set_info_callback(b.as_ptr(), Some(info)) }), RESUMING, Then::Unknown),
        ("SSL_CTX_set_msg_callback", Context(|b| unsafe { SSL_CTX_set_msg_callback(b.as_ptr(), Some(message)) }), WITH_BOTH, Then::Resumes),
        ("SSL_CTX_set_msg_callback none", Context(|b| unsafe { SSL_CTX_set_msg_callback(b.as_ptr(), None) }), WITH_BOTH, Then::Resumes),
        ("SSL_CTX_set_verify", Context(|b| b.set_verify(SslVerifyMode::PEER)), EVERYWHERE, Then::Checked),
        // What it does not set, and OpenSSL has beside.
        ("SSL_CTX_set_tlsext_ticket_key_cb", Context(|b| unsafe { SSL_CTX_callback_ctrl(b.as_ptr(), 72, Some(yes)); }), NOWHERE, Then::Resumes),
        ("SSL_CTX_set_tlsext_ticket_keys", Context(|b| unsafe { openssl_sys::SSL_CTX_ctrl(b.as_ptr(), 59, 80, [1_u8; 80].as_mut_ptr().cast()); }), NOWHERE, Then::Resumes),
        ("SSL_CTX_set_generate_session_id", Context(|b| unsafe { SSL_CTX_set_generate_session_id(b.as_ptr(), Some(new_id)); }), NOWHERE, Then::Resumes),
        ("SSL_CTX_set_cert_cb", Context(|b| unsafe { SSL_CTX_set_cert_cb(b.as_ptr(), Some(yes), ptr::null_mut()) }), NOWHERE, Then::Resumes),
        ("SSL_CTX_set_client_hello_cb", Context(|b| b.set_client_hello_callback(|_, _| Ok(ClientHelloResponse::SUCCESS))), NOWHERE, Then::Resumes),
        ("SSL_CTX_set_psk_server_callback", Context(|b| b.set_psk_server_callback(|_, _, _| Ok(0))), NOWHERE, Then::Resumes),
        // The same on a connection.
        ("SSL_set_info_callback", Connection(|ssl| unsafe { SSL_set_info_callback(ssl.as_ptr(), Some(info)) }), RESUMING, Then::Unknown),
        ("SSL_set_msg_callback", Connection(|ssl| unsafe { SSL_set_msg_callback(ssl.as_ptr(), Some(message)) }), WITH_BOTH, Then::Resumes),
        ("SSL_set_session_id_context", Connection(|ssl| unsafe { SSL_set_session_id_context(ssl.as_ptr(), b"mine".as_ptr(), 4); }), EVERYWHERE, Then::Checked),
        ("SSL_set_num_tickets", Connection(|ssl| ssl.set_num_tickets(0).unwrap()), RESUMING, Then::Checked),
        ("SSL_set_max_early_data", Connection(|ssl| ssl.set_max_early_data(1_000).unwrap()), EVERYWHERE, Then::Checked),
        ("SSL_set_verify", Connection(|ssl| ssl.set_verify(SslVerifyMode::PEER)), NOWHERE, Then::Checked),
        ("SSL_set_info_callback in the ClientHello callback", Context(|b| b.set_client_hello_callback(|ssl, _| {
            unsafe { SSL_set_info_callback(ssl.as_ptr(), Some(info)) };
            Ok(ClientHelloResponse::SUCCESS)
        })), RESUMING, Then::Unknown),
    ]
}

/// A server, changed, that demands certificates for one name.
struct Server {
    context: SslContext,
    connection: OnConnection,
}

impl Server {
    fn new(policy: &Resumption, change: &Change) -> Self {
        let (on_context, connection): (OnContext, OnConnection) = match *change {
            Context(change) => (change, |_| ()),
            Connection(change) => (|_| (), change),
        };
        let mut builder = acceptor();
        let (ca, _) = ca_and_client();
        builder.cert_store_mut().add_cert(ca.cert).unwrap();
        builder.set_servername_callback(|ssl, _| {
            if ssl.servername(NameType::HOST_NAME) == Some("private.test") {
                ssl.set_verify(DEMAND);
            }
            Ok(())
        });
        builder.set_resumption(policy).unwrap();
        on_context(&mut builder);
        let context = builder.build().into_context();
        Self {
            context,
            connection,
        }
    }

    fn ssl(&self) -> Ssl {
        let mut ssl = Ssl::new(&self.context).unwrap();
        (self.connection)(&mut ssl);
        ssl
    }
}

#[test]
fn nothing_that_others_replace_lets_a_session_past_us() {
    // TLS 1.3 first: in stateful mode it is the one that has tickets, which tell of callbacks.
    let kinds = [Kind::Tls13, Kind::Tls12, Kind::Tls12WithoutTickets];
    for (what, change, counted, then) in changes() {
        for (mode, policy) in modes() {
            let server = Server::new(&policy, &change);
            let is_counted = counted.contains(&mode);
            for kind in kinds {
                let what = format!("{what}, {mode} {kind:?}");
                let client = |name| Client::new(kind).unwrap().server_name(name);
                let public = client("public.test");
                let first = meet_with(server.ssl(), &public, None);
                let second = meet_with(server.ssl(), &public, first.next());
                let unchanged = meet_twice(&context(&policy), &public);
                check(&what, then, is_counted, &second, unchanged[1].agreed());

                // A session of a name that demands nothing, where a certificate is demanded.
                let private = client("private.test");
                for session in [&first, &second].map(|met| met.next()) {
                    let (met, refused) = try_meet_with(server.ssl(), &private, session);
                    assert!(met.is_err() && refused.is_some(), "{what}");
                }
            }
            assert_eq!(
                policy.stats().overridden,
                u64::from(is_counted),
                "{what}, {mode}"
            );
        }
    }
}

#[track_caller]
fn check(what: &str, then: Then, is_counted: bool, met: &Met, unchanged: Handshake) {
    match then {
        Then::Resumes => assert_eq!(met.agreed(), unchanged, "{what}"),
        Then::Full(_) if unchanged == Full(Reason::Off) => {
            assert_eq!(met.agreed(), unchanged, "{what}");
        }
        Then::Full(reason) if is_counted => {
            assert_eq!(met.agreed(), Full(reason), "{what}");
        }
        Then::Unknown => {
            assert_eq!(met.outcome, None, "{what}");
            assert!(!met.client.resumed, "{what}");
        }
        Then::Checked | Then::Full(_) => {
            let other = Resumed(Source::Other);
            assert_ne!(met.agreed(), other, "{what}");
        }
    }
}

/// The first connection of a context, before any ticket has told whose callbacks it has.
#[test]
fn a_session_that_others_resume_first_fails_once_and_is_full_from_then_on() {
    fn ticket_callbacks(builder: &mut SslAcceptorBuilder) {
        let (generate, decrypt) = (Some(generate as _), Some(decrypt as _));
        let context = builder.as_ptr();
        unsafe { SSL_CTX_set_session_ticket_cb(context, generate, decrypt, ptr::null_mut()) };
    }
    fn both(builder: &mut SslAcceptorBuilder) {
        ticket_callbacks(builder);
        unsafe { SSL_CTX_set_tlsext_ticket_key_evp_cb(builder.as_ptr(), Some(key)) };
    }
    // Our own sessions, which nobody has checked, and theirs, under their keys.
    let changes: [(OnContext, OnContext); 2] = [(|_| (), ticket_callbacks), (both, both)];
    for (there, here) in changes {
        for kind in [Kind::Tls13, Kind::Tls12] {
            let policy = Resumption::stateless(TicketKeys::random());
            let client = Client::new(kind).unwrap();
            let made = meet(&context_changed(&policy, there), &client, None);
            let before = policy.stats();
            let context = context_changed(&policy, here);
            let (met, refused) = try_meet(&context, &client, made.next());
            assert!(met.is_err() && refused.is_some(), "{kind:?}");
            let stats = policy.stats();
            assert_eq!(stats.failed_closed, before.failed_closed + 1, "{kind:?}");
            // Whose sessions those are may be told by the next ticket only.
            assert!(!meet(&context, &client, made.next()).client.resumed);
            assert!(policy.stats().overridden > before.overridden, "{kind:?}");
            let full = meet(&context, &client, made.next());
            assert_eq!(full.agreed(), Full(Reason::TicketCallbacks), "{kind:?}");
        }
    }
}

/// After the lookup, where a demand is to be held against the session once more.
#[test]
fn an_info_callback_set_in_the_server_name_callback_takes_no_look_away() {
    let policies = [
        Resumption::stateful(MemoryStore::default()),
        Resumption::stateless(TicketKeys::random()),
    ];
    for policy in policies {
        let quiet = context(&policy);
        let (ca, _) = ca_and_client();
        let loud = context_with(&policy, |builder| {
            builder.cert_store_mut().add_cert(ca.cert).unwrap();
            builder.set_servername_callback(|ssl, _| {
                unsafe { SSL_set_info_callback(ssl.as_ptr(), Some(info)) };
                ssl.set_verify(DEMAND);
                Ok(())
            });
        });
        let client = Client::new(Kind::Tls13).unwrap().server_name("a.test");
        let first = meet(&quiet, &client, None);
        let (met, refused) = try_meet(&loud, &client, first.next());
        assert!(met.is_err() && refused.is_some(), "{policy:?}");
        let stats = policy.stats();
        assert_eq!(
            (stats.overridden, stats.failed_closed),
            (1, 1),
            "{policy:?}"
        );
    }
}

static PSK: OnceLock<SslSession> = OnceLock::new();

fn hand_out(to: *mut *mut SSL_SESSION) {
    let session = PSK.get().expect("made before").as_ptr();
    unsafe {
        SSL_SESSION_up_ref(session);
        *to = session;
    }
}

unsafe extern "C" fn find_psk(
    _: *mut SSL,
    id: *const u8,
    len: usize,
    found: *mut *mut SSL_SESSION,
) -> c_int {
    if unsafe { std::slice::from_raw_parts(id, len) } == b"psk" {
        hand_out(found);
    }
    1
}

unsafe extern "C" fn use_psk(
    _: *mut SSL,
    _: *const c_void,
    id: *mut *const u8,
    len: *mut usize,
    used: *mut *mut SSL_SESSION,
) -> c_int {
    hand_out(used);
    unsafe {
        *id = b"psk".as_ptr();
        *len = 3;
    }
    1
}

/// What `s_server -psk_session` does: the key is a session that was once made in a handshake.
#[test]
fn an_external_pre_shared_key_made_of_a_session_is_the_applications_affair() {
    let bare = acceptor().build().into_context();
    let made = meet(&bare, &Client::new(Kind::Tls13).unwrap(), None);
    PSK.get_or_init(|| SslSession::from_der(made.next().unwrap()).unwrap());
    let with_psk = Client::with(Kind::Tls13, |builder| {
        unsafe { SSL_CTX_set_psk_use_session_callback(builder.as_ptr(), Some(use_psk)) };
        Ok(())
    });
    let with_psk = with_psk.unwrap();
    let ordinary = Client::new(Kind::Tls13).unwrap();
    for (mode, policy) in modes().into_iter().take(3) {
        let server = context_with(&policy, |builder| unsafe {
            SSL_CTX_set_psk_find_session_callback(builder.as_ptr(), Some(find_psk));
        });
        meet(&server, &ordinary, None);
        for _ in 0..2 {
            let met = meet(&server, &with_psk, None);
            assert_eq!(met.agreed(), Resumed(Source::Other), "{mode}");
        }
        let [_, second] = meet_twice(&server, &ordinary);
        assert!(matches!(second.agreed(), Resumed(_)), "{mode}");
        assert_eq!(policy.stats().overridden, 0, "{mode}");
    }
}
