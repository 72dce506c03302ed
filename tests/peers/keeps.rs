//! What users of other libraries complained of, and what held here when it was tried from outside: it stays so.

use std::ffi::{c_int, c_void};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::common::child::with_clock;
use crate::common::process::run;
use crate::common::*;
use foreign_types::ForeignTypeRef;
use openssl::ssl::{
    AlpnError, ErrorCode, Ssl, SslContext, SslOptions, SslRef, SslStream, StatusType,
    select_next_proto,
};
use openssl::x509::X509VerifyResult;
use openssl_resumption::SslRefExt;

/// What the server knows of a connection once it is accepted.
fn known(context: &SslContext, client: &Client, session: Option<&[u8]>) -> (Vec<String>, Vec<u8>) {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut stream = Ssl::new(context).unwrap().accept(far).unwrap();
            stream.write_all(b"hello").unwrap();
            stream.shutdown().unwrap();
            told(stream.ssl())
        });
        let stream = client.connect(near, session).unwrap();
        let mut seen = client.finish(stream).unwrap();
        let told = server.join().unwrap();
        assert_eq!(told.0, seen.resumed);
        assert_eq!(seen.resumed, session.is_some());
        (told.1, seen.sessions.pop().unwrap())
    })
}

#[allow(unsafe_code, reason = "the `openssl` crate does not have this")]
fn group(ssl: &SslRef) -> i64 {
    const SSL_CTRL_GET_NEGOTIATED_GROUP: i32 = 134;
    // SAFETY: reads a field of a live SSL.
    unsafe {
        openssl_sys::SSL_ctrl(
            ssl.as_ptr(),
            SSL_CTRL_GET_NEGOTIATED_GROUP,
            0,
            ptr::null_mut(),
        )
    }
}

fn told(ssl: &SslRef) -> (bool, Vec<String>) {
    let certificate = ssl.peer_certificate().map(|it| it.to_der().unwrap().len());
    let what = vec![
        format!("{:?}", ssl.servername(openssl::ssl::NameType::HOST_NAME)),
        format!("{:?}", ssl.selected_alpn_protocol()),
        format!("{:?}", ssl.verify_result() == X509VerifyResult::OK),
        format!("{certificate:?}"),
        format!("{}", group(ssl)),
    ];
    (ssl.resumption().unwrap().is_resumed(), what)
}

#[test]
fn a_resumed_connection_tells_what_the_first_one_told() {
    let (ca, me) = ca_and_client();
    for (mode, policy, kind) in resuming_clients() {
        let context = context_with(&policy, |builder| {
            demand_certificates(builder, &ca);
            builder.set_servername_callback(|_, _| Ok(()));
            builder.set_alpn_select_callback(|_, offered| {
                select_next_proto(b"\x02h2\x08http/1.1", offered).ok_or(AlpnError::NOACK)
            });
        });
        let client = Client::with(kind, |context| {
            context.set_certificate(&me.cert)?;
            context.set_private_key(&me.key)?;
            context.set_alpn_protos(b"\x08http/1.1\x02h2")
        });
        let client = client.unwrap().server_name("shop.example");
        let (first, session) = known(&context, &client, None);
        let (second, _) = known(&context, &client, Some(&session));
        // A resumption in TLS 1.2 negotiates no group.
        let known = if kind == Kind::Tls13 { 5 } else { 4 };
        assert_eq!(first[..known], second[..known], "{mode}");
        assert!(first[0].contains("shop.example") && first[2] == "true" && first[3] != "None");
        assert_ne!(first[4], "0");
    }
}

/// nginx and Apache staple; what a client gets in a full handshake it does not need in a resumed one.
#[test]
fn servers_that_staple_resume() {
    for (mode, policy, kind) in resuming_clients() {
        let context = context_with(&policy, |builder| {
            // "Try later", in DER.
            let response = b"\x30\x03\x0a\x01\x03";
            let staple = move |ssl: &mut SslRef| ssl.set_ocsp_status(response).map(|()| true);
            builder.set_status_callback(staple).unwrap();
        });
        let client = Client::with(kind, |context| {
            context.set_status_callback(|_| Ok(true))?;
            Ok(())
        });
        let client = client.unwrap();
        let stapled = |session: Option<&[u8]>| {
            let mut ssl = client.ssl(session).unwrap();
            ssl.set_status_type(StatusType::OCSP).unwrap();
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut stream = Ssl::new(&context).unwrap().accept(far).unwrap();
                    stream.shutdown().unwrap();
                });
                let mut stream = SslStream::new(ssl, near).unwrap();
                stream.connect().unwrap();
                let got = stream.ssl().ocsp_status().is_some();
                let mut seen = client.finish(stream).unwrap();
                (got, seen.resumed, seen.sessions.pop())
            })
        };
        let (got, resumed, session) = stapled(None);
        // OpenSSL 3.6 has another function for the responses, which may be several.
        let newer = openssl::version::number() >= 0x3060_0000;
        assert!((got || newer) && !resumed, "{mode}");
        assert!(stapled(session.as_deref()).1, "{mode}");
    }
}

/// RFC 7627, section 5.3: a server that resumed it would let the two sides be told apart no more.
#[test]
fn a_session_with_extended_master_secret_does_not_resume_without() {
    const NO_EXTENDED_MASTER_SECRET: u64 = 1;
    let without = Client::with(Kind::Tls12, |context| {
        context.set_options(SslOptions::from_bits_retain(NO_EXTENDED_MASTER_SECRET));
        Ok(())
    });
    let (with, without) = (Client::new(Kind::Tls12).unwrap(), without.unwrap());
    for (mode, policy) in resuming() {
        let context = context(&policy);
        for (one, other) in [(&with, &without), (&without, &with)] {
            let first = meet(&context, one, None);
            assert!(meet(&context, one, first.next()).server_reused, "{mode}");
            let (met, _) = try_meet(&context, other, first.next());
            assert!(!met.is_ok_and(|met| met.server_reused), "{mode}");
        }
    }
}

/// As servers do that read certificates from files for each connection.
#[test]
fn a_context_for_each_connection_resumes_with_one_policy() {
    for (mode, policy, kind) in resuming_clients() {
        let client = Client::new(kind).unwrap();
        let first = meet(&context(&policy), &client, None);
        for _ in 0..3 {
            let met = meet(&context(&policy), &client, first.next());
            assert!(met.server_reused, "{mode}");
        }
    }
}

#[derive(Debug)]
struct ByteByByte<S>(S);

impl<S: Read> Read for ByteByByte<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

impl<S: Write> Write for ByteByByte<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn a_client_that_reads_and_writes_byte_by_byte_resumes() {
    for (mode, policy, kind) in resuming_clients() {
        let context = context(&policy);
        let client = Client::new(kind).unwrap();
        let first = meet(&context, &client, None);
        let ssl = Ssl::new(&context).unwrap();
        let (met, server) = try_meet_over(ssl, &client, first.next(), ByteByByte);
        assert!(met.unwrap().server_reused, "{mode}: {server:?}");
    }
}

/// As browsers do: many connections at once, with one session.
#[test]
fn one_session_serves_two_hundred_connections() {
    for (mode, policy, kind) in resuming_clients() {
        let context = context(&policy);
        let client = Client::new(kind).unwrap();
        let first = meet(&context, &client, None);
        let resumed = thread::scope(|scope| {
            let visit = || {
                let client = Client::new(kind).unwrap();
                let visit = |_: &i32| meet(&context, &client, first.next()).server_reused;
                (0..50).filter(visit).count()
            };
            let visitors = [(); 4].map(|()| scope.spawn(visit));
            let resumed = visitors.into_iter().map(|visitor| visitor.join().unwrap());
            resumed.sum::<usize>()
        });
        assert_eq!(resumed, 200, "{mode}");
    }
}

#[test]
fn clocks_of_any_year_and_that_jump_fail_no_connection() {
    let name = "clocks_of_any_year_and_that_jump_fail_no_connection";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap().as_secs() as i64;
    with_clock(name, |clock| {
        for (mode, policy, kind) in resuming_clients() {
            let context = context(&policy);
            let client = Client::new(kind).unwrap();
            // 1970, 2039, 2200, and five hours to either side.
            for shift in [
                86_400 - now,
                2_177_452_800 - now,
                7_258_118_400 - now,
                -18_000,
                18_000,
                0,
            ] {
                clock.shift(shift);
                // The keys of tickets follow a jump within some handshakes, none of which fails.
                let resumes = |_: &u32| {
                    thread::sleep(Duration::from_millis(10));
                    meet_twice(&context, &client)[1].server_reused
                };
                assert!((0..200).any(|i| resumes(&i)), "{mode} {shift}");
            }
        }
    });
}

/// Sends its data with Finished, and closes or resets at once, before tickets could be read.
const LEAVES: &str = r#"
import socket, ssl, struct, sys
port, how = int(sys.argv[1]), sys.argv[2]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = ssl.TLSVersion.TLSv1_3
for _ in range(200):
    tcp = socket.create_connection(("127.0.0.1", port))
    tls = context.wrap_socket(tcp)
    tls.sendall(b"all of it")
    if how == "reset":
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tls.close()
"#;

#[test]
fn a_client_that_leaves_at_once_fails_no_accept_and_what_it_closed_is_whole() {
    for (mode, policy) in modes() {
        for how in ["close", "reset"] {
            let context = context(&policy);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port().to_string();
            let served = thread::spawn(move || {
                let serve = || serve_one(&context, listener.accept().unwrap().0);
                (0..200).map(|_| serve()).collect::<Vec<_>>()
            });
            let client = ["-c", LEAVES, &port, how];
            let output = run(std::process::Command::new("python3").args(client), b"");
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{complaint}");
            for read in served.join().unwrap() {
                // A reset takes with it what had not been read, with OpenSSL alone as well: nearly always.
                let lost = how == "reset" && read.is_empty();
                assert!(read == b"all of it" || lost, "{mode} {how}: {read:?}");
            }
        }
    }
}

fn serve_one(context: &SslContext, tcp: TcpStream) -> Vec<u8> {
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let accepted = Ssl::new(context).unwrap().accept(tcp);
    let mut stream = match accepted {
        Ok(stream) => stream,
        Err(error) => panic!("{error:?}"),
    };
    let mut read = Vec::new();
    let mut buffer = [0; 16];
    while let Ok(some @ 1..) = stream.read(&mut buffer) {
        read.extend(&buffer[..some]);
    }
    let _ = stream.get_ref().shutdown(Shutdown::Both);
    read
}

/// As servers do that fetch a certificate first: the handshake is suspended, and goes on when it is called again.
#[allow(unsafe_code, reason = "the `openssl` crate does not have this")]
#[test]
fn a_certificate_callback_that_suspends_resumes() {
    unsafe extern "C" {
        fn SSL_CTX_set_cert_cb(
            context: *mut openssl_sys::SSL_CTX,
            callback: unsafe extern "C" fn(*mut openssl_sys::SSL, *mut c_void) -> c_int,
            suspensions: *mut c_void,
        );
    }
    /// Suspends each handshake once.
    unsafe extern "C" fn suspend(_: *mut openssl_sys::SSL, suspensions: *mut c_void) -> c_int {
        // SAFETY: the counter that outlives the context.
        let suspensions = unsafe { &*suspensions.cast::<AtomicI32>() };
        match suspensions.fetch_add(1, Relaxed) % 2 {
            0 => -1,
            _ => 1,
        }
    }
    for (mode, policy, kind) in resuming_clients() {
        let suspensions = AtomicI32::new(0);
        let context = context_with(&policy, |builder| {
            let count = (&raw const suspensions).cast_mut().cast();
            // SAFETY: the callback is one for this argument, which lives as long as the context is used.
            unsafe { SSL_CTX_set_cert_cb(builder.as_ptr(), suspend, count) };
        });
        let client = Client::new(kind).unwrap();
        let visit = |session: Option<&[u8]>| {
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            thread::scope(|scope| {
                let server = scope.spawn(|| {
                    let mut stream = SslStream::new(Ssl::new(&context).unwrap(), far).unwrap();
                    while let Err(error) = stream.accept() {
                        // `SSL_ERROR_WANT_X509_LOOKUP`
                        assert_eq!(error.code(), ErrorCode::from_raw(4), "{mode}: {error}");
                    }
                    stream.shutdown().unwrap();
                });
                let stream = client.connect(near, session).unwrap();
                let mut seen = client.finish(stream).unwrap();
                server.join().unwrap();
                (seen.resumed, seen.sessions.pop())
            })
        };
        let (_, session) = visit(None);
        assert_eq!(suspensions.load(Relaxed), 2, "{mode}");
        assert!(visit(session.as_deref()).0, "{mode}");
    }
}

/// OpenSSL 3.5 and later: `cargo test --features vendored`.
#[cfg(feature = "vendored")]
#[test]
fn sessions_resume_after_a_hello_retry_request_for_ml_kem() {
    for (mode, policy) in resuming() {
        let context = context_with(&policy, |builder| {
            builder.set_groups_list("X25519MLKEM768").unwrap();
        });
        let [_, second] = meet_twice(&context, &with_groups("X25519:X25519MLKEM768"));
        assert!(second.server_reused, "{mode}: {:?}", second.outcome);
    }
}
