//! What a policy has been told to forget.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// The list is this long at most; then the general cut-off is raised.
pub(crate) const MAX_ENTRIES: usize = 10_000;

/// Cut-offs: sessions whose full handshake began in or before a second are not resumed. One cut-off
/// for all sessions, and a bounded list of cut-offs for the sessions that one hash names.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    /// The cut-off for all, one second later, so that 0 is "none".
    after_cutoff: AtomicU64,
    /// The list has entries: spares the lock, and the caller a hash.
    listed: AtomicBool,
    /// The cut-off by hash.
    list: Mutex<HashMap<[u8; 32], u64>>,
}

impl Forgotten {
    pub(crate) fn forget_before(&self, second: u64) {
        self.after_cutoff
            .fetch_max(second.saturating_add(1), Relaxed);
    }

    pub(crate) fn cutoff(&self) -> Option<u64> {
        self.after_cutoff.load(Relaxed).checked_sub(1)
    }

    /// Forgets the sessions that `hash` names, up to the second `now`. None of them is older than
    /// `lifetime`, so that is how long the entry is kept.
    pub(crate) fn forget(&self, hash: [u8; 32], now: u64, lifetime: u64) {
        let mut list = self.list.lock();
        if list.len() >= MAX_ENTRIES && !list.contains_key(&hash) {
            list.retain(|_, cutoff| now <= cutoff.saturating_add(lifetime));
        }
        if list.len() >= MAX_ENTRIES && !list.contains_key(&hash) {
            // To drop an entry would bring sessions back; so all sessions go instead.
            self.forget_before(now);
            return;
        }
        let cutoff = list.entry(hash).or_insert(now);
        *cutoff = now.max(*cutoff);
        self.listed.store(true, Relaxed);
    }

    /// Whether there is any use in asking `is_forgotten`.
    pub(crate) fn is_listing(&self) -> bool {
        self.listed.load(Relaxed)
    }

    /// Whether a session that `hash` names, from a full handshake at `time`, has been forgotten.
    pub(crate) fn is_forgotten(&self, hash: &[u8; 32], time: u64) -> bool {
        self.list
            .lock()
            .get(hash)
            .is_some_and(|cutoff| time <= *cutoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: usize) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        hash
    }

    #[test]
    fn cutoffs_only_rise() {
        let forgotten = Forgotten::default();
        assert_eq!(forgotten.cutoff(), None);
        for (second, cutoff) in [(0, 0), (10, 10), (5, 10), (u64::MAX, u64::MAX - 1)] {
            forgotten.forget_before(second);
            assert_eq!(forgotten.cutoff(), Some(cutoff));
        }
    }

    #[test]
    fn an_entry_ends_the_sessions_up_to_its_second_and_no_others() {
        let forgotten = Forgotten::default();
        assert!(!forgotten.is_listing());
        forgotten.forget(hash(1), 100, 50);
        forgotten.forget(hash(1), 90, 50);
        assert!(forgotten.is_listing());
        assert!(forgotten.is_forgotten(&hash(1), 100));
        assert!(
            !forgotten.is_forgotten(&hash(1), 101),
            "a new full handshake"
        );
        assert!(!forgotten.is_forgotten(&hash(2), 100));
        assert_eq!(forgotten.cutoff(), None);
    }

    #[test]
    fn a_full_list_drops_what_has_ended_and_then_forgets_all() {
        let forgotten = Forgotten::default();
        for n in 0..MAX_ENTRIES {
            forgotten.forget(hash(n), 100, 50);
        }
        forgotten.forget(hash(1), 140, 50);
        assert_eq!(forgotten.cutoff(), None, "already listed");
        forgotten.forget(hash(MAX_ENTRIES), 150, 50);
        assert_eq!(forgotten.cutoff(), Some(150));
        assert!(forgotten.is_forgotten(&hash(0), 100), "nothing was dropped");

        forgotten.forget(hash(MAX_ENTRIES), 151, 50);
        assert_eq!(forgotten.cutoff(), Some(150), "the ended entries made room");
        assert!(forgotten.is_forgotten(&hash(MAX_ENTRIES), 151));
        assert!(forgotten.is_forgotten(&hash(1), 140), "has not ended");
    }
}
