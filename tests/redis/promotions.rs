//! Early data after a promotion: the register knows that it may have lost hellos, and a hello that was accepted before is
//! not accepted again.

use openssl_resumption::Registered;

use crate::register::{KEY, answer, knows_that_it_has_lost, register, warm_up};
use crate::topology::{Cluster, Sentinels};

#[test]
fn in_a_cluster() {
    let cluster = Cluster::start("promoted");
    let register = register(&cluster.url());
    let accepted = warm_up(&register, 10) + 1;
    let primary = cluster.primary_of(KEY);
    // What comes now its replica misses.
    cluster.nodes()[primary].drop_replication();
    assert_eq!(answer(&register, accepted), Registered::First);
    cluster.kill(primary);
    println!("promoted after {:?}", cluster.wait_for_promotion(primary));
    assert_ne!(cluster.primary_of(KEY), primary);
    knows_that_it_has_lost(&register, accepted);
}

#[test]
fn behind_sentinels() {
    let sentinels = Sentinels::start("promoted-sentinels");
    let register = register(&sentinels.url(Sentinels::NAME));
    let accepted = warm_up(&register, 10) + 1;
    sentinels.nodes()[sentinels.primary()].drop_replication();
    assert_eq!(answer(&register, accepted), Registered::First);
    let old = sentinels.kill_primary();
    println!("promoted after {:?}", sentinels.wait_for_promotion());
    assert_ne!(sentinels.primary(), old);
    knows_that_it_has_lost(&register, accepted);
}
