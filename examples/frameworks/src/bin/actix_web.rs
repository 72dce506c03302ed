//! actix-web.

use actix_tls::accept::openssl::TlsStream;
use actix_web::rt::net::TcpStream;
use actix_web::web::{Data, get};
use actix_web::{App, HttpRequest, HttpServer};
use openssl_resumption::{Outcome, Resumption, SslContextBuilderExt, SslRefExt};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = frameworks::policy();
    let mut acceptor = frameworks::acceptor()?;
    acceptor.set_resumption(&policy)?;

    let policy = Data::new(policy);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(policy.clone())
            .route("/", get().to(answer))
    })
    // Only for servers that want to know what became of a connection; before `bind_openssl`.
    .on_connect(|connection, data| {
        if let Some(tls) = connection.downcast_ref::<TlsStream<TcpStream>>() {
            data.insert(tls.ssl().resumption());
        }
    })
    .bind_openssl(frameworks::address(), acceptor)?;
    println!("listening on {}", server.addrs()[0]);
    Ok(server.run().await?)
}

async fn answer(policy: Data<Resumption>, request: HttpRequest) -> String {
    let outcome = request.conn_data::<Option<Outcome>>().copied().flatten();
    frameworks::report(&policy, outcome)
}
