//! What a client has offered in one handshake, so that no work is done twice for it.
//!
//! A TLS 1.3 client may mention 1,700 sessions in one ClientHello, or one of its own as often, and
//! OpenSSL asks for each before any is proven to be the client's. What is decoded, opened or hashed for
//! a mention is therefore bounded by the connection, and what came of it is remembered.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::outcome::Reason;
use crate::session::{Session, SessionKey};
use crate::store::{MemoryStore, SessionStore};

/// How many sessions are worked on in one connection, however many its client offers.
pub(crate) const MAX_CANDIDATES: usize = 4;

/// How often one of them is: after a HelloRetryRequest OpenSSL asks for what it has been given already.
const MAX_WORKS: u8 = 2;

/// What tells the sessions that a client offers apart: a session id, or the first 32 bytes of a ticket,
/// which are the name of its key and an initialisation vector.
pub(crate) type Identity = [u8; 32];

/// What the store said to an identity.
pub(crate) type Answer = Result<Session, Reason>;

/// The first few sessions that a client has offered. Most offer one or none, so there is no place for four.
#[derive(Default)]
pub(crate) struct Candidates(Vec<Candidate>);

struct Candidate {
    identity: Identity,
    works: u8,
    declined: Option<Reason>,
    /// After a HelloRetryRequest the store is not asked again, and a session that was taken out of it is
    /// not lost.
    answer: Option<Kept>,
    /// What the application says of its client.
    let_in: Option<bool>,
}

/// An answer of the store, for as long as OpenSSL may ask for it.
enum Kept {
    Here(Answer),
    /// The client was sent a HelloRetryRequest, and takes its time.
    Held(Held),
}

/// A session that waits for its client's second hello. It is in a store, from which it goes when it ends.
struct Held(SessionKey);

/// What has no place in it resumes no more: a full handshake.
static HELD: LazyLock<MemoryStore> = LazyLock::new(|| MemoryStore::new(1 << 14, 64 << 20));

impl Held {
    fn new(identity: &Identity, session: Session) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut key = *identity;
        key[8..16].copy_from_slice(&NEXT.fetch_add(1, Relaxed).to_be_bytes());
        let key = SessionKey::from(key);
        HELD.put(&key, session).ok()?;
        Some(Self(key))
    }

    fn get(&self) -> Answer {
        HELD.get(&self.0).ok().flatten().ok_or(Reason::Expired)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = HELD.remove(&self.0);
    }
}

/// What to do about a mention of an identity.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mention {
    /// Find out whether its session resumes.
    Look,
    /// It does not, as has been found out before.
    Declined(Reason),
    /// The client has offered as many others as are looked at.
    Capped,
}

impl Candidates {
    fn find(&mut self, identity: &Identity) -> Option<&mut Candidate> {
        let mut known = self.0.iter_mut();
        known.find(|candidate| candidate.identity == *identity)
    }

    fn find_or_add(&mut self, identity: &Identity) -> Option<&mut Candidate> {
        let is_it = |candidate: &Candidate| candidate.identity == *identity;
        let place = match self.0.iter().position(is_it) {
            Some(place) => place,
            None if self.0.len() == MAX_CANDIDATES => return None,
            None => {
                self.0.reserve_exact(1);
                self.0.push(Candidate {
                    identity: *identity,
                    works: 0,
                    declined: None,
                    answer: None,
                    let_in: None,
                });
                self.0.len() - 1
            }
        };
        self.0.get_mut(place)
    }

    /// The client mentions this identity.
    pub(crate) fn mention(&mut self, identity: &Identity) -> Mention {
        match self.find_or_add(identity) {
            None => Mention::Capped,
            Some(candidate) => match candidate.declined {
                Some(reason) => Mention::Declined(reason),
                // In one hello OpenSSL asks again for what it was given only if that does not fit.
                None if candidate.works == MAX_WORKS => Mention::Declined(Reason::WrongContext),
                None => {
                    candidate.works += 1;
                    Mention::Look
                }
            },
        }
    }

    /// Its session does not resume in this connection.
    pub(crate) fn decline(&mut self, identity: &Identity, reason: Reason) {
        if let Some(candidate) = self.find(identity) {
            candidate.declined = Some(reason);
        }
    }

    /// What the store said to this identity, if it was asked.
    pub(crate) fn answer(&mut self, identity: &Identity) -> Option<Answer> {
        match self.find(identity)?.answer.as_ref()? {
            Kept::Here(answer) => Some(answer.clone()),
            Kept::Held(held) => Some(held.get()),
        }
    }

    /// Takes an answer of the store down, unless the client has offered as many others.
    pub(crate) fn set_answer(&mut self, identity: &Identity, answer: Answer) {
        if let Some(candidate) = self.find_or_add(identity) {
            candidate.answer = Some(Kept::Here(answer));
        }
    }

    /// What the application has said of the client of this session, if it was asked.
    pub(crate) fn is_let_in(&mut self, identity: &Identity) -> Option<bool> {
        self.find(identity)?.let_in
    }

    /// Takes down what the application says, unless the client has offered as many others.
    pub(crate) fn set_let_in(&mut self, identity: &Identity, let_in: bool) {
        if let Some(candidate) = self.find_or_add(identity) {
            candidate.let_in = Some(let_in);
        }
    }

    /// Whether any answer is a session, and is here.
    pub(crate) fn have_sessions(&self) -> bool {
        let is_session =
            |candidate: &Candidate| matches!(candidate.answer, Some(Kept::Here(Ok(_))));
        self.0.iter().any(is_session)
    }

    /// The client is to send its hello again: what waits for it is held until then, or until it ends.
    pub(crate) fn hold(&mut self) {
        for candidate in &mut self.0 {
            candidate.answer = match candidate.answer.take() {
                // It will not be looked at again.
                Some(Kept::Here(Ok(_))) if candidate.declined.is_some() => None,
                Some(Kept::Here(Ok(session))) => {
                    Held::new(&candidate.identity, session).map(Kept::Held)
                }
                answer => answer,
            };
        }
    }

    /// How many more identities are looked at.
    #[cfg(feature = "tokio")]
    pub(crate) fn room(&self) -> usize {
        MAX_CANDIDATES - self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn identity(n: u8) -> Identity {
        [n; 32]
    }

    #[test]
    fn four_are_looked_at() {
        let mut candidates = Candidates::default();
        for n in 0..4 {
            assert_eq!(candidates.mention(&identity(n)), Mention::Look);
        }
        assert_eq!(candidates.mention(&identity(4)), Mention::Capped);
        assert_eq!(candidates.mention(&identity(3)), Mention::Look);
    }

    #[test]
    fn what_was_declined_stays_declined_and_what_was_not_is_looked_at_twice() {
        let mut candidates = Candidates::default();
        for n in 0..2 {
            assert_eq!(candidates.mention(&identity(n)), Mention::Look);
        }
        candidates.decline(&identity(0), Reason::Expired);
        let declined = Mention::Declined(Reason::Expired);
        assert_eq!(candidates.mention(&identity(0)), declined);
        assert_eq!(candidates.mention(&identity(1)), Mention::Look);
        let unfit = Mention::Declined(Reason::WrongContext);
        assert_eq!(candidates.mention(&identity(1)), unfit);
    }

    #[test]
    fn answers_take_the_room_of_the_mentions_that_they_are_for() {
        let mut candidates = Candidates::default();
        for n in 0..6 {
            candidates.set_answer(&identity(n), Err(Reason::NotFound));
        }
        assert!(candidates.answer(&identity(3)).is_some());
        assert!(candidates.answer(&identity(4)).is_none());
        assert_eq!(candidates.mention(&identity(3)), Mention::Look);
        assert_eq!(candidates.mention(&identity(4)), Mention::Capped);
    }

    #[test]
    fn what_is_held_is_there_until_it_ends_or_its_connection_does() {
        let mut candidates = Candidates::default();
        let ends = [3_600, 0].map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
        for (n, ends) in (0..).zip(ends) {
            candidates.set_answer(&identity(n), Ok(Session::new(ends, &[n])));
        }
        candidates.hold();
        candidates.hold();
        let keys = candidates
            .0
            .iter()
            .filter_map(|candidate| match &candidate.answer {
                Some(Kept::Held(held)) => Some(held.0),
                _ => None,
            });
        let keys: Vec<_> = keys.collect();
        assert_eq!(keys.len(), 2);
        let answer = candidates.answer(&identity(0)).unwrap().unwrap();
        assert_eq!(answer.payload(), [0]);
        // Returned once, as its connection is to say so, unless it was swept before.
        let _ = candidates.answer(&identity(1));
        let gone = candidates.answer(&identity(1)).unwrap();
        assert_eq!(gone.unwrap_err(), Reason::Expired);
        drop(candidates);
        assert!(HELD.get(&keys[0]).unwrap().is_none());
    }
}
