//! Demands for client certificates that come after the session has been looked up: in the server name
//! callback, or in the certificate callback, which OpenSSL does not call when it resumes.
//!
//! They show in full handshakes, and in connections that had to be failed. From then on sessions of that
//! server name are held against them when they are looked up.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lru::LruCache;
use parking_lot::Mutex;

use crate::outcome::Reason;
use crate::stamp::{Binding, Demand, Stamp};

/// So many names are remembered; of more, the one that mattered longest ago goes.
const MAX_NAMES: usize = 10_000;

/// By the binding of a session, and so by server name: what is demanded late.
#[derive(Debug)]
pub(crate) struct LateDemands {
    /// Any was ever made: spares the lock.
    any: AtomicBool,
    names: Mutex<LruCache<Binding, Option<(Demand, u64)>>>,
}

/// What has been seen of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Unknown,
    NothingLate,
    Late(Demand),
}

impl Default for LateDemands {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            // Bounded below: `lru` would set the memory for a bound of its own aside at once.
            names: Mutex::new(LruCache::unbounded()),
        }
    }
}

impl LateDemands {
    /// Whether one was ever made.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// What was demanded late of this name, if anything was, and until which second that is to be remembered.
    /// A demand is remembered though another connection of the name met none.
    pub(crate) fn note(&self, binding: Binding, late: Option<(Demand, u64)>, now: u64) {
        let mut names = self.names.lock();
        let known = names.get(&binding).copied().flatten();
        let known = known.filter(|(_, until)| now <= *until);
        names.put(binding, late.or(known));
        if names.len() > MAX_NAMES {
            names.pop_lru();
        }
        if late.is_some() {
            self.any.store(true, Relaxed);
        }
    }

    pub(crate) fn seen(&self, binding: &Binding, now: u64) -> Seen {
        match self.names.lock().get(binding) {
            None => Seen::Unknown,
            Some(Some((demand, until))) if now <= *until => Seen::Late(*demand),
            Some(_) => Seen::NothingLate,
        }
    }
}

/// Whether a session with this stamp meets what was demanded late of its like: `here`, at the context that
/// accepts, or where that has seen nothing of the name, `anywhere` else under the policy.
pub(crate) fn is_met_by(
    stamp: &Stamp,
    here: &LateDemands,
    anywhere: &LateDemands,
    now: u64,
) -> Result<(), Reason> {
    if !anywhere.any() {
        return Ok(());
    }
    let seen = match here.seen(&stamp.binding, now) {
        Seen::Unknown => anywhere.seen(&stamp.binding, now),
        seen => seen,
    };
    match seen {
        Seen::Late(demand) => demand.is_met_by(stamp),
        Seen::Unknown | Seen::NothingLate => Ok(()),
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

    fn note(demands: &LateDemands, name: usize, until: u64) {
        demands.note(stamp(name, None).binding, Some((DEMAND, until)), 0);
    }

    #[test]
    fn sessions_of_the_name_that_lack_what_was_demanded_are_declined() {
        let demands = LateDemands::default();
        note(&demands, 1, 100);
        let met = |stamp, now| is_met_by(&stamp, &demands, &demands, now);
        assert_eq!(met(stamp(1, None), 100), Err(Reason::Unauthenticated));
        assert_eq!(met(stamp(1, Some([2; 16])), 100), Err(Reason::OtherBinding));
        assert_eq!(met(stamp(1, Some([1; 16])), 100), Ok(()));
        assert_eq!(met(stamp(2, None), 100), Ok(()), "another name");
        assert_eq!(met(stamp(1, None), 101), Ok(()), "long ago");
    }

    #[test]
    fn what_a_context_has_seen_itself_counts_before_what_others_have() {
        let (here, anywhere) = (LateDemands::default(), LateDemands::default());
        note(&anywhere, 1, 100);
        let binding = stamp(1, None).binding;
        let met = || is_met_by(&stamp(1, None), &here, &anywhere, 50);
        assert_eq!(met(), Err(Reason::Unauthenticated));
        here.note(binding, None, 0);
        assert_eq!(met(), Ok(()));
        note(&here, 1, 100);
        assert_eq!(met(), Err(Reason::Unauthenticated));
        here.note(binding, None, 50);
        assert_eq!(met(), Err(Reason::Unauthenticated), "not forgotten");
        here.note(binding, None, 101);
        assert_eq!(met(), Ok(()), "ended");
    }

    #[test]
    fn the_names_are_bounded() {
        let demands = LateDemands::default();
        (0..=MAX_NAMES).for_each(|name| note(&demands, name, 100));
        assert_eq!(demands.names.lock().len(), MAX_NAMES);
        let seen = |name| demands.seen(&stamp(name, None).binding, 0);
        assert_eq!(seen(0), Seen::Unknown, "the oldest has gone");
        assert_eq!(seen(1), Seen::Late(DEMAND));
    }
}
