//! What OpenSSL's callbacks ask, of whoever decides.

use std::sync::OnceLock;

use openssl::ssl::{SslRef, SslSession};

use super::session_mut::SessionMut;
use super::ticket::{Ticket, TicketContext, Verdict};

/// Decides. There is one such object for the process, and not functions of a generic type: whether a callback is
/// still ours is told by its address, which is not unique for those.
///
/// A panic gives the answer that lets nothing resume; errors that are left in OpenSSL's queue are taken out, but in
/// `started`, `done`, `stepped`, `alerted` and `ticket_due`.
pub(crate) trait Decisions: Sync {
    /// A handshake starts, or goes on.
    fn started(&self, ssl: &mut SslRef);

    /// A ClientHello has come, which OpenSSL makes nothing of yet: the whole message.
    fn greeted(&self, ssl: &mut SslRef, message: &[u8]);

    /// OpenSSL says that a handshake is done. `session` is the connection's.
    fn done(&self, ssl: &mut SslRef, session: Option<SessionMut<'_>>);

    /// The handshake takes a step.
    fn stepped(&self, ssl: &mut SslRef);

    fn alerted(&self, ssl: &mut SslRef, alert: Alert);

    /// A session was made that can be resumed by its id.
    fn made(&self, ssl: &mut SslRef, session: SessionMut<'_>);

    /// The client offers a session id or, in TLS 1.3, a stateful ticket.
    fn offered(&self, ssl: &mut SslRef, id: &[u8]) -> Option<SslSession>;

    /// A ticket is to be sealed; `None` sends none.
    fn seal(&self, ssl: &mut SslRef, ticket: &mut TicketContext<'_>) -> Option<()>;

    /// A ticket is to be opened; `None` leaves it closed.
    fn open(&self, ssl: &mut SslRef, ticket: &mut TicketContext<'_>) -> Option<()>;

    /// A ticket of the connection's session is about to be made, sealed or not. Whether the connection may go on.
    fn ticket_due(&self, ssl: &mut SslRef, session: Option<SessionMut<'_>>) -> bool;

    /// A ticket has been opened, or could not.
    fn decide(&self, ssl: &mut SslRef, ticket: Ticket<'_>) -> Option<Verdict>;

    /// Everything else is right for early data: whether it is accepted.
    fn early_data(&self, ssl: &mut SslRef) -> bool;
}

/// What an alert says, of those that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alert {
    /// Fatal, sent or received.
    Fatal,
    /// A close_notify of ours.
    CloseSent,
}

static DECISIONS: OnceLock<&'static dyn Decisions> = OnceLock::new();

/// Says who decides, from the first time on.
pub(super) fn set_decisions(decisions: &'static dyn Decisions) {
    DECISIONS.get_or_init(|| decisions);
}

pub(super) fn decisions() -> Option<&'static dyn Decisions> {
    DECISIONS.get().copied()
}
