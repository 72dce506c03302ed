//! What a recorder of the `metrics` facade gets to see.

#![cfg(feature = "metrics")]

use std::collections::BTreeMap;

use std::time::Duration;

use crate::common::*;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use openssl_resumption::{
    CircuitBreaker, EarlyData, MemoryStore, Resumption, Session, SessionKey, SessionStore,
    StoreError, TicketKeys, WriteBehind, metrics::*,
};

struct Recorded {
    help: String,
    value: f64,
}

/// What has been recorded, by name and labels in Prometheus' style.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, Recorded> {
    let all = snapshotter.snapshot().into_vec().into_iter();
    all.map(|(key, _, help, value)| {
        let key = key.key();
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={:?}", label.key(), label.value()))
            .collect();
        let value = match value {
            DebugValue::Counter(n) => n as f64,
            DebugValue::Gauge(n) => n.into_inner(),
            DebugValue::Histogram(_) => panic!("{key}: no histogram is promised"),
        };
        let name = match labels.as_slice() {
            [] => key.name().to_owned(),
            some => format!("{}{{{}}}", key.name(), some.join(",")),
        };
        let help = help.expect("a description").into_owned();
        (name, Recorded { help, value })
    })
    .collect()
}

/// The recorder is for the whole process, because servers run on threads of their own.
#[test]
fn each_handshake_is_counted_under_its_labels() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    let mut seen = 0;
    for (_, policy) in modes() {
        let policy = policy.on_outcome(count);
        let context = context(&policy);
        for kind in Kind::ALL {
            meet_twice(&context, &Client::new(kind).unwrap());
            seen += 2;
        }
        publish(&policy.stats());
    }
    let handshakes: BTreeMap<_, _> = recorded(&snapshotter)
        .into_iter()
        .filter_map(|(key, recorded)| {
            let labels = key.strip_prefix("tls_resumption_handshakes_total")?;
            Some((labels.to_owned(), recorded.value))
        })
        .collect();
    assert_eq!(handshakes.values().sum::<f64>(), f64::from(seen));
    // Two of TLS 1.2's kinds: without tickets the stateless mode has nothing that it could resume.
    let expected = [
        ("TLSv1.2", "full", "nothing_offered", 7.),
        ("TLSv1.2", "full", "off", 4.),
        ("TLSv1.2", "resumed", "store", 3.),
        ("TLSv1.2", "resumed", "ticket", 2.),
        ("TLSv1.3", "full", "nothing_offered", 3.),
        ("TLSv1.3", "full", "off", 2.),
        ("TLSv1.3", "resumed", "store", 1.),
        ("TLSv1.3", "resumed", "ticket", 2.),
    ];
    let expected: BTreeMap<_, _> = expected
        .map(|(version, outcome, cause, n)| {
            let labels = format!("{{version={version:?},outcome={outcome:?},cause={cause:?}}}");
            (labels, n)
        })
        .into();
    assert_eq!(handshakes, expected);
}

/// Of a row of the documentation: it says which.
fn has_labels(text: &str) -> bool {
    text.starts_with('`')
}

#[test]
fn statistics_are_published_under_the_names_in_the_documentation() {
    let policy = Resumption::hybrid(MemoryStore::default(), TicketKeys::random());
    let context = context(&policy);
    for kind in Kind::ALL {
        meet_twice(&context, &Client::new(kind).unwrap());
    }
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let stats = policy.stats();
    metrics::with_local_recorder(&recorder, || publish(&stats));
    let published = recorded(&snapshotter);

    // The rows of the tables that have a name and a text.
    let documented: BTreeMap<_, _> = include_str!("../../src/metrics.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.strip_suffix(" |"))
        .filter_map(|row| row.split_once("` | "))
        .filter(|(_, text)| !has_labels(text))
        .map(|(name, text)| (name, text.replace('`', "")))
        .collect();
    let early = "tls_resumption_early_data_total";
    for kind in EarlyData::ALL {
        let result = kind.as_str().replace(' ', "_");
        let recorded = &published[&format!("{early}{{result={result:?}}}")];
        assert_eq!(recorded.help, "early data that clients offered");
        assert_eq!(recorded.value, stats.early_data(*kind) as f64);
    }
    let described: BTreeMap<_, _> = published
        .iter()
        .filter(|(name, _)| !name.starts_with(early))
        .map(|(name, recorded)| (name.as_str(), recorded.help.clone()))
        .collect();
    assert_eq!(described, documented);
    let value = |name: &str| published[&format!("tls_resumption_{name}")].value;

    let usage = stats.store.usage.unwrap();
    for (name, counted) in [
        ("store_puts_total", stats.store.puts),
        ("store_hits_total", stats.store.hits),
        ("store_entries", usage.entries),
        ("store_bytes", usage.bytes),
        ("tickets_sealed_total", stats.tickets.sealed),
        ("tickets_opened_total", stats.tickets.opened),
    ] {
        assert!(counted > 0, "{name}");
        assert_eq!(value(name), counted as f64, "{name}");
    }
    let age = stats.tickets.key_age.unwrap().as_secs_f64();
    assert_eq!(value("ticket_key_age_seconds"), age);
    assert_eq!(value("ticket_key_failing"), 0.);
}

/// A store on a network that is down.
struct Down;

impl SessionStore for Down {
    fn put(&self, _: &SessionKey, _: Session) -> Result<(), StoreError> {
        Err(StoreError::new("connection refused"))
    }
    fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
        Err(StoreError::new("connection refused"))
    }
    fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
        Err(StoreError::new("connection refused"))
    }
}

/// What `GUIDE.md` says to alert on.
fn alerts() -> Vec<&'static str> {
    let guide = include_str!("../../GUIDE.md");
    let (_, graphs) = guide.split_once("### Graphs").unwrap();
    let (_, alert) = graphs.split_once("Alert when one of these grows:").unwrap();
    let (alert, _) = alert.split_once(". ").unwrap();
    let quoted = alert.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.starts_with("tls_")).collect()
}

/// Behind `WriteBehind` no write of a handshake fails, and behind a `CircuitBreaker` no lookup does: the errors
/// of handshakes stand still.
#[test]
fn what_the_guide_alerts_on_moves_while_the_store_is_down() {
    let store = WriteBehind::new(CircuitBreaker::new(Down).failures(1));
    let store = std::sync::Arc::new(store);
    // It has been down for a while when the first client comes.
    let key = SessionKey::from([1; 32]);
    store.get(&key).unwrap_err();
    let policy = Resumption::stateful(std::sync::Arc::clone(&store));
    let context = context(&policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let published = || {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || publish(&policy.stats()));
        recorded(&snapshotter)
    };
    let before = published();
    meet_twice(&context, &client);
    assert_eq!(store.flush(Duration::from_secs(20)), 0);
    let after = published();

    assert_eq!(policy.stats().store.errors, 0);
    assert!(alerts().iter().all(|name| after.contains_key(*name)));
    let moved = |name: &&&str| after[**name].value > before[**name].value;
    assert!(alerts().iter().filter(moved).count() > 0, "{:?}", alerts());
}
