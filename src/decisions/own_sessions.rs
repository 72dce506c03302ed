//! The sessions of one connection: that which it resumed, and those that were made in it.

use crate::session::SessionKey;

/// How many sessions a connection keeps in mind as its own; of more, the oldest stay in the store.
const MAX_OWN: usize = 512;

#[derive(Default)]
pub(super) struct OwnSessions {
    /// The session that was resumed, until it has a successor. OpenSSL makes tickets when the handshake is over.
    used: Option<Box<SessionKey>>,
    /// That which may end with the connection: it resumed it, or made it.
    own: Option<SessionKey>,
    /// Most have no more.
    others: Vec<SessionKey>,
}

impl OwnSessions {
    /// The session that was resumed, while it has no successor.
    pub(super) fn used(&self) -> Option<&SessionKey> {
        self.used.as_deref()
    }

    /// A session was resumed that will have a successor.
    pub(super) fn set_used(&mut self, key: SessionKey) {
        self.used = Some(Box::new(key));
    }

    /// A session was resumed that may end with the connection.
    pub(super) fn set_own(&mut self, key: SessionKey) {
        self.own = Some(key);
    }

    /// A session was stored under this key. It is kept in mind if it may end with the connection.
    pub(super) fn made(&mut self, key: SessionKey, may_end: bool) {
        self.used = None;
        if !may_end {
            return;
        }
        if self.own.is_none() {
            self.own = Some(key);
            return;
        }
        if self.others.len() >= MAX_OWN {
            self.others.remove(0);
        }
        self.others.push(key);
    }

    /// Those that may end with the connection, which now do.
    pub(super) fn take(&mut self) -> impl Iterator<Item = SessionKey> + use<> {
        let others = std::mem::take(&mut self.others);
        self.own.take().into_iter().chain(others)
    }
}
