use super::*;
use crate::ffi::EarlySettings;
use crate::session::ClientIs;

fn stamp() -> Stamp {
    Stamp {
        time: 0,
        binding: [0; 16],
        authority: None,
        client: ClientIs::Anonymous,
        lineage: [0; 16],
        ended: false,
        chain: None,
    }
}

fn connection(policy: &Resumption) -> Connection {
    Connection::new(
        Arc::new(Applied::new(
            policy,
            SslVerifyMode::NONE,
            EarlySettings::default(),
            EarlySettings::default(),
        )),
        SystemTime::now(),
    )
}

fn settled(policy: &Resumption, reused: bool, act: impl FnOnce(&mut Connection)) -> Handshake {
    let mut connection = connection(policy);
    act(&mut connection);
    connection.complete(SslVersion::TLS1_3, reused, reused.then(stamp), None);
    connection.outcome().unwrap().handshake
}

#[test]
fn the_outcome_follows_what_was_offered() {
    let policy = Resumption::stateful(crate::MemoryStore::default());
    let full = |reason| Handshake::Full(reason);
    assert_eq!(
        settled(&policy, false, |_| {}),
        full(Reason::NothingOffered)
    );
    assert_eq!(
        settled(&policy, false, |c| c.decline(Reason::Expired)),
        full(Reason::Expired)
    );
    assert_eq!(
        settled(&policy, false, |c| c.supply(Source::Store, stamp(), None)),
        full(Reason::WrongContext)
    );
    assert_eq!(
        settled(&policy, true, |c| {
            c.decline(Reason::NotFound);
            c.supply(Source::Store, stamp(), None);
        }),
        Handshake::Resumed(Source::Store)
    );
    assert_eq!(
        settled(&policy, true, |_| {}),
        Handshake::Resumed(Source::Other)
    );
    assert_eq!(
        settled(&Resumption::off(), false, |_| {}),
        full(Reason::Off)
    );
}

#[test]
fn a_finished_connection_is_small() {
    let size = size_of::<Connection>();
    assert!(size < 184, "{size}: with what the allocator adds, 200");
}

#[test]
fn a_connection_is_counted_once() {
    let policy = Resumption::off();
    let mut connection = connection(&policy);
    connection.complete(SslVersion::TLS1_2, false, None, None);
    connection.complete(SslVersion::TLS1_2, true, None, None);
    let stats = policy.stats();
    assert_eq!((stats.tls12.full, stats.tls12.resumed), (1, 0));
}
