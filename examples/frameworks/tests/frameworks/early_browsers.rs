//! Early data that browsers send: Chromium, where it has to be switched on, and Firefox.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use frameworks::PATIENCE;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use openssl::ssl::{Ssl, SslAcceptor};
use openssl_resumption::http::EarlyDataLayer;
use openssl_resumption::{
    EarlyData, EarlyHandshake, MemoryRegister, MemoryStore, Outcome, Resumption,
    SslContextBuilderExt, TicketKeys, accept_early_async,
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::{Layer, Service, service_fn};

use crate as common;
use crate::distant::Distant;
use crate::firefox::Firefox;
use crate::{MODES, start};
use browser::Browser;

#[path = "../../../../tests/peers/browser.rs"]
#[allow(
    dead_code,
    reason = "the browser of the library's tests, of which these use a part"
)]
mod browser;

/// How often a browser may do otherwise: they make connections ahead, some of them before they have a
/// session to resume.
const TRIES: usize = 10;

trait Driven {
    fn open(&self, url: &str);
    fn run(&self, script: &str) -> Value;
}

impl Driven for Browser {
    fn open(&self, url: &str) {
        Self::open(self, url);
    }

    fn run(&self, script: &str) -> Value {
        Self::run(self, script)
    }
}

impl Driven for Firefox {
    fn open(&self, url: &str) {
        Self::open(self, url);
    }

    fn run(&self, script: &str) -> Value {
        Self::run(self, script)
    }
}

fn chromium() -> Browser {
    Browser::start_with(&["--enable-features=EnableTLS13EarlyData"])
}

/// What a request that a page makes was answered: the status, or the text.
fn fetch(browser: &impl Driven, method: &str, path: &str, what: &str) -> Value {
    browser.run(&format!(
        "return fetch('{path}', {{ method: '{method}', cache: 'no-store' }}).then(answer => answer.{what})"
    ))
}

fn sends_early(browser: &impl Driven) {
    let programs = [
        (env!("CARGO_BIN_EXE_hyper"), "http/1.1"),
        (env!("CARGO_BIN_EXE_axum_server"), "h2"),
    ];
    let protocol = "return performance.getEntriesByType('navigation')[0].nextHopProtocol";
    for (program, spoken) in programs {
        for (mode, source) in MODES {
            let server = start(program, mode);
            let distant = Distant::from(server.address);
            let url = format!("https://localhost:{}/", distant.address.port());
            let page = || {
                browser.open(&url);
                let text = browser.run("return document.body.innerText");
                text.as_str().unwrap().trim_end().to_owned()
            };
            let first = page();
            assert!(
                first.starts_with("TLSv1.3 full: nothing offered ("),
                "{first}"
            );
            assert_eq!(browser.run(protocol), spoken, "{program}");
            let source = format!("TLSv1.3 resumed: {source}, early data: accepted (");
            let is_early = |_| {
                distant.hang_up();
                let (page, after) = (page(), fetch(browser, "GET", "/", "text()"));
                assert!(page.ends_with(" resumed)"), "{page}");
                // It was asked for before the handshake was finished, which it is for what comes after.
                page.starts_with("unfinished (") && after.as_str().unwrap().starts_with(&source)
            };
            assert!((0..TRIES).any(is_early), "{program} {mode}");
        }
    }
}

/// A request as it came in, and what had become of the handshake by then: `None` if it was not finished,
/// so that the request came in early data.
#[derive(Debug, Clone)]
struct Arrival {
    method: String,
    path: String,
    handshake: Option<Outcome>,
}

type Arrivals = Arc<Mutex<Vec<Arrival>>>;

/// hyper, for as long as the process, which closes after each answer. What came early and asks for
/// `/dear` is answered 425.
fn serve(policy: &Resumption) -> (SocketAddr, Arrivals) {
    let mut acceptor = frameworks::acceptor().unwrap();
    acceptor.set_resumption(policy).unwrap();
    let acceptor = acceptor.build();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let arrivals = Arrivals::default();
    let seen = Arc::clone(&arrivals);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let tcp = frameworks::accept(&listener).await;
                tokio::spawn(connection(acceptor.clone(), tcp, Arc::clone(&seen)));
            }
        });
    });
    (address, arrivals)
}

async fn connection(acceptor: SslAcceptor, tcp: TcpStream, arrivals: Arrivals) {
    let accepted = accept_early_async(Ssl::new(acceptor.context()).unwrap(), tcp);
    let Ok(Ok(tls)) = timeout(PATIENCE, accepted).await else {
        return;
    };
    let handshake = tls.handshake();
    let mut held = EarlyDataLayer::new(handshake.clone()).layer(service_fn(answer));
    let noted = service_fn(move |request: Request<Incoming>| {
        arrivals.lock().unwrap().push(Arrival {
            method: request.method().to_string(),
            path: request.uri().path().into(),
            handshake: handshake.resumption(),
        });
        held.call(request)
    });
    // The browser may be gone.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(tls), TowerToHyperService::new(noted))
        .await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let handshake = request.extensions().get::<EarlyHandshake>();
    let early = handshake.is_some_and(EarlyHandshake::is_early);
    let mut response = Response::new("here it is".into());
    if early && request.uri().path() == "/dear" {
        *response.status_mut() = StatusCode::TOO_EARLY;
    }
    Ok(response)
}

/// What a browser does not send early, and what it sends again.
fn keeps_to_the_rules(browser: &impl Driven) {
    let policies = [
        Resumption::stateful(MemoryStore::default()),
        Resumption::stateless(TicketKeys::random()),
    ];
    for policy in policies {
        let register = MemoryRegister::default().sessions_end_with_process();
        let policy = policy.early_data(16 * 1024).replay_register(register);
        let (address, arrivals) = serve(&policy);
        let address = Distant::from(address).address;
        browser.open(&format!("https://localhost:{}/", address.port()));
        let asked = |method: &str, path: &str| -> Vec<Arrival> {
            assert_eq!(fetch(browser, method, path, "status"), 200);
            let mut all = std::mem::take(&mut *arrivals.lock().unwrap());
            // Browsers ask for an icon when they like.
            all.retain(|arrival| arrival.path == path);
            assert!(
                all.iter().all(|arrival| arrival.method == method),
                "{all:?}"
            );
            all
        };
        let is_early = |arrival: &Arrival| arrival.handshake.is_none();

        let gets = (0..TRIES).any(|_| asked("GET", "/get").iter().any(is_early));
        assert!(gets, "no early GET: {policy:?}");

        let accepted = (0..TRIES).any(|_| {
            let posts = asked("POST", "/post");
            assert!(!posts.iter().any(is_early), "{posts:?}");
            posts.iter().any(|post| {
                let handshake = post.handshake.unwrap();
                handshake.early_data == Some(EarlyData::Accepted)
            })
        });
        assert!(
            accepted,
            "no POST after early data that was accepted: {policy:?}"
        );

        let repeated = (0..TRIES).any(|_| match &asked("GET", "/dear")[..] {
            [first, again] => is_early(first) && !is_early(again),
            others => {
                assert!(!others.iter().any(is_early), "{others:?}");
                false
            }
        });
        assert!(
            repeated,
            "nothing early that was asked for again: {policy:?}"
        );
    }
}

#[test]
fn early_data_of_chromium_is_accepted() {
    sends_early(&chromium());
}

#[test]
fn early_data_of_firefox_is_accepted() {
    sends_early(&Firefox::start());
}

#[test]
fn chromium_sends_no_post_early_and_repeats_what_is_answered_425() {
    keeps_to_the_rules(&chromium());
}

#[test]
fn firefox_sends_no_post_early_and_repeats_what_is_answered_425() {
    keeps_to_the_rules(&Firefox::start());
}
