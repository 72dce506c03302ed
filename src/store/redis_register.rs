//! A register in Redis.

use std::fmt;
use std::time::{Duration, Instant};

use super::circuit::{Circuit, Limits};
use super::redis_store::{Lines, Remembered};
use super::replay_register::{HelloId, Registered, ReplayRegister};
use crate::redis::RedisOptions;
use crate::session::StoreError;

/// What its key begins with, unless a prefix is set.
const HELLOS: &str = "openssl-resumption:hello:";

/// A register of ClientHellos in a Redis or Valkey that hosts share: early data that one of them accepted none accepts
/// again.
///
/// ```no_run
/// use openssl_resumption::{RedisStore, Resumption, TicketKeys};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = std::fs::read("/etc/tickets/secret")?; // 32 random bytes or more
/// let policy = Resumption::stateless(TicketKeys::derived("shop", [secret]))
///     .early_data(16 * 1024)
///     .replay_register(RedisStore::connect("redis://redis.example")?.replay_register());
/// # Ok(())
/// # }
/// ```
///
/// **It declines when Redis may have lost what it knew**: for one window
/// ([`clock_skew`](crate::Resumption::clock_skew); 72 seconds by default) from the first flight that finds the register new.
/// That is so at first use, when the first replica is attached, after Redis was restarted (from nothing or from a
/// snapshot), after a failover to a replica, after a flush and after an eviction. At each call a script compares Redis's
/// replication history (`master_replid`) with that under which the register has been kept. All hellos are in one sorted set, the prefix and `seen`, so that Redis cannot evict a part
/// of it. A Redis that is full and evicts nothing says so ([`Registered::Full`]).
///
/// A handshake waits for an answer as those of [`RedisStore`](crate::RedisStore) do, and after five
/// failures in a row a circuit opens ([`CircuitBreaker`](crate::CircuitBreaker)): while Redis is away handshakes do not
/// wait for it.
///
/// The Redis user needs `EVAL`, `INFO`, `TIME`, `ZADD`, `ZSCORE`, `ZRANGEBYSCORE`, `ZREM`, `ZREMRANGEBYSCORE` and
/// `PEXPIRE`. What Redis cannot give: when a network is cut in two and both halves have a master, each half accepts a hello
/// once.
pub struct RedisRegister {
    lines: Lines,
    key: String,
    circuit: Circuit,
    limits: Limits,
}

impl RedisOptions {
    /// A register of ClientHellos for [`replay_register`](crate::Resumption::replay_register).
    #[must_use]
    pub fn replay_register(self) -> RedisRegister {
        // A thread that has its answer may be woken late.
        let deadline = self.longest_call() * 2;
        let lines = Lines::new(self, HELLOS);
        RedisRegister {
            key: format!("{}seen", lines.prefix()),
            lines,
            circuit: Circuit::default(),
            limits: Limits {
                deadline,
                ..Limits::default()
            },
        }
    }
}

impl RedisRegister {
    fn ask(&self, hello: &HelloId, lives: Duration) -> Result<Registered, StoreError> {
        // Half of a hash is enough to tell hellos apart.
        let half = &hello.as_bytes()[..16];
        match self.lines.remembers(&self.key, lives, Some(half)) {
            Ok(Remembered::First) => Ok(Registered::First),
            Ok(Remembered::Before) => Ok(Registered::Before),
            Ok(Remembered::MayBeLost) => Ok(Registered::WarmingUp),
            // Before Redis 7 the code of an error in a script is ERR.
            Err(full) if full.to_string().contains("OOM") => Ok(Registered::Full),
            Err(error) => Err(error),
        }
    }
}

impl ReplayRegister for RedisRegister {
    fn register(&self, hello: &HelloId, lives: Duration) -> Result<Registered, StoreError> {
        self.circuit
            .call(self.limits, Instant::now, || self.ask(hello, lives))
            .unwrap_or_else(|| Err(Circuit::refused()))
    }

    fn last_error(&self) -> Option<String> {
        self.lines.last_error().get()
    }
}

/// As the options that it was made with.
impl fmt::Debug for RedisRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRegister")
            .field("redis", &self.lines)
            .field("open", &self.circuit.is_open())
            .finish_non_exhaustive()
    }
}
