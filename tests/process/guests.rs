//! Threads of ours are good guests: signals go to the program, each has a name, none is in the way when the process
//! ends, and none is left when what they work for is gone.

#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "signals, and OpenSSL's own initialisation, are")]

use std::ffi::{c_int, c_void};
use std::fs;
use std::process::{Command, Stdio, exit};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::child::{full_name, in_child};
use crate::common::process::Scratch;
use crate::common::programs::{eventually, output, start};
use crate::common::*;
use openssl::ssl::SslContext;
use openssl_resumption::{
    KeyDialect, KeyError, KeySet, KeySource, MemoryStore, Resumption, Sealed, Session, SessionKey,
    SessionStore, StoreError, TicketKey, TicketKeys, WriteBehind,
};

// ---- Threads, as the system has them

/// The name of each thread beside that of the test and of its harness, and the signals that it blocks.
fn threads() -> Vec<(String, u64)> {
    let own = fs::read_to_string("/proc/thread-self/status").unwrap();
    let program = fs::read_to_string("/proc/self/comm").unwrap();
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned())
    };
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let others = statuses.filter(|status| {
        field(status, "Pid:") != field(&own, "Pid:")
            && field(status, "Pid:") != field(status, "Tgid:")
    });
    others
        .filter_map(|status| {
            let name = field(&status, "Name:")?;
            let blocked = u64::from_str_radix(&field(&status, "SigBlk:")?, 16).ok()?;
            (name != program.trim()).then_some((name, blocked))
        })
        .collect()
}

fn names() -> Vec<String> {
    let mut names: Vec<_> = threads().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

/// A process with a thread of each kind: what keeps them, and their names.
fn all_kinds(scratch: &Scratch) -> (Vec<Box<dyn Send>>, Vec<&'static str>) {
    let file = scratch.write("key", &[7; 80]);
    let rings = [
        TicketKeys::random(),
        TicketKeys::derived("guests", [[5; 32]]),
        TicketKeys::from_files(KeyDialect::Nginx, [file]),
    ];
    let contexts = rings.map(|keys| context(&Resumption::stateless(keys)));
    let store = WriteBehind::new(MemoryStore::default());
    store.put(&SessionKey::from([1; 32]), session(1)).unwrap();
    let kept: Vec<Box<dyn Send>> = vec![Box::new(contexts), Box::new(store)];
    let names = vec![
        "session-ends",
        "session-writes",
        "ticket-keys",
        "ticket-keys",
        "ticket-keys",
    ];
    #[cfg(feature = "redis")]
    let (kept, names) = {
        let (mut kept, mut names) = (kept, names);
        // Nobody is there: they try to connect.
        let redis = openssl_resumption::RedisStore::connect("redis://127.0.0.1:1").unwrap();
        let redis = redis.plaintext();
        let _ = redis.get(&SessionKey::from([1; 32]));
        kept.push(Box::new(redis));
        names.insert(0, "redis");
        (kept, names)
    };
    (kept, names)
}

fn session(n: u8) -> Session {
    let hour = SystemTime::now() + Duration::from_secs(3_600);
    let ends = hour.duration_since(UNIX_EPOCH).unwrap().as_secs();
    Session::from_bytes(&[&[1], &ends.to_be_bytes()[..], &[n; 40]].concat()).unwrap()
}

#[test]
fn each_has_a_name_and_blocks_all_signals() {
    in_child("each_has_a_name_and_blocks_all_signals", || {
        let scratch = Scratch::new("guests-names");
        let (_kept, expected) = all_kinds(&scratch);
        // A thread gives itself its name.
        eventually("threads end", || names() == expected);
        let all = thread::spawn(all_signals).join().unwrap();
        // The thread before may be there for a moment.
        let ours = |name: &String| expected.contains(&name.as_str());
        for (name, blocked) in threads().into_iter().filter(|(name, _)| ours(name)) {
            // While it starts another thread, the C library blocks in it even its own two.
            assert_eq!(blocked & all, all, "{name}");
        }
    });
}

/// What a thread blocks that was told to block all.
fn all_signals() -> u64 {
    // SAFETY: zero is a set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes the set.
    unsafe { libc::sigfillset(&raw mut set) };
    // SAFETY: reads the set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) };
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

#[test]
fn a_signal_that_the_program_waits_for_reaches_it() {
    in_child("a_signal_that_the_program_waits_for_reaches_it", || {
        // Forks, for a process without the threads of the harness, which block nothing.
        // SAFETY: the child calls nothing that needs the threads it has not got.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            let waited = std::panic::catch_unwind(waits_for_its_end);
            // SAFETY: ends the child, without what is left to do for its parent.
            unsafe { libc::_exit(if waited.is_ok() { 42 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: waits for the child, and writes its status to where it may.
        assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
        assert!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42,
            "died of signal {}",
            libc::WTERMSIG(status)
        );
    });
}

/// As programs wait for the signal to stop: it is blocked in all of their threads, of which this is one.
fn waits_for_its_end() {
    // SAFETY: sets a timer: whatever happens, the process ends.
    unsafe { libc::alarm(30) };
    let scratch = Scratch::new("guests-signals");
    let (_kept, expected) = all_kinds(&scratch);
    eventually("threads end", || names().len() == expected.len());
    // SAFETY: zero is a set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes the set.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGTERM) };
    // SAFETY: reads the set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
    let this = libc::pid_t::try_from(std::process::id()).unwrap();
    // SAFETY: tells this process to stop.
    unsafe { libc::kill(this, libc::SIGTERM) };
    let mut signal = 0;
    // SAFETY: reads the set, and writes the signal.
    unsafe { libc::sigwait(&raw const set, &raw mut signal) };
    assert_eq!(signal, libc::SIGTERM);
}

#[test]
fn none_is_left_when_what_they_work_for_is_gone() {
    in_child("none_is_left_when_what_they_work_for_is_gone", || {
        let scratch = Scratch::new("guests-left");
        let (kept, expected) = all_kinds(&scratch);
        eventually("threads end", || names() == expected);
        let begun = Instant::now();
        drop(kept);
        eventually("threads end", || threads().is_empty());
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "or the machine is too busy"
        );
    });
}

/// Of the last of all policies: a clone of the keys and a context kept them until then.
#[test]
fn the_thread_of_a_ring_stays_for_the_last_who_has_it() {
    in_child("the_thread_of_a_ring_stays_for_the_last_who_has_it", || {
        let keys = TicketKeys::random();
        let context = context(&Resumption::stateless(keys.clone()));
        drop(context);
        eventually("threads end", || names() == ["ticket-keys"]);
        drop(keys);
        eventually("threads end", || threads().is_empty());
    });
}

/// A store that is made and dropped at once.
#[cfg(feature = "redis")]
#[test]
fn none_is_left_of_a_store_that_was_hardly_there() {
    in_child("none_is_left_of_a_store_that_was_hardly_there", || {
        for _ in 0..50 {
            let redis = openssl_resumption::RedisStore::connect("redis://127.0.0.1:1").unwrap();
            let redis = redis.plaintext();
            let _ = redis.get(&SessionKey::from([1; 32]));
        }
        eventually("threads end", || threads().is_empty());
    });
}

// ---- The end of the process

const CHILD: &str = "OPENSSL_RESUMPTION_GUEST";

unsafe extern "C" {
    fn OPENSSL_init_crypto(options: u64, settings: *const c_void) -> c_int;
}

/// What others do at the end, after OpenSSL is gone: time enough for threads to go on.
extern "C" fn slow_exit() {
    thread::sleep(Duration::from_millis(1_500));
}

/// Runs the test of this name again in a process in which somebody else has initialised OpenSSL, so that it is
/// cleaned up at the exit. There `body` runs, and then the process ends; returns how long all of it took.
#[track_caller]
fn ends(name: &str, body: impl FnOnce()) -> Duration {
    if std::env::var_os(CHILD).is_some() {
        // SAFETY: registers a function.
        unsafe { libc::atexit(slow_exit) };
        const OPENSSL_INIT_LOAD_CRYPTO_STRINGS: u64 = 2;
        // SAFETY: without settings it takes none.
        unsafe { OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CRYPTO_STRINGS, ptr::null()) };
        // SAFETY: sets a timer: whatever happens, the process ends.
        unsafe { libc::alarm(30) };
        body();
        exit(0);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child
        .args(["--exact", &full_name(name), "--nocapture"])
        .env(CHILD, "1");
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let output = output(start(child), name);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let took = begun.elapsed();
    // The exit handler has run.
    assert!(took > Duration::from_millis(1_500), "{took:?}");
    took
}

/// As in a static.
fn for_ever(keys: TicketKeys) -> (&'static TicketKeys, &'static SslContext) {
    let context = context(&Resumption::stateless(keys.clone()).lifetime(Duration::from_secs(1)));
    (Box::leak(Box::new(keys)), Box::leak(Box::new(context)))
}

#[test]
fn keys_may_rotate_at_the_end() {
    ends("keys_may_rotate_at_the_end", || {
        for_ever(TicketKeys::random_every(Duration::from_secs(1)));
        for_ever(TicketKeys::derived_every(
            "guests",
            [[5; 32]],
            Duration::from_secs(1),
        ));
        thread::sleep(Duration::from_millis(300));
    });
}

/// Asked all the time.
struct Restless<F>(F);

impl<F: Fn() + Send + Sync + 'static> KeySource for Restless<F> {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        (self.0)();
        Ok(KeySet::new(TicketKey::random()?, now))
    }
}

#[test]
fn a_source_may_be_asked_at_the_end() {
    ends("a_source_may_be_asked_at_the_end", || {
        // One that takes its time, and one that makes keys by the thousand.
        for_ever(TicketKeys::from_source(Restless(|| {
            thread::sleep(Duration::from_millis(20));
        })));
        for_ever(TicketKeys::from_source(Restless(|| {
            (0..1_000).for_each(|_| drop(TicketKey::random()));
        })));
        thread::sleep(Duration::from_millis(200));
    });
}

#[test]
fn a_source_that_hangs_does_not_hold_up_the_end() {
    let took = ends("a_source_that_hangs_does_not_hold_up_the_end", || {
        static HANGS: AtomicBool = AtomicBool::new(false);
        static HUNG: AtomicBool = AtomicBool::new(false);
        for_ever(TicketKeys::from_source(Restless(|| {
            if HANGS.load(Relaxed) {
                HUNG.store(true, Relaxed);
                // Comes back while the exit handler of the test sleeps, and makes a key.
                thread::sleep(Duration::from_millis(1_250));
            }
        })));
        HANGS.store(true, Relaxed);
        eventually("threads end", || HUNG.load(Relaxed));
    });
    // Beside the start, 1.5 s of the exit handler, and 1 s for the source.
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_source_may_end_the_process() {
    ends("a_source_may_end_the_process", || {
        static ENDS: AtomicBool = AtomicBool::new(false);
        for_ever(TicketKeys::random_every(Duration::from_secs(1)));
        for_ever(TicketKeys::from_source(Restless(|| {
            if ENDS.load(Relaxed) {
                exit(0);
            }
        })));
        ENDS.store(true, Relaxed);
        thread::sleep(Duration::from_secs(30));
        panic!("nobody ended it");
    });
}

#[test]
fn sealed_sessions_may_be_written_at_the_end() {
    struct Slow(MemoryStore);
    impl SessionStore for Slow {
        fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
            thread::sleep(Duration::from_millis(1));
            self.0.put(key, session)
        }
        fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
            self.0.get(key)
        }
        fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
            self.0.remove(key)
        }
    }
    ends("sealed_sessions_may_be_written_at_the_end", || {
        let sealed = Sealed::new(Slow(MemoryStore::default()), [[9; 32]]).unwrap();
        let store = Arc::new(WriteBehind::new(sealed).capacity(100_000, 1 << 30));
        for n in 0..20_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            store.put(&SessionKey::from(key), session(1)).unwrap();
        }
        std::mem::forget(store);
    });
}

/// Threads that end at the same time as the process do not free what OpenSSL has freed.
#[test]
fn what_they_work_for_may_be_dropped_at_the_end() {
    ends("what_they_work_for_may_be_dropped_at_the_end", || {
        for _ in 0..50 {
            context(&Resumption::stateless(TicketKeys::random()));
        }
    });
}

/// TLS to Redis, to somebody who is never done with the handshake.
#[cfg(feature = "redis")]
#[test]
fn a_store_may_connect_at_the_end() {
    ends("a_store_may_connect_at_the_end", || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            // Hangs up a few milliseconds later.
            for stream in listener.incoming() {
                thread::sleep(Duration::from_millis(5));
                drop(stream);
            }
        });
        let redis = openssl_resumption::RedisStore::connect(&format!("rediss://{address}"));
        let redis = redis.unwrap().plaintext();
        let _ = redis.get(&SessionKey::from([1; 32]));
        std::mem::forget(redis);
        thread::sleep(Duration::from_millis(500));
    });
}
