//! Key files that a server of another make is running with, in use here too.

use KeyDialect::{Apache, HaProxy, Nghttpx, Nginx, OpenSsl};
use openssl::rand::rand_bytes;
use openssl_resumption::Handshake::{Full, Resumed};
use openssl_resumption::{KeyDialect, Reason, Resumption, Source, TicketKeys};

use crate::common::process::Scratch;
use crate::common::*;
use crate::peer::Peer;
use crate::python;

/// Kinds of keys: the server, how long they are, and what comes after the name, as its
/// documentation has it. Then somebody who has keys of this length in the other order, each in a
/// file.
const MAKES: [(KeyDialect, usize, &str, KeyDialect); 4] = [
    (Nginx, 80, "hmac aes", Nghttpx),
    (Nginx, 48, "aes hmac", Apache),
    (HaProxy, 80, "aes hmac", OpenSsl),
    (HaProxy, 48, "aes hmac", Apache),
];

/// A server with random keys, of which we have the same files.
struct Pair {
    what: String,
    dialect: KeyDialect,
    order: &'static str,
    misread: KeyDialect,
    keys: [Vec<u8>; 4],
    peer: Peer,
}

impl Pair {
    fn all() -> impl Iterator<Item = Self> {
        MAKES.into_iter().map(|(dialect, size, order, misread)| {
            let keys = [(); 4].map(|()| {
                let mut key = vec![0; size];
                rand_bytes(&mut key).unwrap();
                key
            });
            let peer = Peer::start(dialect, &keys);
            Self {
                what: format!("{dialect} {size}"),
                dialect,
                order,
                misread,
                keys,
                peer,
            }
        })
    }

    /// The key that seals, as the documentation of the server has it.
    fn sealing(&self) -> &[u8] {
        let [first, .., last_but_one, _] = &self.keys;
        match self.dialect {
            HaProxy => last_but_one,
            _ => first,
        }
    }

    fn policy(&self) -> Resumption {
        let files = self.peer.key_files();
        Resumption::stateless(TicketKeys::from_files(self.dialect, files))
    }
}

const KINDS: [Kind; 2] = [Kind::Tls12, Kind::Tls13];

/// The session that the client offers next.
fn last(seen: &Seen) -> &[u8] {
    seen.sessions.last().expect("a session")
}

#[test]
fn a_servers_ticket_opens_here_but_is_no_session_of_ours() {
    for pair in Pair::all() {
        for kind in KINDS {
            let what = format!("{} {kind:?}", pair.what);
            let client = Client::new(kind).unwrap();
            let theirs = pair.peer.meet(&client, None);
            let again = pair.peer.meet(&client, Some(last(&theirs)));
            assert!(again.resumed, "{what}: not even there");

            let policy = pair.policy();
            let met = meet(&context(&policy), &client, Some(last(&theirs)));
            assert_eq!(met.agreed(), Full(Reason::NoStamp), "{what}");
            let tickets = policy.stats().tickets;
            let counted = (tickets.opened, tickets.malformed, tickets.unknown_key);
            assert_eq!(counted, (1, 0, 0), "{what}");
        }
    }
}

#[test]
fn our_ticket_is_a_full_handshake_there() {
    for pair in Pair::all() {
        for kind in KINDS {
            let what = format!("{} {kind:?}", pair.what);
            let client = Client::new(kind).unwrap();
            let ours = context(&pair.policy());
            let [first, second] = meet_twice(&ours, &client);
            assert_eq!(second.agreed(), Resumed(Source::Ticket), "{what}");

            let seen = pair.peer.meet(&client, first.next());
            assert!(!seen.resumed, "{what}");
            assert!(pair.peer.meet(&client, Some(last(&seen))).resumed, "{what}");
        }
    }
}

#[test]
fn the_same_key_seals_there_and_here_and_python_opens_both() {
    for pair in Pair::all() {
        for kind in KINDS {
            let client = Client::new(kind).unwrap();
            let theirs = pair.peer.meet(&client, None);
            let ours = meet(&context(&pair.policy()), &client, None);
            for (whose, seen) in [("theirs", &theirs), ("ours", &ours.client)] {
                let what = format!("{} {kind:?} {whose}", pair.what);
                let session = last(seen);
                let ticket = ticket(session);
                assert_eq!(ticket[..16], pair.sealing()[..16], "{what}");
                let inside = python::open(ticket, pair.sealing(), pair.order);
                assert_eq!(secret_of(&inside), secret_of(session), "{what}");
            }
        }
    }
}

#[test]
fn read_in_the_order_of_another_server_a_key_opens_nothing() {
    for pair in Pair::all() {
        let scratch = Scratch::new(&format!("misread-{}", pair.what));
        let file = scratch.write("key", pair.sealing());
        for kind in KINDS {
            let client = Client::new(kind).unwrap();
            let theirs = pair.peer.meet(&client, None);
            let policy = Resumption::stateless(TicketKeys::from_files(pair.misread, [&file]));
            let met = meet(&context(&policy), &client, Some(last(&theirs)));
            assert_eq!(met.agreed(), Full(Reason::Malformed), "{}", pair.what);
            assert_eq!(policy.stats().tickets.opened, 0, "{}", pair.what);
        }
    }
}

#[test]
fn a_server_takes_the_files_that_we_write() {
    // Apache has keys of 48 bytes.
    for (dialect, of) in [
        (Nginx, Nginx),
        (Nginx, Apache),
        (HaProxy, HaProxy),
        (HaProxy, Apache),
    ] {
        let keys: Vec<_> = (0..4).map(|_| of.random_key().unwrap()).collect();
        let peer = Peer::start_with(dialect, &dialect.format(&keys).unwrap());
        let client = Client::new(Kind::Tls13).unwrap();
        let theirs = peer.meet(&client, None);
        assert_eq!(ticket(last(&theirs))[..16], *keys[0].name(), "{dialect}");

        let keys = TicketKeys::from_files(dialect, peer.key_files());
        let ours = context(&Resumption::stateless(keys));
        let met = meet(&ours, &client, Some(last(&theirs)));
        assert_eq!(met.agreed(), Full(Reason::NoStamp), "{dialect}");
    }
}
