//! What the queue does, one rule after the other.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use openssl_resumption::{
    MemoryStore, Session, SessionKey, SessionStore, StoreError, Usage, WriteBehind,
};

use super::held::*;
use super::{Phase, found, settled, take, with_put};

#[test]
fn a_session_is_served_wherever_its_write_is() {
    for phase in Phase::ALL {
        let (held, store) = with_put(phase);
        assert_eq!(found(store.get(&key(0))), Some(1), "{phase:?}");
        settled(&held, &store);
        assert_eq!(found(store.get(&key(0))), Some(1), "{phase:?}");
        assert_eq!(found(store.get(&key(9))), None);
    }
}

#[test]
fn a_session_that_is_taken_before_it_is_written_never_is() {
    let (held, store) = with_put(Phase::Waiting);
    assert_eq!(found(store.take(&key(0))), Some(1));
    assert_eq!(found(store.take(&key(0))), None);
    assert_eq!(found(store.get(&key(0))), None);
    settled(&held, &store);
    assert!(!held.state().written.contains(&(key(0), Some(1))));
}

#[test]
fn a_session_that_is_removed_while_it_is_written_is_removed_after() {
    for stop in [Stop::Before, Stop::After] {
        let (held, store) = with_put(Phase::Writing(stop));
        store.remove(&key(0)).unwrap();
        assert_eq!(found(store.get(&key(0))), None);
        assert_eq!(found(store.take(&key(0))), None);
        settled(&held, &store);
        assert_eq!(held.state().written, [(key(0), Some(1)), (key(0), None)]);
    }
}

#[test]
fn a_take_waits_for_the_write_and_lets_the_inner_store_decide() {
    for stop in [Stop::Before, Stop::After] {
        let (held, store) = with_put(Phase::Writing(stop));
        let elsewhere = WriteBehind::new(held.clone());
        let first = (stop == Stop::After).then(|| found(elsewhere.take(&key(0))));
        let (sender, taken) = channel();
        thread::scope(|scope| {
            let store = &store;
            scope.spawn(move || sender.send(take(store, key(0))));
            // One that does not wait is done by then.
            taken.recv_timeout(Duration::from_millis(50)).unwrap_err();
            held.release();
            let second = taken.recv_timeout(LONG).unwrap();
            match first {
                Some(first) => assert_eq!((first, second), (Some(1), None)),
                None => assert_eq!(second, Some(1)),
            }
        });
        assert_eq!(found(elsewhere.take(&key(0))), None);
    }
}

#[test]
fn writes_of_a_key_are_in_order_whoever_does_them() {
    let held = Held::default();
    let store = WriteBehind::new(held.clone()).workers(2);
    held.hold(Stop::Before);
    store.put(&key(0), session(1)).unwrap();
    held.wait_stopped(1);
    store.put(&key(0), session(2)).unwrap();
    store.put(&key(1), session(3)).unwrap();
    held.wait_stopped(2);
    assert_eq!(held.state().stopped, [key(0), key(1)]);
    settled(&held, &store);
    let state = held.state();
    let of_key: Vec<_> = state.written.iter().filter(|(k, _)| *k == key(0)).collect();
    assert_eq!(of_key, [&(key(0), Some(1)), &(key(0), Some(2))]);
}

#[test]
fn a_queued_removal_leaves_a_newer_session() {
    for phase in Phase::ALL {
        let (held, store) = with_put(phase);
        store.remove(&key(0)).unwrap();
        store.put(&key(0), session(2)).unwrap();
        assert_eq!(found(store.get(&key(0))), Some(2), "{phase:?}");
        settled(&held, &store);
        assert_eq!(found(held.get(&key(0))), Some(2), "{phase:?}");
    }
}

#[test]
fn as_many_writes_at_a_time_as_there_are_workers() {
    let held = Held::default();
    let store = WriteBehind::new(held.clone()).workers(3);
    let ends = held.ends();
    held.hold(Stop::Before);
    for n in 0..9 {
        store.put(&key(n), session(n)).unwrap();
    }
    held.wait_stopped(3);
    assert_eq!(store.usage().unwrap().queued, 9);
    settled(&held, &store);
    assert_eq!(held.state().sessions.len(), 9);
    drop(store);
    held.state().on_end = None;
    assert_eq!(ends.iter().count(), 3);
}

#[test]
fn a_full_queue_loses_the_oldest_and_counts() {
    let size = 9 + 1 + 128;
    for (entries, bytes) in [(3, usize::MAX), (usize::MAX, 3 * size)] {
        let held = Held::default();
        let store = WriteBehind::new(held.clone())
            .workers(1)
            .capacity(entries, bytes);
        // More than once: what was written, replaced or taken leaves room.
        for round in 1..=3 {
            held.hold(Stop::Before);
            store.put(&key(100), session(100)).unwrap();
            held.wait_stopped(1);
            for n in [0, 1, 2, 3, 4, 4] {
                store.put(&key(n), session(n)).unwrap();
            }
            let usage = store.usage().unwrap();
            assert_eq!((usage.queued, usage.lost), (4, 1_000 + 2 * round));
            store.take(&key(4)).unwrap();
            settled(&held, &store);
            assert_eq!(store.usage().unwrap().lost, 1_000 + 2 * round);
            let all = (0..5).map(|n| found(held.take(&key(n))));
            let kept = [None, None, Some(2), Some(3), None];
            assert_eq!(all.collect::<Vec<_>>(), kept);
        }
    }
}

#[test]
fn what_no_queue_of_the_capacity_has_room_for_is_an_error() {
    for (entries, bytes) in [(0, 1_000), (10, 0), (10, 128 + 9)] {
        let store = WriteBehind::new(Held::default()).capacity(entries, bytes);
        store.put(&key(0), session(1)).unwrap_err();
        assert_eq!(store.usage().unwrap().lost, 1_000);
        assert_eq!(store.remove(&key(0)).is_ok(), bytes == 128 + 9);
        assert_eq!(store.flush(LONG), 0);
    }
}

#[test]
fn a_write_that_fails_or_panics_is_lost_and_the_others_go_on() {
    for writes in [Writes::Fail, Writes::Panic] {
        let held = Held::default();
        let store = WriteBehind::new(held.clone()).workers(1);
        held.state().writes = writes;
        store.put(&key(0), session(0)).unwrap();
        store.remove(&key(1)).unwrap();
        settled(&held, &store);
        held.state().writes = Writes::Work;
        store.put(&key(2), session(2)).unwrap();
        settled(&held, &store);
        let usage = store.usage().unwrap();
        assert_eq!((usage.entries, usage.queued, usage.lost), (1, 0, 1_002));
        assert_eq!(found(store.get(&key(0))), None);
        assert_eq!(found(store.take(&key(2))), Some(2));
    }
}

#[test]
fn a_session_that_ended_while_it_waited_is_not_written_and_what_it_replaced_is_gone() {
    let (held, store) = with_put(Phase::Waiting);
    held.state().sessions.insert(key(1), session(1));
    store.put(&key(1), until(1_000_000_000, 2)).unwrap();
    settled(&held, &store);
    assert_eq!(held.state().written.last(), Some(&(key(1), None)));
    assert_eq!(found(store.get(&key(1))), None);
    assert_eq!(store.usage().unwrap().lost, 1_000);
}

#[test]
fn a_flush_waits_for_the_writes_and_returns_what_is_left() {
    let (held, store) = with_put(Phase::Waiting);
    assert_eq!(store.flush(Duration::ZERO), 2);
    assert_eq!(store.flush(Duration::from_millis(10)), 2);
    held.release();
    assert_eq!(store.flush(Duration::MAX), 0);
    assert_eq!(held.state().sessions.len(), 2);
}

/// A store that cannot take, and does not count.
struct Plain;

impl SessionStore for Plain {
    fn put(&self, _: &SessionKey, _: Session) -> Result<(), StoreError> {
        Ok(())
    }
    fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(None)
    }
    fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn it_takes_once_and_counts_as_the_inner_store_does() {
    let plain = WriteBehind::new(Plain);
    assert!(!plain.takes_once() && plain.take(&key(0)).is_err());
    assert_eq!(plain.usage(), Some(Usage::default()));

    let store = WriteBehind::new(MemoryStore::default());
    assert!(store.takes_once());
    store.put(&key(0), session(0)).unwrap();
    assert_eq!(store.flush(LONG), 0);
    let usage = store.usage().unwrap();
    assert_eq!((usage.entries, usage.queued, usage.lost), (1, 0, 0));
    let shown = format!("{store:?}");
    assert_eq!(shown, "WriteBehind { queued: 0, lost: 0, .. }");
}
