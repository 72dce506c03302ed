//! A link with a round trip of its own, between a client and a server on this host: a proxy for TCP that keeps back
//! what it is given, in each direction for half of a round trip.
//!
//! There is no bound on how much goes over it at a time: as with a first flight, which fits into one window.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Returns the address of a link to `server`, which is there until the process ends.
pub(crate) fn link(server: SocketAddr, round_trip: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a client");
            thread::spawn(move || {
                // The kernel has answered the client's SYN at once. What the client writes now it would have written
                // when the answer had come.
                thread::sleep(round_trip);
                let server = TcpStream::connect(server).expect("a server that listens");
                carry(&client, &server, round_trip / 2);
                carry(&server, &client, round_trip / 2);
            });
        }
    });
    address
}

/// Carries what comes from one to the other, in order, and then the end.
fn carry(from: &TcpStream, to: &TcpStream, delay: Duration) {
    let again = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    let (mut from, mut to) = (again(from), again(to));
    to.set_nodelay(true).expect("a socket");
    let (send, arrivals) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        // A connection that is reset ends too.
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let due = Instant::now() + delay;
            if send.send((due, buffer[..read].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in arrivals {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        thread::sleep(delay);
        let _ = to.shutdown(Shutdown::Write);
    });
}
