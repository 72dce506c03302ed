//! What is between a server and its Redis, and does as it pleases.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Accepts, and neither answers nor closes.
pub(crate) const SWALLOWS: u8 = 0;
pub(crate) const FORWARDS: u8 = 1;
/// Forwards what Redis says a byte at a time, each sooner than a deadline.
pub(crate) const DRIPS: u8 = 2;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    mode: Arc<AtomicU8>,
    target: Arc<AtomicU16>,
}

impl Proxy {
    pub(crate) fn start(target: u16, mode: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(mode));
        let target = Arc::new(AtomicU16::new(target));
        let (now, to) = (Arc::clone(&mode), Arc::clone(&target));
        thread::spawn(move || {
            let mut swallowed = Vec::new();
            for client in listener.incoming().map(Result::unwrap) {
                if now.load(Relaxed) == SWALLOWS {
                    swallowed.push(client);
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to.load(Relaxed))) else {
                    continue;
                };
                for (from, to, drips) in [(&client, &server, false), (&server, &client, true)] {
                    let [from, to] = [from, to].map(|end| end.try_clone().unwrap());
                    let now = Arc::clone(&now);
                    thread::spawn(move || {
                        forward(from, to, || drips && now.load(Relaxed) == DRIPS)
                    });
                }
            }
        });
        Self { port, mode, target }
    }

    /// Where new connections are to go.
    pub(crate) fn set_target(&self, port: u16) {
        self.target.store(port, Relaxed);
    }

    pub(crate) fn set(&self, mode: u8) {
        self.mode.store(mode, Relaxed);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, drips: impl Fn() -> bool) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let size = if drips() { 1 } else { length };
        for piece in buffer[..length].chunks(size) {
            if size == 1 {
                thread::sleep(Duration::from_millis(30));
            }
            if to.write_all(piece).is_err() {
                return;
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
