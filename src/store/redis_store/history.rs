//! What Redis remembers, and whether it may have lost some of it.

use std::time::Duration;

use super::lines::Lines;
use crate::session::StoreError;

/// Asks and answers in one step that nothing comes between.
const SCRIPT: &str = include_str!("history.lua");

/// What the script says.
pub(in crate::store) enum Remembered {
    /// The hello was not seen before; or nothing was lost.
    First,
    /// The hello was seen before.
    Before,
    /// Something may have been lost, in the time that was asked for.
    MayBeLost,
}

impl Lines {
    /// Asks the register at this key for a hello, which it then remembers; or without one, whether it may have lost
    /// something lately.
    pub(in crate::store) fn remembers(
        &self,
        key: &str,
        lives: Duration,
        hello: Option<&[u8]>,
    ) -> Result<Remembered, StoreError> {
        let lives = u64::try_from(lives.as_millis()).unwrap_or(u64::MAX);
        let mut eval = redis::cmd("EVAL");
        eval.arg(SCRIPT).arg(1).arg(key).arg(lives).arg(hello);
        Ok(match self.call::<i64>(&eval)? {
            1 => Remembered::First,
            0 => Remembered::Before,
            _ => Remembered::MayBeLost,
        })
    }
}
