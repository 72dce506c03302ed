//! A process that was forked off makes connections of its own: on its parent's, each would read
//! answers that are the other's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl_resumption::{RedisStore, Session, SessionKey, SessionStore};

use crate::common::child::in_child;
use crate::server::Redis;

/// A session that names its key.
fn session(n: u8) -> Session {
    let hour = SystemTime::now() + Duration::from_secs(3_600);
    let ends = hour.duration_since(UNIX_EPOCH).unwrap().as_secs();
    Session::from_bytes(&[&[1], &ends.to_be_bytes()[..], &[n; 40]].concat()).unwrap()
}

/// Whether each of many lookups finds what was put there.
fn finds_its_own(store: &RedisStore) -> bool {
    (0..1_000_u32).all(|i| {
        let n = i as u8;
        let found = store.get(&SessionKey::from([n; 32]));
        matches!(found, Ok(Some(session)) if session.as_bytes()[9..] == [n; 40])
    })
}

#[test]
fn a_forked_process_does_not_read_the_answers_of_its_parent() {
    in_child(
        "fork::a_forked_process_does_not_read_the_answers_of_its_parent",
        || {
            let redis = Redis::start("fork");
            for _ in 0..20 {
                assert_eq!(fork(&redis), 0, "what the child ended with");
            }
        },
    );
}

/// What a forked process ended with that looks sessions up like its parent: `SIGALRM` if it was hung.
#[expect(unsafe_code, reason = "a fork is")]
fn fork(redis: &Redis) -> i32 {
    let store = RedisStore::connect(&format!("redis://127.0.0.1:{}", redis.port));
    let store = store.unwrap().deadline(Duration::from_secs(2)).plaintext();
    for n in 0..=255 {
        store.put(&SessionKey::from([n; 32]), session(n)).unwrap();
    }
    // SAFETY: the child calls nothing that needs the threads it has not got.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        // SAFETY: sets a timer: whatever happens, the child ends.
        unsafe { libc::alarm(10) };
        let fine = finds_its_own(&store);
        // SAFETY: ends the child, without what is left to do for its parent.
        unsafe { libc::_exit(if fine { 0 } else { 1 }) };
    }
    let parent_is_fine = finds_its_own(&store);
    let mut status = -1;
    // SAFETY: waits for the child, and writes its status to where it may.
    assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
    assert!(parent_is_fine);
    status
}
