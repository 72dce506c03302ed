//! How to connect to Redis.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::address::Address;
use super::connections::Connections;
use super::dial::{Dial, Turns};
use super::place::{Insecure, Login};
use super::target::{Failed, Target};
use super::tls::Files;

/// How to connect to Redis, and what to make of it.
///
/// What is made of the same options, and of clones of them, has the same connections, and one thread that speaks on
/// them; to change how to connect is to begin new ones.
#[derive(Clone)]
pub struct RedisOptions {
    address: Address,
    files: Files,
    sentinel_login: Login,
    /// That of what is made of them, unless it is set.
    prefix: Option<String>,
    deadline: Duration,
    connect_deadline: Duration,
    connections: u32,
    /// What has been made of these, while it is there.
    made: Arc<Mutex<Weak<Connections>>>,
}

/// Nodes of a cluster, on all connections together.
const LINKS: usize = 1_000;

/// What may be waited for.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(60 * 60);

impl RedisOptions {
    /// The two deadlines unless set: 50 ms.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_millis(50);

    /// How many connections are kept open unless set: 2.
    pub const DEFAULT_CONNECTIONS: u32 = 2;

    /// For the Redis of this address; or what is wrong with it.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        Ok(Self {
            address: Address::parse(url)?,
            files: Files::default(),
            sentinel_login: Login::default(),
            prefix: None,
            deadline: Self::DEFAULT_DEADLINE,
            connect_deadline: Self::DEFAULT_DEADLINE,
            connections: Self::DEFAULT_CONNECTIONS,
            made: Arc::default(),
        })
    }

    /// What keys in Redis begin with; by default `openssl-resumption:session:` in a store,
    /// `openssl-resumption:hello:` in a [`RedisRegister`](crate::RedisRegister), and
    /// `openssl-resumption:ticket-key:` in [`RedisKeys`](crate::RedisKeys).
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// How long a handshake waits for an answer at most, from when it asks, whatever Redis, the network or a resolver
    /// do; 50 ms by default, 1 ms to an hour. (Ticket keys, for which no handshake waits, have a second.)
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.clamp(SHORTEST, LONGEST);
        self
    }

    /// How long it may take to connect, TLS and login included, beside all handshakes; 50 ms by
    /// default, 1 ms to an hour. To another region that may need to be more.
    #[must_use]
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline.clamp(SHORTEST, LONGEST);
        self.anew()
    }

    /// How many connections are kept open; 2 by default, 1 to 64. Any number of handshakes share one: questions do
    /// not wait for the answers to others. With two of them one that fails is not all.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections.clamp(1, 64);
        self.anew()
    }

    /// The CAs that are believed about Redis, in a PEM file, in place of those of the system. It is read for each
    /// connection. Of no use without TLS.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.ca = Some(path.into());
        self.anew()
    }

    /// The certificate, with its chain, and the key that are shown to a Redis that asks for one (`tls-auth-clients`), in
    /// PEM files. They are read for each connection. Of no use without TLS.
    #[must_use]
    pub fn client_certificate(
        mut self,
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.files.client = Some((chain.into(), key.into()));
        self.anew()
    }

    /// The user, or `None` for the default one, and the password that sentinels ask for. Those in the address are for
    /// Redis itself.
    #[must_use]
    pub fn sentinel_login(mut self, user: Option<&str>, password: impl Into<String>) -> Self {
        self.sentinel_login = Login {
            user: user.map(str::to_owned),
            password: Some(password.into()),
        };
        self.anew()
    }

    fn anew(mut self) -> Self {
        self.made = Arc::default();
        self
    }

    pub(crate) fn prefix_or(&self, otherwise: &str) -> String {
        self.prefix.clone().unwrap_or_else(|| otherwise.into())
    }

    pub(crate) fn longest_call(&self) -> Duration {
        self.deadline
    }

    /// The connections of these options, which are there until the last who has them is gone.
    pub(crate) fn shared(&self) -> Arc<Connections> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.upgrade().unwrap_or_else(|| {
            let target = Target {
                address: self.address.clone(),
                sentinel_login: self.sentinel_login.clone(),
                dial: Dial {
                    tls: self.address.tls,
                    files: self.files.clone(),
                    deadline: self.connect_deadline,
                    names: Turns::of(1),
                    reading: Turns::of(1),
                },
                links: Turns::of(LINKS),
                failed: Failed::default(),
            };
            let lines = usize::try_from(self.connections).unwrap_or(1);
            let connections = Arc::new(Connections::new(target, lines));
            *made = Arc::downgrade(&connections);
            connections
        })
    }

    /// Where Redis is, without user and password.
    pub(crate) fn shown(&self) -> String {
        self.address.shown()
    }
}

/// Shows the address, without user and password.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = match self.address.tls {
            Some(Insecure(true)) => "insecure",
            Some(Insecure(false)) => "verified",
            None => "none",
        };
        f.debug_struct("RedisOptions")
            .field("address", &self.shown())
            .field("tls", &tls)
            .field("prefix", &self.prefix)
            .field("deadline", &self.deadline)
            .field("connect_deadline", &self.connect_deadline)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_the_same_options_has_the_same_connections() {
        let options = RedisOptions::new("redis://127.0.0.1:1").unwrap();
        let first = options.shared();
        let other = options
            .clone()
            .prefix("other:")
            .deadline(Duration::from_secs(1));
        assert!(Arc::ptr_eq(&first, &other.shared()));
        assert!(!Arc::ptr_eq(
            &first,
            &options.clone().connections(1).shared()
        ));
        let known = Arc::downgrade(&first);
        drop(first);
        assert!(known.upgrade().is_none(), "options keep nothing open");
    }
}
