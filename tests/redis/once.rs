//! What Redis must be exact about: sessions that resume once, and how long sessions live.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::SECRET;
use crate::common::process::{Scratch, Server};
use crate::common::{Client, Kind};
use crate::load::{KINDS, alone, visit};
use crate::server::Redis;

/// How often all servers are offered one session: 200 times, or as this variable says.
const ROUNDS: &str = "OPENSSL_RESUMPTION_ROUNDS";

#[test]
fn of_servers_that_are_offered_one_session_one_resumes_it() {
    const SERVERS: usize = 4;
    let _alone = alone();
    let rounds = std::env::var(ROUNDS).map_or(200, |rounds| rounds.parse().unwrap());
    let redis = Redis::start("once");
    let scratch = Scratch::new("redis-once-servers");
    let secret = scratch.write("secret", &SECRET);
    let args = [
        "--redis",
        &redis.url(),
        "--redis-secret",
        &secret,
        "--single-use",
    ];
    let servers = [0; SERVERS].map(|_| Server::start(&args));
    let addresses = servers.each_ref().map(|server| server.address);
    let clients = [0; SERVERS].map(|_| Client::new(Kind::Tls13).unwrap());
    let mut winners = [0; SERVERS];
    let mut session = visit(addresses[0], &clients[0], None)
        .unwrap()
        .session
        .unwrap();
    for round in 0..rounds {
        // Half of the rounds begin while the session may still have to be written.
        if round % 2 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        let visits = at_once(addresses, &clients, &session);
        let resumed = |i: &usize| visits[*i].0;
        let won: Vec<_> = (0..SERVERS).filter(resumed).collect();
        assert!(won.len() <= 1, "round {round}");
        won.iter().for_each(|winner| winners[*winner] += 1);
        // That of another server than won.
        let winner = won.first().unwrap_or(&0);
        session = visits[(winner + 1 + round % (SERVERS - 1)) % SERVERS]
            .1
            .clone();
    }
    // On a busy machine a deadline of 50 ms is missed now and then, and with it a round.
    let lost = rounds - winners.iter().sum::<usize>();
    assert!(lost <= rounds / 20, "{lost} of {rounds} rounds without one");
    println!(
        "{rounds} rounds, won by {winners:?}, {lost} by none; {} GETDEL",
        redis.calls("getdel")
    );
}

/// Whether each server resumed the session, and the next one.
fn at_once(
    addresses: [SocketAddr; 4],
    clients: &[Client; 4],
    session: &[u8],
) -> Vec<(bool, Vec<u8>)> {
    thread::scope(|scope| {
        let visits: Vec<_> = addresses
            .iter()
            .zip(clients)
            .map(|(address, client)| scope.spawn(|| visit(*address, client, Some(session))))
            .collect();
        let visits = visits
            .into_iter()
            .map(|visit| visit.join().unwrap().unwrap());
        visits
            .map(|visit| (visit.page["resumed"] == true, visit.session.unwrap()))
            .collect()
    })
}

/// How much longer the newest session in Redis lives, in seconds.
fn newest(redis: &Redis) -> f64 {
    // Written by a thread of the server's.
    thread::sleep(Duration::from_millis(300));
    let keys = redis.session_keys();
    let lives = keys
        .iter()
        .map(|key| redis.ask::<i64>(&format!("PTTL {key}")));
    lives.max().unwrap() as f64 / 1000.
}

#[test]
fn a_session_lives_in_redis_for_what_is_left_of_its_life() {
    let redis = Redis::start("ttl");
    let scratch = Scratch::new("redis-ttl-server");
    let secret = scratch.write("secret", &SECRET);
    let server = Server::start(&[
        "--redis",
        &redis.url(),
        "--redis-secret",
        &secret,
        "--lifetime",
        "600",
    ]);
    thread::sleep(Duration::from_millis(500));
    for kind in KINDS {
        let () = redis.ask("FLUSHALL");
        let client = Client::new(kind).unwrap();
        let full = visit(server.address, &client, None).unwrap();
        let begun = std::time::Instant::now();
        let life = newest(&redis);
        println!("{kind:?}, full: {life} s");
        assert!((life - 600.).abs() <= 2., "{life}");
        thread::sleep(Duration::from_secs(4));
        let resumed = visit(server.address, &client, full.session.as_deref()).unwrap();
        assert_eq!(resumed.page["resumed"], true);
        let life = newest(&redis);
        let left = 600. - begun.elapsed().as_secs_f64();
        println!("{kind:?}, resumed: {life} s, {left} s left");
        assert!((life - left).abs() <= 2., "{life}, {left}");
    }
}
