//! A Redis over TLS puts two answers into one TLS record: is the second taken for the answer to the next question?
#![cfg(feature = "redis")]
use crate::common::*;
use openssl_resumption::*;
use std::io::{Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
#[test]
fn desync() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = acceptor().build();
    let ends = (SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3600)
        .to_be_bytes();
    // A "session" record: version, end, payload
    let record = move |fill: u8, len: usize| {
        let mut r = vec![1u8];
        r.extend(ends);
        r.resize(len, fill);
        r
    };
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let (acceptor, record) = (acceptor.clone(), record);
            std::thread::spawn(move || {
                let mut tls = acceptor.accept(tcp.unwrap()).unwrap();
                let mut gets = 0;
                let mut buf = [0; 65536];
                loop {
                    let n = match tls.read(&mut buf) {
                        Ok(0) | Err(_) => return,
                        Ok(n) => n,
                    };
                    let text = String::from_utf8_lossy(&buf[..n]).into_owned();
                    if text.contains("GET") {
                        gets += 1;
                        if gets == 1 {
                            let mut out = b"$8183\r\n".to_vec();
                            out.extend(record(b'A', 8183));
                            out.extend(b"\r\n");
                            assert_eq!(out.len(), 8192);
                            out.extend(b"$100\r\n");
                            out.extend(record(b'X', 100));
                            out.extend(b"\r\n"); // nobody has asked for this yet
                            tls.write_all(&out).unwrap();
                        } else {
                            let mut out = b"$100\r\n".to_vec();
                            out.extend(record(b'B', 100));
                            out.extend(b"\r\n");
                            tls.write_all(&out).unwrap();
                        }
                    } else {
                        tls.write_all(b"+PONG\r\n").unwrap();
                    }
                }
            });
        }
    });
    let store = RedisStore::connect(&format!("rediss://127.0.0.1:{port}/#insecure"))
        .unwrap()
        .connections(1)
        .deadline(Duration::from_secs(2))
        .connect_deadline(Duration::from_secs(5))
        .plaintext();
    let get = |n: u8| {
        store
            .get(&SessionKey::from([n; 32]))
            .map(|s| s.map(|s| (s.as_bytes().len(), *s.as_bytes().last().unwrap() as char)))
    };
    let first = loop {
        match get(1) {
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
            ok => break ok,
        }
    };
    println!("1: {first:?}");
    let second = get(2);
    println!("2: {second:?}");
    let third = get(3);
    println!("3: {third:?}");
    assert!(
        !matches!(second, Ok(Some((_, 'X')))),
        "the answer to nobody's question was taken for that to the second"
    );
}
