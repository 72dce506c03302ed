//! Tests that run in a process of their own: because they may abort it, or because its clock is
//! shifted (libfaketime).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::programs::{self, CHILD};

const CLOCK: &str = "FAKETIME_TIMESTAMP_FILE";
const DONE: &str = "the body has run";

/// Runs the test of this name again in a child process, where `body` runs.
pub fn in_child(name: &str, body: impl FnOnce()) {
    run(name, |_| (), body);
}

/// Like `in_child`, with a clock that `body` can set.
pub fn with_clock(name: &str, body: impl FnOnce(&Clock)) {
    let file =
        std::env::temp_dir().join(format!("openssl-resumption-{name}-{}", std::process::id()));
    run(
        name,
        |command| {
            Clock::of(command, &file);
        },
        || {
            let file = std::env::var_os(CLOCK).expect("set by the parent").into();
            body(&Clock { file });
        },
    );
    let _ = std::fs::remove_file(&file);
}

fn run(name: &str, prepare: impl FnOnce(&mut Command), body: impl FnOnce()) {
    programs::end_in_time();
    if std::env::var_os(CHILD).is_some() {
        body();
        eprintln!("{DONE}");
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &full_name(name), "--nocapture"]);
    command.env(CHILD, "1");
    prepare(&mut command);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = programs::output(programs::start(&mut command), name);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(said.contains(DONE), "no test of this name ran: {said}");
}

/// The name of this test with its modules, as the thread that it runs in is called.
pub fn full_name(name: &str) -> String {
    let thread = std::thread::current();
    match thread.name() {
        Some(full) if full.ends_with(name) => full.into(),
        // The only one, without a thread of its own.
        _ => name.into(),
    }
}

/// The clock of a child process: what `time` and `clock_gettime` tell its client and its server.
#[derive(Clone)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Gives a process that is about to start a clock of its own, which is true at first.
    pub fn of(command: &mut Command, file: &Path) -> Self {
        write_shift(file, 0);
        command
            .env("LD_PRELOAD", libfaketime())
            .env(CLOCK, file)
            .env("FAKETIME_NO_CACHE", "1")
            // Timeouts go by the monotonic clock.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Self { file: file.into() }
    }

    /// Sets the clock to this many seconds after the true time, or before it.
    pub fn shift(&self, seconds: i64) {
        write_shift(&self.file, seconds);
    }
}

fn write_shift(file: &Path, seconds: i64) {
    // Replaced at once: libfaketime may read it at any moment.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}")).unwrap();
    std::fs::rename(&new, file).unwrap();
}

fn libfaketime() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    places
        .map(|place| place.path())
        .chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")])
        .map(|place| place.join("faketime/libfaketime.so.1"))
        .find(|library| library.exists())
        .unwrap_or_else(|| panic!("{}", programs::missing("libfaketime")))
}
