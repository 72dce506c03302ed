//! Slots move to other nodes, with the sessions in them.

use std::thread;
use std::time::Duration;

use super::course;
use crate::load::on_time;
use crate::topology::{Cluster, Settings};

/// So many slots are moved at a time, of the 5,461 that a node has. To tell it whose they are keeps it busy.
const SLOTS: usize = 400;

/// How long they are between two nodes.
const HALFWAY: Duration = Duration::from_millis(2_500);

#[test]
fn slots_migrate_while_they_are_asked() {
    on_time(|| {
        let cluster = Cluster::start_with("load-migrates", Settings::steady());
        course("migration", &cluster.url(), &[], |course| {
            let answers = |code: &str| -> u64 {
                let nodes = cluster.nodes().iter();
                nodes.map(|node| node.errors(code)).sum()
            };
            let before = ["ASK", "MOVED"].map(answers);
            course.is_well_during("slots migrate", || {
                let slots = cluster.slots(0, SLOTS);
                let keys = cluster.migrate_slots(&slots, 0, 1, || thread::sleep(HALFWAY));
                println!("{keys} keys");
                assert!(keys > 0);
            });
            course.is_well("they have moved");
            let after = ["ASK", "MOVED"].map(answers);
            println!("ASK and MOVED: {after:?}, {before:?} before");
            assert!(
                after
                    .iter()
                    .zip(before)
                    .all(|(after, before)| *after > before)
            );
        });
    });
}

#[test]
fn a_node_is_added_and_gets_slots() {
    on_time(|| {
        let settings = Settings {
            // They get to know each other sooner than with a longer one.
            lines: "cluster-node-timeout 4000\ncluster-replica-no-failover yes",
            ..Settings::default()
        };
        let mut cluster = Cluster::start_with("load-grows", settings);
        let url = cluster.url();
        course("a new node", &url, &[], |course| {
            let mut new = 0;
            course.is_well_during("it is added", || new = cluster.add_node());
            course.is_well("with it");
            let keys: u64 = cluster.nodes()[new].ask("DBSIZE");
            println!("{keys} keys at the new node");
            assert!(keys > 0);
        });
    });
}
