//! A server in an OpenSSL library context of its own, with nothing loaded in the default one.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use crate::common::child::in_child;
use crate::common::process::run;
use foreign_types::ForeignType;
use openssl::lib_ctx::LibCtx;
use openssl::provider::Provider;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslSession, SslSessionCacheMode,
    SslVersion,
};
use openssl_resumption::{
    Error, KeyError, KeySet, KeySource, MemoryStore, Resumption, Sealed, Session, SessionKey,
    SessionStore, SslContextBuilderExt, TicketKey, TicketKeys,
};
use parking_lot::Mutex;

#[expect(
    unsafe_code,
    reason = "the `openssl` crate does not have this function"
)]
unsafe extern "C" {
    fn SSL_CTX_new_ex(
        library: *mut openssl_sys::OSSL_LIB_CTX,
        properties: *const std::ffi::c_char,
        method: *const openssl_sys::SSL_METHOD,
    ) -> *mut openssl_sys::SSL_CTX;
}

fn builder(library: &LibCtx, method: SslMethod) -> SslContextBuilder {
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: the library context outlives its contexts.
    let context = unsafe { SSL_CTX_new_ex(library.as_ptr(), std::ptr::null(), method.as_ptr()) };
    assert!(!context.is_null());
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: OpenSSL has just handed over the only reference to it.
    unsafe {
        SslContextBuilder::from_ptr(context)
    }
}

/// A server whose certificate and key are of its library context, as those from files are.
fn server(library: &LibCtx) -> SslContextBuilder {
    let scratch = std::env::temp_dir().join(format!("library-context-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| scratch.join(name));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-nodes", "-subj", "/CN=server.example"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-out".as_ref(), cert.as_os_str()])
        .args(["-keyout".as_ref(), key.as_os_str()]);
    let made = run(&mut make, b"");
    assert!(made.status.success());
    let mut server = builder(library, SslMethod::tls_server());
    server
        .set_certificate_file(&cert, SslFiletype::PEM)
        .unwrap();
    server.set_private_key_file(&key, SslFiletype::PEM).unwrap();
    std::fs::remove_dir_all(&scratch).unwrap();
    server
}

/// Two connections, of which the second offers the session of the first; whether it resumed.
fn resumes(server: &SslContext, library: &LibCtx, version: SslVersion) -> bool {
    let got = Arc::new(Mutex::new(None::<SslSession>));
    let gets = Arc::clone(&got);
    let mut client = builder(library, SslMethod::tls_client());
    client.set_min_proto_version(Some(version)).unwrap();
    client.set_max_proto_version(Some(version)).unwrap();
    client.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
    client.set_new_session_callback(move |_, session| *gets.lock() = Some(session));
    let client = client.build();
    let meet = || {
        let (near, far) = UnixStream::pair().unwrap();
        let ssl = Ssl::new(server).unwrap();
        let server = thread::spawn(move || ssl.accept(far).unwrap().shutdown().unwrap());
        let mut ssl = Ssl::new(&client).unwrap();
        if let Some(session) = got.lock().take() {
            #[expect(unsafe_code, reason = "the session is of this client")]
            // SAFETY: it comes from a connection of the same context.
            unsafe { ssl.set_session(&session) }.unwrap();
        }
        let mut stream = ssl.connect(near).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        let _ = stream.shutdown();
        server.join().unwrap();
        stream.ssl().session_reused()
    };
    assert!(!meet());
    meet()
}

struct Constant;
impl KeySource for Constant {
    fn load(&self, now: std::time::SystemTime) -> Result<KeySet, KeyError> {
        Ok(KeySet::new(
            TicketKey::new([1; 16], &[2; 32], &[3; 32]),
            now,
        ))
    }
}

#[test]
fn stateful_mode_needs_no_ticket_cipher_and_the_others_say_so() {
    in_child(
        "stateful_mode_needs_no_ticket_cipher_and_the_others_say_so",
        || {
            let _null = Provider::load(None, "null").unwrap();
            let library = LibCtx::new().unwrap();
            let _default = Provider::load(Some(&library), "default").unwrap();

            for keys in [TicketKeys::from_source(Constant), TicketKeys::random()] {
                let stateless = Resumption::stateless(keys.clone());
                let hybrid = Resumption::hybrid(MemoryStore::default(), keys);
                for policy in [stateless, hybrid] {
                    let refused = server(&library).set_resumption(&policy).unwrap_err();
                    let lacks = match &refused {
                        Error::OpenSsl(_) => "AES-256-CBC",
                        _ => "random",
                    };
                    assert!(refused.to_string().contains(lacks), "{refused}");
                }
            }

            let sealed = Sealed::new(MemoryStore::default(), [[4; 32]]).unwrap();
            let session = Session::from_bytes(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 9]).unwrap();
            let refused = sealed.put(&SessionKey::from([5; 32]), session).unwrap_err();
            assert!(refused.to_string().contains("random"), "{refused}");

            for policy in [
                Resumption::stateful(MemoryStore::default()),
                Resumption::off(),
            ] {
                let mut server = server(&library);
                server.set_resumption(&policy).unwrap();
                let server = server.build();
                for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
                    let on = policy.stats().store.puts > 0;
                    let resumed = resumes(&server, &library, version);
                    let on = on || policy.stats().store.puts > 0;
                    assert_eq!(resumed, on, "{version:?} {policy:?}");
                }
            }
        },
    );
}
