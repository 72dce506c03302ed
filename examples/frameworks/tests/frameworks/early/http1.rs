//! Early data in HTTP/1: what of it is answered before the handshake is finished.

use std::io::Write;

use super::client::{HTTP11, NO_ALPN, Returning, request};
use crate::{MODES, start_early};

/// Servers of HTTP/1, with the ALPN of their clients.
const THREADS: (&str, &[u8]) = (env!("CARGO_BIN_EXE_threads"), NO_ALPN);
const HYPER: (&str, &[u8]) = (env!("CARGO_BIN_EXE_hyper"), NO_ALPN);
const AXUM_SERVER: (&str, &[u8]) = (env!("CARGO_BIN_EXE_axum_server"), HTTP11);

/// Has `meet` called with a client of each of the servers in each of the modes.
#[track_caller]
fn with_each(servers: &[(&str, &'static [u8])], requests: &str, meet: impl Fn(&Returning, &str)) {
    for (program, alpn) in servers {
        for (mode, source) in MODES {
            let server = start_early(program, mode, requests);
            let returning = Returning::to(server.address, alpn, &request("GET", ""));
            meet(
                &returning,
                &format!("TLSv1.3 resumed: {source}, early data: accepted"),
            );
        }
    }
}

#[test]
fn a_get_is_answered_before_the_handshake_is_finished() {
    with_each(&[THREADS, HYPER, AXUM_SERVER], "wait", |client, _| {
        for lines in ["", "Content-Length: 0\r\n"] {
            let mut connection = client.sends(&request("GET", lines));
            let answer = connection.response();
            assert!(answer.contains(" 200 OK\r\n"), "{answer}");
            assert!(answer.contains("unfinished (1 full, "), "{answer}");
            connection.finish();
        }
    });
}

/// Whatever a server has to say to them, and be it that it does not know the method.
const UNSAFE: [(&str, &str); 6] = [
    ("POST", "Content-Length: 0\r\n"),
    ("PUT", "Content-Length: 0\r\n"),
    ("DELETE", ""),
    ("BREW", ""),
    ("get", ""),
    ("GET", "Connection: upgrade\r\nUpgrade: websocket\r\n"),
];

#[test]
fn others_are_answered_when_it_is_finished() {
    for requests in ["wait", "mark"] {
        with_each(&[HYPER, AXUM_SERVER], requests, |client, outcome| {
            for (method, lines) in UNSAFE {
                let mut connection = client.sends(&request(method, lines));
                connection.is_silent(method);
                connection.finish();
                let answer = connection.response();
                let handled = answer.contains(outcome) && answer.contains(" 200 OK\r\n");
                assert!(handled || answer.contains(" 405 "), "{method}: {answer}");
            }
        });
    }
}

/// The example looks at the method only: it upgrades nothing.
#[test]
fn threads_answer_others_when_it_is_finished() {
    with_each(&[THREADS], "wait", |client, outcome| {
        for (method, lines) in &UNSAFE[..5] {
            let mut connection = client.sends(&request(method, lines));
            connection.is_silent(method);
            connection.finish();
            let answer = connection.response();
            assert!(answer.contains(outcome), "{method}: {answer}");
        }
    });
}

#[test]
fn others_are_too_early_and_answered_when_they_come_again() {
    with_each(&[HYPER, AXUM_SERVER], "too-early", |client, outcome| {
        for (method, lines) in UNSAFE {
            let request = request(method, lines);
            let mut connection = client.sends(&request);
            let answer = connection.response();
            assert!(answer.contains(" 425 Too Early\r\n"), "{method}: {answer}");
            connection.finish();
            connection
                .tls
                .write_all(&request)
                .expect("it is sent again");
            let answer = connection.response();
            let handled = answer.contains(outcome) && answer.contains(" 200 OK\r\n");
            assert!(handled || answer.contains(" 405 "), "{method}: {answer}");
        }
    });
}

#[test]
fn of_two_in_one_flight_each_is_answered_when_it_may_and_in_order() {
    let get = request("GET", "X-First: 1\r\n");
    let post = request("POST", "Content-Length: 5\r\n");
    let post = [&post[..], b"12345"].concat();
    with_each(&[HYPER, AXUM_SERVER], "wait", |client, outcome| {
        let mut connection = client.sends(&[&get[..], &post].concat());
        let answer = connection.response();
        assert!(answer.contains("unfinished ("), "{answer}");
        connection.is_silent("GET, POST");
        connection.finish();
        let answer = connection.response();
        assert!(answer.contains(outcome), "{answer}");

        let mut connection = client.sends(&[&post[..], &get].concat());
        connection.is_silent("POST, GET");
        connection.finish();
        for _ in 0..2 {
            let answer = connection.response();
            assert!(answer.contains(outcome), "{answer}");
        }
    });
}
