//! The programs that tests start: what they are in, and what to do if they are missing, or never end.

use std::io::ErrorKind;
use std::process::{Child, Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What a test needs that is not of Rust, beside a shell, and the package of Debian that has it. The README's `apt-get` lines are
/// held against this, and so is `.ci/run`.
pub const NEEDED: [(&str, &str); 12] = [
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("the module cryptography of python3", "python3-cryptography"),
    ("libfaketime", "faketime"),
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("redis-server", "redis-server"),
    // In a package that the other one needs.
    ("redis-cli", "redis-server"),
    ("chromedriver", "chromium-driver"),
    ("chromium", "chromium"),
    ("firefox-esr", "firefox-esr"),
    ("gnutls-cli", "gnutls-bin"),
];

/// Set in the process of a test that runs again in one of its own.
pub const CHILD: &str = "OPENSSL_RESUMPTION_CHILD";

/// Nothing that a test starts and waits for takes so long, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// No binary of tests takes so long either, on however busy a machine.
const ALL_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Sees to it that the process comes to an end, whatever its tests wait for. Called by what all of them begin with.
pub fn end_in_time() {
    // A child ends with its parent, and its tests may count threads.
    if std::env::var_os(CHILD).is_none() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| end_within(ALL_PATIENCE));
    }
}

pub fn end_within(patience: Duration) {
    thread::spawn(move || {
        thread::sleep(patience);
        eprintln!(
            "no end within {patience:?}: the tests hang that have begun and not ended, or the machine is too busy"
        );
        std::process::exit(101);
    });
}

/// What to say where this is missing.
pub fn missing(what: &str) -> String {
    let package = NEEDED.iter().find(|(needed, _)| *needed == what);
    match package {
        Some((_, package)) => format!("{what} is missing: apt-get install {package} (on Debian)"),
        None => format!("{what} is missing"),
    }
}

/// Starts a program.
#[track_caller]
pub fn start(command: &mut Command) -> Child {
    end_in_time();
    match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let name = command.get_program().to_string_lossy().into_owned();
            match error.kind() {
                ErrorKind::NotFound => panic!("{}", missing(&name)),
                _ => panic!("{name}: {error}"),
            }
        }
    }
}

/// What a program says until its end. It is killed if that does not come.
#[track_caller]
pub fn output(child: Child, name: &str) -> Output {
    let id = child.id();
    let (done, waits) = channel::<()>();
    let killer = thread::spawn(move || {
        let hangs = waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        if hangs {
            signal(id, "KILL");
        }
        hangs
    });
    let output = child.wait_with_output();
    drop(done);
    assert!(
        !killer.join().unwrap(),
        "{name} has not come to its end within {PATIENCE:?}: it hangs, or the machine is too busy"
    );
    output.unwrap()
}

/// Waits until it is so.
#[track_caller]
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        let waited = begun.elapsed();
        assert!(
            waited < Duration::from_secs(60),
            "not so after {waited:?}, or the machine is too busy: {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal, as `kill` does, which not every system has.
#[allow(unsafe_code, reason = "a function of C")]
pub fn signal(process: u32, signal: &str) {
    let number = match signal {
        "TERM" => libc::SIGTERM,
        "INT" => libc::SIGINT,
        "HUP" => libc::SIGHUP,
        "KILL" => libc::SIGKILL,
        "STOP" => libc::SIGSTOP,
        "CONT" => libc::SIGCONT,
        other => panic!("no signal {other}"),
    };
    // SAFETY: a system call without memory.
    let sent = unsafe { libc::kill(process.try_into().unwrap(), number) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}

/// Tells threads of a test that it is over, at the end and when it panics: otherwise they would go on for ever,
/// and the test with them.
#[derive(Debug, Default)]
pub struct Over(AtomicBool);

impl Over {
    pub fn is(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// What is to be held as long as they are to go on.
    pub fn when_dropped(&self) -> impl Drop {
        struct WhenDropped<'a>(&'a Over);
        impl Drop for WhenDropped<'_> {
            fn drop(&mut self) {
                self.0.0.store(true, Relaxed);
            }
        }
        WhenDropped(self)
    }
}
