//! A store over a store that may be down, and is then spared.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::circuit::{Circuit, Limits};
use super::session_store::{SessionStore, Usage};
use crate::session::{Session, SessionKey, StoreError};

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
    limits: Limits,
    puts: Circuit,
    others: Circuit,
    refused: AtomicU64,
}

impl<S: SessionStore> CircuitBreaker<S> {
    /// Opens after 5 failures in a row, with a deadline of 50 ms.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            limits: Limits::default(),
            puts: Circuit::default(),
            others: Circuit::default(),
            refused: AtomicU64::new(0),
        }
    }

    /// How many failures in a row open the circuit: 5 by default; 0 is as 1.
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.limits.failures = failures;
        self
    }

    /// How long a call may take that is no failure: 50 ms by default. With zero every call fails,
    /// with [`Duration::MAX`] none does by its time alone.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// Calls the inner store, if that is to be asked now.
    fn call<T>(
        &self,
        circuit: &Circuit,
        clock: impl Fn() -> Instant,
        call: impl FnOnce(&S) -> Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        let answer = circuit.call(self.limits, clock, || call(&self.inner));
        if answer.is_none() {
            self.refused.fetch_add(1, Relaxed);
        }
        answer
    }
}

impl<S: SessionStore> SessionStore for CircuitBreaker<S> {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.call(&self.puts, Instant::now, |inner| inner.put(key, session))
            .unwrap_or_else(|| Err(Circuit::refused()))
    }

    fn put_successor(
        &self,
        key: &SessionKey,
        session: Session,
        used: &SessionKey,
    ) -> Result<(), StoreError> {
        let put = |inner: &S| inner.put_successor(key, session, used);
        self.call(&self.puts, Instant::now, put)
            .unwrap_or_else(|| Err(Circuit::refused()))
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.call(&self.others, Instant::now, |inner| inner.get(key))
            .unwrap_or(Ok(None))
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.call(&self.others, Instant::now, |inner| inner.remove(key))
            .unwrap_or_else(|| Err(Circuit::refused()))
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.call(&self.others, Instant::now, |inner| inner.take(key))
            .unwrap_or(Ok(None))
    }

    fn takes_once(&self) -> bool {
        self.inner.takes_once()
    }

    fn remembers_takes(&self, lives: Duration) -> Result<bool, StoreError> {
        let remembers = |inner: &S| inner.remembers_takes(lives);
        self.call(&self.others, Instant::now, remembers)
            .unwrap_or_else(|| Err(Circuit::refused()))
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
            .field("failures", &self.limits.failures)
            .field("deadline", &self.limits.deadline)
            .field("puts_open", &self.puts.is_open())
            .field("others_open", &self.others.is_open())
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
