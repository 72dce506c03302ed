//! Redis gets another password: both are good for a while, then the new one only.

use std::cell::RefCell;
use std::thread;
use std::time::Instant;

use super::{Course, WHILE, course};
use crate::common::Client;
use crate::common::programs::eventually;
use crate::load::{KINDS, on_time, visit};
use crate::topology::{Access, Cluster, Sentinels, Settings};

/// What the two kinds of several servers have in common here.
trait Locked {
    fn url(&self) -> String;
    fn set_password(&self, new: &str, both: &mut dyn FnMut());
    fn put_out(&self);
}

impl Locked for Cluster {
    fn url(&self) -> String {
        self.url()
    }

    fn set_password(&self, new: &str, both: &mut dyn FnMut()) {
        self.set_password(new, both);
    }

    fn put_out(&self) {
        self.put_out();
    }
}

impl Locked for Sentinels {
    fn url(&self) -> String {
        self.url(Self::NAME)
    }

    fn set_password(&self, new: &str, both: &mut dyn FnMut()) {
        self.set_password(new, both);
    }

    fn put_out(&self) {
        self.put_out();
    }
}

fn settings() -> Settings {
    Settings {
        access: Access::user("app", "old"),
        ..Settings::steady()
    }
}

#[test]
fn the_password_of_a_cluster_changes() {
    on_time(|| {
        let cluster = Cluster::start_with("load-password", settings());
        rolled_over("cluster, password", &cluster);
    });
}

#[test]
fn the_password_of_what_sentinels_watch_changes() {
    on_time(|| {
        let sentinels = Sentinels::start_with("load-sentinels-password", settings());
        rolled_over("sentinels, password", &sentinels);
    });
}

fn rolled_over(name: &str, redis: &impl Locked) {
    course(name, &redis.url(), &[], |course| {
        redis.set_password("new", &mut || {
            course.is_well("both passwords are good");
            // Connections with the old one are made anew.
            redis.put_out();
            course.until_well("put out, with both good", Instant::now());
        });
        // Those that are in stay in.
        course.is_well("the old password is not good any more");

        redis.put_out();
        for index in [0, 1] {
            course.until_error(index, "AUTH was refused: WRONGPASS");
        }
        let declined = course.during("with the old password", || thread::sleep(WHILE));
        assert_eq!(declined.resumed, 0, "{declined:?}");

        // The other one still has the old password.
        course.replace(0, &redis.url());
        let replaced = Instant::now();
        until_it_resumes(course, 0);
        println!(
            "{name}: resumes {:?} after it has begun",
            replaced.elapsed()
        );
        course.replace(1, &redis.url());
        course.until_well("both have the new one", Instant::now());
    });
}

/// Waits until a client that comes to this one only resumes.
#[track_caller]
fn until_it_resumes(course: &Course<'_>, index: usize) {
    for kind in KINDS {
        let client = Client::new(kind).unwrap();
        let session = RefCell::new(None::<Vec<u8>>);
        eventually("it resumes", || {
            let offered = session.take();
            let visit = visit(course.address(index), &client, offered.as_deref()).unwrap();
            session.replace(visit.session);
            visit.page["resumed"] == true
        });
    }
}
