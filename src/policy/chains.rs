//! The certificates between those of clients and those of CAs, kept by hash: tickets carry the hash alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lru::LruCache;
use parking_lot::Mutex;

use crate::session::{Chain, ChainHash};

/// So many bytes of memory they may take; then the one that was needed longest ago goes.
const MAX_BYTES: usize = 8 << 20;

pub(crate) struct Chains {
    /// There are any: spares the lock.
    any: AtomicBool,
    kept: Mutex<Kept>,
}

struct Kept {
    by_hash: LruCache<ChainHash, Arc<Chain>>,
    bytes: usize,
}

impl Default for Chains {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            kept: Mutex::new(Kept {
                by_hash: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }
}

impl Chains {
    pub(crate) fn get(&self, hash: &ChainHash) -> Option<Arc<Chain>> {
        if !self.any.load(Relaxed) {
            return None;
        }
        self.kept.lock().by_hash.get(hash).map(Arc::clone)
    }

    /// Keeps a chain, unless it is too large; returns that which is kept already, if it is.
    pub(crate) fn keep(&self, chain: Chain) -> Arc<Chain> {
        if !chain.is_small() {
            return Arc::new(chain);
        }
        if let Some(known) = self.get(chain.hash()) {
            return known;
        }
        let chain = Arc::new(chain);
        // What goes is freed outside the lock.
        let mut gone = Vec::new();
        let mut kept = self.kept.lock();
        kept.bytes += chain.size();
        gone.extend(kept.by_hash.push(*chain.hash(), Arc::clone(&chain)));
        if let Some((_, before)) = gone.first() {
            kept.bytes -= before.size();
        }
        while kept.bytes > MAX_BYTES {
            let Some((hash, oldest)) = kept.by_hash.pop_lru() else {
                break;
            };
            kept.bytes -= oldest.size();
            gone.push((hash, oldest));
        }
        drop(kept);
        self.any.store(true, Relaxed);
        chain
    }

    /// How many there are, and the bytes that they count as.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let kept = self.kept.lock();
        (kept.by_hash.len(), kept.bytes)
    }
}
