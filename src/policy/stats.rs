//! What became of all connections of a policy, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::outcome::{EarlyData, Reason, Source};
use crate::store::Usage;

pub(super) const REASONS: usize = Reason::ALL.len();
pub(super) const SOURCES: usize = Source::ALL.len();
pub(super) const EARLY: usize = EarlyData::ALL.len();

/// A snapshot of what a policy has counted since it was made; clones of a policy count together.
///
/// Every handshake that completes is counted once: the fulls and resumptions of all versions add up
/// to the completed handshakes, and each full handshake has one [`Reason`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Completed TLS 1.3 handshakes.
    pub tls13: Handshakes,
    /// Completed TLS 1.2 handshakes.
    pub tls12: Handshakes,
    /// Completed handshakes of other versions: older ones, where OpenSSL still allows them, and DTLS.
    pub older: Handshakes,
    /// What was asked of the store.
    pub store: StoreStats,
    /// What became of tickets.
    pub tickets: TicketStats,
    /// What was asked about client certificates, and is kept of them.
    pub certificates: CertificateStats,
    /// Settings of contexts that were found changed after `set_resumption`, each counted once a context.
    ///
    /// At a context's first handshake: the `NO_TICKET` option, the session cache mode, the session callbacks (new and
    /// get), the number of tickets, the verify mode, early data switched on. When a session is made or offered: the
    /// session id context, the ticket callbacks, the ticket key callback, the info callback, and in hybrid mode the
    /// message callback. After an `accept_async`: the ClientHello callback of a policy with `suspend_lookups`.
    ///
    /// While the cache mode, the session callbacks, the ticket callbacks or the ticket key callback are not
    /// ours nothing resumes at the context, because then OpenSSL or somebody else decides what does, and
    /// handshakes are full for a reason of that name. Without the info callback nothing resumes either, and
    /// [`resumption`](crate::SslRefExt::resumption) says `None`.
    pub overridden: u64,
    /// Connections that were failed because a server name callback demanded a client certificate after a session
    /// without one, or with one that does not pass there, had been found, or because OpenSSL had resumed a session that
    /// this library had not checked. No handshake of theirs completed.
    pub failed_closed: u64,
    pub(super) full: [u64; REASONS],
    pub(super) resumed: [u64; SOURCES],
    pub(super) early: [u64; EARLY],
}

impl Stats {
    /// Completed handshakes of all versions.
    #[must_use]
    pub fn handshakes(&self) -> Handshakes {
        let versions = [self.tls13, self.tls12, self.older];
        Handshakes {
            full: versions.iter().map(|version| version.full).sum(),
            resumed: versions.iter().map(|version| version.resumed).sum(),
        }
    }

    /// Completed handshakes that were full for this reason.
    #[must_use]
    pub fn full(&self, reason: Reason) -> u64 {
        self.full[reason as usize]
    }

    /// Completed handshakes that resumed a session from this source.
    #[must_use]
    pub fn resumed(&self, source: Source) -> u64 {
        self.resumed[source as usize]
    }

    /// Early data that was offered and of which this became, counted when it is decided: also of connections whose
    /// handshake was never finished, as that of somebody who replays is not.
    #[must_use]
    pub fn early_data(&self, early: EarlyData) -> u64 {
        self.early[early as usize]
    }

    /// Early data that was offered, whatever became of it.
    #[must_use]
    pub fn early_data_offered(&self) -> u64 {
        self.early.iter().sum()
    }
}

/// Only the reasons, sources and kinds of early data that occurred.
impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = Reason::ALL
            .iter()
            .map(|reason| (reason.as_str(), self.full(*reason)));
        let resumed = Source::ALL
            .iter()
            .map(|source| (source.as_str(), self.resumed(*source)));
        let full: BTreeMap<_, _> = full.filter(|(_, n)| *n > 0).collect();
        let early = EarlyData::ALL
            .iter()
            .map(|early| (early.as_str(), self.early_data(*early)));
        let resumed: BTreeMap<_, _> = resumed.filter(|(_, n)| *n > 0).collect();
        let early: BTreeMap<_, _> = early.filter(|(_, n)| *n > 0).collect();
        f.debug_struct("Stats")
            .field("tls13", &self.tls13)
            .field("tls12", &self.tls12)
            .field("older", &self.older)
            .field("full", &full)
            .field("resumed", &resumed)
            .field("store", &self.store)
            .field("tickets", &self.tickets)
            .field("certificates", &self.certificates)
            .field("overridden", &self.overridden)
            .field("failed_closed", &self.failed_closed)
            .field("early_data", &early)
            .finish()
    }
}

/// Completed handshakes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handshakes {
    /// Full handshakes.
    pub full: u64,
    /// Resumed handshakes.
    pub resumed: u64,
}

/// What was asked of the store, and how it answered. Each lookup is one of hit, miss, expired or
/// error; a failed `put`, `put_successor` or `remove` is an error too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Sessions stored: calls of `put` and `put_successor` that succeeded.
    pub puts: u64,
    /// Lookups that found a session; it may have been declined for another reason.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Lookups that found a session past its end. What a store drops by itself for that reason is
    /// [`Usage::expired`].
    pub expired: u64,
    /// Calls that failed: an error, a panic, or an answer that is not the session
    /// asked for.
    ///
    /// Only calls that a handshake waited for. While a store behind [`WriteBehind`](crate::WriteBehind) and
    /// [`CircuitBreaker`](crate::CircuitBreaker) is down, it may stand still: alert on [`Usage::lost`] and
    /// [`Usage::refused`] as well.
    pub errors: u64,
    /// Calls that took 10 ms or longer, whatever their answer.
    pub slow: u64,
    /// Calls of `remove` that succeeded: after a fatal alert, or by
    /// [`strict`](crate::Resumption::strict).
    pub removed: u64,
    /// Sessions not stored because they were larger than
    /// [`max_session_size`](crate::Resumption::max_session_size).
    pub too_large: u64,
    /// Sessions of clients with a certificate that had to be decoded, because they are not, or no
    /// longer, among those that [`max_decoded`](crate::Resumption::max_decoded) keeps decoded.
    pub decoded: u64,
    /// Lookups not made because the client had offered four others in the same handshake.
    pub capped: u64,
    /// Handshakes that were suspended for an answer of the store, of the replay register or of
    /// [`admit_client`](crate::Resumption::admit_client), and went on without it, because the
    /// deadline had passed (feature `tokio`). A lookup that has begun goes on, and is counted by its
    /// answer as well.
    pub late: u64,
    /// What the store says of itself; `None` if it says nothing, or the mode has no store.
    pub usage: Option<Usage>,
}

/// What was asked about client certificates when their sessions were to be resumed, and what is kept of them in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateStats {
    /// Certificates that were verified again, because no verdict was remembered that still held
    /// ([`ClientCertificates::Verify`](crate::ClientCertificates::Verify)).
    pub verifications: u64,
    /// Sessions that were declined because their certificate did not pass, or its chain is not known, counted at the
    /// lookup: also where the full handshake that follows fails, as that of a revoked client does, and so is in no other
    /// count.
    pub untrusted: u64,
    /// Verdicts that are remembered, 65,536 at most.
    pub verdicts: usize,
    /// Chains that are kept: sets of certificates that clients sent beside their own.
    pub chains: usize,
    /// The bytes of memory that these count as, 8 MiB at most.
    pub chain_bytes: usize,
    /// Calls of the hook for [`session_data`](crate::Resumption::session_data) that gave none because it panicked or
    /// returned too much.
    pub data_failures: u64,
}

/// What became of tickets. What is counted by handshakes is counted when they complete, once each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TicketStats {
    /// Tickets sealed.
    pub sealed: u64,
    /// Tickets not sealed because no key may seal: the source of the keys has failed for too long,
    /// or they were revoked. The handshakes completed, and their clients got no ticket.
    pub unsealed: u64,
    /// Handshakes whose ticket was opened, whether or not its session was then resumed.
    pub opened: u64,
    /// Those of `opened` that were sealed under a key that is not the active one: a retired or an
    /// upcoming one.
    pub opened_inactive: u64,
    /// Handshakes whose ticket was sealed under a key that the ring does not hold.
    pub unknown_key: u64,
    /// Handshakes whose ticket was damaged or forged.
    pub malformed: u64,
    /// Tickets not opened because the client had offered four others in the same handshake.
    pub capped: u64,
    /// How long the active key has been sealing; `None` while there is none. Like
    /// `key_failures` it is the keys' own: policies that share keys share both.
    pub key_age: Option<Duration>,
    /// How often the source gave no keys when it was asked; the old ones, if any, went on.
    pub key_failures: u64,
    /// Whether the source gave no keys when it was asked last;
    /// [`TicketKeys::last_error`](crate::TicketKeys::last_error) says why.
    pub key_failing: bool,
}
