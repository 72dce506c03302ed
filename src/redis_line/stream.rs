//! What a connection to Redis runs over.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use native_tls::{TlsConnector, TlsStream};
use redis::{ConnectionAddr, RedisResult};
use socket2::SockRef;
#[cfg(unix)]
use socket2::{Domain, SockAddr, Socket, Type};

use crate::base::get_or_make;

pub(super) enum Stream {
    Tcp(Timed<TcpStream>),
    Tls(Box<TlsStream<Timed<TcpStream>>>),
    #[cfg(unix)]
    Unix(Timed<UnixStream>),
}

impl Stream {
    pub(super) fn connect(address: &ConnectionAddr, connecting: Duration) -> RedisResult<Self> {
        Ok(match address {
            ConnectionAddr::Tcp(host, port) => Self::Tcp(tcp(host, *port, connecting)?),
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure,
                ..
            } => {
                // First: it may take longer than there is time to connect.
                let connector = tls_connector(*insecure)?;
                let tls = connector.connect(host, tcp(host, *port, connecting)?);
                Self::Tls(Box::new(tls.map_err(|error| match error {
                    native_tls::HandshakeError::Failure(error) => io::Error::other(error),
                    native_tls::HandshakeError::WouldBlock(_) => ErrorKind::TimedOut.into(),
                })?))
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                // Which bounds waiting for somebody who has not accepted others yet.
                socket.set_write_timeout(Some(connecting))?;
                socket.connect(&SockAddr::unix(path)?)?;
                Self::Unix(Timed {
                    until: Instant::now() + connecting,
                    socket: socket.into(),
                })
            }
            _ => return Err(io::Error::from(ErrorKind::Unsupported).into()),
        })
    }

    /// When what is being done must have ended.
    pub(super) fn until(&mut self) -> &mut Instant {
        match self {
            Self::Tcp(stream) => &mut stream.until,
            Self::Tls(stream) => &mut stream.get_mut().until,
            #[cfg(unix)]
            Self::Unix(stream) => &mut stream.until,
        }
    }

    /// Whether there is nothing to be read, not even an end.
    pub(super) fn is_quiet(&self) -> io::Result<bool> {
        if let Self::Tls(stream) = self
            && !matches!(stream.buffered_read_size(), Ok(0))
        {
            // Decrypted already: the socket does not show it.
            return Ok(false);
        }
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(&stream.socket),
            Self::Tls(stream) => SockRef::from(&stream.get_ref().socket),
            #[cfg(unix)]
            Self::Unix(stream) => SockRef::from(&stream.socket),
        };
        socket.set_nonblocking(true)?;
        let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
        socket.set_nonblocking(false)?;
        match peeked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            peeked => peeked.map(|_| false),
        }
    }

    fn inner(&mut self) -> &mut dyn ReadWrite {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream,
            #[cfg(unix)]
            Self::Unix(stream) => stream,
        }
    }
}

/// Made once, because it reads all CAs of the system: a tenth of a second, for each connection.
fn tls_connector(insecure: bool) -> io::Result<TlsConnector> {
    static CONNECTORS: [OnceLock<TlsConnector>; 2] = [const { OnceLock::new() }; 2];
    let connector = &CONNECTORS[usize::from(insecure)];
    let build = || {
        let mut builder = TlsConnector::builder();
        if insecure {
            builder
                .danger_accept_invalid_certs(true)
                .danger_accept_invalid_hostnames(true)
                .use_sni(false);
        }
        builder.build().map_err(io::Error::other)
    };
    get_or_make(connector, build).cloned()
}

/// To the first address of a host that somebody listens at.
fn tcp(host: &str, port: u16, connecting: Duration) -> io::Result<Timed<TcpStream>> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let until = Instant::now() + connecting;
    let mut failed = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for (tried, address) in addresses.iter().enumerate() {
        // One that does not answer leaves time for the others.
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match left(until).and_then(|left| TcpStream::connect_timeout(address, left / untried)) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(Timed { socket, until });
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    // Zero would be forever.
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left)
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner().read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

/// A socket that is not waited for after a time.
#[derive(Debug)]
pub(super) struct Timed<S> {
    socket: S,
    until: Instant,
}

pub(super) trait Bounded: Read + Write {
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
}

impl Bounded for TcpStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

#[cfg(unix)]
impl Bounded for UnixStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl<S: Bounded> Timed<S> {
    /// Again after a signal: sockets with a timeout are not restarted by themselves.
    fn uninterrupted(
        &mut self,
        mut act: impl FnMut(&mut S) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            self.socket.wait_at_most(left(self.until)?)?;
            match act(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl<S: Bounded> Read for Timed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.uninterrupted(|socket| socket.read(buffer))
    }
}

impl<S: Bounded> Write for Timed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.uninterrupted(|socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
