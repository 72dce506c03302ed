//! The table of modes, cell by cell, and what policies and contexts share.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::common::*;
use openssl::ssl::{SslContext, SslOptions, SslSessionCacheMode, SslVersion};
use openssl_resumption::{
    Handshake::{self, Full, Resumed},
    MemoryStore, Reason, Resumption, Session, SessionKey, SessionStore, Source,
    SslContextBuilderExt, StoreError, TicketKeys,
};

const STORE: Handshake = Resumed(Source::Store);
const SEALED: Handshake = Resumed(Source::Ticket);
const NOTHING: Handshake = Full(Reason::NothingOffered);
const OFF: Handshake = Full(Reason::Off);

/// What the second of two connections is, by mode and kind of client: TLS 1.2 with the ticket extension, TLS 1.2 without,
/// TLS 1.3.
type Table = [(&'static str, [Handshake; 3]); 4];

const TABLE: Table = [
    ("stateful", [STORE, STORE, STORE]),
    ("stateless", [SEALED, NOTHING, SEALED]),
    ("hybrid", [SEALED, STORE, SEALED]),
    ("off", [OFF, OFF, OFF]),
];

const WITH_CERTIFICATE: Table = [
    ("stateful", [STORE, STORE, STORE]),
    ("stateless", [SEALED, NOTHING, SEALED]),
    ("hybrid", [SEALED, STORE, STORE]),
    ("off", [OFF, OFF, OFF]),
];

const WITHOUT_TLS12_TICKETS: Table = [
    ("stateful", [STORE, STORE, STORE]),
    ("stateless", [NOTHING, NOTHING, SEALED]),
    ("hybrid", [STORE, STORE, SEALED]),
    ("off", [OFF, OFF, OFF]),
];

const WITH_CERTIFICATE_WITHOUT_TLS12_TICKETS: Table = [
    ("stateful", [STORE, STORE, STORE]),
    ("stateless", [NOTHING, NOTHING, SEALED]),
    ("hybrid", [STORE, STORE, STORE]),
    ("off", [OFF, OFF, OFF]),
];

/// A cell of one of the tables, with a policy and a server of its own.
struct Cell {
    what: String,
    mode: &'static str,
    policy: Resumption,
    context: SslContext,
    kind: Kind,
    client: Client,
    expected: Handshake,
}

fn cells() -> Vec<Cell> {
    let (ca, me) = ca_and_client();
    let tables = [
        (false, true, TABLE),
        (true, true, WITH_CERTIFICATE),
        (false, false, WITHOUT_TLS12_TICKETS),
        (true, false, WITH_CERTIFICATE_WITHOUT_TLS12_TICKETS),
    ];
    let mut cells = Vec::new();
    for (certificate, tls12_tickets, table) in tables {
        for (at, (name, row)) in table.into_iter().enumerate() {
            for (kind, expected) in Kind::ALL.into_iter().zip(row) {
                let (mode, policy) = modes()[at].clone();
                assert_eq!(mode, name);
                let policy = policy.tls12_tickets(tls12_tickets);
                // All have a certificate, and not all are asked for it.
                let cas = [&ca];
                let context = match certificate {
                    true => demanding(&policy, &cas),
                    false => context(&policy),
                };
                cells.push(Cell {
                    what: format!(
                        "{mode} {kind:?}, certificate {certificate}, tickets in TLS 1.2 {tls12_tickets}"
                    ),
                    mode,
                    policy,
                    context,
                    kind,
                    client: client_as(kind, &me),
                    expected,
                });
            }
        }
    }
    cells
}

#[test]
fn every_cell_of_the_tables_holds() {
    for cell in cells() {
        let Cell {
            what, mode, policy, ..
        } = &cell;
        let [first, second] = meet_twice(&cell.context, &cell.client);
        let why = if *mode == "off" { OFF } else { NOTHING };
        assert_eq!(first.agreed(), why, "{what}");
        assert_eq!(second.agreed(), cell.expected, "{what}");

        // What each touches, and what it promises not to.
        let stats = policy.stats();
        let tls13 = cell.kind == Kind::Tls13;
        // TLS 1.2 makes one session in a full handshake; TLS 1.3 makes one for each ticket, and one more in a resumption.
        let made = match *mode {
            _ if !tls13 => 1,
            "stateful" => 2,
            _ => 3,
        };
        let of = |source| {
            let is_it = cell.expected == Resumed(source);
            (u64::from(is_it), if is_it { made } else { 0 })
        };
        let ((in_store, puts), (in_ticket, sealed)) = (of(Source::Store), of(Source::Ticket));
        assert_eq!(
            (stats.store.hits, stats.store.puts),
            (in_store, puts),
            "{what}"
        );
        let tickets = stats.tickets;
        assert_eq!(
            (tickets.opened, tickets.sealed),
            (in_ticket, sealed),
            "{what}"
        );
        assert_eq!(stats.resumed(Source::Store), in_store, "{what}");
        assert_eq!(stats.resumed(Source::Ticket), in_ticket, "{what}");
        assert_eq!(
            (stats.store.misses, stats.store.expired, stats.store.errors),
            (0, 0, 0),
            "{what}"
        );
        let undone = (tickets.unsealed, tickets.unknown_key, tickets.malformed);
        assert_eq!(undone, (0, 0, 0), "{what}");
        assert_eq!(stats.overridden, 0, "{what}");

        let resumed = in_store + in_ticket;
        let [this, other] = match tls13 {
            true => [stats.tls13, stats.tls12],
            false => [stats.tls12, stats.tls13],
        };
        assert_eq!((this.full, this.resumed), (2 - resumed, resumed), "{what}");
        assert_eq!((other.full, other.resumed), (0, 0), "{what}");
        assert_eq!(cell.context.session_cache_size(), 20_480, "left alone");
    }
}

/// Sealed or not is all that a network sees of the choice: a session id has 32 bytes.
#[test]
fn a_tls_1_3_ticket_has_32_bytes_where_the_session_is_in_the_store() {
    for cell in cells().iter().filter(|cell| cell.kind == Kind::Tls13) {
        for met in meet_twice(&cell.context, &cell.client) {
            for session in &met.client.sessions {
                let is_short = ticket(session).len() == 32;
                assert_eq!(is_short, cell.expected == STORE, "{}", cell.what);
            }
        }
    }
}

#[test]
fn twenty_resumptions_in_a_row_each_with_the_ticket_before() {
    for cell in cells() {
        let (what, expected) = (&cell.what, cell.expected);
        if matches!(expected, Full(_)) {
            continue;
        }
        let mut met = meet(&cell.context, &cell.client, None);
        let mut offered = vec![met.next().unwrap().to_vec()];
        for round in 1..=20 {
            met = meet(
                &cell.context,
                &cell.client,
                offered.last().map(Vec::as_slice),
            );
            assert_eq!(met.agreed(), expected, "{what} round {round}");
            offered.push(met.next().expect("the next ticket").to_vec());
        }
        if cell.kind == Kind::Tls13 {
            assert_eq!(offered.len(), 21);
            offered.sort_unstable();
            offered.dedup();
            assert_eq!(offered.len(), 21, "{what}: a ticket was given twice");
        }
    }
}

#[test]
fn the_number_of_tickets_is_as_told() {
    let client = Client::new(Kind::Tls13).unwrap();
    let tickets = |policy: &Resumption| meet(&context(policy), &client, None).client.sessions.len();
    for ((mode, policy), default) in modes().into_iter().zip([1, 2, 2, 0]) {
        assert_eq!(tickets(&policy), default, "{mode}");
        let told = if mode == "off" { 0 } else { 3 };
        assert_eq!(tickets(&policy.clone().tickets(3)), told, "{mode}");
        assert_eq!(tickets(&policy.tickets(0)), 0, "{mode}");
    }
}

#[test]
fn every_ticket_of_several_resumes() {
    for (mode, policy) in resuming() {
        let context = context(&policy.tickets(3));
        let client = Client::new(Kind::Tls13).unwrap();
        let first = meet(&context, &client, None);
        for ticket in &first.client.sessions {
            assert!(
                meet(&context, &client, Some(ticket)).client.resumed,
                "{mode}"
            );
        }
    }
}

#[test]
fn off_gives_tls_1_2_clients_nothing_to_offer() {
    let context = context(&Resumption::off());
    for kind in Kind::ALL {
        let met = meet(&context, &Client::new(kind).unwrap(), None);
        assert_eq!(met.client.sessions.len(), 0, "{kind:?}");
    }
}

#[test]
fn the_last_policy_on_a_builder_wins() {
    let (ca, me) = ca_and_client();
    for (i, (first_mode, first)) in modes().into_iter().enumerate() {
        for (j, (mode, policy)) in modes().into_iter().enumerate() {
            for (certificate, table) in [(false, TABLE), (true, WITH_CERTIFICATE)] {
                let context = context_changed(&first, |builder| {
                    if certificate {
                        demand_certificates(builder, &ca);
                    }
                    builder.set_resumption(&policy).unwrap();
                });
                for (kind, expected) in Kind::ALL.into_iter().zip(table[j].1) {
                    let [_, met] = meet_twice(&context, &client_as(kind, &me));
                    let what = format!("{first_mode}, then {mode} {kind:?} {certificate}");
                    assert_eq!(met.agreed(), expected, "{what}");
                }
            }
            assert_eq!(
                handshakes(&first.stats()),
                (0, 0),
                "{i} {first_mode}, then {mode}"
            );
            assert_eq!(policy.stats().overridden, 0, "{first_mode}, then {mode}");
        }
    }
}

/// A knob may be turned on a builder that has had the policy without it, and back.
#[test]
fn tls_1_2_tickets_may_be_taken_back_and_given_again() {
    for (at, (mode, policy)) in modes().into_iter().enumerate() {
        let without = policy.clone().tls12_tickets(false);
        let orders = [
            (&policy, &without, WITHOUT_TLS12_TICKETS),
            (&without, &policy, TABLE),
        ];
        for (first, then, table) in orders {
            let context = context_changed(first, |builder| builder.set_resumption(then).unwrap());
            for (kind, expected) in Kind::ALL.into_iter().zip(table[at].1) {
                let [_, met] = meet_twice(&context, &Client::new(kind).unwrap());
                assert_eq!(met.agreed(), expected, "{mode} {kind:?}");
            }
        }
        assert_eq!(policy.stats().overridden, 0, "{mode}");
    }
}

#[test]
fn a_reloaded_certificate_keeps_sessions_and_keys() {
    for (what, policy, kind) in resuming_clients() {
        let client = Client::new(kind).unwrap();
        let old = context(&policy);
        let met = meet(&old, &client, None);
        drop(old);

        let renewed = mint("localhost", None).unwrap();
        let new = context_with(&policy, |builder| {
            builder.set_certificate(&renewed.cert).unwrap();
            builder.set_private_key(&renewed.key).unwrap();
        });
        assert!(meet(&new, &client, met.next()).client.resumed, "{what}");
    }
}

#[test]
fn clones_share_sessions_and_statistics_but_not_knobs() {
    let policy = Resumption::stateful(MemoryStore::default());
    let (shop, blog) = (policy.clone().scope("shop"), policy.clone().scope("blog"));
    let (shop, blog) = (context(&shop), context(&blog));
    for kind in Kind::ALL {
        let client = Client::new(kind).unwrap();
        let met = meet(&shop, &client, None);
        let strayed = meet(&blog, &client, met.next());
        assert_eq!(strayed.agreed(), Full(Reason::NotFound), "{kind:?}");
        assert!(meet(&shop, &client, met.next()).client.resumed, "{kind:?}");
    }
    assert_eq!(handshakes(&policy.stats()), (6, 3));
}

#[test]
fn tickets_of_another_scope_are_opened_and_refused() {
    let keys = TicketKeys::random();
    let shop = Resumption::stateless(keys.clone()).scope("shop");
    let blog = Resumption::stateless(keys).scope("blog");
    for kind in [Kind::Tls12, Kind::Tls13] {
        let client = Client::new(kind).unwrap();
        let met = meet(&context(&shop), &client, None);
        let strayed = meet(&context(&blog), &client, met.next());
        assert_eq!(strayed.agreed(), Full(Reason::OtherBinding), "{kind:?}");
        let at_home = meet(&context(&blog), &client, strayed.next());
        assert_eq!(
            at_home.agreed(),
            Resumed(Source::Ticket),
            "a declined client gets a ticket"
        );
    }
    let tickets = blog.stats().tickets;
    assert_eq!(
        (tickets.opened, tickets.unknown_key, tickets.malformed),
        (4, 0, 0)
    );
}

#[test]
fn an_mtls_server_resumes() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in resuming_clients() {
        let [_, met] = meet_twice(&demanding(&policy, &[&ca]), &client_as(kind, &me));
        assert!(matches!(met.agreed(), Resumed(_)), "{what}");
    }
}

#[test]
fn a_hello_retry_request_asks_the_store_once() {
    let policy = Resumption::stateful(MemoryStore::default());
    let (context, client) = retrying(&policy);
    let [first, second] = meet_twice(&context, &client);
    assert_eq!(second.agreed(), Resumed(Source::Store));
    assert_eq!(policy.stats().store.hits, 1);

    let mut unknown = first.next().unwrap().to_vec();
    let ticket = field(&unknown, TICKET).unwrap();
    assert_eq!(ticket.len(), 32);
    unknown[ticket.start] ^= 1;
    let met = meet(&context, &client, Some(&unknown));
    assert_eq!(met.agreed(), Full(Reason::NotFound));
    assert_eq!(policy.stats().store.misses, 1);
}

#[test]
fn each_ticket_is_counted_once_also_with_a_hello_retry_request() {
    let policy = Resumption::stateless(TicketKeys::random());
    let (context, client) = retrying(&policy);
    let [_, met] = meet_twice(&context, &client);
    assert_eq!(met.agreed(), Resumed(Source::Ticket));
    let tickets = policy.stats().tickets;
    assert_eq!((tickets.sealed, tickets.opened), (3, 1));
}

#[test]
fn settings_changed_afterwards_are_noticed_and_connections_complete() {
    type Change = fn(&mut openssl::ssl::SslAcceptorBuilder);
    let changes: [(&str, Change); 5] = [
        ("options", |b| {
            b.set_options(SslOptions::NO_TICKET);
        }),
        ("cache mode", |b| {
            b.set_session_cache_mode(SslSessionCacheMode::SERVER);
        }),
        ("session callback", |b| {
            b.set_new_session_callback(|_, _| {})
        }),
        ("number of tickets", |b| b.set_num_tickets(7).unwrap()),
        ("early data", |b| b.set_max_early_data(1_000).unwrap()),
    ];
    for (what, change) in changes {
        let policy = Resumption::stateless(TicketKeys::random());
        let context = context_changed(&policy, change);
        for kind in Kind::ALL {
            let [_, met] = meet_twice(&context, &Client::new(kind).unwrap());
            met.agreed();
        }
        assert_eq!(policy.stats().overridden, 1, "{what}: once a context");
        let (full, resumed) = handshakes(&policy.stats());
        assert_eq!(full + resumed, 6, "{what}");
    }
}

/// Without a ticket-key callback of ours OpenSSL would seal under a key of its own, past us.
#[test]
fn tickets_switched_on_afterwards_are_not_sealed_by_openssl() {
    for policy in [
        Resumption::stateful(MemoryStore::default()),
        Resumption::off().tickets(2),
    ] {
        let context = context_changed(&policy, |builder| {
            builder.clear_options(SslOptions::NO_TICKET);
            builder.set_num_tickets(2).unwrap();
        });
        for kind in [Kind::Tls12, Kind::Tls13] {
            let [_, second] = meet_twice(&context, &Client::new(kind).unwrap());
            assert!(!second.client.resumed, "{policy:?} {kind:?}");
            second.agreed();
        }
        assert_eq!(
            (policy.stats().tickets.sealed, policy.stats().overridden),
            (0, 2)
        );
    }
}

#[test]
fn sessions_live_as_long_as_told() {
    let hours = Duration::from_secs(3 * 3_600);
    for (mode, policy) in resuming() {
        let context = context(&policy.lifetime(hours));
        for kind in [Kind::Tls12, Kind::Tls13] {
            let met = meet(&context, &Client::new(kind).unwrap(), None);
            // In TLS 1.2 a client without a hint has a timeout of its own.
            if mode != "stateful" || kind == Kind::Tls13 {
                // A session dates from the start of its handshake, some seconds ago on a busy
                // machine.
                let hint = hint(met.next().unwrap());
                let about = hours.as_secs() - 10..=hours.as_secs();
                assert!(about.contains(&hint), "{mode} {kind:?}: {hint}");
            }
        }
    }

    #[derive(Default)]
    struct Keeping(Mutex<Vec<Session>>);
    impl SessionStore for Keeping {
        fn put(&self, _: &SessionKey, session: Session) -> Result<(), StoreError> {
            self.0.lock().unwrap().push(session);
            Ok(())
        }
        fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
            Ok(None)
        }
        fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let store = Arc::new(Keeping::default());
    let context = context(&Resumption::stateful(Arc::clone(&store)).lifetime(hours));
    let earliest = SystemTime::now() + hours - Duration::from_secs(10);
    for kind in Kind::ALL {
        meet(&context, &Client::new(kind).unwrap(), None);
    }
    let latest = SystemTime::now() + hours;
    for session in store.0.lock().unwrap().iter() {
        assert!(
            (earliest..=latest).contains(&session.expires_at()),
            "{session:?}"
        );
    }
}

/// OpenSSL tells of every dropped connection by it.
#[test]
fn session_callbacks_set_before_are_replaced() {
    for (mode, policy) in modes() {
        let context = context_with(&policy, |builder| {
            builder.set_new_session_callback(|_, _| panic!("new"));
            builder.set_remove_session_callback(|_, _| panic!("remove"));
        });
        for kind in Kind::ALL {
            let [_, met] = meet_twice(&context, &Client::new(kind).unwrap());
            met.agreed();
        }
        assert_eq!(policy.stats().overridden, 0, "{mode}");
    }
}

/// A client's context keeps no sessions, as the docs say, and nothing of it is counted.
#[test]
fn on_a_clients_context_a_policy_counts_nothing() {
    let policy = Resumption::stateful(MemoryStore::default());
    let client = Client::with(Kind::Tls13, |context| {
        context.set_resumption(&policy).unwrap();
        Ok(())
    })
    .unwrap();
    let server = context(&Resumption::off());
    assert_eq!(meet(&server, &client, None).client.sessions.len(), 0);
    assert_eq!(
        (handshakes(&policy.stats()), policy.stats().store.puts),
        ((0, 0), 0)
    );
}

#[test]
fn policies_and_outcomes_cross_threads() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug + 'static>() {}
    shared::<Resumption>();
    shared::<TicketKeys>();
    shared::<openssl_resumption::Outcome>();
    shared::<openssl_resumption::Stats>();
}

/// RFC 8446, appendix D.4: a client that offers TLS 1.3 sends a random session id for the sake of middleboxes.
#[test]
fn at_a_server_without_tls_1_3_a_new_client_that_offers_it_costs_a_lookup() {
    for (mode, policy) in modes() {
        let context = context_with(&policy, |builder| {
            let version = Some(SslVersion::TLS1_2);
            builder.set_max_proto_version(version).unwrap();
        });
        let client = Client::with(Kind::Tls13, |context| {
            context.set_min_proto_version(Some(SslVersion::TLS1_2))
        });
        let met = meet(&context, &client.unwrap(), None);
        let (reason, misses) = match mode {
            "stateful" | "hybrid" => (Reason::NotFound, 1),
            "off" => (Reason::Off, 0),
            _ => (Reason::NothingOffered, 0),
        };
        assert_eq!(met.agreed(), Full(reason), "{mode}");
        assert_eq!(policy.stats().store.misses, misses, "{mode}");
    }
}

/// As FTPS servers want it: a data connection resumes the session of its control connection.
#[test]
fn a_scope_for_each_control_connection_ties_its_data_connections_to_it() {
    for (what, policy, kind) in resuming_clients() {
        let [one, other] = [b"control 1", b"control 2"].map(|scope| {
            // One store and ring for all.
            context(&policy.clone().scope(scope))
        });
        let client = Client::new(kind).unwrap();
        let control = meet(&one, &client, None);
        let elsewhere = meet(&other, &client, control.next());
        assert!(!elsewhere.client.resumed, "{what}");
        let data = meet(&one, &client, control.next());
        assert!(data.client.resumed, "{what}");
    }
}
