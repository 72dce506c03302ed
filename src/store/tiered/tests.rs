use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use super::*;
use crate::store::MemoryStore;
use crate::store::faulty::{Faulty, Mood, Plain, found, key, session};

type Host = Tiered<Faulty, Arc<Faulty>>;

fn host(shared: &Arc<Faulty>) -> Host {
    Tiered::new(Faulty::new(), Arc::clone(shared))
}

fn one_host() -> Host {
    host(&Arc::new(Faulty::new()))
}

/// Whether L1 and L2 have the session.
fn kept(host: &Host) -> [bool; 2] {
    let l2 = &host.l2.memory;
    [&host.l1.memory, l2].map(|store| found(store.get(&key(1))).is_some())
}

#[test]
fn a_session_is_put_in_both() {
    let host = one_host();
    host.put(&key(1), session(5)).unwrap();
    assert_eq!(kept(&host), [true, true]);
}

#[test]
fn what_was_found_in_l2_is_kept_in_l1() {
    let shared = Arc::new(Faulty::new());
    let (here, there) = (host(&shared), host(&shared));
    let put = session(5);
    here.put(&key(1), put.clone()).unwrap();
    for calls in [2, 2] {
        assert_eq!(found(there.get(&key(1))).unwrap(), put.as_bytes());
        assert_eq!(shared.calls(), calls, "the second time L2 is not asked");
    }
    assert_eq!(found(there.get(&key(2))), None);
    assert_eq!(found(there.get(&key(2))), None);
    assert_eq!(shared.calls(), 4, "what is not there is not remembered");
}

#[test]
fn what_l2_did_not_store_l1_does_not_have() {
    let host = one_host();
    host.l2.set(Mood::Failing);
    assert!(host.put(&key(1), session(5)).is_err());
    assert_eq!(kept(&host), [false, false]);
}

#[test]
fn an_l2_that_is_down_is_an_error_but_for_what_l1_has() {
    let host = one_host();
    host.put(&key(1), session(5)).unwrap();
    host.l2.set(Mood::Failing);
    assert!(found(host.get(&key(1))).is_some());
    assert!(host.get(&key(2)).is_err());
}

#[test]
fn an_l1_that_is_down_costs_nothing_but_time() {
    let host = one_host();
    host.l1.set(Mood::Failing);
    host.put(&key(1), session(5)).unwrap();
    assert!(found(host.get(&key(1))).is_some());
    assert!(found(host.take(&key(1))).is_some());
    assert!(host.remove(&key(1)).is_err(), "it may still be in L1");
}

#[test]
fn a_session_is_removed_from_both() {
    let host = one_host();
    host.put(&key(1), session(5)).unwrap();
    host.remove(&key(1)).unwrap();
    assert_eq!(kept(&host), [false, false]);

    host.put(&key(1), session(5)).unwrap();
    host.l2.set(Mood::Failing);
    assert!(host.remove(&key(1)).is_err());
    assert_eq!(kept(&host), [false, true]);
}

#[test]
fn a_session_is_taken_from_l2_and_leaves_both() {
    let shared = Arc::new(Faulty::new());
    let (here, there) = (host(&shared), host(&shared));
    here.put(&key(1), session(5)).unwrap();
    assert!(found(there.get(&key(1))).is_some());
    assert!(found(here.take(&key(1))).is_some());
    assert_eq!(kept(&here), [false, false]);
    assert_eq!(kept(&there), [true, false]);
    for host in [&here, &there] {
        assert_eq!(found(host.take(&key(1))), None, "whatever L1 has");
    }
    assert_eq!(kept(&there), [false, false]);
}

#[test]
fn a_take_that_fails_is_an_error_and_never_answered_by_l1() {
    let host = one_host();
    host.put(&key(1), session(5)).unwrap();
    host.l2.set(Mood::Failing);
    assert!(host.take(&key(1)).is_err());
    host.l2.set(Mood::Panicking);
    assert!(catch_unwind(AssertUnwindSafe(|| host.take(&key(1)))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| host.put(&key(1), session(5)))).is_err());
}

#[test]
fn of_many_threads_that_take_a_session_one_gets_it() {
    let shared = Arc::new(MemoryStore::default());
    let hosts = [(); 2].map(|()| Tiered::new(MemoryStore::default(), Arc::clone(&shared)));
    for n in 0..200 {
        hosts.iter().for_each(|host| {
            host.put(&key(n), session(5)).unwrap();
        });
        let taken: usize = thread::scope(|scope| {
            let takers: Vec<_> = (0..6)
                .map(|i| &hosts[i % 2])
                .map(|host| scope.spawn(|| usize::from(found(host.take(&key(n))).is_some())))
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 1);
    }
}

/// A shared store in which something happens between a call and its answer.
struct Meanwhile {
    memory: MemoryStore,
    host: OnceLock<Weak<Tiered<MemoryStore, Self>>>,
    act: fn(&Tiered<MemoryStore, Self>),
}

impl Meanwhile {
    fn happen(&self) {
        let host = self.host.get().and_then(Weak::upgrade);
        host.iter().for_each(|host| (self.act)(host));
    }
}

impl SessionStore for Meanwhile {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        let answer = self.memory.put(key, session);
        self.happen();
        answer
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        let answer = self.memory.get(key);
        self.happen();
        answer
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.memory.remove(key)
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.memory.take(key)
    }
}

#[test]
fn a_session_that_is_removed_while_it_is_looked_up_or_put_does_not_stay_in_l1() {
    type Act = fn(&Tiered<MemoryStore, Meanwhile>);
    let acts: [(Act, bool); 3] = [
        (|_| (), true),
        (|host| host.remove(&key(1)).unwrap(), false),
        (|host| drop(host.take(&key(1)).unwrap()), false),
    ];
    for (act, stays) in acts {
        let host = Arc::new(Tiered::new(
            MemoryStore::default(),
            Meanwhile {
                memory: MemoryStore::default(),
                host: OnceLock::new(),
                act,
            },
        ));
        host.l2.memory.put(&key(1), session(5)).unwrap();
        host.l2.host.set(Arc::downgrade(&host)).unwrap();
        assert!(found(host.get(&key(1))).is_some());
        assert_eq!(found(host.l1.get(&key(1))).is_some(), stays);
        host.put(&key(1), session(5)).unwrap();
        assert_eq!(found(host.l1.get(&key(1))).is_some(), stays);
    }
}

#[test]
fn whether_it_takes_once_is_for_l2_to_say() {
    assert!(Tiered::new(Plain, MemoryStore::default()).takes_once());
    let tiered = Tiered::new(MemoryStore::default(), Plain);
    assert!(!tiered.takes_once() && tiered.take(&key(1)).is_err());
    assert_eq!(format!("{tiered:?}"), "Tiered { .. }");
}

#[test]
fn usage_is_the_sum_of_what_is_known() {
    let small = MemoryStore::new(1, 1 << 20);
    let both = Tiered::new(small, MemoryStore::default());
    both.put(&key(1), session(5)).unwrap();
    both.put(&key(2), session(5)).unwrap();
    let usage = both.usage().unwrap();
    assert_eq!((usage.entries, usage.evictions), (3, 1));
    assert_eq!(usage.bytes, both.l1.usage().unwrap().bytes * 3);

    let known = MemoryStore::default();
    known.put(&key(1), session(5)).unwrap();
    let usage = known.usage();
    let known = Arc::new(known);
    assert_eq!(Tiered::new(Arc::clone(&known), Plain).usage(), usage);
    assert_eq!(Tiered::new(Plain, known).usage(), usage);
    assert_eq!(Tiered::new(Plain, Plain).usage(), None);
    assert_eq!(Tiered::new(Plain, Plain).last_error(), None);
    let both = Tiered::new(Faulty::new(), Faulty::new());
    both.l2.set(Mood::Failing);
    assert_eq!(both.last_error().unwrap(), "failing");
    both.l2.set(Mood::Well);
    both.l1.set(Mood::Failing);
    assert_eq!(both.last_error().unwrap(), "failing");
}
