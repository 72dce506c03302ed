//! Small tools that know nothing of sessions. They use nothing of ours.

mod guard;
mod once;
mod text;
mod time;
mod vector;

pub(crate) use guard::{DropShield, catch};
pub(crate) use once::get_or_make;
pub(crate) use text::{hex, printable};
pub(crate) use time::{MAX_LIFETIME, unix_seconds};
pub(crate) use vector::vector;
