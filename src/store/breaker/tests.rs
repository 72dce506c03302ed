use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::Barrier;
use std::thread;

use super::super::circuit::PAUSE;
use super::*;
use crate::store::faulty::{Faulty, Mood, Plain, found, key, session};

const MS: Duration = Duration::from_millis(1);

/// A breaker, and the time that it is told.
struct Timed {
    breaker: CircuitBreaker<Faulty>,
    now: Cell<Instant>,
}

impl Timed {
    fn new() -> Self {
        Self {
            breaker: CircuitBreaker::new(Faulty::new()),
            now: Cell::new(Instant::now()),
        }
    }

    fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    /// A lookup that takes this long; `None` if it is refused.
    fn get_in(&self, time: Duration) -> Option<Result<Option<Session>, StoreError>> {
        self.breaker.call(
            &self.breaker.others,
            || self.now.get(),
            |inner| {
                self.pass(time);
                inner.get(&key(1))
            },
        )
    }

    /// Whether a lookup at this time reaches the store.
    fn asks(&self) -> bool {
        self.get_in(Duration::ZERO).is_some()
    }

    fn open() -> Self {
        let timed = Self::new();
        timed.breaker.inner.set(Mood::Failing);
        (0..5).for_each(|_| assert!(timed.get_in(Duration::ZERO).unwrap().is_err()));
        timed
    }
}

#[test]
fn five_failures_in_a_row_open_it() {
    let timed = Timed::new();
    for _ in 0..3 {
        timed.breaker.inner.set(Mood::Failing);
        (0..4).for_each(|_| assert!(timed.asks()));
        timed.breaker.inner.set(Mood::Well);
        assert!(timed.asks(), "a success in between");
    }
    timed.breaker.inner.set(Mood::Failing);
    (0..5).for_each(|_| assert!(timed.asks()));
    assert!(!timed.asks());
    assert_eq!(timed.breaker.inner.calls(), 3 * 5 + 5);
    assert_eq!(timed.breaker.usage().unwrap().refused, 1);
}

#[test]
fn an_answer_after_the_deadline_is_an_answer_and_a_failure() {
    let timed = Timed::new();
    timed.breaker.inner.memory.put(&key(1), session(1)).unwrap();
    (0..9).for_each(|_| assert!(timed.get_in(50 * MS).is_some(), "in time"));
    for _ in 0..5 {
        assert!(found(timed.get_in(51 * MS).unwrap()).is_some());
    }
    assert!(!timed.asks());
}

#[test]
fn the_knobs_are_what_they_say() {
    let mut timed = Timed::new();
    timed.breaker = timed.breaker.failures(2).deadline(10 * MS);
    (0..9).for_each(|_| assert!(timed.get_in(10 * MS).is_some()));
    (0..2).for_each(|_| assert!(timed.get_in(11 * MS).is_some()));
    assert!(!timed.asks());

    for failures in [0, 1] {
        let mut timed = Timed::new();
        timed.breaker = timed.breaker.failures(failures).deadline(Duration::MAX);
        assert!(timed.get_in(Duration::from_secs(100)).is_some());
        assert!(timed.asks(), "it takes a failure");
        timed.breaker.inner.set(Mood::Failing);
        assert!(timed.asks());
        assert!(!timed.asks());
    }
}

#[test]
fn one_call_a_second_asks_until_one_succeeds() {
    let timed = Timed::open();
    for _ in 0..3 {
        timed.pass(999 * MS);
        assert!(!timed.asks());
        timed.pass(MS);
        assert!(timed.asks());
        assert!(!timed.asks());
    }
    timed.pass(1_000 * MS);
    timed.breaker.inner.set(Mood::Well);
    assert!(timed.asks());
    let both = timed.breaker.call(
        &timed.breaker.others,
        || timed.now.get(),
        |_| Ok(timed.asks()),
    );
    assert!(both.unwrap().unwrap(), "no longer one at a time");

    timed.breaker.inner.set(Mood::Failing);
    (0..5).for_each(|_| assert!(timed.asks(), "it starts from the beginning"));
    assert!(!timed.asks());
}

#[test]
fn a_probe_that_takes_long_is_alone_and_followed_by_a_pause() {
    let timed = Timed::open();
    timed.pass(1_000 * MS);
    let probe = timed.breaker.call(
        &timed.breaker.others,
        || timed.now.get(),
        |inner| {
            for _ in 0..5 {
                timed.pass(1_000 * MS);
                assert!(!timed.asks());
            }
            inner.get(&key(1))
        },
    );
    assert!(probe.is_some());
    assert!(!timed.asks());
    timed.pass(1_000 * MS);
    assert!(timed.asks());
}

#[test]
fn calls_that_began_before_it_opened_and_fail_later_put_off_no_probe() {
    let timed = Timed::new();
    timed.breaker.inner.set(Mood::Failing);
    let early = timed.breaker.call(
        &timed.breaker.others,
        || timed.now.get(),
        |inner| {
            (0..5).for_each(|_| assert!(timed.asks()));
            timed.pass(900 * MS);
            inner.get(&key(1))
        },
    );
    assert!(early.unwrap().is_err());
    assert!(!timed.asks());
    timed.pass(100 * MS);
    assert!(timed.asks());
}

#[test]
fn a_panic_goes_on_and_is_a_failure_and_frees_the_probe() {
    let timed = Timed::new();
    timed.breaker.inner.set(Mood::Panicking);
    let panics = || {
        let caught = catch_unwind(AssertUnwindSafe(|| timed.asks()));
        let payload = caught.unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"panicking"));
    };
    (0..5).for_each(|_| panics());
    assert!(!timed.asks());
    for _ in 0..2 {
        timed.pass(1_000 * MS);
        panics();
        assert!(!timed.asks());
    }
    timed.pass(1_000 * MS);
    timed.breaker.inner.set(Mood::Well);
    (0..2).for_each(|_| assert!(timed.asks()));
}

#[test]
fn of_many_threads_one_probes() {
    const THREADS: usize = 8;
    let open = Timed::open();
    let (breaker, opened) = (&open.breaker, open.now.get());
    for round in 1..=50 {
        let now = opened + round * PAUSE;
        let before = breaker.inner.calls();
        let barrier = Barrier::new(THREADS);
        let asked: usize = thread::scope(|scope| {
            let callers: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let answer =
                            breaker.call(&breaker.others, || now, |inner| inner.get(&key(1)));
                        usize::from(answer.is_some())
                    })
                })
                .collect();
            callers
                .into_iter()
                .map(|caller| caller.join().unwrap())
                .sum()
        });
        assert_eq!((asked, breaker.inner.calls() - before), (1, 1), "{round}");
    }
    assert_eq!(breaker.usage().unwrap().refused, 50 * (THREADS as u64 - 1));
}

/// All threads are inside at once: while the probe is, the others are answered.
#[test]
fn while_a_thread_probes_the_others_do_not_wait() {
    let open = Timed::open();
    let (breaker, later) = (&open.breaker, open.now.get() + 10 * PAUSE);
    let inside = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            breaker.call(
                &breaker.others,
                || later,
                |inner| {
                    inside.wait();
                    inside.wait();
                    inner.get(&key(1))
                },
            )
        });
        inside.wait();
        let asked = (0..9).filter(|n| {
            breaker
                .call(&breaker.others, || later + *n * PAUSE, |_| Ok(()))
                .is_some()
        });
        let asked = asked.count();
        inside.wait();
        assert_eq!(asked, 0);
    });
}

#[test]
fn while_open_nothing_is_found_and_nothing_is_said_to_be_done() {
    let breaker = CircuitBreaker::new(Faulty::new()).failures(1);
    breaker.put(&key(1), session(1)).unwrap();
    assert!(found(breaker.get(&key(1))).is_some());
    assert!(format!("{breaker:?}").contains("puts_open: false, others_open: false"));
    breaker.inner.set(Mood::Failing);
    assert!(breaker.put(&key(1), session(1)).is_err());
    assert!(breaker.remove(&key(1)).is_err());
    let calls = breaker.inner.calls();

    assert_eq!(found(breaker.get(&key(1))), None);
    assert_eq!(found(breaker.take(&key(1))), None);
    for refused in [breaker.put(&key(2), session(1)), breaker.remove(&key(1))] {
        assert!(refused.unwrap_err().to_string().contains("was not asked"));
    }
    assert_eq!(breaker.inner.calls(), calls);
    let usage = breaker.usage().unwrap();
    assert_eq!((usage.entries, usage.refused), (1, 4));
    assert!(format!("{breaker:?}").contains("puts_open: true, others_open: true"));
}

#[test]
fn a_store_that_takes_nothing_more_is_still_asked_for_what_it_has() {
    let breaker = CircuitBreaker::new(Faulty::new()).failures(1);
    breaker.put(&key(1), session(1)).unwrap();
    breaker.inner.set(Mood::Failing);
    assert!(breaker.put(&key(2), session(1)).is_err());
    breaker.inner.set(Mood::Well);
    let refused = breaker.put(&key(2), session(1)).unwrap_err();
    assert!(refused.to_string().contains("was not asked"));
    assert!(found(breaker.get(&key(1))).is_some());
    assert!(found(breaker.take(&key(1))).is_some());
    breaker.remove(&key(1)).unwrap();

    breaker.inner.set(Mood::Failing);
    assert!(breaker.get(&key(1)).is_err());
    breaker.inner.set(Mood::Well);
    assert_eq!(found(breaker.get(&key(1))), None, "refused");
}

#[test]
fn a_probe_that_a_fork_left_behind_is_none() {
    let timed = Timed::open();
    timed.pass(1_000 * MS);
    timed.breaker.others.leave_probing(process::id());
    assert!(!timed.asks());
    timed.breaker.others.leave_probing(process::id() + 1);
    assert!(timed.asks());
}

#[test]
fn the_rest_is_the_inner_stores() {
    let breaker = CircuitBreaker::new(Faulty::new());
    assert!(breaker.takes_once());
    breaker.put(&key(1), session(1)).unwrap();
    assert!(found(breaker.take(&key(1))).is_some());
    breaker.put(&key(1), session(1)).unwrap();
    breaker.remove(&key(1)).unwrap();
    assert_eq!(found(breaker.get(&key(1))), None);

    let plain = CircuitBreaker::new(Plain);
    assert!(!plain.takes_once() && plain.take(&key(1)).is_err());
    assert_eq!(plain.usage(), Some(Usage::default()));
    assert_eq!(plain.last_error(), None);
    breaker.inner.set(Mood::Failing);
    assert_eq!(breaker.last_error().unwrap(), "failing");
}
