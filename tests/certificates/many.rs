//! A great many clients, each with a certificate of its own.

use std::env;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;

use openssl::ssl::{Ssl, SslContext, SslStream};
use openssl_resumption::{
    ClientCertificates,
    Handshake::{self, Full, Resumed},
    Reason, Resumption, Source, SslRefExt, TicketKeys,
};

use crate::common::*;

/// How many there are, if nobody says otherwise. Each thousand takes some three seconds.
const CLIENTS: usize = 2_000;

/// A chain of so many bytes counts as 160 KB: there is room for fifty.
const PADDING: usize = 10_000;

/// What is kept of clients has an end. Who has none of it left comes in by a full handshake.
#[test]
fn what_is_kept_of_many_clients_is_bounded_and_none_of_them_is_failed() {
    let count = env::var("OPENSSL_RESUMPTION_CLIENTS");
    let count = count.map_or(CLIENTS, |count| count.parse().unwrap());
    let ca = mint("clients", None).unwrap();
    let policy =
        Resumption::stateless(TicketKeys::random()).client_certificates(ClientCertificates::Verify);
    let context = demanding(&policy, &[&ca]);

    let visit = |step: usize| {
        let client = Client::new(Kind::Tls13).unwrap();
        let visitors = (step..count).step_by(2).map(|number| {
            let visitor = Visitor::new(number, &ca);
            let (handshake, session) = visitor.visit(&context, &client, None);
            assert_eq!(handshake, Full(Reason::NothingOffered));
            (visitor, session)
        });
        let visitors: Vec<_> = visitors.collect();
        // Those whose chains are still kept come first.
        for (visitor, session) in visitors.iter().rev() {
            match visitor.visit(&context, &client, Some(session)).0 {
                Resumed(Source::Ticket) => {}
                Full(Reason::UnknownChain) if visitor.between.is_some() => {}
                handshake => panic!("{handshake:?}"),
            }
        }
    };
    thread::scope(|scope| {
        [0, 1]
            .map(|step| scope.spawn(move || visit(step)))
            .map(drop)
    });

    let stats = policy.stats();
    let certificates = stats.certificates;
    assert!(certificates.verdicts <= 65_536, "{certificates:?}");
    assert!(certificates.chain_bytes <= 8 << 20, "{certificates:?}");
    assert_eq!(stats.failed_closed, 0);
    let (full, resumed) = handshakes(&stats);
    assert_eq!(full + resumed, 2 * count as u64, "{stats:?}");
    assert_eq!(certificates.verifications, resumed, "one each");
    let with_chains = count.div_ceil(10);
    assert!(certificates.chains < with_chains, "{certificates:?}");
    assert!(certificates.chains > 40, "{certificates:?}");
    let without = (count - with_chains) as u64;
    assert!(resumed > without + 40, "{stats:?}");
}

/// A client that lives without a context of its own, for there are many.
struct Visitor {
    me: Identity,
    /// What one in ten has between its certificate and the CA's.
    between: Option<Identity>,
}

impl Visitor {
    fn new(number: usize, ca: &Identity) -> Self {
        let between = format!("between {number}");
        let between =
            (number % 10 == 0).then(|| mint_intermediate_with_padding(&between, ca, PADDING));
        let me = mint(&number.to_string(), Some(between.as_ref().unwrap_or(ca))).unwrap();
        Self { me, between }
    }

    /// What the handshake was, and the newest session that came of it.
    fn visit(
        &self,
        context: &SslContext,
        client: &Client,
        session: Option<&[u8]>,
    ) -> (Handshake, Vec<u8>) {
        let (near, far) = UnixStream::pair().unwrap();
        let mut ssl = client.ssl(session).unwrap();
        ssl.set_certificate(&self.me.cert).unwrap();
        ssl.set_private_key(&self.me.key).unwrap();
        if let Some(between) = &self.between {
            ssl.add_chain_cert(between.cert.clone()).unwrap();
        }
        let server = Ssl::new(context).unwrap();
        thread::scope(|scope| {
            let server = scope.spawn(move || {
                let mut stream = server.accept(far).unwrap();
                stream.write_all(b"hello").unwrap();
                stream.shutdown().unwrap();
                stream.ssl().resumption().unwrap().handshake
            });
            let mut stream = SslStream::new(ssl, near).unwrap();
            stream.connect().unwrap();
            let mut seen = client.finish(stream).unwrap();
            let handshake = server.join().unwrap();
            assert_eq!(seen.resumed, matches!(handshake, Resumed(_)));
            (handshake, seen.sessions.pop().unwrap())
        })
    }
}
