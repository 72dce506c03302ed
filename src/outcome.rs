//! What became of one connection.

use std::fmt;

use openssl::ssl::SslVersion;

/// What became of one connection's handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The protocol version that was negotiated.
    pub version: SslVersion,
    /// Full or resumed.
    pub handshake: Handshake,
    /// What became of the early data (0-RTT) that the client offered; `None` if it offered none.
    pub early_data: Option<EarlyData>,
}

/// Full, and why not resumed; or resumed, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a handshake is one or the other")]
pub enum Handshake {
    /// A full handshake.
    Full(Reason),
    /// An abbreviated handshake.
    Resumed(Source),
}

impl Outcome {
    /// Whether the session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.source().is_some()
    }

    /// Why the handshake was full; `None` if it was resumed.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self.handshake {
            Handshake::Full(reason) => Some(reason),
            Handshake::Resumed(_) => None,
        }
    }

    /// Where the session came from; `None` if the handshake was full.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        match self.handshake {
            Handshake::Full(_) => None,
            Handshake::Resumed(source) => Some(source),
        }
    }

    /// The protocol version as OpenSSL writes it: `TLSv1.3`.
    #[must_use]
    pub fn version_str(&self) -> &'static str {
        match self.version {
            SslVersion::TLS1_3 => "TLSv1.3",
            SslVersion::TLS1_2 => "TLSv1.2",
            SslVersion::TLS1_1 => "TLSv1.1",
            SslVersion::TLS1 => "TLSv1",
            SslVersion::DTLS1_2 => "DTLSv1.2",
            SslVersion::DTLS1 => "DTLSv1",
            _ => "unknown",
        }
    }
}

/// For people: `TLSv1.3 resumed: ticket`, `TLSv1.2 full: not found`, `TLSv1.3 resumed: store, early data: accepted`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version_str())?;
        match self.handshake {
            Handshake::Full(reason) => write!(f, " full: {reason}")?,
            Handshake::Resumed(source) => write!(f, " resumed: {source}")?,
        }
        match self.early_data {
            Some(early) => write!(f, ", early data: {early}"),
            None => Ok(()),
        }
    }
}

/// An enum whose values have a text each, as labels have, and are counted in an array.
macro_rules! counted {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The text that [`Display`](fmt::Display) shows.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

counted! {
    /// Why a handshake was full.
    Reason {
        /// The client offered nothing that this mode could resume in the version negotiated:
        /// nothing at all, or for example in TLS 1.3 a sealed ticket to a stateful policy. (In TLS
        /// 1.2 a client sends an id with its ticket, which is `NotFound`.)
        NothingOffered => "nothing offered",
        /// The store has no session under the id or stateful ticket that the client offered; also
        /// if it was made in another scope, which is part of what a store is asked for, if the id is
        /// not of OpenSSL's length, or if the store had been asked four times in the handshake.
        ///
        /// At a server without TLS 1.3, in stateful and hybrid mode, each new client that offers TLS 1.3 is one: for
        /// the sake of middleboxes it sends a random session id (RFC 8446, appendix D.4), which costs a lookup.
        NotFound => "not found",
        /// The session had reached the end of its lifetime, or its client certificate the end of its
        /// own; or its time lies more than a lifetime in the future.
        Expired => "expired",
        /// The ticket was sealed under a key that the ring does not hold (any more).
        UnknownKey => "unknown key",
        /// The ticket is damaged or forged: too short, a wrong MAC, or not a session inside.
        Malformed => "malformed",
        /// The session was made in another session id context or TLS version, or with parameters
        /// (hash of the cipher, cipher, maximum length of fragments, extended master secret) across which OpenSSL
        /// does not resume. The client gets one that fits.
        WrongContext => "wrong context",
        /// The session carries no stamp of this library: another product made it.
        NoStamp => "no stamp",
        /// The session was made for another server name, scope or generation, or where clients are verified
        /// in another way (CAs, callback, security level, depth, purpose, flags), or not at all.
        OtherBinding => "other binding",
        /// A client certificate is demanded, and the session was made without one, or with one that was not
        /// found right.
        Unauthenticated => "unauthenticated",
        /// The session was made with a client certificate, and the policy resumes none such.
        ClientCertificate => "client certificate",
        /// The client's certificate does not pass what a full handshake would ask of it now
        /// ([`ClientCertificates::Verify`](crate::ClientCertificates::Verify)).
        NotTrusted => "certificate not trusted",
        /// The certificates that the client sent beside its own are not known at this host, and are needed to look at
        /// its own again.
        UnknownChain => "unknown certificate chain",
        /// The hook [`admit_client`](crate::Resumption::admit_client) said no, panicked, or in an asynchronous accept
        /// had not answered by the deadline.
        NotAdmitted => "not admitted",
        /// The policy was told to forget the session.
        Forgotten => "forgotten",
        /// The store failed: an error, a panic, an answer that is not the session asked for, or, in
        /// an asynchronous accept, no answer by the deadline.
        StoreFailed => "store failed",
        /// The policy is [`off`](crate::Resumption::off).
        Off => "off",
        /// The session cache mode (`SSL_CTX_set_session_cache_mode`) was changed after
        /// `set_resumption`. This and the next four are counted in
        /// [`Stats::overridden`](crate::Stats::overridden).
        CacheMode => "session cache mode changed",
        /// The callbacks for new and wanted sessions (`SSL_CTX_sess_set_new_cb`,
        /// `SSL_CTX_sess_set_get_cb`) were replaced after `set_resumption`.
        SessionCallbacks => "session callbacks replaced",
        /// The callbacks for ticket data (`SSL_CTX_set_session_ticket_cb`) were replaced after
        /// `set_resumption`.
        TicketCallbacks => "ticket callbacks replaced",
        /// The ticket key callback (`SSL_CTX_set_tlsext_ticket_key_evp_cb`) was replaced after
        /// `set_resumption`.
        TicketKeyCallback => "ticket key callback replaced",
        /// The connection's info callback (`SSL_set_info_callback`) was replaced within its
        /// handshake.
        InfoCallback => "info callback replaced",
    }
}

counted! {
    /// Where a resumed session came from.
    Source {
        /// From the store: a TLS 1.2 session id or a TLS 1.3 stateful ticket.
        Store => "store",
        /// From a sealed ticket.
        Ticket => "ticket",
        /// Not from this library: an external pre-shared key of TLS 1.3 (`psk_server_callback`). One that is
        /// made of a session of a handshake (`SSL_CTX_set_psk_find_session_callback`) cannot be told from a
        /// session that others resume past this library: it fails the connection until the context has made
        /// a TLS 1.3 ticket, and where a certificate is asked for.
        Other => "other",
    }
}

counted! {
    /// What became of early data that a client offered (RFC 8446, section 2.3). Unless it was accepted the client
    /// sends it again, as ordinary data of the connection.
    EarlyData {
        /// The application could read it before the handshake was finished.
        Accepted => "accepted",
        /// The register has seen this ClientHello before: it was sent again, by whomever.
        Replayed => "replayed",
        /// The register failed: an error, a panic, or in an asynchronous accept no answer by the deadline.
        RegisterFailed => "register failed",
        /// The register cannot yet say what it has not seen: it was made or, in Redis, started, flushed or promoted
        /// less than a window ago (RFC 8446, section 8.2).
        WarmingUp => "register warming up",
        /// The register has no room for another ClientHello.
        RegisterFull => "register full",
        /// The server asked for another ClientHello (HelloRetryRequest).
        HelloRetried => "hello retried",
        /// OpenSSL found it unfit: the ClientHello is older than about ten seconds by this host's clock, or the
        /// application protocol (ALPN) is not that of the session, or the session was not the first one offered.
        Unfit => "unfit",
        /// The application does not read early data: it accepted the connection otherwise than with
        /// [`accept_early`](crate::accept_early).
        NotRead => "not read",
        /// The session did not resume; the [`Reason`] says why.
        NotResumed => "not resumed",
        /// The session was promised more than the policy allows now, so that the client may send more.
        Promised => "promised more",
        /// It is not certain that the session was checked by this library: a pre-shared key of the application's, or
        /// callbacks of the context were replaced.
        Unchecked => "unchecked",
        /// The policy takes none.
        Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_read_as_sentences() {
        let shown = [
            (Handshake::Resumed(Source::Ticket), None),
            (Handshake::Full(Reason::NotFound), None),
            (Handshake::Resumed(Source::Store), Some(EarlyData::Replayed)),
        ]
        .map(|(handshake, early_data)| {
            let outcome = Outcome {
                version: SslVersion::TLS1_3,
                handshake,
                early_data,
            };
            outcome.to_string()
        });
        assert_eq!(
            shown,
            [
                "TLSv1.3 resumed: ticket",
                "TLSv1.3 full: not found",
                "TLSv1.3 resumed: store, early data: replayed"
            ]
        );
    }
}
