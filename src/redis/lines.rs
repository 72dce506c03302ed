//! The lines of a process, and the one thread on which they are kept up, and that reads and writes for all who ask.

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use futures_util::future::{join_all, select, select_all};
use redis::RedisResult;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::line::{self, State};
use super::target::Target;
use super::way::Way;
use crate::threads;

/// The thread ends when nobody has these any more.
pub(super) struct Lines {
    states: Vec<watch::Receiver<State>>,
    turn: AtomicUsize,
}

/// The parser of the `redis` crate reads lists in lists by recursion, up to a hundred, which takes most in a debug build.
const STACK: usize = 8 << 20;

/// Before a process that has no more descriptors is asked for some again.
const REST: Duration = Duration::from_secs(1);

impl Lines {
    pub(super) fn start(target: &Target, count: usize) -> io::Result<Self> {
        let (kept, states): (_, Vec<_>) = (0..count)
            .map(|_| watch::channel(State::Connecting))
            .unzip();
        // With turns and limits of its own: those of a process that this one was forked off may be taken for ever.
        let target = Arc::new(target.clone());
        threads::spawn_on_stack("redis", STACK, move || keep_all(&target, kept))?;
        Ok(Self {
            states,
            turn: AtomicUsize::new(0),
        })
    }

    /// One that is up, in turns; or one that may soon be.
    pub(super) async fn up(&self) -> RedisResult<Way> {
        let count = self.states.len();
        let turn = self.turn.fetch_add(1, Relaxed);
        loop {
            let (mut changing, mut down) = (Vec::new(), None);
            for i in 0..count {
                let state = &self.states[turn.wrapping_add(i) % count];
                match &*state.borrow() {
                    now if now.is_changing() => changing.push(state.clone()),
                    State::Up(way) => return Ok(way.clone()),
                    State::Down(why) => down = Some(Arc::clone(why)),
                    State::Connecting => {}
                }
            }
            if changing.is_empty() {
                let why = down.unwrap_or_else(|| "no connection".into());
                return Err(io::Error::new(ErrorKind::NotConnected, &*why).into());
            }
            let settle = async |mut state: watch::Receiver<State>| {
                let settled = state.wait_for(|state| !state.is_changing()).await;
                settled.map(drop)
            };
            let settled = changing.into_iter().map(|state| Box::pin(settle(state)));
            if select_all(settled).await.0.is_err() {
                return Err(io::Error::other("the thread of the store has ended").into());
            }
        }
    }
}

/// What the thread does, as long as somebody can ask. It never blocks but to wait for all at once.
fn keep_all(target: &Arc<Target>, kept: Vec<watch::Sender<State>>) {
    let runtime = loop {
        match runtime() {
            Ok(runtime) => break runtime,
            Err(error) => {
                let why: Arc<str> = error.to_string().into();
                for state in &kept {
                    state.send_replace(State::Down(Arc::clone(&why)));
                }
                thread::sleep(REST);
                if kept.iter().all(watch::Sender::is_closed) {
                    return;
                }
            }
        }
    };
    threads::come_in();
    let keep = async |(number, state): (usize, &watch::Sender<State>)| {
        let kept = line::keep(target, state, number);
        select(pin!(kept), pin!(state.closed())).await;
    };
    runtime.block_on(join_all(kept.iter().enumerate().map(keep)));
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
