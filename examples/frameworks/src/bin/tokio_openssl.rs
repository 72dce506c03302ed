//! tokio-openssl by itself, a task for each connection.

use std::error::Error;
use std::pin::Pin;

use frameworks::PATIENCE;
use openssl::ssl::{Ssl, SslAcceptor};
use openssl_resumption::{Resumption, SslContextBuilderExt, SslRefExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_openssl::SslStream;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = frameworks::policy();
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
    let mut tls = SslStream::new(Ssl::new(acceptor.context())?, tcp)?;
    timeout(PATIENCE, Pin::new(&mut tls).accept()).await??;
    if tls.read(&mut [0; 4096]).await? > 0 {
        let response = frameworks::response(policy, tls.ssl().resumption());
        tls.write_all(response.as_bytes()).await?;
    }
    let _ = tls.shutdown().await; // the client may be gone
    Ok(())
}
