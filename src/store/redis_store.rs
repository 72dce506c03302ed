//! A store in Redis.

use std::fmt;
use std::time::{Duration, SystemTime};

use redis::Cmd;

use super::breaker::CircuitBreaker;
use super::sealed::Sealed;
use super::session_store::SessionStore;
use super::write_behind::WriteBehind;
use crate::ffi;
use crate::redis::{Both, RedisOptions};
use crate::session::{Session, SessionKey, StoreError};
pub(super) use history::Remembered;
pub(super) use lines::Lines;

mod history;
mod lines;

/// What the keys of sessions begin with, unless a prefix is set.
const SESSIONS: &str = "openssl-resumption:session:";

/// Sessions in a Redis or Valkey that servers share.
///
/// ```no_run
/// use openssl_resumption::{RedisStore, Resumption};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = std::fs::read("/etc/sessions/secret")?; // 32 random bytes or more
/// let store = RedisStore::connect("rediss://user:password@redis.example/0")?
///     .for_servers([secret])?;
/// let policy = Resumption::stateful(store);
/// # Ok(())
/// # }
/// ```
///
/// That is a [`FleetStore`]; [`sealed`](RedisOptions::sealed) and
/// [`plaintext`](RedisOptions::plaintext) are for those who put their own together.
///
/// A session is the value of one key, the prefix and the [`SessionKey`] in hexadecimal, and lives
/// for what is left of its life: `SET` with `PX`, `GET`, `GETDEL` (Redis 6.2), `UNLINK`. A TLS 1.3 session that was
/// resumed has got a successor, and lives for another minute (`PEXPIRE`), in which its client may use it for
/// connections that it opens at once: a Redis that is full has room for one session a client.
/// A value that is no session is as none.
///
/// Redis is as exact as it is run: one that restarts from a snapshot, or a replica that is promoted
/// before it had all, has sessions again that were removed, or used up under
/// [`single_use`](crate::Resumption::single_use). Where that matters let it keep nothing on disk.
///
/// One thread speaks with Redis, on a few connections that all handshakes share. It is started by the first lookup or
/// write, and makes connections anew, with growing pauses, of a second at most, while there are none. A handshake waits
/// for the deadline at most in each of its lookups (up to four, if the client offers so many sessions), and not at all
/// while Redis is known to be away. What is not answered in time ends its connection, and costs those who wait on it a
/// full handshake each. Connections that were idle for a minute, or have been open for five, are replaced. Why it
/// fails, to connect too, is in [`last_store_error`](crate::Resumption::last_store_error).
///
/// A process may be forked before the first lookup or write, and after it too: the new process has a thread and
/// connections of its own. (What OpenSSL says about forks beside threads is true all the same, with TLS to Redis.)
///
/// Values are what the store is given: who can read Redis could resume the sessions of all clients
/// unless they are sealed.
pub struct RedisStore {
    lines: Lines,
}

/// How many threads seal and write. Each waits for Redis with one session in hand.
const WRITERS: usize = 8;

/// How long a session lives on when its client has got another for it.
const USED: Duration = Duration::from_secs(60);

/// What servers that share a Redis need, in one: [`RedisOptions::for_servers`] makes it.
///
/// ```text
///  handshake ─► WriteBehind ─► Sealed ─► CircuitBreaker ─► RedisStore ─► Redis
///               writes later   AES-GCM   asks nobody       connections,
///               from a queue             while it is down  deadlines
/// ```
///
/// From the right: Redis may be slow or gone, and a handshake waits for the deadlines of
/// [`RedisStore`] at most. After five failures in a row [`CircuitBreaker`] does not ask, so that
/// handshakes do not wait at all, and tries once a second; writes and lookups each have a circuit of
/// their own, because a Redis that is full still has sessions. What it says is about Redis alone, because
/// [`Sealed`] is outside of it: a value that does not open, from before a change of the secret say,
/// does not cut Redis off. [`WriteBehind`] is outermost, so that sealing is the threads' work, and a
/// client that comes back to this process at once finds its session, though it may not be written yet.
pub type FleetStore = WriteBehind<Sealed<CircuitBreaker<RedisStore>>>;

impl RedisStore {
    /// The address: `redis://[user][:password@]host[:port][/database]`, with TLS `rediss://`, or
    /// `unix:///path/to/socket`. `redis-sentinel://[user][:password@]host[:port][,host[:port]]/master[/database]` is
    /// the master that one of these sentinels names, and `redis-cluster://[user][:password@]host[:port][,host[:port]]` the
    /// cluster of these nodes; both with TLS, `rediss-sentinel://` (to the sentinels too) and `rediss-cluster://`.
    ///
    /// Certificates are verified with the system's CAs, those
    /// in `SSL_CERT_FILE` and `SSL_CERT_DIR`, as they are when the first connection is made; with
    /// `#insecure` at the end of the address they are not verified at all. [`RedisOptions::ca_file`] has others.
    ///
    /// # Errors
    ///
    /// That is no such address. Nothing is connected to yet.
    pub fn connect(url: &str) -> Result<RedisOptions, StoreError> {
        RedisOptions::new(url).map_err(StoreError::new)
    }
}

impl RedisOptions {
    /// What a server needs: see [`FleetStore`]. The values are sealed under the first of these
    /// secrets; all open. A secret has 32 bytes, random ones, to 1 KiB.
    ///
    /// # Errors
    ///
    /// There is no secret, or one of another length or of zeros.
    pub fn for_servers<S: AsRef<[u8]>>(
        self,
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<FleetStore, StoreError> {
        // A thread that has its answer may be woken late.
        let slow = self.longest_call() * 2;
        let redis = CircuitBreaker::new(self.plaintext()).deadline(slow);
        Ok(WriteBehind::new(Sealed::new(redis, secrets)?).workers(WRITERS))
    }

    /// A store whose values are sealed, and nothing else, as [`for_servers`](Self::for_servers).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn sealed<S: AsRef<[u8]>>(
        self,
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<Sealed<RedisStore>, StoreError> {
        Sealed::new(self.plaintext(), secrets)
    }

    /// A store whose values are not sealed, for a Redis that nobody else reads or writes, or to be
    /// sealed by a store of your own.
    ///
    /// Unsealed values pass through buffers of the `redis` crate and of TLS, which do not wipe them.
    #[must_use]
    pub fn plaintext(self) -> RedisStore {
        RedisStore {
            lines: Lines::new(self, SESSIONS),
        }
    }
}

impl RedisStore {
    fn cmd(&self, name: &str, key: &SessionKey) -> Cmd {
        let mut redis_key = self.lines.prefix().to_owned();
        redis_key.extend(key.as_bytes().iter().map(|byte| format!("{byte:02x}")));
        let mut cmd = redis::cmd(name);
        cmd.arg(redis_key);
        cmd
    }

    /// The command that writes a session, and what is left of its life; `None` if it has ended.
    fn set(&self, key: &SessionKey, session: &Session) -> Option<(Cmd, Duration)> {
        let left = session.expires_at().duration_since(SystemTime::now());
        // 0 is an error to Redis.
        let left = left.ok().filter(|left| left.as_millis() > 0)?;
        let mut set = self.cmd("SET", key);
        set.arg(session.as_bytes()).arg("PX").arg(millis(left));
        Some((set, left))
    }

    /// What is no session is as good as none, and no failure of Redis: somebody else wrote it.
    fn session(&self, value: Option<Vec<u8>>) -> Option<Session> {
        let mut value = value?;
        let session = self.lines.last_error().of(Session::from_bytes(&value));
        ffi::cleanse(&mut value);
        session.ok()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl SessionStore for RedisStore {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        match self.set(key, &session) {
            Some((set, _)) => self.lines.call(&set),
            None => Ok(()),
        }
    }

    fn put_successor(
        &self,
        key: &SessionKey,
        session: Session,
        used: &SessionKey,
    ) -> Result<(), StoreError> {
        match self.set(key, &session) {
            // The used one ends when its successor does, at the latest.
            Some((set, left)) if left > USED => {
                let expire = |left| {
                    let mut expire = self.cmd("PEXPIRE", used);
                    expire.arg(millis(left));
                    expire
                };
                // A Redis that is full takes the second all the same: the client is to keep what it has.
                let refused = self.lines.call_both(&Both {
                    first: set,
                    second: expire(USED),
                    undo: expire(left),
                })?;
                // Without it the first is as good as it was.
                if let Some(refused) = refused {
                    self.lines.last_error().note(refused);
                }
                Ok(())
            }
            Some((set, _)) => self.lines.call(&set),
            None => Ok(()),
        }
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(self.session(self.lines.call(&self.cmd("GET", key))?))
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.lines.call(&self.cmd("UNLINK", key))
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(self.session(self.lines.call(&self.cmd("GETDEL", key))?))
    }

    fn takes_once(&self) -> bool {
        true
    }

    fn remembers_takes(&self, lives: Duration) -> Result<bool, StoreError> {
        let key = format!("{}taken", self.lines.prefix());
        let remembered = self.lines.remembers(&key, lives, None)?;
        Ok(matches!(remembered, Remembered::First))
    }

    fn last_error(&self) -> Option<String> {
        self.lines.last_error().get()
    }
}

/// As its options.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}
