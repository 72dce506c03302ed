//! How many handshakes were resumed and full, in the last two minutes.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;

/// How many spans of time there are, and how long each is.
pub(crate) const SPANS: usize = 60;
pub(crate) const SECONDS: u64 = 2;

pub(crate) struct History {
    began: Instant,
    spans: Mutex<Spans>,
}

/// Of each span, the oldest first: resumed, full.
#[derive(Default)]
struct Spans {
    counts: VecDeque<[u64; 2]>,
    /// The number of the last one, from the beginning.
    last: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            spans: Mutex::default(),
        }
    }
}

impl History {
    /// Called in each handshake: the lock is never held for long.
    pub(crate) fn note(&self, resumed: bool) {
        let mut spans = self.spans.lock();
        spans.move_on(self.now());
        if let Some(counts) = spans.counts.back_mut() {
            counts[usize::from(!resumed)] += 1;
        }
    }

    pub(crate) fn counts(&self) -> Vec<[u64; 2]> {
        let mut spans = self.spans.lock();
        spans.move_on(self.now());
        spans.counts.iter().copied().collect()
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_secs() / SECONDS
    }
}

impl Spans {
    fn move_on(&mut self, now: u64) {
        // Threads may come here in another order than they looked at the clock.
        let passed = now.saturating_sub(self.last) as usize;
        self.last = self.last.max(now);
        self.counts.resize(SPANS, [0; 2]);
        for _ in 0..passed.min(SPANS) {
            self.counts.pop_front();
            self.counts.push_back([0; 2]);
        }
    }
}
