//! Somebody has recorded the first flight of a client and sends it again. Each test sees it accepted by a server whose
//! register says of everything that it is new.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::common::child::with_clock;
use crate::common::*;
use crate::connection::{MAX, Saying, meet_early, policies, session_of};
use openssl_resumption::{
    EarlyData, MemoryRegister, MemoryStore, Registered, Resumption, TicketKeys,
};

/// The policies of a fleet: hosts that open one another's tickets, or share a store, and have this register in common.
fn fleets(unprotected: bool) -> Vec<(&'static str, [Resumption; 2])> {
    let register = |policy: Resumption| {
        let policy = policy.early_data(MAX);
        match unprotected {
            true => policy.replay_register(Saying(|| Ok(Registered::First))),
            false => policy.replay_register(MemoryRegister::default().sessions_end_with_process()),
        }
    };
    let hosts = |policy: Resumption| [policy.clone(), policy];
    let store = || Arc::new(MemoryStore::default());
    let stateful = |store: &Arc<MemoryStore>| Resumption::stateful(Arc::clone(store));
    let single_use = store();
    let mut fleets = vec![
        ("stateful", hosts(register(stateful(&store())))),
        (
            "stateless",
            hosts(register(Resumption::stateless(TicketKeys::random()))),
        ),
        (
            "hybrid",
            hosts(register(Resumption::hybrid(store(), TicketKeys::random()))),
        ),
    ];
    if !unprotected {
        let host = || stateful(&single_use).early_data(MAX).single_use(true);
        fleets.push(("single use", [host(), host()]));
    }
    fleets
}

#[test]
fn a_flight_that_is_sent_again_is_accepted_by_no_host() {
    for unprotected in [true, false] {
        for (mode, policies) in fleets(unprotected) {
            let hosts = policies.each_ref().map(context);
            let client = Client::new(Kind::Tls13).unwrap();
            let session = session_of(&hosts[0], &client);
            let flight = flight(&client, &session, b"buy one");
            assert_eq!(replay(&hosts[0], &flight), b"buy one", "{mode}");
            for host in [&hosts[0], &hosts[1], &hosts[0]] {
                let again: &[u8] = if unprotected { b"buy one" } else { b"" };
                assert_eq!(replay(host, &flight), again, "{mode} {unprotected}");
            }
            if mode != "single use" && !unprotected {
                assert_eq!(
                    policies[0].stats().early_data(EarlyData::Replayed),
                    3,
                    "{mode}"
                );
            }
            // The client itself comes with a new hello; under single use its session is gone.
            if mode != "single use" {
                let met = meet_early(&hosts[1], &client, Some(&session), b"buy two");
                assert_eq!(met.agreed(), EarlyData::Accepted, "{mode}");
            }
        }
    }
}

/// To both hosts at once: of each flight one host hands out the early data.
#[test]
fn of_two_hosts_that_get_one_flight_one_accepts_it() {
    // 1,000 races in each mode, or as this variable says.
    let rounds = std::env::var("OPENSSL_RESUMPTION_RACES");
    let rounds = rounds.map_or(1_000, |rounds| rounds.parse().unwrap());
    for (mode, policies) in fleets(false) {
        let hosts = policies.each_ref().map(context);
        let client = Client::new(Kind::Tls13).unwrap();
        let mut session = session_of(&hosts[0], &client);
        let start = Arc::new(Barrier::new(2));
        let mut won = [0; 2];
        for round in 0..rounds {
            if mode == "single use" {
                session = session_of(&hosts[0], &client);
            }
            let flight = flight(&client, &session, b"buy one");
            let accepted = thread::scope(|scope| {
                let races = hosts.each_ref().map(|host| {
                    let (start, flight) = (&start, &flight);
                    scope.spawn(move || {
                        start.wait();
                        !replay(host, flight).is_empty()
                    })
                });
                races.map(|race| race.join().unwrap())
            });
            assert_eq!(
                accepted.iter().filter(|accepted| **accepted).count(),
                1,
                "{mode} {round}"
            );
            won.iter_mut()
                .zip(accepted)
                .for_each(|(won, accepted)| *won += u32::from(accepted));
        }
        println!("{mode}: {rounds} races, won by {won:?}");
    }
}

/// How long OpenSSL itself accepts a flight by one clock is what an entry has to outlive, and hosts whose clocks differ
/// are in what the policy adds to that.
#[test]
fn a_flight_is_fit_for_as_long_as_it_is_remembered_at_most() {
    with_clock(
        "a_flight_is_fit_for_as_long_as_it_is_remembered_at_most",
        |clock| {
            for (mode, [policy, _]) in fleets(true) {
                let context = context(&policy);
                let client = Client::new(Kind::Tls13).unwrap();
                clock.shift(0);
                let session = session_of(&context, &client);
                clock.shift(1_000);
                let flight = flight(&client, &session, b"buy one");
                let accepted: Vec<i64> = (980..1_030)
                    .filter(|at| {
                        clock.shift(*at);
                        !replay(&context, &flight).is_empty()
                    })
                    .collect();
                let (first, last) = (accepted[0], accepted[accepted.len() - 1]);
                assert!(accepted.contains(&1_000), "{mode}: {accepted:?}");
                assert!(accepted.contains(&1_005), "{mode}: {accepted:?}");
                // In whole seconds: up to one more at either end.
                assert!(last - first < 12, "{mode}: {accepted:?}");
                assert!(last < 1_012, "{mode}: {accepted:?}");
            }
        },
    );
}

#[test]
fn later_and_by_other_clocks_it_is_accepted_by_no_host() {
    with_clock(
        "later_and_by_other_clocks_it_is_accepted_by_no_host",
        |clock| {
            for (mode, policies) in fleets(false) {
                let hosts = policies.each_ref().map(context);
                let client = Client::new(Kind::Tls13).unwrap();
                clock.shift(0);
                let session = session_of(&hosts[0], &client);
                clock.shift(1_000);
                let flight = flight(&client, &session, b"buy one");
                assert_eq!(replay(&hosts[0], &flight), b"buy one", "{mode}");
                // Again after 5, 12, 60 seconds; by a clock that is 20 seconds behind, when it reads the same; by one ahead.
                for at in [1_000, 1_005, 1_012, 1_060, 1_000 - 20, 1_000, 1_000 + 20] {
                    clock.shift(at);
                    for host in &hosts {
                        assert_eq!(replay(host, &flight), b"", "{mode} at {at}");
                    }
                }
            }
        },
    );
}

#[test]
fn an_entry_is_to_live_for_the_window_and_twice_the_skew() {
    type Asked = Arc<std::sync::Mutex<Vec<Duration>>>;
    struct Noting(Asked);
    impl openssl_resumption::ReplayRegister for Noting {
        fn register(
            &self,
            _: &openssl_resumption::HelloId,
            lives: Duration,
        ) -> Result<Registered, openssl_resumption::StoreError> {
            self.0.lock().unwrap().push(lives);
            Ok(Registered::First)
        }
    }
    let asked = Asked::default();
    let policy = Resumption::stateful(MemoryStore::default())
        .early_data(MAX)
        .replay_register(Noting(Arc::clone(&asked)));
    let client = Client::new(Kind::Tls13).unwrap();
    for skew in [
        None,
        Some(Duration::ZERO),
        Some(Duration::from_secs(20)),
        Some(Duration::MAX),
    ] {
        let policy = match skew {
            None => policy.clone(),
            Some(skew) => policy.clone().clock_skew(skew),
        };
        let context = context(&policy);
        let session = session_of(&context, &client);
        let met = meet_early(&context, &client, Some(&session), b"early");
        assert_eq!(met.agreed(), EarlyData::Accepted);
    }
    let asked: Vec<_> = asked
        .lock()
        .unwrap()
        .iter()
        .map(Duration::as_secs)
        .collect();
    assert_eq!(asked, [72, 12, 52, 14 * 24 * 60 * 60 + 12]);
}

/// Whatever is changed in a flight, it is another one or none.
#[test]
fn a_flight_that_was_tampered_with_hands_out_nothing() {
    for (mode, policy) in policies().into_iter().take(3) {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = session_of(&context, &client);
        let flight = flight(&client, &session, b"buy one");
        // The hello is one record, and early data follows.
        let hello = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
        for at in (5..hello).step_by(3).chain(hello - 33..hello) {
            let mut changed = flight.clone();
            changed[at] ^= 1;
            assert_eq!(replay(&context, &changed), b"", "{mode} {at} of {hello}");
        }
        assert_eq!(policy.stats().early_data_offered(), 0, "{mode}");
        assert_eq!(replay(&context, &flight), b"buy one", "{mode}");
    }
}

/// While a fleet changes from one way to the other, hosts with a register and hosts with single use have one store.
#[test]
fn hosts_with_single_use_and_without_accept_a_flight_once_if_they_share_a_register() {
    let (store, register) = (
        Arc::new(MemoryStore::default()),
        Arc::new(MemoryRegister::default().sessions_end_with_process()),
    );
    let host = |single_use| {
        let policy = Resumption::stateful(Arc::clone(&store)).early_data(MAX);
        let policy = policy.replay_register(Arc::clone(&register));
        context(&policy.single_use(single_use))
    };
    let hosts = [false, true].map(host);
    let client = Client::new(Kind::Tls13).unwrap();
    for order in [[0, 1], [1, 0]] {
        let session = session_of(&hosts[0], &client);
        let flight = flight(&client, &session, b"buy one");
        let handed_out = order.map(|i| replay(&hosts[i], &flight));
        assert_eq!(handed_out, [&b"buy one"[..], b""], "{order:?}");
    }
}
