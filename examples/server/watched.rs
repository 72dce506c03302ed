//! Sockets that a poller watches.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use polling::{Event, Poller};

/// What a socket is to be ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    Read,
    Write,
}

impl Wait {
    fn event(self, key: usize) -> Event {
        match self {
            Self::Read => Event::readable(key),
            Self::Write => Event::writable(key),
        }
    }
}

/// A socket in a poller, for as long as it is open.
///
/// It is watched for one event at a time: after that nothing is reported until the next
/// [`watch`](Self::watch), so that whoever holds the socket has it alone.
pub(crate) struct Watched<T: AsFd + AsRawFd> {
    poller: Arc<Poller>,
    // Lent by shared reference only. Who could replace it could close it behind the poller's back.
    socket: T,
}

impl<T: AsFd + AsRawFd> Watched<T> {
    #[expect(
        unsafe_code,
        reason = "`Poller::add` leaves it to the caller to delete a socket before it is closed"
    )]
    pub(crate) fn new(poller: &Arc<Poller>, socket: T, key: usize, wait: Wait) -> io::Result<Self> {
        // SAFETY: the socket is owned by the value returned, whose `drop` deletes it from the same
        // poller before the socket is closed.
        unsafe { poller.add(&socket, wait.event(key)) }?;
        Ok(Self {
            poller: Arc::clone(poller),
            socket,
        })
    }

    /// Reports once, under `key`, that the socket is ready or broken.
    pub(crate) fn watch(&self, key: usize, wait: Wait) -> io::Result<()> {
        self.poller.modify(&self.socket, wait.event(key))
    }

    pub(crate) fn get(&self) -> &T {
        &self.socket
    }
}

impl<T: AsFd + AsRawFd> Drop for Watched<T> {
    fn drop(&mut self) {
        let _ = self.poller.delete(&self.socket);
    }
}

/// A client's socket. It is read in turns of [`TURN`](Self::TURN) bytes, so that no client keeps a
/// thread by sending without a pause: the socket claims to be empty then, and as it is not, the
/// poller reports it again as soon as the others had their turn.
pub(crate) struct Socket {
    watched: Watched<TcpStream>,
    left: usize,
}

impl Socket {
    const TURN: usize = 32 * 1024;

    pub(crate) fn new(watched: Watched<TcpStream>) -> Self {
        Self { watched, left: 0 }
    }

    pub(crate) fn begin_turn(&mut self) {
        self.left = Self::TURN;
    }

    pub(crate) fn watch(&self, key: usize, wait: Wait) -> io::Result<()> {
        self.watched.watch(key, wait)
    }

    /// Tells the client that nothing more will come.
    pub(crate) fn end_writing(&self) {
        // Fails if the client is gone, which reading finds out anyway.
        let _ = self.watched.get().shutdown(Shutdown::Write);
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(self.left);
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.watched.get().read(&mut into[..most])?;
        self.left -= read;
        Ok(read)
    }
}

impl Write for Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.watched.get().write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.watched.get().flush()
    }
}
