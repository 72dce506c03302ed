//! Handshakes on a tokio runtime that wait for the store without holding a thread of it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use openssl::error::ErrorStack;
use openssl::ssl::{
    ClientHelloResponse, Error, ErrorCode, Ssl, SslAlert, SslContextBuilder, SslRef, SslVersion,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use crate::candidates::{Answer, Identity};
use crate::connection::Connection;
use crate::context::Applied;
use crate::ffi;
use crate::outcome::Reason;
use crate::overridden::Setting;
use crate::resumption::Resumption;
use crate::stateful;
use hello::offered;

mod hello;

/// Accepts a TLS connection, as `tokio_openssl::SslStream::accept` does; while the store is looking
/// for the client's session, the handshake is suspended and the runtime's thread does other work.
///
/// ```no_run
/// use std::time::Duration;
///
/// use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
/// use openssl_resumption::{
///     MemoryStore, Resumption, SslContextBuilderExt, SslRefExt, WriteBehind, accept_async,
/// };
/// use tokio::io::AsyncWriteExt;
/// use tokio::net::TcpListener;
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// # let slow_store = MemoryStore::default();
/// let policy = Resumption::stateful(WriteBehind::new(slow_store)).suspend_lookups();
/// let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
/// // … its certificate and key, and last:
/// acceptor.set_resumption(&policy)?;
/// let acceptor = acceptor.build();
///
/// let listener = TcpListener::bind("0.0.0.0:8443").await?;
/// loop {
///     let Ok((tcp, _)) = listener.accept().await else {
///         // Too many are open, say: some will end.
///         tokio::time::sleep(Duration::from_millis(50)).await;
///         continue;
///     };
///     let ssl = Ssl::new(acceptor.context())?;
///     tokio::spawn(async move {
///         // A client may take its time, which no deadline of ours bounds.
///         let accepted = tokio::time::timeout(Duration::from_secs(10), accept_async(ssl, tcp));
///         if let Ok(Ok(mut tls)) = accepted.await {
///             let outcome = format!("{:?}\n", tls.ssl().resumption());
///             let _ = tls.write_all(outcome.as_bytes()).await;
///             let _ = tls.shutdown().await;
///         }
///     });
/// }
/// # }
/// ```
///
/// The ClientHello callback of the context suspends the handshake (`SSL_CLIENT_HELLO_RETRY`). Either
/// the policy's [`suspend_lookups`](Resumption::suspend_lookups) sets it, or your own callback calls
/// [`client_hello`](Resumption::client_hello). With neither, and in a mode without a store, this is
/// an accept like any other: lookups are synchronous. So they are, with or without the callback, in
/// an accept that is not this one.
///
/// # Lookups
///
/// A suspended handshake is one task of `spawn_blocking`. At most 256 run at a time in a process, half
/// of the threads that a runtime has for such tasks unless its `max_blocking_threads` says otherwise;
/// others wait, up to their deadline. It asks the store for what the client offers, in the client's
/// order: a TLS 1.2 session id, or the stateful tickets of TLS 1.3 up to the first that
/// is found, at most four in a handshake. OpenSSL then goes on, and is told what was found; all
/// checks are made then. It may ask again after a HelloRetryRequest; the store is not, however long the
/// client takes for its second hello.
///
/// When [`lookup_deadline`](Resumption::lookup_deadline) has passed, the handshake goes on without
/// an answer, as a full one ([`StoreStats::late`](crate::StoreStats::late)). An error or a panic of
/// the store is a full handshake as it is in any accept.
///
/// Under [`single_use`](Resumption::single_use) a lookup takes the session out of the store. If the
/// deadline passes meanwhile, or the handshake is cancelled, fails, or goes on without asking for it,
/// that session is gone, and its client does a full handshake. A lookup that has not begun when it is
/// given up is not made, nor those that its task would go on with.
///
/// # Writes
///
/// New sessions are stored in the handshake, and removed when a connection ends, by the thread that
/// drives it: put [`WriteBehind`](crate::WriteBehind) around a store that is not in memory.
///
/// # Cancelling
///
/// Drop the future to give the connection up. A lookup that runs ends by itself, and its answer is
/// dropped; a store bounds its own time. While a handshake is suspended nobody reads from the client, so
/// one that has gone is noticed afterwards.
///
/// # Errors
///
/// Those of `SslStream::accept`. The code `WANT_CLIENT_HELLO_CB` means that a ClientHello callback of
/// your own asked for a retry for reasons of its own, which this cannot know the end of.
///
/// # Panics
///
/// When it looks something up outside of a tokio runtime, or in one without a timer (see tokio's
/// `Builder::enable_time`).
pub async fn accept_async<S>(mut ssl: Ssl, stream: S) -> Result<SslStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    ffi::let_suspend(&mut ssl)?;
    let mut stream = SslStream::new(ssl, stream)?;
    loop {
        let Err(error) = Pin::new(&mut stream).accept().await else {
            ffi::no_longer_suspend(stream.ssl());
            notice_other_callback(stream.ssl());
            return Ok(stream);
        };
        if error.code() != ErrorCode::WANT_CLIENT_HELLO_CB {
            return Err(error);
        }
        let lookups = Arc::new(Lookups::due(stream.ssl()).ok_or(error)?);
        let answers = Arc::clone(&lookups).ask_elsewhere().await;
        if let Some(connection) = ffi::connection(stream.ssl()) {
            lookups.settle(connection, answers);
        }
    }
}

/// Counts a context whose ClientHello callback is not ours any more, and does not call us.
fn notice_other_callback(ssl: &SslRef) {
    let Some(connection) = ffi::connection(ssl) else {
        return;
    };
    let policy = connection.policy();
    if policy.suspension.install && policy.store().is_some() && !connection.asks_ahead() {
        connection.owner().notice(Setting::ClientHelloCallback);
    }
}

/// How many suspended handshakes ask a store at a time.
const MAX_TASKS: usize = 256;

static TASKS: Semaphore = Semaphore::const_new(MAX_TASKS);

/// The knobs of [`accept_async`].
#[derive(Debug, Clone)]
pub(crate) struct Suspension {
    install: bool,
    deadline: Duration,
}

impl Default for Suspension {
    fn default() -> Self {
        Self {
            install: false,
            deadline: Resumption::DEFAULT_LOOKUP_DEADLINE,
        }
    }
}

/// For asynchronous servers: see [`accept_async`], which needs the feature `tokio`.
impl Resumption {
    /// How long a suspended handshake waits unless [`lookup_deadline`](Self::lookup_deadline) says
    /// otherwise: 2 seconds.
    pub const DEFAULT_LOOKUP_DEADLINE: Duration = Duration::from_secs(2);

    /// Lets handshakes in [`accept_async`] be suspended while the store is asked; off by default. In
    /// a mode without a store, and in any other accept, it changes nothing.
    ///
    /// Drives `SSL_CTX_set_client_hello_cb`, which replaces a ClientHello callback that was set
    /// before. If you have one, leave this off and call [`client_hello`](Self::client_hello) from it.
    #[must_use]
    pub fn suspend_lookups(mut self) -> Self {
        self.suspension.install = true;
        self
    }

    /// How long a handshake in [`accept_async`] stays suspended for the store at a time; 2 seconds by
    /// default, of any length. Then it goes on as a full one.
    ///
    /// Zero asks the store, and hardly ever waits for its answer. After a HelloRetryRequest there may be
    /// a second time.
    ///
    /// That is for a store that hangs. A store bounds its own time, and much closer: every client
    /// waits for it.
    #[must_use]
    pub fn lookup_deadline(mut self, deadline: Duration) -> Self {
        self.suspension.deadline = deadline;
        self
    }

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
    if policy.suspension.install && policy.store().is_some() {
        builder.set_client_hello_callback(|ssl, _| {
            // There is no way to take the callback out again when another policy is set.
            let policy = ffi::connection(ssl).map(Connection::policy);
            if policy.is_some_and(|policy| policy.suspension.install) {
                Ok(client_hello(ssl))
            } else {
                Ok(ClientHelloResponse::SUCCESS)
            }
        });
    }
}

fn client_hello(ssl: &mut SslRef) -> ClientHelloResponse {
    let suspend = ffi::shielded(false, || {
        if !ffi::may_suspend(ssl) {
            return false;
        }
        let Some(connection) = ffi::connection_mut(ssl) else {
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

/// What a suspended handshake waits for.
struct Lookups {
    owner: Arc<Applied>,
    version: SslVersion,
    ids: Vec<Identity>,
}

impl Lookups {
    /// What is still to be looked up of the offer in the ClientHello that is being processed.
    fn due(ssl: &SslRef) -> Option<Self> {
        let connection = ffi::connection(ssl)?;
        let policy = connection.policy();
        // A renegotiation is full.
        if policy.store().is_none() || connection.outcome().is_some() {
            return None;
        }
        let (version, offered) = offered(ssl)?;
        let mut ids = Vec::new();
        for id in offered {
            match connection.answer(&id) {
                None => ids.push(id),
                Some(Err(_)) => {}
                Some(Ok(_)) => return None,
            }
        }
        ids.truncate(connection.lookups_left());
        (!ids.is_empty()).then(|| Self {
            owner: Arc::clone(connection.owner()),
            version,
            ids,
        })
    }

    /// The answers of the store, on a thread that may wait for them; `None` if the deadline comes
    /// first, or the end of the runtime.
    async fn ask_elsewhere(self: Arc<Self>) -> Option<Vec<Answer>> {
        let policy = self.owner.policy().clone();
        let deadline = policy.suspension.deadline;
        let answers = async {
            // Here, because what waits for a thread of the runtime stays in its queue for good.
            let task = TASKS.acquire().await.ok()?;
            // Dropping the set, here or with the future, takes back a lookup that has not begun.
            let mut tasks = JoinSet::new();
            tasks.spawn_blocking(move || {
                let _until_the_end = task;
                self.ask()
            });
            tasks.join_next().await?.ok()
        };
        match timeout(deadline, answers).await {
            Ok(answers) => answers,
            Err(_) => {
                policy.counters().late.add_one();
                None
            }
        }
    }

    /// Up to the first session that is found: OpenSSL takes that one, and the others, which a
    /// single-use policy would take out of the store, stay there.
    fn ask(self: &Arc<Self>) -> Vec<Answer> {
        let mut answers = Vec::new();
        for id in &self.ids {
            if Arc::strong_count(self) == 1 {
                // Nobody waits any more.
                break;
            }
            let found = ffi::shielded(Err(Reason::StoreFailed), || {
                let policy = self.owner.policy();
                let key = stateful::key_of(policy, self.version, id);
                stateful::ask(policy, self.version, &key, id, SystemTime::now())
            });
            let answer = found.map(|(session, _)| session);
            answers.push(answer);
            if answers.last().is_some_and(Result::is_ok) {
                break;
            }
        }
        answers
    }

    /// Hands the answers to the connection, for when OpenSSL asks.
    fn settle(&self, connection: &Connection, answers: Option<Vec<Answer>>) {
        let answers = answers.unwrap_or_else(|| vec![Err(Reason::StoreFailed); self.ids.len()]);
        for (id, answer) in self.ids.iter().zip(answers) {
            connection.set_answer(id, answer);
        }
    }
}
