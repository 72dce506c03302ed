//! What has ended is wiped within ten seconds, also if nobody comes: looked for in all of the memory of a server.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::process::{Scratch, Server};
use crate::common::*;

/// How often these bytes are in the memory of a process. The process may run on meanwhile.
fn traces(server: &Server, secret: &[u8]) -> usize {
    let process = server.id();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let parts = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let at = |hex| u64::from_str_radix(hex, 16).ok();
        rest.starts_with("rw").then_some((at(start)?, at(end)?))
    });
    let mut found = 0;
    for (start, end) in parts {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        let read = memory.read_at(&mut bytes, start).unwrap_or(0);
        found += count(&bytes[..read], secret);
    }
    found
}

/// How often bytes are in others. Not by Rust, which without optimisation takes seconds for a process.
#[allow(unsafe_code, reason = "a function of C")]
fn count(mut bytes: &[u8], wanted: &[u8]) -> usize {
    let mut found = 0;
    loop {
        let (at, from) = (bytes.as_ptr().cast(), wanted.as_ptr().cast());
        // SAFETY: reads two slices of these lengths.
        let hit = unsafe { libc::memmem(at, bytes.len(), from, wanted.len()) };
        if hit.is_null() {
            return found;
        }
        found += 1;
        bytes = &bytes[hit.addr() - at.addr() + 1..];
    }
}

/// The session of one connection, which is over when this returns.
fn visit(server: &Server, client: &Client) -> Vec<u8> {
    let tcp = TcpStream::connect(server.address).unwrap();
    let mut stream = client.connect(tcp, None).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    let seen = client.finish(stream).unwrap();
    seen.sessions.last().unwrap().clone()
}

#[test]
fn no_secret_of_a_session_that_has_ended_is_in_memory() {
    let scratch = Scratch::new("ends");
    let (ca, me) = ca_and_client();
    let ca = scratch.write("ca.pem", &ca.cert.to_pem().unwrap());
    for args in [
        &["--lifetime", "6"][..],
        &["--lifetime", "6", "--client-ca", &ca],
    ] {
        let server = Server::start(args);
        // The second is kept decoded as well.
        let clients = [Kind::Tls12, Kind::Tls13].map(|kind| client_as(kind, &me));
        let begun = Instant::now();
        let sessions = clients.each_ref().map(|client| visit(&server, client));
        for session in &sessions {
            assert!(
                traces(&server, secret_of(session)) > 0,
                "{args:?}: not looked for well"
            );
        }
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "the machine is too busy"
        );
        let patience = begun + Duration::from_secs(6 + 10 + 1);
        for session in &sessions {
            while traces(&server, secret_of(session)) > 0 {
                assert!(Instant::now() < patience, "{args:?}: still there");
                thread::sleep(Duration::from_millis(500));
            }
        }
    }
}
