//! How other servers write their ticket keys into files.

mod format;
mod key_dialect;
mod parse;
#[cfg(test)]
mod tests;

pub use format::KeyFile;
pub use key_dialect::KeyDialect;
