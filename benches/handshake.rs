//! The time of a resumed handshake, client and server together on one thread.
//!
//! Short, because `report.py` runs it in many rounds, so that servers are compared within seconds: each round
//! begins with another server, which `ROUND` in the environment chooses.

#![allow(missing_docs, reason = "no public interface")]

use std::env;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

mod support;

use support::{CASES, Pair, Variant, uncounted};

fn resumed(criterion: &mut Criterion) {
    let mut servers = Variant::ALL
        .map(|variant| (variant.to_string(), variant))
        .to_vec();
    // Differences as large as that of a server to itself mean nothing.
    servers.push(("again".into(), Variant::Internal));
    let round = env::var("ROUND").map_or(0, |round| round.parse().expect("a number"));
    let first = round % servers.len();
    servers.rotate_left(first);
    for case in CASES {
        let mut group = criterion.benchmark_group(case.to_string());
        group.sample_size(10).nresamples(1_000);
        group.warm_up_time(Duration::from_millis(20));
        group.measurement_time(Duration::from_millis(100));
        for (name, variant) in &servers {
            let pair = Pair::new(*variant, case);
            let mut session = pair.full(uncounted);
            group.bench_function(name, |bencher| {
                bencher.iter(|| session = pair.resumed(&session, uncounted));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, resumed);
criterion_main!(benches);
