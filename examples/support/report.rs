//! The statistics of a policy as JSON.

use std::fmt::Display;

use openssl_resumption::{EarlyData, Handshakes, Reason, Source, Stats, StoreStats, TicketStats};
use serde_json::{Map, Value, json};

pub(crate) fn text(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

pub(crate) fn stats(stats: &Stats) -> Value {
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
        "early_data": counts(EarlyData::ALL, |early| stats.early_data(early)),
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
            "expired": usage.expired,
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
        "late": store.late,
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
        "capped": tickets.capped,
        "key_age_seconds": tickets.key_age.map(|age| age.as_secs()),
        "key_failures": tickets.key_failures,
        "key_failing": tickets.key_failing,
    })
}
