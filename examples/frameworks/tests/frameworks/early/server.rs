//! hyper with services of a test's own, which counts what happens.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::thread;

use hyper::body::Incoming;
use hyper::server::conn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, select_next_proto};
use openssl_resumption::http::{EarlyDataLayer, EarlyRequests};
use openssl_resumption::{
    MemoryRegister, MemoryStore, Resumption, SslContextBuilderExt, TicketKeys, accept_early_async,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};

use super::client::{H2, HTTP11, Unfinished, request};
use super::http2::{self, PREFACE, answer};

pub(super) type Handled = Pin<Box<dyn Future<Output = io::Result<Response<String>>> + Send>>;
pub(super) type Handler = fn(Request<Incoming>, Arc<Counts>) -> Handled;

/// What has happened in a server.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Requests, and how many of them were handed on.
    pub(super) arrived: AtomicUsize,
    pub(super) called: AtomicUsize,
    /// How many handlers were told that the handshake will not be finished.
    pub(super) failed: AtomicUsize,
    /// Connections that have ended.
    pub(super) ended: AtomicUsize,
    /// How often it was tried to read from a socket.
    pub(super) reads: AtomicUsize,
}

/// hyper in threads of this process, for as long as it.
pub(super) struct Hyper {
    pub(super) address: SocketAddr,
    counts: Arc<Counts>,
}

impl Hyper {
    pub(super) fn serving(policy: &Resumption, requests: EarlyRequests, handler: Handler) -> Self {
        let mut acceptor = frameworks::acceptor().expect("a certificate");
        acceptor.set_alpn_select_callback(|_, offered| {
            select_next_proto(b"\x02h2\x08http/1.1", offered).ok_or(AlpnError::NOACK)
        });
        acceptor.set_resumption(policy).expect("a policy");
        let acceptor = acceptor.build();
        let runtime = Runtime::new().expect("a runtime");
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(listener).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let counts = Arc::<Counts>::default();
        let counted = Arc::clone(&counts);
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    let tcp = frameworks::accept(&listener).await;
                    let serving = serve(
                        acceptor.clone(),
                        tcp,
                        requests,
                        handler,
                        Arc::clone(&counted),
                    );
                    let counted = Arc::clone(&counted);
                    tokio::spawn(async move {
                        serving.await;
                        counted.ended.fetch_add(1, SeqCst);
                    });
                }
            })
        });
        Self { address, counts }
    }

    pub(super) fn count(&self, of: impl Fn(&Counts) -> &AtomicUsize) -> usize {
        of(&self.counts).load(SeqCst)
    }
}

async fn serve(
    acceptor: SslAcceptor,
    tcp: TcpStream,
    requests: EarlyRequests,
    handler: Handler,
    counts: Arc<Counts>,
) {
    let tcp = Counting(tcp, Arc::clone(&counts));
    let ssl = Ssl::new(acceptor.context()).expect("a connection");
    let Ok(tls) = accept_early_async(ssl, tcp).await else {
        return;
    };
    let counted = Arc::clone(&counts);
    let handler = service_fn(move |request| {
        counted.called.fetch_add(1, SeqCst);
        handler(request, Arc::clone(&counted))
    });
    let mut early = EarlyDataLayer::new(tls.handshake())
        .requests(requests)
        .layer(handler);
    let service = service_fn(move |request| {
        counts.arrived.fetch_add(1, SeqCst);
        early.call(request)
    });
    let service = TowerToHyperService::new(service);
    let is_http2 = tls.ssl().selected_alpn_protocol() == Some(b"h2");
    // An error is a client that is gone.
    let _ = if is_http2 {
        let http2 = conn::http2::Builder::new(TokioExecutor::new());
        http2.serve_connection(TokioIo::new(tls), service).await
    } else {
        conn::http1::Builder::new()
            .serve_connection(TokioIo::new(tls), service)
            .await
    };
}

/// Counts how often it is tried to read.
struct Counting(TcpStream, Arc<Counts>);

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1.reads.fetch_add(1, SeqCst);
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counting {
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

/// Those of both modes, as the examples have them.
pub(super) fn policies() -> [Resumption; 2] {
    let policies = [
        Resumption::stateful(MemoryStore::default()),
        Resumption::stateless(TicketKeys::random()),
    ];
    policies.map(|policy| {
        let register = MemoryRegister::default().sessions_end_with_process();
        policy.early_data(16 * 1024).replay_register(register)
    })
}

/// What a client of a protocol says first.
pub(super) struct Protocol {
    pub(super) alpn: &'static [u8],
    /// What the server answers, in a connection without early data.
    pub(super) hello: Vec<u8>,
    pub(super) get: Vec<u8>,
    pub(super) post: Vec<u8>,
}

pub(super) fn protocols() -> [Protocol; 2] {
    let post = request("POST", "Content-Length: 5\r\n");
    [
        Protocol {
            alpn: HTTP11,
            hello: request("GET", ""),
            get: request("GET", ""),
            post: [&post[..], b"12345"].concat(),
        },
        Protocol {
            alpn: H2,
            hello: PREFACE.to_vec(),
            get: [PREFACE, &http2::get(1)].concat(),
            post: [PREFACE, &http2::post(1)].concat(),
        },
    ]
}

pub(super) fn is_silent(connection: &mut Unfinished, alpn: &[u8]) {
    match alpn {
        H2 => http2::is_silent(connection),
        _ => connection.is_silent("HTTP/1.1"),
    }
}

pub(super) fn body(connection: &mut Unfinished, alpn: &[u8]) -> String {
    match alpn {
        H2 => String::from_utf8(answer(connection).body).expect("UTF-8"),
        _ => connection.response(),
    }
}
