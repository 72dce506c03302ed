//! How much Redis may say: what it was asked for, and no more than 1 MiB of each answer. So one that is hostile, or is
//! none, fills no memory, and one that says what nobody asked for is not heard.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::alarm::Alarm;
use super::dial::Stream;

/// As many ticket keys as a ring has, or a session of the size that OpenSSL can have, take less.
const MAX_ANSWER: u64 = 1 << 20;

/// So many of them may come before those who asked have looked. In truth a thousandth is likely.
const AT_ONCE: u64 = 16;

/// Of one connection.
#[derive(Default)]
pub(super) struct Allowance {
    /// How many questions have no answer yet.
    open: AtomicU64,
    /// How many bytes came since the last was answered.
    heard: AtomicU64,
    /// How many were answered, in all.
    answered: AtomicU64,
}

impl Allowance {
    /// For a question that is about to be asked. Where nobody waits for its answer any longer it stays open: the answer
    /// may come. Says whether all others have theirs.
    pub(super) fn ask(&self) -> bool {
        self.open.fetch_add(1, Relaxed) == 0
    }

    pub(super) fn answer(&self) {
        self.open.fetch_sub(1, Relaxed);
        self.answered.fetch_add(1, Relaxed);
        self.heard.store(0, Relaxed);
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    fn hear(&self, bytes: usize) -> io::Result<()> {
        let open = self.open.load(Relaxed);
        if open == 0 {
            return Err(wrong("Redis said what it was not asked for"));
        }
        let heard = self.heard.fetch_add(bytes as u64, Relaxed) + bytes as u64;
        if heard > open.min(AT_ONCE) * MAX_ANSWER {
            return Err(wrong("an answer of over 1 MiB"));
        }
        Ok(())
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// What a connection runs over, as long as it says no more than it may. Only its task reads.
pub(super) struct Heard {
    pub(super) stream: Box<dyn Stream>,
    pub(super) allowance: Arc<Allowance>,
    pub(super) alarm: Arc<Alarm>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.alarm.is_held() {
            ready!(self.stream.poll_readable(context))?;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        match read {
            Poll::Ready(Ok(())) if bytes > 0 => Poll::Ready(self.allowance.hear(bytes)),
            read => read,
        }
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_be_said_without_a_question() {
        let allowance = Allowance::default();
        assert!(allowance.hear(1).is_err());
        allowance.ask();
        allowance.hear(1).unwrap();
        allowance.answer();
        assert!(allowance.hear(1).is_err());
    }

    #[test]
    fn an_answer_has_a_size() {
        let allowance = Allowance::default();
        let size = usize::try_from(MAX_ANSWER).unwrap();
        allowance.ask();
        allowance.ask();
        allowance.hear(2 * size).unwrap();
        assert!(allowance.hear(1).is_err());
        allowance.answer();
        allowance.hear(size).unwrap();
        assert!(allowance.hear(1).is_err());
        allowance.answer();
        assert_eq!(allowance.answered(), 2);
    }
}
