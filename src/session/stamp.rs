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
use openssl::ssl::SslSessionRef;

use super::chain::ChainHash;

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
    /// The name of all sessions that descend from that handshake, by chance.
    pub(crate) lineage: [u8; 16],
    /// Whether the session had ended when it was stamped, and is to be resumed nowhere.
    pub(crate) ended: bool,
    /// The certificates between the client's and the CA's that the client sent, if it sent any.
    pub(crate) chain: Option<ChainHash>,
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

const VERSION: u8 = 3;

/// What follows the byte that says who the client is, in the same byte.
const HAS_AUTHORITY: u8 = 0x10;
const HAS_CHAIN: u8 = 0x20;
const HAS_ENDED: u8 = 0x40;

/// Data of the application's may be this long.
pub(crate) const MAX_DATA: usize = 1_024;

impl Stamp {
    /// Version, client, time, binding and lineage, the authority and the chain if there are any, and data of the
    /// application's.
    pub(crate) fn to_bytes(self, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + 8 + 3 * 16 + 32 + data.len());
        let authority = self.authority.map_or(0, |_| HAS_AUTHORITY);
        let chain = self.chain.map_or(0, |_| HAS_CHAIN);
        let ended = if self.ended { HAS_ENDED } else { 0 };
        bytes.extend([VERSION, self.client as u8 | authority | chain | ended]);
        bytes.extend_from_slice(&self.time.to_be_bytes());
        bytes.extend_from_slice(&self.binding);
        bytes.extend_from_slice(&self.lineage);
        bytes.extend(self.authority.into_iter().flatten());
        bytes.extend(self.chain.into_iter().flatten());
        bytes.extend_from_slice(data);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::with_data(bytes).map(|(stamp, _)| stamp)
    }

    /// The stamp, and the data of the application's that follows it.
    pub(crate) fn with_data(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&[version, flags], rest) = bytes.split_first_chunk()?;
        if version != VERSION {
            return None;
        }
        let (&time, rest) = rest.split_first_chunk()?;
        let (&binding, rest) = rest.split_first_chunk()?;
        let (&lineage, rest) = rest.split_first_chunk()?;
        let (authority, rest) = part(flags & HAS_AUTHORITY != 0, rest)?;
        let (chain, data) = part(flags & HAS_CHAIN != 0, rest)?;
        let client = flags & !(HAS_AUTHORITY | HAS_CHAIN | HAS_ENDED);
        let stamp = Self {
            time: u64::from_be_bytes(time),
            binding,
            authority,
            client: *ClientIs::ALL.get(usize::from(client))?,
            lineage,
            ended: flags & HAS_ENDED != 0,
            chain,
        };
        (data.len() <= MAX_DATA).then_some((stamp, data))
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

/// The first bytes, if they are to be there, and what follows them.
fn part<const N: usize>(is_there: bool, bytes: &[u8]) -> Option<(Option<[u8; N]>, &[u8])> {
    if !is_there {
        return Some((None, bytes));
    }
    let (part, rest) = bytes.split_first_chunk()?;
    Some((Some(*part), rest))
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

/// The hash, as far as it is kept.
pub(crate) fn truncated(hash: Sha256) -> Binding {
    *hash.finish().first_chunk().expect("16 is less than 32")
}

/// When a session ends, as OpenSSL dates it.
pub(crate) fn expires_at(session: &SslSessionRef) -> SystemTime {
    let ends = session.time().saturating_add(session.timeout());
    let ends = Duration::from_secs(u64::try_from(ends).unwrap_or(0));
    UNIX_EPOCH.checked_add(ends).unwrap_or(UNIX_EPOCH)
}
