//! What a user of Redis has to be allowed, as the README states it: no less will do, and no more is asked for.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use openssl_resumption::{
    HelloId, KeySource, RedisOptions, RedisStore, ReplayRegister, Session, SessionKey, SessionStore,
};

use crate::SECRET;
use crate::server::Redis;
use crate::topology::{Cluster, Node, Sentinels, Settings};

/// The rules in the README: for sessions and keys, for early data, for a cluster, and behind sentinels.
fn rules() -> [String; 4] {
    let readme = include_str!("../../README.md");
    let is_rule = |text: &&str| {
        let starts = |word: &str| word.starts_with(['+', '~']) && word.len() > 1;
        !text.trim().is_empty() && text.split_whitespace().all(starts)
    };
    let rules = readme.split('`').filter(is_rule);
    let rules: Vec<_> = rules.map(str::to_owned).collect();
    rules.try_into().expect("four rules in the README")
}

const PATIENCE: Duration = Duration::from_secs(5);

fn options(url: &str) -> RedisOptions {
    let options = RedisStore::connect(url).unwrap();
    options.deadline(PATIENCE).connect_deadline(PATIENCE)
}

/// Everything that a server does there, whether it succeeds or not.
fn use_all(options: &RedisOptions) {
    let hour = SystemTime::now() + Duration::from_secs(3_600);
    let ends = hour
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let session = || Session::from_bytes(&[&[1], &ends.to_be_bytes()[..], &[9; 40]].concat());
    let store = options.clone().plaintext();
    let register = options.clone().replay_register();
    for n in 0..40 {
        let [key, next] = [n, n + 100].map(|n| SessionKey::from([n; 32]));
        let _ = store.put(&key, session().unwrap());
        let _ = store.put_successor(&next, session().unwrap(), &key);
        let _ = (store.get(&key), store.take(&key), store.remove(&next));
        // The first that end are removed from the register.
        let lives = Duration::from_millis(5);
        let _ = register.register(&HelloId::from([n; 32]), lives);
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = store.remembers_takes(Duration::from_secs(1));
    let keys = options.clone().ticket_keys([SECRET]).unwrap();
    let _ = keys.load(SystemTime::now());
}

/// What was refused, by the server's own word.
fn refused(log: Vec<HashMap<String, redis::Value>>) -> Vec<String> {
    let object = |entry: HashMap<String, redis::Value>| {
        redis::from_redis_value(entry["object"].clone()).unwrap()
    };
    log.into_iter().map(object).collect()
}

/// With a password, and in another database than the first.
fn refused_on_one(redis: &Redis, rules: &str) -> Vec<String> {
    // A register that begins asks for more than one that goes on.
    let () = redis.ask("FLUSHALL");
    let _: redis::Value = redis.ask("ACL LOG RESET");
    let () = redis.ask(&format!("ACL SETUSER app reset on >right {rules}"));
    let port = redis.port;
    use_all(&options(&format!("redis://app:right@127.0.0.1:{port}/1")));
    refused(redis.ask("ACL LOG"))
}

#[test]
fn the_rules_of_the_readme_are_enough_and_none_too_many() {
    let redis = Redis::start("acl");
    let [sessions, early, _, _] = rules();
    let all = format!("{sessions} {early}");
    assert_eq!(refused_on_one(&redis, &all), [""; 0]);
    let mut words: Vec<_> = all.split_whitespace().collect();
    words.sort_unstable();
    words.dedup();
    for word in words.iter().filter(|word| word.starts_with('+')) {
        // A connection with a password begins with that: PING is for one without, and for nodes of a cluster.
        if *word == "+ping" {
            continue;
        }
        let others: Vec<_> = words
            .iter()
            .filter(|other| *other != word)
            .copied()
            .collect();
        let refused = refused_on_one(&redis, &others.join(" "));
        println!("without {word}: {refused:?}");
        assert!(
            refused.iter().any(|it| word[1..] == **it),
            "{word}: {refused:?}"
        );
    }
}

/// What these servers have refused to a user with these rules.
fn refused_on_all(nodes: &[Node], url: &str, rules: &[&str]) -> Vec<String> {
    for node in nodes {
        let rules = rules.join(" ");
        let () = node.ask(&format!("ACL SETUSER app reset on >right {rules}"));
    }
    use_all(&options(&url.replace("://", "://app:right@")));
    let log = |node: &Node| refused(node.ask("ACL LOG"));
    nodes.iter().flat_map(log).collect()
}

#[test]
fn the_rules_are_enough_in_a_cluster() {
    let cluster = Cluster::start_with("acl-cluster", Settings::steady());
    let [sessions, early, more, _] = rules();
    let rules = [&*sessions, &*early, &*more];
    assert_eq!(
        refused_on_all(cluster.nodes(), &cluster.url(), &rules),
        [""; 0]
    );
}

#[test]
fn the_rules_are_enough_behind_sentinels() {
    let sentinels = Sentinels::start("acl-sentinels");
    let [sessions, early, _, more] = rules();
    let rules = [&*sessions, &*early, &*more];
    let url = sentinels.url(Sentinels::NAME);
    assert_eq!(refused_on_all(sentinels.nodes(), &url, &rules), [""; 0]);
}
