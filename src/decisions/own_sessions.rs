//! The sessions of one connection: that which it resumed, and those that were made in it.

use crate::session::SessionKey;

/// How many sessions a connection keeps in mind as its own; of more, the oldest stay in the store.
const MAX_OWN: usize = 512;

#[derive(Default)]
pub(super) struct OwnSessions {
    /// That which may end with the connection: it resumed it, or made it.
    own: Option<SessionKey>,
    /// Most have none for long.
    rest: Option<Box<Rest>>,
}

#[derive(Default)]
struct Rest {
    /// The session that was resumed, until it has a successor. OpenSSL makes tickets when the handshake is over.
    used: Option<SessionKey>,
    /// What else may end with the connection.
    others: Vec<SessionKey>,
}

impl OwnSessions {
    /// The session that was resumed, while it has no successor.
    pub(super) fn used(&self) -> Option<&SessionKey> {
        self.rest.as_ref()?.used.as_ref()
    }

    /// A session was resumed that will have a successor.
    pub(super) fn set_used(&mut self, key: SessionKey) {
        self.rest.get_or_insert_default().used = Some(key);
    }

    /// A session was resumed that may end with the connection.
    pub(super) fn set_own(&mut self, key: SessionKey) {
        self.own = Some(key);
    }

    /// A session was stored under this key. It is kept in mind if it may end with the connection.
    pub(super) fn made(&mut self, key: SessionKey, may_end: bool) {
        if let Some(rest) = &mut self.rest {
            rest.used = None;
        }
        if may_end && self.own.is_some() {
            let others = &mut self.rest.get_or_insert_default().others;
            if others.len() >= MAX_OWN {
                others.remove(0);
            }
            others.push(key);
        } else if may_end {
            self.own = Some(key);
        }
        self.rest = self.rest.take().filter(|rest| !rest.others.is_empty());
    }

    /// Those that may end with the connection, which now do.
    pub(super) fn take(&mut self) -> impl Iterator<Item = SessionKey> + use<> {
        let others = self
            .rest
            .as_mut()
            .map(|rest| std::mem::take(&mut rest.others));
        self.own
            .take()
            .into_iter()
            .chain(others.unwrap_or_default())
    }
}
