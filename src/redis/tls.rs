//! TLS to Redis: whose certificates are believed, and which one is shown.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslOptions, SslVerifyMode,
    SslVersion,
};
use openssl::x509::verify::X509CheckFlags;

use super::place::Insecure;
use crate::base::get_or_make;
use crate::threads;

/// The files that an operator names.
#[derive(Clone, Default)]
pub(super) struct Files {
    /// CAs in place of those of the system.
    pub(super) ca: Option<PathBuf>,
    /// A certificate with its chain, and its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// What the next connection to this host begins with. It reads files, and takes a tenth of a second where a system has
/// many CAs: not on the thread of the runtime.
pub(super) fn begin(files: &Files, insecure: Insecure, host: &str) -> io::Result<Ssl> {
    threads::in_openssl(|| {
        let context = match &files.ca {
            None => of_the_system(insecure)?,
            // Read each time, because it may be a new one.
            Some(ca) => of_file(ca, insecure)?,
        };
        let mut ssl = Ssl::new(&context).map_err(io::Error::other)?;
        if let Some((chain, key)) = &files.client {
            ssl.set_certificate_chain_file(chain)
                .map_err(named("certificate", chain))?;
            ssl.set_private_key_file(key, SslFiletype::PEM)
                .map_err(named("key", key))?;
        }
        if !insecure.0 {
            ask_for(&mut ssl, host).map_err(io::Error::other)?;
        }
        Ok(ssl)
    })
}

/// Only a certificate of this host will do.
fn ask_for(ssl: &mut Ssl, host: &str) -> Result<(), ErrorStack> {
    let ip = host.parse::<IpAddr>();
    if ip.is_err() {
        ssl.set_hostname(host)?;
    }
    let verified = ssl.param_mut();
    verified.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
    match ip {
        Ok(ip) => verified.set_ip(ip),
        Err(_) => verified.set_host(host),
    }
}

/// Made once in a process, because of the time it takes.
fn of_the_system(insecure: Insecure) -> io::Result<SslContext> {
    static CONTEXTS: [OnceLock<SslContext>; 2] = [const { OnceLock::new() }; 2];
    let build = || {
        let mut builder = builder(insecure).map_err(io::Error::other)?;
        builder
            .set_default_verify_paths()
            .map_err(io::Error::other)?;
        let found = openssl_probe::probe();
        if !insecure.0
            && let Some(file) = found.cert_file
        {
            // What the system says of itself is no error if it is wrong.
            let _ = builder.set_ca_file(file);
        }
        Ok::<_, io::Error>(builder.build())
    };
    get_or_make(&CONTEXTS[usize::from(insecure.0)], build).cloned()
}

fn of_file(ca: &Path, insecure: Insecure) -> io::Result<SslContext> {
    let mut builder = builder(insecure).map_err(io::Error::other)?;
    builder.set_ca_file(ca).map_err(named("CAs", ca))?;
    Ok(builder.build())
}

/// The error, with the file that it is about.
fn named(what: &str, path: &Path) -> impl FnOnce(ErrorStack) -> io::Error + use<> {
    let what = format!("the {what} in {}", path.display());
    move |error| io::Error::other(format!("{what}: {error}"))
}

fn builder(insecure: Insecure) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    // It would be done by whoever asks something meanwhile.
    builder.set_options(SslOptions::NO_RENEGOTIATION);
    builder.set_verify(match insecure.0 {
        true => SslVerifyMode::NONE,
        false => SslVerifyMode::PEER,
    });
    Ok(builder)
}
