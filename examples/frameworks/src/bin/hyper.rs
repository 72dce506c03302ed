//! hyper over `accept_early_async`: requests that come with the first flight are answered at once, and a store that is slow
//! holds no thread of the runtime.

use std::convert::Infallible;
use std::error::Error;

use frameworks::PATIENCE;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use openssl::ssl::{Ssl, SslAcceptor};
use openssl_resumption::http::EarlyDataLayer;
use openssl_resumption::{Resumption, SslContextBuilderExt, accept_early_async};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::{Layer, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = frameworks::policy().suspend_lookups(true);
    let mut acceptor = frameworks::acceptor()?;
    acceptor.set_resumption(&policy)?;
    let acceptor = acceptor.build();

    let listener = TcpListener::bind(frameworks::address()).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let tcp = frameworks::accept(&listener).await;
        let (acceptor, policy) = (acceptor.clone(), policy.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(&acceptor, tcp, &policy).await {
                eprintln!("{error}");
            }
        });
    }
}

async fn serve(
    acceptor: &SslAcceptor,
    tcp: TcpStream,
    policy: &Resumption,
) -> Result<(), Box<dyn Error>> {
    let accepted = accept_early_async(Ssl::new(acceptor.context())?, tcp);
    let tls = timeout(PATIENCE, accepted).await??;
    let handshake = tls.handshake();
    frameworks::finish_in_time(&handshake);
    let (policy, of_this) = (policy.clone(), handshake.clone());
    let answer = service_fn(move |_: hyper::Request<Incoming>| {
        let report = frameworks::report(&policy, of_this.resumption());
        async { Ok::<_, Infallible>(Response::new(report)) }
    });
    let early = EarlyDataLayer::new(handshake).requests(frameworks::early_requests());
    http1::Builder::new()
        .serve_connection(
            TokioIo::new(tls),
            TowerToHyperService::new(early.layer(answer)),
        )
        .await?;
    Ok(())
}
