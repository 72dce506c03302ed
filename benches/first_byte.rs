//! How long a client waits for the first byte of an answer, over a link with a round trip of 50 ms: in a full
//! handshake, in one that resumes, and in one that resumes with its request as early data. nginx and a small server
//! on this library, in turn.
//!
//! Lines for `report.py`: the median of the runs in milliseconds, the least and the most.

#![allow(missing_docs, reason = "no public interface")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContext, SslRef};
use openssl_resumption::{EarlyData, MemoryRegister, MemoryStore, Resumption, accept_early};

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "support/link.rs"]
mod link;
#[path = "support/nginx.rs"]
mod nginx;

use common::{Client, Kind, context, identity};
use link::link;
use nginx::Nginx;

const ROUND_TRIP: Duration = Duration::from_millis(50);

const RUNS: usize = 21;

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Full,
    Resumed,
    Early,
}

impl Way {
    const ALL: [Self; 3] = [Self::Full, Self::Resumed, Self::Early];
}

/// A server at the end of a link, and a client of it.
struct Peer {
    name: &'static str,
    address: SocketAddr,
    client: Client,
    times: [Vec<Duration>; 3],
}

impl Peer {
    fn new(name: &'static str, server: SocketAddr) -> Self {
        let client = Client::new(Kind::Tls13).expect("a client");
        Self {
            name,
            address: link(server, ROUND_TRIP),
            client: client.server_name("localhost"),
            times: Default::default(),
        }
    }

    /// One connection of each kind.
    fn run(&mut self) {
        let mut session = None;
        for (way, number) in Way::ALL.into_iter().zip(0..) {
            let (time, next) = self.connect(way, session.as_deref());
            self.times[number].push(time);
            session = next;
        }
    }

    /// From the connect to the first byte, and the session to offer next; nginx gives none when it closes before the
    /// handshake is finished.
    fn connect(&self, way: Way, session: Option<&[u8]>) -> (Duration, Option<Vec<u8>>) {
        let begun = Instant::now();
        let tcp = TcpStream::connect(self.address).expect("a link");
        tcp.set_nodelay(true).expect("a socket");
        let mut stream = self.client.start(tcp, session).expect("a client");
        if way == Way::Early {
            let written = stream.write_early_data(REQUEST).expect("early data");
            assert_eq!(written, REQUEST.len());
        }
        stream.connect().expect("a handshake");
        assert_eq!(
            is_accepted(stream.ssl()),
            way == Way::Early,
            "{}",
            self.name
        );
        if way != Way::Early {
            stream.write_all(REQUEST).expect("a request");
        }
        let mut first = [0];
        stream.read_exact(&mut first).expect("an answer");
        let time = begun.elapsed();
        let seen = self.client.finish(stream).expect("the rest of it");
        assert_eq!(seen.resumed, way != Way::Full, "{}", self.name);
        let answer = [&first, &seen.reply[..]].concat();
        assert!(answer.starts_with(b"HTTP/1.") && answer.ends_with(b"an answer\n"));
        (time, seen.sessions.last().cloned())
    }

    fn report(&mut self) {
        self.times
            .iter_mut()
            .for_each(|times| times.sort_unstable());
        let [_, resumed, early] = self.times.each_ref().map(|times| times[RUNS / 2]);
        let saved = resumed.saturating_sub(early);
        assert!(
            (ROUND_TRIP * 4 / 5..ROUND_TRIP * 6 / 5).contains(&saved),
            "{}: early data saves {saved:?}",
            self.name
        );
        let millis = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        for (way, times) in Way::ALL.into_iter().zip(&self.times) {
            let (least, most) = (millis(times[0]), millis(times[RUNS - 1]));
            let median = millis(times[RUNS / 2]);
            println!("{},{way:?},{median},{least},{most}", self.name);
        }
    }
}

fn main() {
    let nginx = Nginx::start(identity());
    let policy = Resumption::stateful(MemoryStore::default())
        .early_data(16 * 1024)
        .replay_register(MemoryRegister::default().sessions_end_with_process());
    let ours = serve(context(&policy));
    let mut peers = [
        Peer::new("nginx", nginx.address),
        Peer::new("**stateful**", ours),
    ];
    for _ in 0..RUNS {
        peers.iter_mut().for_each(Peer::run);
    }
    let stats = policy.stats();
    assert_eq!(stats.early_data(EarlyData::Accepted), RUNS as u64);
    assert_eq!(stats.early_data_offered(), RUNS as u64);
    println!("server,way,median,least,most");
    peers.iter_mut().for_each(Peer::report);
}

/// A server of plain threads.
fn serve(context: SslContext) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let ssl = Ssl::new(&context).expect("a server");
            let tcp = tcp.expect("a connection");
            thread::spawn(move || answer(ssl, tcp));
        }
    });
    address
}

/// What goes wrong the client says.
fn answer(ssl: Ssl, tcp: TcpStream) {
    tcp.set_nodelay(true).expect("a socket");
    let mut stream = accept_early(ssl, tcp).expect("a handshake");
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).expect("a request");
        assert!(read > 0, "a request that is whole");
        request.extend_from_slice(&buffer[..read]);
    }
    let answer = b"HTTP/1.0 200 OK\r\ncontent-length: 10\r\n\r\nan answer\n";
    stream.write_all(answer).expect("an answer");
    stream.shutdown().expect("an end");
}

#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
unsafe extern "C" {
    fn SSL_get_early_data_status(ssl: *const openssl_sys::SSL) -> std::ffi::c_int;
}

/// Whether the server has accepted early data.
#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
fn is_accepted(ssl: &SslRef) -> bool {
    use foreign_types::ForeignTypeRef;

    // SAFETY: reads a field of a live SSL.
    unsafe { SSL_get_early_data_status(ssl.as_ptr()) == 2 }
}
