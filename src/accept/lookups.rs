//! The lookups of a suspended handshake.

use std::sync::Arc;
use std::time::SystemTime;

use openssl::ssl::{SslRef, SslVersion};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::may_suspend::reads_early_data;
use super::offered::{offered, offers_early_data};
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
    ids: Vec<Identity>,
    /// The client random, if the register is asked too.
    hello: Option<[u8; 32]>,
}

/// What came of them: of the sessions, and of the early data.
type Answers = (Vec<Answer>, Option<EarlyData>);

impl Lookups {
    /// What is still to be looked up of the offer in the ClientHello that is being processed.
    pub(super) fn due(ssl: &SslRef) -> Option<Self> {
        let connection = Connection::of(ssl)?;
        // A renegotiation is full.
        if connection.outcome().is_some() {
            return None;
        }
        let hello = hello_to_register(ssl, connection);
        let (version, ids) =
            ids_due(ssl, connection).unwrap_or_else(|| (SslVersion::TLS1_3, Vec::new()));
        (hello.is_some() || !ids.is_empty()).then(|| Self {
            owner: Arc::clone(connection.owner()),
            version,
            ids,
            hello,
        })
    }

    /// The answers of the store, on a thread that may wait for them; `None` if the deadline comes
    /// first, or the end of the runtime.
    pub(super) async fn ask_elsewhere(self: Arc<Self>) -> Option<Answers> {
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
            tasks.join_next().await?.ok()
        };
        match timeout(deadline, answers).await {
            Ok(answers) => answers,
            Err(_) => {
                policy.counters().late.add_one();
                None
            }
        }
    }

    /// Up to the first session that is found: OpenSSL takes that one, and the others, which a
    /// single-use policy would take out of the store, stay there.
    fn ask(self: &Arc<Self>) -> Answers {
        let mut answers = Vec::new();
        for id in &self.ids {
            if Arc::strong_count(self) == 1 {
                // Nobody waits any more.
                break;
            }
            let found = ffi::shielded(Err(Reason::StoreFailed), || {
                let policy = self.owner.policy();
                let key = policy.key_of(self.version, id);
                policy.ask(self.version, &key, id, SystemTime::now())
            });
            let answer = found.map(|(session, _)| session);
            answers.push(answer);
            if answers.last().is_some_and(Result::is_ok) {
                break;
            }
        }
        let early_data = self.ask_register(&answers);
        (answers, early_data)
    }

    /// Not for a session that is not there.
    fn ask_register(self: &Arc<Self>, answers: &[Answer]) -> Option<EarlyData> {
        let policy = self.owner.policy();
        let may_resume = policy.keys().is_some() || answers.iter().any(Result::is_ok);
        let hello = self
            .hello
            .filter(|_| may_resume && Arc::strong_count(self) > 1)?;
        Some(policy.is_new(&hello))
    }

    /// Hands the answers to the connection, for when OpenSSL asks.
    pub(super) fn settle(&self, connection: &Connection, answers: Option<Answers>) {
        let (answers, early_data) =
            answers.unwrap_or_else(|| (vec![Err(Reason::StoreFailed); self.ids.len()], None));
        if self.hello.is_some() {
            connection.set_registered(early_data.unwrap_or(EarlyData::RegisterFailed));
        }
        let Some(mut known) = connection.candidates() else {
            return;
        };
        for (id, answer) in self.ids.iter().zip(answers) {
            known.set_answer(id, answer);
        }
    }
}

/// The ids that the store is to be asked for.
fn ids_due(ssl: &SslRef, connection: &Connection) -> Option<(SslVersion, Vec<Identity>)> {
    connection.policy().store()?;
    let (version, offered) = offered(ssl)?;
    let mut ids = Vec::new();
    let mut known = connection.candidates()?;
    for id in offered {
        match known.answer(&id) {
            None => ids.push(id),
            Some(Err(_)) => {}
            Some(Ok(_)) => return None,
        }
    }
    ids.truncate(known.room());
    Some((version, ids))
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
