//! Metrics through the [`metrics`](https://docs.rs/metrics) facade, for Prometheus or whatever its
//! recorder exports to.
//!
//! ```
//! use openssl_resumption::{MemoryStore, Resumption, metrics};
//!
//! let policy = Resumption::stateful(MemoryStore::default()).on_outcome(metrics::count);
//!
//! // And before each export, or every few seconds:
//! metrics::publish(&policy.stats());
//! ```
//!
//! [`count`] counts each handshake as it completes, of all policies that it is a hook of:
//!
//! | counter | labels |
//! |---|---|
//! | `tls_resumption_handshakes_total` | `version`: `TLSv1.3`, `TLSv1.2`, `TLSv1.1`, `TLSv1`, `DTLSv1.2`, `DTLSv1` or `unknown`; `outcome`: `full` or `resumed`; `cause`: of a full handshake the [`Reason`](crate::Reason), of a resumed one the [`Source`](crate::Source), with `_` for blanks |
//!
//! So these are two of its series, 80 at most, and the share of handshakes that resume:
//!
//! ```text
//! tls_resumption_handshakes_total{version="TLSv1.3",outcome="resumed",cause="ticket"}
//! tls_resumption_handshakes_total{version="TLSv1.2",outcome="full",cause="nothing_offered"}
//!
//! sum(rate(tls_resumption_handshakes_total{outcome="resumed"}[5m]))
//!   / sum(rate(tls_resumption_handshakes_total[5m]))
//! ```
//!
//! [`publish`] sets the others to what [`Stats`] says, and describes them all. One has a label:
//!
//! | counter | labels |
//! |---|---|
//! | `tls_resumption_early_data_total` | `result`: of early data that a client offered, an [`EarlyData`] with `_` for blanks |
//!
//! These have none:
//!
//! | counter | |
//! |---|---|
//! | `tls_resumption_store_puts_total` | sessions stored |
//! | `tls_resumption_store_hits_total` | lookups that found a session |
//! | `tls_resumption_store_misses_total` | lookups that found none |
//! | `tls_resumption_store_expired_total` | lookups that found a session past its end |
//! | `tls_resumption_store_errors_total` | calls of the store that failed |
//! | `tls_resumption_store_slow_total` | calls of the store that took 10 ms or longer |
//! | `tls_resumption_store_removed_total` | sessions removed |
//! | `tls_resumption_store_late_total` | lookups of suspended handshakes that missed their deadline |
//! | `tls_resumption_store_too_large_total` | sessions not stored because of their size |
//! | `tls_resumption_store_capped_total` | lookups not made, because of four others in the handshake |
//! | `tls_resumption_store_evictions_total` | sessions dropped because the store was full |
//! | `tls_resumption_store_expirations_total` | sessions dropped because they had ended |
//! | `tls_resumption_store_lost_total` | writes that were put off and then lost |
//! | `tls_resumption_store_refused_total` | calls not made, because the store had failed too often |
//! | `tls_resumption_tickets_sealed_total` | tickets sealed |
//! | `tls_resumption_tickets_unsealed_total` | tickets not sealed, for want of a key |
//! | `tls_resumption_tickets_opened_total` | handshakes whose ticket was opened |
//! | `tls_resumption_tickets_opened_inactive_total` | those of them under a key that is not the active one |
//! | `tls_resumption_tickets_unknown_key_total` | handshakes whose ticket was under a key that is not known |
//! | `tls_resumption_tickets_malformed_total` | handshakes whose ticket was damaged or forged |
//! | `tls_resumption_tickets_capped_total` | tickets not opened, because of four others in the handshake |
//! | `tls_resumption_certificate_verifications_total` | client certificates that were verified again |
//! | `tls_resumption_certificate_untrusted_total` | sessions declined because their client certificate did not pass |
//! | `tls_resumption_session_data_failures_total` | calls of the hook for session data that failed |
//! | `tls_resumption_ticket_key_failures_total` | how often the source gave no ticket keys |
//! | `tls_resumption_overridden_total` | settings of contexts changed after `set_resumption` |
//! | `tls_resumption_failed_closed_total` | connections failed, because what they resumed lacks what is demanded, or was not checked |
//!
//! | gauge | |
//! |---|---|
//! | `tls_resumption_store_entries` | sessions in the store |
//! | `tls_resumption_store_bytes` | bytes in the store |
//! | `tls_resumption_store_queued` | writes that wait to be done |
//! | `tls_resumption_certificate_verdicts` | verdicts on client certificates that are remembered |
//! | `tls_resumption_certificate_chain_bytes` | bytes of memory of the intermediates that clients sent |
//! | `tls_resumption_ticket_key_age_seconds` | how long the active ticket key has been sealing |
//! | `tls_resumption_ticket_key_failing` | 1 if the source gave no keys when it was asked last, else 0 |
//!
//! What to alert on is in the [guide](crate::guide#graphs).
//!
//! What a store does not say of itself stays unset; so does the age of a key where there is none,
//! and if there is none any more, it stays as it was.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::outcome::{EarlyData, Handshake, Outcome};
use crate::policy::Stats;
use crate::store::Usage;

const HANDSHAKES: &str = "tls_resumption_handshakes_total";
const EARLY_DATA: &str = "tls_resumption_early_data_total";

/// Counts the outcome of a handshake: a hook for [`on_outcome`](crate::Resumption::on_outcome), or
/// part of one.
pub fn count(outcome: &Outcome) {
    let (kind, cause) = match outcome.handshake {
        Handshake::Full(reason) => ("full", reason.as_str()),
        Handshake::Resumed(source) => ("resumed", source.as_str()),
    };
    let cause = cause.replace(' ', "_");
    let version = outcome.version_str();
    counter!(HANDSHAKES, "version" => version, "outcome" => kind, "cause" => cause).increment(1);
}

/// Sets counters and gauges to what a policy has counted.
///
/// They have no label that says which policy, so publish one: of two, counters would show the larger
/// numbers and gauges the last.
pub fn publish(stats: &Stats) {
    describe_counter!(HANDSHAKES, Unit::Count, "completed handshakes");
    for (name, help, value) in counters(stats) {
        describe_counter!(name, Unit::Count, help);
        if let Some(value) = value {
            counter!(name).absolute(value);
        }
    }
    describe_counter!(EARLY_DATA, Unit::Count, "early data that clients offered");
    for early in EarlyData::ALL {
        let result = early.as_str().replace(' ', "_");
        counter!(EARLY_DATA, "result" => result).absolute(stats.early_data(*early));
    }
    for (name, unit, help, value) in gauges(stats) {
        describe_gauge!(name, unit, help);
        if let Some(value) = value {
            gauge!(name).set(value);
        }
    }
}

type CounterRow = (&'static str, &'static str, Option<u64>);

#[rustfmt::skip] // a table
fn counters(stats: &Stats) -> [CounterRow; 27] {
    let (store, tickets) = (&stats.store, &stats.tickets);
    let usage = |of: fn(Usage) -> u64| store.usage.map(of);
    [
        ("tls_resumption_store_puts_total", "sessions stored", Some(store.puts)),
        ("tls_resumption_store_hits_total", "lookups that found a session", Some(store.hits)),
        ("tls_resumption_store_misses_total", "lookups that found none", Some(store.misses)),
        ("tls_resumption_store_expired_total", "lookups that found a session past its end", Some(store.expired)),
        ("tls_resumption_store_errors_total", "calls of the store that failed", Some(store.errors)),
        ("tls_resumption_store_slow_total", "calls of the store that took 10 ms or longer", Some(store.slow)),
        ("tls_resumption_store_removed_total", "sessions removed", Some(store.removed)),
        ("tls_resumption_store_late_total", "lookups of suspended handshakes that missed their deadline", Some(store.late)),
        ("tls_resumption_store_too_large_total", "sessions not stored because of their size", Some(store.too_large)),
        ("tls_resumption_store_capped_total", "lookups not made, because of four others in the handshake", Some(store.capped)),
        ("tls_resumption_store_evictions_total", "sessions dropped because the store was full", usage(|usage| usage.evictions)),
        ("tls_resumption_store_expirations_total", "sessions dropped because they had ended", usage(|usage| usage.expired)),
        ("tls_resumption_store_lost_total", "writes that were put off and then lost", usage(|usage| usage.lost)),
        ("tls_resumption_store_refused_total", "calls not made, because the store had failed too often", usage(|usage| usage.refused)),
        ("tls_resumption_tickets_sealed_total", "tickets sealed", Some(tickets.sealed)),
        ("tls_resumption_tickets_unsealed_total", "tickets not sealed, for want of a key", Some(tickets.unsealed)),
        ("tls_resumption_tickets_opened_total", "handshakes whose ticket was opened", Some(tickets.opened)),
        ("tls_resumption_tickets_opened_inactive_total", "those of them under a key that is not the active one", Some(tickets.opened_inactive)),
        ("tls_resumption_tickets_unknown_key_total", "handshakes whose ticket was under a key that is not known", Some(tickets.unknown_key)),
        ("tls_resumption_tickets_malformed_total", "handshakes whose ticket was damaged or forged", Some(tickets.malformed)),
        ("tls_resumption_tickets_capped_total", "tickets not opened, because of four others in the handshake", Some(tickets.capped)),
        ("tls_resumption_certificate_verifications_total", "client certificates that were verified again", Some(stats.certificates.verifications)),
        ("tls_resumption_certificate_untrusted_total", "sessions declined because their client certificate did not pass", Some(stats.certificates.untrusted)),
        ("tls_resumption_session_data_failures_total", "calls of the hook for session data that failed", Some(stats.certificates.data_failures)),
        ("tls_resumption_ticket_key_failures_total", "how often the source gave no ticket keys", Some(tickets.key_failures)),
        ("tls_resumption_overridden_total", "settings of contexts changed after set_resumption", Some(stats.overridden)),
        ("tls_resumption_failed_closed_total", "connections failed, because what they resumed lacks what is demanded, or was not checked", Some(stats.failed_closed)),
    ]
}

type GaugeRow = (&'static str, Unit, &'static str, Option<f64>);

#[rustfmt::skip] // a table
fn gauges(stats: &Stats) -> [GaugeRow; 7] {
    let usage = |of: fn(Usage) -> u64| stats.store.usage.map(|usage| of(usage) as f64);
    let failing = f64::from(u8::from(stats.tickets.key_failing));
    let age = stats.tickets.key_age.map(|age| age.as_secs_f64());
    [
        ("tls_resumption_store_entries", Unit::Count, "sessions in the store", usage(|usage| usage.entries)),
        ("tls_resumption_store_bytes", Unit::Bytes, "bytes in the store", usage(|usage| usage.bytes)),
        ("tls_resumption_store_queued", Unit::Count, "writes that wait to be done", usage(|usage| usage.queued)),
        ("tls_resumption_certificate_verdicts", Unit::Count, "verdicts on client certificates that are remembered", Some(stats.certificates.verdicts as f64)),
        ("tls_resumption_certificate_chain_bytes", Unit::Bytes, "bytes of memory of the intermediates that clients sent", Some(stats.certificates.chain_bytes as f64)),
        ("tls_resumption_ticket_key_age_seconds", Unit::Seconds, "how long the active ticket key has been sealing", age),
        ("tls_resumption_ticket_key_failing", Unit::Count, "1 if the source gave no keys when it was asked last, else 0", Some(failing)),
    ]
}
