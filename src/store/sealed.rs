//! A store over a store that it shows nothing but ciphertext.

use std::fmt;
use std::time::Duration;
use std::time::SystemTime;

use openssl::error::ErrorStack;

use super::last_error::LastError;
use super::session_store::{SessionStore, Usage};
use crate::ffi::Secret;
use crate::secret::seal::{self, Fresh, NONCE, SALT};
use crate::secret::{hkdf, random};
use crate::session::{HEADER, Session, SessionKey, StoreError};

const FORMAT: u8 = 1;
const INFO: &[u8] = b"openssl-resumption sealed session 1";

/// A store over a store that seals each session before the inner store sees it.
///
/// Put it around any store whose contents leave this process.
///
/// ```
/// use openssl_resumption::{MemoryStore, Resumption, Sealed};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let shared = MemoryStore::default();
/// # let secret = [7; 32];
/// let store = Sealed::new(shared, [secret])?;
/// let policy = Resumption::stateful(store);
/// # Ok(())
/// # }
/// ```
///
/// # Who can do what
///
/// A **reader** of the inner store learns of each session when it ends and how large it is, which
/// tells whether there is a client certificate in it.
///
/// A **writer** can delete sessions, and put back what it saw under the same session key: also one
/// that was removed, or taken for [`single_use`](crate::Resumption::single_use), which can then be
/// used again until it ends. It can neither make a session nor change one, its expiry included,
/// nor let one pass under another key.
///
/// Who has the **secret** and reads the store has all sessions in it, and all that were ever in it
/// if they were kept; with the secret a writer can make sessions too.
///
/// # What does not open
///
/// A record that was sealed under a secret that is not among ours or for another session key, was
/// changed, or was never sealed, is an error of [`get`](SessionStore::get) and
/// [`take`](SessionStore::take): a full handshake, with
/// [`Reason::StoreFailed`](crate::Reason::StoreFailed). It is counted in
/// [`StoreStats::errors`](crate::StoreStats::errors) and not in `misses`, which could not be told
/// from clients that come for the first time: hosts whose secrets differ, and somebody who writes
/// to the store, should be seen. One that does not open and has ended, by its own header, is not
/// found.
///
/// To change the secret without loss deploy `[old, new]` to all hosts, then `[new, old]`, then, a
/// [`lifetime`](crate::Resumption::lifetime) later, `[new]`; this moves no `errors`. To drop a
/// secret at once costs a full handshake for each session sealed under it.
///
/// A [`CircuitBreaker`](crate::CircuitBreaker) belongs inside, where it does not take what does not
/// open for a store that fails.
///
/// # Format
///
/// The session that the inner store holds has these [`as_bytes`](Session::as_bytes):
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 1 | version of sessions: 1 |
/// | 1 | 8 | expiry in seconds since the Unix epoch, big-endian |
/// | 9 | 1 | format of sealed sessions: 1 |
/// | 10 | 16 | salt, random for each record |
/// | 26 | 12 | nonce, random for each record |
/// | 38 | n | ciphertext of the n bytes that the session has after its first 9 |
/// | 38 + n | 16 | tag |
///
/// It is sealed by AES-256-GCM with 32 bytes of HKDF-SHA-256 (RFC 5869) as the key, of the secret,
/// the salt, and as info the text `openssl-resumption sealed session 1`. Additional data are the 32
/// bytes of the [`SessionKey`] and the bytes 0 to 9.
pub struct Sealed<S> {
    inner: S,
    /// The first seals, all open.
    secrets: Vec<Secret>,
    last_error: LastError,
}

impl<S: SessionStore> Sealed<S> {
    /// Seals under the first of `secrets`, and opens what any of them sealed.
    ///
    /// Each is 32 to 1024 bytes that are hard to guess: random ones, not a password. They are
    /// copied, and the copies wiped when the store is dropped.
    ///
    /// # Errors
    ///
    /// There is no secret, or one has fewer or more bytes.
    pub fn new<T: AsRef<[u8]>>(
        inner: S,
        secrets: impl IntoIterator<Item = T>,
    ) -> Result<Self, StoreError> {
        let secrets = secrets.into_iter();
        let secrets: Vec<Secret> = secrets.map(|secret| secret.as_ref().into()).collect();
        hkdf::check(&secrets).map_err(|wrong| StoreError::new(format!("Sealed::new: {wrong}")))?;
        Ok(Self {
            inner,
            secrets,
            last_error: LastError::default(),
        })
    }

    fn seal(
        &self,
        key: &SessionKey,
        session: &Session,
        fresh: &Fresh,
    ) -> Result<Session, ErrorStack> {
        let (header, plaintext) = session.as_bytes().split_at(HEADER);
        let additional = additional(key, header);
        let sealed = seal::seal(&self.secrets[0], INFO, &additional, plaintext, fresh)?;
        let payload = [&[FORMAT], sealed.as_slice()].concat();
        Ok(Session::new(session.expires_at(), &payload))
    }

    fn seal_fresh(&self, key: &SessionKey, session: &Session) -> Result<Session, StoreError> {
        let mut fresh = [0; SALT + NONCE];
        random(&mut fresh).map_err(|()| StoreError::new("OpenSSL has no random bytes"))?;
        self.seal(key, session, &fresh).map_err(StoreError::new)
    }

    /// The session in a record; `None` if it does not open and has ended.
    fn open(
        &self,
        key: &SessionKey,
        record: &Session,
        now: SystemTime,
    ) -> Result<Option<Session>, StoreError> {
        match self.open_any(key, record) {
            Err(_) if record.expires_at() <= now => Ok(None),
            opened => self.last_error.of(opened).map(Some),
        }
    }

    /// The newest error is the inner store's, if this is one.
    fn of_inner<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        answer.inspect_err(|_| self.last_error.clear())
    }

    fn open_any(&self, key: &SessionKey, record: &Session) -> Result<Session, StoreError> {
        let (header, payload) = record.as_bytes().split_at(HEADER);
        let Some(sealed) = payload.strip_prefix(&[FORMAT]) else {
            return Err(StoreError::new(format!(
                "not a session sealed in format {FORMAT}: {} bytes",
                record.as_bytes().len()
            )));
        };
        let opened = seal::open(&self.secrets, INFO, &additional(key, header), sealed);
        let Some(plaintext) = opened.map_err(StoreError::new)? else {
            return Err(StoreError::new(
                "a sealed session does not open: it was sealed under another secret or for another \
                 session key, or changed",
            ));
        };
        Ok(Session::new(record.expires_at(), plaintext.as_bytes()))
    }
}

/// What a record is bound to.
fn additional(key: &SessionKey, header: &[u8]) -> Vec<u8> {
    [key.as_bytes(), header, &[FORMAT]].concat()
}

impl<S: SessionStore> SessionStore for Sealed<S> {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        let sealed = self.seal_fresh(key, &session)?;
        self.of_inner(self.inner.put(key, sealed))
    }

    fn put_successor(
        &self,
        key: &SessionKey,
        session: Session,
        used: &SessionKey,
    ) -> Result<(), StoreError> {
        let sealed = self.seal_fresh(key, &session)?;
        self.of_inner(self.inner.put_successor(key, sealed, used))
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        match self.of_inner(self.inner.get(key))? {
            Some(record) => self.open(key, &record, SystemTime::now()),
            None => Ok(None),
        }
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.of_inner(self.inner.remove(key))
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        match self.of_inner(self.inner.take(key))? {
            Some(record) => self.open(key, &record, SystemTime::now()),
            None => Ok(None),
        }
    }

    fn takes_once(&self) -> bool {
        self.inner.takes_once()
    }

    fn remembers_takes(&self, lives: Duration) -> Result<bool, StoreError> {
        self.inner.remembers_takes(lives)
    }

    fn usage(&self) -> Option<Usage> {
        self.inner.usage()
    }

    /// What did not open last; the inner store's, if it has failed since.
    fn last_error(&self) -> Option<String> {
        self.last_error.get().or_else(|| self.inner.last_error())
    }
}

impl<S> fmt::Debug for Sealed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
