//! A store over a store that may be down, and is then spared.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::session_store::{SessionStore, Usage};
use crate::session::{Session, SessionKey, StoreError};

/// How long nothing is asked of a store that fails.
const PAUSE: Duration = Duration::from_secs(1);

/// A store over a store that is not asked while it fails.
///
/// A store on a network that is down, or slow, delays every handshake that asks it. After five
/// failures in a row this opens the circuit: calls are answered at once, without asking. A second
/// later one call goes through as a probe, one only, however many threads call; if it fails,
/// another does a second after it has ended. The first success closes the circuit.
///
/// There are two circuits, one for [`put`](SessionStore::put) and one for all else: a store that is
/// full, and takes nothing more, still has the sessions that clients come back with.
///
/// A failure is an error, a panic (which goes on as the panic it is), or an answer, right as it may
/// be, that took longer than the deadline. No call is cut short: the store bounds its own time.
/// One that never returns from a probe is not asked again.
///
/// While the circuit is open
///
/// - [`get`](SessionStore::get) and [`take`](SessionStore::take) find nothing: a full handshake
///   with [`Reason::NotFound`](crate::Reason::NotFound);
/// - [`put`](SessionStore::put) and [`remove`](SessionStore::remove) are errors, because the
///   session was not stored and may still be there. So while a store is down
///   [`StoreStats::errors`](crate::StoreStats::errors) goes on counting, or, under a
///   [`WriteBehind`](crate::WriteBehind), [`Usage::lost`].
///
/// All of them are counted in [`Usage::refused`].
///
/// ```
/// use std::time::Duration;
///
/// use openssl_resumption::{CircuitBreaker, MemoryStore, Resumption};
///
/// # let shared = MemoryStore::default();
/// let store = CircuitBreaker::new(shared).deadline(Duration::from_millis(20));
/// let policy = Resumption::stateful(store);
/// ```
pub struct CircuitBreaker<S> {
    inner: S,
    failures: u32,
    deadline: Duration,
    puts: Mutex<Circuit>,
    others: Mutex<Circuit>,
    refused: AtomicU64,
}

impl<S: SessionStore> CircuitBreaker<S> {
    /// Opens after 5 failures in a row, with a deadline of 50 ms.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            failures: 5,
            deadline: Duration::from_millis(50),
            puts: Mutex::default(),
            others: Mutex::default(),
            refused: AtomicU64::new(0),
        }
    }

    /// How many failures in a row open the circuit: 5 by default; 0 is as 1.
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// How long a call may take that is no failure: 50 ms by default. With zero every call fails,
    /// with [`Duration::MAX`] none does by its time alone.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Calls the inner store, if that is to be asked now.
    fn call<T>(
        &self,
        circuit: &Mutex<Circuit>,
        clock: impl Fn() -> Instant,
        call: impl FnOnce(&S) -> Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        let start = clock();
        let Some(pass) = circuit.lock().enter(start) else {
            self.refused.fetch_add(1, Relaxed);
            return None;
        };
        let answer = catch_unwind(AssertUnwindSafe(|| call(&self.inner)));
        let end = clock();
        let late = end.saturating_duration_since(start) > self.deadline;
        let failed = late || !matches!(answer, Ok(Ok(_)));
        circuit.lock().leave(pass, failed, self.failures, end);
        Some(answer.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

/// What is known of a store by the calls that have ended. Knows neither the store nor the clock.
#[derive(Default)]
struct Circuit {
    failed_in_a_row: u32,
    /// While the circuit is open: from when on a call may pass.
    probe_at: Option<Instant>,
    /// The process in which one has passed and not ended, if there is one. A fork leaves it behind.
    probing: Option<u32>,
}

/// A call that passed a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Closed,
    Probe,
}

impl Circuit {
    /// Whether a call that begins now may pass. What passes must [`leave`](Self::leave).
    fn enter(&mut self, now: Instant) -> Option<Pass> {
        match self.probe_at {
            None => Some(Pass::Closed),
            Some(at) if now < at || self.probing == Some(process::id()) => None,
            Some(_) => {
                self.probing = Some(process::id());
                Some(Pass::Probe)
            }
        }
    }

    fn is_open(&self) -> bool {
        self.probe_at.is_some()
    }

    fn leave(&mut self, pass: Pass, failed: bool, failures: u32, now: Instant) {
        if pass == Pass::Probe {
            self.probing = None;
        }
        if !failed {
            self.failed_in_a_row = 0;
            self.probe_at = None;
            return;
        }
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        // Calls that began before the circuit opened, and fail after, put off no probe.
        let decides = pass == Pass::Probe || self.probe_at.is_none();
        if decides && self.failed_in_a_row >= failures {
            self.probe_at = Some(now + PAUSE);
        }
    }
}

fn refused() -> StoreError {
    StoreError::new("the store has failed too often, and was not asked")
}

impl<S: SessionStore> SessionStore for CircuitBreaker<S> {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.call(&self.puts, Instant::now, |inner| inner.put(key, session))
            .unwrap_or_else(|| Err(refused()))
    }

    fn put_successor(
        &self,
        key: &SessionKey,
        session: Session,
        used: &SessionKey,
    ) -> Result<(), StoreError> {
        let put = |inner: &S| inner.put_successor(key, session, used);
        self.call(&self.puts, Instant::now, put)
            .unwrap_or_else(|| Err(refused()))
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.call(&self.others, Instant::now, |inner| inner.get(key))
            .unwrap_or(Ok(None))
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.call(&self.others, Instant::now, |inner| inner.remove(key))
            .unwrap_or_else(|| Err(refused()))
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.call(&self.others, Instant::now, |inner| inner.take(key))
            .unwrap_or(Ok(None))
    }

    fn takes_once(&self) -> bool {
        self.inner.takes_once()
    }

    /// Asked for in any case: not in handshakes. If the inner store does not know, all but
    /// `refused` is 0.
    fn usage(&self) -> Option<Usage> {
        let mut usage = self.inner.usage().unwrap_or_default();
        usage.refused += self.refused.load(Relaxed);
        Some(usage)
    }

    fn last_error(&self) -> Option<String> {
        self.inner.last_error()
    }
}

impl<S> fmt::Debug for CircuitBreaker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("failures", &self.failures)
            .field("deadline", &self.deadline)
            .field("puts_open", &self.puts.lock().is_open())
            .field("others_open", &self.others.lock().is_open())
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
