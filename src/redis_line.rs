//! One connection to Redis on which nothing takes longer than it may: neither a TLS handshake with
//! somebody who does not answer, nor an answer that comes bit by bit. Those of the `redis` crate
//! bound each read, and TLS handshakes not at all.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use native_tls::{TlsConnector, TlsStream};
use redis::{Client, ConnectionAddr, ConnectionLike, Parser, RedisResult, Value};

/// The longest answer that is read: as many ticket keys as a ring has, or a session of the size that
/// OpenSSL can have, take less. What is longer is not ours.
const MAX_ANSWER: u64 = 1 << 20;

pub(crate) struct Line {
    stream: Stream,
    parser: Parser,
    database: i64,
    /// For each call.
    deadline: Duration,
    broken: bool,
}

impl Line {
    /// Connects and logs in within `connecting`, and the time that it takes to resolve a name.
    pub(crate) fn connect(
        client: &Client,
        connecting: Duration,
        deadline: Duration,
    ) -> RedisResult<Self> {
        let info = client.get_connection_info();
        let login = info.redis_settings();
        let mut line = Self {
            stream: Stream::connect(info.addr(), connecting)?,
            parser: Parser::new(),
            database: login.db(),
            deadline,
            broken: false,
        };
        match login.password() {
            Some(password) => {
                let mut auth = redis::cmd("AUTH");
                let auth = auth.arg(login.username()).arg(password);
                line.exchange(&auth.get_packed_command())?.extract_error()?;
            }
            // Whether there is somebody who answers, whatever that be.
            None => drop(line.exchange(&redis::cmd("PING").get_packed_command())?),
        }
        if login.db() != 0 {
            let select = redis::cmd("SELECT").arg(login.db()).get_packed_command();
            line.exchange(&select)?.extract_error()?;
        }
        Ok(line)
    }

    /// Whether an answer was not read to its end: the next call would read the rest.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// In the time that is left.
    fn exchange(&mut self, command: &[u8]) -> RedisResult<Value> {
        self.broken = true;
        self.stream.write_all(command)?;
        self.stream.flush()?;
        let mut bytes = (&mut self.stream).take(MAX_ANSWER);
        let answer = self.parser.parse_value(&mut bytes);
        if bytes.limit() == 0 {
            return Err(io::Error::new(ErrorKind::InvalidData, "an answer of over 1 MiB").into());
        }
        let answer = answer?;
        // What will not be any better on this connection, but may be on another.
        self.broken = match &answer {
            Value::ServerError(error) => {
                ["READONLY", "MASTERDOWN", "NOAUTH"].contains(&error.code())
            }
            _ => false,
        };
        Ok(answer)
    }
}

impl ConnectionLike for Line {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        *self.stream.until() = Instant::now() + self.deadline;
        self.exchange(command)
    }

    fn req_packed_commands(&mut self, _: &[u8], _: usize, _: usize) -> RedisResult<Vec<Value>> {
        // Nobody has pipelines.
        Err(io::Error::from(ErrorKind::Unsupported).into())
    }

    fn get_db(&self) -> i64 {
        self.database
    }

    fn supports_pipelining(&self) -> bool {
        false
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").exec(self).is_ok()
    }

    fn is_open(&self) -> bool {
        !self.broken
    }
}

enum Stream {
    Tcp(Timed<TcpStream>),
    Tls(Box<TlsStream<Timed<TcpStream>>>),
    #[cfg(unix)]
    Unix(Timed<UnixStream>),
}

impl Stream {
    fn connect(address: &ConnectionAddr, connecting: Duration) -> RedisResult<Self> {
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
            ConnectionAddr::Unix(path) => Self::Unix(Timed {
                until: Instant::now() + connecting,
                socket: UnixStream::connect(path)?,
            }),
            _ => return Err(io::Error::from(ErrorKind::Unsupported).into()),
        })
    }

    /// When what is being done must have ended.
    fn until(&mut self) -> &mut Instant {
        match self {
            Self::Tcp(stream) => &mut stream.until,
            Self::Tls(stream) => &mut stream.get_mut().until,
            #[cfg(unix)]
            Self::Unix(stream) => &mut stream.until,
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
    static SECURE: OnceLock<TlsConnector> = OnceLock::new();
    if insecure {
        let mut builder = TlsConnector::builder();
        builder
            .danger_accept_invalid_certs(true)
            .danger_accept_invalid_hostnames(true)
            .use_sni(false);
        return builder.build().map_err(io::Error::other);
    }
    if SECURE.get().is_none() {
        // If another thread was faster, what this one made is dropped.
        let _ = SECURE.set(TlsConnector::new().map_err(io::Error::other)?);
    }
    Ok(SECURE.get().expect("set above").clone())
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
struct Timed<S> {
    socket: S,
    until: Instant,
}

trait Socket: Read + Write {
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

#[cfg(unix)]
impl Socket for UnixStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl<S: Socket> Read for Timed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.wait_at_most(left(self.until)?)?;
        self.socket.read(buffer)
    }
}

impl<S: Socket> Write for Timed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.wait_at_most(left(self.until)?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
