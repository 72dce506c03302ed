//! A set of connections, for all that is made of the same options, and for whoever asks on any thread. They are begun
//! with the first question, so that a process can be forked before, and one that was forked off has its own: on those of
//! its parent each would read answers that are the other's.

use std::io::{self, ErrorKind};
use std::mem;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value};

use super::lines::Lines;
use super::target::Target;
use super::wait::wait_until;
use super::way::{Both, Way};

/// More than the ticket keys that are asked for at once.
const LONGEST_LIST: usize = 1_024;

/// While another thread begins.
const REST: Duration = Duration::from_micros(100);

pub(crate) struct Connections {
    target: Target,
    count: usize,
    first: Node,
    /// The process in which they are being begun, or 0. No lock, which a fork might leave locked.
    starting: AtomicU32,
}

/// What a process has, and the one that was forked off it.
#[derive(Default)]
struct Node(OnceLock<Box<Here>>);

struct Here {
    process: u32,
    lines: Option<Lines>,
    forked: Node,
}

impl Connections {
    pub(super) fn new(target: Target, count: usize) -> Self {
        Self {
            target,
            count,
            first: Node::default(),
            starting: AtomicU32::new(0),
        }
    }

    /// What Redis answers to this command, within the deadline.
    pub(crate) fn call<T: FromRedisValue>(&self, cmd: &Cmd, deadline: Duration) -> RedisResult<T> {
        let value = self.ask(deadline, async |mut way| way.ask(cmd).await)?;
        // The error about an answer of another type shows all of it, which is work for the thread that asks.
        if !is_flat(&value) {
            return Err(io::Error::new(ErrorKind::InvalidData, "an answer of another kind").into());
        }
        Ok(redis::from_redis_value(value)?)
    }

    /// Asks both; returns why the second was refused, if it was.
    pub(crate) fn call_both(
        &self,
        both: &Both,
        deadline: Duration,
    ) -> RedisResult<Option<RedisError>> {
        self.ask(deadline, async |mut way| way.ask_both(both).await)
    }

    fn ask<T>(
        &self,
        deadline: Duration,
        ask: impl AsyncFnOnce(Way) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let until = Instant::now() + deadline;
        let way = wait_until(until, self.lines(until)?.up()).ok_or_else(late)??;
        let begun = Instant::now();
        wait_until(until, ask(way.clone())).unwrap_or_else(|| {
            // What waited for a connection says nothing about the one that it got.
            if begun.elapsed() * 2 >= deadline {
                way.cut();
            }
            Err(late().into())
        })
    }

    /// Those of this process.
    fn lines(&self, until: Instant) -> io::Result<&Lines> {
        let process = process::id();
        loop {
            let node = match self.first.here(process) {
                Ok(lines) => return Ok(lines),
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
        Ok(Box::new(Here {
            process,
            lines: Some(Lines::start(&self.target, self.count)?),
            forked: Node::default(),
        }))
    }
}

/// Whether it is one that is asked for here: one value, or a list of some.
fn is_flat(answer: &Value) -> bool {
    let is_one = |value: &Value| {
        matches!(
            value,
            Value::Nil
                | Value::Int(_)
                | Value::BulkString(_)
                | Value::SimpleString(_)
                | Value::Okay
        )
    };
    match answer {
        Value::Array(values) => values.len() <= LONGEST_LIST && values.iter().all(is_one),
        value => is_one(value),
    }
}

fn late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "no answer before the deadline")
}

impl Node {
    /// Those of this process, or where they are to be.
    fn here(&self, process: u32) -> Result<&Lines, &Self> {
        let mut node = self;
        while let Some(here) = node.0.get() {
            match &here.lines {
                Some(lines) if here.process == process => return Ok(lines),
                _ => node = &here.forked,
            }
        }
        Err(node)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if self.process != process::id() {
            // To drop them would be to wake the thread of the parent, by a descriptor that both have.
            mem::forget(self.lines.take());
        }
    }
}
