//! Who does what: one thread waits for sockets, workers move connections on.
//!
//! A connection belongs either to the waiting thread (`waiting.rs`), which watches its socket and
//! its deadline, or to the one worker that it was sent to. A silent client therefore costs memory,
//! but no thread.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use openssl::ssl::SslAcceptor;
use parking_lot::Mutex;
use polling::Poller;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::connection::Connection;
use crate::page::Page;
use crate::waiting::{GivenBack, LISTENER, SIGNAL, Waiting};
use crate::watched::{Wait, Watched};

const WORKERS: usize = 4;

pub(crate) struct Server {
    pub(crate) acceptor: SslAcceptor,
    pub(crate) poller: Arc<Poller>,
    pub(crate) listener: Watched<TcpListener>,
    address: SocketAddr,
    page: Page,
    /// Becomes readable with SIGTERM and SIGINT; only held so that it is watched.
    _signals: Watched<UnixStream>,
}

impl Server {
    pub(crate) fn bind(
        listen: SocketAddr,
        acceptor: SslAcceptor,
        page: Page,
    ) -> Result<Self, String> {
        let poller = Poller::new()
            .map(Arc::new)
            .map_err(|error| format!("cannot wait for sockets: {error}"))?;
        let signals = catch_signals()
            .and_then(|signals| Watched::new(&poller, signals, SIGNAL, Wait::Read))
            .map_err(|error| format!("cannot catch SIGTERM and SIGINT: {error}"))?;
        let (listener, address) = open_listener(listen, &poller)
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        Ok(Self {
            acceptor,
            poller,
            listener,
            address,
            page,
            _signals: signals,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a signal says stop, then closes all connections.
    pub(crate) fn run(&self) -> io::Result<()> {
        let (to_workers, queue) = mpsc::channel();
        let (give_back, given_back) = mpsc::channel();
        let queue = Mutex::new(queue);
        let stopping = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                let give_back = give_back.clone();
                let work = || self.work(&queue, give_back, &stopping);
                thread::Builder::new().spawn_scoped(scope, work)?;
            }
            let ended = Waiting::new(self, to_workers).run(&given_back);
            stopping.store(true, Relaxed);
            ended
        })
    }

    /// What a worker does until there is nobody left to send it connections.
    fn work(
        &self,
        queue: &Mutex<Receiver<Connection>>,
        give_back: Sender<GivenBack>,
        stopping: &AtomicBool,
    ) {
        loop {
            let next = queue.lock().recv();
            let Ok(mut connection) = next else { return };
            if stopping.load(Relaxed) {
                continue;
            }
            let given_back = connection
                .advance(&self.page)
                .map(|wait| (connection, wait));
            // Both fail only when the waiting thread has ended.
            let _ = give_back.send(given_back);
            let _ = self.poller.notify();
        }
    }
}

/// A socket that becomes readable with SIGTERM and SIGINT, which no longer end the process.
fn catch_signals() -> io::Result<UnixStream> {
    let (signals, sender) = UnixStream::pair()?;
    pipe::register(SIGTERM, sender.try_clone()?)?;
    pipe::register(SIGINT, sender)?;
    Ok(signals)
}

fn open_listener(
    listen: SocketAddr,
    poller: &Arc<Poller>,
) -> io::Result<(Watched<TcpListener>, SocketAddr)> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let listener = Watched::new(poller, listener, LISTENER, Wait::Read)?;
    Ok((listener, address))
}
