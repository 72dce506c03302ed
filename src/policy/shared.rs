//! What clones of a policy have in common, beside the store and the keys.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::chains::Chains;
use super::counters::Counters;
use super::decoded::Decoded;
use super::forgotten::Forgotten;
use super::late_demands::LateDemands;
use super::verdicts::Verdicts;

#[derive(Default)]
pub(super) struct Shared {
    pub(super) counters: Counters,
    pub(super) forgotten: Forgotten,
    pub(super) late: LateDemands,
    pub(super) decoded: Arc<Decoded>,
    pub(super) chains: Chains,
    pub(super) verdicts: Verdicts,
    /// How often it was told that trust has changed.
    pub(super) trust_changes: AtomicU64,
    /// When the newest handshake began, in seconds since the Unix epoch. Not always in the past:
    /// the clock may have been ahead.
    pub(super) newest: AtomicU64,
    /// The longest lifetime, in seconds, that the policy was applied with.
    pub(super) lifetime: AtomicU64,
}
