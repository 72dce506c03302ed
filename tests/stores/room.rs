//! A store has room for one client an entry: not for one resumption.

use crate::common::*;
use openssl::ssl::SslContext;
use openssl_resumption::{Handshake, MemoryStore, Resumption, Source};

const FROM_STORE: Handshake = Handshake::Resumed(Source::Store);

/// Clients that come in turn, each with the newest session that it has.
struct Clients {
    client: Client,
    sessions: Vec<Vec<u8>>,
}

impl Clients {
    fn new(client: Client, context: &SslContext, many: usize) -> Self {
        let first = || {
            let met = meet(context, &client, None);
            met.next().unwrap().to_vec()
        };
        let sessions = (0..many).map(|_| first()).collect();
        Self { client, sessions }
    }

    /// Each comes once. How many resumed.
    fn round(&mut self, context: &SslContext) -> usize {
        let visit = |session: &mut Vec<u8>| {
            let met = meet(context, &self.client, Some(session));
            if let Some(next) = met.next() {
                *session = next.to_vec();
            }
            usize::from(met.agreed() == FROM_STORE)
        };
        self.sessions.iter_mut().map(visit).sum()
    }
}

#[test]
fn a_store_for_a_thousand_has_room_for_900_clients() {
    for (kind, single_use) in [
        (Kind::Tls12, false),
        (Kind::Tls13, false),
        (Kind::Tls13, true),
    ] {
        let store = MemoryStore::new(1_000, 32 << 20);
        let context = context(&Resumption::stateful(store).single_use(single_use));
        let mut clients = Clients::new(Client::new(kind).unwrap(), &context, 900);
        for _ in 0..2 {
            assert_eq!(clients.round(&context), 900, "{kind:?} {single_use}");
        }
    }
}

#[test]
fn a_stranger_with_new_sessions_leaves_those_that_are_in_use() {
    for kind in [Kind::Tls12, Kind::Tls13] {
        let store = MemoryStore::new(100, 32 << 20);
        let context = context(&Resumption::stateful(store));
        let mut clients = Clients::new(Client::new(kind).unwrap(), &context, 80);
        assert_eq!(clients.round(&context), 80);
        Clients::new(Client::new(kind).unwrap(), &context, 300);
        assert_eq!(clients.round(&context), 80, "{kind:?}");
    }
}

/// `max_decoded` of 1 MiB has room for more than 60 of these.
#[test]
fn decoded_sessions_have_room_for_one_client_each() {
    let (ca, me) = ca_and_client();
    for (kind, single_use) in [
        (Kind::Tls12, false),
        (Kind::Tls13, false),
        (Kind::Tls13, true),
    ] {
        let policy = Resumption::stateful(MemoryStore::default())
            .max_decoded(1 << 20)
            .single_use(single_use);
        let context = demanding(&policy, &[&ca]);
        let mut clients = Clients::new(client_as(kind, &me), &context, 60);
        for _ in 0..3 {
            assert_eq!(clients.round(&context), 60);
        }
        assert_eq!(policy.stats().store.decoded, 0, "{kind:?} {single_use}");
    }
}

/// There is room, and a client may open several connections with one session.
#[test]
fn a_session_that_has_a_successor_resumes_again() {
    let policy = Resumption::stateful(MemoryStore::default());
    let context = context(&policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let first = meet(&context, &client, None);
    for _ in 0..5 {
        assert!(meet(&context, &client, first.next()).agreed() == FROM_STORE);
    }
}
