//! Ticket keys in files over real handshakes: hosts with the same files, and files that change.

#![cfg(unix)]

use std::fs;
use std::path::PathBuf;

use crate::common::process::Scratch;
use crate::common::programs::eventually;
use crate::common::*;
use openssl::base64;
use openssl::ssl::SslContext;
use openssl_resumption::{
    Handshake::{Full, Resumed},
    KeyDialect, Reason, Resumption, Source, TicketKey, TicketKeys,
};

/// A server, and the keys that it reads.
struct Host {
    keys: TicketKeys,
    policy: Resumption,
    context: SslContext,
}

impl Host {
    fn new(dialect: KeyDialect, paths: &[PathBuf]) -> Self {
        let keys = TicketKeys::from_files(dialect, paths);
        let policy = Resumption::stateless(keys.clone());
        let context = context(&policy);
        Self {
            keys,
            policy,
            context,
        }
    }

    /// What becomes of a client that offers the session of that connection.
    fn offered(&self, client: &Client, met: &Met) -> Met {
        meet(&self.context, client, met.next())
    }
}

/// A key as it is in a file. Whatever the order, AES key and HMAC key differ.
fn key(n: u8, size: usize) -> Vec<u8> {
    let half = (size - 16) / 2;
    [vec![n; 16], vec![n + 50; half], vec![n + 100; half]].concat()
}

/// Replaces the files of the dialect, with these keys in the order in which it has them.
fn write(dialect: KeyDialect, scratch: &Scratch, keys: &[Vec<u8>]) -> Vec<PathBuf> {
    let contents = match dialect {
        KeyDialect::HaProxy => {
            let lines = keys.iter().map(|key| base64::encode_block(key) + "\n");
            vec![lines.collect::<String>().into_bytes()]
        }
        KeyDialect::Dnsdist => vec![keys.concat()],
        _ => keys.to_vec(),
    };
    let files = contents.iter().enumerate().map(|(i, content)| {
        let new = scratch.write("new", content);
        let path = scratch.0.join(format!("{i}.key"));
        fs::rename(new, &path).unwrap();
        path
    });
    files.collect()
}

/// Every dialect with every size of its keys.
fn dialects() -> impl Iterator<Item = (KeyDialect, usize)> {
    let all = KeyDialect::ALL.iter().copied();
    all.flat_map(|dialect| {
        let sizes: &[usize] = match dialect {
            KeyDialect::Nginx | KeyDialect::HaProxy | KeyDialect::Nghttpx => &[48, 80],
            KeyDialect::Apache => &[48],
            _ => &[80],
        };
        sizes.iter().map(move |size| (dialect, *size))
    })
}

fn kinds() -> [(Kind, Client); 2] {
    [Kind::Tls12, Kind::Tls13].map(|kind| (kind, Client::new(kind).unwrap()))
}

#[test]
fn tickets_cross_between_hosts_with_the_same_files_whatever_the_dialect() {
    for (dialect, size) in dialects() {
        let scratch = Scratch::new(&format!("fleet-{dialect}-{size}"));
        let keys = [1, 2, 3].map(|n| key(n, size));
        let paths = write(dialect, &scratch, &keys);
        let [a, b] = [(); 2].map(|()| Host::new(dialect, &paths));
        for (kind, client) in kinds() {
            let first = meet(&a.context, &client, None);
            let crossed = b.offered(&client, &first);
            assert_eq!(
                crossed.agreed(),
                Resumed(Source::Ticket),
                "{dialect} {size} {kind:?}"
            );
            let back = a.offered(&client, &crossed);
            assert_eq!(
                back.agreed(),
                Resumed(Source::Ticket),
                "{dialect} {size} {kind:?}"
            );
        }
        let tickets = b.policy.stats().tickets;
        assert_eq!((tickets.opened, tickets.opened_inactive), (2, 0));
    }
}

/// The name of the key under which the ticket is that a client was left with.
fn sealed_under(met: &Met) -> [u8; 16] {
    let session = met.next().unwrap();
    *session[field(session, TICKET).unwrap()]
        .first_chunk()
        .unwrap()
}

#[test]
fn the_key_seals_that_the_dialect_says_and_the_others_open() {
    for (dialect, size) in dialects() {
        let keys = [1, 2, 3].map(|n| key(n, size));
        let host = |keys: &[Vec<u8>], name: &str| {
            let scratch = Scratch::new(&format!("{name}-{dialect}-{size}"));
            Host::new(dialect, &write(dialect, &scratch, keys))
        };
        let own = host(&keys, "own");
        let sealing = match dialect {
            KeyDialect::HaProxy => 2,
            KeyDialect::Dnsdist => 3,
            _ => 1,
        };
        // Each of the keys seals in one of the orders.
        let turns = [[1, 2, 3], [2, 3, 1], [3, 1, 2]];
        let turns = turns.map(|order| host(&order.map(|n| key(n, size)), "turned"));
        for (_, client) in kinds() {
            let first = meet(&own.context, &client, None);
            assert_eq!(sealed_under(&first), [sealing; 16], "{dialect} {size}");
            let mut others = Vec::new();
            for turned in &turns {
                let met = meet(&turned.context, &client, None);
                others.push(sealed_under(&met)[0]);
                let here = own.offered(&client, &met);
                assert_eq!(here.agreed(), Resumed(Source::Ticket));
                // Tickets under other keys than the one that seals are renewed.
                assert_eq!(sealed_under(&here), [sealing; 16]);
            }
            others.sort_unstable();
            assert_eq!(others, [1, 2, 3], "{dialect} {size}");
        }
        assert_eq!(own.policy.stats().tickets.opened_inactive, 4);
    }
}

#[test]
fn the_same_file_is_another_key_in_a_dialect_of_another_order() {
    let scratch = Scratch::new("orders");
    let paths = write(KeyDialect::Nginx, &scratch, &[key(1, 80)]);
    let nginx = Host::new(KeyDialect::Nginx, &paths);
    let nghttpx = Host::new(KeyDialect::Nghttpx, &paths);
    for (_, client) in kinds() {
        let first = meet(&nginx.context, &client, None);
        let strayed = nghttpx.offered(&client, &first);
        // Of this name there is a key, but it does not fit.
        assert_eq!(strayed.agreed(), Full(Reason::Malformed));
    }
}

/// What this is for: a key is on every host before any host seals with it.
#[test]
fn hosts_that_get_their_files_one_after_the_other_resume_each_others_sessions() {
    for dialect in KeyDialect::ALL.iter().copied() {
        for count in [3, 4] {
            let names = ["one", "other"].map(|host| format!("late-{host}-{dialect}-{count}"));
            let scratches = names.map(|name| Scratch::new(&name));
            let mut keys: Vec<_> = (0..count).map(|_| dialect.random_key().unwrap()).collect();
            // A host as it is a moment after its files have been replaced.
            let host = |keys: &[TicketKey], scratch: &Scratch| {
                let files = dialect.format(keys).unwrap();
                let paths = files.iter().enumerate().map(|(i, file)| {
                    let path = scratch.write(&format!("{i}.key"), file.as_ref());
                    PathBuf::from(path)
                });
                Host::new(dialect, &paths.collect::<Vec<_>>())
            };
            let mut hosts = scratches.each_ref().map(|scratch| host(&keys, scratch));
            let clients = kinds().map(|(_, client)| client);
            // Sessions of both hosts, which clients hold until a host has other files.
            let mut held = Vec::new();
            for _ in 0..4 {
                dialect.rotate(&mut keys).unwrap();
                for replaced in [0, 1] {
                    hosts[replaced] = host(&keys, &scratches[replaced]);
                    for client in &clients {
                        let first = hosts.each_ref().map(|h| meet(&h.context, client, None));
                        held.extend(first.map(|met| (client, met)));
                    }
                    for (client, met) in &held {
                        for host in &hosts {
                            let crossed = host.offered(client, met);
                            assert_eq!(crossed.agreed(), Resumed(Source::Ticket), "{dialect}");
                        }
                    }
                    held.drain(..held.len().saturating_sub(4));
                }
            }
        }
    }
}

/// Waits until that is so, as long as the documentation says that a change takes.
/// It waits for the clock, as the one below does.
#[test]
fn a_fleet_follows_its_files() {
    let dialect = KeyDialect::Nginx;
    let scratch = Scratch::new("rotation");
    let rotate = |order: [u8; 2]| write(dialect, &scratch, &order.map(|n| key(n, 80)));
    let paths = rotate([1, 9]);
    let hosts = [(); 2].map(|()| Host::new(dialect, &paths));
    let sealing = |host: &Host, client: &Client| sealed_under(&meet(&host.context, client, None));
    let clients = kinds();
    let before = clients
        .each_ref()
        .map(|(_, client)| meet(&hosts[0].context, client, None));
    let everywhere = |n: u8| {
        let seals = |host| sealing(host, &clients[0].1) == [n; 16];
        eventually(&format!("all seal with {n}"), || hosts.iter().all(seals));
    };

    rotate([2, 1]);
    everywhere(2);
    for ((_, client), before) in clients.iter().zip(&before) {
        for host in &hosts {
            let old = host.offered(client, before);
            assert_eq!(
                old.agreed(),
                Resumed(Source::Ticket),
                "while its key is listed"
            );
            assert_eq!(sealed_under(&old), [2; 16], "renewed");
        }
    }

    // The key before is gone, and with it its tickets.
    rotate([3, 2]);
    everywhere(3);
    for ((_, client), before) in clients.iter().zip(&before) {
        for host in &hosts {
            let forgotten = host.offered(client, before);
            assert_eq!(forgotten.agreed(), Full(Reason::UnknownKey));
            assert_eq!(sealed_under(&forgotten), [3; 16]);
        }
    }
    for host in &hosts {
        let shown = format!("{:?}", host.keys);
        assert!(!shown.contains(&"01".repeat(16)), "{shown}");
    }

    // A file is lost: the hosts say so, and go on.
    let last = meet(&hosts[0].context, &clients[1].1, None);
    fs::remove_file(&paths[0]).unwrap();
    eventually("the loss is told", || {
        hosts.iter().all(|host| host.keys.last_error().is_some())
    });
    for host in &hosts {
        let met = host.offered(&clients[1].1, &last);
        assert_eq!(met.agreed(), Resumed(Source::Ticket));
        assert_eq!(sealed_under(&met), [3; 16]);
        assert!(host.policy.stats().tickets.key_failing);
        let error = host.keys.last_error().unwrap().to_string();
        assert!(error.contains("0.key: No such file"), "{error}");
    }
}

/// A mounted secret: the file is a link into `..data`, which is a link to a folder, and is replaced by another.
#[cfg(unix)]
#[test]
fn a_fleet_follows_the_links_of_kubernetes() {
    use std::os::unix::fs::symlink;
    let scratch = Scratch::new("kubernetes");
    let path = |name: &str| scratch.0.join(name);
    let swap = |n: u8, version: &str| {
        fs::create_dir(path(version)).unwrap();
        fs::write(path(version).join("ticket.key"), key(n, 80)).unwrap();
        symlink(version, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    swap(1, "..2026_11_27_one");
    symlink("..data/ticket.key", path("ticket.key")).unwrap();
    let host = Host::new(KeyDialect::Nginx, &[path("ticket.key")]);
    let client = Client::new(Kind::Tls13).unwrap();
    let sealed = || sealed_under(&meet(&host.context, &client, None));
    assert_eq!(sealed(), [1; 16]);
    swap(2, "..2026_11_27_two");
    fs::remove_dir_all(path("..2026_11_27_one")).unwrap();
    eventually("the new key seals", || sealed() == [2; 16]);
    assert_eq!(host.keys.last_error().map(|error| error.to_string()), None);
}

#[test]
fn a_server_does_not_start_with_files_that_are_wrong() {
    use openssl_resumption::SslContextBuilderExt;

    let scratch = Scratch::new("wrong");
    let path = scratch.0.join("missing.key");
    let refused = |path: &PathBuf| {
        let keys = TicketKeys::from_files(KeyDialect::Apache, [path]);
        let refused = acceptor().set_resumption(&Resumption::stateless(keys));
        refused.unwrap_err().to_string()
    };
    let missing = refused(&path);
    assert!(missing.contains("missing.key: No such file"), "{missing}");
    scratch.write("missing.key", &[7; 80]);
    let wrong = refused(&path);
    assert!(
        wrong.contains("80 bytes, but a key of apache has 48"),
        "{wrong}"
    );
}
