//! What a connection tells of the full handshake that its session descends from.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime};

use openssl::hash::MessageDigest;
use openssl::ssl::{NameType, Ssl, SslContext, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::extension::BasicConstraints;
use openssl_resumption::{Lineage, Resumption, SslRefExt};

use crate::common::*;

/// What the server knew of a connection, and the session that the client was given last.
struct Known {
    resumed: bool,
    lineage: Option<Lineage>,
    next: Option<Vec<u8>>,
}

impl Known {
    #[track_caller]
    fn lineage(&self) -> &Lineage {
        self.lineage.as_ref().expect("a lineage")
    }
}

#[track_caller]
fn connect(context: &SslContext, client: &Client, session: Option<&[u8]>) -> Known {
    let (near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    assert!(ssl.lineage().is_none(), "before its handshake");
    let server = thread::spawn(move || {
        let mut stream = ssl.accept(far).unwrap();
        let _ = stream.write_all(b"hello");
        let _ = stream.shutdown();
        stream.ssl().lineage()
    });
    let seen = client
        .finish(client.connect(near, session).unwrap())
        .unwrap();
    Known {
        resumed: seen.resumed,
        lineage: server.join().unwrap(),
        next: seen.sessions.last().cloned(),
    }
}

/// Three connections, each with the session of the one before.
#[track_caller]
fn three(context: &SslContext, client: &Client, what: &str) -> [Known; 3] {
    let first = connect(context, client, None);
    let second = connect(context, client, first.next.as_deref());
    // A TLS 1.2 client goes on with the session that it has.
    let next = second.next.as_deref().or(first.next.as_deref());
    let third = connect(context, client, next);
    let resumed = [&first, &second, &third].map(|known| known.resumed);
    assert_eq!(resumed, [false, true, true], "{what}");
    [first, second, third]
}

#[test]
fn all_resumptions_of_a_full_handshake_have_its_lineage_and_no_other_has() {
    for (what, policy, kind) in resuming_clients() {
        let context = context(&policy);
        let client = Client::new(kind).unwrap();
        let before = SystemTime::now() - Duration::from_secs(1);
        let all = three(&context, &client, &what);
        let first = all[0].lineage();
        assert!(first.full_handshake_at() > before, "{what}");
        assert!(first.full_handshake_at() <= SystemTime::now(), "{what}");
        for known in &all[1..] {
            assert_eq!(known.lineage().id(), first.id(), "{what}");
            let at = known.lineage().full_handshake_at();
            assert_eq!(at, first.full_handshake_at(), "{what}");
        }
        let another = connect(&context, &client, None);
        assert_ne!(another.lineage().id(), first.id(), "{what}");
    }
}

/// As an FTPS server does: a data connection is that client's which has the control connection.
#[test]
fn a_data_connection_descends_from_its_control_connection_or_is_refused() {
    for (what, policy, kind) in resuming_clients() {
        let context = context(&policy);
        let client = Client::new(kind).unwrap();
        let control = connect(&context, &client, None);
        let data = connect(&context, &client, control.next.as_deref());
        let is_of_control =
            |data: &Known| data.resumed && data.lineage().id() == control.lineage().id();
        assert!(is_of_control(&data), "{what}");

        let stranger = connect(&context, &client, None);
        let theirs = connect(&context, &client, stranger.next.as_deref());
        assert!(theirs.resumed && !is_of_control(&theirs), "{what}");
        assert!(!is_of_control(&connect(&context, &client, None)), "{what}");
    }
}

#[test]
fn a_full_handshake_has_a_lineage_where_nothing_is_kept() {
    for kind in Kind::ALL {
        let context = context(&Resumption::off());
        let client = Client::new(kind).unwrap();
        let known = connect(&context, &client, None);
        assert_ne!(known.lineage().id(), &[0; 16], "{kind:?}");
        assert_eq!(known.lineage().session_data(), None);
        assert!(known.lineage().client_chain().is_none());
    }
    let bare = acceptor().build().into_context();
    let known = connect(&bare, &Client::new(Kind::Tls13).unwrap(), None);
    assert!(known.lineage.is_none(), "a context without a policy");
}

#[test]
fn data_of_the_application_comes_back_with_each_resumption() {
    for (what, policy, kind) in resuming_clients() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let policy = policy.session_data(move |ssl| {
            count.fetch_add(1, Relaxed);
            let name = ssl.servername(NameType::HOST_NAME).unwrap_or_default();
            let name = format!("{name} {}", count.load(Relaxed));
            Some(name.into_bytes())
        });
        let context = context(&policy);
        let client = Client::new(kind).unwrap().server_name("a.example");
        for known in three(&context, &client, &what) {
            let data = known.lineage().session_data();
            assert_eq!(data, Some(&b"a.example 1"[..]), "{what}");
        }
        assert_eq!(asked.load(Relaxed), 1, "{what}");
    }
}

#[test]
fn too_much_data_and_a_hook_that_panics_are_no_data_and_are_counted() {
    let hooks: [fn() -> Option<Vec<u8>>; 5] = [
        || Some(vec![7; 1_025]),
        || panic!("no data"),
        || None,
        || Some(Vec::new()),
        || Some(vec![7; 1_024]),
    ];
    for (number, hook) in hooks.into_iter().enumerate() {
        for (what, policy, kind) in resuming_clients() {
            let policy = policy.session_data(move |_| hook());
            let context = context(&policy);
            let client = Client::new(kind).unwrap();
            let before = policy.stats().certificates.data_failures;
            let all = three(&context, &client, &what);
            let expected = (number == 4).then_some(&[7; 1_024][..]);
            for known in all {
                let data = known.lineage().session_data();
                assert_eq!(data, expected, "{what} {number}");
            }
            let failures = u64::from(number < 2);
            let counted = policy.stats().certificates.data_failures;
            assert_eq!(counted - before, failures, "{what} {number}");
        }
    }
}

fn der(chain: Option<&[X509]>) -> Option<Vec<Vec<u8>>> {
    chain.map(|chain| chain.iter().map(|one| one.to_der().unwrap()).collect())
}

#[test]
fn a_resumed_connection_knows_the_clients_verified_chain() {
    let root = mint("root", None).unwrap();
    let middle = intermediate("middle", &root);
    let me = mint("me", Some(&middle)).unwrap();
    for (what, policy, kind) in resuming_clients() {
        let context = demanding(&policy, &[&root]);
        // A certificate that has nothing to do with it is not part of the chain, nor is the CA's own.
        let stray = mint("stray", None).unwrap();
        let short = [&me, &middle];
        let sent: [(&[&Identity], &[&Identity]); 3] = [
            (&[&middle], &short),
            (&[&stray, &middle], &short),
            (&[&middle, &root], &short),
        ];
        for (sent, expected) in sent {
            let client = client_with(kind, &me, sent);
            let expected: Vec<_> = expected
                .iter()
                .map(|one| one.cert.to_der().unwrap())
                .collect();
            for known in three(&context, &client, &what) {
                let chain = der(known.lineage().client_chain());
                assert_eq!(chain.as_ref(), Some(&expected), "{what}");
            }
        }
        let client = Client::new(kind).unwrap();
        let asking = context_with(&policy, |builder| {
            demand_certificates(builder, &root);
            builder.set_verify(SslVerifyMode::PEER);
        });
        for known in three(&asking, &client, &what) {
            assert!(known.lineage().client_chain().is_none(), "{what}");
        }
    }
}

/// A CA that another has signed.
fn intermediate(name: &str, issuer: &Identity) -> Identity {
    let mut identity = mint(name, Some(issuer)).unwrap();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    let plain = &identity.cert;
    cert.set_serial_number(plain.serial_number()).unwrap();
    cert.set_not_before(plain.not_before()).unwrap();
    cert.set_not_after(plain.not_after()).unwrap();
    cert.set_subject_name(plain.subject_name()).unwrap();
    cert.set_issuer_name(plain.issuer_name()).unwrap();
    cert.set_pubkey(&identity.key).unwrap();
    let ca = BasicConstraints::new().critical().ca().build().unwrap();
    cert.append_extension(ca).unwrap();
    cert.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    identity.cert = cert.build();
    identity
}

/// A client that sends these beside its own certificate.
fn client_with(kind: Kind, me: &Identity, sent: &[&Identity]) -> Client {
    Client::with(kind, |context| {
        context.set_certificate(&me.cert)?;
        for one in sent {
            context.add_extra_chain_cert(one.cert.clone())?;
        }
        context.set_private_key(&me.key)
    })
    .unwrap()
}
