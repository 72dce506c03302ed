//! Redis of several servers: a cluster, and a master that sentinels watch.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openssl_resumption::{
    HelloId, KeySource, RedisStore, Registered, ReplayRegister, Session, SessionKey, SessionStore,
};

use crate::SECRET;
use crate::common::process::Scratch;
use crate::common::programs::{self, eventually};
use crate::server::{Redis, free_port};

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

/// Three masters with a third of the slots each.
fn cluster() -> [Redis; 3] {
    let mut buses = Vec::new();
    let nodes = [0, 1, 2].map(|n| {
        // Not one that is lent to others meanwhile.
        buses.push(11_000 + free_port() % 20_000);
        let bus = buses[n].to_string();
        let args = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        Redis::start_with(&format!("node-{n}"), &args)
    });
    for (n, slots) in ["0 5461", "5462 10922", "10923 16383"].iter().enumerate() {
        let () = nodes[n].ask(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
        let () = nodes[n].ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1));
    }
    for n in [1, 2] {
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", nodes[n].port, buses[n]);
        let () = nodes[0].ask(&meet);
    }
    for node in &nodes {
        eventually("the cluster is one", || {
            let info: String = node.ask("CLUSTER INFO");
            info.contains("cluster_state:ok") && info.contains("cluster_size:3")
        });
    }
    nodes
}

#[test]
fn a_cluster_has_sessions_keys_and_hellos() {
    let nodes = cluster();
    let url = format!(
        "redis-cluster://127.0.0.1:{},127.0.0.1:{}",
        nodes[0].port, nodes[1].port
    );
    let options = RedisStore::connect(&url).unwrap();
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
    let all = |node: &Redis| node.session_keys().len();
    assert!(nodes.iter().all(|node| all(node) > 5));
    assert_eq!(nodes.iter().map(all).sum::<usize>(), 60);
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

/// One that thinks that a master is down when it has been gone for a second, and is enough to say so.
struct Sentinel {
    process: Child,
    port: u16,
    _scratch: Scratch,
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let scratch = Scratch::new("redis-sentinel");
        let port = free_port();
        let file = scratch.write(
            "sentinel.conf",
            format!(
                "port {port}\nbind 127.0.0.1\nrequirepass watch\n\
                 sentinel monitor shop 127.0.0.1 {master} 1\n\
                 sentinel down-after-milliseconds shop 1000\nsentinel failover-timeout shop 5000\n"
            )
            .as_bytes(),
        );
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        command.args([&file, "--sentinel"]).stdout(Stdio::null());
        Self {
            process: programs::start(&mut command),
            port,
            _scratch: scratch,
        }
    }

    fn knows_a_replica(&self) -> bool {
        let client = redis::Client::open(format!("redis://:watch@127.0.0.1:{}", self.port));
        let Ok(mut connection) = client.unwrap().get_connection() else {
            return false;
        };
        let mut cmd = redis::cmd("SENTINEL");
        let replicas = cmd.arg("REPLICAS").arg("shop").query(&mut connection);
        matches!(replicas, Ok(redis::Value::Array(replicas)) if !replicas.is_empty())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn sentinels_name_the_master_and_the_next_one() {
    let mut master = Redis::start("master");
    let of = ["--replicaof", "127.0.0.1", &master.port.to_string()];
    let replica = Redis::start_with("replica", &of);
    let sentinel = Sentinel::start(master.port);
    eventually("the sentinel knows both", || sentinel.knows_a_replica());
    // One that is not there comes first.
    let url = format!(
        "redis-sentinel://127.0.0.1:{},127.0.0.1:{}/shop",
        free_port(),
        sentinel.port
    );
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
    assert_eq!(master.session_keys().len(), 1);
    eventually("the replica has it", || replica.session_keys().len() == 1);
    let begun = Instant::now();
    master.kill();
    eventually("the next is found", || {
        store.put(&key(2), session(2)).is_ok()
    });
    println!("after {:?}", begun.elapsed());
    assert_eq!(replica.session_keys().len(), 2);
    assert!(is_found(&store, 1));
}

/// One of three is hung: what others have is found.
#[test]
fn a_node_that_hangs_is_not_the_whole_cluster() {
    let nodes = cluster();
    let options = RedisStore::connect(&format!("redis-cluster://127.0.0.1:{}", nodes[0].port));
    let store = options
        .unwrap()
        .deadline(Duration::from_millis(200))
        .plaintext();
    eventually("it is connected", || store.get(&key(0)).is_ok());
    for n in 0..60 {
        eventually("it is put", || store.put(&key(n), session(n)).is_ok());
    }
    nodes[2].signal("STOP");
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
    nodes[2].signal("CONT");
    eventually("all are asked", || {
        thread::sleep(Duration::from_millis(100));
        found(begun) == 60
    });
}
