//! The tickets that a connection gets, and whose callbacks make them.

use super::applied::Applied;
use super::overridden::Setting;

#[derive(Default)]
pub(super) struct Tickets {
    /// How many it would have got, had it not been decided that it gets none.
    denied: Option<u32>,
    /// Which of our callbacks for them OpenSSL has called.
    generated: bool,
    sealed: bool,
}

impl Tickets {
    /// The connection gets none; it would have got so many.
    pub(super) fn deny(&mut self, tickets: usize) {
        let tickets = u32::try_from(tickets).unwrap_or(u32::MAX);
        self.denied.get_or_insert(tickets);
    }

    /// How many to give back to its `SSL`, if that is used again.
    pub(super) fn denied(&self) -> Option<usize> {
        self.denied.and_then(|tickets| tickets.try_into().ok())
    }

    /// OpenSSL has called our callback for a ticket that is about to be made.
    pub(super) fn note_generated(&mut self) {
        self.generated = true;
    }

    /// OpenSSL has called our callback for a ticket that is to be sealed. Whether it called the one before,
    /// which stamps the session.
    pub(super) fn note_sealed(&mut self) -> bool {
        self.sealed = true;
        self.generated
    }

    /// One has been made: notices if the callbacks were not ours.
    pub(super) fn notice_callbacks(&self, owner: &Applied, sealed: bool) {
        if !self.generated {
            owner.notice(Setting::TicketCallbacks);
        }
        if sealed && !self.sealed {
            owner.notice(Setting::TicketKeyCallback);
        }
        if self.generated && self.sealed == owner.policy().keys().is_some() {
            owner.note_our_tickets();
        }
    }
}
