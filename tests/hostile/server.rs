//! A server whose connections are all checked, and a client that has a session of it.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Once;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslAcceptorBuilder, SslContext, SslStream};
use openssl_resumption::{
    Handshake::{self, Resumed},
    Reason, Resumption, Source, SslRefExt,
};

use crate::common::*;
use crate::der::{content, with_field};
use crate::ends::{End, Party, record};

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// A server that counts its handshakes, to compare with the policy's own count.
pub(crate) struct Server {
    pub(crate) policy: Resumption,
    context: SslContext,
    completed: Cell<u64>,
}

impl Server {
    pub(crate) fn new(policy: &Resumption) -> Self {
        Self::with(policy, |_| ())
    }

    pub(crate) fn with(policy: &Resumption, adjust: impl FnOnce(&mut SslAcceptorBuilder)) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                PANICS.set(PANICS.get() + 1);
                before(panic);
            }));
        });
        let (full, resumed) = handshakes(&policy.stats());
        Self {
            policy: policy.clone(),
            context: context_with(policy, adjust),
            completed: Cell::new(full + resumed),
        }
    }

    /// A connection that must succeed.
    #[track_caller]
    pub(crate) fn meet(&self, client: &Client, session: Option<&[u8]>) -> Met {
        match self.try_meet(client, session) {
            Ok(met) => met,
            Err(failure) => panic!("{failure}"),
        }
    }

    #[track_caller]
    pub(crate) fn try_meet(&self, client: &Client, session: Option<&[u8]>) -> Result<Met, String> {
        self.meet_over(client, session, |hello| vec![hello])
    }

    /// A connection whose ClientHello, one record, arrives as `network` says, in pieces: each is
    /// read before the next is there.
    #[track_caller]
    fn meet_over(
        &self,
        client: &Client,
        session: Option<&[u8]>,
        network: impl FnOnce(Vec<u8>) -> Vec<Vec<u8>>,
    ) -> Result<Met, String> {
        let panics = PANICS.get();
        let (mut near, far) = (End::default(), End::default());
        let (sent, arrives) = (near.to.clone(), far.from.clone());
        near.from = far.to.clone();
        let closed = Rc::clone(&far.closed);
        let mut server = Party::from(Ssl::new(&self.context).unwrap().accept(far));
        let mut client_side = Party::from(client.connect(near, session));
        for piece in network(sent.take()) {
            arrives.push(&piece);
            server = server.go_on();
        }
        loop {
            client_side = client_side.go_on();
            let flight = sent.take();
            if flight.is_empty() {
                break;
            }
            arrives.push(&flight);
            server = server.go_on();
        }
        closed.set(true);
        let server = match server.go_on() {
            Party::Done(stream) => stream,
            failed => {
                self.check(panics);
                let failures = (client_side.failure(), failed.failure());
                return Err(format!("client: {}; server: {}", failures.0, failures.1));
            }
        };
        self.completed.set(self.completed.get() + 1);
        let met = finish(client, client_side, server);
        self.check(panics);
        met
    }

    /// A client that sends these bytes and leaves: its connection fails, and nothing else.
    #[track_caller]
    pub(crate) fn hear(&self, bytes: &[u8]) {
        let panics = PANICS.get();
        let end = End::default();
        end.closed.set(true);
        end.from.push(bytes);
        let server = Party::from(Ssl::new(&self.context).unwrap().accept(end));
        assert!(matches!(server, Party::Failed(_)), "{}", server.failure());
        drop(server);
        self.check(panics);
    }

    /// Whether what was counted adds up, and nothing has panicked since: the library would have
    /// caught it.
    #[track_caller]
    fn check(&self, panics: u32) {
        let stats = self.policy.stats();
        let full: u64 = Reason::ALL.iter().map(|reason| stats.full(*reason)).sum();
        let resumed: u64 = Source::ALL
            .iter()
            .map(|source| stats.resumed(*source))
            .sum();
        assert_eq!(handshakes(&stats), (full, resumed), "{stats:?}");
        assert_eq!(full + resumed, self.completed.get(), "{stats:?}");
        assert_eq!(PANICS.get(), panics, "something panicked");
    }

    /// A new client of this server, with a session.
    #[track_caller]
    pub(crate) fn guest(&self, kind: Kind) -> Guest<'_> {
        let client = Client::new(kind).unwrap().server_name("shop.example");
        let session = self.meet(&client, None).next().unwrap().to_vec();
        let hello = client.hello(Some(&session));
        assert_eq!(hello, record(&hello[5..]), "one record");
        Guest {
            server: self,
            kind,
            client,
            session,
            hello,
        }
    }
}

/// The server says hello and both close.
fn finish(client: &Client, client_side: Party, mut server: SslStream<End>) -> Result<Met, String> {
    server.write_all(b"hello").unwrap();
    server.shutdown().unwrap();
    let outcome = server.ssl().resumption();
    let server_reused = server.ssl().session_reused();
    let authenticated = server.ssl().peer_certificate().is_some();
    drop(server);
    match client_side {
        Party::Done(stream) => Ok(Met {
            client: client.finish(stream).map_err(|e| e.to_string())?,
            outcome,
            server_reused,
            authenticated,
            errors: ErrorStack::get().errors().len(),
        }),
        failed => Err(format!("client: {}; server: fine", failed.failure())),
    }
}

/// A client that has a session, and what is done in its name.
pub(crate) struct Guest<'a> {
    pub(crate) server: &'a Server,
    pub(crate) kind: Kind,
    pub(crate) client: Client,
    pub(crate) session: Vec<u8>,
    /// A ClientHello that offers the session.
    pub(crate) hello: Vec<u8>,
}

impl Guest<'_> {
    /// Offers the session with another ticket in it.
    #[track_caller]
    pub(crate) fn offer(&self, ticket: &[u8]) -> Result<Handshake, String> {
        let session = with_field(&self.session, TICKET, Some(ticket));
        let met = self.server.try_meet(&self.client, Some(&session))?;
        Ok(met.agreed())
    }

    pub(crate) fn ticket(&self) -> &[u8] {
        content(&self.session, TICKET)
    }

    /// Offers the session in a hello that arrives as `network` says, as in `meet_over`.
    #[track_caller]
    pub(crate) fn offer_over(
        &self,
        network: impl FnOnce(Vec<u8>) -> Vec<Vec<u8>>,
    ) -> Result<Handshake, String> {
        let session = Some(&*self.session);
        let met = self.server.meet_over(&self.client, session, network)?;
        Ok(met.agreed())
    }

    /// Whatever has happened: whose session it is resumes it.
    #[track_caller]
    pub(crate) fn still_resumes(&self) {
        let met = self.server.meet(&self.client, Some(&self.session));
        assert!(matches!(met.agreed(), Resumed(_)), "{:?}", self.kind);
    }
}
