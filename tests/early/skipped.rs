//! Early data that is declined is skipped, whatever it comes in: its handshake is not to fail over it.

use std::io::{Read, Write};
use std::thread;

use crate::common::early::pair;
use crate::common::*;
use crate::connection::{MAX, Saying, session_of};
use openssl::ssl::Ssl;
use openssl_resumption::{MemoryStore, Registered, Resumption, accept_early};

/// A server that may take `max` bytes and declines `len`, which come in records of `size`.
fn decline(max: u32, len: usize, size: usize) {
    let what = format!("{len} of {max} in records of {size}");
    let policy = Resumption::stateful(MemoryStore::default())
        .early_data(max)
        .replay_register(Saying(|| Ok(Registered::WarmingUp)));
    let context = context(&policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let session = session_of(&context, &client);
    let (near, far) = pair();
    let ssl = Ssl::new(&context).unwrap();
    let server = thread::spawn(move || {
        let mut stream = accept_early(ssl, far)?;
        stream.read_exact(&mut [0; 3]).unwrap();
        stream.write_all(b"hello").unwrap();
        stream.shutdown().unwrap();
        Ok::<_, openssl::ssl::Error>(())
    });
    let mut stream = client.start(near, Some(&session)).unwrap();
    let sent = vec![7; len]
        .chunks(size)
        .try_for_each(|chunk| stream.write_early_data(chunk).map(drop));
    let finished = sent.and_then(|()| stream.connect());
    if finished.is_ok() {
        stream.write_all(b"end").unwrap();
        assert!(client.finish(stream).unwrap().resumed, "{what}");
    }
    if let Err(error) = server.join().unwrap() {
        panic!("{what}: {error}");
    }
}

/// OpenSSL counts what each record takes beside, and grants it once.
#[test]
fn many_records_are_skipped_as_one_is() {
    for (max, size) in [
        (MAX, 16_384),
        (MAX, 1_400),
        (MAX, 128),
        (256 * 1_024, 4_096),
        (256 * 1_024, 1_400),
        (1 << 20, 8_192),
    ] {
        decline(max, max as usize, size);
    }
}

/// OpenSSL adds to the limit.
#[test]
fn a_limit_without_end_is_one_that_openssl_can_add_to() {
    for max in [1 << 30, u32::MAX - 103, u32::MAX] {
        decline(max, 1_000, 1_000);
    }
}
