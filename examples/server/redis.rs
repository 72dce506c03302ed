//! Sessions, and ticket keys, in a Redis that servers share.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use openssl_resumption::{SessionStore, TicketKeys};

use crate::options::{parsed, split};

/// The options about Redis.
#[derive(Debug, Default)]
pub(crate) struct RedisArgs {
    pub(crate) url: Option<String>,
    pub(crate) secrets: Vec<PathBuf>,
    /// Whether the ticket keys are there too.
    pub(crate) keys: bool,
    /// How long it has to answer, and to be connected to.
    pub(crate) deadline: Option<Duration>,
    /// The CAs that are believed about it.
    pub(crate) ca: Option<PathBuf>,
    /// A certificate and its key, for one that wants to know who asks.
    client: Option<(PathBuf, PathBuf)>,
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

    /// `--redis-deadline`
    pub(crate) fn set_deadline(&mut self, value: &OsStr) -> Result<(), String> {
        let milliseconds = parsed(value).filter(|milliseconds| *milliseconds > 0);
        let milliseconds = milliseconds.ok_or_else(|| {
            format!("--redis-deadline must be a number of milliseconds, not {value:?}")
        })?;
        self.deadline = Some(Duration::from_millis(milliseconds));
        Ok(())
    }

    /// `--redis-client-certificate`
    pub(crate) fn set_client(&mut self, value: &OsStr) -> Result<(), String> {
        let (chain, key) = split(value, b',');
        let key = key.filter(|key| !key.is_empty() && !chain.is_empty());
        let key = key.ok_or("--redis-client-certificate must be FILE,FILE")?;
        self.client = Some((chain.into(), key.into()));
        Ok(())
    }

    /// What is wrong with the options together.
    pub(crate) fn check(&self, has_store: bool, has_tickets: bool) -> Result<(), &'static str> {
        let has_more = self.ca.is_some() || self.client.is_some() || self.deadline.is_some();
        match (&self.url, self.secrets.is_empty()) {
            (None, _) if has_more => {
                Err("--redis-deadline, --redis-ca and --redis-client-certificate need --redis")
            }
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
        imp::store(self, url, self.secrets()?).map(Some)
    }

    /// The ticket keys, if they are to be in Redis.
    pub(crate) fn ticket_keys(&self, args: &crate::keys::KeyArgs) -> Result<TicketKeys, String> {
        match &self.url {
            Some(url) if self.keys => imp::keys(self, url, self.secrets()?, args.epoch()),
            _ => args.ticket_keys(),
        }
    }
}

#[cfg(feature = "redis")]
mod imp {
    use std::time::Duration;

    use openssl_resumption::{RedisOptions, RedisStore, SessionStore, TicketKeys};

    use super::RedisArgs;

    fn options(args: &RedisArgs, url: &str) -> Result<RedisOptions, String> {
        let mut redis = RedisStore::connect(url).map_err(|error| format!("--redis: {error}"))?;
        if let Some(deadline) = args.deadline {
            redis = redis.deadline(deadline).connect_deadline(deadline);
        }
        if let Some(ca) = &args.ca {
            redis = redis.ca_file(ca);
        }
        if let Some((chain, key)) = &args.client {
            redis = redis.client_certificate(chain, key);
        }
        Ok(redis)
    }

    pub(super) fn store(
        args: &RedisArgs,
        url: &str,
        secrets: Vec<Vec<u8>>,
    ) -> Result<Box<dyn SessionStore>, String> {
        let store = options(args, url)?.for_servers(secrets);
        Ok(Box::new(
            store.map_err(|error| format!("--redis: {error}"))?,
        ))
    }

    pub(super) fn keys(
        args: &RedisArgs,
        url: &str,
        secrets: Vec<Vec<u8>>,
        epoch: Duration,
    ) -> Result<TicketKeys, String> {
        // As `RedisKeys::connect`.
        let redis = options(args, url)?.connections(1);
        let redis = redis.connect_deadline(Duration::from_secs(1));
        let keys = redis.ticket_keys(secrets);
        let keys = keys.map_err(|error| format!("--redis: {error}"))?;
        Ok(TicketKeys::from_source(keys.period(epoch)))
    }
}

#[cfg(not(feature = "redis"))]
mod imp {
    use std::time::Duration;

    use openssl_resumption::{SessionStore, TicketKeys};

    use super::RedisArgs;

    const MISSING: &str = "this server was built without Redis: cargo run --features redis ...";

    pub(super) fn store(
        _: &RedisArgs,
        _: &str,
        _: Vec<Vec<u8>>,
    ) -> Result<Box<dyn SessionStore>, String> {
        Err(MISSING.into())
    }

    pub(super) fn keys(
        _: &RedisArgs,
        _: &str,
        _: Vec<Vec<u8>>,
        _: Duration,
    ) -> Result<TicketKeys, String> {
        Err(MISSING.into())
    }
}
