//! Processes: the `server` example, those of `examples/frameworks`, and whatever else a test runs.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::programs;

/// A server that says where it listens, stopped when dropped.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
}

/// An example as cargo builds it for `cargo test`.
pub fn example(name: &str) -> PathBuf {
    // Test binaries are in target/<profile>/deps, examples in target/<profile>/examples.
    let here = std::env::current_exe().unwrap();
    let example = here.parent().unwrap().with_file_name("examples").join(name);
    assert!(
        example.exists(),
        "{} is missing: run `cargo build --examples` first (`cargo test` alone does it by itself)",
        example.display()
    );
    example
}

impl Server {
    /// The `server` example.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, |_| ())
    }

    /// Like `start`, for another example than `server`.
    pub fn start_example(name: &str, args: &[&str]) -> Self {
        Self::spawn(Command::new(example(name)), args)
    }

    /// Like `start`, with the process prepared by the test.
    pub fn start_with(args: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(example("server"));
        prepare(&mut command);
        Self::spawn(command, args)
    }

    fn spawn(mut command: Command, args: &[&str]) -> Self {
        // Of two the last one counts.
        Self::run(command.args(["--listen", "127.0.0.1:0"]).args(args))
    }

    pub fn run(command: &mut Command) -> Self {
        let process = programs::start(command.stdout(Stdio::piped()));
        let address = SocketAddr::from(([0; 4], 0));
        let mut server = Self { process, address };
        let line = server.line();
        let address = line.strip_prefix("listening on ").expect(&line);
        server.address = address.parse().unwrap();
        server
    }

    /// The next line that it prints; it prints none before it is waited for.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.process.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        line.trim_end().to_owned()
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: &str) {
        programs::signal(self.id(), signal);
    }

    pub fn stop(&mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server did not stop within 10 s of {signal}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a command with this input; a missing one is an error that says how to install it.
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = programs::start(piped.stderr(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    // s_client goes on until the server closes only while its input is open.
    let output = programs::output(child, &name);
    drop(stdin);
    output
}

/// One connection of `openssl s_client`, which offers the session in the file if it exists and
/// leaves its own there: what it prints, and whether it says that the session was reused.
///
/// Not `s_client -reconnect`: it cannot resume TLS 1.3 (openssl#10714).
pub fn s_client(
    address: SocketAddr,
    args: &[&str],
    session: &Path,
    request: &[u8],
) -> (String, bool) {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-ign_eof", "-connect", &address.to_string()])
        .args(args);
    if session.exists() {
        command.arg("-sess_in").arg(session);
    }
    let output = run(command.arg("-sess_out").arg(session), request);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = |word| text.lines().any(|line| line.starts_with(word));
    let reused = said("Reused, TLSv1");
    assert!(reused || said("New, TLSv1"), "{text}");
    (text, reused)
}

/// A directory that is removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("openssl-resumption-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The page of the server in a response.
pub fn body(response: &str) -> Value {
    let start = response
        .find("\r\n\r\n")
        .unwrap_or_else(|| panic!("no body: {response}"));
    // s_client prints things of its own after it.
    let mut values = serde_json::Deserializer::from_str(&response[start..]).into_iter();
    values
        .next()
        .unwrap()
        .unwrap_or_else(|e| panic!("{e}: {response}"))
}
