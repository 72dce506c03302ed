//! A new certificate for an axum-server that is running.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use axum::Router;
use axum::routing::get;
use axum_server::Handle;
use axum_server::tls_openssl::{OpenSSLConfig, bind_openssl};
use frameworks::support::{Client, Kind, Seen, mint};
use openssl_resumption::{MemoryStore, Resumption, SslContextBuilderExt, TicketKeys};

use crate::http::LAST;
use crate::process::Scratch;
use crate::{MODES, VERSIONS, start};

/// What the client saw, and the certificate of a server that did not resume.
fn visit(address: SocketAddr, client: &Client, session: Option<&[u8]>) -> (Seen, Vec<u8>) {
    let tcp = TcpStream::connect(address).unwrap();
    let mut tls = client.connect(tcp, session).unwrap();
    tls.write_all(LAST).unwrap();
    let certificate = tls.ssl().peer_certificate().unwrap().to_der().unwrap();
    (client.finish(tls).unwrap(), certificate)
}

#[test]
fn sessions_from_before_reload_from_acceptor_resume() {
    for (mode, source) in MODES {
        for (kind, version) in VERSIONS {
            let mut server = start(env!("CARGO_BIN_EXE_axum_server"), mode);
            let client = Client::new(kind).unwrap();
            let (before, old) = visit(server.address, &client, None);
            server.signal("HUP");
            assert_eq!(server.line(), "reloaded");
            let (_, new) = visit(server.address, &client, None);
            assert!(old != new, "the certificate is the old one");
            let session = before.sessions.last().map(Vec::as_slice);
            let (after, _) = visit(server.address, &client, session);
            assert!(after.resumed, "{mode} {version}");
            let answer = String::from_utf8(after.reply).unwrap();
            let expected = format!("{version} resumed: {source} (2 full, 1 resumed)");
            assert!(answer.contains(&expected), "{mode}: {answer}");
        }
    }
}

/// The trap: axum-server builds a context of its own then, which has no policy and no TLS 1.2.
#[test]
fn after_reload_from_pem_file_there_is_no_policy() {
    let scratch = Scratch::new("pem");
    let identity = mint("localhost", None).unwrap();
    let cert = scratch.write("cert.pem", &identity.cert.to_pem().unwrap());
    let key = identity.key.private_key_to_pem_pkcs8().unwrap();
    let key = scratch.write("key.pem", &key);
    let policies = [
        Resumption::stateful(MemoryStore::default()),
        Resumption::stateless(TicketKeys::random()),
    ];
    for policy in policies {
        let mut acceptor = frameworks::acceptor().unwrap();
        acceptor.set_resumption(&policy).unwrap();
        let config = OpenSSLConfig::try_from(acceptor).unwrap();
        let address = serve(config.clone());
        let client = Client::new(Kind::Tls13).unwrap();
        let (before, _) = visit(address, &client, None);
        let (resumed, _) = visit(address, &client, before.sessions.last().map(Vec::as_slice));
        assert!(resumed.resumed);
        let counted = policy.stats();

        config.reload_from_pem_file(&cert, &key).unwrap();
        let session = resumed.sessions.last().map(Vec::as_slice);
        let (after, _) = visit(address, &client, session);
        assert!(!after.resumed, "{policy:?}");
        // Now whatever OpenSSL does, tickets in either mode, and nobody counts.
        let (after, _) = visit(address, &client, after.sessions.last().map(Vec::as_slice));
        assert!(after.resumed, "{policy:?}");
        assert_eq!(policy.stats().handshakes(), counted.handshakes());
        let tls12 = Client::new(Kind::Tls12).unwrap();
        assert!(
            tls12
                .connect(TcpStream::connect(address).unwrap(), None)
                .is_err()
        );
    }
}

/// An axum-server in a thread, for as long as the process.
fn serve(config: OpenSSLConfig) -> SocketAddr {
    let handle = Handle::new();
    let listening = handle.clone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let app = Router::new().route("/", get(async || "hello"));
    let server = bind_openssl(([127, 0, 0, 1], 0).into(), config).handle(handle);
    let server = runtime.spawn(server.serve(app.into_make_service()));
    let address = runtime.block_on(listening.listening()).unwrap();
    thread::spawn(move || runtime.block_on(server));
    address
}
