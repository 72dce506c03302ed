//! Servers of one fleet: processes that share ticket keys as files or as a secret. What one seals
//! the other opens, through rotations and restarts and with clocks that differ.

#![cfg(unix)]

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::child::Clock;
use crate::common::process::{Scratch, Server, body};
use crate::common::programs::Over;
use crate::common::{Client, Kind, TICKET, field};
use openssl_resumption::KeyDialect;
use parking_lot::RwLock;
use serde_json::Value;

/// A connection that asks for the page: it, and the session for the next one.
fn visit(
    address: SocketAddr,
    client: &Client,
    session: Option<&[u8]>,
) -> Result<(Value, Option<Vec<u8>>), String> {
    let tcp = TcpStream::connect(address).map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = client
        .connect(tcp, session)
        .map_err(|error| error.to_string())?;
    let sent = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    sent.map_err(|error| error.to_string())?;
    let mut seen = client.finish(stream).map_err(|error| error.to_string())?;
    let page = body(&String::from_utf8(seen.reply).unwrap());
    assert_eq!(page["resumed"], seen.resumed, "{page}");
    Ok((page, seen.sessions.pop()))
}

const KINDS: [Kind; 2] = [Kind::Tls12, Kind::Tls13];

/// What clients of a fleet have seen.
#[derive(Debug, Default)]
struct Tally {
    failed: Vec<String>,
    resumed: u64,
    full: Vec<Value>,
    /// The names of the keys that their tickets were sealed under.
    keys: HashSet<Vec<u8>>,
}

/// Clients that come back again and again, each time to another of the servers, while `happen`
/// runs; under how many keys at least.
fn under_load(fleet: &RwLock<Vec<SocketAddr>>, keys: usize, happen: impl FnOnce()) {
    let over = Over::default();
    let come_and_go = |kind| {
        let client = Client::new(kind).unwrap();
        let (mut tally, mut session) = (Tally::default(), None::<Vec<u8>>);
        for turn in 0.. {
            if over.is() {
                break;
            }
            // A server is taken out of the fleet first, and then stopped.
            let fleet = fleet.read();
            match visit(fleet[turn % fleet.len()], &client, session.as_deref()) {
                Err(error) => tally.failed.push(error),
                Ok((page, next)) => {
                    if page["resumed"] == true {
                        tally.resumed += 1;
                    } else if session.is_some() {
                        tally.full.push(page);
                    }
                    session = next.or(session);
                    let ticket = session
                        .as_deref()
                        .and_then(|session| Some(&session[field(session, TICKET)?]));
                    tally
                        .keys
                        .extend(ticket.map(|ticket| ticket[..16].to_vec()));
                }
            }
        }
        tally
    };
    let tallies = thread::scope(|scope| {
        let clients = KINDS.map(|kind| scope.spawn(move || come_and_go(kind)));
        let until_then = over.when_dropped();
        happen();
        drop(until_then);
        clients.map(|client| client.join().unwrap())
    });
    for (kind, tally) in KINDS.iter().zip(tallies) {
        println!(
            "{kind:?}: {} resumed, {} full",
            tally.resumed,
            tally.full.len()
        );
        assert_eq!(tally.failed, [""; 0], "{kind:?}");
        assert!(tally.keys.len() >= keys, "{kind:?}: {tally:?}");
        assert!(tally.resumed > 100, "{kind:?}: {tally:?}");
        let full = tally.full.len() as u64;
        assert!(full * 100 <= tally.resumed + full, "{kind:?}: {tally:?}");
    }
}

/// Two servers of these options under load, of which one is restarted; with so many keys.
fn serve_through_a_restart(args: &[&str], keys: usize, mut every_second: impl FnMut(u32)) {
    let mut restarted = Server::start(args);
    let other = Server::start(args);
    let address = restarted.address;
    let fleet = RwLock::new(vec![address, other.address]);
    under_load(&fleet, keys, || {
        for second in 0..8 {
            every_second(second);
            thread::sleep(Duration::from_secs(1));
            if second == 3 {
                fleet.write().remove(0);
                restarted.stop("TERM");
                let listen = ["--listen", &address.to_string()];
                restarted = Server::start(&[args, &listen].concat());
                fleet.write().insert(0, address);
            }
        }
    });
}

#[test]
fn servers_with_one_secret_resume_each_others_sessions_across_rotations_and_a_restart() {
    let scratch = Scratch::new("fleet-secret");
    let secret = scratch.write("secret", &[0x5e; 32]);
    let args = [
        "--mode",
        "stateless",
        "--keys-secret",
        &secret,
        "--key-epoch",
        "2",
    ];
    serve_through_a_restart(&args, 4, |_| ());
}

/// Replaces a key file as a pipeline should.
fn replace(path: &str, content: &[u8]) {
    let new = format!("{path}.new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
fn servers_with_one_key_file_resume_each_others_sessions_across_rotations_and_a_restart() {
    let dialect = KeyDialect::HaProxy;
    // The first seals, then the upcoming one, then the one before.
    let mut keys: Vec<_> = (0..3).map(|_| dialect.random_key().unwrap()).collect();
    let scratch = Scratch::new("fleet-files");
    let path = scratch.write("keys", dialect.format(&keys).unwrap()[0].as_ref());
    let source = format!("haproxy:{path}");
    serve_through_a_restart(&["--mode", "hybrid", "--keys", &source], 2, |second| {
        if second == 0 {
            dialect.rotate(&mut keys).unwrap();
            replace(&path, dialect.format(&keys).unwrap()[0].as_ref());
        }
    });
}

/// The default epoch.
const EPOCH: i64 = 12 * 60 * 60;

/// Visits `there`, and twice so that its thread, if it was woken, has done its work.
fn settle(there: &Server) {
    for _ in 0..2 {
        visit(there.address, &Client::new(Kind::Tls13).unwrap(), None).unwrap();
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_clock_half_an_epoch_off_costs_no_resumption_at_the_boundaries() {
    let scratch = Scratch::new("fleet-clocks");
    let secret = scratch.write("secret", &[0x5e; 32]);
    let args = [
        "--mode",
        "stateless",
        "--keys-secret",
        &secret,
        "--lifetime",
        "86400",
    ];
    let start = |name: &str| {
        let mut clock = None;
        let file = scratch.0.join(name);
        let server = Server::start_with(&args, |command| clock = Some(Clock::of(command, &file)));
        (server, clock.unwrap())
    };
    let ((one, clock_of_one), (other, clock_of_other)) = (start("one"), start("other"));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let to_boundary = EPOCH - now as i64 % EPOCH;
    for ahead in [0, EPOCH / 2, -EPOCH / 2] {
        for boundary in 0..3 {
            // A few seconds for what is done at each of them.
            for offset in [-4, 0, 4] {
                let shift = to_boundary + boundary * EPOCH + offset;
                clock_of_one.shift(shift);
                clock_of_other.shift(shift + ahead);
                settle(&one);
                settle(&other);
                for kind in KINDS {
                    let client = Client::new(kind).unwrap();
                    for (here, there) in [(&one, &other), (&other, &one)] {
                        let (_, session) = visit(here.address, &client, None).unwrap();
                        let (page, _) = visit(there.address, &client, session.as_deref()).unwrap();
                        assert_eq!(
                            page["resumed"], true,
                            "{kind:?} at {shift}, the other {ahead} ahead: {page}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_ticket_lives_on_another_server_as_long_as_on_its_own() {
    let scratch = Scratch::new("fleet-life");
    let secret = scratch.write("secret", &[0x5e; 32]);
    let args = ["--mode", "stateless", "--keys-secret", &secret];
    let one = Server::start(&args);
    let mut clock = None;
    let file = scratch.0.join("clock");
    let other = Server::start_with(&args, |command| clock = Some(Clock::of(command, &file)));
    let clock = clock.unwrap();
    let client = Client::new(Kind::Tls12).unwrap();
    let (_, session) = visit(one.address, &client, None).unwrap();
    let became = |shift: i64| {
        clock.shift(shift);
        settle(&other);
        let (page, _) = visit(other.address, &client, session.as_deref()).unwrap();
        page["outcome"].as_str().unwrap().to_owned()
    };
    for hours in [6, 12, 18] {
        let outcome = became(hours * 3_600);
        assert_eq!(outcome, "TLSv1.2 resumed: ticket", "after {hours} hours");
    }
    assert_eq!(became(86_390), "TLSv1.2 resumed: ticket");
    assert_eq!(became(86_401), "TLSv1.2 full: expired");
    assert_eq!(became(86_400 + EPOCH), "TLSv1.2 full: unknown key");
}

/// Not in the handshake: clients get tickets under the old key for as long.
#[test]
fn a_key_file_that_goes_bad_is_told_and_changes_nothing() {
    let scratch = Scratch::new("fleet-bad");
    let key = KeyDialect::Nginx.random_key().unwrap();
    let path = scratch.write("key", KeyDialect::Nginx.format(&[key]).unwrap()[0].as_ref());
    let server = Server::start(&["--mode", "stateless", "--keys", &format!("nginx:{path}")]);
    let client = Client::new(Kind::Tls13).unwrap();
    let (page, session) = visit(server.address, &client, None).unwrap();
    assert_eq!(page["key_error"], Value::Null);
    assert!(
        page["key_warning"]
            .as_str()
            .is_some_and(|text| text.contains("others")),
        "{page}"
    );
    fs::remove_file(Path::new(&path)).unwrap();
    let begun = SystemTime::now();
    let mut session = session.unwrap();
    loop {
        let (page, next) = visit(server.address, &client, Some(&session)).unwrap();
        assert_eq!(page["resumed"], true, "{page}");
        session = next.unwrap();
        if let Some(error) = page["key_error"].as_str() {
            assert!(error.contains(&path), "{error}");
            assert_eq!(page["stats"]["tickets"]["key_failing"], true, "{page}");
            break;
        }
        assert!(
            begun.elapsed().unwrap() < Duration::from_secs(10),
            "nobody noticed"
        );
        thread::sleep(Duration::from_millis(50));
    }
}
