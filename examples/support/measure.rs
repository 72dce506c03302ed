//! What it takes to measure stores: a record as the library makes it, and the memory in use.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    missing_docs,
    reason = "no public interface"
)]

use std::sync::Mutex;

use openssl_resumption::{Session, SessionKey, SessionStore, StoreError};

/// A store that keeps the record that was stored last, and returns none.
#[derive(Default)]
pub struct Last(Mutex<Option<Session>>);

impl Last {
    pub fn record(&self) -> Session {
        let last = self.0.lock().expect("no panic under this lock").take();
        last.expect("a full handshake stores a session")
    }
}

impl SessionStore for Last {
    fn put(&self, _: &SessionKey, session: Session) -> Result<(), StoreError> {
        *self.0.lock().expect("no panic under this lock") = Some(session);
        Ok(())
    }

    fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(None)
    }

    fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The bytes in use, as the C library's allocator counts them, with its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of C")]
pub fn allocated() -> usize {
    // SAFETY: reads the counts of the allocator.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}
