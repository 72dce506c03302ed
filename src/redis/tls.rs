//! TLS to Redis: whose certificates are believed, and which one is shown.

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode, SslVersion,
};

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
        let connector = match files {
            Files {
                ca: None,
                client: None,
            } => of_the_system(insecure)?,
            // Read each time, because they may be new ones.
            files => with_files(files, insecure)?,
        };
        let configuration = connector.configure().map_err(io::Error::other)?;
        configuration
            .use_server_name_indication(!insecure.0)
            .verify_hostname(!insecure.0)
            .into_ssl(host)
            .map_err(io::Error::other)
    })
}

/// Made once in a process, because of the time it takes.
fn of_the_system(insecure: Insecure) -> io::Result<SslConnector> {
    static CONNECTORS: [OnceLock<SslConnector>; 2] = [const { OnceLock::new() }; 2];
    let build = || {
        let mut builder = builder(insecure).map_err(io::Error::other)?;
        let found = openssl_probe::probe();
        if !insecure.0
            && let Some(file) = found.cert_file
        {
            // What the system says of itself is no error if it is wrong.
            let _ = builder.set_ca_file(file);
        }
        Ok::<_, io::Error>(builder.build())
    };
    get_or_make(&CONNECTORS[usize::from(insecure.0)], build).cloned()
}

fn with_files(files: &Files, insecure: Insecure) -> io::Result<SslConnector> {
    let named = |what: &str, path: &PathBuf| {
        let path = path.display().to_string();
        let what = what.to_owned();
        move |error: ErrorStack| io::Error::other(format!("the {what} in {path}: {error}"))
    };
    let mut builder = builder(insecure).map_err(io::Error::other)?;
    if let Some(ca) = &files.ca {
        let store = openssl::x509::store::X509StoreBuilder::new().map_err(io::Error::other)?;
        // In place of those of the system, which are in it already.
        builder.set_cert_store(store.build());
        builder.set_ca_file(ca).map_err(named("CAs", ca))?;
    }
    if let Some((chain, key)) = &files.client {
        builder
            .set_certificate_chain_file(chain)
            .map_err(named("certificate", chain))?;
        builder
            .set_private_key_file(key, SslFiletype::PEM)
            .map_err(named("key", key))?;
    }
    Ok(builder.build())
}

fn builder(insecure: Insecure) -> Result<SslConnectorBuilder, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    if insecure.0 {
        builder.set_verify(SslVerifyMode::NONE);
    }
    Ok(builder)
}
