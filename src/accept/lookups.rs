//! The lookups of a suspended handshake.

use std::sync::Arc;
use std::time::SystemTime;

use openssl::ssl::{SslRef, SslVersion};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::may_suspend::reads_early_data;
use super::offered::{Offered, offered, offers_early_data};
use crate::decisions::{Answer, Applied, Connection, Identity};
use crate::ffi;
use crate::outcome::{EarlyData, Reason};

/// How many suspended handshakes ask a store at a time.
const MAX_TASKS: usize = 256;

static TASKS: Semaphore = Semaphore::const_new(MAX_TASKS);

/// What a suspended handshake waits for.
pub(super) struct Lookups {
    owner: Arc<Applied>,
    version: SslVersion,
    offered: Vec<Offered>,
    /// The client random, if the register is asked too.
    hello: Option<[u8; 32]>,
    /// What has come of the first of them. What has not when the deadline passes counts as nothing.
    found: Mutex<Vec<Found>>,
}

/// What came of one.
#[derive(Clone)]
struct Found {
    /// What the store said, if it was asked.
    answer: Option<Answer>,
    /// What the application said of the client, if it was asked: no, until it says yes.
    let_in: Option<bool>,
}

impl Lookups {
    /// What is still to be looked up of the offer in the ClientHello that is being processed.
    pub(super) fn due(ssl: &SslRef) -> Option<Self> {
        let connection = Connection::of(ssl)?;
        // A renegotiation is full.
        if connection.outcome().is_some() {
            return None;
        }
        let hello = hello_to_register(ssl, connection);
        let (version, offered) =
            sessions_due(ssl, connection).unwrap_or_else(|| (SslVersion::TLS1_3, Vec::new()));
        (hello.is_some() || !offered.is_empty()).then(|| Self {
            owner: Arc::clone(connection.owner()),
            version,
            offered,
            hello,
            found: Mutex::default(),
        })
    }

    /// Asks for all of them, on a thread that may wait, until the deadline or the end of the runtime. Returns what the
    /// register said, if it was asked and has answered.
    pub(super) async fn ask_elsewhere(self: Arc<Self>) -> Option<EarlyData> {
        let policy = self.owner.policy().clone();
        let deadline = policy.knobs().suspension.deadline;
        let answers = async {
            // Here, because what waits for a thread of the runtime stays in its queue for good.
            let task = TASKS.acquire().await.ok()?;
            // Dropping the set, here or with the future, takes back a lookup that has not begun.
            let mut tasks = JoinSet::new();
            tasks.spawn_blocking(move || {
                let _until_the_end = task;
                self.ask()
            });
            tasks.join_next().await?.ok()?
        };
        match timeout(deadline, answers).await {
            Ok(early_data) => early_data,
            Err(_) => {
                policy.counters().late.add_one();
                None
            }
        }
    }

    /// Up to the first session that is found and let in: OpenSSL takes that one, and the others, which a
    /// single-use policy would take out of the store, stay there.
    fn ask(self: &Arc<Self>) -> Option<EarlyData> {
        let mut resumes = false;
        for offered in &self.offered {
            // Or nobody waits any more.
            if resumes || Arc::strong_count(self) == 1 {
                break;
            }
            resumes = match offered {
                Offered::Stored(id) => self.ask_for(id),
                Offered::Sealed(ticket) => {
                    self.note(None, Some(false));
                    self.note_let_in(ffi::shielded(false, || self.lets_in(ticket)))
                }
            };
        }
        self.ask_register(resumes)
    }

    /// Whether the session is there, and its client let in.
    fn ask_for(&self, id: &Identity) -> bool {
        let policy = self.owner.policy();
        let now = SystemTime::now();
        let found = ffi::shielded(Err(Reason::StoreFailed), || {
            let key = policy.key_of(self.version, id);
            policy.ask(self.version, &key, id, now)
        });
        match found {
            Ok((record, session)) if policy.asks_about_clients() => {
                self.note(Some(Ok(record)), Some(false));
                self.note_let_in(policy.admits(&session, now))
            }
            found => {
                let is_there = found.is_ok();
                self.note(Some(found.map(|(record, _)| record)), None);
                is_there
            }
        }
    }

    fn note(&self, answer: Option<Answer>, let_in: Option<bool>) {
        self.found.lock().push(Found { answer, let_in });
    }

    /// The application has answered about the last one.
    fn note_let_in(&self, let_in: bool) -> bool {
        if let Some(last) = self.found.lock().last_mut() {
            last.let_in = Some(let_in);
        }
        let_in
    }

    /// Whether the application lets the client of this ticket in, if it can be opened.
    fn lets_in(&self, ticket: &[u8]) -> bool {
        let policy = self.owner.policy();
        let now = SystemTime::now();
        let session = || {
            let (key, _) = policy.keys()?.opening(ticket.first_chunk()?, now)?;
            ffi::session_from_der(key.unseal(ticket)?.as_bytes())
        };
        session().is_some_and(|session| policy.admits(&session, now))
    }

    /// Not for a session that is not there.
    fn ask_register(self: &Arc<Self>, resumes: bool) -> Option<EarlyData> {
        let policy = self.owner.policy();
        let may_resume = resumes || (policy.keys().is_some() && !policy.asks_about_clients());
        let hello = self
            .hello
            .filter(|_| may_resume && Arc::strong_count(self) > 1)?;
        Some(policy.is_new(&hello))
    }

    /// Hands what has come of them to the connection, for when OpenSSL asks.
    pub(super) fn settle(&self, connection: &Connection, early_data: Option<EarlyData>) {
        if self.hello.is_some() {
            connection.set_registered(early_data.unwrap_or(EarlyData::RegisterFailed));
        }
        let Some(mut known) = connection.candidates() else {
            return;
        };
        let found = self.found.lock().clone();
        let is_over = early_data.is_some() || found.iter().any(Found::resumes);
        let missing = self.offered.iter().skip(found.len()).map(Found::nothing);
        let missing = missing.filter(|_| !is_over);
        for (offered, found) in self.offered.iter().zip(found.into_iter().chain(missing)) {
            let identity = offered.identity();
            if let Some(answer) = found.answer {
                known.set_answer(&identity, answer);
            }
            if let Some(let_in) = found.let_in {
                known.set_let_in(&identity, let_in);
            }
        }
    }
}

impl Found {
    /// Nobody has answered in time.
    fn nothing(offered: &Offered) -> Self {
        let is_stored = matches!(offered, Offered::Stored(_));
        Self {
            answer: is_stored.then_some(Err(Reason::StoreFailed)),
            let_in: (!is_stored).then_some(false),
        }
    }

    fn resumes(&self) -> bool {
        let is_there = self.answer.as_ref().is_none_or(Result::is_ok);
        is_there && self.let_in.unwrap_or(true)
    }
}

/// The sessions that somebody is to be asked about: the store, or the application.
fn sessions_due(ssl: &SslRef, connection: &Connection) -> Option<(SslVersion, Vec<Offered>)> {
    let policy = connection.policy();
    let asks = policy.asks_about_clients() && policy.keys().is_some();
    if policy.store().is_none() && !asks {
        return None;
    }
    let (version, offered) = offered(ssl)?;
    let mut due = Vec::new();
    let mut known = connection.candidates()?;
    for offered in offered {
        let identity = offered.identity();
        let is_due = match &offered {
            Offered::Stored(id) => match known.answer(id) {
                _ if policy.store().is_none() => false,
                None => true,
                Some(Err(_)) => false,
                Some(Ok(_)) if known.is_let_in(&identity) == Some(false) => false,
                Some(Ok(_)) => return None,
            },
            Offered::Sealed(_) => match known.is_let_in(&identity) {
                Some(true) => return None,
                Some(false) => false,
                None => asks,
            },
        };
        if is_due {
            due.push(offered);
        }
    }
    due.truncate(known.room());
    Some((version, due))
}

/// The client random that the register is to be asked for.
fn hello_to_register(ssl: &SslRef, connection: &Connection) -> Option<[u8; 32]> {
    let is_due = connection.policy().takes_early_data()
        && reads_early_data(ssl)
        && !connection.is_registered()
        && offers_early_data(ssl);
    ssl.client_hello_random()
        .filter(|_| is_due)?
        .try_into()
        .ok()
}
