//! What came of looking at client certificates again, remembered until something changes that it depends on.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lru::LruCache;
use parking_lot::Mutex;

use crate::ffi::TrustState;

/// So many are remembered; of more, the one that was needed longest ago goes.
const MAX_VERDICTS: usize = 1 << 16;

/// So many lineages are remembered that were refused too late.
const MAX_REFUSED: usize = 10_000;

/// Whose certificate was looked at, by the lineage of the session, all of which have the same certificate and chain; and
/// the verifier that it was held against, by its number.
pub(crate) type Question = ([u8; 16], u64);

/// What a verdict depends on that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Circumstances {
    pub(crate) state: TrustState,
    /// How often the policy was told that trust has changed.
    pub(crate) changes: u64,
}

#[derive(Debug)]
struct Verdict {
    passes: bool,
    when: Circumstances,
    /// In seconds since the Unix epoch.
    until: u64,
}

#[derive(Debug)]
pub(crate) struct Verdicts {
    known: Mutex<LruCache<Question, Verdict>>,
    /// Lineages whose certificate did not pass after their lookup.
    refused: Mutex<LruCache<[u8; 16], ()>>,
    /// There are any: spares the lock.
    any_refused: AtomicBool,
}

impl Default for Verdicts {
    fn default() -> Self {
        // Bounded below: `lru` would set the memory for a bound of its own aside at once.
        Self {
            known: Mutex::new(LruCache::unbounded()),
            refused: Mutex::new(LruCache::unbounded()),
            any_refused: AtomicBool::new(false),
        }
    }
}

impl Verdicts {
    /// The verdict from before, if it still holds.
    pub(crate) fn get(&self, question: &Question, when: &Circumstances, now: u64) -> Option<bool> {
        let mut known = self.known.lock();
        let known = known.get(question)?;
        (known.when == *when && now < known.until).then_some(known.passes)
    }

    pub(crate) fn note(&self, question: Question, when: Circumstances, until: u64, passes: bool) {
        let mut known = self.known.lock();
        let verdict = Verdict {
            passes,
            when,
            until,
        };
        known.put(question, verdict);
        if known.len() > MAX_VERDICTS {
            known.pop_lru();
        }
    }

    /// A session of this lineage did not pass when it was too late to decline it. What it did not pass may be nowhere to
    /// be found when the next is looked up; its client is better off with a lineage of today.
    pub(crate) fn refuse(&self, lineage: [u8; 16]) {
        let mut refused = self.refused.lock();
        refused.put(lineage, ());
        if refused.len() > MAX_REFUSED {
            refused.pop_lru();
        }
        self.any_refused.store(true, Relaxed);
    }

    pub(crate) fn is_refused(&self, lineage: &[u8; 16]) -> bool {
        self.any_refused.load(Relaxed) && self.refused.lock().get(lineage).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.known.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineages_that_were_refused_are_bounded() {
        let verdicts = Verdicts::default();
        let lineage = |number: usize| {
            let mut lineage = [0; 16];
            lineage[..8].copy_from_slice(&number.to_be_bytes());
            lineage
        };
        assert!(!verdicts.is_refused(&lineage(1)));
        (0..=MAX_REFUSED).for_each(|number| verdicts.refuse(lineage(number)));
        assert!(!verdicts.is_refused(&lineage(0)), "the oldest has gone");
        assert!(verdicts.is_refused(&lineage(1)));
        assert_eq!(verdicts.refused.lock().len(), MAX_REFUSED);
    }
}
