//! A set of connections, for all that is made of the same options, and for whoever asks on any thread. Its thread is
//! started by the first question, so that a process can be forked before, and one that was forked off has a thread of
//! its own: on the connections of its parent each would read answers that are the other's.

use std::io::{self, ErrorKind};
use std::mem;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, RedisError, RedisResult};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::runtime::{self, Asked, Question};
use super::target::Target;
use crate::threads;

/// How many questions wait at most for the thread to look at them. More than there are threads that ask.
const WAITING: usize = 4096;

/// While another thread starts the one that is to be asked.
const REST: Duration = Duration::from_micros(100);

pub(crate) struct Connections {
    target: Arc<Target>,
    lines: usize,
    first: Node,
    /// The process in which the thread is being started, or 0. No lock, which a fork might leave locked.
    starting: AtomicU32,
}

/// The thread of a process, and of the one that was forked off it.
#[derive(Default)]
struct Node(OnceLock<Box<Here>>);

struct Here {
    process: u32,
    /// The thread ends when this is dropped.
    questions: Option<mpsc::Sender<Question>>,
    forked: Node,
}

impl Connections {
    pub(super) fn new(target: Target, lines: usize) -> Self {
        Self {
            target: Arc::new(target),
            lines,
            first: Node::default(),
            starting: AtomicU32::new(0),
        }
    }

    /// What Redis answers to this command, within the deadline.
    pub(crate) fn call<T: FromRedisValue>(&self, cmd: Cmd, deadline: Duration) -> RedisResult<T> {
        let (value, _) = self.ask(Asked::One(cmd), deadline)?;
        Ok(redis::from_redis_value(value)?)
    }

    /// Asks both; returns why the second was refused, if it was.
    pub(crate) fn call_both(
        &self,
        both: Asked,
        deadline: Duration,
    ) -> RedisResult<Option<RedisError>> {
        Ok(self.ask(both, deadline)?.1)
    }

    fn ask(&self, asked: Asked, deadline: Duration) -> runtime::Answer {
        let until = Instant::now() + deadline;
        let (answer, answered) = sync_channel(1);
        let question = Question {
            asked,
            until: until.into(),
            deadline,
            answer,
        };
        let sent = self.questions(until)?.try_send(question);
        sent.map_err(|error| match error {
            TrySendError::Full(_) => io::Error::other("too many questions at a time"),
            TrySendError::Closed(_) => gone(),
        })?;
        let left = until.saturating_duration_since(Instant::now());
        answered.recv_timeout(left).unwrap_or_else(|none| {
            Err(match none {
                RecvTimeoutError::Timeout => runtime::late(),
                RecvTimeoutError::Disconnected => gone().into(),
            })
        })
    }

    /// Whom to ask in this process.
    fn questions(&self, until: Instant) -> io::Result<&mpsc::Sender<Question>> {
        let process = process::id();
        loop {
            let node = match self.first.here(process) {
                Ok(questions) => return Ok(questions),
                Err(node) => node,
            };
            let starting = self.starting.load(SeqCst);
            let is_ours = starting != process
                && self
                    .starting
                    .compare_exchange(starting, process, SeqCst, SeqCst)
                    .is_ok();
            if is_ours {
                // Another may just have done it.
                let started = match node.0.get() {
                    None => self.start(process).map(|here| drop(node.0.set(here))),
                    Some(_) => Ok(()),
                };
                self.starting.store(0, SeqCst);
                started?;
            } else if Instant::now() >= until {
                return Err(ErrorKind::TimedOut.into());
            } else {
                thread::sleep(REST);
            }
        }
    }

    fn start(&self, process: u32) -> io::Result<Box<Here>> {
        let (questions, asked) = mpsc::channel(WAITING);
        let (target, lines) = (Arc::clone(&self.target), self.lines);
        threads::spawn_on_stack("redis", runtime::STACK, move || {
            runtime::run(target, lines, asked);
        })?;
        Ok(Box::new(Here {
            process,
            questions: Some(questions),
            forked: Node::default(),
        }))
    }
}

fn gone() -> io::Error {
    io::Error::new(ErrorKind::BrokenPipe, "the thread of the store has ended")
}

impl Node {
    /// The questions of this process, or where they are to be.
    fn here(&self, process: u32) -> Result<&mpsc::Sender<Question>, &Self> {
        let mut node = self;
        while let Some(here) = node.0.get() {
            match &here.questions {
                Some(questions) if here.process == process => return Ok(questions),
                _ => node = &here.forked,
            }
        }
        Err(node)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if self.process != process::id() {
            // To drop it would be to wake the thread of the parent, by a descriptor that both have.
            mem::forget(self.questions.take());
        }
    }
}
