//! What one `SSL` carries from the start of its handshake.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::SystemTime;

use openssl::ssl::{SslRef, SslVerifyMode, SslVersion};
use openssl::x509::store::X509Store;
use parking_lot::{Mutex, MutexGuard};

use crate::candidates::{Answer, Candidates, Identity, Mention};
use crate::context::Applied;
use crate::ffi::{self, Credential, CredentialRef, Verification};
use crate::outcome::{Handshake, Outcome, Reason, Source};
use crate::overridden::Setting;
use crate::resumption::Resumption;
use crate::stamp::{Binding, Demand, Stamp, unix_seconds};
use crate::stateful;
use crate::stats::{Counter, Counters, TicketFate};
use crate::store::SessionKey;

/// How many sessions a connection keeps in mind as its own; of more, the oldest stay in the store.
const MAX_OWN: usize = 512;

/// Of no verify mode.
const NEVER: i32 = -1;

/// The state of one connection, kept in the ex-data of its `SSL`.
///
/// Its owner is the policy of the context that accepted the connection, whatever context the
/// handshake switches to later: OpenSSL keeps calling the accepting context's callbacks.
///
/// A server may have a million that are idle: what only the handshake needs goes with it.
pub(crate) struct Connection {
    owner: Arc<Applied>,
    handshaking: Option<Box<Handshaking>>,
    /// Whether the store is asked while the handshake is suspended, and then only.
    asks_ahead: bool,
    /// The client's certificate or key that the stamp of the connection's session speaks of.
    credential: Mutex<Option<Credential>>,
    /// The verify mode that the session was held against after all callbacks for the hello.
    looked_at: AtomicI32,
    /// The session that was resumed, until it has a successor. OpenSSL makes tickets when the handshake is over.
    used: Option<Box<SessionKey>>,
    /// The session in the store that is this connection's: it resumed it, or made it.
    own: Option<SessionKey>,
    /// Most have no more.
    others: Vec<SessionKey>,
    /// Whether we have sent a close_notify.
    closed: bool,
    /// Whether the connection is being failed.
    failed: bool,
    /// How many tickets the connection would have got, had it not been decided that it gets none.
    tickets: Option<u32>,
    /// Which of our callbacks for tickets OpenSSL has called.
    generated: bool,
    sealed: bool,
    authority: Mutex<Option<Box<Authority>>>,
    /// When the handshake began, in seconds since the Unix epoch. A session dates from here, not
    /// from the end of the handshake: what is forgotten in between must not survive in it.
    started: u64,
    outcome: Option<Outcome>,
}

/// What a connection needs until its handshake has completed or failed.
#[derive(Default)]
struct Handshaking {
    /// What became of the last thing the client offered.
    offered: Offered,
    /// The ticket that has named its key, until it is decided on.
    at_hand: Option<AtHand>,
    ticket: Option<TicketFate>,
    candidates: Mutex<Candidates>,
    first_demand: Option<Demand>,
    /// The session of the store that OpenSSL was given to resume.
    given: Option<SessionKey>,
}

/// The hash of what the client is verified against, if it is not the context's. The reference to the store keeps
/// its address from being that of another one.
type Authority = (Verification, Option<X509Store>, Binding);

/// A ticket between the two callbacks that it is shown to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AtHand {
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

impl Connection {
    pub(crate) fn new(owner: Arc<Applied>, now: SystemTime) -> Self {
        let started = unix_seconds(now);
        owner.policy().note_started(started);
        Self {
            owner,
            handshaking: Some(Box::default()),
            asks_ahead: false,
            credential: Mutex::default(),
            looked_at: AtomicI32::new(NEVER),
            used: None,
            own: None,
            others: Vec::new(),
            closed: false,
            failed: false,
            tickets: None,
            generated: false,
            sealed: false,
            authority: Mutex::new(None),
            started,
            outcome: None,
        }
    }

    /// The hash of what the client is verified against, made once for as long as it stays the same.
    pub(crate) fn authority(
        &self,
        ssl: &SslRef,
        how: &Verification,
        make: impl FnOnce() -> Binding,
    ) -> Binding {
        let mut known = self.authority.lock();
        match &*known {
            Some(known) if known.0 == *how => known.2,
            _ => {
                let made = (*how, ffi::ca_store_of(ssl), make());
                known.insert(Box::new(made)).2
            }
        }
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

    pub(crate) fn decline(&mut self, reason: Reason) {
        self.offer(Offered::Declined(reason));
    }

    pub(crate) fn supply(
        &mut self,
        source: Source,
        stamp: Stamp,
        credential: Option<CredentialRef<'_>>,
    ) {
        self.offer(Offered::Supplied(source, stamp));
        self.note_stamped(credential);
    }

    /// After a HelloRetryRequest it may be another session, which has not been looked at.
    fn offer(&mut self, offered: Offered) {
        if let Some(handshaking) = &mut self.handshaking {
            handshaking.offered = offered;
            handshaking.given = None;
        }
        *self.looked_at.get_mut() = NEVER;
    }

    /// The session has been stamped, while its client had this certificate or key.
    pub(crate) fn note_stamped(&self, credential: Option<CredentialRef<'_>>) {
        *self.credential.lock() = credential.map(CredentialRef::to_owned);
    }

    /// Whether the stamp of the connection's session was made for this very certificate or key. It was not
    /// if the client has been asked for another since.
    pub(crate) fn is_stamped_for(&self, credential: Option<CredentialRef<'_>>) -> bool {
        match (&*self.credential.lock(), credential) {
            (Some(own), Some(credential)) => own.is(credential),
            (own, credential) => own.is_none() && credential.is_none(),
        }
    }

    /// The stamp of the session that OpenSSL was given to resume.
    pub(crate) fn resuming(&self) -> Option<&Stamp> {
        match &self.handshaking.as_ref()?.offered {
            Offered::Supplied(_, stamp) => Some(stamp),
            Offered::Nothing | Offered::Declined(_) => None,
        }
    }

    pub(crate) fn set_first_demand(&mut self, demand: Option<Demand>) {
        if let Some(handshaking) = &mut self.handshaking {
            handshaking.first_demand = demand;
        }
    }

    /// What was demanded of the client when the handshake began.
    pub(crate) fn first_demand(&self) -> Option<&Demand> {
        self.handshaking.as_ref()?.first_demand.as_ref()
    }

    pub(crate) fn set_looked_at(&self, verify: SslVerifyMode) {
        self.looked_at.store(verify.bits(), Relaxed);
    }

    pub(crate) fn has_looked_at(&self, verify: SslVerifyMode) -> bool {
        self.looked_at.load(Relaxed) == verify.bits()
    }

    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// The connection is being failed: it resumes a session that does not meet what is demanded, or that has
    /// not been checked.
    pub(crate) fn fail_closed(&mut self) {
        self.failed = true;
        self.decline(Reason::Unauthenticated);
        self.policy().counters().failed_closed.add_one();
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failed
    }

    /// The connection gets no tickets; it would have got so many.
    pub(crate) fn deny_tickets(&mut self, tickets: usize) {
        let tickets = u32::try_from(tickets).unwrap_or(u32::MAX);
        self.tickets.get_or_insert(tickets);
    }

    /// How many tickets to give back to its `SSL`, if that is used again.
    pub(crate) fn denied_tickets(&self) -> Option<usize> {
        self.tickets.and_then(|tickets| tickets.try_into().ok())
    }

    /// OpenSSL has called our callback for a ticket that is about to be made.
    pub(crate) fn note_generated(&mut self) {
        self.generated = true;
    }

    /// OpenSSL has called our callback for a ticket that is to be sealed. Whether it called the one before,
    /// which stamps the session.
    pub(crate) fn note_sealed(&mut self) -> bool {
        self.sealed = true;
        self.generated
    }

    /// A ticket has been made: notices if the callbacks were not ours.
    pub(crate) fn notice_ticket_callbacks(&self, sealed: bool) {
        if !self.generated {
            self.owner.notice(Setting::TicketCallbacks);
        }
        if sealed && !self.sealed {
            self.owner.notice(Setting::TicketKeyCallback);
        }
        if self.generated && self.sealed == self.policy().keys().is_some() {
            self.owner.note_our_tickets();
        }
    }

    pub(crate) fn set_at_hand(&mut self, at_hand: AtHand) {
        if let Some(handshaking) = &mut self.handshaking {
            handshaking.at_hand = Some(at_hand);
        }
    }

    pub(crate) fn take_at_hand(&mut self) -> Option<AtHand> {
        self.handshaking.as_mut()?.at_hand.take()
    }

    pub(crate) fn set_ticket(&mut self, fate: TicketFate) {
        if let Some(handshaking) = &mut self.handshaking {
            handshaking.ticket = Some(fate);
        }
    }

    /// The client mentions a session: whether it is to be looked at, or why it is declined. `capped` counts
    /// those beyond the first few.
    pub(crate) fn mention(
        &mut self,
        identity: &Identity,
        capped: fn(&Counters) -> &Counter,
    ) -> Result<(), Reason> {
        let Some(handshaking) = &mut self.handshaking else {
            return Err(Reason::NotFound);
        };
        match handshaking.candidates.get_mut().mention(identity) {
            Mention::Look => Ok(()),
            Mention::Declined(reason) => Err(reason),
            Mention::Capped => {
                capped(self.policy().counters()).add_one();
                Err(Reason::NotFound)
            }
        }
    }

    /// A session that was looked at does not resume.
    pub(crate) fn decline_candidate(&mut self, identity: &Identity, reason: Reason) {
        if let Some(handshaking) = &mut self.handshaking {
            handshaking.candidates.get_mut().decline(identity, reason);
        }
        self.decline(reason);
    }

    /// What the store said to this identity earlier in this handshake.
    pub(crate) fn answer(&self, identity: &Identity) -> Option<Answer> {
        self.candidates()?.answer(identity)
    }

    pub(crate) fn set_answer(&self, identity: &Identity, answer: Answer) {
        if let Some(mut candidates) = self.candidates() {
            candidates.set_answer(identity, answer);
        }
    }

    fn candidates(&self) -> Option<MutexGuard<'_, Candidates>> {
        Some(self.handshaking.as_ref()?.candidates.lock())
    }

    /// Whether there are sessions here that OpenSSL may still ask for.
    pub(crate) fn keeps_answers(&self) -> bool {
        self.candidates()
            .is_some_and(|candidates| candidates.have_sessions())
    }

    /// The client is to send its hello again, and takes as long as it likes.
    pub(crate) fn hold_answers(&self) {
        if let Some(mut candidates) = self.candidates() {
            candidates.hold();
        }
    }

    /// OpenSSL will not ask for a session any more.
    pub(crate) fn drop_candidates(&self) {
        if let Some(mut candidates) = self.candidates() {
            *candidates = Candidates::default();
        }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn ask_ahead(&mut self) {
        self.asks_ahead = true;
    }

    pub(crate) fn asks_ahead(&self) -> bool {
        self.asks_ahead
    }

    /// How many more sessions may be looked up.
    #[cfg(feature = "tokio")]
    pub(crate) fn lookups_left(&self) -> usize {
        self.candidates().map_or(0, |candidates| candidates.room())
    }

    /// OpenSSL is given the session of this key to resume.
    pub(crate) fn give(&mut self, key: SessionKey) {
        if let Some(handshaking) = &mut self.handshaking {
            handshaking.given = Some(key);
        }
    }

    /// The session that was resumed, while it has no successor.
    pub(crate) fn used(&self) -> Option<&SessionKey> {
        self.used.as_deref()
    }

    /// A session was stored under this key. What could end with the connection is kept in mind.
    pub(crate) fn made(&mut self, key: SessionKey, tls13: bool) {
        self.used = None;
        if !self.may_end(tls13) {
            return;
        }
        if self.own.is_none() {
            self.own = Some(key);
            return;
        }
        if self.others.len() >= MAX_OWN {
            self.others.remove(0);
        }
        self.others.push(key);
    }

    /// Whether sessions of this version may end with the connection.
    fn may_end(&self, tls13: bool) -> bool {
        !tls13 || self.policy().is_strict()
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// A fatal alert was sent or received. After the handshake it ends the connection's TLS 1.2
    /// session (RFC 5246, section 7.2.2); before, whoever fails may be a stranger to the session
    /// that was offered, because TLS 1.2 ids are sent in clear. Sessions of TLS 1.3 stay (RFC 8446,
    /// section 6.2).
    pub(crate) fn fatal_alert(&mut self) {
        if self
            .outcome
            .is_some_and(|outcome| outcome.version != SslVersion::TLS1_3)
        {
            self.forget_own();
        }
        // Before, it has failed.
        self.handshaking = None;
    }

    fn forget_own(&mut self) {
        let others = std::mem::take(&mut self.others);
        for key in self.own.take().into_iter().chain(others) {
            stateful::remove(self.policy(), &key);
        }
    }

    /// The handshake is complete: settles the outcome and counts it, the first time only. In TLS
    /// 1.2 OpenSSL reports completion again when a renegotiation is refused.
    ///
    /// `resumed` is the stamp of the session that was resumed, if it has one: OpenSSL may have gone
    /// on to another than it was given, an external pre-shared key.
    pub(crate) fn complete(&mut self, version: SslVersion, reused: bool, resumed: Option<Stamp>) {
        let ours = reused && resumed.is_some() && self.resuming() == resumed.as_ref();
        let Some(handshaking) = self.handshaking.take() else {
            return;
        };
        *self.authority.get_mut() = None;
        if let Some(given) = handshaking.given.filter(|_| ours) {
            let tls13 = version == SslVersion::TLS1_3;
            if tls13 {
                self.used = Some(Box::new(given));
            }
            if self.may_end(tls13) && !stateful::is_taken(self.policy(), version) {
                self.own = Some(given);
            }
        }
        // With early data OpenSSL says so before the client's Finished, which a connection that is
        // being failed does not read.
        if self.failed {
            return;
        }
        let handshake = match (reused, handshaking.offered) {
            (true, Offered::Supplied(source, _)) if ours => Handshake::Resumed(source),
            (true, _) => Handshake::Resumed(Source::Other),
            (false, _) if self.policy().is_off() => Handshake::Full(Reason::Off),
            (false, Offered::Nothing) => Handshake::Full(Reason::NothingOffered),
            (false, Offered::Declined(reason)) => Handshake::Full(reason),
            (false, Offered::Supplied(..)) => Handshake::Full(Reason::WrongContext),
        };
        let outcome = Outcome { version, handshake };
        self.policy()
            .counters()
            .completed(&outcome, handshaking.ticket);
        self.outcome = Some(outcome);
        self.policy().tell(&outcome);
    }
}

/// The `SSL` is freed, or cleared for another connection.
impl Drop for Connection {
    fn drop(&mut self) {
        if !self.closed && self.policy().is_strict() {
            ffi::shielded((), || self.forget_own());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::ClientIs;

    fn stamp() -> Stamp {
        Stamp {
            time: 0,
            binding: [0; 16],
            authority: None,
            client: ClientIs::Anonymous,
        }
    }

    fn connection(policy: &Resumption) -> Connection {
        Connection::new(Applied::for_tests(policy), SystemTime::now())
    }

    fn settled(policy: &Resumption, reused: bool, act: impl FnOnce(&mut Connection)) -> Handshake {
        let mut connection = connection(policy);
        act(&mut connection);
        connection.complete(SslVersion::TLS1_3, reused, reused.then(stamp));
        connection.outcome().unwrap().handshake
    }

    #[test]
    fn the_outcome_follows_what_was_offered() {
        let policy = Resumption::stateful(crate::MemoryStore::default());
        let full = |reason| Handshake::Full(reason);
        assert_eq!(
            settled(&policy, false, |_| {}),
            full(Reason::NothingOffered)
        );
        assert_eq!(
            settled(&policy, false, |c| c.decline(Reason::Expired)),
            full(Reason::Expired)
        );
        assert_eq!(
            settled(&policy, false, |c| c.supply(Source::Store, stamp(), None)),
            full(Reason::WrongContext)
        );
        assert_eq!(
            settled(&policy, true, |c| {
                c.decline(Reason::NotFound);
                c.supply(Source::Store, stamp(), None);
            }),
            Handshake::Resumed(Source::Store)
        );
        assert_eq!(
            settled(&policy, true, |_| {}),
            Handshake::Resumed(Source::Other)
        );
        assert_eq!(
            settled(&Resumption::off(), false, |_| {}),
            full(Reason::Off)
        );
    }

    #[test]
    fn a_finished_connection_is_small() {
        let size = size_of::<Connection>();
        assert!(size < 184, "{size}: with what the allocator adds, 200");
    }

    #[test]
    fn a_connection_is_counted_once() {
        let policy = Resumption::off();
        let mut connection = connection(&policy);
        connection.complete(SslVersion::TLS1_2, false, None);
        connection.complete(SslVersion::TLS1_2, true, None);
        let stats = policy.stats();
        assert_eq!((stats.tls12.full, stats.tls12.resumed), (1, 0));
    }
}
