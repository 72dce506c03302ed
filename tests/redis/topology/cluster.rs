//! A cluster of a test's own.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::RedisResult;

use super::node::{Kind, Ports};
use super::{House, Node, OURS, Settings, info};
use crate::common::programs::eventually;

const SLOTS: u16 = 16384;

/// How many slots a new primary gets of each other one.
const SHARE: usize = 50;

/// After so long without a word a node is taken for failed. Less, and busy machines see promotions that nobody asked for.
const NODE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Three primaries, the nodes 0 to 2, each with a replica, 3 to 5. What is not told to happen does not: replicas stay where they
/// are. What does happen is for the nodes to say, each time anew: `primary_of`, `replica_of`.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    /// What each is called in the cluster.
    ids: Vec<String>,
    house: Arc<House>,
    lines: &'static str,
    /// Since when a primary is out, and one of the slots that it had.
    faults: Mutex<HashMap<usize, (Instant, u16)>>,
}

/// What one node knows of another, or of itself.
struct Seen {
    id: String,
    flags: Vec<String>,
    /// The primary of a replica.
    primary: String,
    connected: bool,
    slots: Vec<RangeInclusive<u16>>,
}

impl Cluster {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, Settings::default())
    }

    pub(crate) fn start_with(name: &str, settings: Settings) -> Self {
        let house = House::new(name, &settings);
        let mut cluster = Self {
            nodes: Vec::new(),
            ids: Vec::new(),
            house: Arc::new(house),
            lines: settings.lines,
            faults: Mutex::default(),
        };
        for _ in 0..6 {
            cluster.begin_node();
        }
        cluster.take_in(0);
        // By hand: `redis-cli --cluster create` sleeps whole seconds.
        for primary in 0..3 {
            let [first, end] = [primary, primary + 1].map(|part| part * u32::from(SLOTS) / 3);
            let last = end - 1;
            let node = &cluster.nodes[primary as usize];
            let () = node.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
        }
        for replica in 3..6 {
            let primary = &cluster.ids[replica - 3];
            let () = cluster.nodes[replica].ask(&format!("CLUSTER REPLICATE {primary}"));
        }
        cluster.settle();
        cluster
    }

    fn begin_node(&mut self) {
        let house = Arc::clone(&self.house);
        let (tls, more) = (house.tls.is_some(), self.lines);
        let lines = move |ports: &Ports| {
            let (announced, bus) = (ports.announced, ports.bus);
            let timeout = NODE_TIMEOUT.as_millis();
            let users = house.access.lock().lines();
            let tls = if tls {
                // Of the two the announced one is that without TLS, if this is not said.
                format!("tls-cluster yes\ncluster-announce-tls-port {announced}\n")
            } else {
                format!("cluster-announce-port {announced}\n")
            };
            format!(
                "{users}masteruser {OURS}\nmasterauth {OURS}\nsave \"\"\nappendonly no\n\
                 repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n\
                 cluster-enabled yes\ncluster-node-timeout {timeout}\ncluster-port {bus}\n\
                 cluster-announce-ip 127.0.0.1\ncluster-announce-bus-port {bus}\n{tls}\
                 cluster-allow-replica-migration no\ncluster-replica-validity-factor 0\n{more}\n"
            )
        };
        let kind = Kind {
            args: &[],
            lines: Box::new(lines),
            rewrites: false,
        };
        let name = format!("node-{}", self.nodes.len());
        self.nodes.push(Node::begin(&self.house, &name, kind));
    }

    /// Makes all nodes from this one on known to all others.
    fn take_in(&mut self, first: usize) {
        for node in &self.nodes[first..] {
            node.wait_until_it_answers(true);
        }
        for (index, node) in self.nodes.iter().enumerate().skip(first) {
            self.ids.push(node.ask("CLUSTER MYID"));
            // Each another one: otherwise they settle first whose is whose.
            let () = node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1));
        }
        // All each other: waiting until it gets around takes longer.
        for (index, node) in self.nodes.iter().enumerate().skip(first.max(1)) {
            let meet = |other: &Node| {
                let (port, bus) = (other.port(), other.bus());
                format!("CLUSTER MEET 127.0.0.1 {port} {bus}")
            };
            let meet: Vec<_> = self.nodes[..index].iter().map(meet).collect();
            node.ask_all(&meet).unwrap();
        }
        eventually("all nodes of the cluster know each other", || {
            self.nodes.iter().all(|node| {
                let seen = seen(node).unwrap_or_default();
                let known = |id: &String| seen.iter().any(|it| it.id == *id && it.connected);
                seen.len() == self.nodes.len() && self.ids.iter().all(known)
            })
        });
    }

    /// Waits until all that run agree that all is well.
    pub(crate) fn settle(&self) {
        eventually("the cluster is well", || self.is_well());
    }

    fn is_well(&self) -> bool {
        let mut running = self.nodes.iter().filter(|node| node.runs());
        let first_owners = std::cell::OnceCell::new();
        running.all(|node| {
            let Ok(seen) = seen(node) else { return false };
            let owners = self.owners(&seen);
            let agreed = owners.iter().all(Option::is_some)
                && *first_owners.get_or_init(|| owners.clone()) == owners;
            let state: RedisResult<String> = node.try_ask("CLUSTER INFO");
            let replication: RedisResult<String> = node.try_ask("INFO replication");
            let (Ok(state), Ok(replication)) = (state, replication) else {
                return false;
            };
            let linked = info(&replication, "role") == Some("master")
                || info(&replication, "master_link_status") == Some("up");
            agreed && linked && info(&state, "cluster_state") == Some("ok")
        })
    }

    /// The node of each slot, in the eyes of one.
    fn owners(&self, seen: &[Seen]) -> Vec<Option<usize>> {
        let mut owners = vec![None; SLOTS.into()];
        for it in seen.iter().filter(|it| it.is_primary()) {
            let owner = self.ids.iter().position(|id| *id == it.id);
            for slot in it.slots.iter().cloned().flatten() {
                owners[usize::from(slot)] = owner;
            }
        }
        owners
    }

    /// All of them, in an order that stays.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// "redis-cluster://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", of the nodes 0 to 2; "rediss-cluster://" with TLS, and with the
    /// newest password if there is one.
    pub(crate) fn url(&self) -> String {
        self.url_of(&[0, 1, 2])
    }

    /// The same of these nodes.
    pub(crate) fn url_of(&self, nodes: &[usize]) -> String {
        let nodes = nodes.iter().map(|node| &self.nodes[*node]);
        self.house.url("redis-cluster", nodes)
    }

    /// What the example `server` needs beside the URL.
    pub(crate) fn server_options(&self) -> Vec<String> {
        self.house.server_options()
    }

    /// The nodes' certificate has expired. Connections that are there stay.
    pub(crate) fn expire_certificate(&self) {
        self.house.change_certificate(&self.nodes, true);
    }

    /// The nodes have a new one.
    pub(crate) fn renew_certificate(&self) {
        self.house.change_certificate(&self.nodes, false);
    }

    /// A node that can be asked.
    fn any(&self) -> &Node {
        let mut nodes = self.nodes.iter();
        nodes.find(|node| node.runs()).expect("a node that runs")
    }

    pub(crate) fn slot_of(&self, key: &str) -> u16 {
        self.any().ask(&format!("CLUSTER KEYSLOT {key}"))
    }

    pub(crate) fn primary_of(&self, key: &str) -> usize {
        self.primary_of_slot(self.slot_of(key))
    }

    /// By its own word, or if none says so by that of others: they have not promoted another yet.
    pub(crate) fn primary_of_slot(&self, slot: u16) -> usize {
        let running = || self.nodes.iter().enumerate().filter(|(_, it)| it.runs());
        let own = running().find(|(_, node)| {
            let seen = seen(node).unwrap();
            let mut own = seen.iter().filter(|it| it.is("myself") && it.is_primary());
            own.any(|it| it.has(slot))
        });
        own.map(|(index, _)| index).unwrap_or_else(|| {
            let owners = self.owners(&seen(self.any()).unwrap());
            owners[usize::from(slot)].expect("a slot that somebody has")
        })
    }

    /// A replica of this primary that runs.
    pub(crate) fn replica_of(&self, primary: usize) -> Option<usize> {
        let id = &self.ids[primary];
        self.nodes.iter().position(|node| {
            node.runs()
                && seen(node)
                    .unwrap()
                    .iter()
                    .any(|it| it.is("myself") && it.primary == *id)
        })
    }

    /// A key that begins so and is this primary's.
    pub(crate) fn key_on(&self, primary: usize, start: &str) -> String {
        let seen = seen(self.any()).unwrap();
        let owners = self.owners(&seen);
        let mut keys = (0..).map(|number| format!("{start}{number}"));
        keys.find(|key| owners[usize::from(self.slot_of(key))] == Some(primary))
            .unwrap()
    }

    /// So many slots of this primary.
    pub(crate) fn slots(&self, primary: usize, count: usize) -> Vec<u16> {
        let owners = self.owners(&seen(self.any()).unwrap());
        let own = (0..SLOTS).filter(|slot| owners[usize::from(*slot)] == Some(primary));
        own.take(count).collect()
    }

    /// Moves a slot, its keys one after another; `midway` happens when half of them have moved. How many it were.
    pub(crate) fn migrate_slot(
        &self,
        slot: u16,
        from: usize,
        to: usize,
        midway: impl FnOnce(),
    ) -> usize {
        self.migrate_slots(&[slot], from, to, midway)
    }

    /// The same of several slots at a time.
    pub(crate) fn migrate_slots(
        &self,
        slots: &[u16],
        from: usize,
        to: usize,
        midway: impl FnOnce(),
    ) -> usize {
        let [(source, source_id), (target, target_id)] =
            [from, to].map(|node| (&self.nodes[node], &self.ids[node]));
        let of_all = |node: &Node, command: &dyn Fn(&u16) -> String| {
            let commands: Vec<_> = slots.iter().map(command).collect();
            node.ask_all(&commands).unwrap()
        };
        // In this order: a client that is sent to the target must be expected there.
        of_all(target, &|slot| {
            format!("CLUSTER SETSLOT {slot} IMPORTING {source_id}")
        });
        of_all(source, &|slot| {
            format!("CLUSTER SETSLOT {slot} MIGRATING {target_id}")
        });
        // Past the network.
        let port = target.own_port();
        let move_all = |keys: &[String]| {
            for key in keys {
                let () = source.ask(&format!(
                    "MIGRATE 127.0.0.1 {port} {key} 0 5000 AUTH2 {OURS} {OURS}"
                ));
            }
        };
        let mut moved = 0;
        let mut midway = Some(midway);
        loop {
            let keys = of_all(source, &|slot| format!("CLUSTER GETKEYSINSLOT {slot} 1000"));
            let keys = keys.into_iter().map(redis::from_redis_value::<Vec<String>>);
            let keys: Vec<_> = keys.flat_map(Result::unwrap).collect();
            let (first, rest) = keys.split_at(keys.len() / 2);
            move_all(first);
            midway.take().into_iter().for_each(|midway| midway());
            move_all(rest);
            moved += keys.len();
            if keys.is_empty() {
                break;
            }
        }
        self.assign(slots, from, to);
        moved
    }

    /// Says whose slots are, to both first and then to all, which would hear of it in time.
    fn assign(&self, slots: &[u16], from: usize, to: usize) {
        let id = &self.ids[to];
        let primaries = (0..self.nodes.len()).filter(|node| ![from, to].contains(node));
        for index in [to, from].into_iter().chain(primaries) {
            let node = &self.nodes[index];
            if !node.runs() || node.is_replica() {
                continue;
            }
            let set = slots
                .iter()
                .map(|slot| format!("CLUSTER SETSLOT {slot} NODE {id}"));
            node.ask_all(&set.collect::<Vec<_>>()).unwrap();
        }
        eventually("all know whose the slots are", || {
            let mut running = self.nodes.iter().filter(|node| node.runs());
            running.all(|node| {
                let owners = self.owners(&seen(node).unwrap_or_default());
                slots
                    .iter()
                    .all(|slot| owners[usize::from(*slot)] == Some(to))
            })
        });
    }

    /// A new primary, without a replica, which gets some slots of all others and the keys that are there.
    pub(crate) fn add_node(&mut self) -> usize {
        let new = self.nodes.len();
        self.begin_node();
        self.take_in(new);
        // Before it knows all it takes the cluster for broken, and no key.
        self.settle();
        let owners = self.owners(&seen(self.any()).unwrap());
        for from in 0..new {
            let slots = (0..SLOTS).filter(|slot| owners[usize::from(*slot)] == Some(from));
            let slots: Vec<_> = slots.take(SHARE).collect();
            let count = |slot: &u16| format!("CLUSTER COUNTKEYSINSLOT {slot}");
            let counts: Vec<_> = slots.iter().map(count).collect();
            let counts = self.nodes[from].ask_all(&counts).unwrap();
            let (full, empty): (Vec<_>, Vec<_>) = (slots.into_iter().zip(counts))
                .partition(|(_, count)| *count != redis::Value::Int(0));
            let [full, empty] = [full, empty].map(|slots| {
                slots
                    .into_iter()
                    .map(|(slot, _)| slot)
                    .collect::<Vec<u16>>()
            });
            if !empty.is_empty() {
                self.assign(&empty, from, new);
            }
            for slot in full {
                self.migrate_slot(slot, from, new, || ());
            }
        }
        self.settle();
        new
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&self, node: usize) {
        self.out(node, Node::kill);
    }

    /// The others take it for failed in time. When it is resumed it has yet to hear that it is no primary any more.
    pub(crate) fn pause(&self, node: usize) {
        self.out(node, Node::pause);
    }

    fn out(&self, node: usize, out: impl FnOnce(&Node)) {
        let seen = seen(&self.nodes[node]).unwrap();
        let mut own = seen.iter().filter(|it| it.is("myself"));
        let slot = own.find_map(|it| it.slots.first()).map(|it| *it.start());
        let begun = Instant::now();
        out(&self.nodes[node]);
        if let Some(slot) = slot {
            self.faults.lock().insert(node, (begun, slot));
        }
    }

    /// Waits until all that run know another primary instead of this one, which `kill` or `pause` took out: how long that took
    /// since then.
    pub(crate) fn wait_for_promotion(&self, of: usize) -> Duration {
        let (begun, slot) = self.faults.lock().remove(&of).expect("a primary, and out");
        eventually("another has been promoted", || {
            let mut running = self.nodes.iter().filter(|node| node.runs());
            running.all(|node| {
                let owners = self.owners(&seen(node).unwrap_or_default());
                let state: String = node.try_ask("CLUSTER INFO").unwrap_or_default();
                owners[usize::from(slot)].is_some_and(|owner| owner != of)
                    && info(&state, "cluster_state") == Some("ok")
            })
        });
        begun.elapsed()
    }

    /// Starts one again that was killed: it is a replica of the one that was promoted in its place.
    pub(crate) fn run_again(&self, node: usize) {
        self.nodes[node].run_again();
        self.settle();
    }

    pub(crate) fn resume(&self, node: usize) {
        self.nodes[node].resume();
        self.settle();
    }

    /// Nobody fails for it: when they are resumed they see that they were away, or promote somebody if that took long.
    pub(crate) fn pause_all(&self) {
        self.nodes.iter().for_each(Node::pause);
    }

    pub(crate) fn resume_all(&self) {
        self.nodes.iter().for_each(Node::resume);
        self.settle();
    }

    /// From now on no byte passes between it and clients or replicas, and no connection is closed. No other is promoted: the
    /// nodes hear of each other still. A partition with a promotion is `pause`.
    pub(crate) fn drop_network(&self, node: usize) {
        self.nodes[node].drop_network();
    }

    pub(crate) fn restore_network(&self, node: usize) {
        self.nodes[node].restore_network();
    }

    /// Another password, in the way of a rollover: with both for as long as `both` takes, then with the new one only. Clients
    /// that are in stay in, unless `put_out` says otherwise.
    pub(crate) fn set_password(&self, new: &str, both: impl FnOnce()) {
        self.house.add_password(&self.nodes, new);
        both();
        self.house.only_newest_password(&self.nodes);
    }

    /// Closes all clients' connections.
    pub(crate) fn put_out(&self) {
        self.house.put_out(&self.nodes);
    }

    /// Removes all keys.
    pub(crate) fn flush(&self) {
        for node in self.nodes.iter().filter(|node| node.runs()) {
            if !node.is_replica() {
                let () = node.ask("FLUSHALL");
            }
        }
    }
}

fn seen(node: &Node) -> RedisResult<Vec<Seen>> {
    let text: String = node.try_ask("CLUSTER NODES")?;
    Ok(text.lines().map(Seen::from_line).collect())
}

impl Seen {
    fn from_line(line: &str) -> Self {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap().to_owned();
        let (id, _, flags, primary) = (next(), next(), next(), next());
        let (_, _, _, link) = (next(), next(), next(), next());
        // "1", "1-5", and "[1->-id]" for one that is moving.
        let slots = words.filter(|slots| !slots.starts_with('['));
        let number = |number: &str| number.parse().unwrap();
        let range = |slots: &str| match slots.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(slots)..=number(slots),
        };
        Self {
            id,
            flags: flags.split(',').map(Into::into).collect(),
            primary,
            connected: link == "connected",
            slots: slots.map(range).collect(),
        }
    }

    fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|it| it == flag)
    }

    fn is_primary(&self) -> bool {
        self.is("master")
    }

    fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|slots| slots.contains(&slot))
    }
}
