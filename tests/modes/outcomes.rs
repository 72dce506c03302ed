//! The hook of `on_outcome` hears of each completed handshake once, as the statistics count them.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::*;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVersion};
use openssl_resumption::{
    MemoryStore, Outcome, Reason, Resumption, Source, SslContextBuilderExt, SslRefExt, Stats,
};
use parking_lot::Mutex;

/// The policy with a hook, and what the hook has heard.
fn heard_by(policy: Resumption) -> (Resumption, Arc<Mutex<Vec<Outcome>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    (policy.on_outcome(move |o| hears.lock().push(*o)), heard)
}

#[track_caller]
fn assert_same(heard: &[Outcome], stats: &Stats) {
    let count = |is: &dyn Fn(&Outcome) -> bool| heard.iter().filter(|o| is(o)).count() as u64;
    for reason in Reason::ALL {
        let told = count(&|o| o.reason() == Some(*reason));
        assert_eq!(told, stats.full(*reason), "{reason}");
    }
    for source in Source::ALL {
        let told = count(&|o| o.source() == Some(*source));
        assert_eq!(told, stats.resumed(*source), "{source}");
    }
    for (version, counted) in [
        (SslVersion::TLS1_3, stats.tls13),
        (SslVersion::TLS1_2, stats.tls12),
    ] {
        let told = |resumed| count(&|o| o.version == version && o.is_resumed() == resumed);
        let counted = (counted.full, counted.resumed);
        assert_eq!((told(false), told(true)), counted, "{version:?}");
    }
}

#[test]
fn each_handshake_is_told_once_with_the_outcome_of_its_connection() {
    for (mode, policy) in modes() {
        let (policy, heard) = heard_by(policy);
        let context = context(&policy);
        let mut outcomes = Vec::new();
        for kind in Kind::ALL {
            let client = Client::new(kind).unwrap();
            let [first, second] = meet_twice(&context, &client);
            policy.forget_all();
            let third = meet(&context, &client, second.next().or_else(|| first.next()));
            outcomes.extend([first, second, third].map(|met| {
                met.agreed();
                met.outcome.unwrap()
            }));
        }
        assert_eq!(*heard.lock(), outcomes, "{mode}");
        assert_same(&outcomes, &policy.stats());
    }
}

#[test]
fn a_handshake_that_fails_is_neither_told_nor_counted() {
    let (policy, heard) = heard_by(Resumption::off());
    let context = context_with(&policy, |builder| builder.set_verify(DEMAND));
    for kind in [Kind::Tls12, Kind::Tls13] {
        let (_, server) = try_meet(&context, &Client::new(kind).unwrap(), None);
        server.expect("no certificate, no connection");
    }
    assert_eq!(heard.lock().len(), 0);
    assert_eq!(handshakes(&policy.stats()), (0, 0));
}

/// Calls back into the policy, which holds no lock meanwhile.
#[test]
fn a_hook_may_use_the_policy() {
    for (mode, policy) in resuming() {
        let inner = policy.clone();
        let counted = Arc::new(Mutex::new(Vec::new()));
        let counts = Arc::clone(&counted);
        let policy = policy.on_outcome(move |_| {
            counts.lock().push(handshakes(&inner.stats()));
            inner.forget_all();
        });
        let context = context(&policy);
        meet_twice(&context, &Client::new(Kind::Tls13).unwrap());
        assert_eq!(*counted.lock(), [(1, 0), (2, 0)], "{mode}");
    }
}

#[test]
fn the_hook_is_that_of_the_policy_as_applied() {
    let (policy, heard) = heard_by(Resumption::off());
    let (other, others) = heard_by(policy.clone());
    let client = Client::new(Kind::Tls13).unwrap();
    meet(&context(&policy), &client, None);
    meet(&context(&other), &client, None);
    meet(&context(&other), &client, None);
    assert_eq!((heard.lock().len(), others.lock().len()), (1, 2));
    assert_eq!(handshakes(&policy.stats()), (3, 0), "they count together");
}

/// A stream of datagrams, which is what DTLS runs over.
#[derive(Debug)]
struct Datagrams(UnixDatagram);

impl Read for Datagrams {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf)
    }
}

impl Write for Datagrams {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.send(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn dtls_is_called_by_its_name() {
    let policy = Resumption::stateful(MemoryStore::default());
    let mut server = SslContextBuilder::new(SslMethod::dtls_server()).unwrap();
    server.set_certificate(&identity().cert).unwrap();
    server.set_private_key(&identity().key).unwrap();
    server.set_resumption(&policy).unwrap();
    let server = server.build();
    let client = SslContext::builder(SslMethod::dtls_client())
        .unwrap()
        .build();
    let (near, far) = UnixDatagram::pair().unwrap();
    let [near, far] = [near, far].map(|end| {
        end.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Datagrams(end)
    });
    let ssl = |context: &SslContext| {
        let mut ssl = Ssl::new(context).unwrap();
        ssl.set_mtu(1_400).unwrap();
        ssl
    };
    let accepting = ssl(&server);
    let server = thread::spawn(move || accepting.accept(far).unwrap().ssl().resumption().unwrap());
    let _client = ssl(&client).connect(near).unwrap();
    let outcome = server.join().unwrap();
    assert_eq!(outcome.to_string(), "DTLSv1.2 full: nothing offered");
    assert_eq!(outcome.version_str(), "DTLSv1.2");
    let older = policy.stats().older;
    assert_eq!((older.full, older.resumed), (1, 0));
}
