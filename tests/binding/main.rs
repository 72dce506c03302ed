//! Past client authentication: a session made where no certificate is demanded, or one of another
//! CA, is offered where its client would be refused.

#[path = "../common/mod.rs"]
mod common;

mod cas;
mod certificate_callback;
mod certificates;
mod hello_retry;
mod late;
mod lenient;
mod matrix;
mod past_us;
mod raw_public_keys;
mod reauthentication;
mod seclevel;
mod sni;
mod switch;
mod verification;
