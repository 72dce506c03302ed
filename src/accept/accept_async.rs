//! The accept: drives one handshake, and waits for its lookups.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use openssl::ssl::{Error, ErrorCode, Ssl, SslRef};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use super::lookups::Lookups;
use super::may_suspend::{let_suspend, no_longer_suspend};
use crate::decisions::{Connection, Setting};

/// Accepts a TLS connection, as `tokio_openssl::SslStream::accept` does; while the store is looking
/// for the client's session, the handshake is suspended and the runtime's thread does other work.
///
/// ```no_run
/// use std::time::Duration;
///
/// use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
/// use openssl_resumption::{
///     MemoryStore, Resumption, SslContextBuilderExt, SslRefExt, WriteBehind, accept_async,
/// };
/// use tokio::io::AsyncWriteExt;
/// use tokio::net::TcpListener;
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// # let slow_store = MemoryStore::default();
/// let policy = Resumption::stateful(WriteBehind::new(slow_store)).suspend_lookups(true);
/// let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
/// // … its certificate and key, and last:
/// acceptor.set_resumption(&policy)?;
/// let acceptor = acceptor.build();
///
/// let listener = TcpListener::bind("0.0.0.0:8443").await?;
/// loop {
///     let Ok((tcp, _)) = listener.accept().await else {
///         // Too many are open, say: some will end.
///         tokio::time::sleep(Duration::from_millis(50)).await;
///         continue;
///     };
///     let ssl = Ssl::new(acceptor.context())?;
///     tokio::spawn(async move {
///         // A client may take its time, which no deadline of ours bounds.
///         let accepted = tokio::time::timeout(Duration::from_secs(10), accept_async(ssl, tcp));
///         if let Ok(Ok(mut tls)) = accepted.await {
///             let outcome = format!("{:?}\n", tls.ssl().resumption());
///             let _ = tls.write_all(outcome.as_bytes()).await;
///             let _ = tls.shutdown().await;
///         }
///     });
/// }
/// # }
/// ```
///
/// The ClientHello callback of the context suspends the handshake (`SSL_CLIENT_HELLO_RETRY`). Either
/// the policy's [`suspend_lookups`](crate::Resumption::suspend_lookups) sets it, or your own callback calls
/// [`client_hello`](crate::Resumption::client_hello). With neither, and where nobody is asked, this is
/// an accept like any other: lookups are synchronous. So they are, with or without the callback, in
/// an accept that is not this one.
///
/// # Lookups
///
/// A suspended handshake is one task of `spawn_blocking`. At most 256 run at a time in a process, half
/// of the threads that a runtime has for such tasks unless its `max_blocking_threads` says otherwise;
/// others wait, up to their deadline. It asks the store for what the client offers, in the client's
/// order: a TLS 1.2 session id, or the stateful tickets of TLS 1.3 up to the first that
/// is found, at most four in a handshake. The hook of [`admit_client`](crate::Resumption::admit_client) is asked
/// about what is found, and about sealed tickets that can be opened. OpenSSL then goes on, and is told what was found; all
/// checks are made then. It may ask again after a HelloRetryRequest; the store is not, however long the
/// client takes for its second hello.
///
/// When [`lookup_deadline`](crate::Resumption::lookup_deadline) has passed, the handshake goes on without
/// an answer, as a full one ([`StoreStats::late`](crate::StoreStats::late)). An error or a panic of
/// the store is a full handshake as it is in any accept.
///
/// Under [`single_use`](crate::Resumption::single_use) a lookup takes the session out of the store. If the
/// deadline passes meanwhile, or the handshake is cancelled, fails, or goes on without asking for it,
/// that session is gone, and its client does a full handshake. A lookup that has not begun when it is
/// given up is not made, nor those that its task would go on with.
///
/// # Writes
///
/// New sessions are stored in the handshake, and removed when a connection ends, by the thread that
/// drives it: put [`WriteBehind`](crate::WriteBehind) around a store that is not in memory.
///
/// # Cancelling
///
/// Drop the future to give the connection up. A lookup that runs ends by itself, and its answer is
/// dropped; a store bounds its own time. While a handshake is suspended nobody reads from the client, so
/// one that has gone is noticed afterwards.
///
/// # Errors
///
/// Those of `SslStream::accept`. The code `WANT_CLIENT_HELLO_CB` means that a ClientHello callback of
/// your own asked for a retry for reasons of its own, which this cannot know the end of.
///
/// # Panics
///
/// When it looks something up outside of a tokio runtime, or in one without a timer (see tokio's
/// `Builder::enable_time`).
pub async fn accept_async<S>(mut ssl: Ssl, stream: S) -> Result<SslStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let_suspend(&mut ssl, false)?;
    let mut stream = SslStream::new(ssl, stream)?;
    drive(&mut stream, |stream, cx| stream.poll_accept(cx)).await?;
    Ok(stream)
}

/// Takes steps until there is a result; when one is suspended, waits for its lookups before the next.
pub(super) async fn drive<S, T>(
    stream: &mut SslStream<S>,
    mut step: impl FnMut(Pin<&mut SslStream<S>>, &mut Context<'_>) -> Poll<Result<T, Error>>,
) -> Result<T, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let error = match poll_fn(|cx| step(Pin::new(&mut *stream), cx)).await {
            Ok(result) => {
                no_longer_suspend(stream.ssl());
                notice_other_callback(stream.ssl());
                return Ok(result);
            }
            Err(error) => error,
        };
        if error.code() != ErrorCode::WANT_CLIENT_HELLO_CB {
            return Err(error);
        }
        let lookups = Arc::new(Lookups::due(stream.ssl()).ok_or(error)?);
        let early_data = Arc::clone(&lookups).ask_elsewhere().await;
        if let Some(connection) = Connection::of(stream.ssl()) {
            lookups.settle(connection, early_data);
        }
    }
}

/// Counts a context whose ClientHello callback is not ours any more, and does not call us.
fn notice_other_callback(ssl: &SslRef) {
    let Some(connection) = Connection::of(ssl) else {
        return;
    };
    let policy = connection.policy();
    if policy.knobs().suspension.install && policy.asks_somebody() && !connection.asks_ahead() {
        connection.owner().notice(Setting::ClientHelloCallback);
    }
}
