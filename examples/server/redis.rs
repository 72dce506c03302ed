//! Sessions, and ticket keys, in a Redis that servers share.

use std::ffi::OsStr;
use std::path::PathBuf;

use openssl_resumption::{SessionStore, TicketKeys};

/// The options about Redis.
#[derive(Debug, Default)]
pub(crate) struct RedisArgs {
    pub(crate) url: Option<String>,
    pub(crate) secrets: Vec<PathBuf>,
    /// Whether the ticket keys are there too.
    pub(crate) keys: bool,
}

impl RedisArgs {
    /// `--redis`
    pub(crate) fn set_url(&mut self, value: &OsStr) -> Result<(), String> {
        let url = value.to_str();
        self.url = Some(
            url.ok_or("--redis must be a URL like redis://127.0.0.1")?
                .into(),
        );
        Ok(())
    }

    /// What is wrong with the options together.
    pub(crate) fn check(&self, has_store: bool, has_tickets: bool) -> Result<(), &'static str> {
        match (&self.url, self.secrets.is_empty()) {
            (None, true) if !self.keys => Ok(()),
            (None, _) => Err("--redis-secret and --redis-keys need --redis"),
            (Some(_), true) => Err("--redis needs --redis-secret"),
            _ if self.keys && !has_tickets => Err("--redis-keys is for --mode stateless or hybrid"),
            _ if !self.keys && !has_store => Err("--redis is for --mode stateful or hybrid"),
            _ => Ok(()),
        }
    }

    fn secrets(&self) -> Result<Vec<Vec<u8>>, String> {
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|error| format!("cannot read --redis-secret {}: {error}", path.display()))
        };
        self.secrets.iter().map(read).collect()
    }

    /// The store of sessions, if they are to be in Redis.
    pub(crate) fn store(&self) -> Result<Option<Box<dyn SessionStore>>, String> {
        let Some(url) = &self.url else {
            return Ok(None);
        };
        imp::store(url, self.secrets()?).map(Some)
    }

    /// The ticket keys, if they are to be in Redis.
    pub(crate) fn ticket_keys(&self, args: &crate::keys::KeyArgs) -> Result<TicketKeys, String> {
        match &self.url {
            Some(url) if self.keys => imp::keys(url, self.secrets()?, args.epoch()),
            _ => args.ticket_keys(),
        }
    }
}

#[cfg(feature = "redis")]
mod imp {
    use std::time::Duration;

    use openssl_resumption::{RedisKeys, RedisStore, SessionStore, TicketKeys};

    pub(super) fn store(url: &str, secrets: Vec<Vec<u8>>) -> Result<Box<dyn SessionStore>, String> {
        let store = RedisStore::connect(url).and_then(|redis| redis.for_servers(secrets));
        let store = store.map_err(|error| format!("--redis: {error}"))?;
        Ok(Box::new(store))
    }

    pub(super) fn keys(
        url: &str,
        secrets: Vec<Vec<u8>>,
        epoch: Duration,
    ) -> Result<TicketKeys, String> {
        let keys = RedisKeys::connect(url, secrets).map_err(|error| format!("--redis: {error}"))?;
        Ok(TicketKeys::from_source(keys.period(epoch)))
    }
}

#[cfg(not(feature = "redis"))]
mod imp {
    use std::time::Duration;

    use openssl_resumption::{SessionStore, TicketKeys};

    const MISSING: &str = "this server was built without Redis: cargo run --features redis ...";

    pub(super) fn store(_: &str, _: Vec<Vec<u8>>) -> Result<Box<dyn SessionStore>, String> {
        Err(MISSING.into())
    }

    pub(super) fn keys(_: &str, _: Vec<Vec<u8>>, _: Duration) -> Result<TicketKeys, String> {
        Err(MISSING.into())
    }
}
