//! A primary ends, and a replica takes its place.

use std::time::Instant;

use super::course;
use crate::load::on_time;
use crate::topology::{Cluster, Sentinels};

#[test]
fn a_primary_of_a_cluster_is_killed() {
    on_time(|| {
        let cluster = Cluster::start("load-killed");
        course("cluster, killed", &cluster.url(), &[], |course| {
            let (killed, mut promoted) = (Instant::now(), Instant::now());
            course.during("nobody has its slots", || {
                cluster.kill(0);
                println!("promoted after {:?}", cluster.wait_for_promotion(0));
                promoted = Instant::now();
            });
            course.until_well("the promotion", promoted);
            println!("{:?} after the kill", killed.elapsed() - super::WHILE);
            course.is_well("without it");
            course.is_well_during("it comes back as a replica", || cluster.run_again(0));
        });
    });
}

#[test]
fn the_primary_of_sentinels_is_killed() {
    on_time(|| {
        let sentinels = Sentinels::start("load-sentinels-killed");
        let url = sentinels.url(Sentinels::NAME);
        course("sentinels, killed", &url, &[], |course| {
            let (killed, mut promoted) = (Instant::now(), Instant::now());
            let mut old = 0;
            course.during("there is no primary", || {
                old = sentinels.kill_primary();
                println!("promoted after {:?}", sentinels.wait_for_promotion());
                promoted = Instant::now();
            });
            course.until_well("the promotion", promoted);
            println!("{:?} after the kill", killed.elapsed() - super::WHILE);
            course.is_well("without it");
            // It says that it is a primary, until it is told otherwise.
            course.is_well_during("it comes back as a replica", || sentinels.run_again(old));
        });
    });
}
