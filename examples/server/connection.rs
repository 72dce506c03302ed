//! One connection, from the ClientHello to its end.
//!
//! ```text
//! Handshake ──▶ Request ──▶ Answer ──▶ Close ──▶ Drain ──▶ done
//!     └────────────┴──────────┴─ failed ─┴─────────▲
//! ```

use std::io::Read;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, Ssl, SslContextRef, SslStream};

use crate::http::{self, Reply};
use crate::page::Page;
use crate::watched::{Socket, Wait};

/// How long a connection may stay in one stage.
const STAGE_TIME: Duration = Duration::from_secs(10);

/// How much of what a client sends after the answer is read and thrown away.
const MAX_DRAINED: usize = 64 * 1024 * 1024;

pub(crate) struct Connection {
    stream: SslStream<Socket>,
    stage: Stage,
    deadline: Instant,
}

enum Stage {
    Handshake,
    /// Holds what there is of the request.
    Request(Vec<u8>),
    /// Holds what is left to send.
    Answer(Vec<u8>),
    /// Sends close_notify: the answer is complete, and the session may be resumed.
    Close,
    /// Counts what has been thrown away. A socket closed with unread bytes in it would send a
    /// reset, which can destroy the answer (or the alert) on its way to the client.
    Drain(usize),
}

/// Why a stage does not go on now, or ever.
enum Stop {
    Until(Wait),
    Failed,
    Done,
}

impl Connection {
    pub(crate) fn new(context: &SslContextRef, socket: Socket) -> Result<Self, ErrorStack> {
        Ok(Self {
            stream: SslStream::new(Ssl::new(context)?, socket)?,
            stage: Stage::Handshake,
            deadline: Instant::now() + STAGE_TIME,
        })
    }

    /// When to give up on this connection.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn watch(&self, key: usize, wait: Wait) -> std::io::Result<()> {
        self.stream.get_ref().watch(key, wait)
    }

    /// Goes on until the socket is not ready, and returns for what; `None` at the end.
    pub(crate) fn advance(&mut self, page: &Page) -> Option<Wait> {
        self.stream.get_mut().begin_turn();
        loop {
            match self.step(page) {
                Ok(None) => {}
                Ok(Some(next)) => self.enter(next),
                Err(Stop::Until(wait)) => return Some(wait),
                Err(Stop::Failed) => {
                    self.stream.get_ref().end_writing();
                    self.enter(Stage::Drain(0));
                }
                Err(Stop::Done) => return None,
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.deadline = Instant::now() + STAGE_TIME;
    }

    /// Does one thing, and returns the stage that follows if this one is complete.
    fn step(&mut self, page: &Page) -> Result<Option<Stage>, Stop> {
        let stream = &mut self.stream;
        let mut chunk = [0; 4096];
        Ok(match &mut self.stage {
            Stage::Handshake => {
                stream.accept()?;
                Some(Stage::Request(Vec::new()))
            }
            Stage::Request(head) => {
                let room = chunk.len().min(http::MAX_HEAD - head.len());
                match stream.ssl_read(&mut chunk[..room]) {
                    Ok(read) => head.extend_from_slice(&chunk[..read]),
                    // The client has nothing to ask (any more).
                    Err(error) if error.code() == ErrorCode::ZERO_RETURN => {
                        return Ok(Some(Stage::Close));
                    }
                    Err(error) => return Err(error.into()),
                }
                let answer = http::answer(head, |_| Reply::json("200 OK", page.json(stream.ssl())));
                answer.map(|answer| Stage::Answer(answer.bytes))
            }
            Stage::Answer(left) => {
                let written = stream.ssl_write(left)?;
                left.drain(..written);
                left.is_empty().then_some(Stage::Close)
            }
            Stage::Close => {
                stream.shutdown()?;
                stream.get_ref().end_writing();
                Some(Stage::Drain(0))
            }
            Stage::Drain(drained) => match stream.get_mut().read(&mut chunk) {
                Ok(1..) if *drained >= MAX_DRAINED => return Err(Stop::Done),
                Ok(read @ 1..) => {
                    *drained += read;
                    None
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(Stop::Until(Wait::Read));
                }
                Ok(0) | Err(_) => return Err(Stop::Done),
            },
        })
    }
}

impl From<openssl::ssl::Error> for Stop {
    fn from(error: openssl::ssl::Error) -> Self {
        match error.code() {
            ErrorCode::WANT_READ => Self::Until(Wait::Read),
            ErrorCode::WANT_WRITE => Self::Until(Wait::Write),
            _ => Self::Failed,
        }
    }
}
