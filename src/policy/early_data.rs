//! Early data (RFC 8446, section 2.3): how much is taken, and who says whether it was seen before.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use super::knobs::DEFAULT_CLOCK_SKEW;
use super::resumption::Resumption;
use crate::base::{DropShield, MAX_LIFETIME, catch};
use crate::ffi;
use crate::outcome::EarlyData;
use crate::store::{HelloId, Registered, ReplayRegister};

/// For how long OpenSSL accepts one ClientHello by one clock: while the age of the session is what the client says,
/// within 10 seconds; and two more, because it counts whole seconds.
const WINDOW: Duration = Duration::from_secs(12);

/// Early data (0-RTT): see [`accept_early`](crate::accept_early).
impl Resumption {
    /// By how much clocks may be wrong unless [`clock_skew`](Self::clock_skew) says otherwise: 30 seconds.
    pub const DEFAULT_CLOCK_SKEW: Duration = DEFAULT_CLOCK_SKEW;

    /// How many bytes of early data a client may send with a session that it resumes; 0 by default, which is none.
    /// 16 KiB is what most servers take.
    ///
    /// Early data is a request in the first flight: a client that comes back saves a round trip. Who records that
    /// flight can send it again, so each is accepted once at most: a
    /// [`replay_register`](Self::replay_register) has to say that it was not seen before, or the policy is
    /// [`single_use`](Self::single_use), and its session can be had from the store only once. What nobody can prevent
    /// is that a client itself sends its request again, on a new connection, when it got no answer
    /// ([security](crate::security#early-data)).
    ///
    /// Taken only by servers that read it: [`accept_early`](crate::accept_early) and, for tokio,
    /// `accept_early_async`. In any other accept it is declined, and the connection resumes without. One that sends more
    /// than it was allowed ends with an alert.
    ///
    /// In stateful, stateless and hybrid mode, for TLS 1.3. Drives `SSL_CTX_set_max_early_data`,
    /// `SSL_CTX_set_recv_max_early_data` (not below OpenSSL's 16 KiB, to skip what is declined) and
    /// `SSL_OP_NO_ANTI_REPLAY`: OpenSSL's own protection is of one process, and keeps sessions that are not in its own
    /// cache from resuming. Another policy on the same builder puts back what was set before.
    ///
    /// A session keeps what it was promised. When this becomes lower, those from before resume without early data; do not
    /// go below 16 KiB from above it, or to 0, while clients have sessions that were promised more: what they send could
    /// not be skipped.
    ///
    /// `set_resumption` fails ([`Error::EarlyData`](crate::Error::EarlyData)) without a register and without
    /// `single_use`, and in mode off.
    #[must_use]
    pub fn early_data(mut self, max_bytes: u32) -> Self {
        self.knobs.early.max_bytes = max_bytes;
        self
    }

    /// Who says whether early data was seen before; nobody by default. Another one replaces the one before.
    ///
    /// [`MemoryRegister`](crate::MemoryRegister) for a server that is one process, `RedisRegister` (feature `redis`)
    /// for a fleet. All hosts that open one another's tickets, or share a store, must share it. Under
    /// [`single_use`](Self::single_use) it is not asked: that a session can be taken out of the store once is as good.
    #[must_use]
    pub fn replay_register(mut self, register: impl ReplayRegister) -> Self {
        self.knobs.early.register = Some(DropShield::new(Arc::new(register)));
        self
    }

    /// By how much the clock of a host may be wrong; 30 seconds by default, 7 days at most.
    ///
    /// A ClientHello is remembered for twice this and 12 seconds more. OpenSSL accepts it for about 10 seconds, by the clock of
    /// the host that it comes to. With clocks that are further apart, a flight could be accepted by one host after another
    /// has forgotten it: keep them in step (NTP), or give more. It costs room in the register, and after a restart
    /// of that a longer time without early data.
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
        self.knobs.early.max_bytes
    }

    /// What early data lacks, if it is asked for.
    pub(crate) fn lacks_for_early_data(&self) -> Option<&'static str> {
        match () {
            () if self.max_early_data() == 0 => None,
            () if self.is_off() => Some("a mode in which sessions resume"),
            () if self.knobs.single_use || self.knobs.early.register.is_some() => None,
            () => Some("a replay register (Resumption::replay_register), or single_use"),
        }
    }

    /// Whether a register is asked before early data is taken.
    pub(crate) fn asks_register(&self) -> bool {
        self.max_early_data() > 0 && !self.knobs.single_use
    }

    /// Whether anything is asked in a handshake that may take its time.
    #[cfg(feature = "tokio")]
    pub(crate) fn asks_somebody(&self) -> bool {
        self.store().is_some() || self.asks_register()
    }

    /// What becomes of the early data that came with this client random, as far as the register knows. It is taken
    /// down, and accepted once only.
    pub(crate) fn register(&self, random: &[u8; 32]) -> EarlyData {
        let Some(register) = &self.knobs.early.register else {
            return EarlyData::RegisterFailed;
        };
        let skew = self.knobs.early.skew.saturating_mul(2);
        let lives = WINDOW.saturating_add(skew).min(MAX_LIFETIME * 2);
        let hello = HelloId::derive(&self.knobs.scope, random);
        let answer = ffi::shielded(None, || register.register(&hello, lives).map_err(drop).ok());
        match answer {
            Some(Registered::First) => EarlyData::Accepted,
            Some(Registered::Before) => EarlyData::Replayed,
            Some(Registered::WarmingUp) => EarlyData::WarmingUp,
            Some(Registered::Full) => EarlyData::RegisterFull,
            None => EarlyData::RegisterFailed,
        }
    }
}
