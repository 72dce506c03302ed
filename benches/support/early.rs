//! A resumed handshake with a request and an answer: the request comes as early data, or after the handshake.

use std::io::{Read, Write};

use openssl::ssl::{Ssl, SslStream};
use openssl_resumption::accept_early;

use super::{Pair, Side, done, pipe};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a benchmark\r\n\r\n";

impl Pair {
    /// As `resumed`, with a request that the server reads after the handshake. The server asks for early data, as
    /// `accept_early` does.
    pub fn asked_late(&self, session: &[u8], side: Side) -> Vec<u8> {
        let (near, far) = pipe();
        let mut client = self.client.start(near, Some(session)).expect("a client");
        assert!(!done(client.connect()));
        let (mut server, mut far) = (None, Some(far));
        side(&mut || {
            let mut ssl = Ssl::new(&self.context).expect("an SSL");
            ssl.set_accept_state();
            let far = far.take().expect("one end");
            let mut stream = SslStream::new(ssl, far).expect("a stream");
            assert_eq!(stream.read_early_data(&mut [0; 64]).expect("a hello"), 0);
            assert!(!done(stream.do_handshake()));
            server = Some(stream);
        });
        let mut server = server.expect("just made");
        assert!(done(client.connect()));
        client.write_all(REQUEST).expect("room in memory");
        side(&mut || {
            assert!(done(server.do_handshake()));
            read_request(&mut server);
            server.write_all(b"!").expect("room in memory");
            server.shutdown().expect("room in memory");
        });
        assert!(server.ssl().session_reused());
        let seen = self.client.finish(client).expect("a byte and the end");
        let mut server = Some(server);
        side(&mut || drop(server.take()));
        assert_eq!(seen.reply, b"!");
        seen.sessions.last().expect("a session").clone()
    }

    /// The same with the request as early data, which has to be accepted.
    pub fn asked_early(&self, session: &[u8], side: Side) -> Vec<u8> {
        let (near, far) = pipe();
        let mut client = self.client.start(near, Some(session)).expect("a client");
        let written = client.write_early_data(REQUEST).expect("room in memory");
        assert_eq!(written, REQUEST.len());
        let (mut server, mut far) = (None, Some(far));
        side(&mut || {
            let ssl = Ssl::new(&self.context).expect("an SSL");
            let far = far.take().expect("one end");
            let mut stream = accept_early(ssl, far).expect("early data");
            read_request(&mut stream);
            stream.write_all(b"!").expect("room in memory");
            server = Some(stream);
        });
        let mut server = server.expect("just made");
        assert!(server.is_early(), "early data is accepted");
        assert!(done(client.connect()));
        side(&mut || {
            server.shutdown().expect("the end of the handshake");
        });
        assert!(server.ssl().session_reused());
        let seen = self.client.finish(client).expect("a byte and the end");
        let mut server = Some(server);
        side(&mut || drop(server.take()));
        assert_eq!(seen.reply, b"!");
        seen.sessions.last().expect("a session").clone()
    }
}

fn read_request(stream: &mut impl Read) {
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer).expect("a request");
    assert_eq!(&buffer[..read], REQUEST);
}
