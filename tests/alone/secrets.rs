//! Secrets are wiped before their memory is freed, and shown in no text. The allocator of this
//! binary keeps what the memory held that it was given back.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error as StdError;
use std::fmt::Debug;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::child::with_clock;
use common::programs::eventually;
use common::*;
use freed::freed_by;
use openssl::ssl::{Ssl, SslContext, SslSession};
use openssl_resumption::{
    CircuitBreaker, Error, KeyError, KeySet, KeySource, MemoryStore, Resumption, Sealed, Session,
    SessionKey, SessionStore, SslContextBuilderExt, SslRefExt, StoreError, TicketKey, TicketKeys,
    Tiered, WriteBehind,
};

/// Random bytes, so that a few of them in a row are nowhere by chance.
const AES: [u8; 32] = *b"\xa7\xe1\x5c\xd3\x91\xbe\x48\xf6\x2b\x9d\xc8\x73\xea\x15\xb4\x6f\
    \xd9\x82\x37\xfc\xa0\x5e\xcb\x94\xe6\x1d\xb7\x68\xf2\x8b\xc5\x3a";
const HMAC: [u8; 32] = *b"\xc4\x6a\xf9\x25\xb0\x8e\xd7\x53\x9c\xe2\x31\xab\x76\xdf\x18\xf5\
    \x85\xcd\x42\xe9\x97\x3f\xba\x64\xd1\x8c\xf7\x29\xa3\x5d\xee\x90";
/// Secrets may also be text.
const WORDS: &[u8; 32] = b"correct horse battery staple oak";

/// How many bytes of a secret in a row are a trace of it.
const TRACE: usize = 6;

/// Whether any part of `secret` is in `bytes`.
fn shows(bytes: &[u8], secret: &[u8]) -> bool {
    let parts: Vec<_> = secret.windows(TRACE).collect();
    bytes.windows(TRACE).any(|window| parts.contains(&window))
}

#[track_caller]
fn assert_wiped(freed: &[Vec<u8>], secrets: &[&[u8]]) {
    for block in freed {
        assert!(
            !secrets.iter().any(|secret| shows(block, secret)),
            "{} freed bytes hold a secret: {block:02x?}",
            block.len()
        );
    }
}

/// How many blocks of this length were freed with nothing but zeros in them.
fn zeroed(freed: &[Vec<u8>], len: usize) -> usize {
    let all_zero = |block: &&Vec<u8>| block.len() == len && block.iter().all(|byte| *byte == 0);
    freed.iter().filter(all_zero).count()
}

// ---- Keys

fn marked_key(name: u8) -> TicketKey {
    TicketKey::new([name; 16], &AES, &HMAC)
}

/// A ring of the key of the markers.
fn marked() -> TicketKeys {
    struct Marked;
    impl KeySource for Marked {
        fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
            Ok(KeySet::new(
                marked_key(1),
                now + Duration::from_secs(1 << 20),
            ))
        }
    }
    TicketKeys::from_source(Marked)
}

#[test]
fn the_hook_sees_what_is_not_wiped() {
    let freed = freed_by(|| drop(AES.to_vec()));
    assert!(freed.iter().any(|block| shows(block, &AES)));
    let freed = freed_by(|| {
        let mut grown = AES.to_vec();
        grown.reserve(1 << 16);
        grown.fill(0);
    });
    assert!(freed.iter().any(|block| shows(block, &AES)), "moved");
}

#[test]
fn a_ticket_key_leaves_zeros() {
    let freed = freed_by(|| drop(marked_key(1)));
    assert_wiped(&freed, &[&AES, &HMAC]);
    assert_eq!(zeroed(&freed, 32), 2);
    let freed = freed_by(|| drop(TicketKey::random()));
    assert_eq!(zeroed(&freed, 32), 2);
}

#[test]
fn a_key_set_and_a_ring_leave_zeros() {
    let freed = freed_by(|| {
        let now = SystemTime::now();
        drop(
            KeySet::new(marked_key(1), now)
                .opens(marked_key(2))
                .retired(marked_key(3), now)
                .upcoming(marked_key(4), now),
        );
    });
    assert_wiped(&freed, &[&AES, &HMAC]);
    assert_eq!(zeroed(&freed, 32), 8);

    // Now and then the thread of the ring is the last to hold it.
    let wiped_here = (0..100).any(|_| {
        let keys = marked();
        let context = context(&Resumption::stateless(keys.clone()));
        let freed = freed_by(|| drop((context, keys)));
        assert_wiped(&freed, &[&AES, &HMAC]);
        zeroed(&freed, 32) == 2
    });
    assert!(wiped_here);
}

#[test]
fn a_retired_key_is_wiped_when_its_last_ticket_has_expired() {
    let name = "a_retired_key_is_wiped_when_its_last_ticket_has_expired";
    with_clock(name, |clock| {
        let keys = TicketKeys::random();
        let policy = Resumption::stateless(keys.clone()).lifetime(Duration::from_secs(600));
        let _context = context(&policy);
        let rotate = |seconds| {
            // A time that the thread has read before is not to be used after.
            wait_until_asleep("ticket-keys");
            clock.shift(seconds);
            keys.rotate().unwrap();
        };
        // The thread of the ring may be the last that had them.
        let freed = freed::everywhere();
        let wiped = || zeroed(&freed.lock().unwrap(), 32);
        let wait_for = |blocks| {
            let patience = Instant::now() + Duration::from_secs(60);
            while wiped() < blocks && Instant::now() < patience {
                thread::yield_now();
            }
            wiped()
        };
        rotate(0); // retires the first key
        rotate(500);
        assert_eq!(wiped(), 0);
        rotate(700);
        assert_eq!(wait_for(2), 2, "the first key");
        rotate(1_200);
        assert_eq!(wait_for(4), 4, "the second");
    });
}

/// Until this thread of ours waits for what comes next.
fn wait_until_asleep(name: &str) {
    eventually("the thread sleeps", || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let states = tasks.filter_map(|task| {
            let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            (comm.trim_end() == name).then(|| stat.contains(") S "))
        });
        states.collect::<Vec<_>>() == [true]
    });
}

#[test]
fn revoked_keys_are_wiped_at_once() {
    let keys = TicketKeys::random();
    let _context = context(&Resumption::stateless(keys.clone()));
    keys.rotate().unwrap();
    assert_eq!(zeroed(&freed_by(|| keys.revoke_all()), 32), 4);
}

#[test]
fn the_oldest_key_of_a_full_ring_is_wiped() {
    let keys = TicketKeys::random();
    let _context = context(&Resumption::stateless(keys.clone()));
    let rotations = |n| freed_by(|| (0..n).for_each(|_| keys.rotate().unwrap()));
    let full = rotations(TicketKeys::MAX_RETIRED);
    assert_eq!(zeroed(&full, 32), 0);
    assert_eq!(zeroed(&rotations(1), 32), 2);
}

// ---- Stored sessions

/// A session whose record is a header and the two markers.
fn marked_session() -> Session {
    let later = SystemTime::now() + Duration::from_secs(600);
    let seconds = later.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let record = [&[1], &seconds.to_be_bytes()[..], &AES, WORDS].concat();
    // The test's own copy must not be mistaken for one of the library.
    Session::from_bytes(record.leak()).unwrap()
}

const RECORD: usize = 9 + 32 + 32;

fn key(n: u8) -> SessionKey {
    SessionKey::from([n; 32])
}

/// The number of records that `act` wiped, and of what was opened, which is a record without its
/// header; it must not free one otherwise.
#[track_caller]
fn records_wiped<T>(act: impl FnOnce() -> T) -> usize {
    let freed = freed_by(|| drop(act()));
    assert_wiped(&freed, &[&AES, WORDS]);
    zeroed(&freed, RECORD) + zeroed(&freed, RECORD - 9)
}

#[test]
fn a_session_leaves_zeros() {
    assert_eq!(records_wiped(marked_session), 1);
    let session = marked_session();
    assert_eq!(records_wiped(|| session.clone()), 1);
    assert_eq!(records_wiped(|| session), 1);
}

#[test]
fn a_session_that_leaves_the_store_in_memory_leaves_zeros() {
    let store = MemoryStore::new(3, 1 << 20);
    let put = |n| store.put(&key(n), marked_session()).unwrap();
    assert_eq!(records_wiped(|| put(0)), 0);
    assert_eq!(records_wiped(|| store.get(&key(0))), 1, "a copy");
    assert_eq!(records_wiped(|| store.take(&key(0))), 1);
    put(0);
    assert_eq!(records_wiped(|| store.remove(&key(0))), 1);
    put(0);
    assert_eq!(records_wiped(|| put(0)), 1, "replaced");
    put(1);
    put(2);
    assert_eq!(records_wiped(|| put(3)), 1, "evicted");
    assert_eq!(store.usage().unwrap().evictions, 1);
    assert_eq!(records_wiped(|| store), 3);

    let small = MemoryStore::new(1, RECORD);
    let put = || small.put(&key(0), marked_session()).unwrap();
    assert_eq!(records_wiped(put), 1, "too large for the store");
}

#[test]
fn a_session_that_has_ended_leaves_zeros() {
    let store = MemoryStore::default();
    let ended = [&[1], &1_u64.to_be_bytes()[..], &AES, WORDS].concat();
    let ended = Session::from_bytes(ended.leak()).unwrap();
    // Now and then it is the thread that takes out what has ended.
    let wiped_here = (0..100).any(|_| {
        store.put(&key(0), ended.clone()).unwrap();
        let wiped = records_wiped(|| store.get(&key(0)));
        assert_eq!(store.usage().unwrap().entries, 0);
        wiped == 1
    });
    assert!(wiped_here);
}

#[test]
fn a_sealed_store_leaves_zeros() {
    let freed = freed_by(|| drop(Sealed::new(MemoryStore::default(), [&AES, WORDS])));
    assert_wiped(&freed, &[&AES, WORDS]);
    assert_eq!(zeroed(&freed, 32), 2);

    let shared = Arc::new(MemoryStore::default());
    let [old, new, both] = [vec![HMAC], vec![[9; 32]], vec![[9; 32], HMAC]]
        .map(|secrets| Sealed::new(Arc::clone(&shared), secrets).unwrap());
    assert_eq!(records_wiped(|| old.put(&key(0), marked_session())), 1);
    assert_eq!(records_wiped(|| old.get(&key(0))), 2);
    assert_eq!(records_wiped(|| both.get(&key(0))), 3, "for each secret");
    assert_eq!(records_wiped(|| new.get(&key(0)).unwrap_err()), 1);
    shared
        .put(&key(1), shared.get(&key(0)).unwrap().unwrap())
        .unwrap();
    assert_eq!(records_wiped(|| old.get(&key(1)).unwrap_err()), 1, "moved");
    assert_eq!(records_wiped(|| old.take(&key(0))), 2);
}

#[test]
fn stores_over_stores_leave_zeros() {
    let store = Tiered::new(
        MemoryStore::default(),
        CircuitBreaker::new(MemoryStore::default()),
    );
    assert_eq!(records_wiped(|| store.put(&key(0), marked_session())), 0);
    assert_eq!(records_wiped(|| store.get(&key(0))), 1);
    assert_eq!(records_wiped(|| store.take(&key(0))), 2);
}

#[test]
fn what_waits_to_be_written_leaves_zeros() {
    struct Hanging(Sender<()>, Arc<Mutex<()>>);
    impl SessionStore for Hanging {
        fn put(&self, _: &SessionKey, _: Session) -> Result<(), StoreError> {
            self.0.send(()).unwrap();
            drop(self.1.lock());
            Ok(())
        }
        fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
            Ok(None)
        }
        fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let ((begun, begins), hang) = (channel(), Arc::new(Mutex::new(())));
    let hangs = hang.lock().unwrap();
    let store = WriteBehind::new(Hanging(begun, Arc::clone(&hang)))
        .workers(1)
        .capacity(3, 1 << 20);
    let put = |n| store.put(&key(n), marked_session()).unwrap();
    put(9);
    begins.recv().unwrap();
    (0..3).for_each(put);
    assert_eq!(records_wiped(|| store.get(&key(0))), 1, "a copy");
    assert_eq!(records_wiped(|| put(0)), 1, "replaced");
    assert_eq!(records_wiped(|| put(3)), 1, "the oldest is lost");
    assert_eq!(records_wiped(|| store.remove(&key(2))), 1);
    assert_eq!(records_wiped(|| store.take(&key(0))), 1);
    let what = "what still waits, and the copy of what is being written";
    assert_eq!(records_wiped(|| store), 2, "{what}");
    drop(hangs);
}

// ---- Handshakes

/// One connection, and what the server's thread freed in it.
#[track_caller]
fn shake(context: &SslContext, client: &Client, session: Option<&[u8]>) -> (Seen, Vec<Vec<u8>>) {
    let (near, far) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(move || {
            let stream = client.connect(near, session).unwrap();
            client.finish(stream).unwrap()
        });
        let freed = freed_by(|| {
            let mut stream = Ssl::new(context).unwrap().accept(far).unwrap();
            stream.write_all(b"hello").unwrap();
            stream.shutdown().unwrap();
            assert!(stream.ssl().resumption().is_some());
        });
        (client.join().unwrap(), freed)
    })
}

/// The secrets of the sessions that a client got.
fn master_keys(seen: &Seen) -> Vec<Vec<u8>> {
    let master_key = |der: &Vec<u8>| {
        let session = SslSession::from_der(der).unwrap();
        let mut secret = vec![0; session.master_key_len()];
        session.master_key(&mut secret);
        secret
    };
    assert!(!seen.sessions.is_empty());
    seen.sessions.iter().map(master_key).collect()
}

#[test]
fn no_secret_of_a_connection_is_left_behind() {
    for kind in Kind::ALL {
        for (mode, policy) in modes().into_iter().take(3) {
            if kind == Kind::Tls12WithoutTickets && mode == "stateless" {
                continue;
            }
            let context = context(&policy);
            let client = Client::new(kind).unwrap();
            let mut freed = Vec::new();
            let mut secrets = Vec::new();
            let mut session: Option<Vec<u8>> = None;
            for round in 0..3 {
                let (seen, left) = shake(&context, &client, session.as_deref());
                assert_eq!(seen.resumed, round > 0, "{mode} {kind:?}");
                secrets.extend(master_keys(&seen));
                freed.extend(left);
                session = seen.sessions.last().cloned();
            }
            freed.extend(freed_by(|| drop((context, policy))));
            assert!(secrets.iter().all(|secret| secret.len() >= 32));
            let secrets: Vec<_> = secrets.iter().map(Vec::as_slice).collect();
            assert_wiped(&freed, &secrets);
        }
    }
}

#[test]
fn no_key_that_seals_tickets_is_left_behind() {
    for kind in [Kind::Tls12, Kind::Tls13] {
        let policy = Resumption::stateless(marked());
        let context = context(&policy);
        let client = Client::new(kind).unwrap();
        let (first, mut freed) = shake(&context, &client, None);
        let (second, left) = shake(&context, &client, first.sessions.last().map(Vec::as_slice));
        assert!(second.resumed);
        freed.extend(left);
        freed.extend(freed_by(|| drop((context, policy))));
        assert_wiped(&freed, &[&AES, &HMAC]);
        assert_eq!(zeroed(&freed, 32), 2);
    }
}

// ---- Text

/// Whether `text` has four bytes of `secret` in a row: as text, or as hexadecimal or decimal
/// numbers with whatever between them. (Not fewer: an error may well name a version byte.)
fn tells(text: &str, secret: &[u8]) -> bool {
    let hex: String = text
        .to_ascii_lowercase()
        .replace("0x", " ")
        .chars()
        .filter(char::is_ascii_hexdigit)
        .collect();
    let numbers: Vec<u8> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    secret.windows(4).any(|part| {
        let as_hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        text.contains(&part.escape_ascii().to_string())
            || hex.contains(&as_hex)
            || numbers.windows(4).any(|window| window == part)
    })
}

#[test]
fn the_search_finds_every_way_of_writing_bytes() {
    let part = &AES[3..9];
    let hex = |separator: &str| {
        let bytes: Vec<_> = part.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(separator)
    };
    for text in [
        hex(""),
        hex("").to_uppercase(),
        hex(":"),
        hex(" "),
        hex(", 0x"),
        format!("{part:?}"),
        format!("{part:#?}"),
        format!("{part:02x?}"),
        format!("{part:#04X?}"),
        format!("b\"{}\"", part.escape_ascii()),
    ] {
        assert!(tells(&text, &AES), "{text}");
        assert!(!tells(&text, &HMAC), "{text}");
    }
    assert!(tells("a horse", WORDS));
}

#[track_caller]
fn assert_silent(shown: &impl Debug, secrets: &[&[u8]]) {
    for text in [
        format!("{shown:?}"),
        format!("{shown:#?}"),
        format!("{shown:02x?}"),
    ] {
        let told = secrets.iter().any(|secret| tells(&text, secret));
        assert!(!told, "{text}");
    }
}

/// An error and its causes, as people and as programmers see them.
#[track_caller]
fn assert_silent_error(error: &(impl StdError + 'static), secrets: &[&[u8]]) {
    assert_silent(error, secrets);
    let mut next: Option<&dyn StdError> = Some(error);
    while let Some(error) = next {
        assert_silent(&error.to_string(), secrets);
        next = error.source();
    }
}

#[test]
fn keys_show_their_names_only() {
    let secrets: [&[u8]; 3] = [&AES, &HMAC, WORDS];
    let text = TicketKey::new([0xbb; 16], WORDS, &AES);
    assert_silent(&text, &secrets);
    assert!(format!("{text:?}").contains(&"bb".repeat(16)));
    assert_silent(
        &KeySet::new(text, SystemTime::now()).opens(marked_key(2)),
        &secrets,
    );

    let keys = marked();
    let policy = Resumption::stateless(keys.clone());
    let context = context(&policy);
    meet(&context, &Client::new(Kind::Tls13).unwrap(), None);
    let hybrid = Resumption::hybrid(MemoryStore::default(), keys.clone());
    for shown in [&keys as &dyn Debug, &policy, &policy.stats(), &hybrid] {
        assert_silent(&shown, &secrets);
    }
    assert!(format!("{keys:?}").contains(&"01".repeat(16)), "the names");
}

#[test]
fn sessions_and_stores_show_no_bytes() {
    let secrets: [&[u8]; 2] = [&AES, WORDS];
    let store = MemoryStore::default();
    store.put(&key(0), marked_session()).unwrap();
    assert_silent(&marked_session(), &secrets);
    assert_silent(&Some(marked_session()), &secrets);
    assert_silent(&store, &secrets);
    assert_silent(&store.usage(), &secrets);
    let sealed = Sealed::new(Arc::new(store), [&AES, WORDS]).unwrap();
    let store = Tiered::new(MemoryStore::default(), CircuitBreaker::new(sealed));
    store.put(&key(1), marked_session()).unwrap();
    assert_silent(&store, &secrets);
    let policy = Resumption::stateful(store);
    assert_silent(&policy, &secrets);
    assert_silent(&policy.stats(), &secrets);
    // Enough of a session key to tell two apart in a log.
    assert_silent(&SessionKey::from(AES), &[&AES[1..]]);
}

#[test]
fn policies_outcomes_and_stats_show_nothing_of_the_sessions_they_made() {
    for (mode, policy) in modes().into_iter().take(3) {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let context = context(&policy);
            let client = Client::new(kind).unwrap();
            let first = meet(&context, &client, None);
            let second = meet(&context, &client, first.next());
            assert!(second.client.resumed, "{mode} {kind:?}");
            let secrets = [master_keys(&first.client), master_keys(&second.client)].concat();
            let secrets: Vec<_> = secrets.iter().map(Vec::as_slice).collect();
            assert_silent(&policy, &secrets);
            assert_silent(&policy.stats(), &secrets);
            assert_silent(&second.outcome, &secrets);
            assert_silent(&second.outcome.unwrap().to_string(), &secrets);
        }
    }
}

#[test]
fn errors_over_bytes_that_are_no_session_do_not_repeat_them() {
    let with_expiry = [&[1], &[255; 8][..], &AES, WORDS].concat();
    for bytes in [&AES[..8], &AES, WORDS, &with_expiry] {
        let error = Session::from_bytes(bytes).unwrap_err();
        assert_silent_error(&error, &[&AES, WORDS, &with_expiry]);
    }
    assert_silent_error(&StoreError::unsupported(), &[&AES, WORDS]);

    let records = Arc::new(MemoryStore::default());
    let sealed = Sealed::new(Arc::clone(&records), [&AES]).unwrap();
    records.put(&key(0), marked_session()).unwrap();
    let error = sealed.take(&key(0)).unwrap_err();
    assert_silent_error(&error, &[&AES, WORDS]);
    let error = Sealed::new(records, [&AES[1..]]).unwrap_err();
    assert_silent_error(&error, &[&AES]);
}

#[test]
fn errors_over_keys_do_not_repeat_them() {
    struct Locked(TicketKey);
    impl KeySource for Locked {
        fn load(&self, _: SystemTime) -> Result<KeySet, KeyError> {
            Err(KeyError::new(format!("{:?} is locked away", self.0)))
        }
    }
    let keys = TicketKeys::from_source(Locked(marked_key(1)));
    let refused = acceptor().set_resumption(&Resumption::stateless(keys.clone()));
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::Keys(_)));
    assert_silent_error(&error, &[&AES, &HMAC]);
    assert_silent_error(&keys.rotate().unwrap_err(), &[&AES, &HMAC]);

    let keys = marked();
    acceptor()
        .set_resumption(&Resumption::stateless(keys.clone()))
        .unwrap();
    assert_silent_error(&keys.rotate().unwrap_err(), &[&AES, &HMAC]);
}

/// The allocator.
#[expect(unsafe_code, reason = "a global allocator is unsafe")]
mod freed {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;
    use std::sync::{Mutex, OnceLock};

    struct Recording;

    #[global_allocator]
    static ALLOCATOR: Recording = Recording;

    type Blocks = Mutex<Vec<Vec<u8>>>;

    thread_local! {
        /// Where this thread keeps what it frees. Without a destructor, so that it may be used
        /// while a thread ends.
        static KEPT: Cell<Option<&'static Blocks>> = const { Cell::new(None) };
        /// What is freed in between, by the vectors here, is not kept.
        static KEEPING: Cell<bool> = const { Cell::new(false) };
    }

    /// Where all threads keep what they free.
    static EVERYWHERE: OnceLock<&'static Blocks> = OnceLock::new();

    /// What all threads free from now on, for a test that has its process to itself.
    pub(super) fn everywhere() -> &'static Blocks {
        EVERYWHERE.get_or_init(|| Box::leak(Box::default()))
    }

    /// What the memory held that this thread freed while it ran `act`, block by block.
    pub(super) fn freed_by(act: impl FnOnce()) -> Vec<Vec<u8>> {
        let blocks: &'static Blocks = Box::leak(Box::default());
        KEPT.set(Some(blocks));
        act();
        KEPT.set(None);
        std::mem::take(&mut blocks.lock().unwrap())
    }

    // SAFETY: memory comes from `System` and goes back to it. `realloc` is the default one, which
    // allocates, copies and frees, so what is moved is seen too.
    unsafe impl GlobalAlloc for Recording {
        /// Zeroed, so that what a block holds has been written by whoever had it.
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller keeps to the contract, which is the same.
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            let kept = KEPT.try_with(|kept| kept.get().or_else(|| EVERYWHERE.get().copied()));
            let kept = kept.ok().flatten();
            if let Some(kept) = kept.filter(|_| !KEEPING.replace(true)) {
                let bytes = (0..layout.size()).map(|at| read(block.wrapping_add(at)));
                kept.lock().unwrap().push(bytes.collect());
                KEEPING.set(false);
            }
            // SAFETY: the caller keeps to the contract; the block came from `System`.
            unsafe { System.dealloc(block, layout) }
        }
    }

    fn read(byte: *const u8) -> u8 {
        // SAFETY: inside a block that is still allocated, and was zeroed when it was made.
        // Volatile, so that writes to what is about to be freed are not left out.
        unsafe { byte.read_volatile() }
    }
}
