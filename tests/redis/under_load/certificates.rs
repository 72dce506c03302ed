//! Redis' certificates expire, and those who ask need one too.

use std::thread;
use std::time::Instant;

use super::{WHILE, course};
use crate::load::on_time;
use crate::topology::{Cluster, Settings};

#[test]
fn the_certificate_of_a_cluster_expires() {
    on_time(|| {
        let settings = Settings {
            client_certificates: true,
            ..Settings::steady()
        };
        let cluster = Cluster::start_with("load-expired", settings);
        let (url, options) = (cluster.url(), cluster.server_options());
        course("cluster, certificate", &url, &options, |course| {
            cluster.expire_certificate();
            // Connections that are there stay.
            course.is_well("expired");

            cluster.put_out();
            let declined = course.during("nobody can connect", || thread::sleep(WHILE));
            assert_eq!(declined.resumed, 0, "{declined:?}");
            // One that had connections says why it has none, and so does one that begins.
            course.until_error(1, "certificate has expired");
            course.replace(0, &url);
            course.until_error(0, "certificate has expired");

            let renewed = Instant::now();
            cluster.renew_certificate();
            course.until_well("another certificate", renewed);

            // With the CA alone one is not let in, and says so.
            course.replace_with(0, &url, &options[..2]);
            course.until_error(0, "certificate");
            course.replace(0, &url);
            course.until_well("it shows a certificate", Instant::now());
        });
    });
}
