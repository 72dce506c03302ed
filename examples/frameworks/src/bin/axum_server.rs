//! axum on axum-server, with a new certificate at each SIGHUP.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use axum::extract::State;
use axum::middleware::AddExtension;
use axum::routing::get;
use axum::{Extension, Router};
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_openssl::{OpenSSLAcceptor, OpenSSLConfig};
use futures_util::future::BoxFuture;
use openssl_resumption::{Outcome, Resumption, SslContextBuilderExt, SslRefExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_openssl::SslStream;
use tower::Layer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = frameworks::policy();
    let config = config(&policy)?;
    let hangup = signal(SignalKind::hangup())?;
    tokio::spawn(reload(config.clone(), policy.clone(), hangup));

    let handle = Handle::<SocketAddr>::new();
    let app = Router::new().route("/", get(answer)).with_state(policy);
    let server = axum_server::bind(frameworks::address())
        .acceptor(Tell(OpenSSLAcceptor::new(config)))
        .handle(handle.clone())
        .serve(app.into_make_service());
    let server = tokio::spawn(server);
    if let Some(address) = handle.listening().await {
        println!("listening on {address}");
    }
    Ok(server.await??)
}

/// Contexts of one policy have its sessions and keys in common.
fn config(policy: &Resumption) -> Result<OpenSSLConfig, Box<dyn Error>> {
    let mut acceptor = frameworks::acceptor()?;
    acceptor.set_resumption(policy)?;
    Ok(OpenSSLConfig::try_from(acceptor)?) // sets ALPN, and builds
}

/// Not by `reload_from_pem_file` and the like: what they build has no policy.
async fn reload(server: OpenSSLConfig, policy: Resumption, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        match config(&policy) {
            Ok(new) => server.reload_from_acceptor(new.get_inner()),
            Err(error) => eprintln!("{error}"),
        }
        println!("reloaded");
    }
}

async fn answer(State(policy): State<Resumption>, outcome: Extension<Option<Outcome>>) -> String {
    frameworks::report(&policy, outcome.0)
}

/// Tells the requests of a connection what became of its handshake. Only for servers that want it.
#[derive(Clone)]
struct Tell(OpenSSLAcceptor);

impl<S: Send + 'static> Accept<TcpStream, S> for Tell {
    type Stream = SslStream<TcpStream>;
    type Service = AddExtension<S, Option<Outcome>>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, tcp: TcpStream, service: S) -> Self::Future {
        let accepting = self.0.accept(tcp, service);
        Box::pin(async move {
            let (tls, service) = accepting.await?;
            let outcome = Extension(tls.ssl().resumption());
            Ok((tls, outcome.layer(service)))
        })
    }
}
