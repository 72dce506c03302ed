//! How a connection is begun: the name of a host, the address that somebody listens at, TLS. Nothing of it blocks the
//! thread, and whoever waits stops when they like.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use openssl::x509::X509VerifyResult;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tokio_openssl::SslStream;

use super::place::{Insecure, Place};
use super::tls::{self, Files};

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether there may be something to read, if all that came before has been read.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Stream for TcpStream {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }
}

#[cfg(unix)]
impl Stream for UnixStream {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }
}

impl Stream for SslStream<TcpStream> {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_ref().poll_read_ready(context)
    }
}

/// What connections of a set are begun with.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) tls: Option<Insecure>,
    pub(super) files: Files,
    /// For each connection, TLS and login included.
    pub(super) deadline: Duration,
    pub(super) names: Turns,
    pub(super) reading: Turns,
}

/// How many may do something at a time: work that may block, say, so that a resolver that hangs has one thread, not one for
/// each try.
pub(super) struct Turns {
    turns: Arc<Semaphore>,
    most: usize,
}

impl Turns {
    pub(super) fn of(most: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// One that lasts until it is dropped, if there is one now.
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).try_acquire_owned().ok()
    }
}

/// A copy is for another process, and has all its turns.
impl Clone for Turns {
    fn clone(&self) -> Self {
        Self::of(self.most)
    }
}

impl Dial {
    /// Connects within the deadline, and says when it will be over: some of it may be left to log in. Reading the files
    /// of TLS comes before, and is not counted.
    pub(super) async fn connect(&self, place: &Place) -> io::Result<(Box<dyn Stream>, Instant)> {
        let (host, port) = match place {
            #[cfg(unix)]
            Place::Unix(path) => {
                let until = Instant::now() + self.deadline;
                let stream = timeout_at(until, UnixStream::connect(path)).await;
                return Ok((Box::new(stream.map_err(late)??), until));
            }
            #[cfg(not(unix))]
            Place::Unix(_) => return Err(ErrorKind::Unsupported.into()),
            Place::Tcp(host, port) => (host.clone(), *port),
        };
        let tls = match self.tls {
            // First: it may take longer than there is time to connect.
            Some(insecure) => {
                let (files, host) = (self.files.clone(), host.clone());
                let begin = move || tls::begin(&files, insecure, &host);
                Some(self.reading.block(begin).await?)
            }
            None => None,
        };
        let until = Instant::now() + self.deadline;
        let tcp = async {
            let addresses = match host.parse() {
                Ok(ip) => vec![SocketAddr::new(ip, port)],
                Err(_) => {
                    let resolve = move || Ok((host.as_str(), port).to_socket_addrs()?.collect());
                    self.names.block(resolve).await?
                }
            };
            first_of(&addresses, until).await
        };
        let tcp = timeout_at(until, tcp).await.map_err(late)??;
        tcp.set_nodelay(true)?;
        // What is not acknowledged when it is closed is not sent again: a session that is written late may have been taken
        // meanwhile.
        tcp.set_zero_linger()?;
        let Some(ssl) = tls else {
            return Ok((Box::new(tcp), until));
        };
        let mut stream = SslStream::new(ssl, tcp).map_err(io::Error::other)?;
        let handshake = Pin::new(&mut stream).connect();
        let done = timeout_at(until, handshake).await.map_err(late)?;
        if let Err(error) = done {
            // It does not say what is wrong with a certificate.
            let wrong = match stream.ssl().verify_result() {
                X509VerifyResult::OK => String::new(),
                wrong => format!(": {wrong}"),
            };
            let error = error.to_string();
            return Err(io::Error::other(
                error.trim_end_matches(':').to_owned() + &wrong,
            ));
        }
        Ok((Box::new(stream), until))
    }
}

impl Turns {
    /// On a thread for that. If nobody waits any longer it goes on, and the next waits for it.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let done = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(io::Error::other)?
    }
}

pub(super) fn late(_: tokio::time::error::Elapsed) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "no connection before the deadline")
}

/// To the first address of a host that somebody listens at.
async fn first_of(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for (tried, address) in addresses.iter().enumerate() {
        // One that does not answer leaves time for the others.
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let now = Instant::now();
        let share = until.saturating_duration_since(now) / untried;
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => failed = error,
            Err(elapsed) => failed = late(elapsed),
        }
    }
    Err(failed)
}
