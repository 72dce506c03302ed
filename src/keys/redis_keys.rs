//! Random keys that hosts share through Redis.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue};

use super::epochs::{DEFAULT_PERIOD, Epochs};
use super::error::KeyError;
use super::key::TicketKey;
use super::ring::MAX_RETIRED;
use super::source::{KeySet, KeySource};
use crate::base::{MAX_LIFETIME, printable};
use crate::ffi::Secret;
use crate::redis::{Connections, RedisOptions};
use crate::secret::seal::{self, NONCE, SALT};
use crate::secret::{hkdf, random};

const INFO: &[u8] = b"openssl-resumption ticket key in Redis 1";

/// How long a load waits for each answer, and with an address of its own to connect. No handshake waits for it.
const DEADLINE: Duration = Duration::from_secs(1);

/// A source of random ticket keys that hosts share through a Redis or Valkey, where they are sealed
/// under a secret of the fleet.
///
/// ```no_run
/// use openssl_resumption::{RedisKeys, Resumption, TicketKeys};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = std::fs::read("/etc/tickets/secret")?; // 32 random bytes or more
/// let source = RedisKeys::connect("redis://redis.example", [secret])?;
/// let policy = Resumption::stateless(TicketKeys::from_source(source));
/// # Ok(())
/// # }
/// ```
///
/// The key of a period is made by the host that comes first, half a period to one and a half before
/// it seals; all others find it there (`SET` with `NX`). So clocks may differ by half a period.
/// While Redis is away, takes no keys, or has some that do not open, hosts use those that they have, for
/// a period at least; then tickets stop. A host that starts meanwhile makes a key of its own, says so
/// in [`TicketKeys::last_warning`](crate::TicketKeys::last_warning), and goes over to the shared ones
/// when it can. If Redis loses its keys, hosts put theirs back within half a period; until then a
/// host that starts may have others.
///
/// # Who can do what
///
/// Unlike [`TicketKeys::derived`](crate::TicketKeys::derived) keys, these are forgotten: who steals
/// the secret later, and was not reading Redis before, or a backup of it, opens no ticket from the
/// past. Who can write to Redis can delete keys, put old ones back, and put garbage in their place,
/// all of which costs full handshakes; and can neither read keys nor make one.
///
/// After a theft of secret and keys start all hosts with a new secret and another
/// [`prefix`](Self::prefix), which makes all tickets from before worthless, and delete the keys of the
/// old prefix. [`revoke_all`](crate::TicketKeys::revoke_all) alone is not enough: the stolen secret
/// opens the keys that come after.
///
/// To change the secret without loss deploy `[old, new]` to all hosts, then `[new, old]`, then, eight
/// days later, `[new]`. To drop the old one at once is to start alone, with other keys on each host, until
/// the keys under it have sealed: two periods at most.
///
/// In Redis a key is 108 bytes and 16 of tag, AES-256-GCM under a key derived from secret and salt,
/// bound to prefix, period and number; it lives for seven days after it has sealed.
pub struct RedisKeys {
    connections: Arc<Connections>,
    /// Where Redis is.
    address: String,
    secrets: Vec<Secret>,
    prefix: String,
    period: Duration,
    /// The keys that were used last, by number of the period, and those that had to give way to
    /// another host's, with the time. Only the ring keeps them alive.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_number: BTreeMap<u64, Weak<TicketKey>>,
    gave_way: Vec<(Weak<TicketKey>, SystemTime)>,
}

impl RedisOptions {
    /// Ticket keys that hosts share, sealed under the first of these secrets; all open. A secret has at least 32 bytes,
    /// random ones, and at most 1 KiB.
    ///
    /// # Errors
    ///
    /// There is no secret, or one of another length. Nothing is connected to yet.
    pub fn ticket_keys<S: AsRef<[u8]>>(
        self,
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<RedisKeys, KeyError> {
        let secrets = secrets.into_iter();
        let secrets: Vec<Secret> = secrets.map(|secret| secret.as_ref().into()).collect();
        hkdf::check(&secrets).map_err(|wrong| KeyError::new(format!("RedisKeys: {wrong}")))?;
        Ok(RedisKeys {
            connections: self.shared(),
            address: self.shown(),
            secrets,
            prefix: self.prefix_or("openssl-resumption:ticket-key:"),
            period: DEFAULT_PERIOD,
            known: Mutex::default(),
        })
    }
}

impl RedisKeys {
    /// Keys in the Redis of this address ([`RedisStore::connect`](crate::RedisStore::connect) says
    /// what it looks like), sealed under the first of these secrets; all open. A secret has at least
    /// 32 bytes, random ones, and at most 1 KiB.
    ///
    /// # Errors
    ///
    /// That is no address, or there is no secret, or one of another length. Nothing is connected to
    /// yet.
    pub fn connect<S: AsRef<[u8]>>(
        url: &str,
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<Self, KeyError> {
        let options = RedisOptions::new(url).map_err(KeyError::new)?;
        options
            .connections(1)
            .connect_deadline(DEADLINE)
            .ticket_keys(secrets)
    }

    /// What keys in Redis begin with; `openssl-resumption:ticket-key:` by default. Fleets that share
    /// a Redis and a secret need one each.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a key seals, in whole seconds; 12 hours by default, the same on all hosts
    /// (`set_resumption` fails for less than a second and for parts of one).
    #[must_use]
    pub fn period(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }

    fn ask<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, KeyError> {
        self.connections.call(cmd, DEADLINE).map_err(KeyError::new)
    }

    fn redis_key(&self, number: u64) -> String {
        format!("{}{}:{number}", self.prefix, self.period.as_secs())
    }

    /// The key of a period, as the fleet has it. If it has none, ours is offered.
    fn fetch(
        &self,
        number: u64,
        lives: Duration,
        ours: Option<Arc<TicketKey>>,
    ) -> Result<Arc<TicketKey>, KeyError> {
        let name = self.redis_key(number);
        let found: Option<Vec<u8>> = self.ask(&get(&name))?;
        if let Some(sealed) = found {
            return self.open(&name, &sealed, ours);
        }
        let offered = ours.map_or_else(|| TicketKey::random().map(Arc::new), Ok)?;
        let bytes = offered.to_bytes();
        let mut fresh = [0; SALT + NONCE];
        random(&mut fresh).map_err(|()| KeyError::new("OpenSSL has no random bytes"))?;
        let secret = &self.secrets[0];
        let sealed = seal::seal(secret, INFO, name.as_bytes(), bytes.as_bytes(), &fresh);
        let sealed = sealed.map_err(KeyError::new)?;
        let mut set = redis::cmd("SET");
        set.arg(&name)
            .arg(sealed)
            .arg("NX")
            .arg("EX")
            .arg(lives.as_secs());
        let first: Option<()> = self.ask(&set)?;
        if first.is_some() {
            return Ok(offered);
        }
        // Another host was faster.
        let found: Option<Vec<u8>> = self.ask(&get(&name))?;
        let sealed =
            found.ok_or_else(|| KeyError::new(format!("{name} comes and goes in Redis")))?;
        self.open(&name, &sealed, Some(offered))
    }

    /// The key that is sealed in these bytes: the one we know, if it is that.
    fn open(
        &self,
        name: &str,
        sealed: &[u8],
        ours: Option<Arc<TicketKey>>,
    ) -> Result<Arc<TicketKey>, KeyError> {
        let opened = seal::open(&self.secrets, INFO, name.as_bytes(), sealed);
        let opened = opened.map_err(KeyError::new)?;
        let opened = opened.filter(|bytes| bytes.as_bytes().len() == 80).ok_or_else(|| {
            KeyError::new(format!(
                "{name} in Redis does not open: another secret sealed it, or it is no ticket key"
            ))
        })?;
        let (key_name, halves) = opened.as_bytes().split_first_chunk().expect("80 bytes");
        let aes = &halves[..32];
        let is_ours = |key: &Arc<TicketKey>| key.name() == key_name && key.aes() == aes;
        Ok(ours
            .filter(is_ours)
            .unwrap_or_else(|| Arc::new(TicketKey::of_bytes(opened.as_bytes()))))
    }

    /// What Redis has and lacks.
    fn load_from_redis(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        let epochs = Epochs::at(now, self.period)?;
        let known = |number: &u64| {
            self.known
                .lock()
                .by_number
                .get(number)
                .and_then(Weak::upgrade)
        };
        let is_first = self.known.lock().by_number.is_empty();
        let mut keys = BTreeMap::new();
        let mut lacks = None;
        for number in epochs.current..=*epochs.upcoming.end() {
            let sealed_until = epochs.start(number + 1)?;
            let lives = sealed_until + MAX_LIFETIME;
            let lives = lives.duration_since(now).unwrap_or_default();
            match self.fetch(number, lives, known(&number)) {
                Ok(key) => drop(keys.insert(number, key)),
                // The key that seals now is better than one of our own.
                Err(error) if is_first && !keys.is_empty() => lacks = Some(error),
                Err(error) => return Err(error),
            }
        }
        let past: Vec<u64> = epochs.past(MAX_RETIRED).collect();
        let mut mget = redis::cmd("MGET");
        let names: Vec<_> = past.iter().map(|number| self.redis_key(*number)).collect();
        mget.arg(&names);
        let found: Vec<Option<Vec<u8>>> = self.ask(&mget)?;
        for ((number, name), sealed) in past.iter().zip(&names).zip(found) {
            // One that does not open is as good as none: nothing is sealed under it any more.
            let ours = known(number);
            let key = match sealed {
                Some(sealed) => self.open(name, &sealed, ours.clone()).ok().or(ours),
                None => ours,
            };
            keys.extend(key.map(|key| (*number, key)));
        }
        let set = self.settle(keys, &epochs, now)?;
        Ok(match lacks {
            None => set,
            Some(error) => KeySet {
                load_again: now,
                ..set.warning(printable(format_args!(
                    "no ticket key for the next period: {error}"
                )))
            },
        })
    }

    /// The set of these keys, by number, which are known from now on.
    fn settle(
        &self,
        keys: BTreeMap<u64, Arc<TicketKey>>,
        epochs: &Epochs,
        now: SystemTime,
    ) -> Result<KeySet, KeyError> {
        let mut known = self.known.lock();
        for (number, key) in &keys {
            let weak = Arc::downgrade(key);
            if let Some(before) = known.by_number.insert(*number, Weak::clone(&weak))
                && !before.ptr_eq(&weak)
            {
                known.gave_way.push((before, now));
            }
        }
        known.by_number.retain(|_, key| key.strong_count() > 0);
        known.gave_way.retain(|(key, _)| key.strong_count() > 0);

        let seals = Arc::clone(&keys[&epochs.current]);
        let mut set = KeySet::new(seals, epochs.load_again).seals_until(epochs.end);
        for number in epochs
            .upcoming
            .clone()
            .filter(|number| keys.contains_key(number))
        {
            set = set.upcoming(Arc::clone(&keys[&number]), epochs.start(number)?);
        }
        for (key, until) in &known.gave_way {
            set = key
                .upgrade()
                .into_iter()
                .fold(set, |set, key| set.retired(key, *until));
        }
        for (number, key) in keys.range(..epochs.current).rev() {
            set = set.retired(Arc::clone(key), epochs.start(number + 1)?);
        }
        Ok(set)
    }
}

fn get(name: &str) -> Cmd {
    let mut get = redis::cmd("GET");
    get.arg(name);
    get
}

impl KeySource for RedisKeys {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        Epochs::check(self.period).map_err(|wrong| KeyError::new(format!("RedisKeys: {wrong}")))?;
        match self.load_from_redis(now) {
            // A server can start without Redis: its clients resume with it, if not with others.
            Err(error) if self.known.lock().by_number.is_empty() => {
                let epochs = Epochs::at(now, self.period)?;
                let own = Arc::new(TicketKey::random()?);
                let set = self.settle([(epochs.current, own)].into(), &epochs, now)?;
                Ok(KeySet {
                    load_again: now,
                    ..set.warning(printable(format_args!(
                        "ticket keys of this host alone, because Redis gave none: {error}"
                    )))
                })
            }
            loaded => loaded,
        }
        .map_err(|error| KeyError::new(printable(error)))
    }
}

/// Shows the address, without user, password and secret.
impl fmt::Debug for RedisKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisKeys")
            .field("address", &self.address)
            .field("prefix", &self.prefix)
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}
