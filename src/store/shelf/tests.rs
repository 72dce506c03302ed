use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
struct Thing {
    name: usize,
    size: usize,
    ends: u64,
}

impl Item for Thing {
    fn size(&self) -> usize {
        self.size
    }

    fn ends(&self) -> u64 {
        self.ends
    }
}

fn key(n: u8) -> SessionKey {
    // Few homes in the index, so that there are crowds.
    let mut bytes = [n; 32];
    bytes[12..16].copy_from_slice(&u32::from(n / 4).to_le_bytes());
    SessionKey::from(bytes)
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, Kind, u64),
    Get(u8),
    Supersede(u8),
    Pop(u8),
    Evict(u8),
    Sweep(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        Just(Kind::Superseded),
        Just(Kind::Fresh),
        Just(Kind::Fresh),
        Just(Kind::Used)
    ];
    prop_oneof![
        4 => (0..40_u8, kind, 1_000..3_000_u64).prop_map(|(n, kind, ends)| Step::Insert(n, kind, ends)),
        2 => (0..40_u8).prop_map(Step::Get),
        1 => (0..40_u8).prop_map(Step::Supersede),
        1 => (0..40_u8).prop_map(Step::Pop),
        1 => (0..40_u8).prop_map(Step::Evict),
        1 => (-50..400_i64).prop_map(Step::Sweep),
    ]
}

/// What a shelf does, without any of its means.
#[derive(Default)]
struct Model {
    /// In order of use.
    entries: Vec<(u8, Kind, Thing)>,
}

impl Model {
    fn pop(&mut self, n: u8) -> Option<Thing> {
        let at = self.entries.iter().position(|(key, ..)| *key == n)?;
        Some(self.entries.remove(at).2)
    }

    fn kind(&self, n: u8) -> Option<Kind> {
        let mut entries = self.entries.iter();
        entries
            .find(|(key, ..)| *key == n)
            .map(|(_, kind, _)| *kind)
    }

    fn set(&mut self, n: u8, kind: Kind) -> Option<Thing> {
        let thing = self.pop(n)?;
        self.entries.push((n, kind, thing.clone()));
        Some(thing)
    }

    fn evict(&mut self, newest: u8) -> Option<(Kind, Thing)> {
        let fresh = self
            .entries
            .iter()
            .filter(|(_, kind, _)| *kind == Kind::Fresh);
        let order = match fresh.count() * 10 > self.entries.len() {
            true => [Kind::Superseded, Kind::Fresh, Kind::Used],
            false => [Kind::Superseded, Kind::Used, Kind::Fresh],
        };
        let oldest = |kind| self.entries.iter().find(|(_, of, _)| *of == kind);
        let victim = order
            .into_iter()
            .filter_map(oldest)
            .find(|(n, ..)| *n != newest);
        let (victim, kind) = (victim?.0, victim?.1);
        Some((kind, self.pop(victim)?))
    }
}

fn sweep(shelf: &mut Shelf<Thing>, now: u64) -> Vec<Thing> {
    let mut gone = Vec::new();
    while shelf.sweep(now, &mut gone) {}
    gone
}

proptest! {
    #[test]
    fn a_shelf_does_what_its_model_does(steps in vec(step(), 1..300)) {
        let (mut shelf, mut model) = (Shelf::default(), Model::default());
        let mut now = 1_000;
        for (name, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(n, kind, ends) => {
                    let thing = Thing { name, size: name % 7, ends };
                    let replaced = model.pop(n);
                    model.entries.push((n, kind, thing.clone()));
                    prop_assert_eq!(shelf.insert(&key(n), kind, thing), replaced);
                }
                Step::Get(n) => {
                    let kind = match model.kind(n) {
                        Some(Kind::Superseded) => Kind::Superseded,
                        _ => Kind::Used,
                    };
                    let found = model.set(n, kind);
                    prop_assert_eq!(shelf.get(&key(n)).cloned(), found);
                }
                Step::Supersede(n) => {
                    let successor = match model.kind(n) {
                        Some(Kind::Superseded) => Kind::Fresh,
                        _ => Kind::Used,
                    };
                    model.set(n, Kind::Superseded);
                    prop_assert_eq!(shelf.supersede(&key(n)), successor);
                }
                Step::Pop(n) => prop_assert_eq!(shelf.pop(&key(n)), model.pop(n)),
                Step::Evict(n) => {
                    prop_assert_eq!(shelf.evict(&key(n)), model.evict(n));
                },
                Step::Sweep(seconds) => {
                    now = u64::try_from(now as i64 + seconds).unwrap_or_default();
                    let (mut ended, stay): (Vec<_>, Vec<_>) =
                        model.entries.drain(..).partition(|(_, _, thing)| thing.ends <= now);
                    model.entries = stay;
                    let mut gone = sweep(&mut shelf, now);
                    gone.sort_by_key(|thing| thing.name);
                    ended.sort_by_key(|(_, _, thing)| thing.name);
                    prop_assert_eq!(gone, ended.into_iter().map(|(.., thing)| thing).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(shelf.len(), model.entries.len());
            let bytes: usize = model.entries.iter().map(|(_, _, thing)| thing.size).sum();
            prop_assert_eq!(shelf.bytes(), bytes);
        }
        let left: HashMap<_, _> = model.entries.into_iter().map(|(n, _, thing)| (n, thing)).collect();
        for n in 0..40 {
            prop_assert_eq!(shelf.pop(&key(n)), left.get(&n).cloned());
        }
    }
}

/// So that it stops nobody for long.
#[test]
fn a_sweep_of_many_is_many_steps_that_others_may_come_between() {
    let mut shelf = Shelf::default();
    let many = |n: u32| SessionKey::derive(b"", true, &n.to_be_bytes());
    let thing = |ends| Thing {
        name: 0,
        size: 1,
        ends,
    };
    // Half of them end in that second, and the others on the same spoke.
    for n in 0..10_000 {
        let ends = if n % 2 == 0 { 1_000 } else { 1_000 + 256 };
        shelf.insert(&many(n), Kind::Fresh, thing(ends));
    }
    let mut gone = Vec::new();
    let (mut steps, mut most) = (0, 0);
    loop {
        let before = gone.len();
        let more = shelf.sweep(1_000, &mut gone);
        most = most.max(gone.len() - before);
        steps += 1;
        if !more {
            break;
        }
        shelf.pop(&many(2 * steps + 1));
        shelf.get(&many(4 * steps));
    }
    assert!(most <= 64 && steps > 100, "{most} in {steps} steps");
    assert_eq!(gone.len(), 5_000);
    assert_eq!(
        sweep(&mut shelf, 1_000 + 256).len(),
        5_000 - steps as usize + 1
    );
    assert_eq!((shelf.len(), shelf.bytes()), (0, 0));
    assert!(shelf.places.capacity() < 100, "{}", shelf.places.capacity());
}
