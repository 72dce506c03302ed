//! Threads of a store that is connected are gone with it; `tests/process/guests.rs` has what is true of all threads.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openssl_resumption::{RedisStore, Session, SessionKey, SessionStore};

use crate::SECRET;
use crate::common::child::in_child;
use crate::server::Redis;

/// How many threads of ours there are.
fn ours() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let is_ours = |name: &String| name.starts_with("redis-pool") || name.starts_with("session-");
    names.filter(is_ours).count()
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
            assert!(ours() >= 4);
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
