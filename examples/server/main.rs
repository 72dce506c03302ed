//! An HTTPS server that answers every request with what became of the connection's handshake, and
//! with the statistics of all.
//!
//! ```text
//! cargo run --example server -- --mode stateless
//! curl -k https://127.0.0.1:8443/ https://127.0.0.1:8443/
//! ```
//!
//! What makes it resume sessions is in this file, `policy`, and in `tls.rs`, `finish`. `--vhost`
//! adds virtual hosts, with or without a demand for client certificates (`vhosts.rs`): all contexts
//! have the same policy, and no session of one host is good for another. `--forget-on SIGHUP` ends
//! all sessions whenever the signal comes.
//!
//! The rest is a server that no client can keep from serving the others: one thread waits for
//! sockets (`waiting.rs`), a few others move connections on until they would block
//! (`connection.rs`).

mod args;
mod connection;
#[path = "../support/http.rs"]
mod http;
mod keys;
#[path = "../support/options.rs"]
mod options;
mod page;
mod redis;
#[path = "../support/report.rs"]
mod report;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod vhosts;
mod waiting;
mod watched;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use openssl_resumption::{MemoryStore, Resumption, SessionStore, TicketKeys};

use args::{Args, Command};
use options::Mode;
use page::Page;
use server::Server;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Serve(args)) => args,
        Ok(Command::Help) => {
            print(args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            complain(format_args!("{wrong}; --help shows all options"));
            return ExitCode::from(2);
        }
    };
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            complain(wrong);
            ExitCode::FAILURE
        }
    }
}

/// The choice of a mode, and of its knobs.
fn policy(args: &Args, keys: &TicketKeys) -> Result<Resumption, String> {
    let store = || -> Result<Box<dyn SessionStore>, String> {
        let memory = || Box::new(MemoryStore::new(args.capacity, MemoryStore::DEFAULT_BYTES)) as _;
        Ok(args.redis.store()?.unwrap_or_else(memory))
    };
    let policy = match args.mode {
        Mode::Stateful => Resumption::stateful(store()?),
        Mode::Stateless => Resumption::stateless(keys.clone()),
        Mode::Hybrid => Resumption::hybrid(store()?, keys.clone()),
        Mode::Off => Resumption::off(),
    };
    let policy = policy.lifetime(args.lifetime).single_use(args.single_use);
    Ok(match args.tickets {
        Some(tickets) => policy.tickets(tickets),
        None => policy,
    })
}

/// Serves until a signal says stop.
fn serve(args: &Args) -> Result<(), String> {
    let keys = args.redis.ticket_keys(&args.keys)?;
    let policy = policy(args, &keys)?;
    let acceptor = tls::acceptor(args, &policy)?;
    let forget_on_hangup = args.forget_on_hangup.then(|| policy.clone());
    if let Some(warning) = keys.last_warning() {
        complain(format_args!("warning: {warning}"));
    }
    let page = Page::new(args.mode, policy, keys);
    let server = Server::bind(args.listen, acceptor, page, forget_on_hangup)?;
    print(format_args!("listening on {}\n", server.address()));
    server
        .run()
        .map_err(|error| format!("cannot go on serving: {error}"))
}

// Not `print!` and `eprintln!`: they panic when nobody reads the other end (any more).

fn print(text: impl Display) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

fn complain(wrong: impl Display) {
    let _ = writeln!(io::stderr(), "server: {wrong}");
}
