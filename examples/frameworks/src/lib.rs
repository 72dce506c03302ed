//! What the examples share: the policy that an argument names, a certificate, and the answer.

#[path = "../../support/mod.rs"]
pub mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslMethod};
use openssl_resumption::http::EarlyRequests;
use openssl_resumption::{
    EarlyHandshake, MemoryRegister, MemoryStore, Outcome, Resumption, TicketKeys,
};
use tokio::time::timeout;

/// Where the examples listen: on the port that `PORT` in the environment says, or any that is free.
pub fn address() -> SocketAddr {
    let port = std::env::var("PORT").map_or(0, |port| port.parse().expect("a port"));
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The mode that the argument of the program names. Early data is taken by the servers that read it.
pub fn policy() -> Resumption {
    let policy = match std::env::args().nth(1).as_deref() {
        Some("stateful") => Resumption::stateful(MemoryStore::default()),
        Some("stateless") => Resumption::stateless(TicketKeys::random()),
        _ => {
            eprintln!("say which mode: stateful or stateless");
            std::process::exit(2);
        }
    };
    // The sessions of both end with the process.
    let register = MemoryRegister::default().sessions_end_with_process();
    policy.early_data(16 * 1024).replay_register(register)
}

/// What becomes of requests that came early: `wait`, `too-early` or `mark`, as the second argument says.
pub fn early_requests() -> EarlyRequests {
    match std::env::args().nth(2).as_deref() {
        None | Some("wait") => EarlyRequests::Wait,
        Some("too-early") => EarlyRequests::TooEarly,
        Some("mark") => EarlyRequests::Mark,
        Some(other) => {
            eprintln!("not wait, too-early or mark: {other}");
            std::process::exit(2);
        }
    }
}

/// What each of the servers has instead of files: a new certificate for localhost.
pub fn acceptor() -> Result<SslAcceptorBuilder, ErrorStack> {
    let identity = support::mint("localhost", None)?;
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_certificate(&identity.cert)?;
    acceptor.set_private_key(&identity.key)?;
    Ok(acceptor)
}

/// The next connection. If there is none for now, because too many are open, say, some will end.
pub async fn accept(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return tcp,
            Err(error) => {
                eprintln!("{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// How long a client may take for its handshake.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Gives a client up that takes longer, after its early data too.
pub fn finish_in_time(handshake: &EarlyHandshake) {
    let handshake = handshake.clone();
    tokio::spawn(async move {
        if timeout(PATIENCE, handshake.finished()).await.is_err() {
            handshake.abort();
        }
    });
}

/// What the servers answer: what became of this connection, and of all so far.
pub fn report(policy: &Resumption, outcome: Option<Outcome>) -> String {
    let outcome = outcome.map_or_else(|| "unfinished".into(), |outcome| outcome.to_string());
    let all = policy.stats().handshakes();
    format!("{outcome} ({} full, {} resumed)\n", all.full, all.resumed)
}

/// `report` as an HTTP response, for servers that have no framework to make one.
pub fn response(policy: &Resumption, outcome: Option<Outcome>) -> String {
    format!("HTTP/1.0 200 OK\r\n\r\n{}", report(policy, outcome))
}
