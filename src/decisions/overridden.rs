//! What others have changed on a context after `set_resumption`.
//!
//! Nothing is put back: who changed it may have meant it. It is counted, and where it lets OpenSSL or
//! somebody else decide what resumes, nothing does.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use crate::outcome::Reason;

/// A setting that `set_resumption` makes and looks at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    NoTicket,
    NumTickets,
    EarlyData,
    VerifyMode,
    IdContext,
    #[cfg(feature = "tokio")]
    ClientHelloCallback,
    CacheMode,
    SessionCallbacks,
    TicketCallbacks,
    TicketKeyCallback,
    InfoCallback,
    MessageCallback,
}

impl Setting {
    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Those that let others decide what resumes, and the reason that handshakes are then full for.
const DECIDING: [(Setting, Reason); 4] = [
    (Setting::CacheMode, Reason::CacheMode),
    (Setting::SessionCallbacks, Reason::SessionCallbacks),
    (Setting::TicketCallbacks, Reason::TicketCallbacks),
    (Setting::TicketKeyCallback, Reason::TicketKeyCallback),
];

/// The settings of one context that were found changed.
#[derive(Debug, Default)]
pub(crate) struct Overridden(AtomicU16);

impl Overridden {
    /// Takes down that a setting was found changed; whether for the first time.
    pub(crate) fn note(&self, setting: Setting) -> bool {
        let bit = setting.bit();
        // Most are found again and again, and need not be written.
        self.0.load(Relaxed) & bit == 0 && self.0.fetch_or(bit, Relaxed) & bit == 0
    }

    /// Whether this setting was found changed.
    pub(crate) fn has(&self, setting: Setting) -> bool {
        self.0.load(Relaxed) & setting.bit() != 0
    }

    /// Why nothing resumes, if others decide what does.
    pub(crate) fn deciding(&self) -> Option<Reason> {
        let noted = self.0.load(Relaxed);
        if noted == 0 {
            return None;
        }
        let mut deciding = DECIDING.iter();
        let (_, reason) = deciding.find(|(setting, _)| noted & setting.bit() != 0)?;
        Some(*reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_noted_once_and_some_are_told_as_reasons() {
        let overridden = Overridden::default();
        for setting in [Setting::NumTickets, Setting::InfoCallback] {
            assert!(overridden.note(setting));
            assert!(!overridden.note(setting));
        }
        assert_eq!(overridden.deciding(), None);
        assert!(overridden.note(Setting::TicketKeyCallback));
        assert_eq!(overridden.deciding(), Some(Reason::TicketKeyCallback));
        assert!(overridden.note(Setting::CacheMode));
        assert_eq!(overridden.deciding(), Some(Reason::CacheMode));
    }
}
