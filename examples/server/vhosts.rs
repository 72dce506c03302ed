//! Virtual hosts: a context of its own for each, and the switch to it by the name that the client
//! asks for.

use std::sync::OnceLock;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    ClientHelloResponse, NameType, SniError, Ssl, SslAcceptorBuilder, SslAlert, SslContext, SslRef,
};
use openssl_resumption::Resumption;

use crate::args::{Args, Switch, VhostArgs};
use crate::tls;

struct Vhost {
    name: String,
    context: SslContext,
}

/// Makes the virtual hosts, and has `default` switch connections to them.
pub(crate) fn set_up(
    default: &mut SslAcceptorBuilder,
    args: &Args,
    policy: &Resumption,
) -> Result<(), String> {
    let index = Ssl::new_ex_index()
        .map_err(|error| format!("cannot keep the names that clients ask for: {error}"))?;
    SERVER_NAME.get_or_init(|| index);

    let vhosts = args
        .vhosts
        .iter()
        .map(|vhost| Vhost::new(vhost, args, policy))
        .collect::<Result<Vec<_>, _>>()?;
    match args.switch {
        Switch::Hello => default.set_client_hello_callback(move |ssl, alert| {
            let answer = note_server_name(ssl, alert)?;
            if let Some(vhost) = find(&vhosts, offered_name(ssl)) {
                vhost.take_over(ssl)?;
            }
            Ok(answer)
        }),
        Switch::ServerName => {
            default.set_client_hello_callback(note_server_name);
            default.set_servername_callback(move |ssl, _| {
                let vhost = find(&vhosts, ssl.servername(NameType::HOST_NAME));
                vhost
                    .ok_or(SniError::NOACK)?
                    .take_over(ssl)
                    .map_err(|_| SniError::ALERT_FATAL)
            });
        }
    }
    Ok(())
}

impl Vhost {
    fn new(vhost: &VhostArgs, args: &Args, policy: &Resumption) -> Result<Self, String> {
        let VhostArgs { name, client_ca } = vhost;
        let mut builder = tls::builder(args, client_ca.as_deref())?;
        tls::use_minted(&mut builder, name)
            .map_err(|error| format!("cannot mint a certificate for {name}: {error}"))?;
        builder.set_client_hello_callback(note_server_name);
        let context = tls::finish(builder, policy)?.into_context();
        Ok(Self {
            name: name.clone(),
            context,
        })
    }

    fn take_over(&self, ssl: &mut SslRef) -> Result<(), ErrorStack> {
        ssl.set_ssl_context(&self.context)?;
        // OpenSSL leaves the connection the verify mode of the context that it began with.
        ssl.set_verify(self.context.verify_mode());
        Ok(())
    }
}

fn find<'a>(vhosts: &'a [Vhost], name: Option<&str>) -> Option<&'a Vhost> {
    let name = name?;
    vhosts
        .iter()
        .find(|vhost| vhost.name.eq_ignore_ascii_case(name))
}

static SERVER_NAME: OnceLock<Index<Ssl, Option<String>>> = OnceLock::new();

/// The name that the client of a connection asked for. (In a resumption of TLS 1.2
/// `SslRef::servername` says what was asked for when the session was made, and nothing if no server
/// name callback accepted it then.)
pub(crate) fn server_name(ssl: &SslRef) -> Option<&str> {
    ssl.ex_data(*SERVER_NAME.get()?)?.as_deref()
}

/// The ClientHello callback of all contexts: keeps the name for `server_name`.
///
/// A client that has to send a second ClientHello must not change the name in it (RFC 8446, section
/// 4.1.2). OpenSSL takes no offence, and the connection would stay with the virtual host of the
/// first name, under the second.
fn note_server_name(
    ssl: &mut SslRef,
    alert: &mut SslAlert,
) -> Result<ClientHelloResponse, ErrorStack> {
    let name = offered_name(ssl).map(str::to_owned);
    if let Some(index) = SERVER_NAME.get() {
        match ssl.ex_data(*index) {
            Some(first) if *first != name => {
                *alert = SslAlert::ILLEGAL_PARAMETER;
                return Err(ErrorStack::get());
            }
            Some(_) => {}
            None => ssl.set_ex_data(*index, name),
        }
    }
    Ok(ClientHelloResponse::SUCCESS)
}

/// The name in the ClientHello that is being processed.
fn offered_name(ssl: &SslRef) -> Option<&str> {
    host_name(server_name_extension(ssl)?)
}

/// The name in a server name extension (RFC 6066, section 3): a list of one entry, which is a type
/// and a name. OpenSSL ends the handshake over what is not of that form.
fn host_name(extension: &[u8]) -> Option<&str> {
    let entry = after_length(extension)?;
    let name = after_length(entry.strip_prefix(&[0])?)?;
    std::str::from_utf8(name).ok()
}

/// What follows a length of two bytes, if it has that length.
fn after_length(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    (usize::from(u16::from_be_bytes(*length)) == rest.len()).then_some(rest)
}

#[expect(
    unsafe_code,
    reason = "the openssl crate has no safe way to the extensions of a ClientHello"
)]
fn server_name_extension(ssl: &SslRef) -> Option<&[u8]> {
    const SERVER_NAME: u32 = 0;
    let (mut data, mut length) = (std::ptr::null(), 0);
    // SAFETY: a reference to an SSL is live, and both outputs are writable. Without a ClientHello
    // there is nothing.
    let found = unsafe {
        openssl_sys::SSL_client_hello_get0_ext(ssl.as_ptr(), SERVER_NAME, &mut data, &mut length)
    };
    if found != 1 || data.is_null() {
        return None;
    }
    // SAFETY: OpenSSL returned that many bytes of the ClientHello, which lives as long as `ssl` is
    // borrowed: what frees it is the handshake, which takes `ssl` mutably.
    Some(unsafe { std::slice::from_raw_parts(data, length) })
}
