//! Demands for client certificates that came too late to decline a session.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lru::LruCache;
use parking_lot::Mutex;

use crate::outcome::Reason;
use crate::stamp::{Binding, Demand, Stamp};

/// So many names are remembered; of more, the one that mattered longest ago goes, at the cost of
/// one more connection that is failed.
const MAX_NAMES: usize = 10_000;

/// By the binding of a session, and so by server name: what was demanded of it in the server name
/// callback, and until which second that is remembered. Sessions that do not meet it are declined
/// at their lookup from then on.
#[derive(Debug)]
pub(crate) struct Missed {
    /// There are any: spares the lock.
    any: AtomicBool,
    names: Mutex<LruCache<Binding, (Demand, u64)>>,
}

impl Default for Missed {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            // Bounded below: `lru` would set the memory for a bound of its own aside at once.
            names: Mutex::new(LruCache::unbounded()),
        }
    }
}

impl Missed {
    pub(crate) fn remember(&self, binding: Binding, demand: Demand, until: u64) {
        let mut names = self.names.lock();
        names.put(binding, (demand, until));
        if names.len() > MAX_NAMES {
            names.pop_lru();
        }
        self.any.store(true, Relaxed);
    }

    /// Whether a session with this stamp meets what was demanded of its like before.
    pub(crate) fn is_met_by(&self, stamp: &Stamp, now: u64) -> Result<(), Reason> {
        if !self.any.load(Relaxed) {
            return Ok(());
        }
        let mut names = self.names.lock();
        match names.get(&stamp.binding) {
            Some((demand, until)) if now <= *until => demand.is_met_by(stamp),
            Some(_) => {
                names.pop(&stamp.binding);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use openssl::ssl::SslVerifyMode;

    use super::*;
    use crate::stamp::ClientIs;

    const DEMAND: Demand = Demand {
        verify: SslVerifyMode::PEER.union(SslVerifyMode::FAIL_IF_NO_PEER_CERT),
        authority: Some([1; 16]),
        by_callback: false,
    };

    fn stamp(name: usize, authority: Option<Binding>) -> Stamp {
        let mut binding = [0; 16];
        binding[..8].copy_from_slice(&name.to_be_bytes());
        Stamp {
            time: 0,
            binding,
            authority,
            client: match authority {
                None => ClientIs::Anonymous,
                Some(_) => ClientIs::Verified,
            },
        }
    }

    #[test]
    fn sessions_of_the_name_that_lack_what_was_demanded_are_declined() {
        let missed = Missed::default();
        missed.remember(stamp(1, None).binding, DEMAND, 100);
        let unauthenticated = Err(Reason::Unauthenticated);
        assert_eq!(missed.is_met_by(&stamp(1, None), 100), unauthenticated);
        let other = Err(Reason::OtherBinding);
        assert_eq!(missed.is_met_by(&stamp(1, Some([2; 16])), 100), other);
        assert_eq!(missed.is_met_by(&stamp(1, Some([1; 16])), 100), Ok(()));
        assert_eq!(
            missed.is_met_by(&stamp(2, None), 100),
            Ok(()),
            "another name"
        );
        assert_eq!(missed.is_met_by(&stamp(1, None), 101), Ok(()), "long ago");
    }

    #[test]
    fn the_names_are_bounded() {
        let missed = Missed::default();
        for name in 0..=MAX_NAMES {
            missed.remember(stamp(name, None).binding, DEMAND, 100);
        }
        assert_eq!(missed.names.lock().len(), MAX_NAMES);
        assert_eq!(
            missed.is_met_by(&stamp(0, None), 0),
            Ok(()),
            "the oldest has gone"
        );
        assert!(missed.is_met_by(&stamp(1, None), 0).is_err());
    }
}
