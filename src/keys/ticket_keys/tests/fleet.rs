//! A fleet in simulated time: hosts whose clocks differ, each with a ring of its own, derived from
//! one secret. What one seals every other opens, for as long as the ticket lives.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::UNIX_EPOCH;

use super::*;

const SECRET: [u8; 32] = [0x5e; 32];
const DAY: u64 = 86_400;
/// When it all begins, in seconds since the Unix epoch.
const START: u64 = 1_800_000_000;

/// The thread of a ring may be this late.
const LATE: u64 = 10;

fn unix(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

struct Host {
    keys: TicketKeys,
    epoch: Duration,
    lifetime: Duration,
    /// How far its clock is ahead, in seconds.
    ahead: i64,
    /// When its thread has something to do.
    due: Cell<SystemTime>,
}

impl Host {
    fn start(epoch: u64, lifetime: u64, ahead: i64, time: u64) -> Self {
        let mut host = Self {
            keys: TicketKeys::random(),
            epoch: Duration::from_secs(epoch),
            lifetime: Duration::from_secs(lifetime),
            ahead,
            due: Cell::new(UNIX_EPOCH),
        };
        host.restart(time);
        host
    }

    /// What it had is gone.
    fn restart(&mut self, time: u64) {
        let keys = TicketKeys::derived_every("fleet", [SECRET], self.epoch);
        self.keys = ring_at(keys, self.lifetime, unix(self.clock(time)));
        self.due = Cell::new(UNIX_EPOCH);
    }

    /// What its clock shows at a time.
    fn clock(&self, time: u64) -> u64 {
        time.checked_add_signed(self.ahead).unwrap()
    }

    /// What its thread does.
    fn refresh(&self, time: u64) {
        let now = unix(self.clock(time));
        if self.due.get() <= now {
            self.keys.shared.refresh(now);
            self.due.set(self.keys.shared.next_event().unwrap());
        }
    }

    fn seal(&self, time: u64) -> Ticket {
        let stamp = self.clock(time);
        let key = self.keys.sealing(unix(stamp));
        let name = *key.expect("there is always a key").name();
        Ticket { name, stamp }
    }

    fn opens(&self, ticket: &Ticket, time: u64) -> bool {
        let now = unix(self.clock(time));
        self.keys.opening(&ticket.name, now).is_some()
    }

    /// The last second in which the ticket is alive by this host's clock.
    fn last_second(&self, ticket: &Ticket, lifetime: u64) -> u64 {
        let last = ticket.stamp + lifetime - 1;
        last.checked_add_signed(-self.ahead).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    name: [u8; 16],
    /// The time of its full handshake by the clock of the host that sealed it.
    stamp: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Seal,
    Open { host: usize, ticket: Ticket },
}

/// Seals at and around every boundary of an epoch by every clock; opens at once, in the last second
/// of the ticket's life and in between.
fn simulate(epoch: u64, lifetime: u64, days: u64) {
    let half = (epoch / 2) as i64;
    let skews = [0, 1, -7, half, -half];
    let mut hosts = skews.map(|ahead| Host::start(epoch, lifetime, ahead, START));
    let mut events = BinaryHeap::new();
    let boundaries = (START + epoch).next_multiple_of(epoch)..START + days * DAY;
    for boundary in boundaries.step_by(epoch as usize) {
        for host in &hosts {
            for offset in -2..=2 {
                let time = boundary.checked_add_signed(offset - host.ahead).unwrap();
                events.push(Reverse((time, Event::Seal)));
            }
        }
    }
    let (mut sealed, mut opened) = (0_u64, 0_u64);
    while let Some(Reverse((time, event))) = events.pop() {
        for host in &hosts {
            host.refresh(time - LATE);
        }
        match event {
            Event::Seal => {
                // One after the other, now and then, just before or after a boundary.
                if sealed % 7 == 0 {
                    let next = sealed / 7 % hosts.len() as u64;
                    hosts[next as usize].restart(time);
                }
                for ticket in hosts.iter().map(|host| host.seal(time)) {
                    sealed += 1;
                    for (i, host) in hosts.iter().enumerate() {
                        let last = host.last_second(&ticket, lifetime);
                        // By a clock far ahead it may be over already.
                        if last < time {
                            continue;
                        }
                        let between = time + (last - time) * (sealed % 97) / 97;
                        for time in [time, between, last] {
                            events.push(Reverse((time, Event::Open { host: i, ticket })));
                        }
                    }
                }
            }
            Event::Open { host, ticket } => {
                opened += 1;
                let host = &hosts[host];
                assert!(
                    host.opens(&ticket, time),
                    "sealed at {} by one clock, not opened at {} by another; epoch {epoch}",
                    ticket.stamp,
                    host.clock(time),
                );
            }
        }
    }
    assert!(
        sealed > 1_000 && opened > 10_000,
        "{sealed} sealed, {opened} opened"
    );
}

#[test]
fn hosts_out_of_step_lose_no_resumption_in_30_days() {
    simulate(DAY / 2, DAY, 30);
}

#[test]
fn nor_with_the_longest_lifetime() {
    simulate(DAY / 2, 7 * DAY, 30);
}

#[test]
fn nor_with_epochs_shorter_and_longer_than_the_lifetime() {
    simulate(3_600, DAY, 5);
    simulate(3 * DAY, 600, 300);
}

/// From when it opens to when it is wiped, to the second.
#[test]
fn a_key_has_its_times() {
    let epoch = Duration::from_secs(DAY / 2);
    let lifetime = Duration::from_secs(DAY);
    let keys = TicketKeys::derived_every("fleet", [SECRET], epoch);
    let keys = ring_at(keys, lifetime, unix(START));
    let start = unix((START + 10 * DAY).next_multiple_of(DAY / 2));
    let second = Duration::from_secs(1);
    keys.shared.refresh(start);
    let name = *keys.sealing(start).unwrap().name();
    let standing = |now| {
        keys.shared.refresh(now);
        keys.opening(&name, now).map(|(_, standing)| standing)
    };
    // A ring that goes back in time is not asked; another one begins earlier.
    let early = ring(TicketKeys::derived_every("fleet", [SECRET], epoch));
    let upcoming_from = start - epoch - epoch / 2;
    early.shared.refresh(upcoming_from - second);
    assert!(early.opening(&name, upcoming_from - second).is_none());
    early.shared.refresh(upcoming_from);
    let (_, upcoming) = early.opening(&name, upcoming_from).unwrap();
    assert_eq!(upcoming, Standing::Upcoming);
    assert_ne!(*early.sealing(start - second).unwrap().name(), name);
    assert_eq!(
        *early.sealing(start).unwrap().name(),
        name,
        "without being asked again"
    );

    assert_eq!(standing(start), Some(Standing::Active));
    assert_eq!(standing(start + epoch - second), Some(Standing::Active));
    assert_eq!(standing(start + epoch), Some(Standing::Retired));
    let key = Arc::downgrade(&keys.opening(&name, start + epoch).unwrap().0);
    assert_eq!(
        standing(start + epoch + lifetime - second),
        Some(Standing::Retired)
    );
    assert_eq!(standing(start + epoch + lifetime), None);
    assert!(key.upgrade().is_none(), "wiped");
}

/// Three deployments, while the others still have the one before.
#[test]
fn a_secret_is_rolled_over_without_loss() {
    let new = [0xe3; 32];
    let host = |secrets: &[[u8; 32]]| ring(TicketKeys::derived("fleet", secrets));
    let steps = [
        host(&[SECRET]),
        host(&[SECRET, new]),
        host(&[new, SECRET]),
        host(&[new]),
    ];
    for pair in steps.windows(2) {
        for (one, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let ticket = *one.sealing(unix(START)).unwrap().name();
            assert!(other.opening(&ticket, unix(START)).is_some());
        }
    }
    let name = |keys: &TicketKeys| *keys.sealing(unix(START)).unwrap().name();
    assert_eq!(name(&steps[0]), name(&steps[1]));
    assert_eq!(name(&steps[2]), name(&steps[3]));
    assert_ne!(name(&steps[1]), name(&steps[2]));
}
