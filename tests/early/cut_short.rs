//! Somebody without any key cuts a flight, and makes up its end: OpenSSL takes alerts in clear until it has read
//! something of the client's after the server's flight.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use crate::common::early::pair;
use crate::common::*;
use crate::connection::{policies, session_of};
use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::accept_early;

/// A close_notify, and a fatal alert.
const ALERTS: [[u8; 7]; 2] = [[21, 3, 3, 0, 2, 1, 0], [21, 3, 3, 0, 2, 2, 40]];

/// The flight of a client that sends a path in two records, of which the second is kept back.
fn cut(client: &Client, session: &[u8]) -> Vec<u8> {
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut stream = client.start(near, Some(session)).unwrap();
    stream.write_early_data(b"delete /tmp/").unwrap();
    stream.write_early_data(b"old-file").unwrap();
    drop(stream);
    let mut flight = Vec::new();
    far.read_to_end(&mut flight).unwrap();
    // The last record: header, content, its type and a tag.
    flight.truncate(flight.len() - (5 + 8 + 1 + 16));
    flight
}

/// What a server reads up to the end, if it is one.
fn read(context: &SslContext, far: UnixStream) -> std::io::Result<Vec<u8>> {
    let mut stream = accept_early(Ssl::new(context).unwrap(), far).unwrap();
    let mut request = Vec::new();
    stream.read_to_end(&mut request)?;
    Ok(request)
}

#[cfg(feature = "tokio")]
fn read_async(context: &SslContext, far: UnixStream) -> std::io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt;

    far.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let far = tokio::net::UnixStream::from_std(far).unwrap();
        let ssl = Ssl::new(context).unwrap();
        let mut stream = openssl_resumption::accept_early_async(ssl, far)
            .await
            .unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await?;
        Ok(request)
    })
}

#[test]
fn who_has_no_key_cannot_end_a_request() {
    type Read = fn(&SslContext, UnixStream) -> std::io::Result<Vec<u8>>;
    let reads: &[Read] = &[
        read,
        #[cfg(feature = "tokio")]
        read_async,
    ];
    for (mode, policy) in policies() {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        for read in reads {
            for alert in ALERTS {
                let session = session_of(&context, &client);
                let (mut near, far) = pair();
                near.write_all(&cut(&client, &session)).unwrap();
                near.write_all(&alert).unwrap();
                let ended = read(&context, far).expect_err(mode);
                if alert == ALERTS[0] {
                    assert_eq!(ended.kind(), ErrorKind::UnexpectedEof, "{mode}");
                }
            }
        }
    }
}
