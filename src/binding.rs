//! What of a connection goes into stamps, and is held against them: when a session is made, when
//! one is looked up, and again after a server name callback may have raised the demand.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::SystemTime;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::ssl::{NameType, SslRef, SslSessionRef, SslVerifyMode, SslVersion};
use openssl::x509::{X509Ref, X509VerifyResult};

use crate::connection::Connection;
use crate::context::Applied;
use crate::ffi::{self, CredentialRef, Verification};
use crate::fits::fits;
use crate::late;
use crate::outcome::Reason;
use crate::overridden::Setting;
use crate::purpose;
use crate::resumption::Resumption;
use crate::stamp::{self, Authority, Binding, Claims, ClientIs, Demand, Here, Stamp, unix_seconds};

/// The server name in the ClientHello that is being processed.
fn offered_name(ssl: &SslRef) -> Option<&[u8]> {
    ffi::server_name_extension(ssl).map(host_name)
}

/// What a session must be to be resumed now: the client's offer is being looked up, and the server
/// name is not known but from the ClientHello itself.
pub(crate) fn here(ssl: &SslRef, connection: &Connection, now: SystemTime) -> Option<Here> {
    let policy = connection.policy();
    Some(Here {
        version: ssl.version2()?,
        binding: connection.owner().binding(offered_name(ssl)),
        lifetime: policy.lifetime_value().as_secs(),
        cutoff: policy.cutoff(),
        certificates: policy.resumes_certificates(),
        now,
    })
}

/// The name in a server name extension (RFC 6066, section 3): a list of one entry, a type and a
/// name. OpenSSL ends the handshake over any other, and over a longer name than DNS has; what it is bound
/// to is then of no account, and not worth hashing or keeping in full.
fn host_name(extension: &[u8]) -> &[u8] {
    let name = match extension {
        [_, _, 0, _, _, name @ ..] => name,
        other => other,
    };
    &name[..name.len().min(LONGEST_NAME + 1)]
}

/// The longest name that OpenSSL takes (`TLSEXT_MAXLEN_host_name`).
const LONGEST_NAME: usize = 255;

fn same(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        (one, other) => one == other,
    }
}

/// What the connection demands of its client at this moment.
fn demand(ssl: &SslRef, connection: &Connection) -> Demand {
    let verify = ffi::verify_mode(ssl);
    if !verify.contains(SslVerifyMode::PEER) {
        return Demand {
            verify,
            authority: None,
            callback: None,
        };
    }
    // Known from the first handshake on.
    let how = ffi::verification(ssl, connection.owner().dear(Binding::default));
    let context = ffi::applied(ssl.ssl_context())
        .filter(|_| how.is_by_callback() && ffi::is_of_context(&how, ssl));
    Demand {
        verify,
        authority: Some(authority(ssl, connection, &how)),
        callback: context.map(|context| context.own(unique)),
    }
}

/// The hash of what the connection's client is verified against. It takes milliseconds if there are many
/// CAs, so it is made once for a context, or for a connection with something of its own.
fn authority(ssl: &SslRef, connection: &Connection, how: &Verification) -> Binding {
    let context = ffi::applied(ssl.ssl_context());
    if let Some(known) = context.and_then(|context| context.known_authority(how)) {
        return known;
    }
    let policy = context.map_or_else(|| connection.policy(), |context| context.policy());
    let context = context.filter(|_| ffi::is_of_context(how, ssl));
    let own = context.map(|context| context.own(unique));
    let make = || ffi::shielded(None, || hash(ssl, policy, how, own)).unwrap_or_else(unique);
    context
        .and_then(|context| context.authority(ssl, how, make))
        .unwrap_or_else(|| connection.authority(ssl, how, make))
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
    let authority = Authority {
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
fn unique() -> Binding {
    ffi::shielded([0; 16], || {
        let mut unique = [0; 16];
        if ffi::random(&mut unique).is_err() {
            // OpenSSL's default library context may have nothing loaded, where servers use one of their own.
            let random = || RandomState::new().build_hasher().finish().to_be_bytes();
            unique = [random(), random()]
                .as_flattened()
                .try_into()
                .unwrap_or(unique);
        }
        unique
    })
}

/// Hashes what a context verifies clients against before the first of them: verification may load more
/// certificates into the store.
fn prepare(ssl: &SslRef, connection: &Connection) {
    if ffi::verify_mode(ssl).contains(SslVerifyMode::PEER)
        && ffi::applied(ssl.ssl_context()).is_some()
    {
        demand(ssl, connection);
    }
}

/// What is demanded of the client before any callback of its handshake has been called.
pub(crate) fn first_demand(ssl: &SslRef) -> Option<Demand> {
    let connection = ffi::connection(ssl)?;
    connection.owner().dear(|| {
        let param = || ffi::verify_param_of(ssl.ssl_context());
        let hash = || param().map_or_else(|_| Binding::default(), purpose::hash);
        ffi::shielded(Binding::default(), hash)
    });
    Some(demand(ssl, connection))
}

/// Whether the connection's policy resumes this session here.
pub(crate) fn admit(ssl: &SslRef, session: &SslSessionRef, here: &Here) -> Result<Stamp, Reason> {
    let connection = ffi::connection(ssl).ok_or(Reason::NotFound)?;
    let policy = connection.policy();
    if !ffi::has_info_callback(ssl) {
        // There would be no second look at the demand.
        connection.owner().notice(Setting::InfoCallback);
        return Err(Reason::InfoCallback);
    }
    let stamp = stamp::check(&Claims::of(session), here)?;
    if !fits(ssl, session, here.version) {
        return Err(Reason::WrongContext);
    }
    // When it resumes TLS 1.2, OpenSSL tells the server name callback the name in the session. It puts
    // it there only if that of the full handshake said yes; the one of another context, or of
    // tomorrow, would see none. The stamp is bound to the name, or `check` had declined.
    if here.version != SslVersion::TLS1_3 {
        match (ffi::hostname(session), offered_name(ssl)) {
            (None, Some(name)) => ffi::set_hostname(session, name),
            (own, name) if same(own, name) => {}
            _ => return Err(Reason::OtherBinding),
        }
    }
    let listing = policy.forgotten().is_listing();
    if let Some(credential) = ffi::credential(session).filter(|_| listing) {
        // What cannot be hashed cannot be told from what is forgotten.
        let digest = credential.sha256();
        if digest.is_none_or(|digest| policy.forgotten().is_forgotten(&digest, stamp.time)) {
            return Err(Reason::Forgotten);
        }
    }
    let now = unix_seconds(here.now);
    let demand = demand(ssl, connection);
    // A callback has asked for less than the context does.
    let relaxed =
        (connection.first_demand()).is_some_and(|first| !demand.verify.contains(first.verify));
    let (own, anywhere) = (connection.owner().late(), policy.late());
    late::is_met_by(&stamp, relaxed, own, anywhere, now)?;
    demand.is_met_by(&stamp)?;
    Ok(stamp)
}

/// Whether a connection may go on with its handshake: if it resumes, what is demanded now, after
/// the server name callback, is met by the session.
///
/// If not it is too late to decline, and the connection must be failed. Its client would come back
/// with the same session, so what was demanded is remembered: the next lookup declines, and the
/// handshake is full. What is demanded once the handshake is complete, in a renegotiation (which is
/// always full) or by asking for a certificate then, is verified by OpenSSL and not our affair.
pub(crate) fn may_go_on(ssl: &SslRef, connection: &Connection) -> bool {
    if connection.outcome().is_some() || !ssl.session_reused() {
        // The context may be another one by now.
        prepare(ssl, connection);
        return true;
    }
    // All callbacks for the hello have run before the first step that resumes. Others could still raise the
    // mode.
    let verify = ffi::verify_mode(ssl);
    if connection.has_looked_at(verify) {
        return true;
    }
    let stamp = resumed_stamp(ssl);
    // Another session was resumed past us, and nobody knows where it was made; the server name callback is
    // told the name of that place, and demands what is demanded there. Nor has one of ours been checked.
    let Some(stamp) = stamp.filter(|stamp| connection.resuming() == Some(stamp)) else {
        let owner = connection.owner();
        if stamp.is_none() && is_external_psk(ssl, owner) {
            return true;
        }
        // Unless it is this connection alone that OpenSSL does not call us for.
        match stamp {
            _ if owner.makes_our_tickets() => {}
            Some(_) => owner.notice(Setting::TicketCallbacks),
            None => owner.doubt(),
        }
        return false;
    };
    let demand = demand(ssl, connection);
    let met = demand.is_met_by(&stamp).is_ok();
    if met {
        connection.set_looked_at(verify);
    } else {
        // It may depend on more than the name, and whoever offered the session need not have met it.
        note_demand(connection, stamp.binding, demand, Some(REMEMBERED));
    }
    met
}

/// How long a demand is remembered that no client is known to have met.
const REMEMBERED: u64 = 3_600;

/// A full handshake is complete: takes down what was demanded of the client after its offer was looked up. A
/// demand of the certificate callback shows nowhere else: OpenSSL does not call it when it resumes.
pub(crate) fn note_full_handshake(ssl: &SslRef, connection: &Connection) {
    if ffi::asks_after_handshake(ssl) {
        // What is demanded then depends on the version, and names do not.
        return;
    }
    let demand = demand(ssl, connection);
    let is_late =
        demand.verify.contains(SslVerifyMode::PEER) && connection.first_demand() != Some(&demand);
    let lifetime = is_late.then(|| connection.policy().longest_lifetime());
    let name = ssl.servername_raw(NameType::HOST_NAME);
    let binding = connection.owner().binding(name);
    note_demand(connection, binding, demand, lifetime);
}

/// Remembers a demand that was late for so many seconds, and of one that was not that it is the context's own.
fn note_demand(connection: &Connection, binding: Binding, demand: Demand, late: Option<u64>) {
    let now = unix_seconds(SystemTime::now());
    let until = late.map(|seconds| now.saturating_add(seconds));
    let seen = late::Demanded { demand, until };
    connection.owner().late().note(binding, seen, now);
    if until.is_some() {
        connection.policy().late().note(binding, seen, now);
    }
}

/// Whether what is resumed without a stamp is an external pre-shared key of TLS 1.3, which is the application's
/// affair: one made of bytes, or a session that was once made in a handshake. That is told from a ticket of others
/// by their not having the callbacks; should it be one all the same, it does not pass a demand.
fn is_external_psk(ssl: &SslRef, owner: &Applied) -> bool {
    let has_age = |session| ffi::shielded(true, || ffi::has_ticket_age(session));
    ssl.version2() == Some(SslVersion::TLS1_3)
        && (!ssl.session().is_none_or(has_age)
            || (owner.makes_our_tickets() && !ffi::verify_mode(ssl).contains(SslVerifyMode::PEER)))
}

/// The stamp of the session that a connection resumes.
pub(crate) fn resumed_stamp(ssl: &SslRef) -> Option<Stamp> {
    ssl.session().map(ffi::appdata).and_then(Stamp::from_bytes)
}

/// Stamps a session that OpenSSL is just making, and sets when it ends.
pub(crate) fn stamp_session(ssl: &SslRef, session: &SslSessionRef) {
    let Some(connection) = ffi::connection(ssl) else {
        return;
    };
    let policy = connection.policy();
    // A resumption hands the stamp on: name and demand were compared with it. So does a handshake
    // that is complete: what the client was verified with then may have changed since.
    let inherited = Stamp::from_bytes(ffi::appdata(session))
        .filter(|_| ssl.session_reused() || connection.outcome().is_some());
    let credential = ffi::credential(session);
    let made = || {
        let demand = demand(ssl, connection);
        let (client, authority) = match credential {
            None => (ClientIs::Anonymous, demand.authority),
            Some(_) if ssl.verify_result() == X509VerifyResult::OK => {
                (ClientIs::Verified, demand.authority)
            }
            Some(_) => (ClientIs::Unverified, demand.unverified()),
        };
        Stamp {
            time: connection.started(),
            binding: connection
                .owner()
                .binding(ssl.servername_raw(NameType::HOST_NAME)),
            authority,
            client,
        }
    };
    let stamp = match inherited {
        Some(stamp) if connection.is_stamped_for(credential) => stamp,
        // The client has been asked for a certificate since (RFC 8446, section 4.6.2).
        Some(Stamp { time, .. }) => Stamp { time, ..made() },
        None => made(),
    };
    let dated = u64::try_from(session.time()).unwrap_or(0);
    let ends = |certificate: &X509Ref| ffi::shielded(0, || unix_time(certificate.not_after()));
    let certificate = credential.as_ref().and_then(CredentialRef::certificate);
    let certificate_ends = certificate.map(ends);
    let lifetime = policy.lifetime_value().as_secs();
    let timeout = stamp.timeout(dated, lifetime, certificate_ends);
    // What has ended already says so in the stamp: OpenSSL leaves a timeout of 0 out when it writes
    // a session and reads 3 in its place, and fails the connection whose ticket grows by that.
    let time = if timeout == 0 { 0 } else { stamp.time };
    let stamp = Stamp { time, ..stamp };
    if inherited != Some(stamp) {
        ffi::set_appdata(session, &stamp.to_bytes());
    }
    ffi::set_session_timeout(session, timeout.max(1));
    connection.note_stamped(credential);
}

/// Whether the session had ended when it was stamped.
pub(crate) fn has_ended(session: &SslSessionRef) -> bool {
    Stamp::from_bytes(ffi::appdata(session)).is_some_and(|stamp| stamp.time == 0)
}

/// Seconds since the Unix epoch; 0, which is over, for a time that OpenSSL cannot read.
fn unix_time(time: &Asn1TimeRef) -> u64 {
    Asn1Time::from_unix(0)
        .and_then(|epoch| epoch.diff(time))
        .map_or(0, |since| {
            i64::from(since.days) * 86_400 + i64::from(since.secs)
        })
        .try_into()
        .unwrap_or(0)
}

/// Whether sessions of this connection are not to be resumed because of who its client is, as far as is known yet.
pub(crate) fn is_refused(ssl: &SslRef, connection: &Connection) -> bool {
    !connection.policy().resumes_certificates() && ssl.session().and_then(ffi::credential).is_some()
}

/// Whether the client's certificate is too large for the session to be kept in a TLS 1.3 ticket: to
/// seal more than 65,280 bytes is a fatal error to OpenSSL, not a connection without a ticket.
/// (A TLS 1.2 ticket cannot be called off any more when the certificate is known.)
pub(crate) fn is_too_large(ssl: &SslRef, connection: &Connection) -> bool {
    // What is being resumed has been in a ticket.
    let is_new = || connection.outcome().is_some() || !ssl.session_reused();
    connection.policy().keys().is_some()
        && is_new()
        && ssl
            .session()
            .and_then(ffi::peer_certificate)
            .is_some_and(|certificate| ffi::certificate_len(certificate) > LARGEST_IN_TICKET)
}

/// The largest certificate in a ticket; what else is in a session takes less than 2 KiB.
const LARGEST_IN_TICKET: usize = 0xff00 - 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_follows_the_list_and_entry_headers() {
        assert_eq!(host_name(b"\0\x04\0\0\x01a"), b"a");
        assert_eq!(host_name(b"\0\x03\0\0\0"), b"");
        assert_eq!(
            host_name(b"\0\x04\x01\0\x01a"),
            b"\0\x04\x01\0\x01a",
            "not a host name"
        );
        assert_eq!(host_name(b""), b"");
    }

    #[test]
    fn certificate_times_become_unix_times() {
        for time in [0, 1, 86_400, 1_800_000_000, 4_102_444_801] {
            let asn1 = Asn1Time::from_unix(time).unwrap();
            assert_eq!(unix_time(&asn1), u64::try_from(time).unwrap());
        }
        let before = Asn1Time::from_str_x509("19500101000000Z").unwrap();
        assert_eq!(unix_time(&before), 0);
    }
}
