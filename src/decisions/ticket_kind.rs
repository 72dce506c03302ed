//! Which TLS 1.3 tickets a connection opens and gets, where a policy has both kinds: sealed ones, and those of 32 bytes
//! that name a session in the store. OpenSSL goes by `SSL_OP_NO_TICKET`, which it looks at when the offer in a
//! ClientHello is looked up, and again when tickets are made.

use openssl::ssl::{SslRef, SslVersion};
use openssl_sys as sys;

use super::candidates::Identity;
use super::connection::Connection;
use super::overridden::Setting;
use crate::base::vector;
use crate::ffi;

const PRE_SHARED_KEY: u16 = 41;

/// A ClientHello has come: has OpenSSL look for what is offered first where it is.
pub(super) fn choose_for_hello(ssl: &mut SslRef, message: &[u8]) {
    // Where there is no TLS 1.3, what is offered of it says nothing.
    let has_tls13 = ffi::has_tls13(ssl);
    let found = is_stateful(ssl);
    let Some(connection) = Connection::of_mut(ssl) else {
        return;
    };
    connection.tickets_mut().note_hello();
    let policy = connection.policy();
    if !may_choose(connection) || connection.outcome().is_some() {
        return;
    }
    // The application has chosen otherwise for this connection.
    let expected = connection.tickets().chosen();
    if found != expected.unwrap_or_else(|| policy.settings().no_ticket) {
        return;
    }
    let stateful = match first_identity(message).filter(|_| has_tls13) {
        Some(identity) => policy.store().is_some() && identity.len() == size_of::<Identity>(),
        // No ticket of TLS 1.3.
        None => policy.settings().no_ticket,
    };
    set(ssl, stateful);
    if let Some(connection) = Connection::of_mut(ssl) {
        connection.tickets_mut().note_chosen(stateful);
    }
}

/// A ticket is about to be made: where the session goes, if it is one of TLS 1.3. It is known now who the client is; it
/// may have given its certificate after the handshake, of whose end OpenSSL does not tell.
pub(super) fn choose_for_ticket(ssl: &mut SslRef) {
    let Some(connection) = Connection::of(ssl) else {
        return;
    };
    if !may_choose(connection) || ssl.version2() != Some(SslVersion::TLS1_3) {
        return;
    }
    if !is_chosen(ssl, connection) {
        return;
    }
    let has_store = connection.policy().store().is_some();
    let stateful = has_store && ssl.session().and_then(ffi::credential).is_some();
    set(ssl, stateful);
    if let Some(connection) = Connection::of_mut(ssl) {
        connection.tickets_mut().note_chosen(stateful);
    }
}

/// A connection that is used again begins as its context says.
pub(super) fn reset(ssl: &mut SslRef) {
    let Some(connection) = Connection::of(ssl) else {
        return;
    };
    if may_choose(connection) && is_chosen(ssl, connection) {
        set(ssl, connection.policy().settings().no_ticket);
    }
}

/// Not where somebody has said on the context which kind there is.
fn may_choose(connection: &Connection) -> bool {
    connection.policy().reads_hellos() && !connection.owner().is_overridden_in(Setting::NoTicket)
}

/// Whether TLS 1.3 sessions of the connection will live in the store, as its client has a certificate.
pub(super) fn is_for_store(ssl: &SslRef, connection: &Connection) -> bool {
    match may_choose(connection) && is_chosen(ssl, connection) {
        true => connection.policy().store().is_some(),
        false => is_stateful(ssl),
    }
}

/// Whether the kind is that which was chosen, and not what the application has set for this connection.
fn is_chosen(ssl: &SslRef, connection: &Connection) -> bool {
    connection.tickets().chosen() == Some(is_stateful(ssl))
}

/// Whether TLS 1.3 sessions of a connection live in the store, as its next ticket is made.
pub(super) fn is_stateful(ssl: &SslRef) -> bool {
    ffi::has_option(ssl, sys::SSL_OP_NO_TICKET)
}

fn set(ssl: &mut SslRef, stateful: bool) {
    if is_stateful(ssl) != stateful {
        ffi::set_no_ticket(ssl, stateful);
    }
}

/// The first identity that a ClientHello offers in its pre-shared key extension (RFC 8446, section 4.2.11).
fn first_identity(message: &[u8]) -> Option<&[u8]> {
    // Type, length, legacy version, random.
    let hello = message.get(4 + 2 + 32..)?;
    let (_session_id, rest) = vector::<1>(hello)?;
    let (_ciphers, rest) = vector::<2>(rest)?;
    let (_compressions, rest) = vector::<1>(rest)?;
    let (mut extensions, _) = vector::<2>(rest)?;
    loop {
        let (&kind, rest) = extensions.split_first_chunk()?;
        let (content, rest) = vector::<2>(rest)?;
        if u16::from_be_bytes(kind) == PRE_SHARED_KEY {
            let (identities, _binders) = vector::<2>(content)?;
            let (identity, _) = vector::<2>(identities)?;
            return Some(identity);
        }
        extensions = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn prefixed<const N: usize>(bytes: &[u8]) -> Vec<u8> {
        let len = bytes.len().to_be_bytes();
        [&len[len.len() - N..], bytes].concat()
    }

    fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let extension = |(kind, content): &(u16, Vec<u8>)| {
            [&kind.to_be_bytes()[..], &prefixed::<2>(content)].concat()
        };
        let extensions: Vec<u8> = extensions.iter().flat_map(extension).collect();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &prefixed::<1>(&[1; 32]),
            &prefixed::<2>(&[0x13, 1]),
            &prefixed::<1>(&[0]),
            &prefixed::<2>(&extensions),
        ];
        [&[1][..], &prefixed::<3>(&body.concat())].concat()
    }

    fn pre_shared_key(identities: &[Vec<u8>]) -> Vec<u8> {
        let identity = |identity: &Vec<u8>| [&prefixed::<2>(identity)[..], &[0; 4]].concat();
        let identities: Vec<u8> = identities.iter().flat_map(identity).collect();
        [prefixed::<2>(&identities), prefixed::<2>(&[32; 33])].concat()
    }

    proptest! {
        #[test]
        fn the_first_identity_is_found_behind_other_extensions(
            others in vec((0..41_u16, vec(any::<u8>(), 0..50)), 0..6),
            identities in vec(vec(any::<u8>(), 1..300), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut extensions = others;
            let without = hello(&extensions);
            prop_assert_eq!(first_identity(&without), None);
            extensions.push((PRE_SHARED_KEY, pre_shared_key(&identities)));
            let whole = hello(&extensions);
            prop_assert_eq!(first_identity(&whole), Some(&identities[0][..]));
            prop_assert_eq!(first_identity(&whole[..cut.index(whole.len())]), None);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..300)) {
            first_identity(&bytes);
        }
    }
}
