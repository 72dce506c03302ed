use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::UNIX_EPOCH;

use parking_lot::Mutex;

use super::*;
use crate::keys::KeySet;
use crate::keys::refresher::Refresh;
use crate::keys::ring::RETRY;

mod fleet;

pub(in crate::keys) const LIFETIME: Duration = Duration::from_secs(3_600);
const PERIOD: Duration = Duration::from_secs(600);

pub(in crate::keys) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

/// A ring at `at(0)`, without a thread: the tests are its clock.
pub(in crate::keys) fn ring(keys: TicketKeys) -> TicketKeys {
    ring_at(keys, LIFETIME, at(0))
}

pub(in crate::keys) fn ring_at(
    keys: TicketKeys,
    lifetime: Duration,
    now: SystemTime,
) -> TicketKeys {
    keys.adopt(lifetime, now).unwrap();
    keys
}

fn random() -> TicketKeys {
    ring(TicketKeys::random_every(PERIOD))
}

/// The name of the key that seals, after what the thread would have done.
fn active(keys: &TicketKeys, now: SystemTime) -> [u8; 16] {
    keys.shared.refresh(now);
    *keys.sealing(now).unwrap().name()
}

fn standing(keys: &TicketKeys, name: &[u8; 16], now: SystemTime) -> Option<Standing> {
    Some(keys.opening(name, now)?.1)
}

fn held(keys: &TicketKeys) -> usize {
    keys.shared.ring.read().as_ref().unwrap().names().count()
}

#[test]
fn a_key_seals_for_its_period_and_opens_until_its_last_ticket_has_expired() {
    let keys = random();
    let first = active(&keys, at(599));
    assert_eq!(standing(&keys, &first, at(599)), Some(Standing::Active));

    let second = active(&keys, at(600));
    assert_ne!(first, second);
    assert_eq!(standing(&keys, &first, at(600)), Some(Standing::Retired));
    assert_eq!(standing(&keys, &first, at(4_199)), Some(Standing::Retired));
    assert_eq!(standing(&keys, &first, at(4_200)), None);
}

#[test]
fn a_key_past_its_time_is_wiped() {
    let keys = random();
    let first = Arc::downgrade(&keys.sealing(at(0)).unwrap());
    keys.rotate_at(at(1)).unwrap();
    let second = Arc::downgrade(&keys.sealing(at(1)).unwrap());
    keys.shared.refresh(at(0) + LIFETIME);
    assert!(first.upgrade().is_some());
    keys.shared.refresh(at(1) + LIFETIME);
    assert!(first.upgrade().is_none(), "something still holds the key");
    assert!(second.upgrade().is_some(), "retired when the third came");
}

#[test]
fn the_thread_is_told_when_the_next_key_is_to_be_wiped() {
    let keys = random();
    assert_eq!(keys.shared.next_event(), Some(at(600)));
    keys.rotate_at(at(10)).unwrap();
    keys.shared.lifetime.store(60, Relaxed);
    assert_eq!(keys.shared.next_event(), Some(at(70)));
}

#[test]
fn the_longest_lifetime_of_the_policies_decides() {
    let keys = TicketKeys::random();
    for lifetime in [LIFETIME, LIFETIME * 2, LIFETIME / 2] {
        keys.prepare(lifetime, SystemTime::now()).unwrap();
    }
    assert_eq!(keys.shared.lifetime(), LIFETIME * 2);
}

#[test]
fn rotate_forces_a_new_key_and_the_age_starts_anew() {
    let keys = random();
    let first = active(&keys, at(10));
    assert_eq!(keys.age(at(10)), Some(Duration::from_secs(10)));
    keys.rotate_at(at(10)).unwrap();
    assert_ne!(active(&keys, at(10)), first);
    assert_eq!(keys.age(at(11)), Some(Duration::from_secs(1)));
    assert_eq!(standing(&keys, &first, at(11)), Some(Standing::Retired));
}

#[test]
fn the_retired_keys_are_bounded() {
    let keys = random();
    for _ in 0..300 {
        keys.rotate_at(at(1)).unwrap();
    }
    assert_eq!(held(&keys), 257);
}

#[test]
fn revoked_keys_open_nothing_and_random_ones_go_on_with_a_new_key() {
    let keys = random();
    let first = active(&keys, at(0));
    keys.rotate_at(at(1)).unwrap();
    let second = active(&keys, at(1));
    keys.revoke_all_at(at(2));
    for name in [first, second] {
        assert_eq!(standing(&keys, &name, at(2)), None);
    }
    let third = active(&keys, at(2));
    assert!(third != first && third != second);
    assert_eq!(held(&keys), 1);
}

#[test]
fn what_is_revoked_before_there_is_a_ring_is_revoked() {
    let told = Told::default();
    told.tell(Some(KeySet::new(key(1), at(600)).opens(key(2))));
    let keys = TicketKeys::from_source(told);
    keys.revoke_all_at(at(0));
    let keys = ring(keys);
    assert!(keys.sealing(at(1)).is_none());
    assert_eq!(standing(&keys, &[2; 16], at(1)), None);

    let keys = TicketKeys::random_every(PERIOD);
    keys.revoke_all_at(at(0));
    active(&ring(keys), at(0));
}

/// What it has sealed is over all the same.
#[test]
fn what_is_revoked_while_there_is_no_key_to_be_had_has_no_past() {
    let told = Told::default();
    let keys = TicketKeys::from_source(told.clone());
    keys.revoke_all_at(at(0));
    told.tell(Some(KeySet::new(key(1), at(600)).retired(key(2), at(0))));
    let keys = ring(keys);
    assert_eq!(standing(&keys, &[2; 16], at(1)), None);
    assert_eq!(active(&keys, at(1)), [1; 16]);
}

/// A clock may show anything.
#[test]
fn keys_are_made_at_any_time_of_the_clock() {
    let century = Duration::from_secs(100 * 365 * 24 * 3_600);
    for now in [
        UNIX_EPOCH - century / 2,
        UNIX_EPOCH,
        UNIX_EPOCH + 5 * century,
    ] {
        for keys in [
            TicketKeys::random(),
            TicketKeys::derived("label", [[1; 32]]),
        ] {
            let keys = ring_at(keys, LIFETIME, now);
            keys.shared.refresh(now);
            // Before 1970 nothing is sealed.
            assert_eq!(keys.sealing(now).is_some(), now >= UNIX_EPOCH, "{now:?}");
        }
    }
}

/// Keys that the ring did not hold when they were revoked.
#[test]
fn revoked_keys_do_not_come_in_from_where_the_ring_did_not_look() {
    // Of more than it holds, what is left out then.
    let mut set = KeySet::new(key(1), at(10));
    for n in 0..300_u32 {
        let mut name = [0; 16];
        name[..4].copy_from_slice(&n.to_be_bytes());
        set = set.opens(TicketKey::new(name, &[1; 32], &[1; 32]));
    }
    let (_, keys) = Told::ring(set);
    let last = [&299_u32.to_be_bytes()[..], &[0; 12]]
        .concat()
        .try_into()
        .unwrap();
    assert_eq!(standing(&keys, &last, at(0)), None);
    keys.revoke_all_at(at(1));
    keys.shared.refresh(at(20));
    assert_eq!(standing(&keys, &last, at(20)), None);

    // Whose tickets had all expired, until a policy with a longer lifetime came.
    let set = KeySet::new(key(1), at(10)).retired(key(2), at(0) - LIFETIME);
    let (_, keys) = Told::ring(set);
    assert_eq!(held(&keys), 1);
    keys.revoke_all_at(at(1));
    keys.adopt(LIFETIME * 9, at(2)).unwrap();
    keys.shared.refresh(at(20));
    assert_eq!(held(&keys), 0);

    // Whose time comes again, with a clock that is put back.
    let keys = ring_at(TicketKeys::derived("label", [[1; 32]]), LIFETIME, at(0));
    let stolen = *keys.sealing(at(0)).unwrap().name();
    keys.shared.refresh(at(0) + 2 * TicketKeys::DEFAULT_PERIOD);
    keys.revoke_all_at(at(0) + 2 * TicketKeys::DEFAULT_PERIOD);
    keys.shared.refresh(at(0));
    assert_eq!(standing(&keys, &stolen, at(0)), None);
    assert!(keys.sealing(at(0)).is_none());
}

#[test]
fn a_ring_that_begins_late_opens_what_is_still_alive() {
    let set = KeySet::new(key(1), at(600)).retired(key(2), at(0) - PERIOD);
    let (told, keys) = Told::ring(set);
    assert_eq!(standing(&keys, &[2; 16], at(0)), Some(Standing::Retired));

    let keys = TicketKeys::from_source(told.clone());
    keys.adopt(Duration::from_secs(60), at(0)).unwrap();
    assert_eq!(held(&keys), 1);
    // Another policy, with a longer lifetime.
    keys.adopt(LIFETIME, at(1)).unwrap();
    keys.shared.refresh(at(1));
    assert_eq!(standing(&keys, &[2; 16], at(1)), Some(Standing::Retired));
    let asked = told.asked();
    keys.adopt(LIFETIME, at(2)).unwrap();
    keys.shared.refresh(at(2));
    assert_eq!(told.asked(), asked, "nothing new");
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

#[test]
fn a_clock_that_jumps_back_does_not_stop_rotation() {
    let keys = random();
    let early = active(&keys, at(0) + YEAR);
    // Back to the present: the next key would otherwise be due in a year.
    active(&keys, at(1));
    let later = active(&keys, at(1) + PERIOD);
    assert_ne!(early, later);
    // A second's difference between the clocks of two threads is no jump.
    assert_eq!(active(&keys, at(0) + PERIOD), later);
    // Keys that sealed in that future go when their tickets can have no life left in the present.
    assert!(standing(&keys, &early, at(0) + PERIOD + LIFETIME).is_some());
    assert_eq!(standing(&keys, &early, at(1) + PERIOD + LIFETIME), None);
}

fn key(n: u8) -> TicketKey {
    TicketKey::new([n; 16], &[n; 32], &[n; 32])
}

/// Gives what it is told to, and counts how often.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<ToldState>>);

#[derive(Default)]
struct ToldState {
    set: Option<KeySet>,
    asked: u64,
    panics: bool,
}

impl Told {
    fn ring(set: KeySet) -> (Self, TicketKeys) {
        let told = Self::default();
        told.tell(Some(set));
        let keys = ring(TicketKeys::from_source(told.clone()));
        (told, keys)
    }

    fn tell(&self, set: Option<KeySet>) {
        self.0.lock().set = set;
    }

    fn asked(&self) -> u64 {
        self.0.lock().asked
    }
}

impl KeySource for Told {
    fn load(&self, _: SystemTime) -> Result<KeySet, KeyError> {
        let mut state = self.0.lock();
        state.asked += 1;
        let panics = state.panics;
        let set = state.set.clone();
        drop(state);
        set.ok_or_else(|| {
            assert!(!panics, "no keys at all");
            KeyError::new("not now")
        })
    }
}

#[test]
fn a_clock_that_jumps_back_asks_a_source_with_one_key_again_and_only_once() {
    for fails in [false, true] {
        let (told, keys) = Told::ring(KeySet::new(key(1), at(0) + YEAR));
        keys.shared.refresh(at(1) + YEAR);
        assert_eq!(told.asked(), 2);
        let set = KeySet::new(key(1), at(0) + PERIOD);
        told.tell((!fails).then_some(set));
        let asked_again = if fails {
            RETRY_SECONDS
        } else {
            PERIOD.as_secs()
        };
        for _ in 0..10 {
            active(&keys, at(0));
        }
        assert_eq!(told.asked(), 3, "failing: {fails}");
        active(&keys, at(asked_again));
        assert_eq!(told.asked(), 4, "failing: {fails}");
    }
}

const RETRY_SECONDS: u64 = RETRY.as_secs();

#[test]
fn keys_change_by_the_clock_alone() {
    let set = KeySet::new(key(1), at(10_000))
        .upcoming(key(3), at(200))
        .upcoming(key(2), at(100))
        .seals_until(at(300));
    let (told, keys) = Told::ring(set);
    let sealing = |second| keys.sealing(at(second)).map(|key| key.name()[0]);
    let seen = [0, 99, 100, 199, 200, 299, 300].map(sealing);
    let expected = [Some(1), Some(1), Some(2), Some(2), Some(3), Some(3), None];
    assert_eq!(seen, expected);
    assert_eq!(sealing(0), Some(1), "no state is kept");
    assert_eq!(keys.age(at(150)), Some(Duration::from_secs(50)));
    assert_eq!(keys.age(at(300)), None);

    let of = |n: u8, second| standing(&keys, &[n; 16], at(second));
    assert_eq!(of(2, 99), Some(Standing::Upcoming));
    assert_eq!(of(2, 100), Some(Standing::Active));
    assert_eq!(of(2, 200), Some(Standing::Retired));
    // To the second in which the last ticket ends.
    for (n, sealed_until) in [(1, 100), (2, 200), (3, 300)] {
        assert_eq!(of(n, sealed_until + 3_599), Some(Standing::Retired));
        assert_eq!(of(n, sealed_until + 3_600), None);
    }
    assert_eq!(told.asked(), 1);
}

#[test]
fn keys_that_only_open_stay_as_long_as_they_are_named_or_their_tickets_live() {
    let set = KeySet::new(key(1), at(600))
        .opens(key(2))
        .retired(key(3), at(100));
    let (told, keys) = Told::ring(set);
    let of = |n: u8, second| standing(&keys, &[n; 16], at(second));
    assert_eq!(
        (of(2, 0), of(3, 0)),
        (Some(Standing::Retired), Some(Standing::Retired))
    );
    assert_eq!(of(2, 100_000), Some(Standing::Retired));
    assert_eq!((of(3, 3_699).is_some(), of(3, 3_700)), (true, None));

    told.tell(Some(KeySet::new(key(4), at(1_200))));
    keys.shared.refresh(at(599));
    assert_eq!(told.asked(), 1, "not before its time");
    keys.shared.refresh(at(600));
    assert_eq!(held(&keys), 1, "the set is the whole truth");
    assert_eq!(of(4, 600), Some(Standing::Active));
}

#[test]
fn revoked_keys_stay_so_whatever_their_source_says() {
    let set = KeySet::new(key(1), at(0))
        .upcoming(key(2), at(100))
        .opens(key(3));
    let (told, keys) = Told::ring(set.clone());
    keys.revoke_all_at(at(1));
    for n in 1..=3 {
        assert_eq!(standing(&keys, &[n; 16], at(1)), None);
    }
    assert!(keys.sealing(at(1)).is_none());
    assert_eq!(keys.last_error().map(|e| e.to_string()), None);

    told.tell(Some(set.upcoming(key(4), at(200))));
    keys.shared.refresh(at(2));
    assert!(keys.sealing(at(199)).is_none(), "not before its time");
    assert_eq!(active(&keys, at(200)), [4; 16]);
    assert_eq!(held(&keys), 1);
}

#[test]
fn rotate_is_refused_where_the_source_decides() {
    let (told, keys) = Told::ring(KeySet::new(key(1), at(600)));
    let refused = keys.rotate_at(at(0)).unwrap_err().to_string();
    assert!(refused.contains("change at their source"), "{refused}");
    assert_eq!((told.asked(), keys.failures()), (1, 0));
}

/// A source that uses its own keys while it is asked for them.
struct Selfish(Arc<Mutex<Option<TicketKeys>>>);

impl KeySource for Selfish {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        if let Some(own) = &*self.0.lock() {
            let refused = own.rotate_at(now).unwrap_err().to_string();
            assert!(refused.contains("its own keys"), "{refused}");
            own.adopt(LIFETIME, now).unwrap();
            own.sealing(now).unwrap();
            own.shared.refresh(now);
        }
        Ok(KeySet::new(TicketKey::random()?, now + PERIOD))
    }
}

#[test]
fn a_source_that_asks_for_its_own_keys_does_not_wait_for_itself() {
    let own = Arc::new(Mutex::new(None));
    let keys = ring(TicketKeys::from_source(Selfish(Arc::clone(&own))));
    *own.lock() = Some(keys.clone());
    let first = active(&keys, at(0));
    assert_ne!(active(&keys, at(600)), first);
    own.lock().take();
}

#[test]
fn a_source_that_fails_or_panics_keeps_the_ring_for_its_time_and_is_asked_again() {
    for panics in [false, true] {
        let set = |n| {
            KeySet::new(key(n), at(600))
                .seals_until(at(700))
                .warning("loose")
        };
        let (told, keys) = Told::ring(set(1));
        told.0.lock().panics = panics;
        assert_eq!(keys.last_warning().as_deref(), Some("loose"));

        told.tell(None);
        assert_eq!(active(&keys, at(600)), [1; 16]);
        assert_eq!(active(&keys, at(600)), [1; 16]);
        assert_eq!(keys.failures(), 1, "asked again before a second was over");
        let error = keys.last_error().unwrap().to_string();
        assert_eq!(error.contains("panicked"), panics, "{error}");
        assert_eq!(active(&keys, at(601)), [1; 16]);
        assert_eq!(keys.failures(), 2);
        keys.shared.refresh(at(700));
        assert!(keys.sealing(at(700)).is_none(), "its time is over");
        assert_eq!(standing(&keys, &[1; 16], at(700)), Some(Standing::Retired));

        told.tell(Some(set(2).seals_until(at(9_999))));
        assert_eq!(active(&keys, at(701)), [2; 16]);
        assert!(keys.last_error().is_none());
    }
}

/// A source that does not answer before it is told to.
struct Slow(Mutex<Receiver<()>>);

impl KeySource for Slow {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        self.0.lock().recv().unwrap();
        // Due again at once.
        Ok(KeySet::new(TicketKey::random()?, now).opens(key(1)))
    }
}

const SOON: Duration = Duration::from_secs(10);

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_handshake_waits_for_a_slow_source_nor_does_revoking() {
    let (go, wait) = channel();
    let keys = TicketKeys::from_source(Slow(Mutex::new(wait)));
    go.send(()).unwrap();
    keys.prepare(LIFETIME, SystemTime::now()).unwrap();
    let first = *keys.sealing(SystemTime::now()).unwrap().name();
    wait_until("the thread asks for the next keys", || {
        keys.shared.turning.asking().try_lock().is_none()
    });

    // Not scoped threads: if one waits for ever, the test is to fail and not to wait with it.
    let (done, answers) = channel();
    let act = |act: fn(&TicketKeys) -> Option<[u8; 16]>| {
        let (keys, done) = (keys.clone(), done.clone());
        std::thread::spawn(move || done.send(act(&keys)));
        answers
            .recv_timeout(SOON)
            .expect("nothing waits for a slow source")
    };
    let sealing: fn(&TicketKeys) -> _ = |keys| Some(*keys.sealing(SystemTime::now())?.name());
    assert_eq!(act(sealing), Some(first));
    assert_eq!(
        act(|keys| keys
            .prepare(LIFETIME, SystemTime::now())
            .err()
            .map(|_| [0; 16])),
        None
    );

    let revoking = std::thread::spawn({
        let keys = keys.clone();
        move || keys.revoke_all()
    });
    wait_until("revoked at once", || {
        keys.sealing(SystemTime::now()).is_none()
    });
    // For the answer that is under way, for the one after revoking, and then some.
    (0..10).for_each(|_| go.send(()).unwrap());
    revoking.join().unwrap();
    wait_until("a new key seals", || {
        keys.sealing(SystemTime::now()).is_some()
    });
    assert!(keys.opening(&first, SystemTime::now()).is_none());
    assert!(
        keys.opening(&[1; 16], SystemTime::now()).is_none(),
        "revoked, and named again"
    );
}

/// Says when it is dropped.
struct Alive(Arc<AtomicBool>);

impl KeySource for Alive {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        Ok(KeySet::new(TicketKey::random()?, now + PERIOD))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

#[test]
fn the_thread_ends_with_the_last_clone() {
    let alive = Arc::new(AtomicBool::new(true));
    let keys = TicketKeys::from_source(Alive(Arc::clone(&alive)));
    keys.prepare(LIFETIME, SystemTime::now()).unwrap();
    keys.prepare(LIFETIME, SystemTime::now()).unwrap();
    let clone = keys.clone();
    drop(keys);
    clone.sealing(SystemTime::now()).unwrap();
    assert!(alive.load(Relaxed));
    drop(clone);
    wait_until("the source is dropped", || !alive.load(Relaxed));
}

#[test]
fn debug_shows_names_only() {
    let (_, keys) = Told::ring(KeySet::new(key(0xa1), at(600)).opens(key(0xa2)));
    let shown = format!("{keys:?}");
    for name in ["a1", "a2"] {
        assert!(shown.contains(&name.repeat(16)), "{shown}");
        assert!(!shown.contains(&name.repeat(17)), "{shown}");
    }
    assert!(!shown.contains("161, 161"), "{shown}");
}
