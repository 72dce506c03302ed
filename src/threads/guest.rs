//! Threads of ours in a process that is somebody else's.
//!
//! Each is started by [`spawn`] (or by one of these, where [`adopt`] is the first thing it does), and so
//!
//! - has all signals blocked from its first instruction on: a signal that the program blocks, and waits for with
//!   `sigwait` or a `signalfd`, is not delivered to a thread of ours;
//! - has a name;
//! - is not inside OpenSSL when OpenSSL is cleaned up at the exit of the process, which happens if somebody else
//!   initialised it so. For that all that it does but waiting is done in [`in_openssl`].
//!
//! ```text
//! guest::spawn("at-most-15-chars", move || {
//!     while let Some(this) = weak.upgrade() {
//!         guest::in_openssl(|| { this.work(); drop(this) });
//!         thread::park_timeout(rest);       // outside: nobody waits for a thread that waits
//!     }
//! })
//! ```
//!
//! OpenSSL calls [`close`] before it frees anything. From then on nobody comes in: a thread that would rests
//! until the process is gone. `close` waits for those inside, for [`PATIENCE`] at most, because they may be in
//! code of the user's that hangs. Should they come back from there and go on to what uses OpenSSL and is
//! in an `in_openssl` of its own, they rest there. Only threads of ours do: for all others `in_openssl` is a
//! call and nothing else, so that the thread that ends the process is not held up by this.

use std::cell::Cell;
use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ffi;

/// How long the end of the process waits for threads that are in a call.
const PATIENCE: Duration = Duration::from_secs(1);

/// Linux cuts off what is longer.
const LONGEST_NAME: usize = 15;

/// How many threads are inside, in the lower half with the two flags, and in the upper half in which process: a
/// fork leaves them behind. No lock, which a fork might leave locked.
static GATE: AtomicU64 = AtomicU64::new(0);
/// Nobody comes in any more.
const CLOSING: u64 = 1 << 31;
/// Nobody is waited for any more.
const CLOSED: u64 = 1 << 30;
const FLAGS: u64 = CLOSING | CLOSED;
const INSIDE: u64 = CLOSED - 1;

#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Not a thread of ours.
    Elsewhere,
    Outside,
    Inside,
}

thread_local! {
    static PLACE: Cell<Place> = const { Cell::new(Place::Elsewhere) };
    static END: End = const { End };
}

/// Starts a thread of ours.
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start(name, thread::Builder::new(), body)
}

/// One with a stack of so many bytes.
#[cfg(feature = "redis")]
pub(crate) fn spawn_on_stack(
    name: &str,
    bytes: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start(name, thread::Builder::new().stack_size(bytes), body)
}

fn start(
    name: &str,
    thread: thread::Builder,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    debug_assert!(name.len() <= LONGEST_NAME);
    let thread = thread.name(name.into());
    starting(|| {
        thread.spawn(|| {
            adopt();
            body();
        })
    })
}

/// Runs what starts threads, which inherit that all signals are blocked.
fn starting<T>(start: impl FnOnce() -> T) -> T {
    static ASKED_FOR: AtomicBool = AtomicBool::new(false);
    if !ASKED_FOR.swap(true, SeqCst) {
        // Without memory for that it is as it was before there was such a handler.
        ffi::at_openssl_exit(close);
    }
    let _all = ffi::block_signals();
    start()
}

/// Makes the thread that calls this one of ours.
pub(crate) fn adopt() {
    PLACE.set(Place::Outside);
    END.with(|_| ());
}

/// Does what may use OpenSSL; on a thread of ours not once OpenSSL is gone.
pub(crate) fn in_openssl<T>(body: impl FnOnce() -> T) -> T {
    match PLACE.get() {
        Place::Elsewhere => body(),
        Place::Outside => {
            come_in();
            let _leave = Leave;
            body()
        }
        Place::Inside => {
            if GATE.load(SeqCst) & CLOSED != 0 {
                rest();
            }
            body()
        }
    }
}

/// What [`in_openssl`] begins with on a thread of ours, for one whose loop is somebody else's, and says when it waits.
pub(crate) fn come_in() {
    if PLACE.get() == Place::Outside {
        if !GATE.enter() {
            rest();
        }
        PLACE.set(Place::Inside);
    }
}

/// What it ends with.
pub(crate) fn go_out() {
    if PLACE.get() == Place::Inside {
        PLACE.set(Place::Outside);
        GATE.leave();
    }
}

/// Until the process is gone.
fn rest() -> ! {
    loop {
        thread::park();
    }
}

struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        go_out();
    }
}

/// The end of a thread of ours: what OpenSSL has of it is freed here, rather than by OpenSSL when the thread is
/// almost gone and nobody can wait for it.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        in_openssl(ffi::thread_stop);
    }
}

/// Called by OpenSSL before it frees what it has, on the thread that ends the process.
extern "C" fn close() {
    // A thread of ours may be that: a source of keys has called `exit`.
    let own = u64::from(PLACE.get() == Place::Inside);
    GATE.close(own, PATIENCE);
}

trait Gate {
    fn enter(&self) -> bool;
    fn leave(&self);
    fn close(&self, own: u64, patience: Duration);
}

impl Gate for AtomicU64 {
    fn enter(&self) -> bool {
        let come_in = |gate| (gate & CLOSING == 0).then(|| here(gate) + 1);
        self.fetch_update(SeqCst, SeqCst, come_in).is_ok()
    }

    fn leave(&self) {
        // In a process that was forked off by a thread of ours it never came in.
        let go = |gate| Some(here(gate)).filter(|gate| gate & INSIDE > 0);
        let _ = self.fetch_update(SeqCst, SeqCst, |gate| Some(go(gate)? - 1));
    }

    fn close(&self, own: u64, patience: Duration) {
        self.fetch_or(CLOSING, SeqCst);
        let begun = Instant::now();
        while here(self.load(SeqCst)) & INSIDE > own && begun.elapsed() < patience {
            thread::sleep(Duration::from_millis(1));
        }
        self.fetch_or(CLOSED, SeqCst);
    }
}

/// The gate as it is in this process.
fn here(gate: u64) -> u64 {
    let process = u64::from(process::id()) << 32;
    if gate & !(FLAGS | INSIDE) == process {
        gate
    } else {
        process | gate & FLAGS
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_of_ours_has_its_name() {
        let (say, said) = channel();
        let thread = spawn("some-guest", move || {
            say.send(thread::current().name().map(str::to_owned))
                .unwrap();
        });
        assert_eq!(said.recv().unwrap().as_deref(), Some("some-guest"));
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn who_starts_threads_has_its_signals_back() {
        let before = blocked();
        starting(|| assert_ne!(blocked(), before));
        assert_eq!(blocked(), before);
        let _ = std::panic::catch_unwind(|| starting(|| panic!("no thread to be had")));
        assert_eq!(blocked(), before);
    }

    fn blocked() -> Option<String> {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix("SigBlk:"))
            .map(str::to_owned)
    }

    #[test]
    fn nobody_comes_in_once_it_closes() {
        let gate = AtomicU64::new(0);
        assert!(gate.enter());
        assert!(gate.enter());
        gate.leave();
        let begun = Instant::now();
        // One of the two is oneself.
        gate.close(1, Duration::from_secs(60));
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(!gate.enter());
        gate.leave();
    }

    #[test]
    fn who_is_inside_is_waited_for_but_not_for_ever() {
        let gate = AtomicU64::new(0);
        assert!(gate.enter());
        gate.close(0, Duration::from_millis(10));
        assert_ne!(gate.load(SeqCst) & CLOSED, 0);

        let gate = AtomicU64::new(0);
        assert!(gate.enter());
        thread::scope(|scope| {
            let closing = scope.spawn(|| gate.close(0, Duration::from_secs(60)));
            while gate.load(SeqCst) & CLOSING == 0 {
                thread::yield_now();
            }
            assert!(!closing.is_finished());
            gate.leave();
        });
    }

    #[test]
    fn those_of_another_process_are_not_here() {
        let of_the_parent =
            |flags| AtomicU64::new((u64::from(process::id()) + 1) << 32 | flags | 3);
        let gate = of_the_parent(0);
        gate.close(0, Duration::from_secs(60));
        let gate = of_the_parent(0);
        gate.leave();
        assert!(gate.enter());
        assert_eq!(gate.load(SeqCst) & INSIDE, 1);
        assert!(!of_the_parent(CLOSING).enter());
    }
}
