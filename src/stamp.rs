//! The stamp: what the library writes into every session when it is made, and checks before it is
//! resumed.
//!
//! OpenSSL resumes whatever decrypts and has the right session id context: across server names,
//! past a demand for a certificate, and in TLS 1.3 for ever, because each resumption starts a new
//! lifetime (CVE-2025-23419, CVE-2025-23048, CVE-2025-68121, CVE-2014-3616). The stamp travels as
//! the ticket application data of the session, so it is sealed with a ticket and stored with a
//! session, and OpenSSL hands it on when a resumption makes the next session.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::sha::Sha256;
use openssl::ssl::{SslSessionRef, SslVerifyMode, SslVersion};

use crate::ffi;
use crate::outcome::Reason;

/// A hash of what a session is bound to; 128 bits are plenty against a second preimage.
pub(crate) type Binding = [u8; 16];

/// What is known about the full handshake that a session descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When that handshake began, in seconds since the Unix epoch.
    pub(crate) time: u64,
    /// The scope, server name and generation.
    pub(crate) binding: Binding,
    /// What client certificates were verified against; `None` if none was asked for.
    pub(crate) authority: Option<Binding>,
    /// What is known of the client.
    pub(crate) client: ClientIs,
}

/// What a full handshake has found out about its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientIs {
    /// It gave no certificate and no raw public key.
    Anonymous = 0,
    /// What it gave was verified, and found right.
    Verified = 1,
    /// What it gave was not found right; a callback of the application's let it pass all the same.
    Unverified = 2,
}

impl ClientIs {
    const ALL: [Self; 3] = [Self::Anonymous, Self::Verified, Self::Unverified];
}

const VERSION: u8 = 2;

impl Stamp {
    /// Version, client, time and binding, and the authority if there is one.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + 8 + 2 * size_of::<Binding>());
        bytes.extend([VERSION, self.client as u8]);
        bytes.extend_from_slice(&self.time.to_be_bytes());
        bytes.extend_from_slice(&self.binding);
        bytes.extend(self.authority.into_iter().flatten());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[version, client], rest) = bytes.split_first_chunk()?;
        let (&time, rest) = rest.split_first_chunk()?;
        let (&binding, rest) = rest.split_first_chunk()?;
        let authority = match rest {
            [] => None,
            rest => Some(rest.try_into().ok()?),
        };
        (version == VERSION).then_some(Self {
            time: u64::from_be_bytes(time),
            binding,
            authority,
            client: *ClientIs::ALL.get(usize::from(client))?,
        })
    }

    /// For how many seconds a session that OpenSSL dates `made` may live, so that it ends
    /// `lifetime` after the full handshake and not after `certificate_ends`.
    pub(crate) fn timeout(&self, made: u64, lifetime: u64, certificate_ends: Option<u64>) -> u64 {
        let end = self.time.saturating_add(lifetime);
        let end = certificate_ends.map_or(end, |certificate| end.min(certificate));
        // Not more than the lifetime, also if the clock has gone back since the handshake.
        end.saturating_sub(made).min(lifetime)
    }
}

/// The binding of a session to a scope, a server name and a generation.
///
/// Names are compared without regard to ASCII case, as in DNS; no name differs from an empty one.
pub(crate) fn binding(scope: &[u8], name: Option<&[u8]>, generation: &[u8]) -> Binding {
    let mut hash = Sha256::new();
    hash.update(b"binding 1\0");
    for field in [scope, generation] {
        hash.update(&(field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    if let Some(name) = name {
        hash.update(b"name:");
        hash.update(&name.to_ascii_lowercase());
    }
    truncated(hash)
}

/// What clients are verified against.
#[derive(Debug)]
pub(crate) struct Authority {
    /// The CA certificates, by their SHA-256, in any order.
    pub(crate) certificates: Vec<[u8; 32]>,
    /// The client CA names, in any order.
    pub(crate) names: Vec<Vec<u8>>,
    /// The verify parameters that are numbers.
    pub(crate) rules: Vec<i64>,
    /// The hash of the names that the client's certificate must have.
    pub(crate) demanded: [u8; 16],
    /// Hashes of purpose and IP address: what is in force, and what the context that accepted has.
    pub(crate) dear: [[u8; 16]; 2],
    /// Whether a callback decides beside.
    pub(crate) by_callback: bool,
    /// What the context has in common with no other, where something decides out of sight.
    pub(crate) context: Option<Binding>,
}

impl Authority {
    pub(crate) fn hash(mut self) -> Binding {
        self.certificates.sort_unstable();
        self.names.sort_unstable();
        let mut hash = Sha256::new();
        hash.update(b"openssl-resumption authority 2\0");
        let mut list = |fields: &mut dyn ExactSizeIterator<Item = &[u8]>| {
            hash.update(&(fields.len() as u64).to_be_bytes());
            for field in fields {
                hash.update(&(field.len() as u64).to_be_bytes());
                hash.update(field);
            }
        };
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|number| number.to_be_bytes())
            .collect();
        list(&mut self.certificates.iter().map(<[u8; 32]>::as_slice));
        list(&mut self.names.iter().map(Vec::as_slice));
        list(&mut rules.iter().map(<[u8; 8]>::as_slice));
        list(&mut self.context.iter().map(Binding::as_slice));
        hash.update(&self.demanded);
        hash.update(self.dear.as_flattened());
        hash.update(&[u8::from(self.by_callback)]);
        truncated(hash)
    }
}

fn truncated(hash: Sha256) -> Binding {
    *hash.finish().first_chunk().expect("16 is less than 32")
}

/// What a connection demands of its client at this moment; a server name callback may raise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) verify: SslVerifyMode,
    /// What a certificate is verified against, where `verify` has PEER.
    pub(crate) authority: Option<Binding>,
    /// What the context has in common with no other, if a callback of its own may let pass what does not
    /// verify.
    pub(crate) callback: Option<Binding>,
}

impl Demand {
    /// Whether a session with this stamp meets the demand without another look at a certificate.
    ///
    /// A session that was made where more was demanded than here does: the server name callback
    /// that demanded it then has not run yet when this is asked first.
    pub(crate) fn is_met_by(&self, stamp: &Stamp) -> Result<(), Reason> {
        if !self.verify.contains(SslVerifyMode::PEER) {
            return Ok(());
        }
        let demands = self.verify.contains(SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        match stamp.client {
            ClientIs::Anonymous if demands => return Err(Reason::Unauthenticated),
            // It passed where a callback let it, and whatever generation names that and others.
            ClientIs::Unverified => {
                let here = self.unverified();
                let passes = here.is_some() && stamp.authority == here;
                return passes.then_some(()).ok_or(Reason::Unauthenticated);
            }
            _ => {}
        }
        if stamp.authority != self.authority {
            return Err(Reason::OtherBinding);
        }
        Ok(())
    }

    /// What a session is stamped with whose client gave something that did not verify.
    pub(crate) fn unverified(&self) -> Option<Binding> {
        let (mut own, authority) = (self.callback?, self.authority?);
        own.iter_mut()
            .zip(authority)
            .for_each(|(byte, other)| *byte ^= other);
        Some(own)
    }
}

/// What a decoded session says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claims {
    pub(crate) version: SslVersion,
    pub(crate) expires_at: SystemTime,
    /// Whether it carries a session id context.
    pub(crate) has_context: bool,
    /// Whether it carries a client certificate or raw public key.
    pub(crate) has_credential: bool,
    pub(crate) stamp: Option<Stamp>,
}

impl Claims {
    pub(crate) fn of(session: &SslSessionRef) -> Self {
        Self {
            version: session.protocol_version(),
            expires_at: expires_at(session),
            has_context: !ffi::id_context(session).is_empty(),
            has_credential: ffi::credential(session).is_some(),
            stamp: Stamp::from_bytes(ffi::appdata(session)),
        }
    }
}

/// When a session ends, as OpenSSL dates it.
pub(crate) fn expires_at(session: &SslSessionRef) -> SystemTime {
    let ends = session.time().saturating_add(session.timeout());
    let ends = Duration::from_secs(u64::try_from(ends).unwrap_or(0));
    UNIX_EPOCH.checked_add(ends).unwrap_or(UNIX_EPOCH)
}

/// What a session must be to be resumed in the handshake at hand, as far as is known when the
/// client's offer is looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    pub(crate) version: SslVersion,
    pub(crate) binding: Binding,
    /// In seconds.
    pub(crate) lifetime: u64,
    /// Sessions of full handshakes up to this second have been forgotten.
    pub(crate) cutoff: Option<u64>,
    /// Whether sessions with a client certificate or raw public key are resumed.
    pub(crate) certificates: bool,
    pub(crate) now: SystemTime,
}

/// Whether a session may be resumed here, but for what is forgotten by name and for the demand:
/// that may be dear to find out, and is asked of what passes this.
pub(crate) fn check(claims: &Claims, here: &Here) -> Result<Stamp, Reason> {
    if claims.version != here.version {
        return Err(Reason::WrongContext);
    }
    let stamp = claims.stamp.ok_or(Reason::NoStamp)?;
    // OpenSSL compares session id contexts itself; but where both are empty and the peer is to be
    // verified it fails the connection instead of declining.
    if !claims.has_context {
        return Err(Reason::WrongContext);
    }
    let now = unix_seconds(here.now);
    if claims.expires_at <= here.now || stamp.time.saturating_add(here.lifetime) <= now {
        return Err(Reason::Expired);
    }
    // Made while the clock was far ahead, here or on a host that shares store or keys. Less is the
    // difference between clocks.
    if stamp.time > now.saturating_add(here.lifetime) {
        return Err(Reason::Expired);
    }
    if here.cutoff.is_some_and(|cutoff| stamp.time <= cutoff) {
        return Err(Reason::Forgotten);
    }
    if stamp.binding != here.binding {
        return Err(Reason::OtherBinding);
    }
    if claims.has_credential && !here.certificates {
        return Err(Reason::ClientCertificate);
    }
    Ok(stamp)
}

pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
