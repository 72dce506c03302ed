//! Text for people.

use std::fmt::Display;

/// The text of an error that may quote somebody else: in one line, and of 300 characters at most.
pub(crate) fn printable(error: impl Display) -> String {
    let text = error.to_string();
    let printable = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().take(300).map(printable).collect()
}

/// As names of keys are shown.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
