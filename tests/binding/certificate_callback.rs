//! Demands of the certificate callback (`SSL_CTX_set_cert_cb`), which OpenSSL does not call when it resumes.

use std::ffi::{c_int, c_void};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{
    ClientHelloResponse, NameType, Ssl, SslAcceptorBuilder, SslContext, SslRef, SslVerifyMode,
};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason, Resumption,
};

use crate::common::*;
use crate::switch::Switch;

type Callback = unsafe extern "C" fn(*mut openssl_sys::SSL, *mut c_void) -> c_int;

#[expect(
    unsafe_code,
    reason = "the `openssl` crate does not have this function"
)]
unsafe extern "C" {
    fn SSL_CTX_set_cert_cb(
        ctx: *mut openssl_sys::SSL_CTX,
        callback: Option<Callback>,
        arg: *mut c_void,
    );
}

/// Demands a certificate of all names but "open.example", once it is switched on.
#[expect(unsafe_code, reason = "a callback of OpenSSL's")]
unsafe extern "C" fn demand(ssl: *mut openssl_sys::SSL, armed: *mut c_void) -> c_int {
    // SAFETY: OpenSSL passes a live connection that is this thread's alone.
    let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
    // SAFETY: the switch that `server` has leaked.
    let armed = unsafe { &*armed.cast::<Switch>() };
    if armed.is_on() && ssl.servername(NameType::HOST_NAME) != Some("open.example") {
        ssl.set_verify(DEMAND);
    }
    1
}

/// A server with such a callback.
fn server(policy: &Resumption, ca: &Identity, armed: &Switch) -> SslContext {
    let armed = ptr::from_mut(Box::leak(Box::new(armed.clone())));
    context_with(policy, |builder| {
        builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: the callback is one for this argument, which lives for ever.
        unsafe {
            SSL_CTX_set_cert_cb(builder.as_ptr(), Some(demand), armed.cast());
        }
    })
}

#[test]
fn a_demand_that_has_always_been_is_in_the_session_and_resumes() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in resuming_clients() {
        let armed = Switch::default();
        armed.turn_on();
        let server = server(&policy, &ca, &armed);
        let client = client_as(kind, &me).server_name("a.example");
        let [first, second] = meet_twice(&server, &client);
        assert!(first.authenticated, "{what}");
        assert!(matches!(second.agreed(), Resumed(_)), "{what}");
        assert!(second.authenticated, "{what}");
        // Another context of the policy, a certificate that was reloaded say.
        let reloaded = self::server(&policy, &ca, &armed);
        let third = meet(&reloaded, &client, second.next());
        assert!(matches!(third.agreed(), Resumed(_)), "{what}");
    }
}

/// It is known from the first full handshake in which the callback makes it, also at other contexts of the
/// policy. Before that nobody can know it: the session from before resumes.
#[test]
fn a_demand_that_is_new_is_held_against_sessions_once_a_full_handshake_has_shown_it() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in resuming_clients() {
        let armed = Switch::default();
        let server = server(&policy, &ca, &armed);
        let anonymous = Client::new(kind).unwrap().server_name("a.example");
        let first = meet(&server, &anonymous, None);
        armed.turn_on();
        let unknown = meet(&server, &anonymous, first.next());
        assert!(matches!(unknown.agreed(), Resumed(_)), "{what}");

        let known = client_as(kind, &me).server_name("a.example");
        assert!(meet(&server, &known, None).authenticated, "{what}");
        let reloaded = self::server(&policy, &ca, &armed);
        for server in [&server, &reloaded] {
            for session in [&first, &unknown] {
                let (met, refused) = try_meet(server, &anonymous, session.next());
                assert!(met.is_err() && refused.is_some(), "{what}");
            }
            // With its certificate the client does a full handshake, and resumes from then on.
            let full = meet(server, &known, first.next());
            assert_eq!(full.agreed(), Full(Reason::Unauthenticated), "{what}");
            let resumed = meet(server, &known, full.next());
            assert!(matches!(resumed.agreed(), Resumed(_)), "{what}");
        }
        assert_eq!(policy.stats().failed_closed, 0, "{what}");
    }
}

#[test]
fn a_demand_of_one_name_is_not_held_against_sessions_of_another() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in resuming_clients() {
        let armed = Switch::default();
        let server = server(&policy, &ca, &armed);
        let open = Client::new(kind).unwrap().server_name("open.example");
        let closed = Client::new(kind).unwrap().server_name("closed.example");
        let [from_open, from_closed] = [&open, &closed].map(|client| meet(&server, client, None));
        armed.turn_on();
        let known = client_as(kind, &me).server_name("closed.example");
        assert!(meet(&server, &known, None).authenticated, "{what}");

        let resumed = meet(&server, &open, from_open.next());
        assert!(matches!(resumed.agreed(), Resumed(_)), "{what}");
        let (met, refused) = try_meet(&server, &closed, from_closed.next());
        assert!(met.is_err() && refused.is_some(), "{what}");
        let crossed = try_meet(&server, &closed, from_open.next());
        assert!(crossed.0.is_err(), "{what}");
    }
}

/// Until then a new generation ends sessions of before, as SECURITY.md says.
#[test]
fn a_new_generation_ends_the_sessions_from_before_a_demand() {
    let (ca, _) = ca_and_client();
    for (what, policy, kind) in resuming_clients() {
        let armed = Switch::default();
        let before = server(&policy, &ca, &armed);
        let client = Client::new(kind).unwrap().server_name("a.example");
        let first = meet(&before, &client, None);
        armed.turn_on();
        let after = server(&policy.generation("demands"), &ca, &armed);
        let (met, refused) = try_meet(&after, &client, first.next());
        assert!(met.is_err() && refused.is_some(), "{what}");
    }
}

fn drop_and_raise(builder: &mut SslAcceptorBuilder, ca: &Identity, arg: *mut Switch) {
    demand_certificates(builder, ca);
    builder.set_client_hello_callback(|ssl, _| {
        ssl.set_verify(SslVerifyMode::NONE);
        Ok(ClientHelloResponse::SUCCESS)
    });
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: the callback is one for this argument, which lives for ever.
    unsafe {
        SSL_CTX_set_cert_cb(builder.as_ptr(), Some(demand), arg.cast());
    }
}

/// The context demands a certificate, a ClientHello callback does not, and the certificate callback does again.
#[test]
fn a_demand_that_was_dropped_and_raised_again_is_held_against_sessions() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in resuming_clients() {
        let armed = Switch::default();
        let arg = ptr::from_mut(Box::leak(Box::new(armed.clone())));
        let server = context_with(&policy, |builder| {
            drop_and_raise(builder, &ca, arg);
        });
        let anonymous = Client::new(kind).unwrap().server_name("a.example");
        let [first, second] = meet_twice(&server, &anonymous);
        assert!(
            matches!(second.agreed(), Resumed(_)),
            "{what}: nothing is demanded"
        );
        armed.turn_on();
        let known = client_as(kind, &me).server_name("a.example");
        assert!(meet(&server, &known, None).authenticated, "{what}");
        let (met, refused) = try_meet(&server, &anonymous, first.next());
        assert!(met.is_err() && refused.is_some(), "{what}");
    }
}

/// As above, and between two hellos the client sends an alert that OpenSSL ignores.
#[test]
fn nor_does_an_alert_make_it_forgotten() {
    let (ca, me) = ca_and_client();
    for (mode, policy) in resuming() {
        let armed = Switch::default();
        let arg = ptr::from_mut(Box::leak(Box::new(armed.clone())));
        let server = context_with(&policy, |builder| {
            builder.set_groups_list("P-384").unwrap();
            drop_and_raise(builder, &ca, arg);
        });
        let anonymous = with_groups("P-256:P-384").server_name("a.example");
        let first = meet(&server, &anonymous, None);
        armed.turn_on();
        let known = client_as(Kind::Tls13, &me).server_name("a.example");
        assert!(meet(&server, &known, None).authenticated, "{mode}");
        let ssl = Ssl::new(&server).unwrap();
        let (met, refused) = try_meet_over(ssl, &anonymous, first.next(), Canceling::new);
        assert!(met.is_err() && refused.is_some(), "{mode}");
    }
}

/// Asked for in the handshake in TLS 1.2, and after it in TLS 1.3.
#[test]
fn what_is_demanded_in_one_version_is_not_held_against_sessions_of_another() {
    const POST_HANDSHAKE: c_int = 8;
    let (ca, me) = ca_and_client();
    for (mode, policy) in resuming() {
        let server = context_with(&policy, |builder| {
            demand_certificates(builder, &ca);
            let mode = DEMAND.bits() | POST_HANDSHAKE;
            #[expect(unsafe_code, reason = "a mode that the `openssl` crate does not name")]
            // SAFETY: sets a field of the context.
            unsafe {
                openssl_sys::SSL_CTX_set_verify(builder.as_ptr(), mode, None);
            }
        });
        let new = Client::new(Kind::Tls13).unwrap().server_name("a.example");
        let first = meet(&server, &new, None);
        let old = client_as(Kind::Tls12, &me).server_name("a.example");
        assert!(meet(&server, &old, None).authenticated, "{mode}");
        let resumed = meet(&server, &new, first.next());
        assert!(matches!(resumed.agreed(), Resumed(_)), "{mode}");
    }
}
