//! Early data on a tokio runtime.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use openssl::ssl::{Error, Ssl, SslRef};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_openssl::SslStream;

use super::accept_async::drive;
use super::early::{Early, FIRST, Tls};
use super::early_handshake::{Driven, EarlyHandshake, Progress};
use super::early_stream::{check, into_io};
use super::may_suspend::let_suspend;
use crate::decisions::Connection;
use crate::outcome::Outcome;

/// Accepts a TLS connection, and returns once the client's first flight has been answered, if it has early data that is
/// accepted; otherwise when the handshake is finished, as `SslStream::accept` does. What to know about early data is at
/// [`accept_early`](crate::accept_early), which does the same on plain threads.
///
/// Under [`suspend_lookups`](crate::Resumption::suspend_lookups) the store and the replay register are asked while the
/// handshake is suspended, as in [`accept_async`](crate::accept_async), to which the rest of its page applies too. The
/// register is asked then before the client has shown that it has the session: whoever can make up a ClientHello takes one
/// entry of it.
///
/// A timeout around the accept ends with the first flight. [`EarlyHandshake::abort`] shows how to bound the time until the
/// handshake is finished.
///
/// ```no_run
/// use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
/// use openssl_resumption::{
///     MemoryRegister, MemoryStore, Resumption, SslContextBuilderExt, accept_early_async,
/// };
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// # let listener = tokio::net::TcpListener::bind("0.0.0.0:8443").await?;
/// let policy = Resumption::stateful(MemoryStore::default())
///     .early_data(16 * 1024)
///     .replay_register(MemoryRegister::default().sessions_end_with_process());
/// let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
/// // … its certificate and key, and last:
/// acceptor.set_resumption(&policy)?;
/// let acceptor = acceptor.build();
///
/// let (tcp, _) = listener.accept().await?;
/// let mut tls = accept_early_async(Ssl::new(acceptor.context())?, tcp).await?;
/// let mut request = [0; 1024];
/// let len = tls.read(&mut request).await?;
/// if !request[..len].starts_with(b"GET ") {
///     tls.finished().await?;
/// }
/// tls.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n").await?;
/// tls.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`accept_async`](crate::accept_async). So ends a connection, too, whose session does not meet what is demanded of
/// its client.
///
/// # Panics
///
/// As [`accept_async`](crate::accept_async).
pub async fn accept_early_async<S>(mut ssl: Ssl, stream: S) -> Result<AsyncEarlyStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let_suspend(&mut ssl, true)?;
    ssl.set_accept_state();
    let mut tls = SslStream::new(ssl, stream)?;
    // Whether OpenSSL has said that there is no early data (any more).
    let mut ended = false;
    let early = drive(&mut tls, |mut tls, cx| {
        let mut first = [0; FIRST];
        if !ended {
            match tls.as_mut().poll_read_early_data(cx, &mut first) {
                Poll::Ready(Ok(0)) => ended = true,
                Poll::Ready(Ok(read)) => return Poll::Ready(Ok(Early::begun(&first[..read]))),
                // The flight has been answered, and early data comes, if not at once.
                Poll::Pending if takes_early_data(tls.ssl()) => {
                    return Poll::Ready(Ok(Early::begun(&[])));
                }
                answer => return answer.map_ok(|_| Early::over()),
            }
        }
        tls.poll_do_handshake(cx).map_ok(|()| Early::over())
    });
    let early = early.await?;
    let progress = Arc::<Progress>::default();
    if early.is_finished() {
        progress.finish(outcome_of(&tls));
    }
    let state = Mutex::new(State { tls, early });
    Ok(AsyncEarlyStream(Arc::new(Shared { state, progress })))
}

fn outcome_of<S>(tls: &SslStream<S>) -> Option<Outcome> {
    Connection::of(tls.ssl())?.outcome()
}

fn takes_early_data(ssl: &SslRef) -> bool {
    Connection::of(ssl).is_some_and(|connection| connection.takes_early_data(ssl))
}

/// A TLS stream on tokio whose first bytes may be early data: what [`accept_early_async`] returns. Reading and writing are as
/// with [`EarlyStream`](crate::EarlyStream). Until the handshake is finished reading waits for what was written before: a client
/// that reads nothing while it writes, more than the buffers of both ends hold, is not read from either.
pub struct AsyncEarlyStream<S>(Arc<Shared<S>>);

struct Shared<S> {
    state: Mutex<State<S>>,
    progress: Arc<Progress>,
}

struct State<S> {
    tls: SslStream<S>,
    early: Early,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncEarlyStream<S> {
    /// As [`EarlyStream::is_early`](crate::EarlyStream::is_early).
    #[must_use]
    pub fn is_early(&self) -> bool {
        !self.0.progress.is_finished()
    }

    /// As [`EarlyStream::finished`](crate::EarlyStream::finished).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn finished(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.0.poll_finished(cx)).await
    }

    /// A handle for whoever handles the requests.
    #[must_use]
    pub fn handshake(&self) -> EarlyHandshake
    where
        S: Send + 'static,
    {
        let weak: Weak<Shared<S>> = Arc::downgrade(&self.0);
        EarlyHandshake::new(&self.0.progress, weak)
    }

    /// The connection, locked: reading and writing, by a task that runs on another thread too, waits until it is dropped.
    /// Its [`resumption`](crate::SslRefExt::resumption) is `None` while the handshake is unfinished. In a task that is
    /// spawned do not keep it across an `.await`; [`EarlyHandshake::resumption`] needs no lock.
    #[must_use]
    pub fn ssl(&self) -> impl Deref<Target = SslRef> + '_ {
        Locked(self.0.state.lock())
    }
}

struct Locked<'a, S>(MutexGuard<'a, State<S>>);

impl<S> Deref for Locked<'_, S> {
    type Target = SslRef;

    fn deref(&self) -> &SslRef {
        self.0.tls.ssl()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Shared<S> {
    /// Polls the stream. While the handshake is unfinished all tasks that do are woken when it can go on.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut State<S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut state = self.state.lock();
        if state.early.is_finished() {
            return poll(&mut state, cx);
        }
        let before = state.early.position();
        let waker = self.progress.waker_with(cx.waker());
        // Afterwards, or who aborts in between would wake everybody but this task.
        self.progress.check()?;
        let answer = poll(&mut state, &mut Context::from_waker(&waker));
        if state.early.is_finished() {
            self.progress.finish(outcome_of(&state.tls));
        }
        // Not for each answer: a task that flushes whenever it is polled, as those of hyper do, would never sleep.
        let failed = matches!(answer, Poll::Ready(Err(_)));
        let goes_on = failed || state.early.position() != before;
        drop(state);
        if goes_on {
            self.progress.wake_all();
        }
        answer
    }
}

/// Tasks that wait with a handle of their own would never learn of it: a socket that is closed wakes nobody.
impl<S> Drop for Shared<S> {
    fn drop(&mut self) {
        self.progress.wake_all();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Shared<S> {
    fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |State { tls, early }, cx| {
            early.finish(&mut Polled { tls, cx }).map_err(into_io)
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driven for Shared<S> {
    fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_finished(self, cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for AsyncEarlyStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll(cx, |State { tls, early }, cx| {
            if early.has_more() {
                let unfilled = buffer.initialize_unfilled();
                let read =
                    ready!(early.read(&mut Polled { tls, cx }, unfilled)).map_err(into_io)?;
                buffer.advance(read);
                if read > 0 || buffer.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            Pin::new(tls).poll_read(cx, buffer)
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for AsyncEarlyStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll(cx, |State { tls, early }, cx| {
            if early.is_finished() {
                return Pin::new(tls).poll_write(cx, bytes);
            }
            check(early)?;
            early.write(&mut Polled { tls, cx }, bytes).map_err(into_io)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(cx, |State { tls, early }, cx| {
            check(early)?;
            ready!(early.flush(&mut Polled { tls, cx })).map_err(into_io)?;
            Pin::new(tls).poll_flush(cx)
        })
    }

    /// Waits for the end of the handshake first.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(cx, |State { tls, early }, cx| {
            ready!(early.finish(&mut Polled { tls, cx })).map_err(into_io)?;
            Pin::new(tls).poll_shutdown(cx)
        })
    }
}

/// A stream as it is polled.
struct Polled<'a, 'b, S> {
    tls: &'a mut SslStream<S>,
    cx: &'a mut Context<'b>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tls for Polled<'_, '_, S> {
    fn ssl(&self) -> &SslRef {
        self.tls.ssl()
    }

    fn read_early_data(&mut self, buffer: &mut [u8]) -> Poll<Result<usize, Error>> {
        Pin::new(&mut *self.tls).poll_read_early_data(self.cx, buffer)
    }

    fn write_early_data(&mut self, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        Pin::new(&mut *self.tls).poll_write_early_data(self.cx, bytes)
    }

    fn do_handshake(&mut self) -> Poll<Result<(), Error>> {
        Pin::new(&mut *self.tls).poll_do_handshake(self.cx)
    }
}

impl<S> fmt::Debug for AsyncEarlyStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncEarlyStream")
            .field("is_early", &!self.0.progress.is_finished())
            .finish_non_exhaustive()
    }
}
