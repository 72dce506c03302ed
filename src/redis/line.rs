//! A line is a connection that is made anew whenever it ends, with growing pauses while that does not work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::target::Target;
use super::way::Way;

/// What a line is at the moment.
#[derive(Clone)]
pub(super) enum State {
    /// For the first time, or after a connection on which all was well: it is worth waiting for.
    Connecting,
    Up(Way),
    /// Why there is none, and there may be none for a while.
    Down(Arc<str>),
}

impl State {
    /// Soon it is another, for better or worse.
    pub(super) fn is_changing(&self) -> bool {
        match self {
            Self::Connecting => true,
            // It is about to be seen.
            Self::Up(way) => way.has_ended(),
            Self::Down(_) => false,
        }
    }
}

/// A connection that nobody uses is replaced before firewalls forget it, and Redis, where its `timeout` is set.
const IDLE: Duration = Duration::from_secs(60);

/// One that is used is replaced so that a name that has come to mean another server is asked again.
const AGE: Duration = Duration::from_secs(5 * 60);

/// How often it is looked whether one of the two is over.
const LOOK: Duration = Duration::from_secs(10);

/// Between attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Keeps a line up, and says in `state` how it is.
pub(super) async fn keep(target: &Arc<Target>, state: &watch::Sender<State>, number: usize) {
    // Not all lines at a time.
    let age = AGE + 3 * LOOK * u32::try_from(number).unwrap_or(u32::MAX);
    let mut pause = SHORTEST_PAUSE;
    loop {
        let why = match Way::open(target).await {
            Ok((way, ended)) => {
                let (opened, begun) = (Instant::now(), way.answered());
                state.send_replace(State::Up(way.clone()));
                let outlived = outlived(&way, ended, age).await;
                let was_of_use = way.answered() > begun;
                if was_of_use || opened.elapsed() > LONGEST_PAUSE {
                    pause = SHORTEST_PAUSE;
                }
                if outlived {
                    // Asked until the next is there.
                    continue;
                }
                if was_of_use {
                    // Those who ask meanwhile wait for the next.
                    state.send_replace(State::Connecting);
                    continue;
                }
                "connections end without an answer".into()
            }
            Err(error) => format!("cannot connect: {error}"),
        };
        state.send_if_modified(|state| {
            // One that has only outlived is better than none.
            let is_down = !matches!(state, State::Up(way) if !way.has_ended());
            if is_down {
                *state = State::Down(why.into());
            }
            is_down
        });
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Until the connection ends, or has been there long enough: then `true`.
async fn outlived(way: &Way, mut ended: JoinHandle<()>, age: Duration) -> bool {
    let begun = Instant::now();
    let mut answered = (way.answered(), begun);
    while timeout(LOOK, &mut ended).await.is_err() {
        let now = Instant::now();
        if way.answered() > answered.0 {
            answered = (way.answered(), now);
        }
        if now - answered.1 >= IDLE || now - begun >= age {
            return true;
        }
    }
    false
}
