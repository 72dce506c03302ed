//! Redis of several servers: a cluster, and a master that sentinels watch.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openssl_resumption::{
    HelloId, KeySource, RedisStore, Registered, ReplayRegister, Session, SessionKey, SessionStore,
};

use crate::SECRET;
use crate::common::programs::eventually;
use crate::server::free_port;
use crate::topology::{Access, Cluster, Node, Sentinels, Settings};

fn session(n: u8) -> Session {
    let hour = SystemTime::now() + Duration::from_secs(3_600);
    let ends = hour.duration_since(UNIX_EPOCH).unwrap().as_secs();
    Session::from_bytes(&[&[1], &ends.to_be_bytes()[..], &[n; 40]].concat()).unwrap()
}

fn key(n: u8) -> SessionKey {
    SessionKey::from([n; 32])
}

fn is_found(store: &RedisStore, n: u8) -> bool {
    matches!(store.get(&key(n)), Ok(Some(session)) if session.as_bytes()[9..] == [n; 40])
}

/// How many sessions are there.
fn sessions(node: &Node) -> usize {
    let keys: Vec<String> = node.ask("KEYS openssl-resumption:session:*");
    keys.len()
}

#[test]
fn a_cluster_has_sessions_keys_and_hellos() {
    let cluster = Cluster::start_with("many", Settings::steady());
    let options = RedisStore::connect(&cluster.url_of(&[0, 1])).unwrap();
    let options = options.deadline(Duration::from_secs(2));
    let store = options.clone().plaintext();
    eventually("it is connected", || store.get(&key(0)).is_ok());
    for n in 0..60 {
        store
            .put_successor(&key(n), session(n), &key(n.wrapping_sub(1)))
            .unwrap();
    }
    assert!((0..60).all(|n| is_found(&store, n)));
    assert_eq!(store.last_error(), None);
    let primaries = &cluster.nodes()[..3];
    assert!(primaries.iter().all(|node| sessions(node) > 5));
    assert_eq!(primaries.iter().map(sessions).sum::<usize>(), 60);
    assert!(store.take(&key(7)).unwrap().is_some());
    assert!(store.take(&key(7)).unwrap().is_none());
    store.remove(&key(8)).unwrap();
    assert!(store.get(&key(8)).unwrap().is_none());

    let keys = options.clone().ticket_keys([SECRET]).unwrap();
    let first = keys.load(SystemTime::now()).unwrap();
    let other = options.clone().ticket_keys([SECRET]).unwrap();
    let second = other.load(SystemTime::now()).unwrap();
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    assert!(!format!("{first:?}").contains("alone"), "{first:?}");

    let register = options.replay_register();
    let hello = HelloId::from([5; 32]);
    let lives = Duration::from_secs(60);
    assert!(matches!(
        register.register(&hello, lives),
        Ok(Registered::WarmingUp)
    ));
    assert!(matches!(
        register.register(&hello, lives),
        Ok(Registered::Before)
    ));
}

/// What is between braces alone says where a key is: keys of one such prefix are at one node, all of them.
#[test]
fn a_prefix_may_name_one_node() {
    let cluster = Cluster::start_with("prefix", Settings::steady());
    let options = RedisStore::connect(&cluster.url()).unwrap();
    let options = options.deadline(Duration::from_secs(2)).prefix("{shop}:");
    let store = options.clone().plaintext();
    eventually("it is connected", || store.get(&key(0)).is_ok());
    for n in 0..20 {
        store
            .put_successor(&key(n), session(n), &key(n.wrapping_sub(1)))
            .unwrap();
    }
    let mut sizes = [0, 1, 2].map(|node| cluster.nodes()[node].ask::<usize>("DBSIZE"));
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 0, 20]);
    let keys = options.ticket_keys([SECRET]).unwrap();
    let loaded = format!("{:?}", keys.load(SystemTime::now()).unwrap());
    assert!(!loaded.contains("alone"), "{loaded}");
}

#[test]
fn sentinels_name_the_master_and_the_next_one() {
    let sentinels = Sentinels::start_with(
        "many-sentinels",
        Settings {
            sentinel_access: Access::password("watch"),
            ..Settings::default()
        },
    );
    // One that is not there comes first.
    let nobody = format!("redis-sentinel://127.0.0.1:{},", free_port());
    let url = sentinels.url(Sentinels::NAME);
    let url = url.replace("redis-sentinel://", &nobody);
    let store = |password: &str| {
        let options = RedisStore::connect(&url).unwrap();
        let options = options.sentinel_login(None, password);
        options.deadline(Duration::from_secs(2)).plaintext()
    };
    let wrong = store("other");
    assert!(wrong.get(&key(1)).is_err());
    let said = wrong.last_error().unwrap();
    assert!(said.contains("AUTH was refused: WRONGPASS"), "{said}");

    let store = store("watch");
    eventually("it is connected", || store.get(&key(0)).is_ok());
    store.put(&key(1), session(1)).unwrap();
    let all = |count| sentinels.nodes().iter().all(|node| sessions(node) == count);
    eventually("the replicas have it", || all(1));
    let begun = Instant::now();
    let old = sentinels.kill_primary();
    eventually("the next is found", || {
        store.put(&key(2), session(2)).is_ok()
    });
    println!("after {:?}", begun.elapsed());
    let primary = sentinels.primary();
    assert_ne!(primary, old);
    assert_eq!(sessions(&sentinels.nodes()[primary]), 2);
    assert!(is_found(&store, 1));
}

/// One of three is hung: what others have is found.
#[test]
fn a_node_that_hangs_is_not_the_whole_cluster() {
    let cluster = Cluster::start_with("hangs", Settings::steady());
    let options = RedisStore::connect(&cluster.url()).unwrap();
    let store = options.deadline(Duration::from_millis(200)).plaintext();
    eventually("it is connected", || store.get(&key(0)).is_ok());
    for n in 0..60 {
        eventually("it is put", || store.put(&key(n), session(n)).is_ok());
    }
    cluster.pause(2);
    let found = |from: Instant| {
        let mut found = 0;
        for n in 0..60 {
            let begun = Instant::now();
            found += usize::from(is_found(&store, n));
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
        println!("{found} found, {:?} after", from.elapsed());
        found
    };
    let begun = Instant::now();
    found(begun);
    eventually("the others are asked", || found(begun) >= 30);
    cluster.resume(2);
    eventually("all are asked", || {
        thread::sleep(Duration::from_millis(100));
        found(begun) == 60
    });
}
