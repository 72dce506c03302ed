//! A primary with replicas, and sentinels that watch it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::RedisResult;

use super::node::{Kind, Ports};
use super::{House, Node, OURS, Settings, info};
use crate::common::programs::eventually;

/// After so long without a word the primary is taken for failed.
const DOWN_AFTER: Duration = Duration::from_secs(1);

/// How long one attempt at a promotion may take; the next one begins after twice that.
const FAILOVER: Duration = Duration::from_secs(2);

/// A primary, the node 0 at first, two replicas, and three sentinels of which two decide.
pub(crate) struct Sentinels {
    // They go first.
    sentinels: Vec<Node>,
    nodes: Vec<Node>,
    house: Arc<House>,
    sentinel_house: Arc<House>,
    /// Since when a primary is out, and which node that is.
    fault: Mutex<Option<(Instant, usize)>>,
}

impl Sentinels {
    /// What the sentinels call the primary.
    pub(crate) const NAME: &'static str = "sessions";

    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, Settings::default())
    }

    pub(crate) fn start_with(name: &str, settings: Settings) -> Self {
        let lines = settings.lines;
        let house = Arc::new(House::new(name, &settings));
        let of_sentinels = Settings {
            access: settings.sentinel_access,
            ..Settings::default()
        };
        let sentinel_house = Arc::new(House {
            // The nodes' CA, by which both look at each other.
            tls: house.tls.clone(),
            ..House::new(&format!("{name}-sentinels"), &of_sentinels)
        });
        let mut all = Self {
            sentinels: Vec::new(),
            nodes: Vec::new(),
            house,
            sentinel_house,
            fault: Mutex::default(),
        };
        for index in 0..3 {
            let primary = all.nodes.first().map(Node::port);
            let kind = node(Arc::clone(&all.house), primary, lines);
            let name = format!("node-{index}");
            all.nodes.push(Node::begin(&all.house, &name, kind));
        }
        for node in &all.nodes {
            node.wait_until_it_answers(true);
        }
        // A sentinel looks for replicas when it begins, and then no more for a while.
        eventually("the replicas are linked", || all.linked() == 2);
        for index in 0..3 {
            let kind = sentinel(Arc::clone(&all.sentinel_house), all.nodes[0].port());
            let name = format!("sentinel-{index}");
            let sentinel = Node::begin(&all.sentinel_house, &name, kind);
            all.sentinels.push(sentinel);
        }
        for sentinel in &all.sentinels {
            sentinel.wait_until_it_answers(true);
            hasten(sentinel);
        }
        all.settle();
        all
    }

    /// How many replicas have all of their primary.
    fn linked(&self) -> usize {
        let running = self.nodes.iter().filter(|node| node.runs());
        running
            .filter(|node| {
                let text: String = node.try_ask("INFO replication").unwrap_or_default();
                info(&text, "master_link_status") == Some("up")
            })
            .count()
    }

    /// Waits until all sentinels that run know all others, one primary, and replicas of it, which are those that run.
    pub(crate) fn settle(&self) {
        eventually("the sentinels know all there is", || {
            let [nodes, sentinels] =
                [&self.nodes, &self.sentinels].map(|all| all.iter().filter(|it| it.runs()));
            let (nodes, mut sentinels) = (nodes.count(), sentinels);
            let linked = self.linked();
            let primary = self.told_primary();
            primary.is_some() && linked + 1 == nodes && sentinels.all(|it| knows(it, nodes - 1))
        });
    }

    /// Where all sentinels that run say that the primary is, if it says so too.
    fn told_primary(&self) -> Option<usize> {
        let mut told = None;
        for sentinel in self.sentinels.iter().filter(|it| it.runs()) {
            let ask = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {}", Self::NAME);
            let (_, port): (String, u16) = sentinel.try_ask(&ask).ok()?;
            if *told.get_or_insert(port) != port {
                return None;
            }
        }
        let told = self
            .nodes
            .iter()
            .position(|node| Some(node.port()) == told)?;
        let node = &self.nodes[told];
        (node.runs() && !node.is_replica()).then_some(told)
    }

    /// "redis-sentinel://127.0.0.1:1,127.0.0.1:2/name", of all sentinels, with who is let in to the nodes;
    /// "rediss-sentinel://" with TLS. It does not
    /// say who is let in to the sentinels.
    pub(crate) fn url(&self, name: &str) -> String {
        let url = self.house.url("redis-sentinel", &self.sentinels);
        format!("{url}/{name}")
    }

    /// The nodes, in an order that stays.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn sentinels(&self) -> &[Node] {
        &self.sentinels
    }

    /// The node that is the primary now.
    pub(crate) fn primary(&self) -> usize {
        let primary = std::cell::Cell::new(None);
        eventually("the sentinels agree on a primary", || {
            primary.set(self.told_primary());
            primary.get().is_some()
        });
        primary.get().unwrap()
    }

    /// As `kill -9` does: the node that it was.
    pub(crate) fn kill_primary(&self) -> usize {
        self.out(Node::kill)
    }

    /// The sentinels take it for failed in time. When it is resumed it is a primary still, until a sentinel tells it.
    pub(crate) fn pause_primary(&self) -> usize {
        self.out(Node::pause)
    }

    /// It goes on, and neither clients nor replicas nor sentinels reach it: when they do again it is a primary still, until a
    /// sentinel tells it.
    pub(crate) fn drop_network_of_primary(&self) -> usize {
        self.out(Node::drop_network)
    }

    fn out(&self, out: impl FnOnce(&Node)) -> usize {
        let node = self.primary();
        let begun = Instant::now();
        out(&self.nodes[node]);
        *self.fault.lock() = Some((begun, node));
        node
    }

    /// Waits until all sentinels that run name another primary than the one which is out: how long that took since then.
    pub(crate) fn wait_for_promotion(&self) -> Duration {
        let (begun, out) = self.fault.lock().take().expect("a primary that is out");
        eventually("another has been promoted", || {
            self.told_primary().is_some_and(|told| told != out)
        });
        begun.elapsed()
    }

    /// Starts a node again that was killed: it takes itself for what it was at first, until a sentinel tells it.
    pub(crate) fn run_again(&self, node: usize) {
        self.nodes[node].run_again();
        self.settle();
    }

    /// The same for a sentinel, which remembers what it knew.
    pub(crate) fn run_sentinel_again(&self, sentinel: usize) {
        self.sentinels[sentinel].run_again();
        hasten(&self.sentinels[sentinel]);
        self.settle();
    }

    /// Sentinels and nodes.
    pub(crate) fn pause_all(&self) {
        let all = self.sentinels.iter().chain(&self.nodes);
        all.for_each(Node::pause);
    }

    pub(crate) fn resume_all(&self) {
        let all = self.nodes.iter().chain(&self.sentinels);
        all.for_each(Node::resume);
        self.settle();
    }

    /// Another password for the nodes, in the way of a rollover: with both for as long as `both` takes, then with the new one
    /// only. Clients that are in stay in, unless `put_out` says otherwise.
    pub(crate) fn set_password(&self, new: &str, both: impl FnOnce()) {
        self.house.add_password(&self.nodes, new);
        both();
        self.house.only_newest_password(&self.nodes);
    }

    /// The same for the sentinels.
    pub(crate) fn set_sentinel_password(&self, new: &str, both: impl FnOnce()) {
        self.sentinel_house.add_password(&self.sentinels, new);
        both();
        self.sentinel_house.only_newest_password(&self.sentinels);
    }

    /// Closes all clients' connections, to nodes and sentinels.
    pub(crate) fn put_out(&self) {
        self.house.put_out(&self.nodes);
        self.sentinel_house.put_out(&self.sentinels);
    }

    /// Removes all keys.
    pub(crate) fn flush(&self) {
        let () = self.nodes[self.primary()].ask("FLUSHALL");
    }
}

/// Whether a sentinel knows two others, and so many replicas that are well.
fn knows(sentinel: &Node, replicas: usize) -> bool {
    let name = Sentinels::NAME;
    let others: RedisResult<Vec<std::collections::HashMap<String, String>>> =
        sentinel.try_ask(&format!("SENTINEL SENTINELS {name}"));
    let all: RedisResult<Vec<std::collections::HashMap<String, String>>> =
        sentinel.try_ask(&format!("SENTINEL REPLICAS {name}"));
    let (Ok(others), Ok(all)) = (others, all) else {
        return false;
    };
    let well = all.iter().filter(|it| it["flags"] == "slave");
    others.len() == 2 && well.count() == replicas
}

/// What a sentinel asks and tells once in a while comes sooner, and after it was away it is itself again at once: with the
/// settings of old it does nothing for 30 s once it was paused for 2.
fn hasten(sentinel: &Node) {
    let () = sentinel.ask("SENTINEL DEBUG info-period 1000 publish-period 300 tilt-period 1000");
}

fn node(house: Arc<House>, primary: Option<u16>, more: &'static str) -> Kind {
    let lines = move |ports: &Ports| {
        let announced = ports.announced;
        let users = house.access.lock().lines();
        let of = primary.map_or_else(String::new, |port| format!("replicaof 127.0.0.1 {port}\n"));
        format!(
            "{users}masteruser {OURS}\nmasterauth {OURS}\nsave \"\"\nappendonly no\n\
             repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n\
             replica-announce-ip 127.0.0.1\nreplica-announce-port {announced}\n{of}{more}\n"
        )
    };
    Kind {
        args: &[],
        lines: Box::new(lines),
        rewrites: false,
    }
}

fn sentinel(house: Arc<House>, primary: u16) -> Kind {
    let name = Sentinels::NAME;
    let lines = move |ports: &Ports| {
        let announced = ports.announced;
        let users = house.access.lock().lines();
        let (down, failover) = (DOWN_AFTER.as_millis(), FAILOVER.as_millis());
        format!(
            "{users}sentinel announce-ip 127.0.0.1\nsentinel announce-port {announced}\n\
             sentinel monitor {name} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {name} {down}\n\
             sentinel failover-timeout {name} {failover}\nsentinel parallel-syncs {name} 2\n\
             sentinel auth-user {name} {OURS}\nsentinel auth-pass {name} {OURS}\n\
             sentinel sentinel-user {OURS}\nsentinel sentinel-pass {OURS}\n"
        )
    };
    Kind {
        args: &["--sentinel"],
        lines: Box::new(lines),
        rewrites: true,
    }
}
