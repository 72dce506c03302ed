//! Demands for client certificates that come after the session has been looked up: in the server name
//! callback, or in the certificate callback, which OpenSSL does not call when it resumes.
//!
//! They show in full handshakes, and in connections that had to be failed. From then on sessions of that
//! server name are held against them when they are looked up.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use lru::LruCache;
use parking_lot::Mutex;

use crate::ffi::Verifier;
use crate::outcome::Reason;
use crate::session::{Binding, Demand, Stamp};

/// So many names are remembered; of more, the one that mattered longest ago goes.
const MAX_NAMES: usize = 10_000;

/// By the binding of a session, and so by server name: what was demanded at the end of a handshake.
#[derive(Debug)]
pub(crate) struct LateDemands {
    /// Any was ever late: spares the lock.
    any: AtomicBool,
    names: Mutex<LruCache<Binding, Demanded>>,
}

/// What was demanded of a client, and if it was late, until which second that is remembered.
#[derive(Debug, Clone)]
pub(crate) struct Demanded {
    pub(crate) demand: Demand,
    pub(crate) until: Option<u64>,
    /// What a certificate was verified with, as long as the context is there whose it is.
    pub(crate) verifier: Weak<Verifier>,
}

impl Demanded {
    fn is_late(&self, now: u64) -> bool {
        self.until.is_some_and(|until| now <= until)
    }
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

    /// What was demanded of this name. What was late is remembered though another connection of the name met
    /// no such demand.
    pub(crate) fn note(&self, binding: Binding, seen: Demanded, now: u64) {
        let mut names = self.names.lock();
        let late = seen.until.is_some();
        let known = names
            .get(&binding)
            .filter(|known| known.is_late(now) && !late);
        let mut demanded = known.cloned().unwrap_or_else(|| seen.clone());
        // Where one connection is asked for no certificate, another of the name may be.
        let before = names.get(&binding).map(|before| before.verifier.clone());
        let is_there = seen.verifier.strong_count() > 0;
        demanded.verifier = before.filter(|_| !is_there).unwrap_or(seen.verifier);
        names.put(binding, demanded);
        if names.len() > MAX_NAMES {
            names.pop_lru();
        }
        if late {
            self.any.store(true, Relaxed);
        }
    }

    fn seen(&self, binding: &Binding) -> Option<Demanded> {
        self.names.lock().get(binding).cloned()
    }

    /// What certificates of clients of this name were verified with last.
    pub(crate) fn verifier(&self, binding: &Binding) -> Option<Arc<Verifier>> {
        self.names.lock().get(binding)?.verifier.upgrade()
    }
}

/// Whether a session with this stamp meets what was demanded late of its like: `here`, at the context that
/// accepts, or where that has seen nothing of the name, `anywhere` else under the policy. Where a callback has
/// `relaxed` what the context demands, another may come to demand it again, in time or late.
pub(crate) fn is_met_by(
    stamp: &Stamp,
    relaxed: bool,
    here: &LateDemands,
    anywhere: &LateDemands,
    now: u64,
) -> Result<(), Reason> {
    if !relaxed && !anywhere.any() {
        return Ok(());
    }
    let seen = here.seen(&stamp.binding);
    match seen.or_else(|| anywhere.seen(&stamp.binding)) {
        Some(seen) if relaxed || seen.is_late(now) => seen.demand.is_met_by(stamp),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use openssl::ssl::SslVerifyMode;

    use super::*;
    use crate::session::ClientIs;

    const DEMAND: Demand = Demand {
        verify: SslVerifyMode::PEER.union(SslVerifyMode::FAIL_IF_NO_PEER_CERT),
        authority: Some([1; 16]),
        callback: None,
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
            lineage: [0; 16],
            ended: false,
            chain: None,
        }
    }

    const NONE: Demand = Demand {
        verify: SslVerifyMode::NONE,
        authority: None,
        callback: None,
    };

    fn note(demands: &LateDemands, name: usize, demand: Demand, until: Option<u64>, now: u64) {
        let seen = Demanded {
            demand,
            until,
            verifier: Weak::new(),
        };
        demands.note(stamp(name, None).binding, seen, now);
    }

    #[test]
    fn sessions_of_the_name_that_lack_what_was_demanded_are_declined() {
        let demands = LateDemands::default();
        note(&demands, 1, DEMAND, Some(100), 0);
        let met = |stamp, now| is_met_by(&stamp, false, &demands, &demands, now);
        assert_eq!(met(stamp(1, None), 100), Err(Reason::Unauthenticated));
        assert_eq!(met(stamp(1, Some([2; 16])), 100), Err(Reason::OtherBinding));
        assert_eq!(met(stamp(1, Some([1; 16])), 100), Ok(()));
        assert_eq!(met(stamp(2, None), 100), Ok(()), "another name");
        assert_eq!(met(stamp(1, None), 101), Ok(()), "long ago");
    }

    #[test]
    fn what_a_context_has_seen_itself_counts_before_what_others_have() {
        let (here, anywhere) = (LateDemands::default(), LateDemands::default());
        note(&anywhere, 1, DEMAND, Some(100), 0);
        let met = |now| is_met_by(&stamp(1, None), false, &here, &anywhere, now);
        assert_eq!(met(50), Err(Reason::Unauthenticated));
        note(&here, 1, NONE, None, 0);
        assert_eq!(met(50), Ok(()));
        note(&here, 1, DEMAND, Some(100), 50);
        assert_eq!(met(50), Err(Reason::Unauthenticated));
        note(&here, 1, NONE, None, 50);
        assert_eq!(met(50), Err(Reason::Unauthenticated), "not forgotten");
        note(&here, 1, NONE, None, 101);
        assert_eq!(met(101), Ok(()), "ended");
    }

    #[test]
    fn what_a_context_demands_itself_counts_where_a_callback_asks_for_less() {
        let demands = LateDemands::default();
        note(&demands, 1, DEMAND, None, 0);
        let met = |relaxed| is_met_by(&stamp(1, None), relaxed, &demands, &demands, 0);
        assert_eq!(met(false), Ok(()), "it is held against the session anyway");
        assert_eq!(met(true), Err(Reason::Unauthenticated));
    }

    #[test]
    fn the_names_are_bounded() {
        let demands = LateDemands::default();
        (0..=MAX_NAMES).for_each(|name| note(&demands, name, DEMAND, Some(100), 0));
        assert_eq!(demands.names.lock().len(), MAX_NAMES);
        let seen = |name| demands.seen(&stamp(name, None).binding);
        assert!(seen(0).is_none(), "the oldest has gone");
        assert!(seen(1).is_some());
    }
}
