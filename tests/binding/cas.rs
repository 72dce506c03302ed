//! Other CAs than those that a session was made under.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use openssl::ssl::{ClientHelloResponse, Ssl, SslContext, SslRef};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use openssl_resumption::{Handshake::Full, Reason, Resumption};

use crate::common::*;
use crate::switch::Switch;

/// Two CAs, and a client's certificate that the first has signed.
pub(crate) fn old_new_and_me() -> (Identity, Identity, Identity) {
    let (old, new) = (mint("old", None).unwrap(), mint("new", None).unwrap());
    let me = mint("me", Some(&old)).unwrap();
    (old, new, me)
}

/// Gives a connection a store of its own, of these CAs.
fn trust(ssl: &mut SslRef, cas: &[&X509]) {
    let mut store = X509StoreBuilder::new().unwrap();
    for ca in cas {
        store.add_cert(X509::clone(ca)).unwrap();
    }
    ssl.set_verify_cert_store(store.build()).unwrap();
}

/// CVE-2025-68121: a session made under one set of CAs is resumed under another.
#[test]
fn another_set_of_cas_is_a_full_handshake() {
    let (old, new, me) = old_new_and_me();
    for (what, policy, kind) in resuming_clients() {
        let server = |cas: &[_]| demanding(&policy, cas);
        let client = client_as(kind, &me);
        let first = meet(&server(&[&old]), &client, None);
        let same = meet(&server(&[&old]), &client, first.next());
        assert!(same.client.resumed, "{what}: the same CAs in a new context");

        let more = meet(&server(&[&old, &new]), &client, first.next());
        assert_eq!(more.agreed(), Full(Reason::OtherBinding), "{what}");
        let both = meet(&server(&[&new, &old]), &client, more.next());
        assert!(both.client.resumed, "{what}: in another order");

        // The CA of the client is gone.
        let (_, refused) = try_meet(&server(&[&new]), &client, first.next());
        assert!(refused.is_some(), "{what}");
    }
}

/// Certificates in a directory, which OpenSSL looks into when it verifies, are not to be compared.
#[test]
fn cas_in_a_directory_are_no_set_to_resume_across_contexts() {
    // Of one name, which the files go by.
    let (old, new) = (mint("ca", None).unwrap(), mint("ca", None).unwrap());
    let me = mint("me", Some(&old)).unwrap();
    let directory = |name: &str, ca: &Identity| {
        let path = format!("openssl-resumption-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(path);
        std::fs::create_dir_all(&path).unwrap();
        let file = path.join(format!("{:08x}.0", ca.cert.subject_name_hash()));
        std::fs::write(file, ca.cert.to_pem().unwrap()).unwrap();
        path
    };
    let directories = [directory("old", &old), directory("new", &new)];
    for (what, policy, kind) in resuming_clients() {
        let server = |policy: &Resumption, path: &Path| {
            context_with(policy, |builder| {
                builder.load_verify_locations(None, Some(path)).unwrap();
                builder.set_verify(DEMAND);
            })
        };
        let client = client_as(kind, &me);
        let [_, second] = meet_twice(&server(&policy, &directories[0]), &client);
        assert!(second.client.resumed, "{what}: in the same context");
        let (_, refused) = try_meet(&server(&policy, &directories[1]), &client, second.next());
        assert!(refused.is_some(), "{what}: past the new CA");

        // Who names the set by a generation may resume it in another context.
        let named = policy.generation("directory of May");
        let first = meet(&server(&named, &directories[0]), &client, None);
        let second = meet(&server(&named, &directories[0]), &client, first.next());
        assert!(second.client.resumed, "{what}: named");
    }
    for path in directories {
        std::fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn generations_end_sessions() {
    for (what, policy, kind) in resuming_clients() {
        let client = Client::new(kind).unwrap();
        let met = meet(&context(&policy), &client, None);
        let next = context(&policy.generation("crl of today"));
        let declined = meet(&next, &client, met.next());
        assert_eq!(declined.agreed(), Full(Reason::OtherBinding), "{what}");
        let resumed = meet(&next, &client, declined.next());
        assert!(resumed.client.resumed, "{what}");
    }
}

/// A callback may give a connection a CA store of its own.
#[test]
fn another_set_of_cas_for_one_connection_is_a_full_handshake() {
    let (old, new, me) = old_new_and_me();
    for (what, policy, kind) in resuming_clients() {
        let cas = [old.cert.clone(), new.cert.clone()];
        let own = Switch::default();
        let switched = own.clone();
        let context = context_with(&policy, |builder| {
            demand_certificates(builder, &old);
            builder.set_client_hello_callback(move |ssl, _| {
                if switched.is_on() {
                    trust(ssl, &cas.each_ref());
                }
                Ok(ClientHelloResponse::SUCCESS)
            });
        });
        let client = client_as(kind, &me);
        let [first, second] = meet_twice(&context, &client);
        assert!(second.client.resumed, "{what}");
        own.turn_on();
        let met = meet(&context, &client, first.next());
        assert_eq!(met.agreed(), Full(Reason::OtherBinding), "{what}");
        let resumed = meet(&context, &client, met.next());
        assert!(resumed.client.resumed, "{what}");
    }
}

/// What was found of the store that the ClientHello callback gave a connection says nothing of the
/// one that the server name callback gives it after that.
#[test]
fn a_connection_that_gets_another_store_on_its_way_is_looked_at_again() {
    let (old, new, me) = old_new_and_me();
    for (what, policy, kind) in resuming_clients() {
        let (first_ca, second_ca) = (old.cert.clone(), new.cert.clone());
        let armed = Switch::default();
        let switched = armed.clone();
        let context = context_with(&policy, |builder| {
            builder.set_client_hello_callback(move |ssl, _| {
                trust(ssl, &[&first_ca]);
                ssl.set_verify(DEMAND);
                Ok(ClientHelloResponse::SUCCESS)
            });
            builder.set_servername_callback(move |ssl, _| {
                if switched.is_on() {
                    trust(ssl, &[&second_ca]);
                }
                Ok(())
            });
        });
        let client = client_as(kind, &me);
        let [met, resumed] = meet_twice(&context, &client);
        assert!(resumed.client.resumed, "{what}");
        armed.turn_on();
        let (_, refused) = try_meet(&context, &client, met.next());
        assert!(refused.is_some(), "{what}: a client of the other CA");
    }
}

/// Stores that come and go may have one address after another; what was found of one is not to be
/// taken for the next.
#[test]
fn a_store_in_the_place_of_another_is_looked_at_anew() {
    let (old, new, me) = old_new_and_me();
    for (what, policy, kind) in resuming_clients() {
        let cas = [old.cert.clone(), new.cert.clone()];
        let revoked = Switch::default();
        let switched = revoked.clone();
        let context = context_with(&policy, |builder| {
            builder.set_client_hello_callback(move |ssl, _| {
                trust(ssl, &[&cas[usize::from(switched.is_on())]]);
                ssl.set_verify(DEMAND);
                Ok(ClientHelloResponse::SUCCESS)
            });
        });
        let client = client_as(kind, &me);
        let first = meet_here(&context, &client, None).expect("the CA is the right one");
        let second = meet_here(&context, &client, Some(&first.1)).unwrap();
        assert!(second.0, "{what}");
        revoked.turn_on();
        for _ in 0..8 {
            let third = meet_here(&context, &client, Some(&second.1));
            assert!(third.is_none(), "{what}: a client of the CA that has gone");
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
    let (near, far) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(move || {
            let stream = client.connect(near, session).ok()?;
            client.finish(stream).ok()
        });
        let served = Ssl::new(context).unwrap().accept(far).map(|mut stream| {
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
