//! Early data (RFC 8446, section 2.3): how much is taken, and who says whether it was seen before.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use super::knobs::DEFAULT_CLOCK_SKEW;
use super::resumption::Resumption;
use crate::base::{DropShield, MAX_LIFETIME, catch};
use crate::ffi;
use crate::outcome::EarlyData;
use crate::session::StoreError;
use crate::store::{HelloId, Registered, ReplayRegister};

/// For how long OpenSSL accepts one ClientHello by one clock: while the age of the session is what the client says,
/// within 10 seconds; and two more, because it counts whole seconds.
const WINDOW: Duration = Duration::from_secs(12);

/// OpenSSL adds to this, and must not overflow.
const MOST: u32 = 1 << 30;

/// Early data (0-RTT): see [`accept_early`](crate::accept_early).
impl Resumption {
    /// By how much clocks may be wrong unless [`clock_skew`](Self::clock_skew) says otherwise: 30 seconds.
    pub const DEFAULT_CLOCK_SKEW: Duration = DEFAULT_CLOCK_SKEW;

    /// Accepts up to `max_bytes` of early data (0-RTT) on each resumed TLS 1.3 connection; 0, the default, accepts none. More
    /// than 1 GiB counts as 1 GiB.
    ///
    /// 16 KiB is what most servers take. A client that comes back then sends its request in its first flight and saves one
    /// round trip. An attacker can record that flight and send it again, so the policy accepts each flight once at most.
    /// It needs one of two things for that: a [`replay_register`](Self::replay_register), which remembers the flights that
    /// were accepted, or in stateful mode [`single_use`](Self::single_use), where a session can be taken out of the store once only. What
    /// nobody can prevent is that the client itself repeats a request ([security](crate::security#early-data)).
    ///
    /// Only [`accept_early`](crate::accept_early) and, for tokio, `accept_early_async` read early data. Any other accept
    /// declines it, and the client sends it again on the finished connection. A client that sends more than `max_bytes`
    /// gets an alert.
    ///
    /// A session keeps the limit that it was made with. When you lower the limit, older sessions still resume, without early
    /// data ([`EarlyData::Promised`]). OpenSSL skips up to 16 KiB of what they send; a client that
    /// sends more loses its connection.
    ///
    /// With [`tickets(0)`](Self::tickets) no TLS 1.3 session resumes, and so there is no early data.
    ///
    /// Works in stateful, stateless and hybrid mode. Sets `SSL_CTX_set_max_early_data`,
    /// `SSL_CTX_set_recv_max_early_data` (somewhat more, to skip what is declined) and `SSL_OP_NO_ANTI_REPLAY`; OpenSSL's own protection covers one
    /// process and would keep sessions of other stores from resuming. If another policy is applied to the same builder, all
    /// three are put back.
    ///
    /// # Errors
    ///
    /// `set_resumption` fails with [`Error::EarlyData`](crate::Error::EarlyData) without a register (in stateful mode: and without `single_use`),
    /// and in mode off, and with [`Error::MaxEarlyData`](crate::Error::MaxEarlyData) on a context with another limit of its
    /// own.
    #[must_use]
    pub fn early_data(mut self, max_bytes: u32) -> Self {
        self.knobs.early.max_bytes = max_bytes;
        self
    }

    /// Sets the register that remembers which early data was accepted; none by default.
    ///
    /// [`MemoryRegister`](crate::MemoryRegister) is for a server of one process, `RedisRegister` (feature `redis`) for
    /// several hosts. All policies and hosts that open one another's tickets, or share a store, must share one register, with the
    /// same [`clock_skew`](Self::clock_skew). In stateful mode under [`single_use`](Self::single_use) none is needed; one that is set is asked
    /// all the same, so that hosts with and without `single_use` can share a store while you change from one to the other.
    #[must_use]
    pub fn replay_register(mut self, register: impl ReplayRegister) -> Self {
        self.knobs.early.register = Some(DropShield::new(Arc::new(register)));
        self
    }

    /// Says how far the clock of a host may be from the true time; 30 seconds by default, and more than 7 days counts as 7
    /// days.
    ///
    /// OpenSSL accepts a flight for about 10 seconds, by the clock of the host that it reaches. The register remembers it for
    /// twice the skew plus 12 seconds, so that no host whose clock is behind accepts it later. If clocks differ by more, keep
    /// them in step (NTP) or raise this. A larger skew needs a larger register, and after a restart of the register early
    /// data is declined for longer.
    #[must_use]
    pub fn clock_skew(mut self, skew: Duration) -> Self {
        self.knobs.early.skew = skew;
        self
    }

    /// Why the replay register failed last, in its own words and however long ago: see
    /// [`ReplayRegister::last_error`]. `None` if it never failed or does not remember, or if there is none.
    #[must_use]
    pub fn last_register_error(&self) -> Option<String> {
        let register = self.knobs.early.register.as_ref()?;
        catch(AssertUnwindSafe(|| register.last_error())).flatten()
    }

    /// How much a client may send; 0: nothing.
    pub(crate) fn max_early_data(&self) -> u32 {
        self.knobs.early.max_bytes.min(MOST)
    }

    /// What early data lacks, if it is asked for.
    pub(crate) fn lacks_for_early_data(&self) -> Option<&'static str> {
        match () {
            () if self.max_early_data() == 0 => None,
            () if self.is_off() => Some("a mode in which sessions resume"),
            () if self.knobs.early.register.is_some() => None,
            // A sealed ticket can be used again.
            () if self.knobs.single_use && self.keys().is_none() => None,
            () if self.keys().is_some() => Some("a replay register (Resumption::replay_register)"),
            () => Some("a replay register (Resumption::replay_register), or single_use"),
        }
    }

    /// Whether single use is all that keeps early data from being accepted twice.
    pub(crate) fn has_no_register(&self) -> bool {
        self.knobs.early.register.is_none()
    }

    /// Whether early data is taken, if it is new.
    #[cfg(feature = "tokio")]
    pub(crate) fn takes_early_data(&self) -> bool {
        self.max_early_data() > 0
    }

    /// Whether anything is asked in a handshake that may take its time.
    #[cfg(feature = "tokio")]
    pub(crate) fn asks_somebody(&self) -> bool {
        self.store().is_some() || self.takes_early_data() || self.asks_about_clients()
    }

    /// Whether the early data that came with this client random is new: as far as the register knows, which takes it down;
    /// or under single use, where its session was taken, the store.
    pub(crate) fn is_new(&self, random: &[u8; 32]) -> EarlyData {
        let lives = WINDOW + self.knobs.early.skew.min(MAX_LIFETIME) * 2;
        let hello = HelloId::derive(&self.knobs.scope, random);
        let by_store = || match self.store().filter(|_| self.knobs.single_use) {
            Some(store) => store.remembers_takes(lives),
            None => Ok(true),
        };
        let by_register = || match &self.knobs.early.register {
            Some(register) => register.register(&hello, lives),
            None if self.knobs.single_use => Ok(Registered::First),
            None => Err(StoreError::unsupported()),
        };
        let answer = ffi::shielded(None, || {
            // Both, so that what the register takes down holds on hosts without single use too.
            match (by_register().map_err(drop), by_store().map_err(drop)) {
                (Ok(Registered::First), Ok(false)) => Some(Registered::WarmingUp),
                (Ok(registered), Ok(_)) => Some(registered),
                _ => None,
            }
        });
        match answer {
            Some(Registered::First) => EarlyData::Accepted,
            Some(Registered::Before) => EarlyData::Replayed,
            Some(Registered::WarmingUp) => EarlyData::WarmingUp,
            Some(Registered::Full) => EarlyData::RegisterFull,
            None => EarlyData::RegisterFailed,
        }
    }
}
