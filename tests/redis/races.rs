//! Of those who take one session out of a cluster at the same time one gets it, and while its slot moves to another node, one
//! at most.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl_resumption::{RedisStore, Session, SessionKey, SessionStore};

use crate::common::programs::{Over, eventually};
use crate::topology::{Cluster, Settings};

/// How many sessions are taken while all is well.
const RACES: usize = 10_000;

/// And while slots move.
const MOVING: usize = 2_000;

/// How many slots move at a time. To tell a node whose they are keeps it busy.
const SLOTS: usize = 300;

/// With nobody's deadline in the way, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two hosts, each with a thread and connections of its own.
fn hosts(cluster: &Cluster) -> [RedisStore; 2] {
    [0, 1].map(|_| {
        let options = RedisStore::connect(&cluster.url()).unwrap();
        let options = options.deadline(PATIENCE).connect_deadline(PATIENCE);
        let store = options.plaintext();
        eventually("it is connected", || store.get(&key(0)).is_ok());
        store
    })
}

fn key(number: usize) -> SessionKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    SessionKey::from(bytes)
}

fn session() -> Session {
    let hour = SystemTime::now() + Duration::from_secs(3_600);
    let ends = hour.duration_since(UNIX_EPOCH).unwrap().as_secs();
    Session::from_bytes(&[&[1], &ends.to_be_bytes()[..], &[9; 40]].concat()).unwrap()
}

/// What came of so many sessions, each of which two threads of each host take at the same time.
#[derive(Debug, Default)]
struct Races {
    /// By how many got it.
    won: [usize; 5],
    /// Takes that failed, and sessions that could not be put.
    errors: usize,
    lost: usize,
}

fn race(hosts: &[RedisStore; 2], count: usize) -> Races {
    let mut races = Races::default();
    let (got, errors, lost) = (
        (0..count).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>(),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    // Two at a time, so that many questions are on each connection.
    let start = [(); 2].map(|()| Barrier::new(4));
    thread::scope(|scope| {
        for thread in 0..8 {
            let (half, host) = (thread / 4, &hosts[thread % 2]);
            let (got, errors, lost, start) = (&got, &errors, &lost, &start[half]);
            scope.spawn(move || {
                for (number, got) in got.iter().enumerate().skip(half).step_by(2) {
                    if start.wait().is_leader() && host.put(&key(number), session()).is_err() {
                        lost.fetch_add(1, Relaxed);
                    }
                    start.wait();
                    match host.take(&key(number)) {
                        Ok(Some(_)) => drop(got.fetch_add(1, Relaxed)),
                        Ok(None) => {}
                        Err(error) => {
                            println!("{error}");
                            errors.fetch_add(1, Relaxed);
                        }
                    }
                }
            });
        }
    });
    for got in got {
        races.won[got.into_inner()] += 1;
    }
    races.errors = errors.into_inner();
    races.lost = lost.into_inner();
    races
}

#[test]
fn of_many_that_take_a_session_one_gets_it() {
    let cluster = Cluster::start_with("races", Settings::steady());
    let races = race(&hosts(&cluster), RACES);
    println!("{races:?}");
    assert_eq!((races.errors, races.lost), (0, 0));
    assert_eq!(races.won, [0, RACES, 0, 0, 0]);
}

#[test]
fn while_slots_migrate_at_most_one_gets_it() {
    let cluster = Cluster::start_with("races-migration", Settings::steady());
    let hosts = hosts(&cluster);
    let over = Over::default();
    thread::scope(|scope| {
        // There and back.
        scope.spawn(|| {
            let slots = cluster.slots(0, SLOTS);
            for turn in 0.. {
                if over.is() {
                    break;
                }
                let (from, to) = (turn % 2, (turn + 1) % 2);
                let begun = || thread::sleep(Duration::from_millis(300));
                cluster.migrate_slots(&slots, from, to, begun);
            }
        });
        let until_then = over.when_dropped();
        let races = race(&hosts, MOVING);
        drop(until_then);
        let [asked, moved] = ["ASK", "MOVED"].map(|code| {
            let nodes = cluster.nodes().iter();
            nodes.map(|node| node.errors(code)).sum::<u64>()
        });
        println!("{races:?}, {asked} ASK, {moved} MOVED");
        assert!(asked > 0 && moved > 0);
        assert_eq!(races.won[2..], [0; 3], "{races:?}");
        // Nor does any go missing, or anything fail: who asks is sent on.
        assert_eq!((races.errors, races.lost), (0, 0));
        assert_eq!(races.won[1], MOVING);
    });
}
