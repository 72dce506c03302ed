//! Handshakes by the million, in all modes, with stores and keys that fail and connections that end
//! badly: memory must stay flat and the counters must add up.
//!
//! `soak [HANDSHAKES]`, a million by default. `.ci/long` runs it.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use openssl::ssl::{Ssl, SslAcceptor, SslContext, SslMethod, SslVerifyMode};
use openssl_resumption::{
    MemoryStore, Resumption, Session, SessionKey, SessionStore, SslContextBuilderExt, StoreError,
    TicketKeys,
};

mod support;

use support::{Client, Identity, Kind, mint};

/// A store of which each seventh call fails, in one of three ways.
struct Failing {
    store: MemoryStore,
    calls: AtomicU64,
}

impl Failing {
    fn may_fail(&self) -> Result<bool, StoreError> {
        match self.calls.fetch_add(1, Relaxed) % 21 {
            6 => Err(StoreError::new("out of order")),
            13 => std::panic::resume_unwind(Box::new("out of its mind")),
            20 => Ok(true),
            _ => Ok(false),
        }
    }
}

impl SessionStore for Failing {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        match self.may_fail()? {
            true => Ok(()),
            false => self.store.put(key, session),
        }
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        let found = match self.may_fail()? {
            // Damaged.
            true => self.store.get(key)?.and_then(|session| {
                let mut bytes = session.as_bytes().to_vec();
                bytes.pop();
                Session::from_bytes(&bytes).ok()
            }),
            false => self.store.get(key)?,
        };
        Ok(found)
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.store.remove(key)
    }
}

fn failing() -> Failing {
    Failing {
        store: MemoryStore::new(1_000, 1 << 20),
        calls: AtomicU64::new(0),
    }
}

/// A server and clients for it.
struct Place {
    policy: Resumption,
    context: SslContext,
    clients: Vec<Client>,
}

fn place(policy: Resumption, ca: Option<&Identity>) -> Result<Place, Box<dyn Error>> {
    let Identity { cert, key } = mint("localhost", None)?;
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_certificate(&cert)?;
    builder.set_private_key(&key)?;
    let me = mint("me", ca)?;
    if let Some(ca) = ca {
        builder.cert_store_mut().add_cert(ca.cert.clone())?;
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    builder.set_resumption(&policy)?;
    let clients = Kind::ALL.map(|kind| {
        Client::with(kind, |context| {
            context.set_certificate(&me.cert)?;
            context.set_private_key(&me.key)
        })
    });
    Ok(Place {
        policy,
        context: builder.build().into_context(),
        clients: clients.into_iter().collect::<Result<_, _>>()?,
    })
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Well,
    Dropped,
    InTheHandshake,
}

/// One connection; returns the session to offer next.
fn connect(
    place: &Place,
    client: &Client,
    session: Option<&[u8]>,
    end: End,
) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    let (near, far) = UnixStream::pair()?;
    let ssl = Ssl::new(&place.context)?;
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let Ok(mut stream) = ssl.accept(far) else {
                return false;
            };
            if end == End::Well {
                let _ = stream.shutdown();
            }
            true
        });
        if end == End::InTheHandshake {
            drop(near);
            assert!(!server.join().expect("no panic"), "nobody was there");
            return Ok(session.map(<[u8]>::to_vec));
        }
        let stream = client.connect(near, session)?;
        let seen = client.finish(stream);
        assert!(server.join().expect("no panic"), "the server accepts");
        let sessions = seen.map(|seen| seen.sessions).unwrap_or_default();
        Ok(sessions.into_iter().next_back())
    })
}

/// The memory of this process that is in use, in kB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).expect("a number of kB")
}

fn main() -> Result<(), Box<dyn Error>> {
    let total = match std::env::args().nth(1) {
        Some(total) => total.parse()?,
        None => 1_000_000_u64,
    };
    let ca = mint("clients", None)?;
    let stateful = || Resumption::stateful(failing());
    let places = [
        place(stateful(), None)?,
        place(stateful().strict(true), None)?,
        place(stateful().max_decoded(1 << 20), Some(&ca))?,
        place(stateful().max_decoded(100_000), Some(&ca))?,
        place(
            Resumption::stateful(MemoryStore::new(1_000, 1 << 20)).single_use(true),
            None,
        )?,
        place(Resumption::stateless(TicketKeys::random()), None)?,
        place(Resumption::stateless(TicketKeys::random()), Some(&ca))?,
        place(Resumption::hybrid(failing(), TicketKeys::random()), None)?,
        place(Resumption::off(), None)?,
    ];
    let places = Arc::new(places);
    let mut memory = Vec::new();
    for tenth in 1..=10 {
        let (mut met, each) = (0, total / 10);
        let mut sessions = vec![None; places.len() * Kind::ALL.len()];
        while met < each {
            for (n, session) in sessions.iter_mut().enumerate() {
                let place = &places[n / Kind::ALL.len()];
                let client = &place.clients[n % Kind::ALL.len()];
                let end = match met % 11 {
                    3 => End::Dropped,
                    7 => End::InTheHandshake,
                    _ => End::Well,
                };
                *session = connect(place, client, session.as_deref(), end)?;
                met += 1;
                if met % 5_003 == 0 {
                    place.policy.forget_all();
                }
            }
        }
        memory.push(resident());
        println!(
            "{} handshakes, {} kB",
            tenth * each,
            memory[tenth as usize - 1]
        );
    }
    for place in places.iter() {
        add_up(&place.policy);
    }
    // Stores and allocator are full after three tenths of a long run; a short one is for valgrind.
    let (warm, last) = (memory[2], memory[9]);
    assert!(
        total < 200_000 || last < warm + warm / 10,
        "memory has grown from {warm} to {last} kB"
    );
    Ok(())
}

fn add_up(policy: &Resumption) {
    let stats = policy.stats();
    println!("{stats:?}");
    let all = stats.handshakes();
    let reasons = openssl_resumption::Reason::ALL.iter();
    assert_eq!(
        all.full,
        reasons.map(|reason| stats.full(*reason)).sum::<u64>()
    );
    let sources = openssl_resumption::Source::ALL.iter();
    assert_eq!(
        all.resumed,
        sources.map(|source| stats.resumed(*source)).sum::<u64>()
    );
    assert!(all.full > 0, "{stats:?}");
    assert_eq!((stats.overridden, stats.failed_closed), (0, 0), "{stats:?}");
}
