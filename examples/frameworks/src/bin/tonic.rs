//! tonic over an incoming stream of connections with early data: the health service of gRPC, which adds to its
//! answer what became of the connection.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use frameworks::PATIENCE;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, select_next_proto};
use openssl_resumption::http::EarlyDataLayer;
use openssl_resumption::{
    AsyncEarlyStream, EarlyHandshake, Resumption, SslContextBuilderExt, accept_early_async,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = frameworks::policy();
    let mut acceptor = frameworks::acceptor()?;
    acceptor.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
    });
    acceptor.set_resumption(&policy)?;

    let listener = TcpListener::bind(frameworks::address()).await?;
    println!("listening on {}", listener.local_addr()?);
    let (accepted, incoming) = channel(16);
    tokio::spawn(accept(listener, acceptor.build(), accepted));
    // gRPC is all POST: a call that comes early waits until the handshake is finished.
    let early = EarlyDataLayer::from_extensions().requests(frameworks::early_requests());
    let mut server = Server::builder().layer(early);
    let server = server.add_service(HealthServer::new(Answer(policy)));
    Ok(server
        .serve_with_incoming(ReceiverStream::new(incoming))
        .await?)
}

/// A task for each handshake, so that no client waits for another's.
async fn accept(
    listener: TcpListener,
    acceptor: SslAcceptor,
    accepted: Sender<io::Result<Tls>>,
) -> io::Result<()> {
    loop {
        let tcp = frameworks::accept(&listener).await;
        let accepting = accept_early_async(Ssl::new(acceptor.context())?, tcp);
        let accepted = accepted.clone();
        tokio::spawn(async move {
            match timeout(PATIENCE, accepting).await {
                Ok(Ok(tls)) => {
                    frameworks::finish_in_time(&tls.handshake());
                    accepted.send(Ok(Tls(tls))).await.is_ok()
                }
                _ => false, // one client's failure
            }
        });
    }
}

/// A stream that tells tonic of its handshake.
struct Tls(AsyncEarlyStream<TcpStream>);

impl Connected for Tls {
    type ConnectInfo = EarlyHandshake;

    fn connect_info(&self) -> EarlyHandshake {
        self.0.handshake()
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

struct Answer(Resumption);

#[async_trait]
impl Health for Answer {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let outcome = request
            .extensions()
            .get::<EarlyHandshake>()
            .and_then(EarlyHandshake::resumption);
        let mut response = Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        });
        let report = frameworks::report(&self.0, outcome);
        let report = report
            .trim_end()
            .parse()
            .map_err(|_| Status::internal("not a header"))?;
        response.metadata_mut().insert("resumption", report);
        Ok(response)
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("watch"))
    }
}
