//! The counters behind the statistics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use openssl::ssl::SslVersion;

use super::stats::{
    CertificateStats, EARLY, Handshakes, REASONS, SOURCES, Stats, StoreStats, TicketStats,
};
use crate::keys::Standing;
use crate::outcome::{EarlyData, Handshake, Outcome};

/// What became of the last ticket that a connection offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TicketFate {
    Opened(Standing),
    UnknownKey,
    Malformed,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    versions: [[AtomicU64; 2]; 3],
    full: [AtomicU64; REASONS],
    resumed: [AtomicU64; SOURCES],
    pub(crate) puts: Counter,
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) expired: Counter,
    pub(crate) errors: Counter,
    pub(crate) slow: Counter,
    pub(crate) removed: Counter,
    pub(crate) too_large: Counter,
    pub(crate) decoded: Counter,
    pub(crate) capped: Counter,
    pub(crate) capped_tickets: Counter,
    pub(crate) late: Counter,
    pub(crate) sealed: Counter,
    pub(crate) unsealed: Counter,
    opened: Counter,
    opened_inactive: Counter,
    unknown_key: Counter,
    malformed: Counter,
    pub(crate) overridden: Counter,
    pub(crate) failed_closed: Counter,
    early: [Counter; EARLY],
    pub(crate) verifications: Counter,
    pub(crate) untrusted: Counter,
    pub(crate) data_failures: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// Counts a completed handshake, and the ticket that was offered in it.
    pub(crate) fn completed(&self, outcome: &Outcome, ticket: Option<TicketFate>) {
        let version = match outcome.version {
            SslVersion::TLS1_3 => 0,
            SslVersion::TLS1_2 => 1,
            _ => 2,
        };
        self.versions[version][usize::from(outcome.is_resumed())].fetch_add(1, Relaxed);
        match outcome.handshake {
            Handshake::Full(reason) => &self.full[reason as usize],
            Handshake::Resumed(source) => &self.resumed[source as usize],
        }
        .fetch_add(1, Relaxed);
        match ticket {
            Some(TicketFate::Opened(standing)) => {
                self.opened.add_one();
                if standing != Standing::Active {
                    self.opened_inactive.add_one();
                }
            }
            Some(TicketFate::UnknownKey) => self.unknown_key.add_one(),
            Some(TicketFate::Malformed) => self.malformed.add_one(),
            None => {}
        }
    }

    /// Counts early data that was offered, when it is decided what becomes of it: who sends it again need not
    /// complete the handshake.
    pub(crate) fn early_data(&self, early: EarlyData) {
        self.early[early as usize].add_one();
    }

    /// A snapshot; what store and keys say of themselves is for the caller to add.
    pub(crate) fn snapshot(&self) -> Stats {
        let version = |i: usize| Handshakes {
            full: self.versions[i][0].load(Relaxed),
            resumed: self.versions[i][1].load(Relaxed),
        };
        Stats {
            tls13: version(0),
            tls12: version(1),
            older: version(2),
            store: StoreStats {
                puts: self.puts.get(),
                hits: self.hits.get(),
                misses: self.misses.get(),
                expired: self.expired.get(),
                errors: self.errors.get(),
                slow: self.slow.get(),
                removed: self.removed.get(),
                too_large: self.too_large.get(),
                decoded: self.decoded.get(),
                capped: self.capped.get(),
                late: self.late.get(),
                usage: None,
            },
            tickets: TicketStats {
                sealed: self.sealed.get(),
                unsealed: self.unsealed.get(),
                opened: self.opened.get(),
                opened_inactive: self.opened_inactive.get(),
                unknown_key: self.unknown_key.get(),
                malformed: self.malformed.get(),
                capped: self.capped_tickets.get(),
                key_age: None,
                key_failures: 0,
                key_failing: false,
            },
            certificates: CertificateStats {
                verifications: self.verifications.get(),
                untrusted: self.untrusted.get(),
                data_failures: self.data_failures.get(),
                ..CertificateStats::default()
            },
            overridden: self.overridden.get(),
            failed_closed: self.failed_closed.get(),
            early: self.early.each_ref().map(Counter::get),
            full: self.full.each_ref().map(|n| n.load(Relaxed)),
            resumed: self.resumed.each_ref().map(|n| n.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Reason, Source};

    fn outcome(version: SslVersion, handshake: Handshake) -> Outcome {
        Outcome {
            version,
            handshake,
            early_data: None,
        }
    }

    #[test]
    fn each_completed_handshake_moves_one_version_and_one_cause() {
        let counters = Counters::default();
        for reason in Reason::ALL {
            let full = Handshake::Full(*reason);
            counters.completed(&outcome(SslVersion::TLS1_2, full), None);
        }
        for source in Source::ALL {
            let resumed = Handshake::Resumed(*source);
            counters.completed(&outcome(SslVersion::TLS1_3, resumed), None);
        }
        let stats = counters.snapshot();
        let all = |values: usize| values as u64;
        assert_eq!(stats.tls12.full, all(Reason::ALL.len()));
        assert_eq!(stats.tls13.resumed, all(Source::ALL.len()));
        assert_eq!((stats.tls12.resumed, stats.tls13.full), (0, 0));
        assert_eq!(stats.older, Handshakes::default());
        assert!(Reason::ALL.iter().all(|reason| stats.full(*reason) == 1));
        assert!(Source::ALL.iter().all(|source| stats.resumed(*source) == 1));
    }
}
