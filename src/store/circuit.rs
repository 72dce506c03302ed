//! A circuit: what is called through it is spared while it fails.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::session::StoreError;

/// How long nothing is asked of what fails.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Circuit(Mutex<State>);

/// When it opens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// So many failures in a row; 0 is as 1.
    pub(super) failures: u32,
    /// A call that takes longer is a failure.
    pub(super) deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            failures: 5,
            deadline: Duration::from_millis(50),
        }
    }
}

impl Circuit {
    /// Calls, if that is to be done now; `None` if not.
    pub(super) fn call<T>(
        &self,
        limits: Limits,
        clock: impl Fn() -> Instant,
        call: impl FnOnce() -> Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        let start = clock();
        let pass = self.0.lock().enter(start)?;
        let answer = catch_unwind(AssertUnwindSafe(call));
        let end = clock();
        let late = end.saturating_duration_since(start) > limits.deadline;
        let failed = late || !matches!(answer, Ok(Ok(_)));
        self.0.lock().leave(pass, failed, limits.failures, end);
        Some(answer.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.lock().is_open()
    }

    /// As a process leaves it that was forked while a probe was under way.
    #[cfg(test)]
    pub(super) fn leave_probing(&self, process: u32) {
        self.0.lock().probing = Some(process);
    }

    /// What is said in place of an answer that was not asked for.
    pub(super) fn refused() -> StoreError {
        StoreError::new("the store or register has failed too often, and was not asked")
    }
}

/// What is known by the calls that have ended. Knows neither what was called nor the clock.
#[derive(Default)]
struct State {
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

impl State {
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
