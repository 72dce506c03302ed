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
    /// The CA set that client certificates were verified against; `None` if none was asked for.
    pub(crate) authority: Option<Binding>,
    /// Whether the client had a certificate.
    pub(crate) authenticated: bool,
}

const VERSION: u8 = 1;
const AUTHENTICATED: u8 = 1;

impl Stamp {
    /// Version, flags, time and binding, and the authority if there is one.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.authenticated) * AUTHENTICATED];
        bytes.extend_from_slice(&self.time.to_be_bytes());
        bytes.extend_from_slice(&self.binding);
        bytes.extend(self.authority.into_iter().flatten());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[version, flags], rest) = bytes.split_first_chunk()?;
        let (&time, rest) = rest.split_first_chunk()?;
        let (&binding, rest) = rest.split_first_chunk()?;
        let authority = match rest {
            [] => None,
            rest => Some(rest.try_into().ok()?),
        };
        (version == VERSION && flags <= AUTHENTICATED).then_some(Self {
            time: u64::from_be_bytes(time),
            binding,
            authority,
            authenticated: flags & AUTHENTICATED != 0,
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
    hash.update(b"openssl-resumption binding 1\0");
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

/// The hash of a CA set: of certificates by their SHA-256 and of client CA names, in any order.
pub(crate) fn authority(mut certificates: Vec<[u8; 32]>, mut names: Vec<Vec<u8>>) -> Binding {
    certificates.sort_unstable();
    names.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(b"openssl-resumption authority 1\0");
    hash.update(&(certificates.len() as u64).to_be_bytes());
    certificates
        .iter()
        .for_each(|certificate| hash.update(certificate));
    for name in &names {
        hash.update(&(name.len() as u64).to_be_bytes());
        hash.update(name);
    }
    truncated(hash)
}

fn truncated(hash: Sha256) -> Binding {
    *hash.finish().first_chunk().expect("16 is less than 32")
}

/// What a connection demands of its client at this moment; a server name callback may raise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) verify: SslVerifyMode,
    /// The CA set, where `verify` has PEER.
    pub(crate) authority: Option<Binding>,
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
        if self.verify.contains(SslVerifyMode::FAIL_IF_NO_PEER_CERT) && !stamp.authenticated {
            return Err(Reason::Unauthenticated);
        }
        if stamp.authority != self.authority {
            return Err(Reason::OtherBinding);
        }
        Ok(())
    }
}

/// What a decoded session says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claims {
    pub(crate) version: SslVersion,
    pub(crate) expires_at: SystemTime,
    /// Whether it carries a session id context.
    pub(crate) has_context: bool,
    /// Whether it carries a client certificate.
    pub(crate) has_certificate: bool,
    pub(crate) stamp: Option<Stamp>,
}

impl Claims {
    pub(crate) fn of(session: &SslSessionRef) -> Self {
        let ends = session.time().saturating_add(session.timeout());
        let ends = Duration::from_secs(u64::try_from(ends).unwrap_or(0));
        Self {
            version: session.protocol_version(),
            expires_at: UNIX_EPOCH.checked_add(ends).unwrap_or(UNIX_EPOCH),
            has_context: !ffi::id_context(session).is_empty(),
            has_certificate: ffi::peer_certificate(session).is_some(),
            stamp: Stamp::from_bytes(ffi::appdata(session)),
        }
    }
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
    /// Whether sessions with a client certificate are resumed.
    pub(crate) certificates: bool,
    pub(crate) now: SystemTime,
}

/// Whether a session may be resumed here, but for what is forgotten by name and for the demand:
/// that may be dear to find out, and is asked of what passes this.
pub(crate) fn check(claims: &Claims, here: &Here) -> Result<Stamp, Reason> {
    // OpenSSL compares session id contexts itself; but where both are empty and the peer is to be
    // verified it fails the connection instead of declining.
    if claims.version != here.version || !claims.has_context {
        return Err(Reason::WrongContext);
    }
    let stamp = claims.stamp.ok_or(Reason::NoStamp)?;
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
    if claims.has_certificate && !here.certificates {
        return Err(Reason::ClientCertificate);
    }
    Ok(stamp)
}

pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn stamp() -> Stamp {
        Stamp {
            time: NOW - 100,
            binding: binding(b"shop", Some(b"a.example"), b""),
            authority: None,
            authenticated: false,
        }
    }

    fn claims() -> Claims {
        Claims {
            version: SslVersion::TLS1_3,
            expires_at: at(NOW + 1),
            has_context: true,
            has_certificate: false,
            stamp: Some(stamp()),
        }
    }

    fn here() -> Here {
        Here {
            version: SslVersion::TLS1_3,
            binding: stamp().binding,
            lifetime: 101,
            cutoff: None,
            certificates: true,
            now: at(NOW),
        }
    }

    #[track_caller]
    fn declined(claims: &Claims, here: &Here, reason: Reason) {
        assert_eq!(check(claims, here), Err(reason));
    }

    #[test]
    fn a_session_passes_where_it_was_made_for() {
        assert_eq!(check(&claims(), &here()), Ok(stamp()));
    }

    #[test]
    fn another_version_or_no_context_is_the_wrong_context() {
        let old = Claims {
            version: SslVersion::TLS1_2,
            ..claims()
        };
        declined(&old, &here(), Reason::WrongContext);
        let bare = Claims {
            has_context: false,
            ..claims()
        };
        declined(&bare, &here(), Reason::WrongContext);
    }

    #[test]
    fn a_session_that_is_not_ours_has_no_stamp() {
        declined(
            &Claims {
                stamp: None,
                ..claims()
            },
            &here(),
            Reason::NoStamp,
        );
    }

    #[test]
    fn it_ends_by_its_own_timeout_and_by_the_lifetime_from_the_full_handshake() {
        declined(
            &Claims {
                expires_at: at(NOW),
                ..claims()
            },
            &here(),
            Reason::Expired,
        );
        declined(
            &claims(),
            &Here {
                lifetime: 100,
                ..here()
            },
            Reason::Expired,
        );
    }

    #[test]
    fn cutoffs_are_inclusive_to_the_second() {
        let cut = |cutoff| Here {
            cutoff: Some(cutoff),
            ..here()
        };
        assert!(check(&claims(), &cut(NOW - 101)).is_ok());
        declined(&claims(), &cut(NOW - 100), Reason::Forgotten);
        declined(&claims(), &cut(u64::MAX), Reason::Forgotten);
        // 1970 is a time too.
        let ancient = Stamp { time: 0, ..stamp() };
        let ancient = Claims {
            stamp: Some(ancient),
            ..claims()
        };
        declined(
            &ancient,
            &Here {
                lifetime: NOW + 9,
                ..cut(0)
            },
            Reason::Forgotten,
        );
    }

    #[test]
    fn a_clock_that_went_back_does_no_harm() {
        // A session from the future is as good as new, and lives no longer than that; but not one
        // from a future that no difference between clocks explains.
        let made = NOW - 100;
        let earlier = |seconds| Here {
            now: at(made - seconds),
            ..here()
        };
        assert!(check(&claims(), &earlier(101)).is_ok());
        declined(&claims(), &earlier(102), Reason::Expired);
        assert_eq!(stamp().timeout(made - 10_000, 500, None), 500);
    }

    #[test]
    fn bindings_differ_by_scope_name_and_generation_and_not_by_case() {
        let one = binding(b"shop", Some(b"a.example"), b"1");
        assert_eq!(one, binding(b"shop", Some(b"A.eXample"), b"1"));
        let others = [
            binding(b"shop", Some(b"b.example"), b"1"),
            binding(b"shop", Some(b""), b"1"),
            binding(b"shop", None, b"1"),
            binding(b"shop", Some(b"a.example"), b"2"),
            binding(b"blog", Some(b"a.example"), b"1"),
            binding(b"", Some(b"a.example"), b"shop1"),
        ];
        for (i, other) in others.iter().enumerate() {
            assert!(*other != one && !others[..i].contains(other), "{i}");
        }
        let elsewhere = Here {
            binding: others[0],
            ..here()
        };
        declined(&claims(), &elsewhere, Reason::OtherBinding);
    }

    #[test]
    fn authorities_do_not_depend_on_order_and_tell_certificates_from_names() {
        let (a, b) = ([1; 32], [2; 32]);
        let names = || vec![b"x".to_vec(), b"y".to_vec()];
        let one = authority(vec![a, b], names());
        assert_eq!(
            one,
            authority(vec![b, a], names().into_iter().rev().collect())
        );
        assert_ne!(one, authority(vec![a], names()));
        assert_ne!(one, authority(vec![a, b], vec![]));
        assert_ne!(
            authority(vec![], vec![a.to_vec()]),
            authority(vec![a], vec![])
        );
    }

    #[test]
    fn a_demand_is_met_by_a_session_made_under_it() {
        let (ours, theirs) = (authority(vec![[1; 32]], vec![]), authority(vec![], vec![]));
        let peer = SslVerifyMode::PEER;
        let must = peer | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        let none = SslVerifyMode::NONE;
        let table = [
            // Demanded here, and made with: authority, certificate.
            (none, None, None, false, Ok(())),
            (none, None, Some(ours), true, Ok(())),
            (peer, Some(ours), None, false, Err(Reason::OtherBinding)),
            (peer, Some(ours), Some(ours), false, Ok(())),
            (peer, Some(ours), Some(ours), true, Ok(())),
            (
                peer,
                Some(ours),
                Some(theirs),
                true,
                Err(Reason::OtherBinding),
            ),
            (must, Some(ours), None, false, Err(Reason::Unauthenticated)),
            (
                must,
                Some(ours),
                Some(ours),
                false,
                Err(Reason::Unauthenticated),
            ),
            (must, Some(ours), Some(ours), true, Ok(())),
            (
                must,
                Some(ours),
                Some(theirs),
                true,
                Err(Reason::OtherBinding),
            ),
        ];
        for (i, (verify, demanded, made, authenticated, expected)) in table.into_iter().enumerate()
        {
            let stamp = Stamp {
                authority: made,
                authenticated,
                ..stamp()
            };
            let demand = Demand {
                verify,
                authority: demanded,
            };
            assert_eq!(demand.is_met_by(&stamp), expected, "row {i}");
        }
    }

    #[test]
    fn client_certificates_can_be_refused() {
        let with = Claims {
            has_certificate: true,
            ..claims()
        };
        assert!(check(&with, &here()).is_ok());
        declined(
            &with,
            &Here {
                certificates: false,
                ..here()
            },
            Reason::ClientCertificate,
        );
        assert!(
            check(
                &claims(),
                &Here {
                    certificates: false,
                    ..here()
                }
            )
            .is_ok()
        );
    }

    #[test]
    fn a_session_ends_with_the_lifetime_and_with_the_certificate() {
        let stamp = stamp();
        assert_eq!(stamp.timeout(NOW - 100, 300, None), 300, "a full handshake");
        assert_eq!(stamp.timeout(NOW, 300, None), 200, "a resumption later");
        assert_eq!(stamp.timeout(NOW + 200, 300, None), 0);
        assert_eq!(stamp.timeout(NOW, 300, Some(NOW + 50)), 50);
        assert_eq!(stamp.timeout(NOW, 300, Some(NOW + 5_000)), 200);
        assert_eq!(stamp.timeout(NOW, 300, Some(NOW - 1)), 0, "already over");
    }

    #[test]
    fn stamps_survive_their_bytes_and_nothing_else_is_one() {
        for stamp in [
            stamp(),
            Stamp {
                authority: Some([7; 16]),
                authenticated: true,
                ..stamp()
            },
        ] {
            let bytes = stamp.to_bytes();
            assert_eq!(Stamp::from_bytes(&bytes), Some(stamp));
            for len in 0..bytes.len() {
                let cut = Stamp::from_bytes(&bytes[..len]);
                assert!(
                    cut.is_none() || (len == 26 && stamp.authority.is_some()),
                    "{len}"
                );
            }
            assert_eq!(Stamp::from_bytes(&[&bytes[..], &[0]].concat()), None);
            let mut other = bytes.clone();
            other[0] = 2;
            assert_eq!(Stamp::from_bytes(&other), None);
            other[..2].copy_from_slice(&[1, 2]);
            assert_eq!(Stamp::from_bytes(&other), None, "a flag that is not known");
        }
    }
}
