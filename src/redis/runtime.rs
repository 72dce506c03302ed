//! The thread that speaks with Redis: it takes questions, and says what Redis answers. It never blocks but to wait for
//! all at once.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::line::{self, State};
use super::target::Target;
use super::way::Way;
use crate::threads;

/// What Redis is asked.
pub(crate) enum Asked {
    One(Cmd),
    /// Two calls at once, of which the first counts. If only the first is refused, `undo` follows.
    Both {
        first: Cmd,
        second: Cmd,
        undo: Cmd,
    },
}

/// What it answers to the first call, and why it refused the second, if it did.
pub(super) type Answer = RedisResult<(Value, Option<RedisError>)>;

pub(super) struct Question {
    pub(super) asked: Asked,
    pub(super) until: Instant,
    /// The time that there was for it.
    pub(super) deadline: Duration,
    pub(super) answer: SyncSender<Answer>,
}

/// The parser of the `redis` crate reads lists in lists by recursion, up to a hundred, which takes most in a debug build.
pub(super) const STACK: usize = 8 << 20;

/// Answers questions until nobody can ask any more.
pub(super) fn run(target: Arc<Target>, lines: usize, mut questions: mpsc::Receiver<Question>) {
    let runtime = loop {
        match runtime() {
            Ok(runtime) => break runtime,
            // As when the process has no more descriptors: tried again for the next question.
            Err(error) => match questions.blocking_recv() {
                Some(question) => drop(question.answer.try_send(Err(error.into()))),
                None => return,
            },
        }
    };
    threads::come_in();
    runtime.block_on(async {
        let lines = Lines::open(&target, lines);
        let mut turn = 0;
        while let Some(question) = questions.recv().await {
            turn += 1;
            let lines = lines.clone();
            tokio::spawn(async move {
                lines.answer(question, turn).await;
            });
        }
    });
    // A name that is still being resolved is not waited for.
    runtime.shutdown_background();
    threads::go_out();
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .thread_name("redis-names")
        .thread_keep_alive(Duration::from_secs(1))
        // One for names and one for the files of TLS.
        .max_blocking_threads(2)
        .on_thread_start(threads::adopt)
        // TLS is in OpenSSL all the time but here.
        .on_thread_park(threads::go_out)
        .on_thread_unpark(threads::come_in)
        .build()
}

#[derive(Clone)]
struct Lines(Arc<[watch::Receiver<State>]>);

impl Lines {
    fn open(target: &Arc<Target>, lines: usize) -> Self {
        let open = || {
            let (state, seen) = watch::channel(State::Connecting);
            tokio::spawn(line::keep(Arc::clone(target), state));
            seen
        };
        Self((0..lines).map(|_| open()).collect())
    }

    async fn answer(&self, question: Question, turn: usize) {
        let Question {
            asked,
            until,
            deadline,
            answer,
        } = question;
        let answered = match timeout_at(until, self.up(turn)).await {
            Ok(Ok(way)) => {
                let begun = Instant::now();
                let ask = ask(way.clone(), asked);
                timeout_at(until, ask).await.unwrap_or_else(|_| {
                    // What waited for a connection says nothing about the one that it got.
                    if begun.elapsed() * 2 >= deadline {
                        way.cut();
                    }
                    Err(late())
                })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(late()),
        };
        // Who asked may have given up.
        let _ = answer.try_send(answered);
    }

    /// One that is up, in turns; or one that may soon be.
    async fn up(&self, turn: usize) -> RedisResult<Way> {
        let count = self.0.len();
        loop {
            let (mut connecting, mut down) = (None, None);
            for i in 0..count {
                let line = &self.0[(turn + i) % count];
                match &*line.borrow() {
                    State::Up(way) => return Ok(way.clone()),
                    State::Connecting => connecting = Some(line.clone()),
                    State::Down(why) => down = Some(Arc::clone(why)),
                }
            }
            match (connecting, down) {
                (Some(mut line), _) => {
                    let still = |state: &State| !matches!(state, State::Connecting);
                    let _ = line.wait_for(still).await;
                }
                (None, down) => {
                    let why = down.unwrap_or_else(|| "no connection".into());
                    return Err(io::Error::new(ErrorKind::NotConnected, &*why).into());
                }
            }
        }
    }
}

async fn ask(mut way: Way, asked: Asked) -> Answer {
    let (first, second, undo) = match asked {
        Asked::One(cmd) => return Ok((way.ask(&cmd).await?, None)),
        Asked::Both {
            first,
            second,
            undo,
        } => (first, second, undo),
    };
    let mut other = way.clone();
    // It begins when this task waits for the first, and both go on their way together.
    let second = tokio::spawn(async move { other.ask(&second).await });
    let first = way.ask(&first).await;
    let second = second.await.map_err(io::Error::other)?;
    match first {
        Ok(value) => Ok((value, second.err())),
        Err(error) => {
            if second.is_ok() {
                way.ask(&undo).await?;
            }
            Err(error)
        }
    }
}

pub(super) fn late() -> RedisError {
    io::Error::new(ErrorKind::TimedOut, "no answer before the deadline").into()
}
