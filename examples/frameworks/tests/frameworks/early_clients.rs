//! Early data that clients of other TLS libraries send: the command lines of OpenSSL and GnuTLS, and
//! rustls.

use std::process::Command;

use crate::distant::Distant;
use crate::http::LAST;
use crate::process::{Scratch, Server, run, s_client};
use crate::rustls_client::{Connection, client};
use crate::{MODES, start};

const SERVERS: [&str; 2] = [
    env!("CARGO_BIN_EXE_hyper"),
    env!("CARGO_BIN_EXE_axum_server"),
];

const POST: &[u8] =
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

/// One after which the server goes on.
const FIRST_POST: &[u8] = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";

/// Each server in each mode, and what its sessions resume from.
fn servers(each: impl Fn(Server, &str)) {
    for program in SERVERS {
        for (mode, source) in MODES {
            each(start(program, mode), source);
        }
    }
}

/// What a server answers that has not seen the end of the handshake. It has read the request, which
/// can only have been early data.
#[track_caller]
fn assert_answered_early(answer: &str, full: u32, resumed: u32) {
    let expected = format!("unfinished ({full} full, {resumed} resumed)");
    assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains(&expected), "{expected}: {answer}");
}

#[test]
fn early_data_of_openssl_is_accepted() {
    servers(|server, _| {
        let scratch = Scratch::new(&format!("early-openssl-{}", server.address.port()));
        let session = scratch.0.join("session");
        let request = scratch.write("request", LAST);
        let server = Distant::from(server.address);
        let (first, _) = s_client(server.address, &["-tls1_3"], &session, LAST);
        assert!(first.contains("Early data was not sent"), "{first}");
        for resumed in 0..2 {
            let early = ["-tls1_3", "-early_data", &request];
            let (answer, reused) = s_client(server.address, &early, &session, b"");
            assert!(
                reused && answer.contains("Early data was accepted"),
                "{answer}"
            );
            assert_answered_early(&answer, 1, resumed);
        }
    });
}

#[test]
fn early_data_of_gnutls_is_accepted() {
    servers(|server, _| {
        let scratch = Scratch::new(&format!("early-gnutls-{}", server.address.port()));
        let request = scratch.write("request", LAST);
        let server = Distant::from(server.address);
        let mut gnutls = Command::new("gnutls-cli");
        // Two connections, of which the first has no request.
        gnutls.args(["--insecure", "--resume", "--waitresumption"]);
        gnutls.arg(format!("--earlydata={request}"));
        gnutls.args(["--port", &server.address.port().to_string(), "127.0.0.1"]);
        let output = run(&mut gnutls, b"");
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(answer.contains("This is a resumed session"), "{answer}");
        assert_answered_early(&answer, 1, 0);
    });
}

#[test]
fn an_early_get_of_rustls_is_answered_before_its_handshake_is_finished() {
    servers(|server, source| {
        let client = client();
        let mut first = Connection::new(&client, server.address);
        first.send(LAST);
        first.answer("TLSv1.3 full: nothing offered (1 full, 0 resumed)");

        let mut early = Connection::new(&client, server.address);
        early.send_early(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = early.answer("resumed)");
        assert_answered_early(&answer, 1, 0);
        assert!(early.is_early_data_accepted());
        early.send(LAST);
        early.answer(&format!(
            "TLSv1.3 resumed: {source}, early data: accepted (1 full, 1 resumed)"
        ));
    });
}

#[test]
fn an_early_post_of_rustls_waits_until_its_handshake_is_finished() {
    servers(|server, source| {
        let client = client();
        let mut first = Connection::new(&client, server.address);
        first.send(LAST);
        first.answer("TLSv1.3 full: nothing offered (1 full, 0 resumed)");

        let mut early = Connection::new(&client, server.address);
        early.send_early(POST);
        assert!(early.is_early_data_accepted());
        assert_eq!(early.answer_meanwhile(), "");
        early.flush();
        let answer = early.answer(&format!(
            "TLSv1.3 resumed: {source}, early data: accepted (1 full, 1 resumed)"
        ));
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    });
}

#[test]
fn an_early_post_of_rustls_is_answered_425_where_they_do_not_wait() {
    for program in SERVERS {
        for (mode, source) in MODES {
            let server = Server::run(Command::new(program).args([mode, "too-early"]));
            let client = client();
            let mut first = Connection::new(&client, server.address);
            first.send(POST);
            first.answer("TLSv1.3 full: nothing offered (1 full, 0 resumed)");

            let mut early = Connection::new(&client, server.address);
            early.send_early(FIRST_POST);
            let answer = early.answer("\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 425 Too Early\r\n"), "{answer}");
            assert!(early.is_early_data_accepted());
            early.send(POST);
            let answer = early.answer(&format!(
                "TLSv1.3 resumed: {source}, early data: accepted (1 full, 1 resumed)"
            ));
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        }
    }
}
