//! The server's instructions for one ClientHello of 64 KB that mentions one session as often as it can, under
//! a name that the session does not resume for: until the server has answered, and waits for the client.
//!
//! Lines for `report.py`: `baseline` is what OpenSSL alone takes for such a hello, in tickets that it cannot open
//! or in session ids that its cache does not have. `mentions stateful certificate` does one row.

#![allow(missing_docs, reason = "no public interface")]

use std::env;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread;

use openssl::hash::MessageDigest;
use openssl::ssl::{Ssl, SslAcceptorBuilder, SslContext, SslOptions, SslStream, SslVerifyMode};
use openssl_resumption::{MemoryStore, Resumption, SslContextBuilderExt, TicketKeys};

#[path = "support/callgrind.rs"]
mod callgrind;
#[path = "../tests/common/mod.rs"]
mod common;

use common::{Client, Identity, Kind, acceptor, ca_and_client, client_as, meet, offering, ticket};

/// What `counted` calls is counted.
const COUNTED: &str = "*mentions::counted*";

/// Policies, each with what OpenSSL alone is compared with it.
const ROWS: [(&str, &str); 8] = [
    ("stateful", "cache"),
    ("stateful undecoded", "cache"),
    ("stateful single use", "cache"),
    ("stateful single use undecoded", "cache"),
    ("stateful forgotten", "cache"),
    ("stateless", "tickets"),
    ("stateless forgotten", "tickets"),
    ("hybrid", "tickets"),
];

const CLIENTS: [&str; 2] = ["anonymous", "certificate"];

fn main() {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    if let [row, client] = args[..] {
        return run(row, client);
    }
    let rows = ROWS.iter().map(|(row, _)| *row).chain(["cache", "tickets"]);
    let jobs: Vec<_> = rows
        .flat_map(|row| CLIENTS.map(|client| (row, client)))
        .collect();
    let (send, counts) = mpsc::channel();
    thread::scope(|scope| {
        // Load changes times, not counts.
        for half in jobs.chunks(jobs.len().div_ceil(2)) {
            let send = send.clone();
            scope.spawn(move || {
                for (row, client) in half {
                    let count = callgrind::count(COUNTED, &[row, client]);
                    send.send(((*row, *client), count)).expect("main waits");
                }
            });
        }
    });
    drop(send);
    let counts: std::collections::HashMap<_, _> = counts.into_iter().collect();
    println!("policy,client,instructions,baseline");
    for (row, alone) in ROWS {
        for client in CLIENTS {
            println!(
                "{row},{client},{},{}",
                counts[&(row, client)],
                counts[&(alone, client)]
            );
        }
    }
}

fn policy(row: &str, me: &Identity) -> Option<Resumption> {
    let policy = match row.split(' ').next() {
        Some("stateful") => Resumption::stateful(MemoryStore::default()),
        Some("stateless") => Resumption::stateless(TicketKeys::random()),
        Some("hybrid") => Resumption::hybrid(MemoryStore::default(), TicketKeys::random()),
        _ => return None,
    };
    if row.ends_with("forgotten") {
        // Somebody else: that there is a list has certificates hashed.
        let digest = me.cert.digest(MessageDigest::sha1()).expect("a digest");
        let mut other = [0; 32];
        other[..20].copy_from_slice(&digest);
        policy.forget_client(other);
    }
    let max_decoded = match row.ends_with("undecoded") {
        true => 0,
        false => Resumption::DEFAULT_MAX_DECODED,
    };
    Some(
        policy
            .single_use(row.contains("single use"))
            .max_decoded(max_decoded),
    )
}

fn server(row: &str, ca: &Identity, policy: Option<&Resumption>) -> SslContext {
    let mut builder: SslAcceptorBuilder = acceptor();
    builder
        .cert_store_mut()
        .add_cert(ca.cert.clone())
        .expect("a CA");
    builder.set_verify(SslVerifyMode::PEER);
    match policy {
        Some(policy) => builder.set_resumption(policy).expect("a policy"),
        None => {
            builder.set_session_id_context(b"alone").expect("a context");
            if row == "cache" {
                builder.set_options(SslOptions::NO_TICKET);
            }
        }
    }
    builder.build().into_context()
}

fn run(row: &str, client: &str) {
    let (ca, me) = ca_and_client();
    let policy = policy(row, &me);
    let here = server(row, &ca, policy.as_ref());
    // OpenSSL alone, which does not know names, would resume its own.
    let there = match policy {
        Some(_) => here.clone(),
        None => server(row, &ca, None),
    };
    let client = match client {
        "certificate" => client_as(Kind::Tls13, &me),
        _ => Client::new(Kind::Tls13).expect("a client"),
    };
    let client = client.server_name("a.example");
    // What is done only once.
    for warm in [true, false] {
        let met = meet(&there, &client, None);
        let ticket = ticket(met.next().expect("a session")).to_vec();
        let mentions = (65_535 - 2 - 35 - 400) / (ticket.len() + 6);
        let hello = offering("P-256", (0..mentions).map(|_| ticket.clone()));
        let mut stream =
            SslStream::new(Ssl::new(&here).expect("a server"), Peer::of(hello)).expect("a stream");
        let mut accept = || drop(black_box(stream.accept()));
        if warm {
            accept();
        } else {
            counted(&mut accept);
        }
        let Peer { answer, .. } = stream.get_ref();
        assert_eq!([answer[0], answer[5]], [22, 2], "a ServerHello");
    }
}

#[inline(never)]
pub fn counted(part: &mut dyn FnMut()) {
    part();
    // Not a jump to `part`, after which nobody would come back here.
    black_box(());
}

/// A client that has said all it says.
#[derive(Debug)]
struct Peer {
    hello: io::Cursor<Vec<u8>>,
    answer: Vec<u8>,
}

impl Peer {
    fn of(hello: Vec<u8>) -> Self {
        let hello = io::Cursor::new(hello);
        let answer = Vec::new();
        Self { hello, answer }
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.hello.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
