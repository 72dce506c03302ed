//! hyper over `accept_async`, with which a store that is slow holds no thread of the runtime.

use std::convert::Infallible;
use std::error::Error;

use frameworks::PATIENCE;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use openssl::ssl::{Ssl, SslAcceptor};
use openssl_resumption::{Resumption, SslContextBuilderExt, SslRefExt, accept_async};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

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
    let accepted = accept_async(Ssl::new(acceptor.context())?, tcp);
    let tls = timeout(PATIENCE, accepted).await??;
    let outcome = tls.ssl().resumption();
    let answer = service_fn(|_| async move {
        Ok::<_, Infallible>(Response::new(frameworks::report(policy, outcome)))
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(tls), answer)
        .await?;
    Ok(())
}
