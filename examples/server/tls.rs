//! The TLS side: acceptors, and the files they are made from.

use std::error::Error;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    AlpnError, SslAcceptor, SslAcceptorBuilder, SslMethod, SslVerifyMode, select_next_proto,
};
use openssl::x509::X509;
use openssl_resumption::{Resumption, SslContextBuilderExt};

use crate::args::Args;
use crate::{support, vhosts};

/// The acceptor of all connections, which switches them to virtual hosts if there are any.
pub(crate) fn acceptor(args: &Args, policy: &Resumption) -> Result<SslAcceptor, String> {
    let mut builder = builder(args, args.client_ca.as_deref())?;
    match &args.identity {
        Some((cert, key)) => use_files(&mut builder, cert, key)?,
        None => use_minted(&mut builder, "localhost")
            .map_err(|error| format!("cannot mint a certificate: {error}"))?,
    }
    vhosts::set_up(&mut builder, args, policy)?;
    finish(builder, policy)
}

/// An acceptor as anybody would build it, but for its certificate.
pub(crate) fn builder(args: &Args, client_ca: Option<&Path>) -> Result<SslAcceptorBuilder, String> {
    let setup = |error: ErrorStack| format!("OpenSSL refused a setting: {error}");

    let mut builder =
        SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(setup)?;
    if let Some(file) = client_ca {
        demand_client_certificate(&mut builder, file)?;
    }
    if args.tls.is_some() {
        builder.set_min_proto_version(args.tls).map_err(setup)?;
        builder.set_max_proto_version(args.tls).map_err(setup)?;
    }
    builder.set_alpn_select_callback(|_, offered| {
        // A client that offers only other protocols is served all the same.
        select_next_proto(b"\x08http/1.1", offered).ok_or(AlpnError::NOACK)
    });
    Ok(builder)
}

/// The one call more, `set_resumption`: last, so that nothing changes its settings.
pub(crate) fn finish(
    mut builder: SslAcceptorBuilder,
    policy: &Resumption,
) -> Result<SslAcceptor, String> {
    builder.set_resumption(policy).map_err(|error| {
        format!(
            "cannot apply the resumption policy: {}",
            with_sources(&error)
        )
    })?;
    Ok(builder.build())
}

/// An error and what caused it.
fn with_sources(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

pub(crate) fn use_minted(builder: &mut SslAcceptorBuilder, name: &str) -> Result<(), ErrorStack> {
    let identity = support::mint(name, None)?;
    builder.set_certificate(&identity.cert)?;
    builder.set_private_key(&identity.key)
}

fn use_files(builder: &mut SslAcceptorBuilder, cert: &Path, key: &Path) -> Result<(), String> {
    let mut certs = certificates(cert)?.into_iter();
    let private = private_key(key)?;
    let refused = |what| {
        let (cert, key) = (cert.display(), key.display());
        move |error: ErrorStack| format!("cannot use {cert} with {key}: {what}: {error}")
    };
    if let Some(leaf) = certs.next() {
        builder
            .set_certificate(&leaf)
            .map_err(refused("OpenSSL refused the certificate"))?;
    }
    for issuer in certs {
        builder
            .add_extra_chain_cert(issuer)
            .map_err(refused("OpenSSL refused a certificate of the chain"))?;
    }
    builder
        .set_private_key(&private)
        .and_then(|()| builder.check_private_key())
        .map_err(refused("the key is not that of the first certificate"))
}

/// Accepts only clients with a certificate that was issued by a root in `file`.
fn demand_client_certificate(builder: &mut SslAcceptorBuilder, file: &Path) -> Result<(), String> {
    for root in certificates(file)? {
        // The name tells the client which of its certificates to send.
        builder
            .add_client_ca(&root)
            .and_then(|()| builder.cert_store_mut().add_cert(root))
            .map_err(|error| format!("cannot trust what is in {}: {error}", file.display()))?;
    }
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    Ok(())
}

fn certificates(file: &Path) -> Result<Vec<X509>, String> {
    let shown = file.display();
    let certs = X509::stack_from_pem(&read(file)?)
        .map_err(|error| format!("cannot use {shown}: damaged PEM certificate: {error}"))?;
    if certs.is_empty() {
        return Err(format!("cannot use {shown}: no PEM certificate in it"));
    }
    Ok(certs)
}

fn private_key(file: &Path) -> Result<PKey<Private>, String> {
    // With no passphrase at all OpenSSL would ask at the terminal.
    PKey::private_key_from_pem_passphrase(&read(file)?, b"").map_err(|error| {
        let shown = file.display();
        format!("cannot use {shown}: no unencrypted PEM private key in it: {error}")
    })
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}
