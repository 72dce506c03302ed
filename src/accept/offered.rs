//! What the store will be asked for, read out of a ClientHello before OpenSSL asks.

use std::ffi::c_uint;

use openssl::ssl::{SslRef, SslVersion};
use openssl_sys as sys;

use crate::base::vector;
use crate::decisions::{Identity, MAX_CANDIDATES};
use crate::ffi;

const IDENTITY: usize = size_of::<Identity>();

const SESSION_TICKET: c_uint = 35;
const PRE_SHARED_KEY: c_uint = 41;
const EARLY_DATA: c_uint = 42;
const SUPPORTED_VERSIONS: c_uint = 43;

/// What a client offers, before OpenSSL asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Offered {
    /// A session id, or a stateful ticket.
    Stored(Identity),
    /// A sealed ticket.
    Sealed(Vec<u8>),
}

impl Offered {
    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Stored(id) => *id,
            Self::Sealed(ticket) => *ticket.first_chunk().unwrap_or(&[0; IDENTITY]),
        }
    }
}

/// The sessions that OpenSSL will ask for, in its order, when it goes on with this ClientHello,
/// and for which version: ids of the length that OpenSSL makes, or tickets, the first few of them.
///
/// The version is not negotiated yet. Should it turn out to be another one after all (the server has
/// no certificate that TLS 1.3 allows), what is asked for then has not been looked up: a full
/// handshake. And OpenSSL asks for nothing if the client does not say how it would use a ticket.
pub(super) fn offered(ssl: &SslRef) -> Option<(SslVersion, Vec<Offered>)> {
    let extension = |number| ffi::client_hello_extension(ssl, number);
    let sealed = !ffi::has_option(ssl, sys::SSL_OP_NO_TICKET);
    if ssl.client_hello_isv2() {
        None
    } else if ffi::has_tls13(ssl) && extension(SUPPORTED_VERSIONS).is_some_and(has_tls13) {
        // The session id of TLS 1.3 is nobody's (RFC 8446, appendix D.4).
        Some((
            SslVersion::TLS1_3,
            tickets(extension(PRE_SHARED_KEY)?, sealed),
        ))
    } else if let Some(ticket) =
        extension(SESSION_TICKET).filter(|ticket| sealed && !ticket.is_empty())
    {
        // With a ticket, readable or not, OpenSSL does not look at the id.
        let ticket = Offered::Sealed(ticket.to_vec());
        Some((SslVersion::TLS1_2, vec![ticket]))
    } else {
        let id = ssl.client_hello_session_id()?.try_into().ok()?;
        Some((SslVersion::TLS1_2, vec![Offered::Stored(id)]))
    }
}

/// Whether early data comes with a session that is offered to TLS 1.3.
pub(super) fn offers_early_data(ssl: &SslRef) -> bool {
    let extension = |number| ffi::client_hello_extension(ssl, number);
    ffi::has_tls13(ssl)
        && extension(SUPPORTED_VERSIONS).is_some_and(has_tls13)
        && extension(PRE_SHARED_KEY).is_some()
        && extension(EARLY_DATA).is_some()
}

/// Whether a supported versions extension (RFC 8446, section 4.2.1) has TLS 1.3 in it.
fn has_tls13(extension: &[u8]) -> bool {
    let versions = extension.get(1..).unwrap_or_default();
    versions.chunks(2).any(|version| version == [3, 4])
}

/// The first distinct identities of a pre-shared key extension (RFC 8446, section 4.2.11) that are
/// as long as a session id, or long enough for a sealed ticket. OpenSSL ends the handshake over one that is damaged.
fn tickets(extension: &[u8], sealed: bool) -> Vec<Offered> {
    let mut tickets = Vec::new();
    let mut identities =
        vector::<2>(extension).map_or(&[][..], |(identities, _binders)| identities);
    while let Some((identity, [_, _, _, _, rest @ ..])) = vector::<2>(identities) {
        if tickets.len() == MAX_CANDIDATES {
            break;
        }
        let offered = match Identity::try_from(identity) {
            _ if sealed && identity.len() >= IDENTITY => Some(Offered::Sealed(identity.to_vec())),
            Ok(id) if !sealed => Some(Offered::Stored(id)),
            _ => None,
        };
        tickets.extend(offered.filter(|offered| !tickets.contains(offered)));
        identities = rest;
    }
    tickets
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn prefixed(bytes: &[u8]) -> Vec<u8> {
        let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&len, bytes].concat()
    }

    fn pre_shared_key(identities: &[Vec<u8>]) -> Vec<u8> {
        let identity = |identity: &Vec<u8>| [&prefixed(identity)[..], &[0xff; 4]].concat();
        let identities: Vec<u8> = identities.iter().flat_map(identity).collect();
        [prefixed(&identities), prefixed(&[32; 33])].concat()
    }

    #[test]
    fn versions_are_read_in_pairs() {
        assert!(has_tls13(&[4, 3, 3, 3, 4]));
        assert!(!has_tls13(&[4, 0, 3, 4, 0]));
        for no in [&[][..], &[2], &[2, 3], &[1, 3], &[2, 3, 3]] {
            assert!(!has_tls13(no), "{no:?}");
        }
    }

    fn stored(identity: &[u8]) -> Option<Offered> {
        identity.try_into().ok().map(Offered::Stored)
    }

    fn sealed(identity: &[u8]) -> Option<Offered> {
        (identity.len() >= 32).then(|| Offered::Sealed(identity.to_vec()))
    }

    proptest! {
        #[test]
        fn the_first_four_tickets_of_the_right_length_whatever_else_there_is(
            identities in vec(
                prop_oneof![vec(0..3_u8, 1..40), (0..9_u8).prop_map(|byte| vec![byte; 32])],
                0..20,
            ),
        ) {
            for (is_sealed, kind) in [(false, stored as fn(&[u8]) -> _), (true, sealed)] {
                let mut expected = Vec::new();
                for ticket in identities.iter().flat_map(|identity| kind(identity)) {
                    if !expected.contains(&ticket) {
                        expected.push(ticket);
                    }
                }
                expected.truncate(4);
                prop_assert_eq!(tickets(&pre_shared_key(&identities), is_sealed), expected);
            }
        }

        #[test]
        fn a_cut_extension_has_no_ticket_that_the_whole_one_has_not(
            identities in vec((0..9_u8).prop_map(|byte| vec![byte; 32]), 0..6),
            cut in any::<prop::sample::Index>(),
            is_sealed in any::<bool>(),
        ) {
            let whole = pre_shared_key(&identities);
            let found = tickets(&whole[..cut.index(whole.len())], is_sealed);
            prop_assert!(tickets(&whole, is_sealed).starts_with(&found));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..300), is_sealed in any::<bool>()) {
            prop_assert!(tickets(&bytes, is_sealed).len() <= 4);
            has_tls13(&bytes);
        }
    }
}
