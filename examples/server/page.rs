//! The page: what became of this connection, and of all, as JSON.

use openssl::ssl::SslRef;
use openssl_resumption::{Resumption, SslRefExt, TicketKeys};
use serde_json::json;

use crate::options::Mode;
use crate::report::{self, text};
use crate::vhosts;

pub(crate) struct Page {
    mode: Mode,
    policy: Resumption,
    keys: TicketKeys,
}

impl Page {
    pub(crate) fn new(mode: Mode, policy: Resumption, keys: TicketKeys) -> Self {
        Self { mode, policy, keys }
    }

    /// The page for one connection, whose handshake is complete.
    pub(crate) fn json(&self, ssl: &SslRef) -> String {
        let outcome = ssl.resumption();
        let reason = outcome.and_then(|outcome| outcome.reason());
        let source = outcome.and_then(|outcome| outcome.source());
        let page = json!({
            "mode": self.mode.name(),
            "version": ssl.version_str(),
            "resumed": outcome.is_some_and(|outcome| outcome.is_resumed()),
            "outcome": text(outcome),
            "reason": text(reason),
            "source": text(source),
            "authenticated": ssl.peer_certificate().is_some(),
            "server_name": vhosts::server_name(ssl),
            "key_error": text(self.keys.last_error()),
            "key_warning": self.keys.last_warning(),
            "store_error": self.policy.last_store_error(),
            "stats": report::stats(&self.policy.stats()),
        });
        format!("{page}\n")
    }
}
