//! The time of a resumed handshake, client and server together on one thread.

#![allow(missing_docs, reason = "no public interface")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

mod support;

use support::{CASES, Pair, Variant, uncounted};

fn resumed(criterion: &mut Criterion) {
    for case in CASES {
        let mut group = criterion.benchmark_group(case.to_string());
        group.warm_up_time(Duration::from_secs(1));
        group.measurement_time(Duration::from_secs(3));
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
