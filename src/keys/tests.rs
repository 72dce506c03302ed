use std::sync::atomic::AtomicBool;
use std::time::UNIX_EPOCH;

use parking_lot::Mutex;

use super::*;

const LIFETIME: Duration = Duration::from_secs(3_600);
const PERIOD: Duration = Duration::from_secs(600);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn prepared() -> TicketKeys {
    let keys = TicketKeys::random_every(PERIOD);
    keys.prepare(LIFETIME, at(0)).unwrap();
    keys
}

fn active(keys: &TicketKeys, now: SystemTime) -> [u8; 16] {
    *keys.sealing(now).unwrap().name()
}

fn standing(keys: &TicketKeys, name: &[u8; 16], now: SystemTime) -> Option<Standing> {
    Some(keys.opening(name, now)?.1)
}

#[test]
fn a_key_seals_for_its_period_and_opens_until_its_last_ticket_has_expired() {
    let keys = prepared();
    let first = active(&keys, at(599));
    assert_eq!(standing(&keys, &first, at(599)), Some(Standing::Active));

    let second = active(&keys, at(600));
    assert_ne!(first, second);
    assert_eq!(standing(&keys, &first, at(600)), Some(Standing::Retired));
    // The ring turns on use; used at 600, a ticket of the first key may live until 4,200.
    assert_eq!(standing(&keys, &first, at(4_199)), Some(Standing::Retired));
    assert_eq!(standing(&keys, &first, at(4_200)), None);
}

#[test]
fn a_key_past_its_time_is_wiped() {
    let keys = prepared();
    let first = Arc::downgrade(&keys.sealing(at(0)).unwrap());
    keys.rotate_at(at(1)).unwrap();
    assert!(first.upgrade().is_some());
    keys.sealing(at(1) + LIFETIME).unwrap();
    assert!(first.upgrade().is_none(), "something still holds the key");
}

#[test]
fn the_longest_lifetime_of_the_policies_decides() {
    let keys = prepared();
    keys.prepare(LIFETIME * 2, at(0)).unwrap();
    keys.prepare(LIFETIME / 2, at(0)).unwrap();
    let first = active(&keys, at(0));
    keys.rotate_at(at(1)).unwrap();
    let last = at(1) + LIFETIME * 2 - Duration::from_secs(1);
    assert!(standing(&keys, &first, last).is_some());
}

#[test]
fn rotate_forces_a_new_key_and_the_age_starts_anew() {
    let keys = prepared();
    let first = active(&keys, at(10));
    assert_eq!(keys.age(at(10)), Some(Duration::from_secs(10)));
    keys.rotate_at(at(10)).unwrap();
    assert_ne!(active(&keys, at(10)), first);
    assert_eq!(keys.age(at(11)), Some(Duration::from_secs(1)));
    assert_eq!(standing(&keys, &first, at(11)), Some(Standing::Retired));
}

#[test]
fn of_many_threads_one_rotates() {
    let keys = prepared();
    let names: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| active(&keys, at(600))))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let second = active(&keys, at(600));
    let first = names.iter().find(|name| **name != second);
    assert!(
        names
            .iter()
            .all(|name| *name == second || Some(name) == first)
    );
    assert_eq!(keys.shared.ring.read().as_ref().unwrap().retired_count(), 1);
}

#[test]
fn the_retired_keys_are_bounded() {
    let keys = prepared();
    for _ in 0..300 {
        keys.rotate_at(at(1)).unwrap();
    }
    assert_eq!(
        keys.shared.ring.read().as_ref().unwrap().retired_count(),
        256
    );
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

#[test]
fn a_clock_that_jumps_back_does_not_stop_rotation() {
    let keys = prepared();
    let early = active(&keys, at(0) + YEAR);
    // Back to the present: the next key would otherwise be due in a year.
    let now = active(&keys, at(1));
    assert_ne!(early, now);
    // A second's difference between the clocks of two threads is no jump.
    assert_eq!(active(&keys, at(0)), now);
    // Keys retired in that future go when their tickets can have no life left in the present.
    assert!(standing(&keys, &early, at(0) + LIFETIME).is_some());
    assert_eq!(standing(&keys, &early, at(2) + LIFETIME), None);
}

/// Counts how often it is asked; gives one key for ever, or fails.
struct Constant {
    asked: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
}

impl KeySource for Constant {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        self.asked.fetch_add(1, Relaxed);
        if self.fails.load(Relaxed) {
            return Err(KeyError::new("not now"));
        }
        let key = TicketKey::new([1; 16], &[2; 32], &[3; 32]);
        Ok(KeySet::new(key, Vec::new(), now + PERIOD))
    }
}

#[test]
fn a_clock_that_jumps_back_asks_a_source_with_one_key_again_and_only_once() {
    for fails in [false, true] {
        let (asked, failing) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let source = Constant {
            asked: Arc::clone(&asked),
            fails: Arc::clone(&failing),
        };
        let keys = TicketKeys::from_source(source);
        keys.prepare(LIFETIME, at(0) + YEAR).unwrap();
        assert_eq!(asked.load(Relaxed), 1);
        failing.store(fails, Relaxed);
        for _ in 0..10 {
            active(&keys, at(0));
        }
        assert_eq!(asked.load(Relaxed), 2, "failing: {fails}");
        active(&keys, at(600));
        assert_eq!(asked.load(Relaxed), 3, "failing: {fails}");
    }
}

/// A source that uses its own keys while it is asked for them.
struct Selfish(Arc<Mutex<Option<TicketKeys>>>);

impl KeySource for Selfish {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        if let Some(own) = &*self.0.lock() {
            assert!(
                own.rotate_at(now)
                    .unwrap_err()
                    .to_string()
                    .contains("its own keys")
            );
            own.prepare(LIFETIME, now).unwrap();
            own.sealing(now).unwrap();
        }
        RandomKeys::new(PERIOD).load(now)
    }
}

#[test]
fn a_source_that_asks_for_its_own_keys_does_not_wait_for_itself() {
    let own = Arc::new(Mutex::new(None));
    let keys = TicketKeys::from_source(Selfish(Arc::clone(&own)));
    keys.prepare(LIFETIME, at(0)).unwrap();
    *own.lock() = Some(keys.clone());
    let first = active(&keys, at(0));
    assert_ne!(active(&keys, at(600)), first);
    own.lock().take();
}

/// A source that does not answer before it is told to.
struct Slow(Mutex<std::sync::mpsc::Receiver<()>>);

impl KeySource for Slow {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        self.0.lock().recv().unwrap();
        RandomKeys::new(PERIOD).load(now)
    }
}

#[test]
fn a_slow_source_keeps_one_handshake_waiting_and_no_other() {
    let (go, wait) = std::sync::mpsc::channel();
    let keys = TicketKeys::from_source(Slow(Mutex::new(wait)));
    go.send(()).unwrap();
    keys.prepare(LIFETIME, at(0)).unwrap();
    let first = active(&keys, at(0));
    // Not scoped threads: if one waits for ever, the test is to fail and not to wait with it.
    let (done, answers) = std::sync::mpsc::channel();
    let use_keys = |act: fn(&TicketKeys) -> Option<[u8; 16]>| {
        let (keys, done) = (keys.clone(), done.clone());
        std::thread::spawn(move || done.send(act(&keys)));
    };
    let answer = || {
        answers
            .recv_timeout(Duration::from_secs(10))
            .expect("nothing waits for a slow source but the handshake that asked it")
    };
    use_keys(|keys| Some(active(keys, at(600))));
    let begun = std::time::Instant::now();
    while keys.shared.turning.try_lock().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody asked");
        std::thread::yield_now();
    }
    use_keys(|keys| Some(active(keys, at(600))));
    assert_eq!(answer(), Some(first));
    use_keys(|keys| keys.prepare(LIFETIME, at(600)).err().map(|_| [0; 16]));
    assert_eq!(answer(), None);
    go.send(()).unwrap();
    assert_ne!(answer(), Some(first));
}

/// A source that gives random keys, or fails, or panics, as told.
struct Moody {
    failing: Arc<AtomicBool>,
    panics: bool,
}

impl KeySource for Moody {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        match (self.failing.load(Relaxed), self.panics) {
            (false, _) => RandomKeys::new(PERIOD).load(now),
            (true, false) => Err(KeyError::new("no randomness")),
            (true, true) => panic!("no randomness at all"),
        }
    }
}

#[test]
fn a_source_that_fails_or_panics_keeps_the_ring_and_is_asked_again() {
    for panics in [false, true] {
        let failing = Arc::new(AtomicBool::new(false));
        let keys = TicketKeys::from_source(Moody {
            failing: Arc::clone(&failing),
            panics,
        });
        keys.prepare(LIFETIME, at(0)).unwrap();
        let first = active(&keys, at(0));

        failing.store(true, Relaxed);
        assert_eq!(active(&keys, at(600)), first);
        assert_eq!(active(&keys, at(600)), first);
        assert_eq!(keys.failures(), 1, "asked again before a second was over");
        assert!(keys.rotate_at(at(600)).is_err());
        assert_eq!(active(&keys, at(601)), first);
        assert_eq!(keys.failures(), 3);

        failing.store(false, Relaxed);
        assert_ne!(active(&keys, at(602)), first);
    }
}

/// A source whose sets are the whole truth.
struct Fixed(AtomicU64);

impl KeySource for Fixed {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        let n = self.0.fetch_add(1, Relaxed) as u8;
        let key = |n| TicketKey::new([n; 16], &[n; 32], &[n; 32]);
        Ok(KeySet::new(key(n + 1), vec![key(n)], now + PERIOD))
    }
}

#[test]
fn a_key_that_its_source_dropped_is_forgotten_at_once() {
    let keys = TicketKeys::from_source(Fixed(AtomicU64::new(1)));
    keys.prepare(LIFETIME, at(0)).unwrap();
    assert_eq!(standing(&keys, &[2; 16], at(0)), Some(Standing::Active));
    assert_eq!(standing(&keys, &[1; 16], at(0)), Some(Standing::Retired));
    assert_eq!(standing(&keys, &[1; 16], at(600)), None);
    assert_eq!(standing(&keys, &[2; 16], at(600)), Some(Standing::Retired));
    assert!(
        keys.rotate_at(at(600))
            .unwrap_err()
            .to_string()
            .contains("at their source")
    );
}

#[test]
fn debug_shows_names_only() {
    let keys = TicketKeys::from_source(Fixed(AtomicU64::new(0xa0)));
    keys.prepare(LIFETIME, at(0)).unwrap();
    let shown = format!("{keys:?}");
    assert!(shown.contains(&"a1".repeat(16)), "{shown}");
    assert!(!shown.contains(&"a1".repeat(17)), "{shown}");
    assert!(!shown.contains("161, 161"), "{shown}");
}
