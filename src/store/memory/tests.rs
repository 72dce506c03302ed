use std::time::Duration;

use super::*;

fn key(n: u32) -> SessionKey {
    SessionKey::derive(b"test", true, &n.to_be_bytes())
}

fn session(len: usize) -> Session {
    Session::new(SystemTime::now() + Duration::from_secs(60), &vec![0; len])
}

fn usage(store: &MemoryStore) -> (u64, u64, u64) {
    let usage = store.usage().unwrap();
    (usage.entries, usage.bytes, usage.evictions)
}

fn has(store: &MemoryStore, n: u32) -> bool {
    store.get(&key(n)).unwrap().is_some()
}

#[test]
fn the_least_recently_used_goes_first() {
    let store = MemoryStore::new(3, 1 << 20);
    for n in 0..3 {
        store.put(&key(n), session(10)).unwrap();
    }
    assert!(has(&store, 0), "a look counts as use");
    store.put(&key(3), session(10)).unwrap();
    assert!(has(&store, 0) && !has(&store, 1) && has(&store, 2) && has(&store, 3));
    assert_eq!(usage(&store), (3, 3 * (9 + 10 + 128), 1));
}

#[test]
fn bytes_are_bounded_like_entries() {
    let each = 9 + 100 + 128;
    let store = MemoryStore::new(100, 3 * each);
    for n in 0..4 {
        store.put(&key(n), session(100)).unwrap();
    }
    assert!(!has(&store, 0) && has(&store, 1) && has(&store, 3));
    assert_eq!(usage(&store), (3, 3 * each as u64, 1));

    store.put(&key(9), session(2 * each)).unwrap();
    assert!(
        has(&store, 9),
        "a larger session displaces as many as it needs"
    );
    assert_eq!(usage(&store).0, 1);

    store.put(&key(9), session(4 * each)).unwrap();
    assert!(
        !has(&store, 9),
        "the old session must not outlive its replacement"
    );
    assert_eq!(usage(&store), (0, 0, 5));
}

#[test]
fn capacity_zero_stores_nothing() {
    for store in [
        MemoryStore::new(0, 1 << 20),
        MemoryStore::new(10, 0),
        MemoryStore::new(0, 0),
    ] {
        store.put(&key(0), session(1)).unwrap();
        store.remove(&key(0)).unwrap();
        assert!(!has(&store, 0) && store.take(&key(0)).unwrap().is_none());
        assert_eq!(usage(&store).0, 0);
    }
}

#[test]
fn huge_capacities_cost_nothing_up_front() {
    let store = MemoryStore::new(usize::MAX, usize::MAX);
    store.put(&key(0), session(1)).unwrap();
    assert!(has(&store, 0));
}

/// As many as its bytes would allow of the smallest sessions never come.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn tables_are_not_made_for_more_than_bytes_allow() {
    let before = crate::ffi::allocated();
    let _store = MemoryStore::new(usize::MAX, 512 << 20);
    // Other tests allocate too, and not as much.
    assert!(crate::ffi::allocated().saturating_sub(before) < 32 << 20);
}

#[test]
fn replacing_counts_once() {
    let store = MemoryStore::default();
    store.put(&key(0), session(10)).unwrap();
    store.put(&key(0), session(20)).unwrap();
    assert_eq!(usage(&store), (1, 9 + 20 + 128, 0));
}

#[test]
fn an_expired_session_is_returned_once_and_gone() {
    let store = MemoryStore::default();
    let end = SystemTime::now() + Duration::from_secs(3_600);
    store.put(&key(0), Session::new(end, b"x")).unwrap();
    assert!(
        store
            .get_at(&key(0), end - Duration::from_secs(1))
            .is_some()
    );
    assert!(store.get_at(&key(0), end).is_some());
    assert!(store.get_at(&key(0), end).is_none());
    assert_eq!(usage(&store), (0, 0, 0));
}

#[test]
fn the_shelves_together_hold_the_capacity_and_no_more() {
    let store = MemoryStore::new(1_000, 1 << 30);
    assert_eq!(store.0.shelves.len(), 2);
    (0..1_000).for_each(|n| store.put(&key(n), session(1)).unwrap());
    assert!(
        (0..1_000).all(|n| has(&store, n)),
        "however they are spread"
    );
    (1_000..5_000).for_each(|n| store.put(&key(n), session(1)).unwrap());
    let (entries, _, evictions) = usage(&store);
    assert_eq!((entries, evictions), (1_000, 4_000));
    assert_eq!(MemoryStore::default().0.shelves.len(), 64);
    // More shelves than that would have room for few large sessions.
    assert_eq!(MemoryStore::new(usize::MAX, 1 << 20).0.shelves.len(), 4);
    let huge = MemoryStore::new(usize::MAX, usize::MAX);
    assert_eq!(huge.0.shelves.len(), 1_024);
}

#[test]
fn a_session_may_be_as_large_as_the_store() {
    let store = MemoryStore::new(1_000, 4 << 20);
    (0..900).for_each(|n| store.put(&key(n), session(4_000)).unwrap());
    store.put(&key(1_000), session((4 << 20) - 137)).unwrap();
    assert!(has(&store, 1_000));
    assert_eq!(usage(&store), (1, 4 << 20, 900));
    store.put(&key(1_001), session((4 << 20) - 136)).unwrap();
    assert!(has(&store, 1_000) && !has(&store, 1_001));
}

/// A client that comes back: its session is found, and gets a successor.
fn resume(store: &MemoryStore, used: u32, successor: u32) -> bool {
    let found = has(store, used);
    let session = session(1);
    match found {
        true => store.put_successor(&key(successor), session, &key(used)),
        false => store.put(&key(successor), session),
    }
    .unwrap();
    found
}

#[test]
fn there_is_room_for_one_client_an_entry() {
    for (room, clients) in [(10, 10), (1_000, 1_000), (20_480, 20_480)] {
        let store = MemoryStore::new(room, 1 << 30);
        (0..clients).for_each(|n| store.put(&key(n), session(1)).unwrap());
        for round in 0..3 {
            for n in round * clients..(round + 1) * clients {
                assert!(resume(&store, n, n + clients), "{clients} {n}");
            }
        }
        assert_eq!(usage(&store).0, room as u64);
    }
}

#[test]
fn a_client_that_comes_back_often_costs_others_nothing() {
    let store = MemoryStore::new(1_000, 1 << 30);
    (0..999).for_each(|n| store.put(&key(n), session(1)).unwrap());
    for n in 10_000..20_000 {
        resume(&store, n, n + 1);
    }
    assert!((0..999).all(|n| has(&store, n)));
}

#[test]
fn a_used_session_serves_while_there_is_room() {
    let store = MemoryStore::new(3, 1 << 30);
    store.put(&key(0), session(1)).unwrap();
    assert!((1..3).all(|n| resume(&store, 0, n)));
    assert!(has(&store, 0));
    store.put_successor(&key(3), session(1), &key(0)).unwrap();
    assert!(!has(&store, 0) && (1..4).all(|n| has(&store, n)));
}

/// Each of its resumptions brings a session, and none but the first was earned by one before.
#[test]
fn a_stranger_with_one_ticket_drives_out_nobody() {
    let store = MemoryStore::new(1_000, 1 << 30);
    (0..900).for_each(|n| store.put(&key(n), session(1)).unwrap());
    assert!((0..900).all(|n| resume(&store, n, 1_000 + n)));
    store.put(&key(5_000), session(1)).unwrap();
    let resumed = (10_000..20_000).take_while(|n| resume(&store, 5_000, *n));
    assert!(resumed.count() > 0);
    let kept = (1_000..1_900).filter(|n| has(&store, *n)).count();
    assert!(kept >= 891, "{kept} of 900");
}

/// In one that is full or not, of few entries or many, whatever the sessions that are in use have become.
#[test]
fn a_flood_of_new_sessions_leaves_those_in_use() {
    for room in [100, 20_480] {
        let store = MemoryStore::new(room, 1 << 30);
        let clients = room as u32 * 4 / 5;
        (0..clients).for_each(|n| store.put(&key(n), session(1)).unwrap());
        assert!((0..clients).all(|n| resume(&store, n, clients + n)));
        for n in 1_000_000..1_000_000 + 10 * room as u32 {
            store.put(&key(n), session(1)).unwrap();
        }
        let kept = (clients..2 * clients).filter(|n| has(&store, *n)).count();
        assert!(kept >= clients as usize * 99 / 100, "{kept} of {clients}");
    }
}

#[test]
fn what_has_ended_is_gone_and_counted() {
    let store = MemoryStore::new(10_000, 1 << 30);
    let second = unix_seconds(SystemTime::now()) + 3_600;
    let end = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(second + seconds);
    for n in 0..1_000 {
        let session = Session::new(end(u64::from(n % 2)), b"x");
        store.put(&key(n), session).unwrap();
    }
    let sweep = |seconds| {
        let mut at = 0;
        while store.0.sweep(second + seconds, &mut at) {}
        (usage(&store), store.usage().unwrap().expired)
    };
    assert_eq!(sweep(0), ((500, 500 * (10 + 128), 0), 500));
    assert_eq!(sweep(1), ((0, 0, 0), 1_000));
}

/// Sessions in use and the newest half stay, though each shelf makes room for itself.
#[test]
fn at_capacity_what_is_new_or_in_use_stays() {
    let capacity = 20_000;
    let store = MemoryStore::new(capacity as usize, 1 << 30);
    let in_use = capacity / 10;
    for n in 0..10 * capacity {
        store.put(&key(n), session(1)).unwrap();
        // Each of those in use is asked for ten times in a capacity.
        if n >= in_use {
            has(&store, n % in_use);
        }
    }
    let kept = |range: std::ops::Range<u32>| {
        let len = f64::from(range.end - range.start);
        range.filter(|n| has(&store, *n)).count() as f64 / len
    };
    assert!(kept(0..in_use) >= 0.99);
    assert!(kept(10 * capacity - capacity / 2..10 * capacity) >= 0.99);
}

#[test]
fn of_many_takers_one_gets_the_session() {
    let store = MemoryStore::default();
    for n in 0..200 {
        store.put(&key(n), session(1)).unwrap();
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| usize::from(store.take(&key(n)).unwrap().is_some())))
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 1);
    }
}
