//! Tasks that wait for a connection with early data, and a socket that is full.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::{
    AsyncEarlyStream, MemoryRegister, Resumption, TicketKeys, accept_early_async,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;

use crate::{common::*, pair, runtime, session_of};

fn policy() -> Resumption {
    Resumption::stateless(TicketKeys::random())
        .early_data(16 * 1024)
        .replay_register(MemoryRegister::default().sessions_end_with_process())
}

/// A connection whose client has sent early data, which was read, and no more.
async fn early(
    context: &SslContext,
    client: &Client,
    session: &[u8],
) -> (AsyncEarlyStream<UnixStream>, std::os::unix::net::UnixStream) {
    let (mut near, far) = pair();
    std::io::Write::write_all(&mut near, &flight(client, session, b"early")).unwrap();
    let far = UnixStream::from_std(far).unwrap();
    let ssl = Ssl::new(context).unwrap();
    let mut stream = accept_early_async(ssl, far).await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    (stream, near)
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Whoever begins to wait just when somebody gives the connection up finds it given up, or is woken.
#[test]
fn who_gives_up_reaches_who_begins_to_wait_at_the_same_time() {
    let context = context(&policy());
    let client = Client::new(Kind::Tls13).unwrap();
    let session = session_of(&context, Kind::Tls13);
    let runtime = runtime();
    for n in 0..3_000 {
        let (stream, _near) = runtime.block_on(early(&context, &client, &session));
        let handshake = stream.handshake();
        let (go, woken) = (AtomicBool::new(false), Arc::new(Woken::default()));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !go.load(SeqCst) {
                    std::hint::spin_loop();
                }
                for _ in 0..n % 60 {
                    std::hint::black_box(n);
                }
                handshake.abort();
            });
            let waker = Waker::from(Arc::clone(&woken));
            let _here = runtime.enter();
            let mut finished = pin!(handshake.finished());
            go.store(true, SeqCst);
            let answer = finished.as_mut().poll(&mut Context::from_waker(&waker));
            // As long as it waits.
            let begun = Instant::now();
            while answer.is_pending() && !woken.0.load(SeqCst) {
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "{n}: never woken"
                );
                thread::yield_now();
            }
        });
    }
}

#[test]
fn tasks_that_give_up_waiting_leave_nothing_behind() {
    let context = context(&policy());
    let client = Client::new(Kind::Tls13).unwrap();
    let session = session_of(&context, Kind::Tls13);
    runtime().block_on(async {
        let (stream, _near) = early(&context, &client, &session).await;
        let handshake = stream.handshake();
        for _ in 0..1_000 {
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            {
                let mut finished = pin!(handshake.finished());
                let mut context = Context::from_waker(&waker);
                assert!(finished.as_mut().poll(&mut context).is_pending());
            }
            drop(waker);
            assert_eq!(Arc::strong_count(&woken), 1);
            // It may wait for something else of the connection.
            assert!(woken.0.load(SeqCst));
        }
    });
}

/// A stream that takes so many bytes and then no more.
struct Gate {
    stream: UnixStream,
    room: Arc<Room>,
}

struct Room {
    bytes: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Room {
    fn set(&self, bytes: usize) {
        self.bytes.store(bytes, SeqCst);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.room.bytes.load(SeqCst) == 0 {
            *self.room.waker.lock().unwrap() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The client's last message comes while the socket is full, and OpenSSL's answer, a ticket that is larger than its
/// buffer, is half written when somebody else writes.
#[test]
fn a_write_waits_for_a_ticket_that_is_half_written() {
    for (padding, len) in [
        (0, 1),
        (0, 5_000),
        (2_500, 3_000),
        (6_000, 1),
        (6_000, 20_000),
    ] {
        let (ca, _) = ca_and_client();
        let me = mint_with_padding("me", &ca, padding);
        let context = demanding(&policy(), &[&ca]);
        let client = client_as(Kind::Tls13, &me);
        let session = meet(&context, &client, None).next().unwrap().to_vec();
        let (near, far) = pair();
        let client = thread::spawn(move || {
            let mut stream = client.start(near, Some(&session)).unwrap();
            stream.write_early_data(b"early").unwrap();
            stream.connect().unwrap();
            client.finish(stream)
        });
        runtime().block_on(async {
            let room = Arc::new(Room {
                bytes: AtomicUsize::new(1),
                waker: Mutex::default(),
            });
            let stream = UnixStream::from_std(far).unwrap();
            let gate = Gate {
                stream,
                room: Arc::clone(&room),
            };
            let ssl = Ssl::new(&context).unwrap();
            let mut stream = accept_early_async(ssl, gate).await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            room.set(0);
            let (mut reads, mut writes) = tokio::io::split(stream);
            let wait = Duration::from_millis(300);
            let read = tokio::time::timeout(wait, reads.read(&mut [0; 10])).await;
            assert!(read.is_err(), "{read:?}");
            let answer = vec![1; len];
            let mut write = pin!(writes.write_all(&answer));
            let early = tokio::time::timeout(wait, write.as_mut()).await;
            room.set(1);
            match early {
                Ok(written) => written.unwrap(),
                Err(_) => write.await.unwrap(),
            }
            let mut stream = reads.unsplit(writes);
            stream.shutdown().await.unwrap();
        });
        let seen = client.join().unwrap().unwrap();
        assert_eq!(seen.reply, vec![1; len], "{padding}");
    }
}
