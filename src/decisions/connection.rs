//! What one `SSL` carries from the start of its handshake.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::SystemTime;

use openssl::error::ErrorStack;
use openssl::ssl::{SslRef, SslVerifyMode, SslVersion};
use parking_lot::MutexGuard;

use super::applied::Applied;
use super::candidates::{Candidates, Identity, Mention};
use super::client::Client;
use super::offer::Offer;
use super::own_sessions::OwnSessions;
use super::tickets::Tickets;
use crate::base::unix_seconds;
#[cfg(feature = "tokio")]
use crate::ffi::EarlyStatus;
use crate::ffi::{self, Carried, CredentialRef, Place};
use crate::outcome::{EarlyData, Handshake, Outcome, Reason, Source};
use crate::policy::{Counter, Counters, Resumption};
use crate::session::{SessionKey, Stamp};

/// Of no verify mode.
const NEVER: i32 = -1;

static PLACE: Place<Connection> = Place::new();

/// The state of one connection, kept in the ex-data of its `SSL`.
///
/// Its owner is the policy of the context that accepted the connection, whatever context the
/// handshake switches to later: OpenSSL keeps calling the accepting context's callbacks.
///
/// A server may have a million that are idle: what only the handshake needs goes with it.
pub(crate) struct Connection {
    owner: Arc<Applied>,
    offer: Option<Box<Offer>>,
    /// Whether the store is asked while the handshake is suspended, and then only.
    asks_ahead: bool,
    client: Client,
    /// The verify mode that the session was held against after all callbacks for the hello.
    looked_at: AtomicI32,
    sessions: OwnSessions,
    /// Whether we have sent a close_notify.
    closed: bool,
    /// Whether the connection is being failed.
    failed: bool,
    tickets: Tickets,
    /// When the handshake began, in seconds since the Unix epoch. A session dates from here, not
    /// from the end of the handshake: what is forgotten in between must not survive in it.
    started: u64,
    outcome: Option<Outcome>,
}

impl Connection {
    pub(super) fn new(owner: Arc<Applied>, now: SystemTime) -> Self {
        let started = unix_seconds(now);
        owner.policy().note_started(started);
        Self {
            owner,
            offer: Some(Box::default()),
            asks_ahead: false,
            client: Client::default(),
            looked_at: AtomicI32::new(NEVER),
            sessions: OwnSessions::default(),
            closed: false,
            failed: false,
            tickets: Tickets::default(),
            started,
            outcome: None,
        }
    }

    /// Makes its place in each `SSL`, before there is one.
    pub(crate) fn prepare() -> Result<(), ErrorStack> {
        PLACE.prepare()
    }

    /// What a connection carries, if it is one of a context with a policy.
    pub(crate) fn of(ssl: &SslRef) -> Option<&Self> {
        PLACE.get(ssl)
    }

    pub(crate) fn of_mut(ssl: &mut SslRef) -> Option<&mut Self> {
        PLACE.get_mut(ssl)
    }

    /// Has an `SSL` carry this, in place of what it may have carried before.
    pub(super) fn put_into(self, ssl: &mut SslRef) -> Option<()> {
        PLACE.set(ssl, self)
    }

    pub(crate) fn owner(&self) -> &Arc<Applied> {
        &self.owner
    }

    pub(crate) fn policy(&self) -> &Resumption {
        self.owner.policy()
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// What is known of the client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What is known of the tickets that it gets.
    pub(super) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    pub(super) fn tickets_mut(&mut self) -> &mut Tickets {
        &mut self.tickets
    }

    /// What the client offers, while its handshake lasts.
    pub(super) fn offer(&self) -> Option<&Offer> {
        self.offer.as_deref()
    }

    pub(super) fn offer_mut(&mut self) -> Option<&mut Offer> {
        self.offer.as_deref_mut()
    }

    /// What the client offers does not resume.
    pub(super) fn decline(&mut self, reason: Reason) {
        if let Some(offer) = &mut self.offer {
            offer.decline(reason);
        }
        *self.looked_at.get_mut() = NEVER;
    }

    /// A session that was looked at does not resume.
    pub(super) fn decline_candidate(&mut self, identity: &Identity, reason: Reason) {
        if let Some(offer) = &mut self.offer {
            offer.decline_candidate(identity, reason);
        }
        self.decline(reason);
    }

    /// Whether OpenSSL has answered the client's first flight, and gives out the early data in it.
    #[cfg(feature = "tokio")]
    pub(crate) fn takes_early_data(&self, ssl: &SslRef) -> bool {
        let is_read = self.offer().is_some_and(|offer| offer.early_data().is_read);
        is_read && !self.failed && ffi::early_status(ssl) == EarlyStatus::Accepted
    }

    /// The register has answered, while the handshake was suspended.
    #[cfg(feature = "tokio")]
    pub(crate) fn set_registered(&self, answer: EarlyData) {
        if let Some(offer) = self.offer() {
            offer.early_data().set_registered(answer);
        }
    }

    /// Whether the register has answered.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_registered(&self) -> bool {
        self.offer()
            .is_some_and(|offer| offer.early_data().registered().is_some())
    }

    /// The sessions that it is, as far as they are looked at.
    pub(crate) fn candidates(&self) -> Option<MutexGuard<'_, Candidates>> {
        Some(self.offer()?.candidates())
    }

    pub(super) fn set_looked_at(&self, verify: SslVerifyMode) {
        self.looked_at.store(verify.bits(), Relaxed);
    }

    pub(super) fn has_looked_at(&self, verify: SslVerifyMode) -> bool {
        self.looked_at.load(Relaxed) == verify.bits()
    }

    /// The client mentions a session: whether it is to be looked at, or why it is declined. `capped` counts
    /// those beyond the first few.
    pub(super) fn mention(
        &mut self,
        identity: &Identity,
        capped: fn(&Counters) -> &Counter,
    ) -> Result<(), Reason> {
        let Some(offer) = &mut self.offer else {
            return Err(Reason::NotFound);
        };
        match offer.mention(identity) {
            Mention::Look => Ok(()),
            Mention::Declined(reason) => Err(reason),
            Mention::Capped => {
                capped(self.policy().counters()).add_one();
                Err(Reason::NotFound)
            }
        }
    }

    /// OpenSSL is given a session to resume, whose client has this certificate or key.
    pub(super) fn supply(
        &mut self,
        source: Source,
        stamp: Stamp,
        credential: Option<CredentialRef<'_>>,
    ) {
        if let Some(offer) = &mut self.offer {
            offer.supply(source, stamp);
        }
        // After a HelloRetryRequest it may be another session, which has not been looked at.
        *self.looked_at.get_mut() = NEVER;
        let chains = self.owner.policy().chains();
        let chain = stamp.chain.and_then(|hash| chains.get(&hash));
        self.client.resumes(credential, chain);
    }

    /// The connection is being failed: it resumes a session that does not meet what is demanded, or that has
    /// not been checked.
    pub(super) fn fail_closed(&mut self) {
        self.failed = true;
        self.decline(Reason::Unauthenticated);
        self.policy().counters().failed_closed.add_one();
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failed
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn ask_ahead(&mut self) {
        self.asks_ahead = true;
    }

    pub(crate) fn asks_ahead(&self) -> bool {
        self.asks_ahead
    }

    /// The session that was resumed, while it has no successor.
    pub(super) fn used(&self) -> Option<&SessionKey> {
        self.sessions.used()
    }

    /// A session of this version was stored under this key.
    pub(super) fn made(&mut self, key: SessionKey, version: SslVersion) {
        let may_end = self.may_end(version);
        self.sessions.made(key, may_end);
    }

    /// Whether sessions of this version may end with the connection.
    fn may_end(&self, version: SslVersion) -> bool {
        version != SslVersion::TLS1_3 || self.policy().knobs().strict
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// A fatal alert was sent or received. After the handshake it ends the connection's TLS 1.2
    /// session (RFC 5246, section 7.2.2); before, whoever fails may be a stranger to the session
    /// that was offered, because TLS 1.2 ids are sent in clear. Sessions of TLS 1.3 stay (RFC 8446,
    /// section 6.2).
    pub(super) fn fatal_alert(&mut self) {
        if self
            .outcome
            .is_some_and(|outcome| outcome.version != SslVersion::TLS1_3)
        {
            self.forget_own();
        }
        // Before, it has failed.
        self.offer = None;
    }

    fn forget_own(&mut self) {
        for key in self.sessions.take() {
            self.policy().remove(&key);
        }
    }

    /// The handshake is complete: settles the outcome and counts it, the first time only. In TLS
    /// 1.2 OpenSSL reports completion again when a renegotiation is refused.
    ///
    /// `resumed` is the stamp of the session that was resumed, if it has one: OpenSSL may have gone
    /// on to another than it was given, an external pre-shared key.
    pub(super) fn complete(
        &mut self,
        version: SslVersion,
        reused: bool,
        resumed: Option<Stamp>,
        early_data: Option<EarlyData>,
    ) {
        if self.outcome.is_some() {
            return;
        }
        let Some(offer) = self.offer.take() else {
            return;
        };
        let ours = reused && resumed.is_some() && offer.resuming() == resumed.as_ref();
        self.client.forget_authority();
        if let Some(given) = offer.given().filter(|_| ours) {
            if version == SslVersion::TLS1_3 {
                self.sessions.set_used(given);
            }
            if self.may_end(version) && !self.policy().takes(version) {
                self.sessions.set_own(given);
            }
        }
        // With early data OpenSSL says so before the client's Finished, which a connection that is
        // being failed does not read.
        if self.failed {
            return;
        }
        let handshake = match self.policy().is_off() {
            true if !reused => Handshake::Full(Reason::Off),
            _ => offer.handshake(reused, ours),
        };
        let outcome = Outcome {
            version,
            handshake,
            early_data,
        };
        self.policy().counters().completed(&outcome, offer.ticket());
        self.outcome = Some(outcome);
        self.policy().tell(&outcome);
    }
}

/// The `SSL` is freed.
impl Carried for Connection {
    fn freed(mut self: Box<Self>, shut_down: bool) {
        self.closed |= shut_down;
    }
}

/// The `SSL` is freed, or cleared for another connection.
impl Drop for Connection {
    fn drop(&mut self) {
        if !self.closed && self.policy().knobs().strict {
            ffi::shielded((), || self.forget_own());
        }
    }
}

#[cfg(test)]
mod tests;
