//! A connection whose client offers early data, as both ends saw it.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use crate::common::early::pair;
use crate::common::*;
use foreign_types::ForeignTypeRef;
use openssl::ssl::{Ssl, SslContext, SslRef};
use openssl_resumption::{
    EarlyData, HelloId, MemoryRegister, MemoryStore, Outcome, Registered, ReplayRegister,
    Resumption, SslRefExt, StoreError, TicketKeys, accept_early,
};

/// How much early data is taken.
pub(crate) const MAX: u32 = 16 * 1024;

/// The client's last word.
const END: &[u8] = b"\n.\n";

/// The modes that resume, each with a register that has nothing to wait for, and single use.
pub(crate) fn policies() -> [(&'static str, Resumption); 4] {
    let with_register = |policy: Resumption| {
        policy
            .early_data(MAX)
            .replay_register(MemoryRegister::default().sessions_end_with_process())
    };
    let stateful = || Resumption::stateful(MemoryStore::default());
    [
        ("stateful", with_register(stateful())),
        (
            "stateless",
            with_register(Resumption::stateless(TicketKeys::random())),
        ),
        (
            "hybrid",
            with_register(Resumption::hybrid(
                MemoryStore::default(),
                TicketKeys::random(),
            )),
        ),
        ("single use", stateful().early_data(MAX).single_use(true)),
    ]
}

/// A finished connection.
#[derive(Debug)]
pub(crate) struct MetEarly {
    pub(crate) seen: Seen,
    /// Whether the client was told that its early data is accepted.
    pub(crate) accepted: bool,
    /// What the server read before its handshake was finished.
    pub(crate) early: Vec<u8>,
    pub(crate) outcome: Outcome,
}

impl MetEarly {
    /// The newest session of the client.
    pub(crate) fn next(&self) -> &[u8] {
        self.seen.sessions.last().expect("a session")
    }

    /// What became of the early data, after making sure that both ends tell the same.
    #[track_caller]
    pub(crate) fn agreed(&self) -> EarlyData {
        let early = self.outcome.early_data.expect("it was offered");
        assert_eq!(early == EarlyData::Accepted, self.accepted, "{self:?}");
        assert_eq!(self.accepted, !self.early.is_empty(), "{self:?}");
        assert_eq!(self.outcome.is_resumed(), self.seen.resumed, "{self:?}");
        early
    }
}

/// Connects `client` to a server that accepts with `accept_early`. It offers `session`, sends `early` as early data, if there is
/// any, and again if that is not accepted; then a few bytes more.
#[track_caller]
pub(crate) fn meet_early(
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
    early: &[u8],
) -> MetEarly {
    let (near, far) = pair();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || {
        let mut stream = accept_early(ssl, far).unwrap();
        let (mut early, mut late) = (Vec::new(), Vec::new());
        let mut buffer = [0; 1_000];
        while !late.ends_with(END) {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{early:?} {late:?}");
            let to = if stream.is_early() {
                &mut early
            } else {
                &mut late
            };
            to.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(b"hello").unwrap();
        stream.shutdown().unwrap();
        (early, late, stream.ssl().resumption().expect("an outcome"))
    });
    let mut stream = client.start(near, session).unwrap();
    if !early.is_empty() {
        assert_eq!(stream.write_early_data(early).unwrap(), early.len());
    }
    stream.connect().unwrap();
    let accepted = is_accepted(stream.ssl());
    if !accepted {
        stream.write_all(early).unwrap();
    }
    stream.write_all(END).unwrap();
    let seen = client.finish(stream).unwrap();
    let (read_early, late, outcome) = server.join().unwrap();
    assert_eq!([&read_early[..], &late].concat(), [early, END].concat());
    MetEarly {
        seen,
        accepted,
        early: read_early,
        outcome,
    }
}

/// A session that may be used for early data, got in a full handshake.
#[track_caller]
pub(crate) fn session_of(context: &SslContext, client: &Client) -> Vec<u8> {
    meet(context, client, None)
        .next()
        .expect("a session")
        .to_vec()
}

/// A register that always says the same.
pub(crate) struct Saying(pub(crate) Answer);

pub(crate) type Answer = fn() -> Result<Registered, StoreError>;

impl ReplayRegister for Saying {
    fn register(&self, _: &HelloId, _: Duration) -> Result<Registered, StoreError> {
        (self.0)()
    }
}

#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
unsafe extern "C" {
    fn SSL_get_early_data_status(ssl: *const openssl_sys::SSL) -> std::ffi::c_int;
}

/// Whether early data was accepted, as this end sees it.
#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
pub(crate) fn is_accepted(ssl: &SslRef) -> bool {
    // SAFETY: reads a field of a live SSL.
    unsafe { SSL_get_early_data_status(ssl.as_ptr()) == 2 }
}
