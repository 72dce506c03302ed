//! Whether a session that was looked up resumes.

use std::time::SystemTime;

use openssl::ssl::{SslRef, SslSessionRef, SslVersion};

use super::candidates::Identity;
use super::connection::Connection;
use super::demand::demand_and_how;
use super::fits::fits;
use super::look::look;
use super::offer::{Offer, Passed};
use super::overridden::Setting;
use super::server_name::{offered_name, same};
use crate::base::unix_seconds;
use crate::ffi::{self, SessionMut};
use crate::outcome::Reason;
use crate::policy::is_met_by;
use crate::session::{Claims, Here, Stamp, check};

/// What a session must be to be resumed now: the client's offer is being looked up, and the server
/// name is not known but from the ClientHello itself.
pub(super) fn here(ssl: &SslRef, connection: &Connection, now: SystemTime) -> Option<Here> {
    let policy = connection.policy();
    Some(Here {
        version: ssl.version2()?,
        binding: connection.owner().binding(offered_name(ssl)),
        lifetime: policy.knobs().lifetime.as_secs(),
        cutoff: policy.cutoff(),
        certificates: policy.resumes_certificates(),
        now,
    })
}

/// What resumes.
pub(super) struct Admitted {
    pub(super) stamp: Stamp,
    pub(super) passed: Passed,
}

/// Whether the connection's policy resumes here the session that the client offers by this identity.
pub(super) fn admit(
    ssl: &SslRef,
    identity: &Identity,
    session: &mut SessionMut<'_>,
    here: &Here,
) -> Result<Admitted, Reason> {
    let connection = Connection::of(ssl).ok_or(Reason::NotFound)?;
    let policy = connection.policy();
    if !ffi::has_info_callback(ssl) {
        // There would be no second look at the demand.
        connection.owner().notice(Setting::InfoCallback);
        return Err(Reason::InfoCallback);
    }
    let stamp = check(&Claims::of(session), here)?;
    if !fits(ssl, session, here.version) {
        return Err(Reason::WrongContext);
    }
    // When it resumes TLS 1.2, OpenSSL tells the server name callback the name in the session. It puts
    // it there only if that of the full handshake said yes; the one of another context, or of
    // tomorrow, would see none. The stamp is bound to the name, or `check` had declined.
    if here.version != SslVersion::TLS1_3 {
        match (ffi::hostname(session), offered_name(ssl)) {
            (None, Some(name)) => session.set_hostname(name),
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
    let (demand, how) = demand_and_how(ssl, connection);
    // A callback has asked for less than the context does.
    let relaxed = (connection.offer().and_then(Offer::first_demand))
        .is_some_and(|first| !demand.verify.contains(first.verify));
    let (own, anywhere) = (connection.owner().late(), policy.late());
    is_met_by(&stamp, relaxed, own, anywhere, now)?;
    demand.is_met_by(&stamp)?;
    let passed = look(ssl, connection, session, &stamp, how.as_ref(), here.now)
        .inspect_err(|_| policy.counters().untrusted.add_one())?;
    if policy.asks_about_clients() && !is_let_in(connection, identity, session, here.now) {
        return Err(Reason::NotAdmitted);
    }
    Ok(Admitted { stamp, passed })
}

/// Whether the application lets the client of a session in, which it is asked once in a handshake.
fn is_let_in(
    connection: &Connection,
    identity: &Identity,
    session: &SslSessionRef,
    now: SystemTime,
) -> bool {
    let known = connection
        .candidates()
        .and_then(|mut all| all.is_let_in(identity));
    if let Some(known) = known {
        return known;
    }
    // If it was to be asked while the handshake was suspended, and was not: this is not the thread to wait for it.
    let let_in = !connection.asks_ahead() && connection.policy().admits(session, now);
    if let Some(mut all) = connection.candidates() {
        all.set_let_in(identity, let_in);
    }
    let_in
}
