//! A Redis of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, FromRedisValue};

use crate::common::process::Scratch;
use crate::common::programs;

/// A Redis on a free port that keeps nothing on disk, killed when dropped.
pub(crate) struct Redis {
    process: Option<Child>,
    pub(crate) port: u16,
    args: Vec<String>,
    /// It works in there.
    scratch: Scratch,
}

impl Redis {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// With these arguments of `redis-server` too.
    pub(crate) fn start_with(name: &str, args: &[&str]) -> Self {
        let mut redis = Self {
            process: None,
            port: free_port(),
            args: args.iter().map(ToString::to_string).collect(),
            scratch: Scratch::new(&format!("redis-{name}")),
        };
        redis.run();
        redis
    }

    /// Starts the process, again or for the first time, on the same port.
    pub(crate) fn run(&mut self) {
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(&program);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(&self.scratch.0)
            .args(&self.args)
            .stdout(Stdio::null());
        self.process = Some(programs::start(&mut command));
        let begun = Instant::now();
        while self.connect().is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "no answer, or the machine is too busy"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        programs::signal(self.process.as_ref().expect("running").id(), signal);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let client = redis::Client::open(self.url())?;
        client.get_connection_with_timeout(Duration::from_secs(10))
    }

    /// One command, the words of which are separated by spaces.
    #[track_caller]
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            cmd.arg(word);
        });
        cmd.query(&mut self.connect().unwrap())
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// How often a command was called, in words of `INFO commandstats`.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let stats: String = self.ask("INFO commandstats");
        let start = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&start));
        calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
    }

    /// The keys of all sessions.
    pub(crate) fn session_keys(&self) -> Vec<String> {
        self.ask("KEYS openssl-resumption:session:*")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
