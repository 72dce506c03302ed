//! The network between one server and all that speak to it.

use std::cell::OnceCell;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

use crate::common::programs::eventually;

/// Where servers call each other from, which tells them from clients. Only Linux has all of 127.0.0.0/8.
pub(super) const SERVERS: Option<Ipv4Addr> = if cfg!(target_os = "linux") {
    Some(Ipv4Addr::new(127, 0, 0, 2))
} else {
    None
};

/// Whose bytes get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passes {
    All,
    /// Those of clients, not those of servers.
    Clients,
    None,
}

/// A port that leads to a server, in this process.
pub(super) struct Network {
    pub(super) port: u16,
    wires: Arc<Wires>,
}

struct Wires {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    passes: Passes,
    target: u16,
    /// Whether somebody listens.
    open: bool,
    /// Both ends of each connection, to close them.
    ends: Vec<[TcpStream; 2]>,
}

impl Network {
    /// To nowhere yet.
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            passes: Passes::All,
            target: 0,
            open: false,
            ends: Vec::new(),
        };
        let wires = Arc::new(Wires {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        Self { port, wires }.listening(listener)
    }

    fn listening(self, listener: TcpListener) -> Self {
        self.listen(listener);
        self
    }

    fn listen(&self, listener: TcpListener) {
        self.wires.state.lock().open = true;
        let wires = Arc::clone(&self.wires);
        thread::spawn(move || wires.accept(&listener));
    }

    pub(super) fn set_target(&self, port: u16) {
        self.wires.state.lock().target = port;
    }

    /// What does not get through is held back, and nobody is told, as when a cable is pulled; it arrives when all is well
    /// again. New connections are accepted, which they would not be, and hear nothing.
    pub(super) fn set(&self, passes: Passes) {
        self.wires.state.lock().passes = passes;
        self.wires.changed.notify_all();
    }

    /// Refuses connections from now on, as the port of a process does that has ended.
    pub(super) fn close(&self) {
        let mut state = self.wires.state.lock();
        if !std::mem::replace(&mut state.open, false) {
            return;
        }
        state.hang_up();
        drop(state);
        self.wires.changed.notify_all();
        // Wakes the one that accepts, which then drops the listener.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        eventually("nobody listens any more", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_err()
        });
    }

    /// Takes connections again.
    pub(super) fn reopen(&self) {
        if self.wires.state.lock().open {
            return;
        }
        // Somebody may have called from this very port meanwhile.
        let bound = OnceCell::new();
        eventually("the port is free again", || {
            let listener = TcpListener::bind(("127.0.0.1", self.port));
            listener.is_ok_and(|listener| bound.set(listener).is_ok())
        });
        self.listen(bound.into_inner().unwrap());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.set(Passes::All);
        self.close();
    }
}

impl State {
    fn hang_up(&mut self) {
        for end in self.ends.drain(..).flatten() {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Wires {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let state = self.state.lock();
            let (open, target) = (state.open, state.target);
            drop(state);
            if !open {
                return;
            }
            let Ok(client) = client else { continue };
            let Ok(peer) = client.peer_addr() else {
                continue;
            };
            let of_server = SERVERS.is_some_and(|servers| peer.ip() == IpAddr::V4(servers));
            let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
                continue;
            };
            for end in [&client, &server] {
                let _ = end.set_nodelay(true);
            }
            for (from, to) in [(&client, &server), (&server, &client)] {
                let [from, to] = [from, to].map(|end| end.try_clone().unwrap());
                let wires = Arc::clone(self);
                thread::spawn(move || wires.forward(from, to, of_server));
            }
            let ends = &mut self.state.lock().ends;
            ends.push([client, server]);
            // What has ended is nobody's peer.
            ends.retain(|ends| ends.iter().all(|end| end.peer_addr().is_ok()));
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream, of_server: bool) {
        let mut buffer = [0; 16384];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            // The end is not heard of either.
            self.wait_until_it_passes(of_server);
            if length == 0 || to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        for end in [from, to] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn wait_until_it_passes(&self, of_server: bool) {
        let mut state = self.state.lock();
        while state.open && !state.passes.lets_through(of_server) {
            self.changed.wait(&mut state);
        }
    }
}

impl Passes {
    fn lets_through(self, of_server: bool) -> bool {
        match self {
            Self::All => true,
            Self::Clients => !of_server,
            Self::None => false,
        }
    }
}
