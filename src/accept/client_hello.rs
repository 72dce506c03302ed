//! The ClientHello callback, which suspends handshakes.

use openssl::error::ErrorStack;
use openssl::ssl::{ClientHelloResponse, SslAlert, SslContextBuilder, SslRef};

use super::lookups::Lookups;
use super::may_suspend::may_suspend;
use crate::decisions::Connection;
use crate::ffi;
use crate::policy::Resumption;

/// For asynchronous servers with a ClientHello callback of their own: see [`accept_async`](crate::accept_async), which
/// needs the feature `tokio`.
impl Resumption {
    /// What [`suspend_lookups`](Self::suspend_lookups) sets as the ClientHello callback, to be
    /// called from your own: first, and if it says `RETRY`, say so too. Yours is then called again
    /// when the store has answered. What lowers the TLS version goes before: which sessions are looked
    /// up follows from it, and none that was not looked up is resumed.
    ///
    /// ```
    /// use openssl::ssl::{ClientHelloResponse, SslAcceptor, SslMethod};
    /// use openssl_resumption::{MemoryStore, Resumption, SslContextBuilderExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    /// let policy = Resumption::stateful(MemoryStore::default());
    /// acceptor.set_resumption(&policy)?;
    /// acceptor.set_client_hello_callback(move |ssl, alert| {
    ///     let response = policy.client_hello(ssl, alert)?;
    ///     if response == ClientHelloResponse::RETRY {
    ///         return Ok(response);
    ///     }
    ///     // … what yours does: switches contexts, say.
    ///     Ok(ClientHelloResponse::SUCCESS)
    /// });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It goes by the policy of the context that accepted the connection, like all lookups, on
    /// whichever policy it is called. `alert` is left alone.
    ///
    /// # Errors
    ///
    /// None: the type is that of the callback.
    pub fn client_hello(
        &self,
        ssl: &mut SslRef,
        alert: &mut SslAlert,
    ) -> Result<ClientHelloResponse, ErrorStack> {
        let _ = alert;
        Ok(client_hello(ssl))
    }
}

/// Sets the ClientHello callback, if the policy says so.
pub(crate) fn install(builder: &mut SslContextBuilder, policy: &Resumption) {
    if policy.knobs().suspension.install && policy.asks_somebody() {
        builder.set_client_hello_callback(|ssl, _| {
            // There is no way to take the callback out again when another policy is set.
            let policy = Connection::of(ssl).map(Connection::policy);
            if policy.is_some_and(|policy| policy.knobs().suspension.install) {
                Ok(client_hello(ssl))
            } else {
                Ok(ClientHelloResponse::SUCCESS)
            }
        });
    }
}

fn client_hello(ssl: &mut SslRef) -> ClientHelloResponse {
    let suspend = ffi::shielded(false, || {
        if !may_suspend(ssl) {
            return false;
        }
        let Some(connection) = Connection::of_mut(ssl) else {
            return false;
        };
        connection.ask_ahead();
        Lookups::due(ssl).is_some()
    });
    if suspend {
        ClientHelloResponse::RETRY
    } else {
        ClientHelloResponse::SUCCESS
    }
}
