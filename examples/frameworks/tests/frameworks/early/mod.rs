//! Early data at the example servers, and at hyper with services of the tests' own.

mod client;
mod handlers;
mod http1;
mod http2;
mod server;
mod vanishing;
