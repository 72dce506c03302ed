//! Real clients against the `server` example: `openssl s_client` and Python's `ssl`.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::process::{self, Scratch, Server, body, example, run};
use crate::common::{Client, Kind, mint};
use serde_json::Value;

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// What the second connection is, by mode and client.
const TABLE: [(&str, [Option<&str>; 3]); 4] = [
    ("stateful", [Some("store"), Some("store"), Some("store")]),
    ("stateless", [Some("ticket"), None, Some("ticket")]),
    ("hybrid", [Some("ticket"), Some("store"), Some("ticket")]),
    ("off", [None, None, None]),
];

#[track_caller]
fn assert_is(answer: &Value, resumed_from: Option<&str>, what: &str) {
    assert_eq!(
        answer["resumed"],
        resumed_from.is_some(),
        "{what}: {answer}"
    );
    assert_eq!(answer["source"].as_str(), resumed_from, "{what}: {answer}");
}

/// One connection of `s_client`, and whether it says that the session was reused.
fn s_client(address: SocketAddr, args: &[&str], session: &Path) -> (Value, bool) {
    let (text, reused) = process::s_client(address, args, session, REQUEST);
    let response = &text[text
        .find("HTTP/1.")
        .unwrap_or_else(|| panic!("no answer: {text}"))..];
    (body(response), reused)
}

#[test]
fn s_client_resumes_as_the_table_says() {
    let scratch = Scratch::new("s_client");
    for (mode, row) in TABLE {
        let server = Server::start(&["--mode", mode]);
        let clients = [
            ["-tls1_2"].as_slice(),
            &["-tls1_2", "-no_ticket"],
            &["-tls1_3"],
        ];
        for (args, resumed_from) in clients.into_iter().zip(row) {
            let what = format!("{mode} {args:?}");
            let file = scratch.0.join(format!("{mode}{}", args.concat()));
            let (first, reused) = s_client(server.address, args, &file);
            assert!(!reused, "{what}");
            assert_is(&first, None, &what);
            for _ in 0..3 {
                let (second, reused) = s_client(server.address, args, &file);
                assert_eq!(reused, resumed_from.is_some(), "{what}");
                assert_is(&second, resumed_from, &what);
            }
        }
    }
}

/// Connects six times, each time with the session of the connection before; prints a JSON line
/// each.
const PYTHON: &str = r#"
import json, socket, ssl, sys
host, port, version, tickets = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "tickets"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
if not tickets:
    context.options |= ssl.OP_NO_TICKET
if len(sys.argv) > 5:
    context.load_cert_chain(sys.argv[5], sys.argv[6])
session = None
for _ in range(6):
    with socket.create_connection((host, port), timeout=10) as tcp:
        with context.wrap_socket(tcp, session=session) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while chunk := tls.recv(65536):
                answer += chunk
            session = tls.session
            body = json.loads(answer.split(b"\r\n\r\n", 1)[1])
            print(json.dumps([tls.session_reused, body]))
"#;

fn python(address: SocketAddr, args: &[&str]) -> Vec<(bool, Value)> {
    let mut command = Command::new("python3");
    command
        .args([
            "-c",
            PYTHON,
            &address.ip().to_string(),
            &address.port().to_string(),
        ])
        .args(args);
    let output = run(&mut command, b"");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answers = text.lines().map(|line| {
        let answer: Value = serde_json::from_str(line).unwrap();
        (answer[0].as_bool().unwrap(), answer[1].clone())
    });
    answers.collect()
}

#[test]
fn python_resumes_as_the_table_says() {
    for (mode, row) in TABLE {
        let server = Server::start(&["--mode", mode]);
        let clients = [
            ["TLSv1_2", "tickets"],
            ["TLSv1_2", "none"],
            ["TLSv1_3", "tickets"],
        ];
        for (args, resumed_from) in clients.into_iter().zip(row) {
            let what = format!("{mode} {args:?}");
            let answers = python(server.address, &args);
            assert_eq!(answers.len(), 6, "{what}");
            for (i, (reused, answer)) in answers.iter().enumerate() {
                let expected = resumed_from.filter(|_| i > 0);
                assert_eq!(*reused, expected.is_some(), "{what} connection {i}");
                assert_is(answer, expected, &what);
            }
        }
    }
}

/// Without a session id context the second connection fails.
#[test]
fn a_server_that_demands_certificates_resumes() {
    let scratch = Scratch::new("mtls");
    let ca = mint("clients", None).unwrap();
    let me = mint("me", Some(&ca)).unwrap();
    let ca_file = scratch.write("ca.pem", &ca.cert.to_pem().unwrap());
    let cert = scratch.write("me.pem", &me.cert.to_pem().unwrap());
    let key = scratch.write("me.key", &me.key.private_key_to_pem_pkcs8().unwrap());
    for mode in ["stateful", "stateless", "hybrid"] {
        let server = Server::start(&["--mode", mode, "--client-ca", &ca_file]);
        for version in ["TLSv1_2", "TLSv1_3"] {
            let answers = python(server.address, &[version, "tickets", &cert, &key]);
            let reused: Vec<_> = answers.iter().map(|(reused, _)| *reused).collect();
            assert_eq!(
                reused,
                [false, true, true, true, true, true],
                "{mode} {version}"
            );
        }
        let refused = std::panic::catch_unwind(|| python(server.address, &["TLSv1_3", "tickets"]));
        assert!(
            refused.is_err(),
            "{mode}: a client without a certificate was served"
        );
    }
}

/// Connects once for each name given, each time with the session of the first connection; prints
/// a JSON line each, or null where the server refused.
const NAMES: &str = r#"
import json, socket, ssl, sys
host, port, version, cert, key = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
if cert:
    context.load_cert_chain(cert, key)
session = None
for name in sys.argv[6:]:
    try:
        with socket.create_connection((host, port), timeout=10) as tcp:
            with context.wrap_socket(tcp, server_hostname=name, session=session) as tls:
                tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = b""
                while chunk := tls.recv(65536):
                    answer += chunk
                session = session or tls.session
        print(json.dumps(json.loads(answer.split(b"\r\n\r\n", 1)[1])), flush=True)
    except (ssl.SSLError, ConnectionError, IndexError):
        print("null", flush=True)
"#;

fn names(address: SocketAddr, args: &[&str]) -> Vec<Value> {
    let mut command = Command::new("python3");
    command
        .args([
            "-c",
            NAMES,
            &address.ip().to_string(),
            &address.port().to_string(),
        ])
        .args(args);
    let output = run(&mut command, b"");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_session_of_one_virtual_host_does_not_open_another() {
    let scratch = Scratch::new("vhosts");
    let ca = mint("clients", None).unwrap();
    let me = mint("me", Some(&ca)).unwrap();
    let ca_file = scratch.write("ca.pem", &ca.cert.to_pem().unwrap());
    let cert = scratch.write("me.pem", &me.cert.to_pem().unwrap());
    let key = scratch.write("me.key", &me.key.private_key_to_pem_pkcs8().unwrap());
    for switch in ["servername", "hello"] {
        for mode in ["stateful", "stateless", "hybrid"] {
            let inner = format!("b.example,{ca_file}");
            let vhosts = [
                "--vhost",
                "a.example",
                "--vhost",
                &inner,
                "--switch",
                switch,
            ];
            let server = Server::start(&[&["--mode", mode][..], &vhosts].concat());
            for version in ["TLSv1_2", "TLSv1_3"] {
                let what = format!("{switch} {mode} {version}");
                let outside = [
                    version,
                    "",
                    "",
                    "a.example",
                    "a.example",
                    "b.example",
                    "other",
                ];
                let seen = names(server.address, &outside);
                assert_eq!(seen[0]["resumed"], false, "{what}");
                assert_eq!(seen[1]["resumed"], true, "{what}");
                assert_eq!(seen[2], Value::Null, "{what}: served without a certificate");
                assert_eq!(seen[3]["reason"], "other binding", "{what}");

                let inside = [version, &cert, &key, "b.example", "B.Example", "a.example"];
                let seen = names(server.address, &inside);
                assert_eq!(seen[0]["authenticated"], true, "{what}");
                assert_eq!(seen[1]["resumed"], true, "{what}");
                assert_eq!(seen[1]["authenticated"], true, "{what}");
                assert_eq!(seen[1]["server_name"], "B.Example", "{what}");
                assert_eq!(seen[2]["resumed"], false, "{what}");
                assert_eq!(seen[2]["authenticated"], false, "{what}");
            }
        }
    }
}

#[test]
fn sighup_ends_all_sessions_if_told_so() {
    for mode in ["stateful", "stateless", "hybrid"] {
        let server = Server::start(&["--mode", mode, "--forget-on", "SIGHUP", "--tls", "1.2"]);
        let scratch = Scratch::new(&format!("sighup-{mode}"));
        let file = scratch.0.join("session");
        let (_, reused) = s_client(server.address, &[], &file);
        assert!(!reused);
        let (_, reused) = s_client(server.address, &[], &file);
        assert!(reused, "{mode}");
        server.signal("HUP");
        let (answer, reused) = s_client(server.address, &[], &file);
        assert!(!reused, "{mode}");
        assert_eq!(answer["reason"], "forgotten", "{mode}");
    }
}

#[test]
fn the_servers_own_certificate_and_version_are_as_told() {
    let scratch = Scratch::new("own");
    let identity = mint("shop.example", None).unwrap();
    let cert = scratch.write("cert.pem", &identity.cert.to_pem().unwrap());
    let key = scratch.write("key.pem", &identity.key.private_key_to_pem_pkcs8().unwrap());
    for (version, spoken) in [("1.2", "TLSv1.2"), ("1.3", "TLSv1.3")] {
        let server = Server::start(&["--tls", version, "--cert", &cert, "--key", &key]);
        let verify = ["-CAfile", &cert, "-verify_return_error"];
        let (answer, _) = s_client(server.address, &verify, &scratch.0.join(spoken));
        assert_eq!(answer["version"], spoken);
        assert_eq!(answer["mode"], "stateful", "the default");
    }
}

#[test]
fn silent_clients_do_not_keep_an_honest_one_waiting_and_signals_stop_the_server() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&["--mode", "stateless"]);
        let mut silent: Vec<_> = (0..64)
            .map(|_| TcpStream::connect(server.address).unwrap())
            .collect();
        assert_eq!(python(server.address, &["TLSv1_3", "tickets"]).len(), 6);
        // The honest one did not wait for the silent ones' time to run out: they are all still
        // there.
        for stream in &mut silent {
            stream.set_nonblocking(true).unwrap();
            let waiting = stream.read(&mut [0]).unwrap_err();
            assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock);
        }
        assert_eq!(server.stop(signal), Some(0), "{signal}");
    }
}

/// More of them than the server keeps connections open; each makes a little progress all the time.
#[test]
fn clients_that_trickle_do_not_push_an_honest_one_out() {
    let server = Server::start(&["--mode", "stateful"]);
    let hello = client_hello();
    let connect = |_| TcpStream::connect(server.address).unwrap();
    let mut trickling: Vec<_> = (0..600).map(connect).collect();
    let (stop, stopped) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for byte in hello.chunks(1).cycle() {
                // Those whom the server has closed to make room stay away.
                trickling.retain_mut(|stream| stream.write_all(byte).is_ok());
                if stopped.recv_timeout(Duration::from_millis(10)).is_ok() {
                    break;
                }
            }
        });
        let answers = std::panic::catch_unwind(|| python(server.address, &["TLSv1_3", "tickets"]));
        stop.send(()).unwrap();
        assert_eq!(answers.expect("the honest client was pushed out").len(), 6);
    });
}

#[test]
fn clients_that_vanish_at_any_byte_do_no_harm() {
    let server = Server::start(&["--mode", "hybrid"]);
    let hello = client_hello();
    for len in 0..hello.len() {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(&hello[..len]).unwrap();
    }
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        &[0xff; 2_000],
        &[22, 3, 1, 0xff, 0xff],
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(garbage).unwrap();
    }
    let answers = python(server.address, &["TLSv1_3", "tickets"]);
    assert_eq!(
        answers[5].1["stats"]["tls13"]["full"], 1,
        "only honest handshakes count"
    );
}

/// The first flight of a real client.
fn client_hello() -> Vec<u8> {
    Client::new(Kind::Tls13).unwrap().hello(None)
}

#[test]
fn wrong_arguments_are_refused_with_a_sentence() {
    for (args, word) in [
        (["--mode", "both"].as_slice(), "both"),
        (&["--lifetime", "0"], "lifetime"),
        (&["--lifetime", "604801"], "604801"),
        (&["--tickets", "many"], "many"),
        (&["--cert", "cert.pem"], "--key"),
        (&["--frobnicate"], "--frobnicate"),
        (&["--listen", "nowhere"], "nowhere"),
        (
            &["--client-ca", "/nonexistent/ca.pem"],
            "/nonexistent/ca.pem",
        ),
        (&["--tls", "1.1"], "1.1"),
    ] {
        let output = run(Command::new(example("server")).args(args), b"");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(word),
            "{args:?}: {said}"
        );
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
}
