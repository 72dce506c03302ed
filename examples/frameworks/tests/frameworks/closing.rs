//! How connections end: whether the server sends close_notify before it closes, as measured with
//! the versions in `Cargo.lock`. The table in the README of these examples is this one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use frameworks::support::Client;
use openssl::ssl::ShutdownState;

use crate::http::LAST;
use crate::{VERSIONS, start};

/// Who ends the connection, and how.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The server, because it was told that the request is the last.
    LastRequest,
    /// The client, which sends close_notify and waits.
    CloseNotify,
    /// The client, which closes its half of the TCP connection without.
    Fin,
    /// The server, because what it got is malformed.
    Malformed,
    /// The server, because no request came.
    Idle,
    /// The server, because its process is told to end.
    Terminated,
}
use End::*;

/// What a client says.
struct Protocol {
    alpn: &'static [u8],
    last: &'static [u8],
    /// `None` if the server closes after any.
    first: Option<&'static [u8]>,
    malformed: &'static [u8],
}

const HTTP10: Protocol = Protocol {
    first: None,
    ..HTTP11
};

const HTTP11: Protocol = Protocol {
    alpn: b"\x08http/1.1",
    last: LAST,
    first: Some(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    malformed: b"\0\0\0\0\r\n\r\n",
};

/// A preface and settings, of which one octet is too few. GOAWAY asks for the end.
const HTTP2: Protocol = Protocol {
    alpn: b"\x02h2",
    last: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
        \0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
    first: Some(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
    malformed: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x01\x04\0\0\0\0\0\0",
};

#[track_caller]
fn sends_close_notify(program: &str, protocol: &Protocol, expected: &[(End, bool)]) {
    for (end, expected) in expected {
        for (kind, version) in VERSIONS {
            let server = start(program, "stateful");
            let client = Client::with(kind, |context| context.set_alpn_protos(protocol.alpn));
            let tcp = TcpStream::connect(server.address).unwrap();
            tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut tls = client.unwrap().connect(tcp, None).unwrap();
            if let (CloseNotify | Fin | Idle | Terminated, Some(first)) = (end, protocol.first) {
                tls.write_all(first).unwrap();
                assert!(tls.read(&mut [0; 4096]).unwrap() > 0);
            }
            match end {
                LastRequest => tls.write_all(protocol.last).unwrap(),
                CloseNotify => drop(tls.shutdown().unwrap()),
                Fin => tls.get_ref().shutdown(Shutdown::Write).unwrap(),
                Malformed => tls.write_all(protocol.malformed).unwrap(),
                Idle => {}
                Terminated => server.signal("TERM"),
            }
            let ended = tls.read_to_end(&mut Vec::new());
            let open = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            assert!(!open, "{version} {end:?}: the connection stays open");
            let said = tls.get_shutdown().contains(ShutdownState::RECEIVED);
            assert_eq!(said, *expected, "{version} {end:?}");
        }
    }
}

/// As the two are written: a stream that is only dropped sends none.
const BY_HAND: [(End, bool); 3] = [(LastRequest, true), (CloseNotify, true), (Fin, true)];

#[test]
fn threads() {
    sends_close_notify(env!("CARGO_BIN_EXE_threads"), &HTTP10, &BY_HAND);
}

#[test]
fn tokio_openssl() {
    sends_close_notify(env!("CARGO_BIN_EXE_tokio_openssl"), &HTTP10, &BY_HAND);
}

/// axum-server and tonic are built on hyper. None of the three ends an idle connection.
const HYPER: [(End, bool); 5] = [
    (LastRequest, true),
    (CloseNotify, true),
    (Fin, true),
    (Malformed, true),
    (Terminated, false),
];

#[test]
fn hyper() {
    sends_close_notify(env!("CARGO_BIN_EXE_hyper"), &HTTP11, &HYPER);
}

#[test]
fn axum_server() {
    let program = env!("CARGO_BIN_EXE_axum_server");
    sends_close_notify(program, &HTTP11, &HYPER);
    sends_close_notify(program, &HTTP2, &HYPER);
}

#[test]
fn tonic() {
    sends_close_notify(env!("CARGO_BIN_EXE_tonic"), &HTTP2, &HYPER);
}

/// It ends idle connections after five seconds, and has a signal handler.
#[test]
fn actix_web() {
    let ends = [
        (LastRequest, true),
        (CloseNotify, true),
        (Fin, true),
        (Malformed, false),
        (Idle, true),
        (Terminated, true),
    ];
    sends_close_notify(env!("CARGO_BIN_EXE_actix_web"), &HTTP11, &ends);
}

/// Terminated it waits for such a connection, 30 seconds by default, and then closes without: which
/// is too long for a test.
#[test]
fn actix_web_with_http2() {
    let ends = [
        (LastRequest, true),
        (CloseNotify, true),
        (Fin, true),
        (Malformed, true),
        (Idle, false),
    ];
    sends_close_notify(env!("CARGO_BIN_EXE_actix_web"), &HTTP2, &ends);
}
