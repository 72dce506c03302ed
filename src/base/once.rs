//! What is made once, and may fail to be.

use std::sync::OnceLock;

/// What is in the cell; if there is nothing yet, it is made.
pub(crate) fn get_or_make<T, E>(
    cell: &OnceLock<T>,
    make: impl FnOnce() -> Result<T, E>,
) -> Result<&T, E> {
    if cell.get().is_none() {
        // If another thread was faster, what this one made is dropped.
        let _ = cell.set(make()?);
    }
    Ok(cell.get().expect("set above"))
}
