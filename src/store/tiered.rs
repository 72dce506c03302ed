//! A store over two: memory before one that is shared.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::session_store::{SessionStore, Usage};
use crate::session::{Session, SessionKey, StoreError};

/// A store before a store: one in this host's memory, `L1`, before one that hosts share, `L2`.
///
/// [`get`](SessionStore::get) asks L1, and only if that has nothing L2, whose session it then keeps
/// in L1. [`put`](SessionStore::put) writes to L2 and then to L1: what L2 did not store, L1 does
/// not have. [`take`](SessionStore::take) is L2's alone, and so is
/// [`takes_once`](SessionStore::takes_once): L1's copy is thrown away, never returned, whatever L2
/// says. Of a policy that is [`single_use`](crate::Resumption::single_use) L1 therefore serves only
/// TLS 1.2.
///
/// ```
/// use openssl_resumption::{CircuitBreaker, MemoryStore, Resumption, Sealed, Tiered};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let shared = MemoryStore::default();
/// # let secret = [7; 32];
/// let shared = Sealed::new(CircuitBreaker::new(shared), [secret])?;
/// let policy = Resumption::stateful(Tiered::new(MemoryStore::default(), shared));
/// # Ok(())
/// # }
/// ```
///
/// # What L1 still has
///
/// A session removed on another host, after a fatal alert or by
/// [`strict`](crate::Resumption::strict), lives on in L1 here until it ends or is evicted; so does
/// one that was deleted from the shared store. A session removed on this host is gone from both,
/// even if it was being looked up at that moment. The policy's `forget_*` reach what L1 has like
/// everything else. While L2 is down L1 goes on serving what it has.
///
/// Do not let a policy that is `single_use` and one that is not share a store in one scope: what
/// one takes, the other may have in L1.
///
/// # Errors
///
/// Errors of L2 are errors. Those of L1 are not, as L2 has the answer, but for `remove`: the
/// session may still be in L1. A panic of either goes on.
pub struct Tiered<L1, L2> {
    l1: L1,
    l2: L2,
    /// How often sessions were removed whose keys end in the same bits: a lookup that finds a
    /// session in L2, and sees that one was removed meanwhile, does not leave it in L1.
    removals: [AtomicU64; SLOTS],
}

const SLOTS: usize = 64;

impl<L1: SessionStore, L2: SessionStore> Tiered<L1, L2> {
    /// A store of `l1` in the memory of this process, such as a
    /// [`MemoryStore`](crate::MemoryStore), before `l2`.
    #[must_use]
    pub fn new(l1: L1, l2: L2) -> Self {
        Self {
            l1,
            l2,
            removals: [const { AtomicU64::new(0) }; SLOTS],
        }
    }

    fn removals(&self, key: &SessionKey) -> &AtomicU64 {
        &self.removals[usize::from(key.as_bytes()[31]) % SLOTS]
    }

    /// Has L1 `put` the session, unless L2 was asked to remove it since `removals` were counted.
    fn fill_l1(
        &self,
        key: &SessionKey,
        removals: u64,
        put: impl FnOnce(&L1) -> Result<(), StoreError>,
    ) {
        let _ = put(&self.l1);
        if self.removals(key).load(SeqCst) != removals {
            let _ = self.l1.remove(key);
        }
    }

    /// To be called once L2 no longer has the session, or might not.
    fn remove_from_l1(&self, key: &SessionKey) -> Result<(), StoreError> {
        // In this order: whoever fills L1 after it was emptied sees the count.
        self.removals(key).fetch_add(1, SeqCst);
        self.l1.remove(key)
    }
}

impl<L1: SessionStore, L2: SessionStore> SessionStore for Tiered<L1, L2> {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        let removals = self.removals(key).load(SeqCst);
        self.l2.put(key, session.clone())?;
        self.fill_l1(key, removals, |l1| l1.put(key, session));
        Ok(())
    }

    fn put_successor(
        &self,
        key: &SessionKey,
        session: Session,
        used: &SessionKey,
    ) -> Result<(), StoreError> {
        let removals = self.removals(key).load(SeqCst);
        self.l2.put_successor(key, session.clone(), used)?;
        let put = |l1: &L1| l1.put_successor(key, session, used);
        self.fill_l1(key, removals, put);
        Ok(())
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        if let Ok(Some(session)) = self.l1.get(key) {
            return Ok(Some(session));
        }
        let removals = self.removals(key).load(SeqCst);
        let found = self.l2.get(key)?;
        if let Some(session) = &found {
            self.fill_l1(key, removals, |l1| l1.put(key, session.clone()));
        }
        Ok(found)
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        let removed = self.l2.remove(key);
        self.remove_from_l1(key).and(removed)
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        let taken = self.l2.take(key);
        let _ = self.remove_from_l1(key);
        taken
    }

    fn takes_once(&self) -> bool {
        self.l2.takes_once()
    }

    fn remembers_takes(&self, lives: Duration) -> Result<bool, StoreError> {
        self.l2.remembers_takes(lives)
    }

    /// The sums of both, or what one says if the other says nothing: a session that both have
    /// counts twice. Give `Arc`s of the stores to see each alone.
    fn usage(&self) -> Option<Usage> {
        let (l1, l2) = (self.l1.usage(), self.l2.usage());
        let (Some(a), Some(b)) = (l1, l2) else {
            return l1.or(l2);
        };
        Some(Usage {
            entries: a.entries + b.entries,
            bytes: a.bytes + b.bytes,
            evictions: a.evictions + b.evictions,
            expired: a.expired + b.expired,
            queued: a.queued + b.queued,
            lost: a.lost + b.lost,
            refused: a.refused + b.refused,
        })
    }

    /// L2's; if it has none, L1's.
    fn last_error(&self) -> Option<String> {
        self.l2.last_error().or_else(|| self.l1.last_error())
    }
}

impl<L1, L2> fmt::Debug for Tiered<L1, L2> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
