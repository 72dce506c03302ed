//! The story of <https://github.com/nodejs/node/issues/60847>, told by a server that gets it right.
//!
//! For stateful and for stateless resumption: a server, one new connection and five resumed ones,
//! in TLS 1.3 and in TLS 1.2, and the statistics of that issue. Then the whole table of modes. The
//! exit code is not 0 if any of it is not as promised.
//!
//! ```sh
//! cargo run --example demo
//! ```

use std::error::Error;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use openssl::ssl::{SslAcceptor, SslMethod};
use openssl_resumption::{
    MemoryStore, Resumption, Source, SslContextBuilderExt, SslRefExt, TicketKeys,
};

#[path = "support/mod.rs"]
mod support;

use support::{Client, Kind, Seen, mint};

const RESUMPTIONS: u64 = 5;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    println!("{}\n", openssl::version::version());
    let mut as_promised = true;
    as_promised &= story("stateful", &Resumption::stateful(MemoryStore::default()))?;
    as_promised &= story("stateless", &Resumption::stateless(TicketKeys::random()))?;
    as_promised &= table()?;
    if as_promised {
        println!("\nEverything is as promised.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nSomething above is not as promised.");
    Ok(ExitCode::FAILURE)
}

/// Connects once and `RESUMPTIONS` times more in each version, and prints what the issue prints.
fn story(mode: &str, policy: &Resumption) -> Result<bool, Box<dyn Error>> {
    println!("{mode} session resumption");
    let server = serve(policy)?;
    for kind in [Kind::Tls13, Kind::Tls12] {
        let client = Client::new(kind)?;
        let mut session = None;
        for _ in 0..=RESUMPTIONS {
            let seen = connect(server, &client, session.as_deref())?;
            println!(
                "{} {}",
                seen.version,
                if seen.resumed { "resumed" } else { "new" }
            );
            session = seen.sessions.last().cloned();
        }
    }

    let stats = policy.stats();
    let all = stats.handshakes();
    let store = stats.store;
    // In stateless mode every full handshake counts as a miss, also the first.
    let stateless = (mode == "stateless").then_some(all.full);
    println!("Stats: {{");
    println!("  tot: {},", all.full + all.resumed);
    println!(
        "  stateful: {{ saved: {}, resumed: {}, missed: {} }},",
        store.puts, store.hits, store.misses
    );
    println!(
        "  stateless: {{ resumed: {}, missed: {} }},",
        stats.resumed(Source::Ticket),
        stateless.unwrap_or(0)
    );
    println!(
        "  tls13: {{ new: {}, resumed: {} }},",
        stats.tls13.full, stats.tls13.resumed
    );
    println!(
        "  tls12: {{ new: {}, resumed: {} }}",
        stats.tls12.full, stats.tls12.resumed
    );
    println!("}}\n");

    let versions_are_right = [stats.tls13, stats.tls12]
        .iter()
        .all(|version| (version.full, version.resumed) == (1, RESUMPTIONS));
    let store_is_right = match mode {
        "stateless" => (store.puts, store.hits, store.misses) == (0, 0, 0),
        _ => (store.hits, store.misses) == (2 * RESUMPTIONS, 0),
    };
    Ok(versions_are_right && store_is_right)
}

/// What the second connection of each kind of client is, in each mode.
fn table() -> Result<bool, Box<dyn Error>> {
    const CLIENTS: [&str; 3] = ["TLS 1.2, tickets", "TLS 1.2, none", "TLS 1.3"];
    let modes = [
        (
            "stateful",
            Resumption::stateful(MemoryStore::default()),
            ["store", "store", "store"],
        ),
        (
            "stateless",
            Resumption::stateless(TicketKeys::random()),
            ["ticket", "full", "ticket"],
        ),
        (
            "hybrid",
            Resumption::hybrid(MemoryStore::default(), TicketKeys::random()),
            ["ticket", "store", "ticket"],
        ),
        ("off", Resumption::off(), ["full", "full", "full"]),
    ];
    println!("What a second connection is resumed from");
    println!(
        "{:<10} {}",
        "",
        CLIENTS
            .map(|kind| format!("{kind:<18}"))
            .concat()
            .trim_end()
    );
    let mut as_promised = true;
    for (mode, policy, promised) in modes {
        let mut row = format!("{mode:<11}");
        let server = serve(&policy)?;
        for (kind, promised) in Kind::ALL.into_iter().zip(promised) {
            let client = Client::new(kind)?;
            let first = connect(server, &client, None)?;
            let second = connect(server, &client, first.sessions.last().map(Vec::as_slice))?;

            // The server's word, which it sends, and the client's.
            let outcome = String::from_utf8(second.reply)?;
            let found = outcome
                .split_once(" resumed: ")
                .map_or("full", |(_, source)| source);
            let agreed = second.resumed == (found != "full");
            let right = agreed && !first.resumed && found == promised;
            as_promised &= right;
            let found = if right {
                found.to_owned()
            } else {
                format!("{found} (WRONG)")
            };
            row += &format!("{found:<18}");
        }
        println!("{}", row.trim_end());
    }
    Ok(as_promised)
}

/// Starts a server with this policy, that tells each client the outcome of its handshake.
fn serve(policy: &Resumption) -> Result<SocketAddr, Box<dyn Error>> {
    let identity = mint("localhost", None)?;
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_certificate(&identity.cert)?;
    acceptor.set_private_key(&identity.key)?;
    acceptor.set_resumption(policy)?;
    let acceptor = Arc::new(acceptor.build());

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(&acceptor, stream) {
                eprintln!("server: {error}");
            }
        }
    });
    Ok(address)
}

fn answer(acceptor: &SslAcceptor, stream: TcpStream) -> Result<(), Box<dyn Error>> {
    let mut stream = acceptor.accept(stream)?;
    let outcome = stream
        .ssl()
        .resumption()
        .ok_or("a handshake without an outcome")?;
    stream.write_all(outcome.to_string().as_bytes())?;
    stream.shutdown()?;
    Ok(())
}

fn connect(
    server: SocketAddr,
    client: &Client,
    session: Option<&[u8]>,
) -> Result<Seen, Box<dyn Error>> {
    let stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(client.finish(client.connect(stream, session)?)?)
}
