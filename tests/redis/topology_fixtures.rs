//! The fixtures of `topology` are what they say, in the eyes of `redis-cli`.

use std::time::{Duration, Instant};

use crate::common::programs::eventually;
use crate::topology::{Access, Cluster, Node, Sentinels, Settings};

/// What something took, for whoever reads it.
fn took(what: &str, begun: Instant) {
    println!("{what}: {:?}", begun.elapsed());
}

#[test]
fn a_key_outlives_its_primary() {
    outlives(Cluster::start("cluster-outlives"));
}

#[test]
fn a_key_outlives_its_primary_behind_passwords_and_tls() {
    let settings = Settings {
        access: Access::user("app", "right"),
        tls: true,
        ..Settings::default()
    };
    outlives(Cluster::start_with("cluster-outlives-tls", settings));
}

fn outlives(cluster: Cluster) {
    let asked = |node: usize, words: &[&str]| cluster.nodes()[node].cli(words);
    let primary = cluster.primary_of("key");
    // Whom it is asked of is no matter.
    for node in 0..6 {
        let value = format!("from {node}");
        assert_eq!(asked(node, &["SET", "key", &value]), "OK");
        assert_eq!(asked(5 - node, &["GET", "key"]), value);
    }
    assert_eq!(asked(primary, &["WAIT", "1", "10000"]), "1");
    let replica = cluster.replica_of(primary).unwrap();

    cluster.kill(primary);
    let refused = asked(primary, &["GET", "key"]);
    assert!(refused.contains("Connection refused"), "{refused}");
    let promotion = cluster.wait_for_promotion(primary);
    println!("promoted after {promotion:?}");
    assert_eq!(cluster.primary_of("key"), replica);
    assert_eq!(asked(replica, &["GET", "key"]), "from 5");

    let begun = Instant::now();
    cluster.run_again(primary);
    took("the old primary is back", begun);
    assert_eq!(cluster.replica_of(replica), Some(primary));
    assert_eq!(asked(primary, &["GET", "key"]), "from 5");

    // Once more, and it stands still.
    cluster.pause(replica);
    println!("promoted after {:?}", cluster.wait_for_promotion(replica));
    assert_eq!(cluster.primary_of("key"), primary);
    cluster.resume(replica);
    assert_eq!(asked(replica, &["GET", "key"]), "from 5");
    let begun = Instant::now();
    cluster.flush();
    took("flushed", begun);
    assert_eq!(asked(0, &["GET", "key"]), "");
}

#[test]
fn a_slot_moves_with_its_keys() {
    let begun = Instant::now();
    let mut cluster = Cluster::start("cluster-moves");
    took("the cluster has formed", begun);
    let asked = |cluster: &Cluster, words: &[&str]| cluster.nodes()[0].cli(words);
    let keys: Vec<_> = (0..10).map(|number| format!("{{same}}{number}")).collect();
    for key in &keys {
        assert_eq!(asked(&cluster, &["SET", key, key]), "OK");
    }
    let from = cluster.primary_of("same");
    let to = (from + 1) % 3;
    let slot = cluster.slot_of("same");
    let begun = Instant::now();
    let moved = cluster.migrate_slot(slot, from, to, || {
        for (node, word) in [(from, "migrating"), (to, "importing")] {
            let count =
                cluster.nodes()[node].ask::<usize>(&format!("CLUSTER COUNTKEYSINSLOT {slot}"));
            assert_eq!(count, 5, "{word}");
        }
        // Those that have moved are asked for where they are.
        for key in &keys {
            assert_eq!(asked(&cluster, &["GET", key]), *key);
        }
    });
    took("the slot has moved", begun);
    assert_eq!(moved, 10);
    assert_eq!(cluster.primary_of("same"), to);
    for key in &keys {
        assert_eq!(asked(&cluster, &["GET", key]), *key);
    }

    let owned = cluster.key_on(0, "owned");
    assert_eq!(cluster.primary_of(&owned), 0);
    let begun = Instant::now();
    let new = cluster.add_node();
    took("a node was added", begun);
    let there = cluster.key_on(new, "new");
    assert_eq!(asked(&cluster, &["SET", &there, "there"]), "OK");
    assert_eq!(cluster.nodes()[new].cli(&["GET", &there]), "there");
    let ports = [0, new].map(|node| cluster.nodes()[node].port());
    let url = format!(
        "redis-cluster://127.0.0.1:{},127.0.0.1:{}",
        ports[0], ports[1]
    );
    assert_eq!(cluster.url_of(&[0, new]), url);
}

#[test]
fn a_cluster_stands_still_and_its_network_too() {
    let cluster = Cluster::start("cluster-still");
    let node = cluster.primary_of("key");
    let cli = || cluster.nodes()[node].cli(&["SET", "key", "value"]);
    // Whether it hears an answer before it is let go on.
    let waits = |halt: &dyn Fn(), go_on: &dyn Fn()| {
        halt();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let asks = scope.spawn(|| (cli(), begun.elapsed()));
            std::thread::sleep(Duration::from_millis(700));
            let went_on = begun.elapsed();
            go_on();
            let (said, took) = asks.join().unwrap();
            assert_eq!(said, "OK");
            assert!(took >= went_on, "{took:?}");
        });
    };
    waits(&|| cluster.pause_all(), &|| cluster.resume_all());
    waits(&|| cluster.drop_network(node), &|| {
        cluster.restore_network(node)
    });
    // Time enough for a promotion, if one was to come.
    assert_eq!(cluster.primary_of("key"), node);

    // What a replica does not hear of is lost.
    cluster.nodes()[node].drop_replication();
    assert_eq!(cluster.nodes()[node].cli(&["SET", "key", "lost"]), "OK");
    cluster.kill(node);
    cluster.wait_for_promotion(node);
    let other = cluster.primary_of("key");
    assert_eq!(cluster.nodes()[other].cli(&["GET", "key"]), "value");
}

#[test]
fn passwords_are_rolled_over() {
    let settings = || Settings {
        access: Access::password("old"),
        sentinel_access: Access::user("watcher", "old"),
        ..Settings::default()
    };
    let cluster = Cluster::start_with("cluster-password", settings());
    let lets_in = |node: &Node, user: &str, password: &str| {
        let said = node.cli_as(user, Some(password), &["PING"]);
        assert!(said == "PONG" || said.contains("WRONGPASS"), "{said}");
        said == "PONG"
    };
    let node = &cluster.nodes()[1];
    assert!(cluster.url().starts_with("redis-cluster://:old@127.0.0.1:"));
    cluster.set_password("new", || {
        assert!(lets_in(node, "default", "old"));
        assert!(lets_in(node, "default", "new"));
    });
    assert!(!lets_in(node, "default", "old"));
    assert!(lets_in(node, "default", "new"));
    let unknown = node.cli_as("default", None, &["PING"]);
    assert!(unknown.contains("NOAUTH"), "{unknown}");
    assert!(cluster.url().starts_with("redis-cluster://:new@127.0.0.1:"));
    cluster.put_out();
    drop(cluster);

    let sentinels = Sentinels::start_with("sentinel-password", settings());
    let [node, sentinel] = [sentinels.nodes(), sentinels.sentinels()].map(|all| &all[2]);
    sentinels.set_password("new", || ());
    sentinels.set_sentinel_password("newer", || {
        assert!(lets_in(sentinel, "watcher", "old"));
        assert!(lets_in(sentinel, "watcher", "newer"));
    });
    for (server, user, new) in [(node, "default", "new"), (sentinel, "watcher", "newer")] {
        assert!(!lets_in(server, user, "old"));
        assert!(lets_in(server, user, new));
    }
    sentinels.put_out();
    let url = sentinels.url("a-name");
    assert!(url.starts_with("redis-sentinel://:new@127.0.0.1:") && url.ends_with("/a-name"));
    // They reach each other still, and one that comes back too.
    sentinels.sentinels()[0].kill();
    sentinels.run_sentinel_again(0);
    sentinels.pause_primary();
    println!("promoted after {:?}", sentinels.wait_for_promotion());
}

#[test]
fn a_key_outlives_the_primary_of_sentinels() {
    let begun = Instant::now();
    let sentinels = Sentinels::start("sentinel-outlives");
    took("the sentinels know each other", begun);
    watched(&sentinels);

    // One that is away, not dead, once more.
    let old = sentinels.drop_network_of_primary();
    println!("promoted after {:?}", sentinels.wait_for_promotion());
    sentinels.nodes()[old].restore_network();
    let begun = Instant::now();
    sentinels.settle();
    took("the old primary knows that it is none", begun);

    let begun = Instant::now();
    sentinels.pause_all();
    sentinels.resume_all();
    took("paused and resumed", begun);
    sentinels.flush();
    let primary = sentinels.primary();
    assert_eq!(sentinels.nodes()[primary].cli(&["GET", "key"]), "");
}

#[test]
fn a_key_outlives_the_primary_of_sentinels_behind_passwords_and_tls() {
    let settings = Settings {
        access: Access::user("app", "right"),
        sentinel_access: Access::password("another"),
        tls: true,
        ..Settings::default()
    };
    watched(&Sentinels::start_with("sentinel-outlives-tls", settings));
}

fn watched(sentinels: &Sentinels) {
    let told = |sentinel: usize| {
        let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Sentinels::NAME];
        let said = sentinels.sentinels()[sentinel].cli(&ask);
        said.replace('\n', ":")
    };
    let asked = |node: usize, words: &[&str]| sentinels.nodes()[node].cli(words);
    let first = sentinels.primary();
    for sentinel in 0..3 {
        assert_eq!(told(sentinel), sentinels.nodes()[first].address());
    }
    assert_eq!(asked(first, &["SET", "key", "value"]), "OK");
    assert_eq!(asked(first, &["WAIT", "2", "10000"]), "2");
    assert_eq!(sentinels.kill_primary(), first);
    println!("promoted after {:?}", sentinels.wait_for_promotion());
    let second = sentinels.primary();
    assert_ne!(second, first);
    assert_eq!(told(0), sentinels.nodes()[second].address());
    // The sentinel that promotes it closes the connections of its clients.
    eventually("it has what was written", || {
        asked(second, &["GET", "key"]) == "value"
    });
    assert_eq!(asked(second, &["SET", "key", "other"]), "OK");
    let begun = Instant::now();
    sentinels.run_again(first);
    took("the old primary is back", begun);
    assert_eq!(asked(first, &["GET", "key"]), "other");
}
