//! Past client authentication by way of another virtual host (CVE-2025-23419, CVE-2025-23048): a
//! session made where no certificate is demanded is offered where one is.
//!
//! Every cell has its controls in the same run: the session would resume where it was made, a full
//! handshake without a certificate fails, and a resumption with one succeeds.

use std::thread;

use openssl::ssl::{ClientHelloResponse, NameType, SslContext, SslRef};
use openssl_resumption::{Handshake::Full, Resumption};

use crate::common::*;
use crate::switch::Switch;

/// How a server comes to demand a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The server name callback switches the context and raises the verify mode.
    ServerName,
    /// The ClientHello callback does.
    ClientHello,
    /// Another acceptor with the same store or keys does from the start.
    Separate,
    /// The acceptor was replaced by one that does.
    Reload,
}

/// What becomes of the server name between the session and its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Changed,
    Dropped,
    Added,
    Case,
    /// The name is the same, and has come to demand a certificate meanwhile.
    Same,
}

impl Change {
    const ALL: [Self; 5] = [
        Self::Changed,
        Self::Dropped,
        Self::Added,
        Self::Case,
        Self::Same,
    ];

    /// The name that the session is made under, and the name that demands a certificate.
    fn names(self) -> (Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Changed => (Some("a.example"), Some("b.example")),
            Self::Dropped => (Some("a.example"), None),
            Self::Added => (None, Some("b.example")),
            Self::Case => (Some("b.example"), Some("B.eXample")),
            Self::Same => (Some("b.example"), Some("b.example")),
        }
    }
}

/// A cell's servers: vhost A, and vhost B where a certificate is demanded.
pub(crate) struct Servers {
    a: Option<SslContext>,
    pub(crate) b: SslContext,
    /// On when B begins to demand, where A and B have one name.
    pub(crate) armed: Switch,
}

impl Servers {
    pub(crate) fn new(style: Style, change: Change, policy: &Resumption, ca: &Identity) -> Self {
        let armed = Switch::default();
        let b = demanding(policy, &[ca]);
        let (a, b) = match style {
            Style::Separate | Style::Reload => (context(policy), b),
            Style::ServerName | Style::ClientHello => {
                let front = Self::switching(style, change, policy, b, armed.clone());
                (front.clone(), front)
            }
        };
        Self {
            a: Some(a),
            b,
            armed,
        }
    }

    fn switching(
        style: Style,
        change: Change,
        policy: &Resumption,
        b: SslContext,
        armed: Switch,
    ) -> SslContext {
        let (a_name, b_name) = change.names();
        let same = |x: Option<&str>, y: Option<&str>| match (x, y) {
            (Some(x), Some(y)) => x.eq_ignore_ascii_case(y),
            (x, y) => x == y,
        };
        let one_name = same(a_name, b_name);
        let switch = move |ssl: &mut SslRef, name: Option<&str>| {
            if same(name, b_name) && (!one_name || armed.is_on()) {
                ssl.set_ssl_context(&b).unwrap();
                ssl.set_verify(DEMAND);
            }
        };
        context_with(policy, |builder| {
            if style == Style::ServerName {
                builder.set_servername_callback(move |ssl, _| {
                    let name = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
                    switch(ssl, name.as_deref());
                    Ok(())
                });
            } else {
                builder.set_client_hello_callback(move |ssl, _| {
                    let name = offered_name(ssl);
                    switch(ssl, name.as_deref());
                    Ok(ClientHelloResponse::SUCCESS)
                });
            }
        })
    }

    pub(crate) fn a(&self) -> &SslContext {
        self.a.as_ref().expect("not reloaded yet")
    }
}

/// The name in the ClientHello, which the openssl crate does not offer.
#[expect(unsafe_code, reason = "SSL_client_hello_get0_ext has no safe wrapper")]
fn offered_name(ssl: &SslRef) -> Option<String> {
    use foreign_types::ForeignTypeRef;
    let (mut data, mut len) = (std::ptr::null(), 0);
    // SAFETY: in a ClientHello callback, with two writable outputs.
    let found =
        unsafe { openssl_sys::SSL_client_hello_get0_ext(ssl.as_ptr(), 0, &mut data, &mut len) };
    if found != 1 {
        return None;
    }
    // SAFETY: OpenSSL returned that many bytes, which live as long as the callback.
    let extension = unsafe { std::slice::from_raw_parts(data, len) };
    Some(String::from_utf8(extension[5..].to_vec()).unwrap())
}

fn named(client: Client, name: Option<&str>) -> Client {
    match name {
        Some(name) => client.server_name(name),
        None => client,
    }
}

fn attack(style: Style, change: Change, mode: &str, policy: &Resumption, kind: Kind) {
    let cell = format!("{mode} {kind:?} {style:?} {change:?}");
    let (ca, me) = ca_and_client();
    let (a_name, b_name) = change.names();
    let mut servers = Servers::new(style, change, policy, &ca);
    let before = policy.stats();

    // Somebody else's session, of a third name: nobody's attack is to touch it.
    let bystander = Client::new(kind).unwrap().server_name("c.example");
    let bystanders = meet(servers.a(), &bystander, None);

    // The session, and the control that it is good for something.
    let stranger = named(Client::new(kind).unwrap(), a_name);
    let [session, again] = meet_twice(servers.a(), &stranger);
    assert!(!session.authenticated, "{cell}");
    assert!(again.client.resumed, "{cell}: the session is worth nothing");
    let session = again.next().expect("a session to attack with");

    servers.armed.turn_on();
    if style == Style::Reload {
        servers.a = None;
    }

    // Control: B demands.
    let stranger = named(Client::new(kind).unwrap(), b_name);
    let (_, refused) = try_meet(&servers.b, &stranger, None);
    assert!(
        refused.is_some(),
        "{cell}: B takes clients without a certificate"
    );

    // The attack, twice: the first may be failed closed, the second is like any other.
    for round in 1..=2 {
        let (_, refused) = try_meet(&servers.b, &stranger, Some(session));
        assert!(
            refused.is_some(),
            "{cell}: past the demand for a certificate, round {round}"
        );
    }
    let closed = policy.stats().failed_closed - before.failed_closed;
    let too_late = style == Style::ServerName && matches!(change, Change::Case | Change::Same);
    assert_eq!(closed, u64::from(too_late), "{cell}");

    // The same session from a client with a certificate: a full handshake.
    let client = named(client_as(kind, &me), b_name);
    let full = meet(&servers.b, &client, Some(session));
    assert!(
        matches!(full.agreed(), Full(_)) && full.authenticated,
        "{cell}: {:?}",
        full.outcome
    );

    // Control: the third name is as it was.
    if style != Style::Reload && style != Style::Separate {
        let met = meet(&servers.b, &bystander, bystanders.next());
        assert!(met.client.resumed, "{cell}: {:?}", met.outcome);
    }

    // Control: what B made resumes on B, under its name in any case, with the certificate.
    let resumes = |client: &Client, session: Option<&[u8]>| {
        let met = meet(&servers.b, client, session);
        let both = (met.client.resumed, met.authenticated);
        assert_eq!(both, (true, true), "{cell}: {:?}", met.outcome);
        met
    };
    let resumed = resumes(&client, full.next());
    if let Some(name) = b_name {
        resumes(&client.server_name(&name.to_uppercase()), resumed.next());
    }
}

fn attack_all(style: Style) {
    thread::scope(|scope| {
        for change in Change::ALL {
            for kind in [Kind::Tls12, Kind::Tls13] {
                scope.spawn(move || {
                    for (mode, policy) in resuming() {
                        attack(style, change, mode, &policy, kind);
                    }
                });
            }
        }
    });
}

#[test]
fn switched_in_the_server_name_callback() {
    attack_all(Style::ServerName);
}

#[test]
fn switched_in_the_client_hello_callback() {
    attack_all(Style::ClientHello);
}

#[test]
fn separate_acceptors_that_share_store_or_keys() {
    attack_all(Style::Separate);
}

#[test]
fn a_reload_that_begins_to_demand() {
    attack_all(Style::Reload);
}
