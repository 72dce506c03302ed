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
    /// A stateful one is to be called off, by having it sealed.
    withheld: bool,
    /// Whether our message callback has seen a ClientHello.
    hello: bool,
    /// Which kind was chosen last, if we choose: whether it is the stateful one.
    chosen: Option<bool>,
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

    /// A stateful ticket is to be called off.
    pub(super) fn withhold(&mut self) {
        self.withheld = true;
    }

    pub(super) fn take_withheld(&mut self) -> bool {
        std::mem::take(&mut self.withheld)
    }

    /// A ClientHello has come, and we have seen it.
    pub(super) fn note_hello(&mut self) {
        self.hello = true;
    }

    pub(super) fn has_seen_hello(&self) -> bool {
        self.hello
    }

    pub(super) fn note_chosen(&mut self, stateful: bool) {
        self.chosen = Some(stateful);
    }

    pub(super) fn chosen(&self) -> Option<bool> {
        self.chosen
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
        if self.generated && self.sealed == sealed {
            owner.note_our_tickets();
        }
    }
}
