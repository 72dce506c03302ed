//! An nginx of a benchmark's own that takes early data, killed when dropped.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::Identity;
use crate::common::process::Scratch;
use crate::common::programs;

pub(crate) struct Nginx {
    process: Child,
    pub(crate) address: SocketAddr,
    /// Where its files are.
    _scratch: Scratch,
}

impl Nginx {
    pub(crate) fn start(identity: &Identity) -> Self {
        let scratch = Scratch::new("first-byte");
        let pem = identity.cert.to_pem().expect("a certificate");
        let cert = scratch.write("cert.pem", &pem);
        let pem = identity.key.private_key_to_pem_pkcs8().expect("a key");
        let key = scratch.write("key.pem", &pem);
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let directory = scratch.0.display().to_string();
        let conf = format!(
            "daemon off; master_process off; worker_processes 1; pid {directory}/pid;
            error_log stderr; events {{}}
            http {{
                access_log off; keepalive_timeout 0;
                server {{
                    listen {address} ssl;
                    ssl_certificate {cert}; ssl_certificate_key {key};
                    ssl_protocols TLSv1.3; ssl_session_tickets on; ssl_early_data on;
                    location / {{ return 200 \"an answer\\n\"; }}
                }}
            }}"
        );
        let conf = scratch.write("conf", conf.as_bytes());
        let mut command = Command::new("nginx");
        // Where Debian has servers.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin"));
        command.args(["-e", "stderr", "-p", &directory, "-c", &conf]);
        ends_with_us(&mut command);
        let nginx = Self {
            process: programs::start(&mut command),
            address,
            _scratch: scratch,
        };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "no answer");
            thread::sleep(Duration::from_millis(10));
        }
        nginx
    }
}

/// Also when this process is killed, and drops nothing. To be called on the main thread: the kernel counts on the thread
/// that starts the program.
#[allow(unsafe_code, reason = "a function of C")]
fn ends_with_us(command: &mut Command) {
    let ask = || {
        // SAFETY: a system call without memory.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec no more than that system call is made.
    unsafe { command.pre_exec(ask) };
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
