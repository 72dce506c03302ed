//! Why a policy was refused.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::time::Duration;

use openssl::error::ErrorStack;

use crate::keys::KeyError;

/// Why [`set_resumption`](crate::SslContextBuilderExt::set_resumption) refused a policy.
///
/// A policy that cannot work is refused here, before a connection meets it; the context is then
/// as it was, except after [`OpenSsl`](Self::OpenSsl).
///
/// `Display` includes the cause: which file, and what is wrong with it. [`source`](StdError::source)
/// skips it and returns the cause's own source, if any, so that the whole chain repeats nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The [`lifetime`](crate::Resumption::lifetime) is below 1 second or above 7 days, in any mode.
    Lifetime(Duration),

    /// [`early_data`](crate::Resumption::early_data) needs what the policy does not have: a replay register (or
    /// in stateful mode `single_use`), and a mode in which sessions resume. The text says which.
    EarlyData(&'static str),

    /// The context accepts early data already (`SSL_CTX_set_max_early_data`), so many bytes, and not those of the
    /// policy: leave it to [`early_data`](crate::Resumption::early_data).
    MaxEarlyData {
        /// What was set on the context.
        context: u32,
        /// What the policy sets.
        policy: u32,
    },

    /// [`single_use`](crate::Resumption::single_use) needs what the policy does not have: the
    /// stateful or the hybrid mode, or a store whose `take` is atomic. The text says which.
    SingleUse(&'static str),

    /// [`strict`](crate::Resumption::strict) needs a store: tickets cannot be forgotten one by one.
    Strict,

    /// The source of the ticket keys gave none, so no ticket could be sealed.
    Keys(KeyError),

    /// OpenSSL refused a setting, lacks a cipher for tickets (AES-256-CBC and AES-128-CBC, in its default
    /// library context), or was out of memory.
    OpenSsl(ErrorStack),
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifetime(lifetime) => write!(
                f,
                "lifetime must be at least 1 second and at most 7 days, not {lifetime:?}; see Resumption::lifetime"
            ),
            Self::EarlyData(lacking) => write!(f, "early data needs {lacking}"),
            Self::MaxEarlyData { context, policy } => write!(
                f,
                "the context has a set_max_early_data of {context}, and the policy an early_data of {policy}: take the first \
                 out, and set Resumption::early_data, which sets both"
            ),
            Self::SingleUse(lacking) => write!(f, "single use needs {lacking}"),
            Self::Strict => {
                f.write_str("strict needs a store: tickets cannot be forgotten one by one")
            }
            Self::Keys(cause) => write!(f, "no ticket key to begin with: {cause}"),
            Self::OpenSsl(cause) => write!(f, "OpenSSL refused a setting of the context: {cause}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Keys(cause) => cause.source(),
            Self::OpenSsl(cause) => cause.source(),
            Self::Lifetime(_)
            | Self::EarlyData(_)
            | Self::MaxEarlyData { .. }
            | Self::SingleUse(_)
            | Self::Strict => None,
        }
    }
}

impl From<ErrorStack> for Error {
    fn from(cause: ErrorStack) -> Self {
        Self::OpenSsl(cause)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// As `anyhow` prints it.
    fn chain(error: &dyn StdError) -> String {
        let chain = std::iter::successors(Some(error), |&error| error.source());
        chain
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }

    #[test]
    fn an_error_says_its_cause_and_a_chain_says_it_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("vault vault.example")]
        struct Vault(#[source] io::Error);
        let vault = Vault(io::Error::other("sealed off"));
        let error = Error::Keys(KeyError::new(vault));
        assert_eq!(
            error.to_string(),
            "no ticket key to begin with: vault vault.example"
        );
        assert_eq!(chain(&error), format!("{error}: sealed off"));

        let error = Error::Keys(KeyError::new("ticket key file /a: gone"));
        let text = "no ticket key to begin with: ticket key file /a: gone";
        assert_eq!(chain(&error), text);

        let refused = openssl::x509::X509::from_der(&[0]).unwrap_err();
        let error = Error::from(refused.clone());
        assert!(error.to_string().ends_with(&refused.to_string()), "{error}");
        assert_eq!(chain(&error), error.to_string());
    }
}
