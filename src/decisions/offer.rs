//! What the client of a connection offers to resume, and what comes of it: until its handshake has completed or failed.

use std::sync::OnceLock;

use parking_lot::{Mutex, MutexGuard};

use super::candidates::{Candidates, Identity, Mention};
use crate::outcome::{EarlyData, Handshake, Reason, Source};
use crate::policy::TicketFate;
use crate::session::{Demand, SessionKey, Stamp};

/// The verifiers that the client certificate of a session has passed, by their numbers.
pub(super) type Passed = [Option<u64>; 2];

#[derive(Default)]
pub(super) struct Offer {
    /// What became of the last thing that was offered.
    offered: Offered,
    /// The ticket that has named its key, until it is decided on.
    at_hand: Option<AtHand>,
    ticket: Option<TicketFate>,
    candidates: Mutex<Candidates>,
    /// What was demanded of the client when the handshake began.
    first_demand: Option<Demand>,
    /// The session of the store that OpenSSL was given to resume.
    given: Option<SessionKey>,
    passed: Passed,
    early_data: EarlyOffer,
}

/// What is known of the early data that a client offers.
#[derive(Default)]
pub(super) struct EarlyOffer {
    /// What a register said that was asked while the handshake was suspended.
    registered: OnceLock<EarlyData>,
    pub(super) decided: Option<EarlyData>,
    /// Whether the application reads early data.
    pub(super) is_read: bool,
    /// Whether it was offered in a hello that another was asked for after.
    pub(super) is_retried: bool,
}

impl EarlyOffer {
    pub(super) fn registered(&self) -> Option<EarlyData> {
        self.registered.get().copied()
    }

    #[cfg(feature = "tokio")]
    pub(super) fn set_registered(&self, answer: EarlyData) {
        self.registered.get_or_init(|| answer);
    }
}

/// A ticket between the two callbacks that it is shown to.
#[derive(Debug, Clone, Copy)]
pub(super) enum AtHand {
    /// It is not opened, for this reason.
    Refused(Reason),
    /// It is looked at; this became of the key that it names.
    Named(Identity, TicketFate),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Offered {
    #[default]
    Nothing,
    Declined(Reason),
    /// Handed to OpenSSL, which may still find that it does not fit.
    Supplied(Source, Stamp),
}

impl Offer {
    pub(super) fn decline(&mut self, reason: Reason) {
        self.set(Offered::Declined(reason));
    }

    /// OpenSSL is given a session to resume.
    pub(super) fn supply(&mut self, source: Source, stamp: Stamp) {
        self.set(Offered::Supplied(source, stamp));
    }

    fn set(&mut self, offered: Offered) {
        self.offered = offered;
        self.given = None;
    }

    /// The session that OpenSSL was given is that of the store under this key.
    pub(super) fn give(&mut self, key: SessionKey) {
        self.given = Some(key);
    }

    pub(super) fn given(&self) -> Option<SessionKey> {
        self.given
    }

    /// What the session that OpenSSL is given has passed.
    pub(super) fn set_passed(&mut self, passed: Passed) {
        self.passed = passed;
    }

    pub(super) fn passed(&self) -> &Passed {
        &self.passed
    }

    /// The stamp of the session that OpenSSL was given to resume.
    pub(super) fn resuming(&self) -> Option<&Stamp> {
        match &self.offered {
            Offered::Supplied(_, stamp) => Some(stamp),
            Offered::Nothing | Offered::Declined(_) => None,
        }
    }

    /// What became of it: `ours` if what was resumed is what OpenSSL was given.
    pub(super) fn handshake(&self, reused: bool, ours: bool) -> Handshake {
        match (reused, self.offered) {
            (true, Offered::Supplied(source, _)) if ours => Handshake::Resumed(source),
            (true, _) => Handshake::Resumed(Source::Other),
            (false, Offered::Nothing) => Handshake::Full(Reason::NothingOffered),
            (false, Offered::Declined(reason)) => Handshake::Full(reason),
            (false, Offered::Supplied(..)) => Handshake::Full(Reason::WrongContext),
        }
    }

    pub(super) fn set_first_demand(&mut self, demand: Option<Demand>) {
        self.first_demand = demand;
    }

    pub(super) fn first_demand(&self) -> Option<&Demand> {
        self.first_demand.as_ref()
    }

    pub(super) fn set_at_hand(&mut self, at_hand: AtHand) {
        self.at_hand = Some(at_hand);
    }

    pub(super) fn take_at_hand(&mut self) -> Option<AtHand> {
        self.at_hand.take()
    }

    pub(super) fn set_ticket(&mut self, fate: TicketFate) {
        self.ticket = Some(fate);
    }

    pub(super) fn ticket(&self) -> Option<TicketFate> {
        self.ticket
    }

    /// The client mentions a session.
    pub(super) fn mention(&mut self, identity: &Identity) -> Mention {
        self.candidates.get_mut().mention(identity)
    }

    /// A session that was looked at does not resume.
    pub(super) fn decline_candidate(&mut self, identity: &Identity, reason: Reason) {
        self.candidates.get_mut().decline(identity, reason);
    }

    pub(super) fn early_data(&self) -> &EarlyOffer {
        &self.early_data
    }

    pub(super) fn early_data_mut(&mut self) -> &mut EarlyOffer {
        &mut self.early_data
    }

    /// The sessions that it is, as far as they are looked at.
    pub(super) fn candidates(&self) -> MutexGuard<'_, Candidates> {
        self.candidates.lock()
    }
}
