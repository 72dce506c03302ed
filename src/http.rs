//! HTTP requests that came as early data (RFC 8470), for servers of [`tower`](https://docs.rs/tower) services: hyper, axum,
//! tonic.
//!
//! ```
//! use openssl_resumption::EarlyHandshake;
//! use openssl_resumption::http::{EarlyDataLayer, EarlyRequests};
//! use tower_layer::Layer;
//!
//! /// The service of one connection, from that of all.
//! fn of_connection<S>(service: S, handshake: EarlyHandshake) -> impl Sized {
//!     EarlyDataLayer::new(handshake).requests(EarlyRequests::Wait).layer(service)
//! }
//! ```
//!
//! The layer is made anew for each connection, with the [`handshake`](crate::AsyncEarlyStream::handshake) of its
//! stream; or one for all takes it from the request ([`EarlyDataLayer::from_extensions`]). The examples for hyper,
//! axum-server and tonic show where.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::header::{HeaderName, HeaderValue, UPGRADE};
use ::http::{Method, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::accept::EarlyHandshake;

/// What becomes of a request that is there before the handshake of its connection is finished.
///
/// Whatever is chosen, one whose method is not GET, HEAD, OPTIONS or TRACE (RFC 9110 calls these safe: they ask for no
/// change), or that upgrades the connection, is never handed on before that: somebody who recorded it could have sent it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EarlyRequests {
    /// Safe ones are handed on at once; others when the handshake is finished. The client notices nothing.
    #[default]
    Wait,
    /// Safe ones are handed on at once; others are answered 425 (Too Early): the client sends them again when the handshake is
    /// finished. For servers that must not hold requests.
    TooEarly,
    /// Safe ones are handed on at once with the header `Early-Data: 1`; others when the handshake is finished. For
    /// proxies: the server behind decides, and may answer 425, which goes back to the client.
    Mark,
}

/// Holds back requests that came as early data until the handshake of their connection is finished.
///
/// A request that was held is handed on like any other: what it does is no replay. One that is handed on early carries the [`EarlyHandshake`] as an extension. A handler that does more than its
/// method promises, a GET that is dear or changes something, can wait for it, or answer 425:
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use openssl_resumption::EarlyHandshake;
///
/// async fn handle(request: Request<()>) -> Response<String> {
///     if let Some(handshake) = request.extensions().get::<EarlyHandshake>() {
///         if handshake.finished().await.is_err() {
///             // Nobody reads this.
///             let mut response = Response::new(String::new());
///             *response.status_mut() = StatusCode::TOO_EARLY;
///             return response;
///         }
///     }
///     Response::new("done, once".into())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct EarlyDataLayer {
    handshake: Option<EarlyHandshake>,
    requests: EarlyRequests,
}

impl EarlyDataLayer {
    /// For the connection with this handshake, with [`EarlyRequests::Wait`].
    #[must_use]
    pub fn new(handshake: EarlyHandshake) -> Self {
        Self {
            handshake: Some(handshake),
            requests: EarlyRequests::default(),
        }
    }

    /// For all connections, with [`EarlyRequests::Wait`]: each request brings the [`EarlyHandshake`] of its own as an
    /// extension, put there by the server (tonic does, if it is the `ConnectInfo` of its streams). One without is not
    /// handed on: it is answered 500 (Internal Server Error).
    #[must_use]
    pub fn from_extensions() -> Self {
        Self {
            handshake: None,
            requests: EarlyRequests::default(),
        }
    }

    /// What becomes of requests that came early.
    #[must_use]
    pub fn requests(mut self, requests: EarlyRequests) -> Self {
        self.requests = requests;
        self
    }
}

impl<S> Layer<S> for EarlyDataLayer {
    type Service = EarlyDataService<S>;

    fn layer(&self, inner: S) -> EarlyDataService<S> {
        EarlyDataService {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service that [`EarlyDataLayer`] makes of another.
#[derive(Clone)]
pub struct EarlyDataService<S> {
    inner: S,
    layer: EarlyDataLayer,
}

impl<S, B, R> Service<Request<B>> for EarlyDataService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let layer = &self.layer;
        let known = layer.handshake.as_ref();
        let Some(handshake) = known.or_else(|| request.extensions().get()) else {
            // Not to know is not to let pass.
            return Box::pin(async { Ok(status(StatusCode::INTERNAL_SERVER_ERROR)) });
        };
        if !handshake.is_early() {
            return Box::pin(self.inner.call(request));
        }
        let handshake = handshake.clone();
        let is_safe = is_safe(&request);
        match layer.requests {
            EarlyRequests::TooEarly if !is_safe => {
                return Box::pin(async { Ok(status(StatusCode::TOO_EARLY)) });
            }
            EarlyRequests::Mark if is_safe => {
                let early_data = HeaderName::from_static("early-data");
                let headers = request.headers_mut();
                headers.insert(early_data, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if is_safe {
            request.extensions_mut().insert(handshake);
            return Box::pin(self.inner.call(request));
        }
        // The one that is ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            match handshake.finished().await {
                Ok(()) => inner.call(request).await,
                // Its connection has failed, so that nobody reads this.
                Err(_) => Ok(status(StatusCode::TOO_EARLY)),
            }
        })
    }
}

/// Whether a request asks for no change, by its method, and goes no further than its answer.
fn is_safe<B>(request: &Request<B>) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE];
    safe.contains(request.method()) && !request.headers().contains_key(UPGRADE)
}

fn status<R: Default>(status: StatusCode) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = status;
    response
}

impl<S> fmt::Debug for EarlyDataService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyDataService")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}
