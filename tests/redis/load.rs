//! Clients that keep two servers busy, and what they have seen.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use serde_json::Value;

use crate::DEADLINE;
use crate::common::process::{Server, body};
use crate::common::programs::Over;
use crate::common::{Client, Kind};

pub(crate) const KINDS: [Kind; 2] = [Kind::Tls12, Kind::Tls13];

/// Servers that have just started are still connecting to Redis, and no handshake waits for that.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);

/// Tests with figures about time run one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs such a test. Where it fails while this machine is so busy that even a sleep ends late, by half
/// a deadline or more, it tells nothing: then it waits for the machine and runs again, six times at
/// most.
pub(crate) fn on_time(test: impl Fn()) {
    let _alone = alone();
    for attempt in 1.. {
        let (result, late) = watched(|| catch_unwind(AssertUnwindSafe(&test)));
        match result {
            Ok(()) => return,
            Err(panic) if late < DEADLINE / 2 => resume_unwind(panic),
            Err(_) if attempt == 6 => {
                panic!("the machine is too busy: a sleep ended late by {late:?}")
            }
            Err(_) => println!("a sleep ended late by {late:?}: once more"),
        }
        // A minute at most, for a second in which sleeps end in time.
        for _ in 0..60 {
            if watched(|| thread::sleep(Duration::from_secs(1))).1 < DEADLINE / 2 {
                break;
            }
        }
    }
}

/// What `act` returns, and how late sleeps ended meanwhile, at worst.
fn watched<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    const NAP: Duration = Duration::from_millis(5);
    let over = Over::default();
    thread::scope(|scope| {
        let late = scope.spawn(|| {
            let mut late = Duration::ZERO;
            while !over.is() {
                let begun = Instant::now();
                thread::sleep(NAP);
                late = late.max(begun.elapsed() - NAP);
            }
            late
        });
        let until_then = over.when_dropped();
        let result = act();
        drop(until_then);
        (result, late.join().unwrap())
    })
}

/// A connection that asks for the page.
pub(crate) struct Visit {
    /// From the connection's first packet on.
    pub(crate) handshake: Duration,
    pub(crate) page: Value,
    /// For the next one.
    pub(crate) session: Option<Vec<u8>>,
}

pub(crate) fn visit(
    address: SocketAddr,
    client: &Client,
    session: Option<&[u8]>,
) -> Result<Visit, String> {
    let begun = Instant::now();
    let tcp = TcpStream::connect(address).map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let stream = client.connect(tcp, session);
    let mut stream = stream.map_err(|error| error.to_string())?;
    let handshake = begun.elapsed();
    let sent = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    sent.map_err(|error| error.to_string())?;
    let mut seen = client.finish(stream).map_err(|error| error.to_string())?;
    let page = body(&String::from_utf8(seen.reply).unwrap());
    assert_eq!(page["resumed"], seen.resumed, "{page}");
    Ok(Visit {
        handshake,
        page,
        session: seen.sessions.pop(),
    })
}

/// A connection that is over.
#[derive(Debug)]
struct Past {
    at: Instant,
    handshake: Duration,
    /// Whether a session was offered.
    offered: bool,
    /// What became of it; or why it failed.
    outcome: Result<String, String>,
}

impl Past {
    fn is_resumed(&self) -> bool {
        matches!(&self.outcome, Ok(text) if text.contains("resumed"))
    }
}

/// All connections of some clients.
#[derive(Default)]
pub(crate) struct Seen(parking_lot::Mutex<Vec<Past>>);

/// What became of connections in some time.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) offered: usize,
    pub(crate) resumed: usize,
}

/// How many clients take turns in a thread. An odd number, so that each comes to the other server
/// the next time; several, because sessions are written a little after their handshakes, and no
/// client of flesh and blood is back within a millisecond.
const CLIENTS: usize = 7;

/// Clients that come back again and again, each time to the other server, while `happen` runs, and
/// as many that never offer a session: what they take is what a full handshake takes here and now.
pub(crate) fn under_load(fleet: &RwLock<Vec<Server>>, happen: impl FnOnce()) -> Seen {
    watched_load(fleet, |_| happen())
}

/// The same, for those who look at what was seen so far.
pub(crate) fn watched_load(fleet: &RwLock<Vec<Server>>, happen: impl FnOnce(&Seen)) -> Seen {
    let over = Over::default();
    let seen = Seen::default();
    let come_and_go = |kind, returns: bool| {
        let client = Client::new(kind).unwrap();
        let mut sessions = VecDeque::<Vec<u8>>::new();
        for turn in 0.. {
            if over.is() {
                break;
            }
            // A server that is to be stopped is locked first.
            let fleet = fleet.read();
            let at = Instant::now();
            let offered = match sessions.len() {
                CLIENTS => sessions.pop_front().filter(|_| returns),
                _ => None,
            };
            let visit = visit(
                fleet[turn % fleet.len()].address,
                &client,
                offered.as_deref(),
            );
            seen.0.lock().push(Past {
                at,
                handshake: visit
                    .as_ref()
                    .map_or(Duration::MAX, |visit| visit.handshake),
                offered: offered.is_some(),
                outcome: match &visit {
                    Ok(visit) => Ok(visit.page["outcome"].as_str().unwrap().to_owned()),
                    Err(error) => Err(error.clone()),
                },
            });
            sessions.extend(visit.ok().and_then(|visit| visit.session).or(offered));
        }
    };
    thread::scope(|scope| {
        for kind in KINDS {
            for returns in [true, false] {
                let come_and_go = &come_and_go;
                scope.spawn(move || come_and_go(kind, returns));
            }
        }
        let until_then = over.when_dropped();
        happen(&seen);
        drop(until_then);
    });
    seen
}

impl Seen {
    /// Those that offered a session in this time.
    pub(crate) fn tally(&self, from: Instant, to: Instant) -> Tally {
        let seen = self.0.lock();
        let offered = || {
            seen.iter()
                .filter(|past| past.offered && (from..to).contains(&past.at))
        };
        Tally {
            offered: offered().count(),
            resumed: offered().filter(|past| past.is_resumed()).count(),
        }
    }

    /// The worst handshake with a session offered, and the worst without.
    pub(crate) fn worst(&self) -> [Duration; 2] {
        let seen = self.0.lock();
        [true, false].map(|offered| {
            let those = seen.iter().filter(|past| past.offered == offered);
            those.map(|past| past.handshake).max().unwrap_or_default()
        })
    }

    /// The last connection that offered a session and had to do without.
    pub(crate) fn last_full(&self) -> Option<Instant> {
        let seen = self.0.lock();
        let full = |past: &&Past| past.offered && !past.is_resumed();
        seen.iter().filter(full).map(|past| past.at).max()
    }

    /// Why sessions were not resumed, and how often.
    pub(crate) fn reasons(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for past in self.0.lock().iter().filter(|past| past.offered) {
            if let Ok(outcome) = &past.outcome {
                *reasons.entry(outcome.clone()).or_default() += 1;
            }
        }
        reasons
    }

    /// No handshake failed.
    #[track_caller]
    pub(crate) fn check_none_failed(&self) {
        let seen = self.0.lock();
        let failed = seen.iter().filter_map(|past| past.outcome.as_ref().err());
        assert_eq!(failed.collect::<Vec<_>>(), [""; 0]);
    }

    /// No handshake failed, and none took longer than twice the deadline and a full one: a lookup takes
    /// one, and its thread may be woken late. What a full handshake takes was measured by clients beside: the slowest, so
    /// that what this machine is busy with otherwise is allowed for.
    #[track_caller]
    pub(crate) fn check_handshakes(&self) {
        self.check_none_failed();
        let [worst, full] = self.worst();
        println!("worst handshake {worst:?}, worst of those without a session {full:?}");
        assert!(worst <= 2 * DEADLINE + full, "{worst:?}, {full:?}");
    }
}

impl Tally {
    #[track_caller]
    pub(crate) fn assert_resumed(&self) {
        assert!(self.offered >= 50, "{self:?}");
        assert!(self.resumed * 100 >= self.offered * 99, "{self:?}");
    }
}
