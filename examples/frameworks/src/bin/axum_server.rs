//! axum on axum-server, with early data, and with a new certificate at each SIGHUP.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use axum::extract::State;
use axum::middleware::AddExtension;
use axum::routing::get;
use axum::{Extension, Router};
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_openssl::OpenSSLConfig;
use frameworks::PATIENCE;
use futures_util::future::BoxFuture;
use openssl::ssl::Ssl;
use openssl_resumption::http::{EarlyDataLayer, EarlyDataService};
use openssl_resumption::{
    AsyncEarlyStream, EarlyHandshake, Resumption, SslContextBuilderExt, accept_early_async,
};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tower::Layer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = frameworks::policy();
    let config = config(&policy)?;
    let hangup = signal(SignalKind::hangup())?;
    tokio::spawn(reload(config.clone(), policy.clone(), hangup));

    let handle = Handle::<SocketAddr>::new();
    let app = Router::new()
        .route("/", get(answer).post(answer))
        .with_state(policy);
    let server = axum_server::bind(frameworks::address())
        .acceptor(Early(config))
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

async fn answer(
    State(policy): State<Resumption>,
    Extension(handshake): Extension<EarlyHandshake>,
) -> String {
    frameworks::report(&policy, handshake.resumption())
}

/// Accepts with early data, in place of `OpenSSLAcceptor`.
#[derive(Clone)]
struct Early(OpenSSLConfig);

impl<S: Send + 'static> Accept<TcpStream, S> for Early {
    type Stream = AsyncEarlyStream<TcpStream>;
    type Service = AddExtension<EarlyDataService<S>, EarlyHandshake>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, tcp: TcpStream, service: S) -> Self::Future {
        let ssl = Ssl::new(self.0.get_inner().context());
        Box::pin(async move {
            let tls = timeout(PATIENCE, accept_early_async(ssl?, tcp)).await?;
            let tls = tls.map_err(io::Error::other)?;
            let handshake = tls.handshake();
            frameworks::finish_in_time(&handshake);
            let early = EarlyDataLayer::new(handshake.clone());
            let service = early.requests(frameworks::early_requests()).layer(service);
            Ok((tls, Extension(handshake).layer(service)))
        })
    }
}
