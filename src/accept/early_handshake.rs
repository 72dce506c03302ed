//! The handshake of a connection with early data, as those see it who handle its requests.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

use crate::outcome::Outcome;

/// A handle on the handshake of an [`AsyncEarlyStream`](crate::AsyncEarlyStream), for whoever handles a request that may
/// have come early: [`AsyncEarlyStream::handshake`](crate::AsyncEarlyStream::handshake) makes it, and clones are of the
/// same connection. It does not keep the connection open.
#[derive(Clone)]
pub struct EarlyHandshake {
    progress: Arc<Progress>,
    stream: Weak<dyn Driven>,
}

/// A stream that can go on with its handshake, whoever asks for it.
pub(super) trait Driven: Send + Sync {
    fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl EarlyHandshake {
    pub(super) fn new(progress: &Arc<Progress>, stream: Weak<dyn Driven>) -> Self {
        Self {
            progress: Arc::clone(progress),
            stream,
        }
    }

    /// Whether the handshake is unfinished: a request that is there now came early, and may have been sent by somebody who
    /// recorded it. Also `true` if it failed.
    #[must_use]
    pub fn is_early(&self) -> bool {
        !self.progress.is_finished()
    }

    /// Waits until the handshake is finished, and goes on with it meanwhile, whether or not somebody reads from the stream.
    ///
    /// # Errors
    ///
    /// It failed, or the connection is gone: the request may have been sent by somebody who cannot finish.
    pub async fn finished(&self) -> io::Result<()> {
        let mut waiting = Waiting(&self.progress, None);
        poll_fn(|cx| {
            waiting.1 = Some(cx.waker().clone());
            self.poll_finished(cx)
        })
        .await
    }

    /// Gives the connection up, if its handshake is unfinished: reading, writing and waiting are errors from then on.
    ///
    /// The time until the handshake is finished is the client's; a server that bounds it in its accept bounds it here:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use openssl_resumption::EarlyHandshake;
    ///
    /// fn finish_in_time(handshake: EarlyHandshake) {
    ///     tokio::spawn(async move {
    ///         let finished = tokio::time::timeout(Duration::from_secs(10), handshake.finished());
    ///         if finished.await.is_err() {
    ///             handshake.abort();
    ///         }
    ///     });
    /// }
    /// ```
    pub fn abort(&self) {
        if !self.progress.is_finished() {
            self.progress.aborted.store(true, Relaxed);
            self.progress.wake_all();
        }
    }

    /// What became of the handshake, as [`ssl.resumption()`](crate::SslRefExt::resumption) says it, also when the
    /// connection is gone; `None` while it is unfinished.
    #[must_use]
    pub fn resumption(&self) -> Option<Outcome> {
        self.progress.finished.get().copied().flatten()
    }

    fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.is_finished() {
            return Poll::Ready(Ok(()));
        }
        match self.stream.upgrade() {
            Some(stream) => stream.poll_finished(cx),
            None => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the connection ended before its handshake was finished",
            ))),
        }
    }
}

impl fmt::Debug for EarlyHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyHandshake")
            .field("is_early", &self.is_early())
            .finish_non_exhaustive()
    }
}

/// How far a handshake is, and all tasks that wait for it: one may read, one write, and others wait for its end, where
/// a stream keeps in mind one for each direction.
#[derive(Debug, Default)]
pub(super) struct Progress {
    finished: OnceLock<Option<Outcome>>,
    aborted: AtomicBool,
    tasks: Mutex<Vec<Waker>>,
}

impl Progress {
    pub(super) fn is_finished(&self) -> bool {
        self.finished.get().is_some()
    }

    pub(super) fn finish(&self, outcome: Option<Outcome>) {
        self.finished.get_or_init(|| outcome);
    }

    /// Whether the connection may go on before its handshake is finished.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.aborted.load(Relaxed) {
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "given up before the handshake was finished",
            )),
            false => Ok(()),
        }
    }

    /// The waker of all tasks that wait, among which is this one now.
    pub(super) fn waker_with(self: &Arc<Self>, task: &Waker) -> Waker {
        let mut tasks = self.tasks.lock();
        if !tasks.iter().any(|known| known.will_wake(task)) {
            tasks.push(task.clone());
        }
        Arc::clone(self).into()
    }

    pub(super) fn wake_all(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.into_iter().for_each(Waker::wake);
    }
}

/// A task that waits until it gives up.
struct Waiting<'a>(&'a Progress, Option<Waker>);

/// Its waker goes with it. The task may wait for something else of the connection, too: it is woken to say so.
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(waker) = &self.1 else { return };
        let mut tasks = self.0.tasks.lock();
        let before = tasks.len();
        tasks.retain(|task| !task.will_wake(waker));
        let was_there = tasks.len() < before;
        drop(tasks);
        if was_there {
            waker.wake_by_ref();
        }
    }
}

impl Wake for Progress {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
