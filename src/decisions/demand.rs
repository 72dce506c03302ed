//! What a connection demands of its client, as it is read from OpenSSL.

use std::hash::{BuildHasher, Hasher, RandomState};

use openssl::ssl::{SslRef, SslVerifyMode};

use super::applied::Applied;
use super::connection::Connection;
use super::purpose;
use super::verified_against::VerifiedAgainst;
use crate::ffi::{self, Verification};
use crate::policy::Resumption;
use crate::secret::random;
use crate::session::{Binding, Demand};

/// What the connection demands of its client at this moment.
pub(super) fn demand(ssl: &SslRef, connection: &Connection) -> Demand {
    demand_and_how(ssl, connection).0
}

/// The same, and how a certificate is verified if one is asked for.
pub(super) fn demand_and_how(
    ssl: &SslRef,
    connection: &Connection,
) -> (Demand, Option<Verification>) {
    let verify = ffi::verify_mode(ssl);
    if !verify.contains(SslVerifyMode::PEER) {
        let demand = Demand {
            verify,
            authority: None,
            callback: None,
        };
        return (demand, None);
    }
    // Known from the first handshake on.
    let how = ffi::verification(ssl, connection.owner().dear(Binding::default));
    let context = Applied::of(ssl.ssl_context())
        .filter(|_| how.is_by_callback() && ffi::is_of_context(&how, ssl));
    let demand = Demand {
        verify,
        authority: Some(authority(ssl, connection, &how)),
        callback: context.map(|context| context.own(unique)),
    };
    (demand, Some(how))
}

/// What is demanded of the client before any callback of its handshake has been called.
pub(super) fn first_demand(ssl: &SslRef) -> Option<Demand> {
    let connection = Connection::of(ssl)?;
    connection.owner().dear(|| {
        let param = || ffi::verify_param_of(ssl.ssl_context());
        let hash = || param().map_or_else(|_| Binding::default(), purpose::hash);
        ffi::shielded(Binding::default(), hash)
    });
    Some(demand(ssl, connection))
}

/// Hashes what a context verifies clients against before the first of them: verification may load more
/// certificates into the store.
pub(super) fn prepare(ssl: &SslRef, connection: &Connection) {
    if ffi::verify_mode(ssl).contains(SslVerifyMode::PEER)
        && Applied::of(ssl.ssl_context()).is_some()
    {
        demand(ssl, connection);
    }
}

/// The hash of what the connection's client is verified against. It takes milliseconds if there are many
/// CAs, so it is made once for a context, or for a connection with something of its own.
fn authority(ssl: &SslRef, connection: &Connection, how: &Verification) -> Binding {
    let context = Applied::of(ssl.ssl_context());
    if let Some((_, known)) = context.and_then(|context| context.known(how)) {
        return *known;
    }
    let policy = context.map_or_else(|| connection.policy(), |context| context.policy());
    let context = context.filter(|_| ffi::is_of_context(how, ssl));
    let own = context.map(|context| context.own(unique));
    let make = || ffi::shielded(None, || hash(ssl, policy, how, own)).unwrap_or_else(unique);
    context
        .and_then(|context| context.authority(ssl, how, make))
        .unwrap_or_else(|| connection.client().authority(ssl, how, make))
}

/// Where others decide out of sight, a callback or a directory that OpenSSL looks into when it verifies, the
/// hash equals none of another context, unless the policy names what it has in common with others by its
/// generation; and no other at all, if they are a connection's own.
fn hash(
    ssl: &SslRef,
    policy: &Resumption,
    how: &Verification,
    own: Option<Binding>,
) -> Option<Binding> {
    let (certificates, names) = ffi::certificate_authorities(ssl);
    let out_of_sight = certificates.is_empty() || how.is_by_callback();
    let context = match out_of_sight && !policy.has_generation() {
        true => Some(own?),
        false => None,
    };
    let in_force = ffi::verify_param(ssl).map_or_else(|_| Binding::default(), purpose::hash);
    let authority = VerifiedAgainst {
        certificates,
        names,
        rules: how.rules().to_vec(),
        demanded: *how.demanded(),
        dear: [in_force, *how.dear()],
        by_callback: how.is_by_callback(),
        context,
    };
    Some(authority.hash())
}

/// What equals nothing else.
pub(super) fn unique() -> Binding {
    ffi::shielded([0; 16], || {
        let mut unique = [0; 16];
        if random(&mut unique).is_err() {
            // OpenSSL's default library context may have nothing loaded, where servers use one of their own.
            let other = || RandomState::new().build_hasher().finish().to_be_bytes();
            unique = [other(), other()]
                .as_flattened()
                .try_into()
                .unwrap_or(unique);
        }
        unique
    })
}
