//! A connection from its early data to the end of its handshake: what is read and written meanwhile.

use std::task::{Poll, ready};

use openssl::ssl::{Error, SslRef};

/// TLS, as far as it is needed here. What cannot go on is pending.
pub(super) trait Tls {
    fn ssl(&self) -> &SslRef;

    /// `SSL_read_early_data`: 0 when there is no more.
    fn read_early_data(&mut self, buffer: &mut [u8]) -> Poll<Result<usize, Error>>;

    /// `SSL_write_early_data`, which writes before the handshake is finished.
    fn write_early_data(&mut self, bytes: &[u8]) -> Poll<Result<usize, Error>>;

    fn do_handshake(&mut self) -> Poll<Result<(), Error>>;
}

/// How much is read in an accept: most requests are less, and more would be much for a stack.
pub(super) const FIRST: usize = 2 * 1024;

/// How much is handed to TLS at a time: a record.
const RECORD: usize = 16 * 1024;

/// Reading early data can end the handshake, and then OpenSSL writes tickets: it fails if something else is half written.
/// So what was written goes first.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Early data that was read ahead, and how much of it has been given away.
    ahead: Vec<u8>,
    given: usize,
    /// Whether all early data has been read.
    ended: bool,
    /// What was written, and how much of it TLS has taken. OpenSSL wants the same bytes at the same place again.
    unsent: Vec<u8>,
    sent: usize,
    finished: bool,
    failed: bool,
}

impl Early {
    /// A connection whose first early data has been read.
    pub(super) fn begun(read: &[u8]) -> Self {
        Self {
            ahead: read.to_vec(),
            ..Self::default()
        }
    }

    /// A connection without, whose handshake is finished.
    pub(super) fn over() -> Self {
        Self {
            finished: true,
            ..Self::default()
        }
    }

    /// Whether the handshake is finished, and so is all that this is for but to give away what was read ahead.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether reading or the handshake has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether `read` has more, or may have.
    #[cfg(feature = "tokio")]
    pub(super) fn has_more(&self) -> bool {
        !self.finished || self.ahead() > 0
    }

    /// How much has been read ahead.
    #[cfg(feature = "tokio")]
    pub(super) fn ahead(&self) -> usize {
        self.ahead.len() - self.given
    }

    /// What changes when there is something that another task may wait for.
    #[cfg(feature = "tokio")]
    pub(super) fn position(&self) -> (bool, bool, usize, usize) {
        let unsent = self.unsent.len() - self.sent;
        (self.ended, self.finished, self.ahead(), unsent)
    }

    /// Early data, in the order that it came in; 0 when there is no more and the handshake is finished, or if the buffer is
    /// empty.
    pub(super) fn read(
        &mut self,
        tls: &mut impl Tls,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        let ahead = &self.ahead[self.given..];
        if !ahead.is_empty() {
            let len = ahead.len().min(buffer.len());
            buffer[..len].copy_from_slice(&ahead[..len]);
            self.given += len;
            if self.given == self.ahead.len() {
                (self.ahead, self.given) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(len));
        }
        if self.finished || buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !self.ended {
            ready!(self.flush(tls))?;
            match ready!(self.noting(tls.read_early_data(buffer)))? {
                0 => self.ended = true,
                read => return Poll::Ready(Ok(read)),
            }
        }
        self.finish(tls).map_ok(|()| 0)
    }

    /// Takes some of the bytes, to be sent at once. Not for after the handshake.
    pub(super) fn write(&mut self, tls: &mut impl Tls, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        ready!(self.flush(tls))?;
        let len = bytes.len().min(RECORD);
        self.unsent.extend_from_slice(&bytes[..len]);
        // What TLS does not take now it takes later.
        match self.flush(tls) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(len)),
        }
    }

    /// Hands what was written to TLS.
    pub(super) fn flush(&mut self, tls: &mut impl Tls) -> Poll<Result<(), Error>> {
        while self.sent < self.unsent.len() {
            // The client's Finished has been read, and tickets may be half written: they go first.
            if !self.finished && tls.ssl().peer_finished(&mut []) > 0 {
                ready!(self.noting(tls.do_handshake()))?;
            }
            self.sent += ready!(tls.write_early_data(&self.unsent[self.sent..]))?;
        }
        (self.unsent, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Waits for the client's Finished. Early data that comes first is kept for `read`; OpenSSL bounds how much it is.
    pub(super) fn finish(&mut self, tls: &mut impl Tls) -> Poll<Result<(), Error>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        ready!(self.flush(tls))?;
        while !self.ended {
            let len = self.ahead.len();
            self.ahead.resize(len + RECORD, 0);
            let read = tls.read_early_data(&mut self.ahead[len..]);
            let kept = match read {
                Poll::Ready(Ok(read)) => read,
                _ => 0,
            };
            self.ahead.truncate(len + kept);
            self.ended = ready!(self.noting(read))? == 0;
        }
        ready!(self.noting(tls.do_handshake()))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }

    fn noting<T>(&mut self, answer: Poll<Result<T, Error>>) -> Poll<Result<T, Error>> {
        self.failed |= matches!(answer, Poll::Ready(Err(_)));
        answer
    }
}
