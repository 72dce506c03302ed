//! The time of a resumed handshake, client and server together on one thread.

#![allow(missing_docs, reason = "no public interface")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

mod support;

use support::{CASES, Pair, Variant, uncounted};

fn resumed(criterion: &mut Criterion) {
    for case in CASES {
        let mut group = criterion.benchmark_group(case.to_string());
        // Short: `report.py` runs all of them many times, so that servers are compared within seconds.
        group.sample_size(10).nresamples(1_000);
        group.warm_up_time(Duration::from_millis(20));
        group.measurement_time(Duration::from_millis(100));
        for variant in Variant::ALL {
            let pair = Pair::new(variant, case);
            let mut session = pair.full(uncounted);
            group.bench_function(variant.to_string(), |bencher| {
                bencher.iter(|| session = pair.resumed(&session, uncounted));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, resumed);
criterion_main!(benches);
