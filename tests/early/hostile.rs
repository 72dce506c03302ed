//! Clients that offer early data and do what no client should.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use crate::common::early::pair;
use crate::common::*;
use crate::connection::{MAX, policies, session_of};
use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::{EarlyData, accept_early};

/// A byte more than allowed ends the connection with an alert; what comes before that is handed out.
#[test]
fn more_than_was_allowed_ends_the_connection() {
    for (mode, policy) in policies() {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        // OpenSSL's client knows how much it may send, and the session is told another limit.
        let greedy = promised(&session, MAX + 1);
        let early = vec![7; MAX as usize + 1];
        let flight = flight(&client, &greedy, &early);
        let read = replay(&context, &flight);
        assert!(read.len() <= MAX as usize, "{mode}: {}", read.len());
        assert_eq!(policy.stats().early_data(EarlyData::Accepted), 1, "{mode}");
        assert_eq!(handshakes(&policy.stats()).1, 0, "{mode}");
    }
}

/// The client's session with another number in its `max_early_data`, of as many bytes.
fn promised(session: &[u8], max: u32) -> Vec<u8> {
    let at = field(session, 15).expect("a session that may send early data");
    let mut changed = session.to_vec();
    let bytes = max.to_be_bytes();
    let len = at.len();
    changed[at].copy_from_slice(&bytes[4 - len..]);
    changed
}

/// What is sent as early data of a session that does not resume is skipped, if it is not too much, and cannot be
/// taken for anything else.
#[test]
fn garbage_after_a_session_that_does_not_resume_is_skipped() {
    for (mode, policy) in policies() {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        policy.forget_all();
        let full = flight(&client, &session, b"early");
        let hello = 5 + usize::from(u16::from_be_bytes([full[3], full[4]]));
        for garbage in [
            record(23, &[0; 100]),
            record(23, &[0; 16_000]),
            [record(23, &[1; 100]), record(23, &[2; 100])].concat(),
            record(22, &[0; 100]),
            record(21, &[2, 40]),
            vec![0xff; 1_000],
        ] {
            let flight = [&full[..hello], &garbage].concat();
            assert_eq!(replay(&context, &flight), b"", "{mode}");
        }
        assert_eq!(handshakes(&policy.stats()), (1, 0), "{mode}");
    }
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3, len[0], len[1]], content].concat()
}

/// A flight that ends anywhere hands out what was whole, and no more.
#[test]
fn a_flight_that_is_cut_hands_out_what_came_whole() {
    let early: Vec<u8> = (0..60).collect();
    for (mode, policy) in policies().into_iter().take(3) {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        let len = flight(&client, &session, &early).len();
        for cut in (0..len).step_by(7).chain(len - 100..=len) {
            let flight = flight(&client, &session, &early);
            let read = replay(&context, &flight[..cut]);
            let expected: &[u8] = if cut == len { &early } else { b"" };
            assert_eq!(read, expected, "{mode}: {cut} of {len}");
        }
    }
}

/// One connection's flight in two pieces, cut at every position: whatever is read at a time, it is the same.
#[test]
fn a_flight_that_comes_in_pieces_is_the_same() {
    let (_, policy) = policies().into_iter().next().unwrap();
    let context = context(&policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let session = session_of(&context, &client);
    let early = b"GET / HTTP/1.0\r\n\r\n";
    let len = flight(&client, &session, early).len();
    for cut in 1..len {
        let flight = flight(&client, &session, early);
        let (mut near, far) = pair();
        let ssl = Ssl::new(&context).unwrap();
        let server = thread::spawn(move || {
            let mut stream = accept_early(ssl, far).unwrap();
            let mut read = Vec::new();
            let _ = stream.read_to_end(&mut read);
            read
        });
        near.write_all(&flight[..cut]).unwrap();
        thread::yield_now();
        near.write_all(&flight[cut..]).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.join().unwrap(), early, "{cut} of {len}");
    }
}

/// A client that sends early data and vanishes, again and again: nothing is left of it.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn nothing_is_left_of_clients_that_vanish() {
    // 9,000 times, or as this variable says.
    let times = std::env::var("OPENSSL_RESUMPTION_VANISH");
    let times: u32 = times.map_or(9_000, |times| times.parse().unwrap());
    child::in_child("nothing_is_left_of_clients_that_vanish", || {
        let policies = policies();
        let each = times / 3;
        for (mode, policy) in policies.into_iter().take(3) {
            let context = context(&policy);
            let client = Client::new(Kind::Tls13).unwrap();
            let session = session_of(&context, &client);
            vanish(&context, &client, &session, 500);
            let (before, open) = (allocated(), descriptors());
            vanish(&context, &client, &session, each);
            let grown = allocated().saturating_sub(before);
            // The register keeps each hello for a while, in less than 200 bytes.
            let allowed = usize::try_from(each).unwrap() * 200 + 2_000_000;
            assert!(grown < allowed, "{mode}: {grown} bytes after {each}");
            assert_eq!(descriptors(), open, "{mode}");
        }
    });
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn vanish(context: &SslContext, client: &Client, session: &[u8], times: u32) {
    for _ in 0..times {
        assert_eq!(
            replay(context, &flight(client, session, b"early")),
            b"early"
        );
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The bytes in use, as the C library's allocator counts them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "a function of C")]
fn allocated() -> usize {
    // SAFETY: reads the counts of the allocator.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}
