//! Handshakes through stores over stores.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use openssl::ssl::SslSession;
use openssl_resumption::{
    CircuitBreaker,
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, Sealed, Session, SessionKey, SessionStore, Source, StoreError,
    Tiered,
};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

/// What hosts share: a store that may be down, and that keeps every record it was given.
#[derive(Default)]
struct Shared {
    memory: MemoryStore,
    down: AtomicBool,
    records: Mutex<Vec<(SessionKey, Session)>>,
}

impl Shared {
    fn up(&self) -> Result<&MemoryStore, StoreError> {
        match self.down.load(SeqCst) {
            true => Err(StoreError::new("down")),
            false => Ok(&self.memory),
        }
    }
}

impl SessionStore for Shared {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.records.lock().unwrap().push((*key, session.clone()));
        self.up()?.put(key, session)
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.up()?.get(key)
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.up()?.remove(key)
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.up()?.take(key)
    }

    fn takes_once(&self) -> bool {
        true
    }
}

/// On a busy machine anything may take 50 ms.
fn breaker<S: SessionStore>(inner: S) -> CircuitBreaker<S> {
    CircuitBreaker::new(inner).deadline(Duration::MAX)
}

fn tiered<S: SessionStore>(inner: S) -> Tiered<MemoryStore, S> {
    Tiered::new(MemoryStore::default(), inner)
}

fn sealed<S: SessionStore>(inner: S) -> Sealed<S> {
    Sealed::new(inner, [NEW]).unwrap()
}

type Decorate = fn(Arc<Shared>) -> Resumption;

/// Each alone, and all of them: policies of a host.
const HOSTS: [(&str, Decorate); 4] = [
    ("sealed", |shared| Resumption::stateful(sealed(shared))),
    ("breaker", |shared| Resumption::stateful(breaker(shared))),
    ("tiered", |shared| Resumption::stateful(tiered(shared))),
    ("all", |shared| {
        Resumption::stateful(tiered(sealed(breaker(shared))))
    }),
];

#[test]
fn sessions_resume_on_the_host_that_made_them_and_on_others() {
    for (name, host) in HOSTS {
        let shared = Arc::default();
        let policies = [(); 2].map(|()| host(Arc::clone(&shared)));
        let [here, there] = policies.each_ref().map(context);
        for kind in Kind::ALL {
            let client = Client::new(kind).unwrap();
            let first = meet(&here, &client, None);
            assert_eq!(first.agreed(), Full(Reason::NothingOffered), "{name}");
            for host in [&here, &there, &there, &here] {
                let met = meet(host, &client, first.next());
                assert_eq!(met.agreed(), Resumed(Source::Store), "{name} {kind:?}");
            }
        }
        for policy in policies {
            let store = policy.stats().store;
            assert_eq!(
                (store.hits, store.errors, store.misses),
                (6, 0, 0),
                "{name}"
            );
        }
    }
}

#[test]
fn a_single_use_session_resumes_once_on_all_hosts_together() {
    for (name, host) in HOSTS {
        let shared = Arc::default();
        let [here, there] = [(); 2]
            .map(|()| host(Arc::clone(&shared)).single_use(true))
            .each_ref()
            .map(context);
        let client = Client::new(Kind::Tls13).unwrap();
        for [first, second] in [[&here, &here], [&here, &there], [&there, &here]] {
            let made = meet(&here, &client, None);
            let met = meet(first, &client, made.next());
            assert_eq!(met.agreed(), Resumed(Source::Store), "{name}");
            let met = meet(second, &client, made.next());
            assert_eq!(met.agreed(), Full(Reason::NotFound), "{name}");
        }
        let client = Client::new(Kind::Tls12).unwrap();
        let made = meet(&here, &client, None);
        for host in [&here, &there] {
            let met = meet(host, &client, made.next());
            assert_eq!(met.agreed(), Resumed(Source::Store), "{name}, TLS 1.2");
        }
    }
}

#[test]
fn of_many_clients_that_offer_a_single_use_session_at_once_one_resumes() {
    for (name, host) in HOSTS {
        let shared = Arc::default();
        let hosts = [(); 2]
            .map(|()| host(Arc::clone(&shared)).single_use(true))
            .each_ref()
            .map(context);
        let client = Client::new(Kind::Tls13).unwrap();
        for _ in 0..5 {
            let made = meet(&hosts[0], &client, None);
            let resumed: usize = thread::scope(|scope| {
                let offers: Vec<_> = (0..6)
                    .map(|i| &hosts[i % 2])
                    .map(|host| {
                        let (client, session) = (Client::new(Kind::Tls13).unwrap(), made.next());
                        scope.spawn(move || usize::from(meet(host, &client, session).server_reused))
                    })
                    .collect();
                offers.into_iter().map(|offer| offer.join().unwrap()).sum()
            });
            assert_eq!(resumed, 1, "{name}");
        }
    }
}

#[test]
fn single_use_needs_a_shared_store_that_takes() {
    use openssl_resumption::SslContextBuilderExt;

    struct Untaken(MemoryStore);
    impl SessionStore for Untaken {
        fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
            self.0.put(key, session)
        }
        fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
            self.0.get(key)
        }
        fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
            self.0.remove(key)
        }
    }
    let all = tiered(sealed(breaker(Untaken(MemoryStore::default()))));
    let policy = Resumption::stateful(all).single_use(true);
    assert!(acceptor().set_resumption(&policy).is_err());
}

#[test]
fn a_sealed_store_shows_no_secret_of_a_session() {
    let shared = Arc::new(Shared::default());
    let context = context(&Resumption::stateful(sealed(Arc::clone(&shared))));
    for kind in Kind::ALL {
        let client = Client::new(kind).unwrap();
        let made = meet(&context, &client, None);
        let session = SslSession::from_der(made.next().unwrap()).unwrap();
        let mut secret = vec![0; session.master_key_len()];
        session.master_key(&mut secret);
        let record = shared.records.lock().unwrap().pop().unwrap().1;
        let record = record.as_bytes();
        for part in secret.windows(6).chain(session.id().windows(6)) {
            assert!(
                !record.windows(part.len()).any(|window| window == part),
                "{kind:?}"
            );
        }
    }
}

#[test]
fn what_another_secret_sealed_is_a_full_handshake_and_an_error() {
    let shared = Arc::new(Shared::default());
    let with = |secrets: &[[u8; 32]]| {
        Resumption::stateful(Sealed::new(Arc::clone(&shared), secrets).unwrap())
    };
    for kind in Kind::ALL {
        let client = Client::new(kind).unwrap();
        let made = meet(&context(&with(&[OLD])), &client, None);
        let rolling = with(&[NEW, OLD]);
        let met = meet(&context(&rolling), &client, made.next());
        assert_eq!(met.agreed(), Resumed(Source::Store));

        let after = with(&[NEW]);
        let context = context(&after);
        let met = meet(&context, &client, made.next());
        assert_eq!(met.agreed(), Full(Reason::StoreFailed), "{kind:?}");
        let met = meet(&context, &client, met.next());
        assert_eq!(met.agreed(), Resumed(Source::Store), "{kind:?}");
        let store = after.stats().store;
        assert_eq!((store.errors, store.misses, store.hits), (1, 0, 1));
    }
}

/// Whoever writes to a shared store and has a session of their own.
#[test]
fn a_record_under_the_key_of_another_session_does_not_resume() {
    let shared = Arc::new(Shared::default());
    let policy = Resumption::stateful(sealed(Arc::clone(&shared)));
    let context = context(&policy);
    for kind in Kind::ALL {
        let clients = [(); 2].map(|()| Client::new(kind).unwrap());
        let made = clients
            .each_ref()
            .map(|client| meet(&context, client, None));
        let records: Vec<_> = shared.records.lock().unwrap().drain(..).collect();
        let [(of_one, _), (_, of_other)] = records.try_into().unwrap();
        shared.memory.put(&of_one, of_other).unwrap();
        let met = meet(&context, &clients[0], made[0].next());
        assert_eq!(met.agreed(), Full(Reason::StoreFailed), "{kind:?}");
        let met = meet(&context, &clients[1], made[1].next());
        assert_eq!(met.agreed(), Resumed(Source::Store), "{kind:?}");
        shared.records.lock().unwrap().clear();
    }
}

/// Connects once, then twenty times with the session of that, and asserts that the store,
/// which went bad meanwhile, was asked no oftener than a breaker that opens after two failures, of
/// puts and of lookups each, lets through: a test must not depend on how long handshakes take.
#[track_caller]
fn assert_spared(policy: &Resumption, go_bad: impl FnOnce()) {
    let context = context(policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let made = meet(&context, &client, None);
    let start = Instant::now();
    go_bad();
    for _ in 0..20 {
        meet(&context, &client, made.next()).agreed();
    }
    // Every handshake puts a session, and all but the first look for one.
    let asked = 21 + 20 - policy.stats().store.usage.unwrap().refused;
    let probes = start.elapsed().as_secs();
    assert!(
        asked <= 1 + 2 * (2 + probes),
        "asked {asked} times, {probes} probes"
    );
}

#[test]
fn a_store_that_is_down_is_spared() {
    let shared = Arc::new(Shared::default());
    let policy = Resumption::stateful(breaker(Arc::clone(&shared)).failures(2));
    assert_spared(&policy, || {
        shared.down.store(true, SeqCst);
    });
    let stats = policy.stats();
    assert_eq!((stats.store.puts, stats.store.hits), (1, 0));
    assert!(
        stats.store.errors >= 20,
        "what is not put is not said to be"
    );
    assert!(
        stats.full(Reason::NotFound) >= 10,
        "what is not asked is not found"
    );
}

#[test]
fn a_slow_store_is_spared() {
    let store = CircuitBreaker::new(MemoryStore::default());
    let policy = Resumption::stateful(store.failures(2).deadline(Duration::ZERO));
    assert_spared(&policy, || ());
    assert!(
        policy.stats().store.hits >= 1,
        "what it answers late is an answer"
    );
}

#[test]
fn a_store_that_panics_is_spared_and_ends_no_connection() {
    struct Panicking;
    impl SessionStore for Panicking {
        fn put(&self, _: &SessionKey, _: Session) -> Result<(), StoreError> {
            panic!("put")
        }
        fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
            panic!("get")
        }
        fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
            panic!("remove")
        }
    }
    let policy = Resumption::stateful(tiered(sealed(breaker(Panicking).failures(2))));
    assert_spared(&policy, || ());
}

#[test]
fn while_the_shared_store_is_down_sessions_in_memory_resume_unless_they_are_single_use() {
    for (single_use, expected) in [
        (false, Resumed(Source::Store)),
        (true, Full(Reason::StoreFailed)),
    ] {
        let shared = Arc::new(Shared::default());
        let all = tiered(sealed(breaker(Arc::clone(&shared))));
        let policy = Resumption::stateful(all).single_use(single_use);
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let made = meet(&context, &client, None);
        shared.down.store(true, SeqCst);
        assert_eq!(meet(&context, &client, made.next()).agreed(), expected);
    }
}

#[test]
fn what_is_forgotten_does_not_resume_from_memory_either() {
    for (name, host) in HOSTS {
        let policy = host(Arc::default());
        let context = context(&policy);
        for kind in Kind::ALL {
            let client = Client::new(kind).unwrap();
            let made = meet(&context, &client, None);
            policy.forget_all();
            let met = meet(&context, &client, made.next());
            assert_eq!(met.agreed(), Full(Reason::Forgotten), "{name} {kind:?}");
        }
    }
}
