//! All short rows of operations, with the thread that writes held in each place.

use std::thread;

use openssl_resumption::SessionStore;

use super::held::*;
use super::{Phase, found, settled, take, with_put};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Put,
    Get,
    Take,
    Remove,
}

const OPS: [Op; 4] = [Op::Put, Op::Get, Op::Take, Op::Remove];

#[test]
fn every_row_of_operations_is_answered_as_if_written_at_once() {
    for phase in Phase::ALL {
        for row in 0..64 {
            check(phase, [row / 16, row / 4 % 4, row % 4].map(|n| OPS[n]));
        }
    }
}

fn check(phase: Phase, row: [Op; 3]) {
    let (held, store) = with_put(phase);
    let mut stored = Some(1);
    // Whether what is stored is just being written, so that who takes it waits.
    let mut is_writing = matches!(phase, Phase::Writing(_));
    for (i, op) in row.into_iter().enumerate() {
        let what = format!("{phase:?}, {row:?}, operation {i}");
        match op {
            Op::Put => {
                let n = 10 + i as u8;
                store.put(&key(0), session(n)).unwrap();
                stored = Some(n);
            }
            Op::Get => assert_eq!(found(store.get(&key(0))), stored, "{what}"),
            Op::Take if is_writing => thread::scope(|scope| {
                let taker = scope.spawn(|| take(&store, key(0)));
                held.release();
                assert_eq!(taker.join().unwrap(), stored.take(), "{what}");
            }),
            Op::Take => assert_eq!(take(&store, key(0)), stored.take(), "{what}"),
            Op::Remove => {
                store.remove(&key(0)).unwrap();
                stored = None;
            }
        }
        is_writing &= op == Op::Get;
    }
    settled(&held, &store);
    assert_eq!(found(held.get(&key(0))), stored, "{phase:?}, {row:?}");
    assert_eq!(store.usage().unwrap().lost, 1_000, "{phase:?}, {row:?}");
}
