//! A client of rustls, which sends and takes in what the test says, and nothing by itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

/// Its sessions are kept in the configuration.
pub(crate) fn client() -> Arc<ClientConfig> {
    let ring = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring);
    let mut config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.enable_early_data = true;
    Arc::new(config)
}

pub(crate) struct Connection {
    tls: ClientConnection,
    tcp: TcpStream,
    /// What the server has said.
    said: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(config: &Arc<ClientConfig>, address: SocketAddr) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        Self {
            tls: ClientConnection::new(Arc::clone(config), name).unwrap(),
            tcp: TcpStream::connect(address).unwrap(),
            said: Vec::new(),
        }
    }

    /// Sends a request with the first flight.
    #[track_caller]
    pub(crate) fn send_early(&mut self, request: &[u8]) {
        let early = self.tls.early_data();
        let mut early = early.expect("a session that allows early data");
        early.write_all(request).unwrap();
        self.flush();
    }

    /// Makes the handshake, or what is left of it, and sends a request.
    pub(crate) fn send(&mut self, request: &[u8]) {
        if self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.tcp).unwrap();
        }
        self.tls.writer().write_all(request).unwrap();
        self.flush();
    }

    /// Sends what rustls has to send, as the end of the handshake.
    pub(crate) fn flush(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.tcp).unwrap();
        }
    }

    /// Takes in what the server sends, and sends nothing, until it has said `end`.
    #[track_caller]
    pub(crate) fn answer(&mut self, end: &str) -> String {
        loop {
            let said = String::from_utf8_lossy(&self.said).into_owned();
            if said.contains(end) {
                self.said.clear();
                return said;
            }
            let more = self.take_in(Duration::from_secs(60));
            assert!(more, "not {end:?}: {said}");
        }
    }

    /// Takes in the first flight of the server, and sends nothing; whether it takes the early data.
    #[track_caller]
    pub(crate) fn is_early_data_accepted(&mut self) -> bool {
        while self.tls.is_handshaking() {
            assert!(self.take_in(Duration::from_secs(60)), "no flight");
        }
        self.tls.is_early_data_accepted()
    }

    /// Takes in what the server sends, and sends nothing, until it sends no more for a while.
    pub(crate) fn answer_meanwhile(&mut self) -> String {
        while self.take_in(Duration::from_millis(500)) {}
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// Whether there was anything.
    fn take_in(&mut self, patience: Duration) -> bool {
        self.tcp.set_read_timeout(Some(patience)).unwrap();
        match self.tls.read_tls(&mut self.tcp) {
            Ok(len) => {
                self.tls.process_new_packets().unwrap();
                // It fails behind what has come so far.
                let _ = self.tls.reader().read_to_end(&mut self.said);
                len > 0
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Trusts any server.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the tests are in TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
