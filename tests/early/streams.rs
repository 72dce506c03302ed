//! The seam between early data and what comes after it.

use std::io::{Read, Write};
use std::thread;

use crate::common::early::pair;
use crate::common::*;
use crate::connection::{MAX, is_accepted, policies, session_of};
use openssl::ssl::Ssl;
use openssl_resumption::{SslRefExt, accept_early};

/// No byte twice and none lost, however much is read at a time, and wherever `finished` comes.
#[test]
fn what_is_read_is_what_was_sent_whatever_the_sizes() {
    let (_, policy) = policies().into_iter().next().unwrap();
    let context = context(&policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let bytes = |n: usize| (0..n).map(|i| (i % 251) as u8).collect::<Vec<_>>();
    for early in [1, 2, 1_999, 2_048, 2_049, 5_000, MAX as usize] {
        for size in [1, 7, 1_000, 2_048, 40_000] {
            for finish_after in [None, Some(0), Some(1), Some(early - 1)] {
                if size == 1 && early > 2_049 {
                    continue;
                }
                let what = format!("{early} {size} {finish_after:?}");
                let session = session_of(&context, &client);
                let (near, far) = pair();
                let ssl = Ssl::new(&context).unwrap();
                let total = early + 3_000;
                let server = thread::spawn(move || {
                    let mut stream = accept_early(ssl, far).unwrap();
                    assert!(stream.is_early());
                    let (mut read, mut buffer) = (Vec::new(), vec![0; size]);
                    let mut left = finish_after;
                    while read.len() < total {
                        if left.is_some_and(|at| read.len() >= at) {
                            left = None;
                            stream.finished().unwrap();
                            assert!(!stream.is_early() && stream.ssl().resumption().is_some());
                        }
                        let n = stream.read(&mut buffer).unwrap();
                        assert!(n > 0);
                        // What comes after the handshake is never in one read with what came before.
                        assert!(read.len() >= early || read.len() + n <= early);
                        read.extend_from_slice(&buffer[..n]);
                    }
                    stream.write_all(&read).unwrap();
                    stream.shutdown().unwrap();
                    read
                });
                let sent = bytes(total);
                let mut stream = client.start(near, Some(&session)).unwrap();
                assert_eq!(stream.write_early_data(&sent[..early]).unwrap(), early);
                stream.connect().unwrap();
                assert!(is_accepted(stream.ssl()), "{what}");
                stream.write_all(&sent[early..]).unwrap();
                let seen = client.finish(stream).unwrap();
                assert!(server.join().unwrap() == sent, "{what}");
                assert!(seen.reply == sent, "{what}");
            }
        }
    }
}

/// The answer is there before the client has sent its last message.
#[test]
fn an_answer_is_sent_before_the_handshake_is_finished() {
    for (mode, policy) in policies() {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        let (near, far) = pair();
        let ssl = Ssl::new(&context).unwrap();
        let answer: Vec<u8> = (0..100_000).map(|i| (i % 249) as u8).collect();
        let sent = answer.clone();
        let server = thread::spawn(move || {
            let mut stream = accept_early(ssl, far).unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&sent).unwrap();
            stream.flush().unwrap();
            assert!(stream.is_early(), "the client waits for the answer");
            stream.finished().unwrap();
            stream.shutdown().unwrap();
        });
        let mut stream = client.start(Holding::new(near), Some(&session)).unwrap();
        stream.write_early_data(b"early").unwrap();
        // From here on nothing reaches the server, the client's last message of the handshake neither.
        stream.get_mut().hold();
        stream.connect().unwrap();
        let mut reply = vec![0; answer.len()];
        stream.read_exact(&mut reply).unwrap();
        assert!(reply == answer, "{mode}");
        stream.get_mut().release().unwrap();
        let seen = client.finish(stream).unwrap();
        assert!(seen.resumed && seen.reply.is_empty(), "{mode}");
        server.join().unwrap();
    }
}
