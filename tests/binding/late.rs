//! Demands that a server name callback makes when it is too late to decline a session.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use openssl::ssl::{Ssl, SslStream, SslVerifyMode};
use openssl_resumption::{Handshake::Full, SslRefExt};

use crate::cas::old_new_and_me;
use crate::common::*;
use crate::matrix::{Change, Servers, Style};
use crate::switch::Switch;

/// The server name callback changes the CAs, or asks for a certificate without insisting: what it
/// demands is more than the session was made under, and it is too late to decline.
#[test]
fn another_demand_in_the_server_name_callback_is_failed_once_and_full_from_then_on() {
    let (old, new, me) = old_new_and_me();
    // A client that may be asked later is asked for nothing before.
    for (earlier, later) in [(DEMAND, DEMAND), (SslVerifyMode::NONE, SslVerifyMode::PEER)] {
        for (what, policy, kind) in resuming_clients() {
            let what = format!("{what} {later:?}");
            let before = demanding(&policy, &[&old]);
            let after = demanding(&policy, &[&old, &new]);
            let armed = Switch::default();
            let switched = armed.clone();
            let context = context_with(&policy, |builder| {
                builder.set_servername_callback(move |ssl, _| {
                    let (context, demand) = if switched.is_on() {
                        (&after, later)
                    } else {
                        (&before, earlier)
                    };
                    ssl.set_ssl_context(context).unwrap();
                    ssl.set_verify(demand);
                    Ok(())
                });
            });
            let client = client_as(kind, &me);
            let [first, second] = meet_twice(&context, &client);
            assert!(second.client.resumed, "{what}");

            armed.turn_on();
            let failed = policy.stats().failed_closed;
            let (_, refused) = try_meet(&context, &client, first.next());
            assert!(refused.is_some(), "{what}");
            assert_eq!(policy.stats().failed_closed, failed + 1, "{what}");
            let full = meet(&context, &client, first.next());
            assert!(matches!(full.agreed(), Full(_)), "{what}");
            assert!(full.authenticated, "{what}");
            let resumed = meet(&context, &client, full.next());
            assert!(resumed.client.resumed, "{what}");
        }
    }
}

/// The same name at another listener may be open to all: what was demanded too late at one is
/// nothing to the other.
#[test]
fn a_demand_that_came_too_late_is_remembered_where_it_was_made() {
    let ca = mint("clients", None).unwrap();
    for (what, policy, kind) in resuming_clients() {
        let public = context(&policy);
        let admin = Servers::new(Style::ServerName, Change::Same, &policy, &ca);
        admin.armed.turn_on();
        let client = Client::new(kind).unwrap().server_name("b.example");
        let met = meet(&public, &client, None);
        let before = policy.stats().failed_closed;
        let (_, refused) = try_meet(&admin.b, &client, met.next());
        assert!(refused.is_some(), "{what}");
        // Once for the policy, whose other contexts know it from then on and need not fail the connection.
        let first = u64::from(kind == Kind::Tls12);
        assert_eq!(policy.stats().failed_closed, before + first, "{what}");
        let resumed = meet(&public, &client, met.next());
        assert!(resumed.client.resumed, "{what}");
    }
}

/// After the handshake has been failed nothing is written or read either, however often it is
/// tried.
#[test]
fn a_connection_that_is_failed_passes_no_data() {
    let ca = mint("clients", None).unwrap();
    for (what, policy, kind) in resuming_clients() {
        let servers = Servers::new(Style::ServerName, Change::Same, &policy, &ca);
        let client = Client::new(kind).unwrap().server_name("b.example");
        let before = policy.stats();
        let met = meet(servers.a(), &client, None);
        servers.armed.turn_on();
        let (near, far) = UnixStream::pair().unwrap();
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
        assert_eq!(got, b"", "{what}");
        let stats = policy.stats();
        assert_eq!(stats.failed_closed, before.failed_closed + 1, "{what}");
        let (full, resumed) = handshakes(&before);
        assert_eq!(handshakes(&stats), (full + 1, resumed), "{what}");
    }
}
