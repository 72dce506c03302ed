//! Early data on plain threads.

use std::fmt;
use std::io::{self, Read, Write};
use std::task::Poll;

use openssl::ssl::{Error, ErrorCode, ShutdownResult, Ssl, SslRef, SslStream};

use super::early::{Early, FIRST, Tls};

/// Accepts a TLS connection, and returns as soon as early data has come, if the client sends some and it is accepted;
/// otherwise when the handshake is finished, as `SslStream::accept` does.
///
/// The server has answered the client's first flight by then, and can answer the request in it. Until the client's last
/// message has come it cannot know **who sent that request, and whether it was sent before**: the policy's
/// [`early_data`](crate::Resumption::early_data) lets each flight pass once at most. What acts on the world should wait
/// for [`finished`](EarlyStream::finished).
///
/// ```no_run
/// use std::io::{Read, Write};
/// use std::net::TcpListener;
///
/// use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
/// use openssl_resumption::{
///     MemoryRegister, MemoryStore, Resumption, SslContextBuilderExt, accept_early,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = Resumption::stateful(MemoryStore::default())
///     .early_data(16 * 1024)
///     .replay_register(MemoryRegister::default().sessions_end_with_process());
/// let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
/// // … its certificate and key, and last:
/// acceptor.set_resumption(&policy)?;
/// let acceptor = acceptor.build();
///
/// for tcp in TcpListener::bind("0.0.0.0:8443")?.incoming() {
///     let ssl = Ssl::new(acceptor.context())?;
///     let tcp = tcp?;
///     std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///         let mut tls = accept_early(ssl, tcp)?;
///         let mut request = [0; 1024];
///         let len = tls.read(&mut request)?;
///         if !request[..len].starts_with(b"GET ") {
///             tls.finished()?;
///         }
///         tls.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n")?;
///         tls.shutdown()?;
///         Ok(())
///     });
/// }
/// # Ok(())
/// # }
/// ```
///
/// For blocking streams: of one that would block, or whose timeout has passed, the connection is gone. With tokio
/// `accept_early_async` (feature `tokio`) does the same.
///
/// # Errors
///
/// Those of `SslStream::accept`. So ends a connection, too, whose session does not meet what is demanded of its client.
pub fn accept_early<S: Read + Write>(mut ssl: Ssl, stream: S) -> Result<EarlyStream<S>, Error> {
    ssl.set_accept_state();
    let mut tls = SslStream::new(ssl, stream)?;
    let mut first = [0; FIRST];
    let early = match tls.read_early_data(&mut first)? {
        0 => {
            tls.do_handshake()?;
            Early::over()
        }
        read => Early::begun(&first[..read]),
    };
    Ok(EarlyStream { tls, early })
}

/// A TLS stream whose first bytes may be early data: what [`accept_early`] returns.
///
/// Reading yields the early data first, and then, once the handshake is finished, what comes after it: no byte twice, none
/// lost. Writing sends at once, before the handshake is finished too (RFC 8446, section 4.6.1: the client may still turn out
/// to be somebody who replays, and cannot read it). Both may return an error that says that the handshake failed: then what
/// was read before may have come from somebody who cannot finish it.
pub struct EarlyStream<S> {
    tls: SslStream<S>,
    early: Early,
}

impl<S: Read + Write> EarlyStream<S> {
    /// Whether the handshake is unfinished: what was read so far may be a replay. Stays `true` if the handshake fails.
    #[must_use]
    pub fn is_early(&self) -> bool {
        !self.early.is_finished()
    }

    /// Waits until the handshake is finished: then what was read came from the client itself. Early data that comes
    /// meanwhile is kept, and read next.
    ///
    /// # Errors
    ///
    /// The handshake failed. What was read may have been a replay, by somebody who cannot finish.
    pub fn finished(&mut self) -> io::Result<()> {
        now(self.early.finish(&mut self.tls))
    }

    /// The connection; its [`resumption`](crate::SslRefExt::resumption) is `None` while the handshake is unfinished.
    #[must_use]
    pub fn ssl(&self) -> &SslRef {
        self.tls.ssl()
    }

    /// The stream below.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        self.tls.get_ref()
    }

    /// The stream below. What is read from it or written to it is missing in TLS.
    pub fn get_mut(&mut self) -> &mut S {
        self.tls.get_mut()
    }

    /// Finishes the handshake and sends our close_notify, as `SslStream::shutdown` does.
    ///
    /// # Errors
    ///
    /// Those of [`finished`](Self::finished), and of `SslStream::shutdown`.
    pub fn shutdown(&mut self) -> io::Result<ShutdownResult> {
        self.finished()?;
        self.tls.shutdown().map_err(into_io)
    }
}

impl<S: Read + Write> Read for EarlyStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.early.read(&mut self.tls, buffer) {
            Poll::Ready(Ok(0)) => self.tls.read(buffer),
            answer => now(answer),
        }
    }
}

impl<S: Read + Write> Write for EarlyStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.early.is_finished() {
            return self.tls.write(bytes);
        }
        check(&self.early)?;
        now(self.early.write(&mut self.tls, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.early.is_finished() {
            check(&self.early)?;
            now(self.early.flush(&mut self.tls))?;
        }
        self.tls.flush()
    }
}

impl<S: Read + Write> Tls for SslStream<S> {
    fn ssl(&self) -> &SslRef {
        self.ssl()
    }

    fn read_early_data(&mut self, buffer: &mut [u8]) -> Poll<Result<usize, Error>> {
        poll(self.read_early_data(buffer))
    }

    fn write_early_data(&mut self, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        poll(self.write_early_data(bytes))
    }

    fn do_handshake(&mut self) -> Poll<Result<(), Error>> {
        poll(self.do_handshake())
    }
}

/// A timeout has passed, or the stream does not block.
fn poll<T>(answer: Result<T, Error>) -> Poll<Result<T, Error>> {
    match answer {
        Err(error) if [ErrorCode::WANT_READ, ErrorCode::WANT_WRITE].contains(&error.code()) => {
            Poll::Pending
        }
        answer => Poll::Ready(answer),
    }
}

/// As streams say it.
fn now<T>(answer: Poll<Result<T, Error>>) -> io::Result<T> {
    match answer {
        Poll::Ready(answer) => answer.map_err(into_io),
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Nothing is written any more once the handshake has failed, where OpenSSL would go on.
pub(super) fn check(early: &Early) -> io::Result<()> {
    match early.has_failed() {
        true => Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the handshake has failed",
        )),
        false => Ok(()),
    }
}

/// A close_notify before the handshake is finished is no end: OpenSSL takes it in clear, from anybody.
pub(super) fn into_io(error: Error) -> io::Error {
    let closed = error.code() == ErrorCode::ZERO_RETURN;
    if closed || error.code() == ErrorCode::SYSCALL && error.io_error().is_none() {
        return io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the handshake was not finished",
        );
    }
    error.into_io_error().unwrap_or_else(io::Error::other)
}

impl<S: fmt::Debug> fmt::Debug for EarlyStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyStream")
            .field("tls", &self.tls)
            .field("is_early", &!self.early.is_finished())
            .finish_non_exhaustive()
    }
}
