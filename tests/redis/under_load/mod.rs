//! Clients that come back to two servers, over and over, while a cluster or what sentinels watch moves, fails and is mended.
//! No handshake ever fails. But for the seconds in which nobody can have a session, 99 of 100 are resumed; how many seconds
//! those are is printed.

mod certificates;
mod moving;
mod passwords;
mod promotion;
mod standstill;

use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use serde_json::Value;

use crate::SECRET;
use crate::common::process::{Scratch, Server};
use crate::common::programs::eventually;
use crate::common::{Client, Kind};
use crate::fleet::stats;
use crate::load::{Seen, Tally, visit, watched_load};

/// In so long there are enough connections to tell how many of them resume.
const WHILE: Duration = Duration::from_secs(1);

/// What Redis is given to answer, in milliseconds: more than by default, so that a busy machine is not taken for a slow one.
const DEADLINE: &str = "500";

/// What happens under load.
struct Course<'a> {
    name: &'a str,
    fleet: &'a RwLock<Vec<Server>>,
    secret: &'a str,
    options: &'a [String],
    seen: &'a Seen,
}

/// Lets it happen to two servers of this Redis, which are well before and after.
fn course(name: &str, url: &str, options: &[String], happen: impl FnOnce(&Course<'_>)) {
    let scratch = Scratch::new(&format!("redis-{name}-servers"));
    let secret = scratch.write("secret", &SECRET);
    let fleet = RwLock::new(Vec::from([0, 1].map(|_| server(url, &secret, options))));
    let seen = watched_load(&fleet, |seen| {
        let course = Course {
            name,
            fleet: &fleet,
            secret: &secret,
            options,
            seen,
        };
        course.until_well("the start", Instant::now());
        course.is_well("before");
        happen(&course);
        course.is_well("after");
    });
    seen.check_none_failed();
    let [worst, full] = seen.worst();
    println!("{name}: worst handshake {worst:?}, without a session {full:?}");
    println!("{name}: {:?}", seen.reasons());
    for server in fleet.read().iter() {
        println!("{}", stats(server)["store"]);
    }
}

fn server(url: &str, secret: &str, options: &[String]) -> Server {
    let args = [
        "--redis",
        url,
        "--redis-secret",
        secret,
        "--redis-deadline",
        DEADLINE,
    ];
    let options = options.iter().map(String::as_str);
    Server::start(&args.into_iter().chain(options).collect::<Vec<_>>())
}

/// What there is to know when a test fails.
impl Drop for Course<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            for index in [0, 1] {
                eprintln!("the page of {index} says {:?}", self.error(index));
                eprintln!("{}", stats(&self.fleet.read()[index])["store"]);
            }
            eprintln!("{:?}", self.seen.reasons());
        }
    }
}

/// Whether 99 of 100 were resumed, or all of the few that there are on a busy machine.
fn is_well(tally: &Tally) -> bool {
    tally.offered >= 20 && tally.resumed * 100 >= tally.offered * 99
}

impl Course<'_> {
    /// What became of the sessions that were offered while this happens.
    fn during(&self, what: &str, happen: impl FnOnce()) -> Tally {
        let begun = Instant::now();
        happen();
        let ended = Instant::now();
        let tally = self.seen.tally(begun, ended);
        println!("{}: {what}: {tally:?} in {:?}", self.name, ended - begun);
        tally
    }

    /// For a while 99 of 100 are resumed.
    #[track_caller]
    fn is_well(&self, what: &str) {
        self.is_well_during(what, || thread::sleep(WHILE));
    }

    /// So they are while this happens, or for as long as it takes until there are enough to tell.
    #[track_caller]
    fn is_well_during(&self, what: &str, happen: impl FnOnce()) {
        let begun = Instant::now();
        let tally = self.during(what, || {
            happen();
            eventually("there are enough connections", || {
                self.seen.tally(begun, Instant::now()).offered >= 50
            });
        });
        tally.assert_resumed();
    }

    /// Waits until 99 of 100 are resumed, and says how long after `since` that began.
    #[track_caller]
    fn until_well(&self, what: &str, since: Instant) {
        eventually(&format!("99 of 100 are resumed after {what}"), || {
            let now = Instant::now();
            let from = now - WHILE;
            let is_well = from >= since && is_well(&self.seen.tally(from, now));
            if is_well {
                let back = from - since;
                println!("{}: 99 of 100 {back:?} after {what}", self.name);
            }
            is_well
        });
    }

    /// Another server in the place of one.
    fn replace(&self, index: usize, url: &str) {
        self.replace_with(index, url, self.options);
    }

    fn replace_with(&self, index: usize, url: &str, options: &[String]) {
        // Nobody is there meanwhile.
        self.fleet.write()[index] = server(url, self.secret, options);
    }

    fn address(&self, index: usize) -> std::net::SocketAddr {
        self.fleet.read()[index].address
    }

    /// Why a server's store failed last, by its page.
    fn error(&self, index: usize) -> String {
        let client = Client::new(Kind::Tls13).unwrap();
        let page = visit(self.address(index), &client, None).unwrap().page;
        match &page["store_error"] {
            Value::Null => String::new(),
            error => error.as_str().unwrap().to_owned(),
        }
    }

    /// Waits until a server says why its store fails.
    #[track_caller]
    fn until_error(&self, index: usize, words: &str) {
        eventually(&format!("the page says {words:?}"), || {
            let error = self.error(index);
            let says = error.contains(words);
            if says {
                println!("{}: {error}", self.name);
            }
            says
        });
    }
}
