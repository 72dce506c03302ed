//! What a store or a register has of Redis: connections, keys of its own, and the error that came last.

use std::fmt;
use std::sync::Arc;

use redis::{Cmd, FromRedisValue, RedisError};

use crate::redis::{Both, Connections, RedisOptions};
use crate::session::StoreError;
use crate::store::last_error::LastError;

pub(in crate::store) struct Lines {
    connections: Arc<Connections>,
    options: RedisOptions,
    prefix: String,
    last_error: LastError,
}

impl Lines {
    /// Keys begin with the prefix of the options, or with `otherwise`.
    pub(in crate::store) fn new(options: RedisOptions, otherwise: &str) -> Self {
        let prefix = options.prefix_or(otherwise);
        Self {
            connections: options.shared(),
            options: options.prefix(&prefix),
            prefix,
            last_error: LastError::default(),
        }
    }

    pub(in crate::store) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(in crate::store) fn last_error(&self) -> &LastError {
        &self.last_error
    }

    pub(in crate::store) fn call<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, StoreError> {
        let answer = self.connections.call(cmd, self.options.longest_call());
        self.last_error.of(answer.map_err(StoreError::new))
    }

    /// Two calls in one trip, of which the first counts. Returns why the second was refused, if it was.
    pub(in crate::store) fn call_both(
        &self,
        both: &Both,
    ) -> Result<Option<RedisError>, StoreError> {
        let answer = self
            .connections
            .call_both(both, self.options.longest_call());
        self.last_error.of(answer.map_err(StoreError::new))
    }
}

/// The options, with the prefix that keys begin with.
impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}
