//! What came of looking at client certificates again, remembered until something changes that it depends on.

use lru::LruCache;
use parking_lot::Mutex;

use crate::ffi::TrustState;

/// So many are remembered; of more, the one that was needed longest ago goes.
const MAX_VERDICTS: usize = 1 << 16;

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
pub(crate) struct Verdicts(Mutex<LruCache<Question, Verdict>>);

impl Default for Verdicts {
    fn default() -> Self {
        // Bounded below: `lru` would set the memory for a bound of its own aside at once.
        Self(Mutex::new(LruCache::unbounded()))
    }
}

impl Verdicts {
    /// The verdict from before, if it still holds.
    pub(crate) fn get(&self, question: &Question, when: &Circumstances, now: u64) -> Option<bool> {
        let mut known = self.0.lock();
        let known = known.get(question)?;
        (known.when == *when && now < known.until).then_some(known.passes)
    }

    pub(crate) fn note(&self, question: Question, when: Circumstances, until: u64, passes: bool) {
        let mut known = self.0.lock();
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

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
