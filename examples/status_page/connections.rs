//! Connections, a thread each.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use openssl::ssl::{Ssl, SslAcceptor};
use openssl_resumption::{SslRefExt, accept_early};

use crate::http::{self, MAX_HEAD};
use crate::page::{Met, Page};

/// How long a client may be silent. The page asks for numbers more often.
const SILENCE: Duration = Duration::from_secs(30);

/// More connections at a time are not accepted.
const MAX_CONNECTIONS: usize = 256;

pub(crate) fn serve(listener: &TcpListener, acceptor: &SslAcceptor, page: &Page) {
    let open = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (number, socket) in (1..).zip(listener.incoming()) {
            let Ok(socket) = socket else {
                // Too many are open, say: some will end.
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            if open.fetch_add(1, Relaxed) >= MAX_CONNECTIONS {
                open.fetch_sub(1, Relaxed);
                continue;
            }
            let open = &open;
            scope.spawn(move || {
                converse(acceptor, socket, page, number);
                open.fetch_sub(1, Relaxed);
            });
        }
    });
}

/// Answers requests until one side has enough.
fn converse(acceptor: &SslAcceptor, socket: TcpStream, page: &Page, number: u64) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    socket.set_read_timeout(Some(SILENCE)).ok()?;
    socket.set_write_timeout(Some(SILENCE)).ok()?;
    let ssl = Ssl::new(acceptor.context()).ok()?;
    // All that is asked for may be asked for twice: there is nothing to wait for.
    let mut stream = accept_early(ssl, socket).ok()?;
    let mut head = Vec::new();
    loop {
        let met = Met {
            number,
            outcome: stream.ssl().resumption(),
        };
        let Some(answer) = http::answer(&head, |path| page.reply(path, &met)) else {
            let mut chunk = [0; 4096];
            let room = chunk.len().min(MAX_HEAD - head.len());
            match stream.read(&mut chunk[..room]).ok()? {
                0 => return None,
                read => head.extend_from_slice(&chunk[..read]),
            }
            continue;
        };
        // Browsers wait for the answer before they send the next request.
        head.clear();
        stream.write_all(&answer.bytes).ok()?;
        if answer.close {
            let _ = stream.shutdown();
            return None;
        }
    }
}
