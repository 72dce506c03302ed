//! A server as it is from far away.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::programs;

/// How long an answer of the server takes to the client.
const WAY: Duration = Duration::from_millis(200);

/// Stands before a server. Its answers arrive late, so that a client that waits for them before it
/// sends its request cannot be taken for one that does not, as it could on this host.
pub(crate) struct Distant {
    pub(crate) address: SocketAddr,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug)]
struct Open {
    clients: Vec<TcpStream>,
    /// When bytes came from either side, the last time.
    moved: Instant,
}

impl Distant {
    /// Goes on until the process ends.
    pub(crate) fn from(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let open = Open {
            clients: Vec::new(),
            moved: Instant::now(),
        };
        let open = Arc::new(Mutex::new(open));
        let known = Arc::clone(&open);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(server));
                let Ok(server) = server else {
                    continue;
                };
                known
                    .lock()
                    .unwrap()
                    .clients
                    .push(client.try_clone().unwrap());
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (there, back) = (Arc::clone(&known), Arc::clone(&known));
                thread::spawn(move || carry(up, server, Duration::ZERO, &there));
                thread::spawn(move || carry(down, client, WAY, &back));
            }
        });
        Self { address, open }
    }

    /// Ends all connections when they have been quiet for a while, as a network does that forgets
    /// them. A browser does not resume what ended in the middle of a handshake, as others may be that it
    /// makes ahead.
    pub(crate) fn hang_up(&self) {
        let is_quiet = || self.open.lock().unwrap().moved.elapsed() > 3 * WAY;
        programs::eventually("the connections are quiet", is_quiet);
        for client in self.open.lock().unwrap().clients.drain(..) {
            // It may have ended itself.
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, takes: Duration, open: &Mutex<Open>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        open.lock().unwrap().moved = Instant::now();
        thread::sleep(takes);
        if to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
