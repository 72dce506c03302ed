//! Who does what: one thread waits for sockets, workers move connections on.
//!
//! A connection belongs either to the waiting thread (`waiting.rs`), which watches its socket and
//! its deadline, or to the one worker that it was sent to. A silent client therefore costs memory,
//! but no thread.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use openssl::ssl::SslAcceptor;
use openssl_resumption::Resumption;
use parking_lot::Mutex;
use polling::Poller;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::connection::Connection;
use crate::page::Page;
use crate::waiting::{GivenBack, HANGUP, LISTENER, STOP, Waiting};
use crate::watched::{Wait, Watched};

const WORKERS: usize = 4;

pub(crate) struct Server {
    pub(crate) acceptor: SslAcceptor,
    pub(crate) poller: Arc<Poller>,
    pub(crate) listener: Watched<TcpListener>,
    address: SocketAddr,
    page: Page,
    /// Becomes readable with SIGTERM and SIGINT; only held so that it is watched.
    _stop: Watched<UnixStream>,
    /// Becomes readable with SIGHUP, if that is caught, and has the policy that is to forget then.
    hangup: Option<(Watched<UnixStream>, Resumption)>,
}

impl Server {
    pub(crate) fn bind(
        listen: SocketAddr,
        acceptor: SslAcceptor,
        page: Page,
        forget_on_hangup: Option<Resumption>,
    ) -> Result<Self, String> {
        let poller = Poller::new()
            .map(Arc::new)
            .map_err(|error| format!("cannot wait for sockets: {error}"))?;
        let stop = catch(&[SIGTERM, SIGINT], &poller, STOP)
            .map_err(|error| format!("cannot catch SIGTERM and SIGINT: {error}"))?;
        let hangup = forget_on_hangup
            .map(|policy| catch(&[SIGHUP], &poller, HANGUP).map(|signals| (signals, policy)))
            .transpose()
            .map_err(|error| format!("cannot catch SIGHUP: {error}"))?;
        let (listener, address) = open_listener(listen, &poller)
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        Ok(Self {
            acceptor,
            poller,
            listener,
            address,
            page,
            _stop: stop,
            hangup,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGHUP was caught, perhaps more than once.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let Some((signals, policy)) = &self.hangup else {
            return Ok(());
        };
        // Emptied first: what comes afterwards is reported again.
        while let Ok(1..) = signals.get().read(&mut [0; 64]) {}
        policy.forget_all();
        signals.watch(HANGUP, Wait::Read)
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

/// A socket that becomes readable with these signals, which no longer end the process.
fn catch(signals: &[i32], poller: &Arc<Poller>, key: usize) -> io::Result<Watched<UnixStream>> {
    let (caught, sender) = UnixStream::pair()?;
    caught.set_nonblocking(true)?;
    let caught = Watched::new(poller, caught, key, Wait::Read)?;
    for signal in signals {
        pipe::register(*signal, sender.try_clone()?)?;
    }
    Ok(caught)
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
