//! How many resumptions a full store leaves to clients of different habits, beside a plain LRU.

use openssl_resumption::{Session, SessionKey};

use crate::{Store, key, next};

/// Entries of the stores.
pub const ROOM: usize = 20_000;

/// Who comes, in a step.
struct Mix {
    name: &'static str,
    clients: usize,
    /// Whether some are much more frequent than others, or they come in turn.
    skewed: bool,
    /// Visits of one more client, each with its newest session.
    busy: usize,
    /// New sessions that nobody will resume, once each client has come twice.
    strangers: usize,
}

const MIXES: [Mix; 6] = [
    Mix::of("19,800 clients in turn", 19_800, false, 0, 0),
    Mix::of(
        "10,000 in turn, and for each ten visits of one more",
        10_000,
        false,
        10,
        0,
    ),
    Mix::of(
        "15,000 in turn, then for each two strangers",
        15_000,
        false,
        0,
        2,
    ),
    Mix::of(
        "100,000, the n-th most frequent as often as 1/n",
        100_000,
        true,
        0,
        0,
    ),
    Mix::of("the same, then for each two strangers", 100_000, true, 0, 2),
    Mix::of("30,000 in turn", 30_000, false, 0, 0),
];

impl Mix {
    const fn of(
        name: &'static str,
        clients: usize,
        skewed: bool,
        busy: usize,
        strangers: usize,
    ) -> Self {
        Self {
            name,
            clients,
            skewed,
            busy,
            strangers,
        }
    }
}

/// Prints, for each mix and version, what part of the clients' visits resumes once the store is full.
pub fn mixes<S: Store>(name: &str, record: &Session, make: impl Fn() -> S) {
    for mix in &MIXES {
        for (version, successors) in [("TLS 1.2", false), ("TLS 1.3", true)] {
            let store = make();
            let hits = Visits::new(&store, record, successors).of(mix);
            println!("{name},\"{}\",{version},{hits:.1}", mix.name);
        }
    }
}

struct Visits<'a, S> {
    store: &'a S,
    record: &'a Session,
    successors: bool,
    sessions: usize,
}

impl<'a, S: Store> Visits<'a, S> {
    fn new(store: &'a S, record: &'a Session, successors: bool) -> Self {
        Self {
            store,
            record,
            successors,
            sessions: 0,
        }
    }

    fn new_key(&mut self) -> SessionKey {
        self.sessions += 1;
        key(self.sessions)
    }

    /// A client comes back with a session, or without. Whether it resumes.
    fn visit(&mut self, has: &mut Option<SessionKey>) -> bool {
        let found = has.filter(|has| self.store.lookup(has).is_some());
        match found {
            Some(_) if !self.successors => {}
            Some(used) => {
                let new = *has.insert(self.new_key());
                self.store.succeed(&new, self.record.clone(), &used);
            }
            None => {
                let new = *has.insert(self.new_key());
                self.store.insert(&new, self.record.clone());
            }
        }
        found.is_some()
    }

    /// In percent.
    fn of(&mut self, mix: &Mix) -> f64 {
        let mut clients = vec![None; mix.clients];
        let (mut busy, mut random) = (None, 1);
        let (mut visits, mut hits) = (0, 0);
        let steps = 12 * mix.clients;
        for step in 0..steps {
            let client = if mix.skewed {
                random = next(random);
                // The logarithm of such a rank is even.
                let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
                ((mix.clients as f64).powf(part) as usize).min(mix.clients - 1)
            } else {
                step % mix.clients
            };
            let hit = self.visit(&mut clients[client]);
            for _ in 0..mix.busy {
                self.visit(&mut busy);
            }
            if step >= 2 * mix.clients {
                for _ in 0..mix.strangers {
                    self.visit(&mut None);
                }
            }
            if step >= steps / 2 {
                visits += 1;
                hits += usize::from(hit);
            }
        }
        100.0 * hits as f64 / visits as f64
    }
}
