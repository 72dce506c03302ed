//! A client that sends early data, and keeps its Finished back until it is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use frameworks::support::{Client, Kind};
use openssl::ssl::SslStream;

pub(super) const NO_ALPN: &[u8] = b"";
pub(super) const HTTP11: &[u8] = b"\x08http/1.1";
pub(super) const H2: &[u8] = b"\x02h2";

/// How long nothing comes that must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// How long it may take for what must come, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends at once until it is told to keep back what is written.
#[derive(Debug)]
pub(super) struct Holding {
    tcp: TcpStream,
    held: Option<Vec<u8>>,
}

impl Read for Holding {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.tcp.read(buffer)
    }
}

impl Write for Holding {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.held {
            Some(held) => held.write(bytes),
            None => self.tcp.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.tcp.flush()
    }
}

/// A client with a session for early data.
pub(super) struct Returning {
    address: SocketAddr,
    client: Client,
    session: Vec<u8>,
}

impl Returning {
    /// One that has been there before. An answer to `hello` brings the session.
    #[track_caller]
    pub(super) fn to(address: SocketAddr, alpn: &'static [u8], hello: &[u8]) -> Self {
        let client = Client::with(Kind::Tls13, |context| match alpn {
            b"" => Ok(()),
            alpn => context.set_alpn_protos(alpn),
        });
        let client = client.expect("a client");
        let tcp = connect(address);
        let mut tls = client.connect(tcp, None).expect("a full handshake");
        tls.write_all(hello).expect("a request is sent");
        let read = tls.read(&mut [0; 4096]).expect("an answer");
        assert!(read > 0, "no answer to the first request");
        let session = client.given().pop().expect("a session");
        Self {
            address,
            client,
            session,
        }
    }

    /// A connection with early data: the server's flight has been read, and the client's Finished kept back.
    #[track_caller]
    pub(super) fn sends(&self, early: &[u8]) -> Unfinished {
        let tcp = connect(self.address);
        let holding = Holding { tcp, held: None };
        let tls = self.client.start(holding, Some(&self.session));
        let mut tls = tls.expect("a connection with a session");
        let sent = tls.write_early_data(early).expect("early data is sent");
        assert_eq!(sent, early.len(), "all of the early data in one go");
        tls.get_mut().held = Some(Vec::new());
        tls.connect().expect("the server's part of the handshake");
        assert!(tls.ssl().session_reused(), "the session has not resumed");
        let unread = Vec::new();
        Unfinished { tls, unread }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(address).expect("a TCP connection");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    tcp
}

/// A connection that the client has not finished until it does `finish`. What the server answers to
/// early data tells that it was accepted, because it is not sent again.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) tls: SslStream<Holding>,
    unread: Vec<u8>,
}

impl Unfinished {
    /// The next bytes, as soon as there are as many as `len` says, which sees all that have come.
    #[track_caller]
    pub(super) fn next(&mut self, len: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(len) = len(&self.unread).filter(|len| *len <= self.unread.len()) {
                return self.unread.drain(..len).collect();
            }
            let mut buffer = [0; 4096];
            let read = self.tls.read(&mut buffer);
            let so_far = String::from_utf8_lossy(&self.unread);
            match read {
                Ok(read) if read > 0 => self.unread.extend_from_slice(&buffer[..read]),
                other => panic!("no answer: {other:?} after {so_far:?}"),
            }
        }
    }

    /// The next response of HTTP/1. Without a length its body is a line.
    #[track_caller]
    pub(super) fn response(&mut self) -> String {
        let response = self.next(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            let head = text.find("\r\n\r\n")? + 4;
            let mut fields = text[..head]
                .lines()
                .filter_map(|line| line.split_once(": "));
            let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            match length {
                Some((_, length)) => Some(head + length.parse::<usize>().expect("a length")),
                None => Some(head + text[head..].find('\n')? + 1),
            }
        });
        String::from_utf8(response).expect("a response in UTF-8")
    }

    /// What has come and not been asked for, and all that comes until nothing does for a while.
    #[track_caller]
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let tcp = self.tls.get_ref().tcp.try_clone().expect("the socket");
        tcp.set_read_timeout(Some(SILENCE)).expect("a timeout");
        let mut rest = std::mem::take(&mut self.unread);
        let end = self.tls.read_to_end(&mut rest);
        let end = end.expect_err("the connection has ended");
        assert_eq!(end.kind(), ErrorKind::WouldBlock, "{end}");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        rest
    }

    #[track_caller]
    pub(super) fn is_silent(&mut self, what: &str) {
        let rest = self.rest();
        let rest = String::from_utf8_lossy(&rest);
        assert_eq!(rest, "", "{what}: answered before it may be");
    }

    /// Sends what a client without the session's keys would send for its Finished.
    #[track_caller]
    pub(super) fn finishes_wrongly(&mut self) {
        let held = self.tls.get_mut().held.as_mut();
        let last = held.and_then(|held| held.last_mut());
        *last.expect("a Finished that is kept back") ^= 1;
        self.finish();
    }

    /// Lets the client's Finished go.
    #[track_caller]
    pub(super) fn finish(&mut self) {
        let Holding { tcp, held } = self.tls.get_mut();
        let held = held.take().expect("kept back until now");
        tcp.write_all(&held).expect("the Finished is sent");
    }
}

/// A request of HTTP/1.1 with these further lines.
pub(super) fn request(method: &str, lines: &str) -> Vec<u8> {
    format!("{method} / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
}
