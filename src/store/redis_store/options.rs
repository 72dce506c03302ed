//! How to connect to Redis.

use std::fmt;
use std::time::Duration;

use redis::{Client, ConnectionAddr};

use crate::redis_line;
use crate::session::StoreError;

/// How to connect to Redis, and what to make of it.
#[derive(Clone)]
pub struct RedisOptions {
    pub(super) client: Client,
    /// That of what is made of them, unless it is set.
    pub(super) prefix: Option<String>,
    pub(super) deadline: Duration,
    pub(super) connect_deadline: Duration,
    pub(super) connections: u32,
}

impl RedisOptions {
    /// For the Redis of this address.
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        Ok(Self {
            client: redis_line::client(url).map_err(StoreError::new)?,
            prefix: None,
            deadline: Self::DEFAULT_DEADLINE,
            connect_deadline: Self::DEFAULT_DEADLINE,
            connections: Self::DEFAULT_CONNECTIONS,
        })
    }

    /// The two deadlines unless set: 50 ms.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_millis(50);

    /// How many connections are kept open unless set: 16.
    pub const DEFAULT_CONNECTIONS: u32 = 16;

    /// How long a call may take: to wait for a connection, and for an answer.
    pub(in crate::store) fn longest_call(&self) -> Duration {
        self.deadline * 2
    }

    /// What keys in Redis begin with; by default `openssl-resumption:session:` in a store, and
    /// `openssl-resumption:hello:` in a [`RedisRegister`](crate::RedisRegister).
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// How long a handshake waits for a free connection at most, and then for the
    /// answer; 50 ms by default, at least 1 ms.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.max(Duration::from_millis(1));
        self
    }

    /// How long it may take to connect, TLS and login included, beside all handshakes; 50 ms by
    /// default, at least 1 ms. To another region that may need to be more. The time that it takes to
    /// resolve the name of the host is not counted and not bounded.
    #[must_use]
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline.max(Duration::from_millis(1));
        self
    }

    /// How many connections are kept open; 16 by default, at least 1. More handshakes at a time wait
    /// for one another.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(1);
        self
    }
}

/// Shows the address, without user and password.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.client.get_connection_info().addr();
        let tls = match address {
            ConnectionAddr::TcpTls { insecure: true, .. } => "insecure",
            ConnectionAddr::TcpTls { .. } => "verified",
            _ => "none",
        };
        f.debug_struct("RedisOptions")
            .field("address", &address.to_string())
            .field("tls", &tls)
            .field("prefix", &self.prefix)
            .field("deadline", &self.deadline)
            .field("connect_deadline", &self.connect_deadline)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
