//! Handshakes on a tokio runtime that are suspended while the store is asked.

#![cfg(all(feature = "tokio", unix))]

#[path = "../common/mod.rs"]
mod common;

mod admitted;
mod callbacks;
mod cancelled;
mod early;
mod early_tasks;
mod hellos;
mod modes;
mod slow;
mod store;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::*;
use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::{Outcome, Resumption, SslRefExt, accept_async};
use store::Watched;
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Runtime};

/// A deadline that nothing here misses.
const LONG: Duration = Duration::from_secs(60);

/// An executor of one thread: the one that calls `block_on`.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A store that is watched, and a stateful policy that lets lookups in it wait.
fn watched() -> (Arc<Watched>, Resumption) {
    let store = Arc::new(Watched::default());
    let policy = Resumption::stateful(Arc::clone(&store)).suspend_lookups(true);
    (store, policy.lookup_deadline(LONG))
}

/// The client's end, which blocks, and the server's.
fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_read_timeout(Some(LONG)).unwrap();
    far.set_nonblocking(true).unwrap();
    (near, far)
}

/// What a server saw of a connection: `ssl.resumption()`, OpenSSL's own word, and whether the
/// client has a certificate.
type Served = (Option<Outcome>, bool, bool);

/// Accepts, says hello and closes.
async fn serve(ssl: Ssl, far: UnixStream) -> Result<Served, String> {
    let far = tokio::net::UnixStream::from_std(far).unwrap();
    let mut stream = accept_async(ssl, far).await.map_err(|e| e.to_string())?;
    let _ = stream.write_all(b"hello").await;
    let _ = stream.shutdown().await;
    let ssl = stream.ssl();
    let authenticated = ssl.peer_certificate().is_some();
    Ok((ssl.resumption(), ssl.session_reused(), authenticated))
}

/// What `meet` is in `common`, with the server in `accept_async` on this thread's runtime.
#[track_caller]
fn meet_async(context: &SslContext, client: &Client, session: Option<&[u8]>) -> Met {
    let (near, far) = pair();
    let ssl = Ssl::new(context).unwrap();
    let (seen, served, errors) = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let stream = client.connect(near, session).map_err(|e| e.to_string())?;
            client.finish(stream).map_err(|e| e.to_string())
        });
        let served = runtime().block_on(serve(ssl, far));
        let errors = openssl::error::ErrorStack::get().errors().len();
        (client.join().unwrap(), served, errors)
    });
    let (outcome, server_reused, authenticated) = match (&seen, served) {
        (Ok(_), Ok(served)) => served,
        (_, served) => panic!("client: {seen:?}; server: {served:?}"),
    };
    Met {
        client: seen.unwrap(),
        outcome,
        server_reused,
        authenticated,
        errors,
    }
}

/// Two connections of `client`, of which the second offers the session of the first.
#[track_caller]
fn meet_async_twice(context: &SslContext, client: &Client) -> [Met; 2] {
    let first = meet_async(context, client, None);
    let second = meet_async(context, client, first.next());
    [first, second]
}

/// A session, got in a full handshake.
#[track_caller]
fn session_of(context: &SslContext, kind: Kind) -> Vec<u8> {
    let met = meet_async(context, &Client::new(kind).unwrap(), None);
    met.next().unwrap().to_vec()
}
