//! The page: what became of this connection, and of all, as JSON.

use std::fmt::Display;

use openssl::ssl::SslRef;
use openssl_resumption::{
    Handshakes, Reason, Resumption, Source, SslRefExt, Stats, StoreStats, TicketKeys, TicketStats,
};
use serde_json::{Map, Value, json};

use crate::args::Mode;
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
            "stats": stats(&self.policy.stats()),
        });
        format!("{page}\n")
    }
}

fn text(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn stats(stats: &Stats) -> Value {
    json!({
        "tls13": handshakes(stats.tls13),
        "tls12": handshakes(stats.tls12),
        "older": handshakes(stats.older),
        "full": counts(Reason::ALL, |reason| stats.full(reason)),
        "resumed": counts(Source::ALL, |source| stats.resumed(source)),
        "store": store(&stats.store),
        "tickets": tickets(&stats.tickets),
        "overridden": stats.overridden,
        "failed_closed": stats.failed_closed,
        "early_data_declined": stats.early_data_declined,
    })
}

fn handshakes(handshakes: Handshakes) -> Value {
    json!({ "full": handshakes.full, "resumed": handshakes.resumed })
}

/// A number for each of `all`, under its text.
fn counts<T: Copy + Display>(all: &[T], count: impl Fn(T) -> u64) -> Value {
    let numbers: Map<_, _> = all
        .iter()
        .map(|each| (each.to_string(), count(*each).into()))
        .collect();
    numbers.into()
}

fn store(store: &StoreStats) -> Value {
    let usage = store.usage.map(|usage| {
        json!({
            "entries": usage.entries,
            "bytes": usage.bytes,
            "evictions": usage.evictions,
            "queued": usage.queued,
            "lost": usage.lost,
            "refused": usage.refused,
        })
    });
    json!({
        "puts": store.puts,
        "hits": store.hits,
        "misses": store.misses,
        "expired": store.expired,
        "errors": store.errors,
        "slow": store.slow,
        "removed": store.removed,
        "too_large": store.too_large,
        "capped": store.capped,
        "usage": usage,
    })
}

fn tickets(tickets: &TicketStats) -> Value {
    json!({
        "sealed": tickets.sealed,
        "opened": tickets.opened,
        "unsealed": tickets.unsealed,
        "opened_inactive": tickets.opened_inactive,
        "unknown_key": tickets.unknown_key,
        "malformed": tickets.malformed,
        "key_age_seconds": tickets.key_age.map(|age| age.as_secs()),
        "key_failures": tickets.key_failures,
        "key_failing": tickets.key_failing,
    })
}
