//! An HTTPS server whose page shows, live, what became of its connection and of all others.
//!
//! ```text
//! cargo run --example status_page -- --mode stateless
//! ```
//!
//! Then open <https://127.0.0.1:8443/>, accept the certificate, which is minted on the spot, and press
//! "Reconnect". How the library is used is in this file, in `policy` and `acceptor`; a hook of
//! `on_outcome` (`history.rs`) collects what the page draws.
//!
//! A thread serves each connection, so a few silent clients can keep others out; see the example
//! `server` for one that they cannot.

mod args;
mod connections;
mod history;
#[path = "../support/http.rs"]
mod http;
#[path = "../support/options.rs"]
mod options;
mod page;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/mod.rs"]
mod support;

use std::error::Error;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;

use openssl::ssl::{SslAcceptor, SslMethod};
use openssl_resumption::{
    MemoryRegister, MemoryStore, Resumption, SslContextBuilderExt, TicketKeys,
};

use args::{Args, Command};
use history::History;
use options::Mode;
use page::Page;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Serve(args)) => args,
        Ok(Command::Help) => {
            print!("{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("status_page: {wrong}; --help shows all options");
            return ExitCode::from(2);
        }
    };
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("status_page: {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// The choice of a mode, with a hook that hears of each outcome.
fn policy(mode: Mode, keys: &TicketKeys, history: &Arc<History>) -> Resumption {
    let store = MemoryStore::default;
    let policy = match mode {
        Mode::Stateful => Resumption::stateful(store()),
        Mode::Stateless => Resumption::stateless(keys.clone()),
        Mode::Hybrid => Resumption::hybrid(store(), keys.clone()),
        Mode::Off => Resumption::off(),
    };
    let policy = match mode {
        Mode::Off => policy,
        // Store and keys end with this process, and with them all that was accepted before.
        _ => policy
            .early_data(16 * 1024)
            .replay_register(MemoryRegister::default().sessions_end_with_process()),
    };
    let history = Arc::clone(history);
    policy.on_outcome(move |outcome| history.note(outcome.is_resumed()))
}

/// An acceptor as anybody would build it, and one call more.
fn acceptor(args: &Args, policy: &Resumption) -> Result<SslAcceptor, Box<dyn Error>> {
    let identity = support::mint("localhost", None)?;
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_certificate(&identity.cert)?;
    builder.set_private_key(&identity.key)?;
    if args.tls.is_some() {
        builder.set_min_proto_version(args.tls)?;
        builder.set_max_proto_version(args.tls)?;
    }
    builder.set_resumption(policy)?;
    Ok(builder.build())
}

fn serve(args: &Args) -> Result<(), Box<dyn Error>> {
    // Derived, so that epochs have numbers; from a secret that ends with this process.
    let mut secret = [0; 32];
    openssl::rand::rand_bytes(&mut secret)?;
    let keys = TicketKeys::derived_every("status_page", [secret], args.key_epoch);
    let history = Arc::default();
    let policy = policy(args.mode, &keys, &history);
    let acceptor = acceptor(args, &policy)?;
    let page = Page::new(args, policy, keys, history);
    let listener = TcpListener::bind(args.listen)
        .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    connections::serve(&listener, &acceptor, &page);
    Ok(())
}
