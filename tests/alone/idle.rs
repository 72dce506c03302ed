//! What a connection keeps once its handshake is over: there may be a million of them.

#[path = "../common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use common::*;
use openssl::ssl::{Ssl, SslContext, SslStream};
use openssl_resumption::{MemoryStore, Resumption, TicketKeys};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What Rust has allocated, with what the C library's allocator adds.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

fn with_overhead(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: memory comes from `System` and goes back to it.
#[allow(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(with_overhead(layout), Relaxed);
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(with_overhead(layout), Relaxed);
        // SAFETY: the caller keeps to the contract; the block came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The only test here: others would allocate too.
#[test]
fn ten_thousand_idle_connections_keep_less_than_200_bytes_each() {
    // What sessions a store keeps is no matter of connections.
    let store = || MemoryStore::new(10, 1 << 20);
    let bare = acceptor().build().into_context();
    for (many, kind, policy) in [
        (10_000, Kind::Tls13, Resumption::stateful(store())),
        (200, Kind::Tls12, Resumption::stateful(store())),
        (
            200,
            Kind::Tls13,
            Resumption::stateful(store()).single_use(true),
        ),
        (
            200,
            Kind::Tls12,
            Resumption::stateless(TicketKeys::random()),
        ),
        (
            200,
            Kind::Tls13,
            Resumption::stateless(TicketKeys::random()),
        ),
        (200, Kind::Tls13, Resumption::off()),
    ] {
        let context = context(&policy);
        let client = Client::new(kind).unwrap();
        let first = meet(&context, &client, None);
        // Full handshakes take time.
        let full = (many < 1_000).then_some(None);
        for session in full.into_iter().chain([first.next()]) {
            let ours = idle(&context, &client, session, many);
            let without = idle(&bare, &client, session, many);
            let each = (ours - without) / many;
            assert!(each < 200, "{policy:?} {kind:?}: {each}");
            assert!(each >= 64, "{policy:?} {kind:?}: {each} is not all");
        }
    }
}

/// What so many connections keep whose handshakes are over.
fn idle(context: &SslContext, client: &Client, session: Option<&[u8]>, many: usize) -> usize {
    let connection = || accepted(Ssl::new(context).unwrap(), client, session);
    // What is made once, or once a session.
    (0..20).for_each(|_| drop(connection()));
    let mut connections = Vec::with_capacity(many);
    let before = ALLOCATED.load(Relaxed);
    connections.extend((0..many).map(|_| connection()));
    ALLOCATED.load(Relaxed) - before
}

fn accepted(ssl: Ssl, client: &Client, session: Option<&[u8]>) -> SslStream<Wire> {
    let (near, far) = Wire::pair();
    let mut server = SslStream::new(ssl, far).unwrap();
    let mut client = client.start(near, session).unwrap();
    // Each is blocked until the other has written, and the server done when its tickets are.
    while let (Err(_), _) | (_, Err(_)) = (client.connect(), server.accept()) {}
    drop(client);
    server
}

type Half = Arc<Mutex<VecDeque<u8>>>;

/// No sockets: a process may have few.
#[derive(Debug)]
struct Wire(Half, Half);

impl Wire {
    fn pair() -> (Self, Self) {
        let (one, other) = (Half::default(), Half::default());
        (Self(one.clone(), other.clone()), Self(other, one))
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.lock().unwrap().read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The buffers are no matter of ours either.
impl Drop for Wire {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = VecDeque::new();
        *self.1.lock().unwrap() = VecDeque::new();
    }
}
