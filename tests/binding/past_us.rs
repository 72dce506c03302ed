//! Sessions that OpenSSL makes and resumes by itself, past the library and without a stamp.

use openssl::ssl::{ClientHelloResponse, NameType, Ssl, SslAcceptorBuilder, SslSessionCacheMode};
use openssl::ssl::{SslContext, SslVerifyMode};

use crate::common::*;

#[expect(
    unsafe_code,
    reason = "the `openssl` crate does not have this function"
)]
unsafe extern "C" {
    fn SSL_set_session_id_context(ssl: *mut openssl_sys::SSL, id: *const u8, len: u32) -> i32;
}

/// The server name callback demands a certificate for one name.
fn demand_for_private(builder: &mut SslAcceptorBuilder) {
    builder.set_servername_callback(|ssl, _| {
        if ssl.servername(NameType::HOST_NAME) == Some("private") {
            ssl.set_verify(DEMAND);
        }
        Ok(())
    });
}

/// A session of "public", made without a certificate, is offered to "private".
#[track_caller]
fn attack(what: &str, kind: Kind, ssl: impl Fn() -> Ssl) {
    let client = |name| Client::new(kind).unwrap().server_name(name);
    let first = meet_with(ssl(), &client("public"), None);
    // Past us nothing could tell the names apart: the server name callback is told that of the session.
    let (met, refused) = try_meet_with(ssl(), &client("private"), first.next());
    let resumed = met.is_ok_and(|met| met.client.resumed);
    assert!(!resumed && refused.is_some(), "{what} {kind:?}");
}

/// OpenSSL's own cache is switched on later, and the application gives each connection a session id
/// context of its own, after ours that would keep it from resuming.
#[test]
fn from_openssls_cache_under_another_session_id_context() {
    let (ca, _) = ca_and_client();
    for (mode, policy) in modes() {
        let context = context_changed(&policy, |builder| {
            builder.set_session_cache_mode(SslSessionCacheMode::SERVER);
            demand_certificates(builder, &ca);
            builder.set_verify(SslVerifyMode::NONE);
            demand_for_private(builder);
            builder.set_client_hello_callback(|ssl, _| {
                use foreign_types::ForeignTypeRef;
                let id = b"application";
                #[expect(unsafe_code, reason = "as above")]
                // SAFETY: OpenSSL copies the bytes into the live SSL.
                let set = unsafe { SSL_set_session_id_context(ssl.as_ptr(), id.as_ptr(), 11) };
                assert_eq!(set, 1);
                Ok(ClientHelloResponse::SUCCESS)
            });
        });
        for kind in Kind::ALL {
            attack(mode, kind, || Ssl::new(&context).unwrap());
        }
    }
}

/// The context that the `Ssl` was made for has no policy, and OpenSSL keeps calling that one's.
#[test]
fn of_an_ssl_that_was_made_for_a_context_without_a_policy() {
    let bare: SslContext = {
        let mut builder = acceptor();
        builder.set_session_id_context(b"bare").unwrap();
        demand_for_private(&mut builder);
        builder.build().into_context()
    };
    let (ca, _) = ca_and_client();
    for (mode, policy) in modes() {
        let context = context_with(&policy, |builder| {
            demand_certificates(builder, &ca);
            builder.set_verify(SslVerifyMode::NONE);
        });
        for kind in Kind::ALL {
            attack(mode, kind, || {
                let mut ssl = Ssl::new(&bare).unwrap();
                ssl.set_ssl_context(&context).unwrap();
                ssl
            });
        }
    }
}
