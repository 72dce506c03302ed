//! A register in memory.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::process;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::replay_register::{HelloId, Registered, ReplayRegister};
use crate::session::StoreError;

/// So many threads seldom meet at one lock.
const SHARDS: usize = 64;

/// Remembers ClientHellos in memory, for a server of one process. All policies that share ticket keys or a store must share
/// one register: wrap it in an `Arc` and clone that.
///
/// For the length of one window after its start ([`clock_skew`](crate::Resumption::clock_skew); 72 seconds by default) it
/// declines all early data, because it does not know what was accepted before. Where sessions end with the process,
/// [`sessions_end_with_process`](Self::sessions_end_with_process) spares that. The number of entries is bounded; when there
/// is no room, it declines. An entry ends by the monotonic clock. In a process that was forked off after the register was
/// made every call is an error: several processes need one register for all, like `RedisRegister`.
///
/// ```
/// use openssl_resumption::{MemoryRegister, MemoryStore, Resumption};
///
/// let policy = Resumption::stateful(MemoryStore::default())
///     .early_data(16 * 1024)
///     .replay_register(MemoryRegister::default().sessions_end_with_process());
/// ```
pub struct MemoryRegister {
    shards: Box<[Mutex<Shard>]>,
    /// Of each shard.
    max_entries: usize,
    made: Instant,
    /// Whether it may be that something was accepted before that.
    waits: bool,
    /// A process that is forked off has a copy, which knows nothing of what comes to the other.
    process: u32,
}

#[derive(Default)]
struct Shard {
    seen: HashSet<Short>,
    /// By when they were taken down.
    ends: VecDeque<(Instant, Short)>,
}

/// Half of a hash is enough to tell hellos apart.
type Short = [u8; 16];

impl MemoryRegister {
    /// How many entries there may be unless [`new`](Self::new) says otherwise: 1,048,576, of which each takes about 100
    /// bytes. With the default clock skew that is for 14,000 connections with early data a second.
    pub const DEFAULT_MAX_ENTRIES: usize = 1 << 20;

    /// With room for about so many entries, 64 at least, spread over shards: one shard may be full a little before
    /// the others are.
    #[must_use]
    pub fn new(max_entries: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            max_entries: max_entries.div_ceil(SHARDS).max(1),
            made: Instant::now(),
            waits: true,
            process: process::id(),
        }
    }

    /// Accepts early data from the start, because no session from before the start can resume.
    ///
    /// Set it where all sessions end with the process: with a [`MemoryStore`](crate::MemoryStore), or with
    /// [`TicketKeys::random`](crate::TicketKeys::random), made together with the register. Do not set it with ticket keys from
    /// files or secrets, nor with a store outside of the process: after a restart an attacker could send a flight from
    /// before again. Nor where two policies share keys or a store, unless they share this register (`Arc`) too.
    #[must_use]
    pub fn sessions_end_with_process(mut self) -> Self {
        self.waits = false;
        self
    }

    /// `now` is by the clock that `made` is of.
    fn register_at(&self, hello: &HelloId, lives: Duration, now: Instant) -> Registered {
        let [first, ..] = *hello.as_bytes();
        let (_, half) = hello.as_bytes().split_last_chunk().expect("32 bytes");
        let half: &Short = half;
        let mut shard = self.shards[usize::from(first) % SHARDS].lock();
        shard.drop_ended(now);
        if shard.seen.contains(half) {
            return Registered::Before;
        }
        if shard.seen.len() >= self.max_entries {
            return Registered::Full;
        }
        shard.seen.insert(*half);
        shard.ends.push_back((now + lives, *half));
        if self.waits && now.saturating_duration_since(self.made) < lives {
            // It has been taken down: it is not to be accepted when this time is over.
            return Registered::WarmingUp;
        }
        Registered::First
    }
}

impl Shard {
    /// Those that were taken down last are looked at last, so that one with a shorter life may stay longer.
    fn drop_ended(&mut self, now: Instant) {
        while let Some((end, half)) = self.ends.front() {
            if *end > now {
                return;
            }
            self.seen.remove(half);
            self.ends.pop_front();
        }
    }
}

impl Default for MemoryRegister {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MAX_ENTRIES)
    }
}

impl ReplayRegister for MemoryRegister {
    fn register(&self, hello: &HelloId, lives: Duration) -> Result<Registered, StoreError> {
        if process::id() != self.process {
            return Err(StoreError::new(
                "a MemoryRegister of the process that this one was forked from",
            ));
        }
        Ok(self.register_at(hello, lives, Instant::now()))
    }
}

/// How many there are, and for how many there is room.
impl fmt::Debug for MemoryRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.shards.iter().map(|shard| shard.lock().seen.len());
        f.debug_struct("MemoryRegister")
            .field("entries", &entries.sum::<usize>())
            .field("max_entries", &(self.max_entries * SHARDS))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::thread;

    use super::*;

    const LIVES: Duration = Duration::from_secs(72);

    fn hello(n: u64) -> HelloId {
        HelloId::derive(b"", &[n.to_le_bytes(); 4].concat().try_into().unwrap())
    }

    /// The answer that far after the register was made.
    fn at(register: &MemoryRegister, n: u64, after: Duration) -> Registered {
        register.register_at(&hello(n), LIVES, register.made + after)
    }

    #[test]
    fn a_hello_is_first_once_for_as_long_as_it_lives() {
        let register = MemoryRegister::default();
        let second = Duration::from_secs(1);
        assert_eq!(at(&register, 1, LIVES), Registered::First);
        assert_eq!(at(&register, 2, LIVES), Registered::First);
        for later in [LIVES, LIVES + second, LIVES * 2 - second] {
            assert_eq!(at(&register, 1, later), Registered::Before, "{later:?}");
        }
        assert_eq!(at(&register, 1, LIVES * 2), Registered::First);
    }

    #[test]
    fn what_comes_in_the_first_window_is_declined_then_and_afterwards() {
        let register = MemoryRegister::default();
        let last = LIVES - Duration::from_millis(1);
        assert_eq!(at(&register, 1, last), Registered::WarmingUp);
        assert_eq!(at(&register, 1, LIVES), Registered::Before);
        assert_eq!(at(&register, 2, LIVES), Registered::First);
        assert_eq!(
            at(&register, 1, LIVES + last),
            Registered::First,
            "{LIVES:?} later"
        );
    }

    #[test]
    fn where_nothing_was_before_it_is_first_at_once() {
        let register = MemoryRegister::default().sessions_end_with_process();
        let answers = [Duration::ZERO, LIVES / 2].map(|after| at(&register, 1, after));
        assert_eq!(answers, [Registered::First, Registered::Before]);
    }

    #[test]
    fn when_there_is_no_room_it_declines_until_something_ends() {
        let register = MemoryRegister::new(64);
        let answers: Vec<_> = (0..10_000).map(|n| at(&register, n, LIVES)).collect();
        let count = |seen| answers.iter().filter(|answer| **answer == seen).count();
        assert_eq!(
            (count(Registered::First), count(Registered::Full)),
            (64, 10_000 - 64)
        );
        for (n, seen) in (0..)
            .zip(&answers)
            .filter(|(_, seen)| **seen == Registered::First)
        {
            assert_eq!(at(&register, n, LIVES), Registered::Before, "{n} {seen:?}");
        }
        assert_eq!(at(&register, 10_001, LIVES * 2), Registered::First);
        let shown = format!("{register:?}");
        assert!(shown.contains("max_entries: 64"), "{shown}");
    }

    #[test]
    fn of_many_threads_one_is_first() {
        let register = MemoryRegister::default();
        let now = register.made + LIVES;
        let (start, firsts) = (Barrier::new(4), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    for n in 0..10_000 {
                        if register.register_at(&hello(n), LIVES, now) == Registered::First {
                            firsts.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(firsts.into_inner(), 10_000);
    }
}
