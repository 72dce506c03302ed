use std::fmt::Display;
use std::time::Duration;

use openssl::error::ErrorStack;

use crate::keys::KeyError;

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

/// Why [`set_resumption`](crate::SslContextBuilderExt::set_resumption) refused a policy.
///
/// A policy that cannot work is refused here, before a connection meets it; the context is then
/// as it was, except after [`OpenSsl`](Self::OpenSsl).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The [`lifetime`](crate::Resumption::lifetime) is below 1 second or above 7 days, in any mode.
    #[error(
        "lifetime must be at least 1 second and at most 7 days, not {0:?}; see Resumption::lifetime"
    )]
    Lifetime(Duration),

    /// The context accepts early data (`SSL_CTX_set_max_early_data`).
    ///
    /// With early data on, OpenSSL's replay protection turns tickets into entries of its internal
    /// cache, which this library keeps off, and no TLS 1.3 session would resume.
    #[error(
        "early data is not supported: set_max_early_data is {0}, set it to 0 before set_resumption"
    )]
    EarlyData(u32),

    /// [`single_use`](crate::Resumption::single_use) needs what the policy does not have: the
    /// stateful mode, or a store whose `take` is atomic. The text says which.
    #[error("single use needs {0}")]
    SingleUse(&'static str),

    /// The source of the ticket keys gave none, so no ticket could be sealed.
    #[error("no ticket key to begin with")]
    Keys(#[source] KeyError),

    /// OpenSSL refused a setting or was out of memory.
    #[error("OpenSSL refused a setting of the context")]
    OpenSsl(#[from] ErrorStack),
}
