//! The connections of a store in Redis, and the threads that make them.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use r2d2::{HandleError, ManageConnection, Pool};
use redis::{Client, RedisError, RedisResult};
use scheduled_thread_pool::{OnPoolDropBehavior, ScheduledThreadPool};

use super::options::RedisOptions;
use crate::redis_line::Line;
use crate::store::last_error::LastError;
use crate::threads;

pub(super) fn pool(options: &RedisOptions, last_error: &Arc<LastError>) -> Pool<Manager> {
    let manager = Manager {
        client: options.client.clone(),
        deadline: options.deadline,
        connect_deadline: options.connect_deadline,
    };
    Pool::builder()
        .thread_pool(Arc::new(threads()))
        .max_size(options.connections)
        // Twice the longest pause between attempts to connect.
        .connection_timeout(Duration::from_secs(2))
        // So that a name that has come to mean another server is asked again.
        .max_lifetime(Some(Duration::from_secs(5 * 60)))
        // Before firewalls forget them, and Redis, where its `timeout` is set.
        .idle_timeout(Some(Duration::from_secs(60)))
        // No trip to Redis, but a look whether it has hung up.
        .test_on_check_out(true)
        .error_handler(Box::new(Connecting(Arc::clone(last_error))))
        .build_unchecked(manager)
}

/// The threads of a pool, which are ours. They end with it, where those of `r2d2` wait for what is scheduled next,
/// half a minute.
fn threads() -> ScheduledThreadPool {
    const THREADS: usize = 3;
    let pool = threads::starting(|| {
        ScheduledThreadPool::builder()
            .num_threads(THREADS)
            .thread_name_pattern("redis-pool-{}")
            .on_drop_behavior(OnPoolDropBehavior::DiscardPendingScheduled)
            .build()
    });
    // One of these for each thread: none does a second before all have one. This waits for them, or a pool that
    // is dropped at once would leave one behind that waits for others.
    let all = Arc::new(Barrier::new(THREADS + 1));
    for _ in 0..THREADS {
        let all = Arc::clone(&all);
        pool.execute(move || {
            threads::adopt();
            all.wait();
        });
    }
    all.wait();
    pool
}

/// Where the pool says why it cannot connect.
#[derive(Debug)]
struct Connecting(Arc<LastError>);

impl HandleError<RedisError> for Connecting {
    fn handle_error(&self, error: RedisError) {
        self.0.note(format_args!("cannot connect: {error}"));
    }
}

/// What the pool needs to know.
pub(super) struct Manager {
    client: Client,
    deadline: Duration,
    connect_deadline: Duration,
}

impl ManageConnection for Manager {
    type Connection = Pooled;
    type Error = RedisError;

    fn connect(&self) -> RedisResult<Pooled> {
        let connect = || Line::connect(&self.client, self.connect_deadline, self.deadline);
        Ok(Pooled(Some(threads::in_openssl(connect)?)))
    }

    fn is_valid(&self, line: &mut Pooled) -> RedisResult<()> {
        line.line().check_quiet()
    }

    fn has_broken(&self, line: &mut Pooled) -> bool {
        line.line().is_broken()
    }
}

/// A connection of the pool, whose threads also end those that have been idle or open for long.
pub(super) struct Pooled(Option<Line>);

impl Pooled {
    pub(super) fn line(&mut self) -> &mut Line {
        self.0.as_mut().expect("empty only while it is dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let line = self.0.take();
        threads::in_openssl(|| drop(line));
    }
}
