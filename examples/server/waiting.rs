//! The thread that waits: for clients to come, for their sockets to be ready, for deadlines to
//! pass, for signals.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use polling::Events;

use crate::connection::Connection;
use crate::server::Server;
use crate::watched::{Socket, Wait, Watched};

/// How many connections are open at most. Beyond that the one that takes longest is closed.
const MAX_OPEN: usize = 512;

/// How long not to accept when there is nothing to make room with.
const PAUSE: Duration = Duration::from_millis(20);

// What events are reported under; connections have the keys from `FIRST_CONNECTION` on.
pub(crate) const LISTENER: usize = 0;
pub(crate) const STOP: usize = 1;
pub(crate) const HANGUP: usize = 2;
const FIRST_CONNECTION: usize = 3;

/// What workers send: a connection and what it waits for, or `None` in place of one that has ended.
pub(crate) type GivenBack = Option<(Connection, Wait)>;

/// The waiting thread's own.
pub(crate) struct Waiting<'a> {
    server: &'a Server,
    to_workers: Sender<Connection>,
    /// By the keys that their events come under. A connection gets a new key, a higher one, each
    /// time it begins to wait: the first here has waited longest, and an event that comes too late
    /// finds nothing.
    connections: BTreeMap<usize, Connection>,
    next_key: usize,
    /// How many connections there are, here and with the workers.
    open: usize,
    /// When to accept again, during a pause.
    paused: Option<Instant>,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(server: &'a Server, to_workers: Sender<Connection>) -> Self {
        Self {
            server,
            to_workers,
            connections: BTreeMap::new(),
            next_key: FIRST_CONNECTION,
            open: 0,
            paused: None,
        }
    }

    pub(crate) fn run(mut self, given_back: &Receiver<GivenBack>) -> io::Result<()> {
        let mut events = Events::new();
        loop {
            events.clear();
            let timeout = self
                .next_deadline()
                .map(|at| at.saturating_duration_since(Instant::now()));
            self.server.poller.wait(&mut events, timeout)?;

            // Before any connection that came later is looked at.
            if events.iter().any(|event| event.key == HANGUP) {
                self.server.forget()?;
            }
            for event in events.iter() {
                match event.key {
                    STOP => return Ok(()),
                    HANGUP => {}
                    LISTENER => self.accept(),
                    key => self.send_to_workers(key),
                }
            }
            for given_back in given_back.try_iter() {
                self.take_back(given_back);
            }
            self.keep_deadlines(Instant::now());
        }
    }

    /// Accepts one connection. If there are more, the listener is reported again at once.
    fn accept(&mut self) {
        if self.open >= MAX_OPEN && !self.close_longest_waiting() {
            return self.pause();
        }
        match self.server.listener.get().accept() {
            // A failure to set up is this client's misfortune alone.
            Ok((stream, _)) => drop(self.admit(stream)),
            Err(error) => match error.kind() {
                // The client has left the queue before its turn.
                io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted => {}
                _ if is_out_of_descriptors(&error) && self.close_longest_waiting() => {}
                _ => return self.pause(),
            },
        }
        self.watch_listener();
    }

    fn admit(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        // Tickets and the answer are small writes in a row, which must not wait for each other.
        stream.set_nodelay(true)?;
        let key = self.new_key();
        let watched = Watched::new(&self.server.poller, stream, key, Wait::Read)?;
        let connection = Connection::new(self.server.acceptor.context(), Socket::new(watched))?;
        self.connections.insert(key, connection);
        self.open += 1;
        Ok(())
    }

    fn send_to_workers(&mut self, key: usize) {
        if let Some(connection) = self.connections.remove(&key) {
            let sent = self.to_workers.send(connection);
            self.open -= usize::from(sent.is_err());
        }
    }

    fn take_back(&mut self, given_back: GivenBack) {
        let key = self.new_key();
        match given_back {
            Some((connection, wait)) if connection.watch(key, wait).is_ok() => {
                self.connections.insert(key, connection);
            }
            _ => self.open -= 1,
        }
    }

    /// The earliest moment at which `keep_deadlines` has something to do.
    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.connections.values().map(Connection::deadline);
        deadlines.chain(self.paused).min()
    }

    fn keep_deadlines(&mut self, now: Instant) {
        let before = self.connections.len();
        self.connections.retain(|_, each| each.deadline() > now);
        self.open -= before - self.connections.len();
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            self.watch_listener();
        }
    }

    /// Makes room: of the connections that wait, closes the one that has been at its stage longest.
    /// (Not the one that has been quiet longest: a client that sends a byte now and then would keep
    /// its place, and push out who has just come.)
    fn close_longest_waiting(&mut self) -> bool {
        let deadlines = self
            .connections
            .iter()
            .map(|(key, each)| (each.deadline(), *key));
        let Some((_, key)) = deadlines.min() else {
            return false;
        };
        self.connections.remove(&key);
        self.open -= 1;
        true
    }

    fn watch_listener(&mut self) {
        if self.server.listener.watch(LISTENER, Wait::Read).is_err() {
            self.pause();
        }
    }

    fn pause(&mut self) {
        self.paused = Some(Instant::now() + PAUSE);
    }

    fn new_key(&mut self) -> usize {
        let key = self.next_key;
        self.next_key += 1;
        key
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
