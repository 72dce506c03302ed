//! Threads of a store that is connected are gone with it; `tests/process/guests.rs` has what is true of all threads.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openssl_resumption::{
    HelloId, KeySource, RedisStore, ReplayRegister, Session, SessionKey, SessionStore,
};

use crate::SECRET;
use crate::common::child::in_child;
use crate::server::Redis;

/// How many threads of ours there are.
fn ours() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let is_ours = |name: &String| {
        ["redis\n", "redis-names\n"].contains(&&**name) || name.starts_with("session-")
    };
    names.filter(is_ours).count()
}

#[test]
fn what_is_made_of_the_same_options_has_one_thread_and_its_connections() {
    let name = "guests::what_is_made_of_the_same_options_has_one_thread_and_its_connections";
    in_child(name, || {
        let redis = Redis::start("guests-shared");
        let options = RedisStore::connect(&redis.url()).unwrap();
        let options = options.deadline(Duration::from_secs(2));
        let store = options.clone().plaintext();
        let others = options.clone().prefix("others:").plaintext();
        let keys = options.clone().ticket_keys([SECRET]).unwrap();
        let register = options.replay_register();
        assert_eq!(ours(), 0, "before somebody asks");
        for store in [&store, &others] {
            assert!(store.get(&SessionKey::from([7; 32])).unwrap().is_none());
        }
        keys.load(SystemTime::now()).unwrap();
        let lives = Duration::from_secs(60);
        register.register(&HelloId::from([1; 32]), lives).unwrap();
        assert_eq!(ours(), 1);
        // Two, and that which asks.
        let clients: String = redis.ask("CLIENT LIST");
        assert_eq!(clients.lines().count(), 3, "{clients}");
        drop((store, others, keys));
        register.register(&HelloId::from([2; 32]), lives).unwrap();
        assert_eq!(ours(), 1);
    });
}

#[test]
fn no_thread_is_left_of_a_store_that_was_used() {
    let name = "guests::no_thread_is_left_of_a_store_that_was_used";
    in_child(name, || {
        let redis = Redis::start("guests");
        let hour = SystemTime::now() + Duration::from_secs(3_600);
        let ends = hour.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let session = [&[1], &ends.to_be_bytes()[..], &[7; 40]].concat();
        for _ in 0..10 {
            let store = RedisStore::connect(&redis.url()).unwrap();
            let store = store.deadline(Duration::from_secs(2));
            let store = store.for_servers([SECRET]).unwrap();
            let key = SessionKey::from([7; 32]);
            let put = store.put(&key, Session::from_bytes(&session).unwrap());
            put.unwrap();
            assert_eq!(store.flush(Duration::from_secs(10)), 0);
            assert!(store.get(&key).unwrap().is_some());
            assert!(ours() >= 2);
        }
        let begun = Instant::now();
        while ours() > 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{} are left",
                ours()
            );
            thread::sleep(Duration::from_millis(5));
        }
    });
}
