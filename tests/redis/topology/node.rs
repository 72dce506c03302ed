//! One server of several.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod};
use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, Parser, RedisResult, Value};

use super::network::{Network, Passes, SERVERS};
use super::{House, OURS};
use crate::common::programs::{self, eventually};
use crate::server::free_port;

/// How long one answer may take, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Kind {
    /// More arguments of `redis-server`.
    pub(super) args: &'static [&'static str],
    /// More lines of the configuration.
    pub(super) lines: Box<dyn Fn(&Ports) -> String + Send + Sync>,
    /// The server writes the configuration itself once it has begun.
    pub(super) rewrites: bool,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// What others are told.
    pub(super) announced: u16,
    /// Its own, which no other is told of.
    own: u16,
    /// Where nodes of a cluster speak to each other.
    pub(super) bus: u16,
}

/// A server, killed when dropped.
pub(crate) struct Node {
    house: Arc<House>,
    name: String,
    folder: PathBuf,
    kind: Kind,
    ports: Mutex<Ports>,
    network: Network,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    process: Option<Process>,
    paused: bool,
}

impl Node {
    /// Begins to start one. It may not answer yet.
    pub(super) fn begin(house: &Arc<House>, name: &str, kind: Kind) -> Self {
        let folder = house.scratch.0.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let network = Network::new();
        let node = Self {
            house: Arc::clone(house),
            name: name.to_owned(),
            folder,
            kind,
            ports: Mutex::new(Ports::free(network.port)),
            network,
            state: Mutex::default(),
        };
        node.spawn();
        node
    }

    fn spawn(&self) {
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let config = self.folder.join("redis.conf");
        if !self.kind.rewrites || !config.exists() {
            std::fs::write(&config, self.config()).unwrap();
        }
        let mut command = Command::new(&program);
        command.arg(&config).args(self.kind.args);
        // With what it says of its configuration before there is a log.
        let mut log = File::options();
        let log = log.create(true).append(true).open(self.log_file()).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.state.lock().process = Some(Process::start(command));
        self.network.set_target(self.ports.lock().own);
        self.network.reopen();
    }

    fn config(&self) -> String {
        let ports = *self.ports.lock();
        let mut lines = match &self.house.tls {
            None => format!("port {}\n", ports.own),
            Some(tls) => {
                let (cert, key) = (tls.server.cert.display(), tls.server.key.display());
                let (ca, asks) = (tls.ca.display(), tls.asks_clients);
                let asks = if asks { "yes" } else { "no" };
                format!(
                    "port 0\ntls-port {}\ntls-replication yes\ntls-auth-clients {asks}\n\
                     tls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n",
                    ports.own
                )
            }
        };
        let folder = self.folder.to_str().unwrap();
        lines += "bind 127.0.0.1\n";
        if let Some(servers) = SERVERS {
            writeln!(lines, "bind-source-addr {servers}").unwrap();
        }
        writeln!(lines, "dir \"{folder}\"").unwrap();
        lines + &(self.kind.lines)(&ports)
    }

    /// Waits until it answers. On the first time a port may have been taken by another since it was found to be free.
    pub(super) fn wait_until_it_answers(&self, first: bool) {
        eventually(&format!("{} answers", self.name), || {
            // A port that was taken is perhaps that of another test's server.
            let said: String = self.try_ask("INFO server").unwrap_or_default();
            if super::info(&said, "process_id") == self.id().as_deref() && !said.is_empty() {
                return true;
            }
            let mut state = self.state.lock();
            let ended = match &mut state.process {
                Some(process) => process.child.try_wait().unwrap().is_some(),
                None => panic!("{} does not run", self.name),
            };
            drop(state);
            if ended {
                assert!(first, "{} has ended: {}", self.name, self.log());
                let log = self.log();
                assert!(log.contains("in use"), "{} has ended: {log}", self.name);
                *self.ports.lock() = Ports::free(self.network.port);
                std::fs::remove_file(self.folder.join("redis.conf")).unwrap();
                self.spawn();
            }
            false
        });
    }

    /// As `kill -9` does, and whoever calls is refused.
    pub(crate) fn kill(&self) {
        *self.state.lock() = State::default();
        self.network.close();
    }

    /// Starts it again after `kill`, as it was but for what it knew.
    pub(crate) fn run_again(&self) {
        assert!(self.state.lock().process.is_none(), "runs already");
        self.spawn();
        self.wait_until_it_answers(false);
    }

    /// It stands still, and its sockets are open.
    pub(crate) fn pause(&self) {
        let mut state = self.state.lock();
        if let Some(process) = &state.process {
            programs::signal(process.child.id(), "STOP");
            state.paused = true;
        }
    }

    pub(crate) fn resume(&self) {
        let mut state = self.state.lock();
        if let Some(process) = &state.process {
            programs::signal(process.child.id(), "CONT");
            state.paused = false;
        }
    }

    /// Whether it is neither killed nor paused.
    pub(crate) fn runs(&self) -> bool {
        let state = self.state.lock();
        state.process.is_some() && !state.paused
    }

    fn id(&self) -> Option<String> {
        let state = self.state.lock();
        let process = state.process.as_ref()?;
        Some(process.child.id().to_string())
    }

    /// From now on no byte passes between it and clients, or its replicas, and no connection is closed. Others of its cluster
    /// still hear of it.
    pub(crate) fn drop_network(&self) {
        self.network.set(Passes::None);
    }

    /// From now on it is served as ever, and its replicas hear nothing: what is written is lost if it is killed.
    pub(crate) fn drop_replication(&self) {
        assert!(SERVERS.is_some(), "Linux only");
        self.network.set(Passes::Clients);
    }

    /// All that was held back arrives.
    pub(crate) fn restore_network(&self) {
        self.network.set(Passes::All);
    }

    /// Where clients reach it.
    pub(crate) fn port(&self) -> u16 {
        self.network.port
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    pub(super) fn own_port(&self) -> u16 {
        self.ports.lock().own
    }

    pub(super) fn bus(&self) -> u16 {
        self.ports.lock().bus
    }

    /// One command, the words of which are separated by spaces, past the network and whoever is let in.
    pub(crate) fn try_ask<T: FromRedisValue>(&self, command: &str) -> RedisResult<T> {
        let answers = self.ask_all(&[command])?;
        let last = answers.into_iter().next_back().unwrap();
        Ok(redis::from_redis_value(last)?)
    }

    /// Several at once.
    pub(super) fn ask_all<S: AsRef<str>>(&self, commands: &[S]) -> RedisResult<Vec<Value>> {
        let mut wire = self.connect()?;
        let ours = format!("AUTH {OURS} {OURS}");
        let commands: Vec<_> = [ours.as_str()]
            .into_iter()
            .chain(commands.iter().map(AsRef::as_ref))
            .collect();
        let packed = commands
            .iter()
            .map(|command| cmd(command).get_packed_command());
        wire.write_all(&packed.collect::<Vec<_>>().concat())?;
        let mut parser = Parser::new();
        let answers = commands
            .iter()
            .map(|_| parser.parse_value(&mut wire)?.extract_error());
        answers.skip(1).collect()
    }

    /// Not as the `redis` crate does it, which with TLS reads all CAs of the system each time.
    fn connect(&self) -> io::Result<Box<dyn Wire>> {
        let wire = TcpStream::connect(("127.0.0.1", self.own_port()))?;
        wire.set_read_timeout(Some(PATIENCE))?;
        let Some(tls) = &self.house.tls else {
            return Ok(Box::new(wire));
        };
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        context.set_certificate_chain_file(&tls.client.cert)?;
        context.set_private_key_file(&tls.client.key, SslFiletype::PEM)?;
        let wire = Ssl::new(&context.build())?.connect(wire);
        Ok(Box::new(wire.map_err(io::Error::other)?))
    }

    #[track_caller]
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let name = &self.name;
        self.try_ask(command)
            .unwrap_or_else(|error| panic!("{name}: {command}: {error}"))
    }

    /// `redis-cli` as a client of this server, which follows where a cluster sends it: what it says.
    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let access = self.house.access.lock().clone();
        self.cli_as(access.name(), access.newest(), words)
    }

    /// The same as this user.
    pub(crate) fn cli_as(&self, user: &str, password: Option<&str>, words: &[&str]) -> String {
        let server = std::env::var("REDIS_SERVER").unwrap_or_default();
        let program = match server.strip_suffix("-server") {
            Some(start) => format!("{start}-cli"),
            None => "redis-cli".into(),
        };
        let mut command = Command::new(program);
        command.args(["-c", "-h", "127.0.0.1", "-p", &self.port().to_string()]);
        if let Some(tls) = &self.house.tls {
            command.arg("--tls").arg("--cacert").arg(&tls.ca);
            command.arg("--cert").arg(&tls.client.cert);
            command.arg("--key").arg(&tls.client.key);
        }
        if let Some(password) = password {
            command.args(["--user", user]);
            command.env("REDISCLI_AUTH", password);
        }
        let output = crate::common::process::run(command.args(words), b"");
        let said = String::from_utf8_lossy(&output.stdout);
        said.trim_end().to_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// How often it has answered with this error.
    pub(crate) fn errors(&self, code: &str) -> u64 {
        let stats: String = self.ask("INFO errorstats");
        let count = super::info(&stats, &format!("errorstat_{code}"));
        let count = count.and_then(|count| count.strip_prefix("count="));
        count.map_or(0, |count| count.parse().unwrap())
    }

    pub(super) fn is_replica(&self) -> bool {
        let text: String = self.ask("INFO replication");
        super::info(&text, "role") == Some("slave")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<_> = log.lines().rev().take(12).collect();
            eprintln!("{} says at last:", self.name);
            last.iter().rev().for_each(|line| eprintln!("    {line}"));
        }
        self.kill();
    }
}

impl Ports {
    fn free(announced: u16) -> Self {
        Self {
            announced,
            own: free_port(),
            bus: free_port(),
        }
    }
}

trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

fn cmd(command: &str) -> Cmd {
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        cmd.arg(word);
    });
    cmd
}

/// A process that is killed when dropped, and when the test's process ends without that, as it does when its time is over:
/// one that is paused would stay for ever.
struct Process {
    child: Child,
    guard: Child,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let child = programs::start(command.stdin(Stdio::null()));
        let mut guard = Command::new("sh");
        // Until its input ends, which the test's process holds open.
        guard.args(["-c", "read -r id; read -r _; kill -9 \"$id\""]);
        guard.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut guard = programs::start(&mut guard);
        let input = guard.stdin.as_mut().unwrap();
        writeln!(input, "{}", child.id()).unwrap();
        Self { child, guard }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first: the number may be another's once the process has gone.
        for process in [&mut self.guard, &mut self.child] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
