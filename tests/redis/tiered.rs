//! Memory before Redis, on two hosts.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::SslContext;
use openssl_resumption::{FleetStore, MemoryStore, RedisStore, Resumption, Tiered};

use crate::SECRET;
use crate::common::{Client, Kind, Met, context, meet};
use crate::load::KINDS;
use crate::server::Redis;

struct Host {
    context: SslContext,
    policy: Resumption,
    shared: Arc<FleetStore>,
}

fn host(redis: &Redis, single_use: bool) -> Host {
    let shared = RedisStore::connect(&redis.url()).unwrap();
    // No test of deadlines.
    let shared = shared.deadline(Duration::from_secs(2));
    let shared = Arc::new(shared.for_servers([SECRET]).unwrap());
    let store = Tiered::new(MemoryStore::default(), Arc::clone(&shared));
    let policy = Resumption::stateful(store).single_use(single_use);
    Host {
        context: context(&policy),
        policy,
        shared,
    }
}

impl Host {
    /// What becomes of a client that comes; its sessions are in Redis then.
    fn meet(&self, client: &Client, session: Option<&[u8]>) -> Met {
        let met = meet(&self.context, client, session);
        assert_eq!(self.shared.flush(Duration::from_secs(10)), 0);
        met
    }
}

#[test]
fn sessions_of_another_host_are_kept_in_memory() {
    let mut redis = Redis::start("tiered");
    let hosts = [0, 1].map(|_| host(&redis, false));
    for kind in KINDS {
        let client = Client::new(kind).unwrap();
        let first = hosts[0].meet(&client, None);
        let gets = redis.calls("get");
        for (host, asked) in [(0, 0), (1, 1), (1, 1)] {
            let met = hosts[host].meet(&client, first.next());
            assert!(met.client.resumed, "{kind:?}");
            assert_eq!(redis.calls("get"), gets + asked, "{kind:?}, host {host}");
        }
    }
    // A client that was here comes back without Redis.
    let client = Client::new(Kind::Tls12).unwrap();
    let there = hosts[0].meet(&client, None);
    let here = hosts[1].meet(&client, None);
    redis.kill();
    let begun = Instant::now();
    assert!(meet(&hosts[1].context, &client, here.next()).client.resumed);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "nobody was asked, or the machine is too busy"
    );
    assert!(
        !meet(&hosts[1].context, &client, there.next())
            .client
            .resumed
    );
}

#[test]
fn one_host_resumes_what_resumes_once() {
    let redis = Redis::start("tiered-once");
    let hosts = [0, 1].map(|_| host(&redis, true));
    let client = Client::new(Kind::Tls13).unwrap();
    let mut won = [0; 2];
    for round in 0..100 {
        // Written or not, and in the memory of the first host.
        let session = match round % 2 {
            0 => hosts[0].meet(&client, None),
            _ => meet(&hosts[0].context, &client, None),
        };
        let resumed: Vec<_> = thread::scope(|scope| {
            let visits = hosts.each_ref().map(|host| {
                let client = Client::new(Kind::Tls13).unwrap();
                let session = session.next();
                scope.spawn(move || meet(&host.context, &client, session).client.resumed)
            });
            visits
                .into_iter()
                .map(|visit| visit.join().unwrap())
                .collect()
        });
        won[0] += usize::from(resumed[0]);
        won[1] += usize::from(resumed[1]);
        assert_ne!(resumed[0], resumed[1], "round {round}");
        for host in &hosts {
            assert!(
                !host.meet(&client, session.next()).client.resumed,
                "{round}"
            );
        }
    }
    println!("won by {won:?}");
    assert!(
        hosts
            .iter()
            .all(|host| host.policy.last_store_error().is_none())
    );
}
