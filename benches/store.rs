//! Stores of sessions: time, pauses and memory, beside a plain map behind a lock and OpenSSL's own
//! cache. Writes lines for `report.py`.
//!
//! The sessions are of TLS 1.3, without a client certificate, each under a key of its own.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "no public interface"
)]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use openssl::sha::sha256;
use openssl::ssl::{SslContext, SslMethod, SslOptions, SslSession, SslSessionCacheMode};
use openssl_resumption::{
    MemoryStore, Resumption, Session, SessionKey, SessionStore, SslContextBuilderExt,
};

#[path = "../examples/support/measure.rs"]
mod measure;
#[path = "support/mixes.rs"]
mod mixes;
mod support;

use measure::{Last, allocated};
use mixes::{ROOM, mixes};
use support::{Case, Kind, Pair, uncounted};

/// What is measured.
trait Store: Sync {
    fn insert(&self, key: &SessionKey, session: Session);
    fn lookup(&self, key: &SessionKey) -> Option<Session>;
    /// A client that has resumed the session under `used` gets this one.
    fn succeed(&self, key: &SessionKey, session: Session, used: &SessionKey) {
        let _ = used;
        self.insert(key, session);
    }
    fn entries(&self) -> usize;
}

impl Store for MemoryStore {
    fn insert(&self, key: &SessionKey, session: Session) {
        self.put(key, session).expect("this store has no errors");
    }

    fn lookup(&self, key: &SessionKey) -> Option<Session> {
        self.get(key).expect("this store has no errors")
    }

    fn succeed(&self, key: &SessionKey, session: Session, used: &SessionKey) {
        let put = self.put_successor(key, session, used);
        put.expect("this store has no errors");
    }

    fn entries(&self) -> usize {
        self.usage().expect("this store counts").entries as usize
    }
}

/// What a server writes by hand.
type Plain = Mutex<LruCache<SessionKey, Session>>;

impl Store for Plain {
    fn insert(&self, key: &SessionKey, session: Session) {
        self.lock()
            .expect("no panic under this lock")
            .put(*key, session);
    }

    fn lookup(&self, key: &SessionKey) -> Option<Session> {
        self.lock()
            .expect("no panic under this lock")
            .get(key)
            .cloned()
    }

    fn entries(&self) -> usize {
        self.lock().expect("no panic under this lock").len()
    }
}

/// Without arguments the times; `mixes`: what resumes; `ends`: the pauses while many sessions end.
fn main() {
    let record = record();
    match std::env::args().nth(1).as_deref() {
        Some("mixes") => return resumptions(&record),
        Some("ends") => return ends(&record),
        _ => {}
    }
    println!(
        "store,sessions,insert ns,lookup ns,pair ns,pair ns of 2 threads,eviction ns,p99.9 ns,worst us,worst of all us,bytes each"
    );
    for sessions in [100_000, 1_000_000] {
        let eviction = measure("**MemoryStore**", sessions, &record, || {
            MemoryStore::new(sessions, usize::MAX)
        });
        machine(sessions, eviction);
        measure("`Mutex<LruCache>`", sessions, &record, || plain(sessions));
        internal(sessions);
    }
}

fn plain(capacity: usize) -> Plain {
    let capacity = NonZeroUsize::new(capacity).expect("not none");
    Mutex::new(LruCache::new(capacity))
}

fn resumptions(record: &Session) {
    println!("store,clients,version,percent");
    mixes("**MemoryStore**", record, || {
        MemoryStore::new(ROOM, usize::MAX)
    });
    mixes("`Mutex<LruCache>`", record, || plain(ROOM));
}

/// A million sessions that end in the same second, while one thread goes on to store and to look up; beside the
/// same thread while nothing ends.
fn ends(record: &Session) {
    const SESSIONS: usize = 1_000_000;
    println!("sessions that end at once,seconds,calls,p99.9 us,p99.99 us,worst us");
    let lifetime = Duration::from_secs(12);
    for ended in [0, SESSIONS] {
        let store = MemoryStore::new(2 * SESSIONS, usize::MAX);
        let end = SystemTime::now() + lifetime;
        let bytes = [
            &[1],
            &seconds(end).to_be_bytes()[..],
            &record.as_bytes()[9..],
        ]
        .concat();
        let ending = Session::from_bytes(&bytes).expect("a record");
        for n in 0..ended {
            Store::insert(&store, &key(n), ending.clone());
        }
        for n in SESSIONS..SESSIONS + 10_000 {
            Store::insert(&store, &key(n), record.clone());
        }
        // The thread that takes out what has ended looks every five seconds.
        let until = end + Duration::from_secs(10);
        let mut pauses = Vec::new();
        for n in (SESSIONS..SESSIONS + 10_000).cycle() {
            let start = Instant::now();
            Store::insert(&store, &key(n), record.clone());
            drop(black_box(store.lookup(&key(n))));
            pauses.push(start.elapsed());
            if pauses.len() % 1024 == 0 && SystemTime::now() > until {
                break;
            }
        }
        assert_eq!(store.entries(), 10_000, "all that have ended are gone");
        pauses.sort_unstable();
        let calls = pauses.len();
        let micros = |at: usize| pauses[calls - 1 - at].as_nanos() as f64 / 1e3;
        let (most, more, worst) = (micros(calls / 1_000), micros(calls / 10_000), micros(0));
        println!(
            "{ended},{},{calls},{most:.1},{more:.1},{worst:.0}",
            lifetime.as_secs() + 10
        );
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// A record as the library makes it.
fn record() -> Session {
    let last = Arc::new(Last::default());
    let policy = Resumption::stateful(Arc::clone(&last));
    let pair = Pair::with(Case(Kind::Tls13, false), |builder| {
        builder
            .set_resumption(&policy)
            .expect("a policy that works");
        Ok(())
    });
    pair.full(uncounted);
    last.record()
}

/// A session as OpenSSL writes it.
fn der() -> Vec<u8> {
    let der = Arc::new(Mutex::new(Vec::new()));
    let last = Arc::clone(&der);
    let pair = Pair::with(Case(Kind::Tls13, false), |builder| {
        builder.set_options(SslOptions::NO_TICKET);
        builder.set_new_session_callback(move |_, session| {
            *last.lock().expect("no panic under this lock") = session.to_der().expect("its DER");
        });
        builder.set_session_id_context(b"benchmark")
    });
    pair.full(uncounted);
    let der = der.lock().expect("no panic under this lock");
    der.clone()
}

fn key(n: usize) -> SessionKey {
    sha256(&n.to_be_bytes()).into()
}

fn per(start: Instant, times: usize) -> u128 {
    start.elapsed().as_nanos() / times as u128
}

/// Returns the nanoseconds of an eviction.
fn measure<S: Store>(name: &str, sessions: usize, record: &Session, make: impl Fn() -> S) -> u128 {
    let keys: Vec<_> = (0..11 * sessions).map(key).collect();
    let before = allocated();
    let store = make();
    let start = Instant::now();
    keys[..sessions]
        .iter()
        .for_each(|key| store.insert(key, record.clone()));
    let insert = per(start, sessions);
    // Not of all: some of its shards are full before the others.
    let bytes = (allocated() - before) / store.entries();

    let mut back = keys[..sessions].to_vec();
    shuffle(&mut back);
    let start = Instant::now();
    back.iter()
        .for_each(|key| drop(black_box(store.lookup(key))));
    let lookup = per(start, sessions);
    let one = pairs(&store, &back, record, 1);
    let two = pairs(&store, &back, record, 2);

    let insert_one = |key| {
        let session = record.clone();
        let start = Instant::now();
        store.insert(key, session);
        start.elapsed()
    };
    let [eviction, most, worst, ever] =
        pauses(|| keys[sessions..].iter().map(insert_one).collect());
    println!(
        "{name},{sessions},{insert},{lookup},{one},{two},{eviction},{most},{worst},{ever},{bytes}"
    );
    eviction
}

/// What the machine does to a walk at random through as much memory as the store takes, each stretch of which
/// takes as long as an eviction.
fn machine(sessions: usize, eviction: u128) {
    let mut memory = vec![1_u64; sessions * 32];
    let mut random = 1;
    let mut walk = || {
        let start = Instant::now();
        while start.elapsed().as_nanos() < eviction {
            random = next(random);
            let at = (random >> 33) as usize % memory.len();
            memory[at] += 1;
        }
        start.elapsed()
    };
    let [average, most, worst, ever] = pauses(|| (0..10 * sessions).map(|_| walk()).collect());
    println!("a walk in memory,{sessions},,,,,{average},{most},{worst},{ever},");
}

/// Knuth's linear congruential generator, whose high bits are the better ones.
fn next(random: u64) -> u64 {
    random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}

/// Average and p99.9, in nanoseconds, and the worst, in microseconds, of ten capacities, each the median of
/// three runs; and the worst of all three, as a table may be tidied once in thirty capacities.
fn pauses(mut run: impl FnMut() -> Vec<Duration>) -> [u128; 4] {
    let runs = [(); 3].map(|()| {
        let mut pauses = run();
        let average = pauses.iter().sum::<Duration>() / pauses.len() as u32;
        pauses.sort_unstable();
        let most = pauses[pauses.len() - pauses.len() / 1000];
        let worst = pauses.last().expect("some");
        [average.as_nanos(), most.as_nanos(), worst.as_micros()]
    });
    let sorted = |figure: usize| {
        let mut figures = runs.map(|run| run[figure]);
        figures.sort_unstable();
        figures
    };
    let worst = sorted(2);
    [sorted(0)[1], sorted(1)[1], worst[1], worst[2]]
}

/// Clients do not come back in the order in which they came, which is that of the sessions in memory.
fn shuffle(keys: &mut [SessionKey]) {
    let mut random = 1_u64;
    for i in (1..keys.len()).rev() {
        random = next(random);
        keys.swap(i, (random >> 33) as usize % (i + 1));
    }
}

/// The time of a pair, one insertion and one lookup, when so many threads do them at once; the
/// median of five runs.
fn pairs<S: Store>(store: &S, keys: &[SessionKey], record: &Session, threads: usize) -> u128 {
    let sessions = keys.len();
    let mut runs = [0; 5];
    for run in &mut runs {
        let barrier = Barrier::new(threads);
        let work = |keys: &[SessionKey]| {
            barrier.wait();
            let start = Instant::now();
            for key in keys {
                store.insert(key, record.clone());
                drop(black_box(store.lookup(key)));
            }
            (start, Instant::now())
        };
        *run = thread::scope(|scope| {
            let work = &work;
            let workers: Vec<_> = keys
                .chunks(sessions.div_ceil(threads))
                .map(|keys| scope.spawn(move || work(keys)))
                .collect();
            let times = workers.into_iter().map(|worker| worker.join());
            let (starts, ends): (Vec<_>, Vec<_>) = times.map(|t| t.expect("no panic")).unzip();
            let start = starts.into_iter().min().expect("a worker");
            let end = ends.into_iter().max().expect("a worker");
            (end - start).as_nanos() / sessions as u128
        });
    }
    runs.sort_unstable();
    runs[2]
}

/// OpenSSL's cache, which can be looked up in a handshake only.
fn internal(sessions: usize) {
    let der = der();
    let at = der
        .windows(2)
        .position(|w| w == [4, 32])
        .expect("an id of 32 bytes")
        + 2;
    let mut builder = SslContext::builder(SslMethod::tls_server()).expect("a context");
    builder.set_session_cache_mode(SslSessionCacheMode::SERVER);
    // Sessions count before one makes room for them.
    builder.set_session_cache_size(i32::try_from(sessions + 1).expect("a small number"));
    let context = builder.build();
    let session = |n: usize| {
        let mut der = der.clone();
        der[at..at + 32].copy_from_slice(key(n).as_bytes());
        SslSession::from_der(&der).expect("a session")
    };
    let before = allocated();
    let mut time = Duration::ZERO;
    for n in 0..sessions {
        let session = session(n);
        let start = Instant::now();
        add(&context, &session);
        time += start.elapsed();
    }
    let insert = time.as_nanos() / sessions as u128;
    let bytes = (allocated() - before) / sessions;
    println!("OpenSSL's cache,{sessions},{insert},,,,,,,,{bytes}");
}

#[expect(
    unsafe_code,
    reason = "`add_session` wants a session that is not in use elsewhere"
)]
fn add(context: &SslContext, session: &SslSession) {
    // SAFETY: the session has just been decoded, and no connection has it.
    assert!(unsafe { context.add_session(session) });
}
