//! nginx and HAProxy, with ticket keys in files.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use openssl::base64;
use openssl_resumption::KeyDialect;

use crate::common::process::Scratch;
use crate::common::programs;
use crate::common::*;

/// A server with these ticket keys, stopped when dropped. It listens in its directory: no port
/// can be in use already.
pub(crate) struct Peer {
    process: Child,
    scratch: Scratch,
    key_files: Vec<PathBuf>,
}

/// `FILES` stands for the ticket key files. One process, so that none is left when it is killed.
const NGINX: &str = "
    daemon off;
    master_process off;
    pid pid;
    error_log stderr;
    events {}
    http {
        access_log off;
        client_body_temp_path temp;
        proxy_temp_path temp;
        fastcgi_temp_path temp;
        uwsgi_temp_path temp;
        scgi_temp_path temp;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate cert.pem;
        ssl_certificate_key cert.pem;
        ssl_session_cache off;
        FILES
        server {
            listen unix:DIRECTORY/tls ssl;
            return 200;
        }
    }
";

const HAPROXY: &str = "
    defaults
        mode http
        timeout client 20s
        timeout server 20s
        timeout connect 20s
    frontend tls
        bind unix@DIRECTORY/tls ssl crt DIRECTORY/cert.pem tls-ticket-keys FILES
        http-request return status 200
";

impl Peer {
    /// Starts the server of this dialect with these keys, in the order of its configuration.
    pub(crate) fn start(dialect: KeyDialect, keys: &[Vec<u8>]) -> Self {
        match dialect {
            KeyDialect::Nginx => Self::start_with(dialect, keys),
            _ => {
                let lines = keys.iter().map(|key| base64::encode_block(key) + "\n");
                Self::start_with(dialect, &[lines.collect::<String>().into_bytes()])
            }
        }
    }

    /// Starts the server with ticket key files that have these contents.
    pub(crate) fn start_with(dialect: KeyDialect, files: &[impl AsRef<[u8]>]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let scratch = Scratch::new(&format!("{dialect}-{}", STARTED.fetch_add(1, Relaxed)));
        let Identity { cert, key } = identity();
        let pem = [
            cert.to_pem().unwrap(),
            key.private_key_to_pem_pkcs8().unwrap(),
        ];
        scratch.write("cert.pem", &pem.concat());
        let files = files.iter().enumerate();
        let key_files: Vec<_> = files
            .map(|(i, content)| {
                PathBuf::from(scratch.write(&format!("keys-{i}"), content.as_ref()))
            })
            .collect();
        let directory = scratch.0.to_str().unwrap();
        let names = key_files.iter().map(|path| path.to_str().unwrap());
        let (configuration, files, args): (_, Vec<_>, &[_]) = match dialect {
            KeyDialect::Nginx => (
                NGINX,
                names
                    .map(|name| format!("ssl_session_ticket_key {name};"))
                    .collect(),
                &["nginx", "-e", "stderr", "-p", directory, "-c", "conf"],
            ),
            KeyDialect::HaProxy => (
                HAPROXY,
                names.map(str::to_owned).collect(),
                &["haproxy", "-db", "-C", directory, "-f", "conf"],
            ),
            _ => unreachable!("no such server is run here"),
        };
        let configuration = configuration
            .replace("FILES", &files.concat())
            .replace("DIRECTORY", directory);
        scratch.write("conf", configuration.as_bytes());
        let peer = Self {
            process: spawn(args, &scratch.0),
            scratch,
            key_files,
        };
        peer.wait_until_ready()
    }

    fn wait_until_ready(mut self) -> Self {
        let begun = Instant::now();
        while UnixStream::connect(self.scratch.0.join("tls")).is_err() {
            let ended = self.process.try_wait().unwrap();
            let log = self.log();
            assert!(ended.is_none(), "{ended:?}: {log}");
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "not ready: {log}"
            );
            sleep(Duration::from_millis(10));
        }
        self
    }

    pub(crate) fn key_files(&self) -> &[PathBuf] {
        &self.key_files
    }

    /// Connects `client`, which offers `session`.
    #[track_caller]
    pub(crate) fn meet(&self, client: &Client, session: Option<&[u8]>) -> Seen {
        let stream = UnixStream::connect(self.scratch.0.join("tls")).unwrap();
        let time = Some(Duration::from_secs(20));
        stream.set_read_timeout(time).unwrap();
        let mut stream = client
            .connect(stream, session)
            .unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let seen = client.finish(stream).unwrap();
        assert!(seen.reply.starts_with(b"HTTP/1."), "{}", self.log());
        seen
    }

    /// What the server has said.
    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.0.join("log")).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(args: &[&str], directory: &Path) -> Child {
    let log = File::create(directory.join("log")).unwrap();
    // Where Debian has servers, but users who are not root do not look.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let mut command = Command::new(args[0]);
    command
        .args(&args[1..])
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    programs::start(&mut command)
}
