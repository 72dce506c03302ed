//! Client certificates at resumption: whether they are looked at again, and who is asked beside.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use openssl::ssl::{SslRef, SslSessionRef};

use super::chains::Chains;
use super::knobs::ClientCertificates;
use super::resumption::Resumption;
use super::verdicts::Verdicts;
use crate::base::DropShield;
use crate::ffi;
use crate::session::{Lineage, MAX_DATA, ReturningClient, Stamp};

/// Client certificates, and what an application ties to a session.
impl Resumption {
    /// What becomes of sessions of clients with a certificate; they are resumed by default
    /// ([`Resume`](ClientCertificates::Resume)), and nobody looks at the certificate again.
    ///
    /// On a resumed connection `ssl.peer_certificate()` is the certificate that was verified in the full handshake;
    /// `ssl.peer_cert_chain()` is `None` or empty, and [`Lineage::client_chain`](crate::Lineage::client_chain) has the
    /// rest. With [`Verify`](ClientCertificates::Verify) a certificate that was revoked does not resume. With
    /// [`Resume`](ClientCertificates::Resume) it does until its session ends, unless
    /// [`forget_client`](Self::forget_client) is called or [`admit_client`](Self::admit_client) says no.
    #[must_use]
    pub fn client_certificates(mut self, resume: ClientCertificates) -> Self {
        self.knobs.client_certificates = resume;
        self
    }

    /// Asks `hook` before a session is resumed, with or without a client certificate: `false` declines it, and the
    /// client does a full handshake ([`Reason::NotAdmitted`](crate::Reason::NotAdmitted)). None by default; another
    /// replaces the one before.
    ///
    /// For what verification does not know: a revocation list of your own, a database of devices, a rule that some
    /// clients must authenticate anew each hour. It cannot let pass what would be declined without it, and a hook that
    /// panics has said no. The full handshake that follows does not ask it: have the certificate refused there too.
    ///
    /// It is called within the handshake, on the thread that drives it, so it must not block. Under `suspend_lookups`
    /// (feature `tokio`) it may take its time, up to `lookup_deadline`: it is called on another thread while the
    /// handshake is suspended, before the library's own checks, and may be asked about a session that these then
    /// decline. A handshake asks about four sessions at most.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use openssl_resumption::{Resumption, TicketKeys};
    ///
    /// // Who logs in as an administrator proves it each hour.
    /// let policy = Resumption::stateless(TicketKeys::random()).admit_client(|client| {
    ///     client.lineage().session_data() != Some(b"admin") || client.age() < Duration::from_secs(3_600)
    /// });
    /// ```
    #[must_use]
    pub fn admit_client(
        mut self,
        hook: impl Fn(&ReturningClient<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.knobs.admit = Some(DropShield::new(Arc::new(hook)));
        self
    }

    /// Calls `hook` once in each full handshake, and ties what it returns to all sessions that descend from it, in
    /// tickets and in the store: at most 1,024 bytes. None by default; another replaces the one before.
    ///
    /// [`Lineage::session_data`](crate::Lineage::session_data) has it on resumed connections, and
    /// [`admit_client`](Self::admit_client) sees it. It makes tickets longer, which each client sends with each hello.
    /// In a ticket it is encrypted.
    ///
    /// The hook finds the client's certificate, verified, the server name and the application protocol in the
    /// connection. In TLS 1.2 the handshake is not complete yet. It is called again when a client gives a certificate
    /// after the handshake, on the thread that drives the connection, and must not block. If it panics or returns more
    /// than 1,024 bytes, the session has no data, which
    /// [`CertificateStats::data_failures`](crate::CertificateStats::data_failures) counts.
    #[must_use]
    pub fn session_data(
        mut self,
        hook: impl Fn(&SslRef) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        self.knobs.session_data = Some(DropShield::new(Arc::new(hook)));
        self
    }

    /// Whether TLS 1.2 clients get tickets in stateless and hybrid mode; they do by default.
    ///
    /// A TLS 1.2 ticket holds the keys of the connection that it was made in, under the ticket key: who gets that key
    /// later can read recorded connections, resumed and full. (A TLS 1.3 session is resumed with a fresh key exchange.)
    /// With `false` sessions of TLS 1.2 are in the store in hybrid mode, and there are none in stateless mode; a ticket
    /// from before does not resume. In stateful mode and in mode off it changes nothing.
    ///
    /// Sets `SSL_OP_NO_TICKET`, which is then cleared for TLS 1.3 connections one by one.
    #[must_use]
    pub fn tls12_tickets(mut self, tickets: bool) -> Self {
        self.knobs.tls12_tickets = tickets;
        self
    }

    /// Says that what clients are verified with has changed in a way that the library cannot see: under
    /// [`Verify`](ClientCertificates::Verify) each certificate is then looked at once more when its client comes back.
    /// For all clones and contexts of the policy.
    ///
    /// It does see certificates and revocation lists that are added to a live store, the flags, depth, security level
    /// and names of a connection and of a store, the IP address that a connection demands, and another store. It does
    /// not see what OpenSSL reads from a directory (`CApath`), what is taken out of a live store or changed in its
    /// parameters otherwise, and what else is set on a single connection: policies, and before OpenSSL 3.5 a purpose.
    pub fn trust_changed(&self) {
        self.shared.trust_changes.fetch_add(1, Relaxed);
    }

    pub(crate) fn trust_changes(&self) -> u64 {
        self.shared.trust_changes.load(Relaxed)
    }

    pub(crate) fn chains(&self) -> &Chains {
        &self.shared.chains
    }

    pub(crate) fn verdicts(&self) -> &Verdicts {
        &self.shared.verdicts
    }

    pub(crate) fn resumes_certificates(&self) -> bool {
        self.knobs.client_certificates != ClientCertificates::Never
    }

    pub(crate) fn verifies_certificates(&self) -> bool {
        self.knobs.client_certificates == ClientCertificates::Verify
    }

    /// Whether somebody is asked about clients that come back.
    pub(crate) fn asks_about_clients(&self) -> bool {
        self.knobs.admit.is_some()
    }

    /// What the hook says about the client of a session. Not to know is not to let pass.
    pub(crate) fn admits(&self, session: &SslSessionRef, now: SystemTime) -> bool {
        let Some(hook) = &self.knobs.admit else {
            return true;
        };
        ffi::shielded(false, || {
            let Some((stamp, data)) = Stamp::with_data(ffi::appdata(session)) else {
                return false;
            };
            let certificate = ffi::peer_certificate(session);
            let chain = stamp.chain.and_then(|hash| self.chains().get(&hash));
            let lineage = Lineage::of_session(&stamp, data, certificate, chain.as_deref());
            hook(&ReturningClient::new(certificate, lineage, now))
        })
    }

    /// What the application ties to the sessions of a connection.
    pub(crate) fn data_for(&self, ssl: &SslRef) -> Vec<u8> {
        let Some(hook) = &self.knobs.session_data else {
            return Vec::new();
        };
        let data = ffi::shielded(None, || Some(hook(ssl).unwrap_or_default()));
        data.filter(|data| data.len() <= MAX_DATA)
            .unwrap_or_else(|| {
                self.counters().data_failures.add_one();
                Vec::new()
            })
    }
}
