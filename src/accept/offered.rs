//! What the store will be asked for, read out of a ClientHello before OpenSSL asks.

use std::ffi::c_uint;

use openssl::ssl::{SslRef, SslVersion};
use openssl_sys as sys;

use crate::decisions::{Identity, MAX_CANDIDATES};
use crate::ffi;

const SESSION_TICKET: c_uint = 35;
const PRE_SHARED_KEY: c_uint = 41;
const EARLY_DATA: c_uint = 42;
const SUPPORTED_VERSIONS: c_uint = 43;

/// The session ids that OpenSSL will ask for, in its order, when it goes on with this ClientHello,
/// and for which version: those of the length that OpenSSL makes, the first few of them.
///
/// The version is not negotiated yet. Should it turn out to be another one after all (the server has
/// no certificate that TLS 1.3 allows), what is asked for then has not been looked up: a full
/// handshake. And OpenSSL asks for nothing if the client does not say how it would use a ticket.
pub(super) fn offered(ssl: &SslRef) -> Option<(SslVersion, Vec<Identity>)> {
    let extension = |number| ffi::client_hello_extension(ssl, number);
    let sealed = !ffi::has_option(ssl, sys::SSL_OP_NO_TICKET);
    if ssl.client_hello_isv2() {
        None
    } else if ffi::has_tls13(ssl) && extension(SUPPORTED_VERSIONS).is_some_and(has_tls13) {
        // The session id of TLS 1.3 is nobody's (RFC 8446, appendix D.4).
        let identities = extension(PRE_SHARED_KEY).filter(|_| !sealed)?;
        Some((SslVersion::TLS1_3, stateful_tickets(identities)))
    } else if sealed && extension(SESSION_TICKET).is_some_and(|ticket| !ticket.is_empty()) {
        // With a ticket, readable or not, OpenSSL does not look at the id.
        None
    } else {
        let id = ssl.client_hello_session_id()?.try_into().ok()?;
        Some((SslVersion::TLS1_2, vec![id]))
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
/// as long as a session id. OpenSSL ends the handshake over one that is damaged.
fn stateful_tickets(extension: &[u8]) -> Vec<Identity> {
    let mut tickets = Vec::new();
    let mut identities = vector(extension).map_or(&[][..], |(identities, _binders)| identities);
    while let Some((identity, [_, _, _, _, rest @ ..])) = vector(identities) {
        if tickets.len() == MAX_CANDIDATES {
            break;
        }
        match identity.try_into() {
            Ok(ticket) if !tickets.contains(&ticket) => tickets.push(ticket),
            _ => {}
        }
        identities = rest;
    }
    tickets
}

/// What a length of two bytes counts, and what follows it.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
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

    proptest! {
        #[test]
        fn the_first_four_tickets_of_the_right_length_whatever_else_there_is(
            identities in vec(
                prop_oneof![vec(0..3_u8, 1..40), (0..9_u8).prop_map(|byte| vec![byte; 32])],
                0..20,
            ),
        ) {
            let mut expected: Vec<Identity> = Vec::new();
            for ticket in identities.iter().flat_map(|identity| Identity::try_from(&identity[..])) {
                if !expected.contains(&ticket) {
                    expected.push(ticket);
                }
            }
            expected.truncate(4);
            prop_assert_eq!(stateful_tickets(&pre_shared_key(&identities)), expected);
        }

        #[test]
        fn a_cut_extension_has_no_ticket_that_the_whole_one_has_not(
            identities in vec((0..9_u8).prop_map(|byte| vec![byte; 32]), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = pre_shared_key(&identities);
            let found = stateful_tickets(&whole[..cut.index(whole.len())]);
            prop_assert!(stateful_tickets(&whole).starts_with(&found));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..300)) {
            prop_assert!(stateful_tickets(&bytes).len() <= 4);
            has_tls13(&bytes);
        }
    }
}
