//! Both ends of a connection on one thread, over memory: what arrives when is for the test to say.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use openssl::ssl::{HandshakeError, MidHandshakeSslStream, SslStream};

/// One direction of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe(Rc<RefCell<VecDeque<u8>>>);

impl Pipe {
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.take().into()
    }

    pub(crate) fn push(&self, bytes: &[u8]) {
        self.0.borrow_mut().extend(bytes);
    }
}

/// One end of a connection.
#[derive(Debug, Default)]
pub(crate) struct End {
    pub(crate) from: Pipe,
    pub(crate) to: Pipe,
    /// Whether nothing will come any more.
    pub(crate) closed: Rc<Cell<bool>>,
}

impl Read for End {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.from.0.borrow_mut().read(buf)? {
            0 if !self.closed.get() => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for End {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.to.push(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client or a server, and how far it has come.
pub(crate) enum Party {
    Shaking(MidHandshakeSslStream<End>),
    Done(SslStream<End>),
    Failed(String),
}

impl Party {
    pub(crate) fn from(result: Result<SslStream<End>, HandshakeError<End>>) -> Self {
        match result {
            Ok(stream) => Self::Done(stream),
            Err(HandshakeError::WouldBlock(shaking)) => Self::Shaking(shaking),
            Err(error) => Self::Failed(error.to_string()),
        }
    }

    /// Does what can be done with what has arrived.
    pub(crate) fn go_on(self) -> Self {
        match self {
            Self::Shaking(shaking) => Self::from(shaking.handshake()),
            other => other,
        }
    }

    pub(crate) fn failure(&self) -> String {
        match self {
            Self::Shaking(_) => "still waiting".into(),
            Self::Done(_) => "fine".into(),
            Self::Failed(error) => error.clone(),
        }
    }
}

/// A handshake record, as a client sends its first.
pub(crate) fn record(body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[22, 3, 1, len[0], len[1]], body].concat()
}
