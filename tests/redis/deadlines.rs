//! How long a store takes at most that cannot be reached, or does not answer.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use openssl_resumption::{
    HelloId, MemoryStore, RedisStore, ReplayRegister, Resumption, Session, SessionKey,
    SessionStore, StoreError,
};
use parking_lot::Mutex;

use crate::common::{Client, Kind, context, meet};
use crate::load::on_time;
use crate::proxy::{DRIPS, FORWARDS, Proxy};
use crate::server::{Redis, free_port};
use crate::{DEADLINE, SECRET};

/// A store whose lookups are measured.
struct Measured {
    inner: RedisStore,
    lookups: Mutex<Vec<Duration>>,
}

impl SessionStore for Measured {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.inner.put(key, session)
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        let begun = Instant::now();
        let found = self.inner.get(key);
        self.lookups.lock().push(begun.elapsed());
        found
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.inner.remove(key)
    }
}

/// Full handshakes all, with lookups that take the deadline at most. No breaker spares them anything. How late this
/// machine makes a sleep at the same time comes on top, and another deadline, because it may be as late
/// with something else; without the bounds it is seconds.
#[track_caller]
fn assert_bounded(name: &str, url: &str, before: impl FnOnce(&dyn Fn())) {
    let inner = RedisStore::connect(url).unwrap().plaintext();
    let lookups = Mutex::default();
    let store = Arc::new(Measured { inner, lookups });
    let slow = context(&Resumption::stateful(Arc::clone(&store)));
    let client = Client::new(Kind::Tls13).unwrap();
    let elsewhere = context(&Resumption::stateful(MemoryStore::default()));
    let session = meet(&elsewhere, &client, None);
    let come = || {
        let met = meet(&slow, &client, session.next());
        assert!(!met.client.resumed);
    };
    before(&come);
    store.lookups.lock().clear();
    let mut late = Duration::ZERO;
    for _ in 0..20 {
        come();
        let begun = Instant::now();
        thread::sleep(DEADLINE);
        late = late.max(begun.elapsed() - DEADLINE);
    }
    let mut lookups = store.lookups.lock();
    lookups.sort();
    let [median, worst] = [lookups[10], lookups[19]];
    println!("{name}: lookups {median:?}, worst {worst:?}; a sleep was late by {late:?}");
    assert!(worst <= 2 * DEADLINE + late);
}

#[test]
fn lookups_end_in_time_when_nobody_listens() {
    on_time(|| {
        let url = format!("redis://127.0.0.1:{}", free_port());
        assert_bounded("nobody", &url, |_| ());
    });
}

#[test]
fn lookups_end_in_time_when_somebody_listens_and_never_answers() {
    on_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || listener.incoming().collect::<Vec<_>>());
        for scheme in ["redis", "rediss"] {
            let url = format!("{scheme}://127.0.0.1:{port}");
            assert_bounded(&format!("silent {scheme}"), &url, |_| ());
        }
    });
}

#[test]
fn lookups_end_in_time_when_a_host_has_no_address() {
    on_time(|| {
        assert_bounded("no address", "redis://nowhere.invalid", |_| ());
    });
}

/// Connections are there, and die in lookups one by one.
#[test]
fn lookups_end_in_time_when_redis_stops_answering() {
    on_time(|| {
        let redis = Redis::start("lookups");
        assert_bounded("stopped", &redis.url(), |come| {
            thread::sleep(Duration::from_millis(500));
            (0..5).for_each(|_| come());
            redis.signal("STOP");
        });
    });
}

/// Each byte comes in time, and the answer does not.
#[test]
fn lookups_end_in_time_when_answers_drip() {
    on_time(|| {
        let redis = Redis::start("drip");
        let proxy = Proxy::start(redis.port, FORWARDS);
        let url = format!("redis://127.0.0.1:{}", proxy.port);
        assert_bounded("dripping", &url, |come| {
            thread::sleep(Duration::from_millis(500));
            (0..5).for_each(|_| come());
            proxy.set(DRIPS);
        });
    });
}

/// Times are added to this one.
#[test]
fn a_deadline_may_be_as_long_as_there_is() {
    let redis = Redis::start("deadline-max");
    let options = RedisStore::connect(&redis.url()).unwrap();
    let options = options.deadline(Duration::MAX);
    let options = options.connect_deadline(Duration::MAX);
    let store = options.clone().for_servers([SECRET]).unwrap();
    assert!(store.get(&SessionKey::from([1; 32])).unwrap().is_none());
    let register = options.replay_register();
    let hello = HelloId::from([1; 32]);
    register.register(&hello, Duration::from_secs(60)).unwrap();
}
