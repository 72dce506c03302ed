//! The gRPC server, and tonic's client.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;

use frameworks::support::{Client, Kind};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use tonic::transport::{Endpoint, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use crate::resumes;

#[tokio::main(flavor = "current_thread")]
async fn check(address: SocketAddr, kind: Kind, session: &Path) -> (String, bool) {
    let client = Client::with(kind, |context| context.set_alpn_protos(b"\x02h2")).unwrap();
    let ssl = client.ssl(std::fs::read(session).ok().as_deref()).unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    let mut tls = SslStream::new(ssl, tcp).unwrap();
    Pin::new(&mut tls).connect().await.unwrap();
    let reused = tls.ssl().session_reused();

    let mut connection = Some(TokioIo::new(tls));
    let connector = service_fn(move |_: Uri| {
        ready(
            connection
                .take()
                .ok_or(io::ErrorKind::NotConnected)
                .map_err(io::Error::from),
        )
    });
    let endpoint = Endpoint::from_static("http://localhost"); // TLS is the connector's
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let request = HealthCheckRequest::default();
    let response = HealthClient::new(channel).check(request).await.unwrap();
    if let Some(newest) = client.given().last() {
        std::fs::write(session, newest).unwrap();
    }
    let answer = response.metadata().get("resumption").unwrap();
    (answer.to_str().unwrap().to_owned(), reused)
}

#[test]
fn tonic_resumes() {
    resumes(env!("CARGO_BIN_EXE_tonic"), check);
}
