//! The lines to a Redis that a store or a register speaks on.

use std::fmt;
use std::mem;
use std::process;
use std::sync::Arc;

use parking_lot::Mutex;
use r2d2::Pool;
use redis::{Cmd, FromRedisValue, RedisResult};

use super::options::RedisOptions;
use super::pool::{self, Manager};
use crate::redis_line::Line;
use crate::session::StoreError;
use crate::store::last_error::LastError;
use crate::threads;

pub(in crate::store) struct Lines {
    /// Of this process: one that was forked off must not speak on the connections of its parent.
    pool: Mutex<(u32, Pool<Manager>)>,
    options: RedisOptions,
    prefix: String,
    last_error: Arc<LastError>,
}

impl Lines {
    /// Keys begin with the prefix of the options, or with `otherwise`.
    pub(in crate::store) fn new(options: RedisOptions, otherwise: &str) -> Self {
        let last_error = Arc::default();
        Self {
            pool: Mutex::new((process::id(), pool::pool(&options, &last_error))),
            prefix: options.prefix.clone().unwrap_or_else(|| otherwise.into()),
            options,
            last_error,
        }
    }

    pub(in crate::store) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(in crate::store) fn last_error(&self) -> &LastError {
        &self.last_error
    }

    fn pool_here(&self) -> Pool<Manager> {
        let mut pool = self.pool.lock();
        if pool.0 != process::id() {
            let own = pool::pool(&self.options, &self.last_error);
            let parents = mem::replace(&mut *pool, (process::id(), own));
            // To close its connections would be to say goodbye on them, TLS and all.
            mem::forget(parents);
        }
        pool.1.clone()
    }

    pub(in crate::store) fn call<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, StoreError> {
        self.on_one(|line| cmd.query(line))
    }

    pub(in crate::store) fn on_one<T>(
        &self,
        call: impl FnOnce(&mut Line) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let pool = self.pool_here();
        let mut line = pool.get_timeout(self.options.deadline).map_err(|none| {
            // Why there are none, is known from the attempts to connect.
            if pool.state().connections > 0 {
                self.last_error.note("all connections are in use");
            }
            StoreError::new(none)
        })?;
        // The thread may be one that writes what waits.
        let answer = threads::in_openssl(|| call(line.line()));
        self.last_error.of(answer.map_err(StoreError::new))
    }
}

/// The options, with the prefix that keys begin with.
impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = Some(self.prefix.clone());
        let options = RedisOptions {
            prefix,
            ..self.options.clone()
        };
        options.fmt(f)
    }
}
