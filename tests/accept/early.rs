//! Early data on a runtime: the register that is asked elsewhere, and tasks that share a connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContext, SslStream};
use openssl_resumption::{
    AsyncEarlyStream, EarlyData, HelloId, MemoryRegister, MemoryStore, Outcome, Registered,
    ReplayRegister, Resumption, SslRefExt, StoreError, TicketKeys, accept_early_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{LONG, common::*, pair, runtime, session_of};

const MAX: u32 = 16 * 1024;

/// A register that says who asks it.
#[derive(Clone)]
struct Asked {
    register: Arc<MemoryRegister>,
    threads: Arc<Mutex<Vec<ThreadId>>>,
    mood: fn(),
}

impl Asked {
    fn new(mood: fn()) -> Self {
        Self {
            register: Arc::new(MemoryRegister::default().sessions_end_with_process()),
            threads: Arc::default(),
            mood,
        }
    }

    fn threads(&self) -> Vec<ThreadId> {
        self.threads.lock().unwrap().clone()
    }
}

impl ReplayRegister for Asked {
    fn register(&self, hello: &HelloId, lives: Duration) -> Result<Registered, StoreError> {
        self.threads.lock().unwrap().push(thread::current().id());
        (self.mood)();
        self.register.register(hello, lives)
    }
}

/// The modes that resume, which ask this register while the handshake is suspended.
fn policies(register: &Asked) -> [(&'static str, Resumption); 3] {
    let keys = TicketKeys::random;
    [
        ("stateful", Resumption::stateful(MemoryStore::default())),
        ("stateless", Resumption::stateless(keys())),
        ("hybrid", Resumption::hybrid(MemoryStore::default(), keys())),
    ]
    .map(|(mode, policy)| {
        let policy = policy.early_data(MAX).replay_register(register.clone());
        (mode, policy.suspend_lookups(true).lookup_deadline(LONG))
    })
}

type Stream = AsyncEarlyStream<tokio::net::UnixStream>;

async fn accept(context: &SslContext, far: UnixStream) -> Stream {
    let far = tokio::net::UnixStream::from_std(far).unwrap();
    accept_early_async(Ssl::new(context).unwrap(), far)
        .await
        .expect("a handshake")
}

/// Reads what comes early and what comes after it, up to a line end, and answers.
async fn serve(mut stream: Stream) -> (Vec<u8>, Vec<u8>, Outcome) {
    let (mut early, mut late) = (Vec::new(), Vec::new());
    let mut buffer = [0; 100];
    while !late.ends_with(b"\n") {
        let read = stream.read(&mut buffer).await.expect("something to read");
        assert!(read > 0, "{early:?} {late:?}");
        let to = if stream.is_early() {
            &mut early
        } else {
            &mut late
        };
        to.extend_from_slice(&buffer[..read]);
    }
    stream.write_all(b"hello").await.expect("room to write");
    stream.shutdown().await.expect("a close_notify");
    let outcome = stream.ssl().resumption().expect("an outcome");
    (early, late, outcome)
}

/// A client that sends `early` as early data, and then a line.
fn send(client: &Client, near: UnixStream, session: &[u8], early: &[u8]) -> Seen {
    let mut stream = offer(client, near, session, early);
    stream.connect().unwrap();
    stream.write_all(b"late\n").unwrap();
    client.finish(stream).unwrap()
}

fn offer<S: Read + Write>(client: &Client, near: S, session: &[u8], early: &[u8]) -> SslStream<S> {
    let mut stream = client.start(near, Some(session)).unwrap();
    assert_eq!(stream.write_early_data(early).unwrap(), early.len());
    stream
}

/// A client that comes back with a session, and both ends of its connection.
struct Back {
    context: SslContext,
    client: Client,
    session: Vec<u8>,
    near: UnixStream,
    far: UnixStream,
}

fn back(policy: &Resumption) -> Back {
    let context = context(policy);
    let session = session_of(&context, Kind::Tls13);
    let (near, far) = pair();
    Back {
        context,
        client: Client::new(Kind::Tls13).unwrap(),
        session,
        near,
        far,
    }
}

#[test]
fn the_register_is_asked_elsewhere_once() {
    let register = Asked::new(|| ());
    for (mode, policy) in policies(&register) {
        let Back {
            context,
            client,
            session,
            near,
            far,
        } = back(&policy);
        register.threads.lock().unwrap().clear();
        let (seen, (early, late, outcome)) = thread::scope(|scope| {
            let client = scope.spawn(|| send(&client, near, &session, &[7; 5_000]));
            let served = runtime().block_on(async { serve(accept(&context, far).await).await });
            (client.join().unwrap(), served)
        });
        assert!(seen.resumed && seen.reply == b"hello", "{mode}");
        assert!(early == [7; 5_000] && late == b"late\n", "{mode}");
        assert_eq!(outcome.early_data, Some(EarlyData::Accepted), "{mode}");
        let threads = register.threads();
        assert_eq!(threads.len(), 1, "{mode}");
        assert_ne!(threads[0], thread::current().id(), "{mode}");
    }
}

/// A hundred clients whose register takes a second, on an executor of one thread.
#[test]
fn a_hundred_handshakes_wait_for_a_slow_register_together() {
    let register = Asked::new(|| thread::sleep(Duration::from_secs(1)));
    let [_, (_, policy), _] = policies(&register);
    let context = context(&policy);
    let session = session_of(&context, Kind::Tls13);
    let begun = Instant::now();
    thread::scope(|scope| {
        let runtime = runtime();
        let mut servers = Vec::new();
        for _ in 0..100 {
            let (near, far) = pair();
            let context = context.clone();
            servers.push(runtime.spawn(async move { serve(accept(&context, far).await).await }));
            let session = &session;
            scope.spawn(move || {
                let client = Client::new(Kind::Tls13).unwrap();
                assert!(send(&client, near, session, b"early").resumed);
            });
        }
        runtime.block_on(async {
            for server in servers {
                let (early, _, outcome) = server.await.unwrap();
                assert_eq!(early, b"early");
                assert_eq!(outcome.early_data, Some(EarlyData::Accepted));
            }
        });
    });
    // One after the other they would take a hundred.
    assert!(
        begun.elapsed() < Duration::from_secs(50),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_register_that_panics_or_is_late_costs_early_data_alone() {
    let late = || thread::sleep(Duration::from_millis(1_500));
    for (mood, deadline) in [
        (Asked::new(|| panic!("at sea")), LONG),
        (Asked::new(late), Duration::from_millis(500)),
    ] {
        for (mode, policy) in policies(&mood) {
            let context = context(&policy.clone().lookup_deadline(deadline));
            let client = Client::new(Kind::Tls13).unwrap();
            let session = session_of(&context, Kind::Tls13);
            let (near, far) = pair();
            let (seen, (early, _, outcome)) = thread::scope(|scope| {
                let client = scope.spawn(|| send(&client, near, &session, b"early"));
                let served = runtime().block_on(async { serve(accept(&context, far).await).await });
                (client.join().unwrap(), served)
            });
            assert!(early.is_empty(), "{mode}");
            // What the store has found in time resumes.
            assert!(seen.resumed, "{mode}");
            let failed = Some(EarlyData::RegisterFailed);
            assert_eq!(outcome.early_data, failed, "{mode}");
        }
    }
}

/// Clients without early data, and servers that do not read it, do not trouble the register.
#[test]
fn whom_it_does_not_concern_the_register_is_not_asked_for() {
    let register = Asked::new(|| ());
    for (mode, policy) in policies(&register) {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let first = crate::meet_async(&context, &client, None);
        let second = crate::meet_async(&context, &client, first.next());
        assert!(second.client.resumed, "{mode}");
        let session = second.next().unwrap().to_vec();
        let (near, far) = pair();
        let ssl = Ssl::new(&context).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = offer(&client, near, &session, b"early");
                stream.connect().unwrap();
                client.finish(stream).unwrap()
            });
            let served = runtime().block_on(crate::serve(ssl, far)).unwrap();
            assert_eq!(
                served.0.unwrap().early_data,
                Some(EarlyData::NotRead),
                "{mode}"
            );
        });
        assert!(register.threads().is_empty(), "{mode}");
    }
}

/// One task reads, another writes, and others wait for the end of the handshake: all go on, whoever it is that the
/// stream wakes.
#[test]
fn many_tasks_wait_for_one_handshake() {
    let register = Asked::new(|| ());
    for (mode, policy) in policies(&register) {
        let Back {
            context,
            client,
            session,
            near,
            far,
        } = back(&policy);
        let finished = Arc::new(AtomicUsize::new(0));
        let client = thread::spawn(move || {
            let mut stream = offer(&client, Holding::new(near), &session, &[1; 100]);
            stream.get_mut().hold();
            stream.connect().unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
            // All are waiting by now, or will find it done.
            thread::sleep(Duration::from_millis(20));
            stream.get_mut().release().unwrap();
            stream.write_all(&[2; 100_000]).unwrap();
            client.finish(stream).unwrap()
        });
        runtime().block_on(async {
            let stream = accept(&context, far).await;
            assert!(stream.is_early());
            let handshake = stream.handshake();
            let waiters: Vec<_> = (0..5)
                .map(|_| {
                    let (handshake, finished) = (handshake.clone(), Arc::clone(&finished));
                    tokio::spawn(async move {
                        assert!(handshake.is_early() && handshake.resumption().is_none());
                        handshake.finished().await.unwrap();
                        assert!(!handshake.is_early());
                        finished.fetch_add(1, Relaxed);
                    })
                })
                .collect();
            let (mut reads, mut writes) = tokio::io::split(stream);
            let reader = tokio::spawn(async move {
                let mut read = vec![0; 100_100];
                reads.read_exact(&mut read).await.unwrap();
                assert!(read[..100] == [1; 100] && read[100..] == [2; 100_000]);
                reads
            });
            let writer = tokio::spawn(async move {
                writes.write_all(b"early").await.unwrap();
                writes.flush().await.unwrap();
                writes
            });
            let (reads, writes) = (reader.await.unwrap(), writer.await.unwrap());
            for waiter in waiters {
                waiter.await.unwrap();
            }
            let outcome = handshake.resumption().expect("an outcome");
            assert_eq!(outcome.early_data, Some(EarlyData::Accepted), "{mode}");
            let mut stream = reads.unsplit(writes);
            stream.shutdown().await.unwrap();
            drop(stream);
            // What there was to know is known without the connection.
            assert_eq!(handshake.resumption(), Some(outcome));
            handshake.finished().await.unwrap();
        });
        assert_eq!(finished.load(Relaxed), 5, "{mode}");
        assert!(client.join().unwrap().resumed, "{mode}");
    }
}

/// The handshake goes on if only a handle waits for it, and nobody reads.
#[test]
fn a_handle_alone_finishes_the_handshake() {
    let register = Asked::new(|| ());
    let [(_, policy), ..] = policies(&register);
    let Back {
        context,
        client,
        session,
        near,
        far,
    } = back(&policy);
    let early: Vec<u8> = (0..MAX).map(|i| (i % 251) as u8).collect();
    let sent = early.clone();
    let client = thread::spawn(move || send(&client, near, &session, &sent));
    runtime().block_on(async {
        let mut stream = accept(&context, far).await;
        let handshake = stream.handshake();
        tokio::spawn(async move { handshake.finished().await })
            .await
            .unwrap()
            .unwrap();
        assert!(!stream.is_early());
        // What came early is still there to be read.
        let mut read = vec![0; early.len() + 5];
        stream.read_exact(&mut read).await.unwrap();
        assert!(read[..early.len()] == early && &read[early.len()..] == b"late\n");
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    assert!(client.join().unwrap().resumed);
}

/// An answer that is larger than what the sockets hold, to a client that does not read at first, and whose last
/// message comes in the middle of it.
#[test]
fn a_large_answer_goes_on_across_the_end_of_the_handshake() {
    let register = Asked::new(|| ());
    for (mode, policy) in policies(&register) {
        let Back {
            context,
            client,
            session,
            near,
            far,
        } = back(&policy);
        let answer: Vec<u8> = (0..3_000_000).map(|i| (i % 253) as u8).collect();
        let expected = answer.clone();
        let client = thread::spawn(move || {
            let mut stream = offer(&client, near, &session, b"early");
            thread::sleep(Duration::from_millis(20));
            stream.connect().unwrap();
            stream.write_all(&[5; 100_000]).unwrap();
            let seen = client.finish(stream).unwrap();
            assert!(seen.reply == expected, "{}", seen.reply.len());
            seen
        });
        runtime().block_on(async {
            let stream = accept(&context, far).await;
            let (mut reads, mut writes) = tokio::io::split(stream);
            let reader = tokio::spawn(async move {
                let mut read = vec![0; 100_005];
                reads.read_exact(&mut read).await.unwrap();
                assert!(read.starts_with(b"early") && read.ends_with(&[5; 100_000]));
            });
            writes.write_all(&answer).await.unwrap();
            writes.shutdown().await.unwrap();
            reader.await.unwrap();
        });
        assert!(client.join().unwrap().resumed, "{mode}");
    }
}

/// A client that takes its time for its last message is given up.
#[test]
fn a_handshake_that_is_given_up_is_an_error_to_all() {
    let register = Asked::new(|| ());
    let [(_, policy), ..] = policies(&register);
    let Back {
        context,
        client,
        session,
        near,
        far,
    } = back(&policy);
    let idle = offer(&client, near, &session, b"early");
    runtime().block_on(async {
        let mut stream = accept(&context, far).await;
        let handshake = stream.handshake();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        let reader = tokio::spawn(async move { (stream.read(&mut [0; 5]).await, stream) });
        let waiter = handshake.clone();
        let waiter = tokio::spawn(async move { waiter.finished().await });
        tokio::task::yield_now().await;
        handshake.abort();
        let (read, mut stream) = reader.await.unwrap();
        assert!(read.is_err() && waiter.await.unwrap().is_err());
        assert!(stream.write_all(b"answer").await.is_err());
        assert!(stream.shutdown().await.is_err() && handshake.is_early());
    });
    drop(idle);
}

/// Once it is finished there is nothing to give up.
#[test]
fn a_finished_handshake_is_not_given_up() {
    let register = Asked::new(|| ());
    let [(_, policy), ..] = policies(&register);
    let Back {
        context,
        client,
        session,
        near,
        far,
    } = back(&policy);
    let client = thread::spawn(move || send(&client, near, &session, b"early"));
    runtime().block_on(async {
        let mut stream = accept(&context, far).await;
        stream.finished().await.unwrap();
        stream.handshake().abort();
        serve(stream).await;
    });
    assert!(client.join().unwrap().resumed);
}

/// A client that vanishes before the end of its handshake is an error to all who wait.
#[test]
fn a_client_that_vanishes_ends_the_wait() {
    let register = Asked::new(|| ());
    for (mode, policy) in policies(&register) {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, Kind::Tls13);
        for _ in 0..50 {
            let (near, far) = pair();
            let gone = offer(&client, near, &session, b"early");
            runtime().block_on(async {
                let mut stream = accept(&context, far).await;
                let handshake = stream.handshake();
                let waiter = tokio::spawn({
                    let handshake = handshake.clone();
                    async move { handshake.finished().await }
                });
                tokio::task::yield_now().await;
                drop(gone);
                assert!(waiter.await.unwrap().is_err(), "{mode}");
                let mut early = Vec::new();
                let read = stream.read_to_end(&mut early).await;
                assert_eq!(early, b"early", "{mode}");
                assert!(read.is_err(), "{mode}");
                assert!(stream.write_all(b"late").await.is_err(), "{mode}");
                assert!(stream.flush().await.is_err(), "{mode}");
                assert!(
                    stream.is_early() && stream.shutdown().await.is_err(),
                    "{mode}"
                );
                drop(stream);
                assert!(
                    handshake.is_early() && handshake.finished().await.is_err(),
                    "{mode}"
                );
            });
        }
    }
}
