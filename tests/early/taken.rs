//! Early data that is taken, and what is said of early data that is not.

use crate::common::early::pair;
use std::sync::{Arc, Mutex};

use crate::common::*;
use crate::connection::{Answer, MAX, Saying, meet_early, policies, session_of};
use openssl::ssl::{AlpnError, Ssl, SslVerifyMode, select_next_proto};
use openssl_resumption::{
    EarlyData, Handshake::Resumed, MemoryRegister, MemoryStore, Reason, Registered, Resumption,
    Source, StoreError,
};

#[test]
fn a_client_that_comes_back_sends_its_request_at_once() {
    for (mode, policy) in policies() {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let mut session = session_of(&context, &client);
        for n in 1..4 {
            let met = meet_early(&context, &client, Some(&session), b"GET / HTTP/1.0\r\n\r\n");
            assert_eq!(met.agreed(), EarlyData::Accepted, "{mode}");
            assert_eq!(met.early, b"GET / HTTP/1.0\r\n\r\n", "{mode}");
            assert_eq!(policy.stats().early_data(EarlyData::Accepted), n, "{mode}");
            session = met.next().to_vec();
        }
        assert_eq!(policy.stats().early_data_offered(), 3, "{mode}");
        assert_eq!(handshakes(&policy.stats()), (1, 3), "{mode}");
    }
}

/// In hybrid mode its session is in the store, and that of a client without one in a ticket.
#[test]
fn a_client_with_a_certificate_sends_its_request_at_once_too() {
    let (ca, me) = ca_and_client();
    for (mode, policy) in policies() {
        let context = context_with(&policy, |builder| {
            builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
            builder.set_verify(SslVerifyMode::PEER);
        });
        let clients = [
            client_as(Kind::Tls13, &me),
            Client::new(Kind::Tls13).unwrap(),
        ];
        for (client, certificate) in clients.iter().zip([true, false]) {
            let what = format!("{mode}, certificate {certificate}");
            let is_stateful = match mode {
                "stateless" => false,
                "hybrid" => certificate,
                _ => true,
            };
            let source = if is_stateful {
                Source::Store
            } else {
                Source::Ticket
            };
            let mut session = session_of(&context, client);
            for _ in 0..3 {
                assert_eq!(ticket(&session).len() == 32, is_stateful, "{what}");
                // Whoever sends the flight again has it accepted no more.
                let sent = flight(client, &session, b"buy one");
                let handed_out = [0; 3].map(|_| replay(&context, &sent).len());
                assert_eq!(handed_out, [7, 0, 0], "{what}");
                let session_left = if mode == "single use" {
                    session_of(&context, client)
                } else {
                    session
                };
                let met = meet_early(&context, client, Some(&session_left), b"early");
                assert_eq!(met.agreed(), EarlyData::Accepted, "{what}");
                assert_eq!(met.outcome.handshake, Resumed(source), "{what}");
                session = met.next().to_vec();
            }
        }
        assert_eq!(policy.stats().overridden, 0, "{mode}");
    }
}

/// Without early data `accept_early` is an accept like any other.
#[test]
fn clients_without_early_data_are_served_too() {
    for (mode, policy) in policies() {
        let context = context(&policy);
        for kind in Kind::ALL {
            let client = Client::new(kind).unwrap();
            let first = meet_early(&context, &client, None, b"");
            let second = meet_early(
                &context,
                &client,
                first.seen.sessions.last().map(|s| &s[..]),
                b"",
            );
            let resumes = !(mode == "stateless" && kind == Kind::Tls12WithoutTickets);
            assert_eq!(second.seen.resumed, resumes, "{mode} {kind:?}");
            assert_eq!(second.outcome.early_data, None, "{mode} {kind:?}");
        }
        assert_eq!(policy.stats().early_data_offered(), 0, "{mode}");
    }
}

#[test]
fn an_ordinary_accept_declines_and_the_client_sends_it_again() {
    for (mode, policy) in policies() {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        let (near, far) = pair();
        let ssl = Ssl::new(&context).unwrap();
        let server = std::thread::spawn(move || {
            use openssl_resumption::SslRefExt;
            use std::io::{Read, Write};
            let mut stream = ssl.accept(far).unwrap();
            let mut request = [0; 3];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"end");
            stream.write_all(b"hello").unwrap();
            stream.shutdown().unwrap();
            stream.ssl().resumption().unwrap()
        });
        let mut stream = client.start(near, Some(&session)).unwrap();
        stream.write_early_data(b"early").unwrap();
        stream.connect().unwrap();
        std::io::Write::write_all(&mut stream, b"end").unwrap();
        assert!(client.finish(stream).unwrap().resumed);
        let outcome = server.join().unwrap();
        assert_eq!(outcome.early_data, Some(EarlyData::NotRead), "{mode}");
        assert!(outcome.is_resumed(), "{mode}");
        let source = if mode == "stateful" || mode == "single use" {
            Source::Store
        } else {
            Source::Ticket
        };
        assert_eq!(outcome.handshake, Resumed(source), "{mode}");
        assert_eq!(policy.stats().early_data(EarlyData::NotRead), 1, "{mode}");
    }
}

#[test]
fn whatever_else_a_register_says_the_connection_resumes_without() {
    let registers: [(Answer, EarlyData); 6] = [
        (|| Ok(Registered::First), EarlyData::Accepted),
        (|| Ok(Registered::Before), EarlyData::Replayed),
        (|| Ok(Registered::WarmingUp), EarlyData::WarmingUp),
        (|| Ok(Registered::Full), EarlyData::RegisterFull),
        (|| Err(StoreError::new("away")), EarlyData::RegisterFailed),
        (
            || panic!("a register that panics"),
            EarlyData::RegisterFailed,
        ),
    ];
    for (register, expected) in registers {
        let policy = Resumption::stateful(MemoryStore::default())
            .early_data(MAX)
            .replay_register(Saying(register));
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        let met = meet_early(&context, &client, Some(&session), b"early");
        assert_eq!(met.agreed(), expected);
        assert!(met.seen.resumed, "{expected}");
        assert_eq!(policy.stats().early_data(expected), 1);
        assert_eq!(policy.stats().early_data_offered(), 1);
        // The next one is no worse for it.
        let next = meet_early(&context, &client, Some(met.next()), b"early");
        assert_eq!(next.agreed(), expected);
    }
}

#[test]
fn a_register_that_was_just_made_knows_nothing_yet() {
    let policy = Resumption::stateful(MemoryStore::default())
        .early_data(MAX)
        .replay_register(MemoryRegister::default());
    let context = context(&policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let session = session_of(&context, &client);
    let met = meet_early(&context, &client, Some(&session), b"early");
    assert_eq!(met.agreed(), EarlyData::WarmingUp);
}

#[test]
fn a_hello_that_is_retried_loses_its_early_data_only() {
    for (mode, policy) in policies() {
        let (context, client) = retrying(&policy);
        let session = session_of(&context, &client);
        let met = meet_early(&context, &client, Some(&session), b"early");
        assert_eq!(met.agreed(), EarlyData::HelloRetried, "{mode}");
        assert!(met.seen.resumed, "{mode}");
    }
}

#[test]
fn another_server_name_is_a_full_handshake() {
    for (mode, policy) in policies() {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        let other = client.server_name("other.example");
        let met = meet_early(&context, &other, Some(&session), b"early");
        assert_eq!(met.agreed(), EarlyData::NotResumed, "{mode}");
        assert_eq!(met.outcome.reason(), Some(Reason::OtherBinding), "{mode}");
    }
}

#[test]
fn another_application_protocol_resumes_without() {
    for (mode, policy) in policies() {
        let prefers = Arc::new(Mutex::new(&b"\x02h2"[..]));
        let preferred = Arc::clone(&prefers);
        let context = context_with(&policy, |builder| {
            builder.set_alpn_select_callback(move |_, offered| {
                let preferred = *preferred.lock().unwrap();
                select_next_proto(preferred, offered).ok_or(AlpnError::NOACK)
            });
        });
        let client = Client::with(Kind::Tls13, |builder| {
            builder.set_alpn_protos(b"\x02h2\x08http/1.1")
        });
        let client = client.unwrap();
        let session = session_of(&context, &client);
        let met = meet_early(&context, &client, Some(&session), b"early");
        assert_eq!(met.agreed(), EarlyData::Accepted, "{mode}");
        *prefers.lock().unwrap() = b"\x08http/1.1";
        let met = meet_early(&context, &client, Some(met.next()), b"early");
        assert_eq!(met.agreed(), EarlyData::Unfit, "{mode}");
        assert!(met.seen.resumed, "{mode}");
    }
}

/// Of a session from before a server that takes less now.
#[test]
fn what_was_promised_more_is_declined_and_not_cut_off() {
    let register = Arc::new(MemoryRegister::default().sessions_end_with_process());
    let policy = Resumption::stateful(MemoryStore::default())
        .early_data(MAX)
        .replay_register(register);
    let before = context(&policy);
    let client = Client::new(Kind::Tls13).unwrap();
    for (now, expected) in [(1_000, EarlyData::Promised), (0, EarlyData::Off)] {
        let session = session_of(&before, &client);
        let after = context(&policy.clone().early_data(now));
        let early = vec![7; MAX as usize];
        let met = meet_early(&after, &client, Some(&session), &early);
        assert_eq!(met.agreed(), expected, "{now}");
        assert!(met.seen.resumed, "{now}");
    }
}
