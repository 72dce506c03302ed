//! Early data: what is set on a context, and what became of it in a connection.

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContextBuilder, SslOptions, SslRef};

use super::connection::has_option;
use super::context::as_context;
use super::declare::*;

/// Three settings of a context, of which its connections get copies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EarlySettings {
    /// What new sessions are promised; 0: none is accepted.
    pub(crate) max: u32,
    /// How much is read, or skipped if it is declined.
    pub(crate) recv_max: u32,
    /// Whether OpenSSL's own protection against replays is off.
    pub(crate) no_anti_replay: bool,
}

impl EarlySettings {
    pub(crate) fn of(builder: &SslContextBuilder) -> Self {
        let context = as_context(builder);
        Self {
            max: context.max_early_data(),
            // SAFETY: reads a field of a live context.
            recv_max: unsafe { SSL_CTX_get_recv_max_early_data(context.as_ptr()) },
            no_anti_replay: builder.options().bits() & SSL_OP_NO_ANTI_REPLAY != 0,
        }
    }

    /// Those that a connection begins with.
    pub(crate) fn of_connection(ssl: &SslRef) -> Self {
        Self {
            max: ssl.max_early_data(),
            // SAFETY: reads a field of a live SSL.
            recv_max: unsafe { SSL_get_recv_max_early_data(ssl.as_ptr()) },
            no_anti_replay: has_option(ssl, SSL_OP_NO_ANTI_REPLAY),
        }
    }

    pub(crate) fn set(self, builder: &mut SslContextBuilder) {
        // These two only write a field.
        let _ = builder.set_max_early_data(self.max);
        // SAFETY: the builder owns a live context.
        unsafe { SSL_CTX_set_recv_max_early_data(builder.as_ptr(), self.recv_max) };
        let option = SslOptions::from_bits_retain(SSL_OP_NO_ANTI_REPLAY);
        if self.no_anti_replay {
            builder.set_options(option);
        } else {
            builder.clear_options(option);
        }
    }
}

/// What OpenSSL says of the early data of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EarlyStatus {
    /// The client offered none, or its hello has not been looked at.
    NotOffered,
    Declined,
    Accepted,
}

pub(crate) fn early_status(ssl: &SslRef) -> EarlyStatus {
    // SAFETY: reads a field of a live SSL.
    match unsafe { SSL_get_early_data_status(ssl.as_ptr()) } {
        SSL_EARLY_DATA_NOT_SENT => EarlyStatus::NotOffered,
        SSL_EARLY_DATA_ACCEPTED => EarlyStatus::Accepted,
        _ => EarlyStatus::Declined,
    }
}
