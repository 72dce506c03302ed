//! What a connection demands of its client.

use openssl::ssl::SslVerifyMode;

use super::stamp::{Binding, ClientIs, Stamp};
use crate::outcome::Reason;

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
