//! The first flight of a real client, `openssl s_client -early_data`, recorded on its way and sent again.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use crate::common::process::{Scratch, s_client};
use crate::common::*;
use crate::connection::{MAX, Saying};
use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::{
    EarlyData, MemoryRegister, MemoryStore, Registered, Resumption, accept_early,
};

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// A server that answers with what it read early, for as long as the test runs.
fn serve(context: SslContext) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let ssl = Ssl::new(&context).unwrap();
            thread::spawn(move || answer(ssl, tcp.unwrap()));
        }
    });
    address
}

fn answer(ssl: Ssl, tcp: TcpStream) -> Option<()> {
    let mut stream = accept_early(ssl, tcp).ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 100];
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&buffer[..read]);
    }
    let early = if stream.is_early() { "early" } else { "late" };
    write!(stream, "HTTP/1.0 200 OK\r\n\r\nit came {early}\n").ok()?;
    stream.shutdown().ok()?;
    Some(())
}

/// What `s_client` says that comes back with its session and sends its request at once.
fn comes_back(address: SocketAddr, session: &std::path::Path, request: &str) -> String {
    let mut client = Command::new("openssl");
    client
        .args(["s_client", "-ign_eof", "-connect", &address.to_string()])
        .args(["-early_data", request])
        .arg("-sess_in")
        .arg(session)
        .stdin(Stdio::null());
    let child = programs::start(client.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let output = programs::output(child, "s_client");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Passes one connection on, and keeps what the client sends before it hears from the server.
fn recorder(server: SocketAddr) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let recorded = thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(server).unwrap();
        let (mut to_client, mut from_server) =
            (client.try_clone().unwrap(), server.try_clone().unwrap());
        let back = thread::spawn(move || {
            let _ = std::io::copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let (mut client, mut server) = (client, server);
        let mut flight = Vec::new();
        // The hello's record and that of the early data.
        while flight.len() < whole(&flight, 2) {
            let mut buffer = [0; 4_096];
            let read = client.read(&mut buffer).unwrap();
            assert!(read > 0, "the client left");
            flight.extend_from_slice(&buffer[..read]);
        }
        server.write_all(&flight).unwrap();
        let _ = std::io::copy(&mut client, &mut server);
        back.join().unwrap();
        flight
    });
    (address, recorded)
}

/// How long so many records are, as far as their headers are there.
fn whole(bytes: &[u8], records: usize) -> usize {
    let mut end = 0;
    for _ in 0..records {
        // Between them may be one that changes nothing, for the sake of middleboxes.
        loop {
            let Some(header) = bytes.get(end..end + 5) else {
                return usize::MAX;
            };
            end += 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
            if header[0] != 20 {
                break;
            }
        }
    }
    end
}

/// Sends a flight again, as somebody who cannot go on, and waits until the server has enough.
fn send_again(address: SocketAddr, flight: &[u8]) {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.write_all(flight).unwrap();
    tcp.shutdown(Shutdown::Write).unwrap();
    let _ = tcp.read_to_end(&mut Vec::new());
}

#[test]
fn the_flight_of_s_client_is_answered_once() {
    let scratch = Scratch::new("early-s_client");
    let request = scratch.write("request", REQUEST);
    for protected in [false, true] {
        let register = Arc::new(MemoryRegister::default().sessions_end_with_process());
        let store = Arc::new(MemoryStore::default());
        let policy = Resumption::stateful(store).early_data(MAX);
        let policy = match protected {
            true => policy.replay_register(register),
            false => policy.replay_register(Saying(|| Ok(Registered::First))),
        };
        let hosts = [(); 2].map(|()| serve(context(&policy)));
        let session = scratch.0.join(format!("session-{protected}"));
        let (text, reused) = s_client(hosts[0], &["-tls1_3"], &session, REQUEST);
        assert!(!reused && text.contains("it came late"), "{text}");

        let (proxy, recorded) = recorder(hosts[0]);
        let text = comes_back(proxy, &session, &request);
        assert!(text.contains("Early data was accepted"), "{text}");
        assert!(text.contains("it came early"), "{text}");
        let flight = recorded.join().unwrap();

        let stats = || policy.stats();
        let before = stats();
        for host in [hosts[0], hosts[1]] {
            send_again(host, &flight);
        }
        let accepted =
            stats().early_data(EarlyData::Accepted) - before.early_data(EarlyData::Accepted);
        let replayed = stats().early_data(EarlyData::Replayed);
        assert_eq!(
            (accepted, replayed),
            if protected { (0, 2) } else { (2, 0) }
        );
    }
}
