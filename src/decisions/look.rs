//! Another look at the certificate of a client that comes back: whether it passes what a full handshake would ask of it
//! now. What comes of it is remembered.

use std::sync::Arc;
use std::time::SystemTime;

use openssl::ssl::{SslRef, SslSessionRef};

use super::applied::Applied;
use super::connection::Connection;
use super::offer::Passed;
use crate::base::unix_seconds;
use crate::ffi::{self, CredentialRef, Verification, Verifier};
use crate::outcome::Reason;
use crate::policy::Circumstances;
use crate::session::{Chain, ClientIs, Stamp};

/// At the lookup: holds the certificate, if the session has one, against what verifies it `here`, and against what has
/// verified certificates in full handshakes of the same server name, where a callback for that name may have switched
/// the context. One of the two there must be.
pub(super) fn look(
    ssl: &SslRef,
    connection: &Connection,
    session: &SslSessionRef,
    stamp: &Stamp,
    here: Option<&Verification>,
    now: SystemTime,
) -> Result<Passed, Reason> {
    if !connection.policy().verifies_certificates() || ffi::credential(session).is_none() {
        return Ok(Passed::default());
    }
    if (connection.policy().verdicts()).is_refused(&stamp.lineage) {
        return Err(Reason::NotTrusted);
    }
    let certificate = Certificate::of(connection, session, stamp, now)?;
    let learned = connection.owner().late().verifier(&stamp.binding);
    // A callback cannot be asked: who offers the session has proven nothing yet, and the server name callback, which it
    // may go by, has not run.
    let mut all = here
        .into_iter()
        .chain(learned.as_deref().map(Verifier::how));
    if here.is_none() && learned.is_none() || all.any(Verification::is_by_callback) {
        return Err(Reason::NotTrusted);
    }
    let mut passed = Passed::default();
    if let Some(how) = here {
        passed[0] = certificate.passes_here(ssl, how)?;
    }
    if let Some(learned) = learned.filter(|learned| passed[0] != Some(learned.id())) {
        passed[1] = Some(certificate.passes(ssl, &learned)?);
    }
    Ok(passed)
}

/// After all callbacks for the hello have run: whether the session passes what verifies certificates now, if that is
/// another than it has `passed`.
pub(super) fn passes_still(
    ssl: &SslRef,
    connection: &Connection,
    stamp: &Stamp,
    here: &Verification,
    passed: &Passed,
) -> bool {
    if !connection.policy().verifies_certificates() {
        return true;
    }
    let Some(session) = ssl
        .session()
        .filter(|session| ffi::credential(session).is_some())
    else {
        return true;
    };
    let known = Applied::of(ssl.ssl_context()).and_then(|context| context.known(here));
    if known.is_some_and(|(known, _)| passed.contains(&Some(known.id()))) {
        return true;
    }
    // Callers of this are not shielded as those of a lookup are.
    let passes = ffi::shielded(false, || {
        let certificate = Certificate::of(connection, session, stamp, SystemTime::now());
        let passes = |certificate: Certificate<'_>| certificate.passes_here(ssl, here).is_ok();
        !here.is_by_callback() && certificate.is_ok_and(passes)
    });
    if !passes {
        connection.policy().verdicts().refuse(stamp.lineage);
    }
    passes
}

/// What verifies the client's certificate, as connections of the same context will find it again.
pub(super) fn verifier(ssl: &SslRef, how: &Verification) -> Option<Arc<Verifier>> {
    let (verifier, _) = Applied::of(ssl.ssl_context())?.known(how)?;
    Some(Arc::clone(verifier))
}

/// The certificate of a session that was verified when it was made.
struct Certificate<'a> {
    connection: &'a Connection,
    session: &'a SslSessionRef,
    lineage: [u8; 16],
    chain: Option<Arc<Chain>>,
    /// In seconds since the Unix epoch.
    now: u64,
}

impl<'a> Certificate<'a> {
    fn of(
        connection: &'a Connection,
        session: &'a SslSessionRef,
        stamp: &Stamp,
        now: SystemTime,
    ) -> Result<Self, Reason> {
        if stamp.client != ClientIs::Verified {
            return Err(Reason::NotTrusted);
        }
        // Others may have taken the room of the chain that was there at the lookup.
        let own = connection.client().chain();
        let find = |hash| match own {
            Some(own) if own.hash() == hash => Some(own),
            _ => connection.policy().chains().get(hash),
        };
        Ok(Self {
            connection,
            session,
            lineage: stamp.lineage,
            now: unix_seconds(now),
            chain: match &stamp.chain {
                Some(hash) => Some(find(hash).ok_or(Reason::UnknownChain)?),
                None => None,
            },
        })
    }

    /// Whether it passes what the connection's certificates are verified with; the number of that, if it is not the
    /// connection's own.
    fn passes_here(&self, ssl: &SslRef, how: &Verification) -> Result<Option<u64>, Reason> {
        let known = Applied::of(ssl.ssl_context()).and_then(|context| context.known(how));
        // Made anew: parameters that are not compared may differ.
        let verify = || self.verify(ssl, &Verifier::of(ssl, how));
        let Some((known, _)) = known else {
            let (passes, _) = verify();
            return passes.then_some(None).ok_or(Reason::NotTrusted);
        };
        let state = ffi::trust_state(ssl).ok_or(Reason::NotTrusted)?;
        self.remembered(known.id(), state, verify)?;
        Ok(Some(known.id()))
    }

    /// Whether it passes this verifier; the number of that.
    fn passes(&self, ssl: &SslRef, verifier: &Verifier) -> Result<u64, Reason> {
        let state = verifier.state().ok_or(Reason::NotTrusted)?;
        self.remembered(verifier.id(), state, || self.verify(ssl, verifier))?;
        Ok(verifier.id())
    }

    fn remembered(
        &self,
        verifier: u64,
        state: ffi::TrustState,
        verify: impl FnOnce() -> (bool, u64),
    ) -> Result<(), Reason> {
        let policy = self.connection.policy();
        let changes = policy.trust_changes();
        let when = Circumstances { state, changes };
        let question = (self.lineage, verifier);
        let passes = policy
            .verdicts()
            .get(&question, &when, self.now)
            .unwrap_or_else(|| {
                // What changes meanwhile belongs to the next look.
                let (passes, until) = verify();
                policy.verdicts().note(question, when, until, passes);
                passes
            });
        passes.then_some(()).ok_or(Reason::NotTrusted)
    }

    /// Whether it passes now, and until which second that holds.
    fn verify(&self, ssl: &SslRef, verifier: &Verifier) -> (bool, u64) {
        self.connection.policy().counters().verifications.add_one();
        let credential = ffi::credential(self.session);
        let certificate = credential.as_ref().and_then(CredentialRef::certificate);
        let certificates = certificate.map(|own| Chain::with(own, self.chain.as_deref()));
        let look = certificates.and_then(|certificates| verifier.verify(ssl, &certificates));
        look.map_or((false, u64::MAX), |look| (look.passes, look.until))
    }
}
