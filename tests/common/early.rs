//! First flights of clients with early data, and what a server hands out of them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::accept_early;

use super::Client;

/// The client's end of a connection and the server's.
pub fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    for stream in [&near, &far] {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
    }
    (near, far)
}

/// The first flight of a client with early data, as it is on the wire.
pub fn flight(client: &Client, session: &[u8], early: &[u8]) -> Vec<u8> {
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut stream = client.start(near, Some(session)).unwrap();
    assert_eq!(stream.write_early_data(early).unwrap(), early.len());
    drop(stream);
    let mut flight = Vec::new();
    far.read_to_end(&mut flight).unwrap();
    flight
}

/// What a server hands to its application of this flight, from somebody who cannot go on.
pub fn replay(context: &SslContext, flight: &[u8]) -> Vec<u8> {
    let (mut near, far) = pair();
    near.write_all(flight).unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    serve_early(context, far)
}

/// The early data that a server reads.
fn serve_early(context: &SslContext, far: UnixStream) -> Vec<u8> {
    let mut early = Vec::new();
    if let Ok(mut stream) = accept_early(Ssl::new(context).unwrap(), far) {
        assert!(stream.is_early(), "nobody can finish it");
        let mut buffer = [0; 1_000];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            early.extend_from_slice(&buffer[..read]);
        }
        assert!(stream.is_early() && stream.finished().is_err());
        // Where OpenSSL would go on.
        assert!(stream.write_all(b"late").is_err() && stream.flush().is_err());
    }
    early
}
