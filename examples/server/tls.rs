//! The TLS side: an acceptor, and the files it is made from.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    AlpnError, SslAcceptor, SslAcceptorBuilder, SslMethod, SslVerifyMode, select_next_proto,
};
use openssl::x509::X509;
use openssl_resumption::{Resumption, SslContextBuilderExt};

use crate::args::Args;
use crate::support;

/// An acceptor as anybody would build it, and one call more: `set_resumption`.
pub(crate) fn acceptor(args: &Args, policy: &Resumption) -> Result<SslAcceptor, String> {
    let setup = |error: ErrorStack| format!("OpenSSL refused a setting: {error}");

    let mut builder =
        SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(setup)?;
    match &args.identity {
        Some((cert, key)) => use_files(&mut builder, cert, key)?,
        None => use_minted(&mut builder).map_err(setup)?,
    }
    if let Some(file) = &args.client_ca {
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

    // Last, so that nothing above changes its settings.
    builder
        .set_resumption(policy)
        .map_err(|error| format!("cannot apply the resumption policy: {error}"))?;
    Ok(builder.build())
}

fn use_minted(builder: &mut SslAcceptorBuilder) -> Result<(), ErrorStack> {
    let identity = support::mint("localhost", None)?;
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
