//! Clients with certificates of more than one kind, and servers that verify them.

use openssl::asn1::{Asn1Object, Asn1OctetString};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode};
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509, X509Extension};
use openssl_resumption::{Resumption, SslContextBuilderExt};

use super::shared::{Client, Identity, Kind, mint};
use super::{Case, Pair};

/// A client with a certificate, and what its servers trust.
pub struct Visitor {
    me: Identity,
    /// The certificate between the client's and the CA's, if there is one.
    between: Option<X509>,
    trusted: Vec<X509>,
    server: Identity,
}

impl Visitor {
    /// With an intermediate CA or without, for servers that trust so many others.
    pub fn new(has_intermediate: bool, others: usize) -> Self {
        let made = || {
            let ca = mint("clients", None)?;
            let between = match has_intermediate {
                true => Some(remint(
                    "between",
                    &ca,
                    BasicConstraints::new().ca().build()?,
                )?),
                false => None,
            };
            let me = mint("me", Some(between.as_ref().unwrap_or(&ca)))?;
            let others = (0..others).map(|n| mint(&format!("CA {n}"), None));
            let mut trusted = others
                .map(|ca| Ok(ca?.cert))
                .collect::<Result<Vec<_>, _>>()?;
            trusted.push(ca.cert);
            Ok::<_, ErrorStack>(Self {
                me,
                between: between.map(|between| between.cert),
                trusted,
                server: mint("localhost", None)?,
            })
        };
        made().expect("certificates")
    }

    /// With a certificate of about so many bytes.
    pub fn with_certificate_of(bytes: usize) -> Self {
        let made = || {
            let ca = mint("clients", None)?;
            let comment = |len| {
                let kind = Asn1Object::from_str("2.16.840.1.113730.1.13")?;
                let text = Asn1OctetString::new_from_bytes(&vec![b'x'; len])?;
                X509Extension::new_from_der(&kind, false, &text)
            };
            // A length of two bytes more is the same in both.
            let rest = remint("me", &ca, comment(256)?)?.cert.to_der()?.len() - 256;
            let me = remint("me", &ca, comment(bytes - rest)?)?;
            Ok::<_, ErrorStack>(Self {
                me,
                between: None,
                trusted: vec![ca.cert],
                server: mint("localhost", None)?,
            })
        };
        made().expect("certificates")
    }

    /// The bytes of its certificate.
    pub fn certificate_len(&self) -> usize {
        self.me.cert.to_der().expect("a certificate").len()
    }

    /// Meets a server of this policy, which demands the certificate.
    pub fn meets(&self, kind: Kind, policy: &Resumption) -> Pair {
        self.pair(kind, policy).expect("a server and a client")
    }

    fn pair(&self, kind: Kind, policy: &Resumption) -> Result<Pair, ErrorStack> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        builder.set_certificate(&self.server.cert)?;
        builder.set_private_key(&self.server.key)?;
        for ca in &self.trusted {
            builder.cert_store_mut().add_cert(ca.clone())?;
        }
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        builder.set_resumption(policy).expect("a policy that works");
        let client = Client::with(kind, |context| {
            context.set_certificate(&self.me.cert)?;
            if let Some(between) = &self.between {
                context.add_extra_chain_cert(between.clone())?;
            }
            context.set_private_key(&self.me.key)
        })?;
        Ok(Pair {
            context: builder.build().into_context(),
            client: client.server_name("localhost"),
            case: Case(kind, true),
        })
    }
}

impl Pair {
    /// The first flight of the client when it offers this session, or none.
    pub fn hello(&self, session: Option<&[u8]>) -> Vec<u8> {
        self.client.hello(session)
    }
}

/// A certificate with an extension that `mint` does not know, in place of those that it does.
fn remint(name: &str, issuer: &Identity, extension: X509Extension) -> Result<Identity, ErrorStack> {
    let Identity { cert: plain, key } = mint(name, Some(issuer))?;
    let mut cert = X509::builder()?;
    cert.set_version(2)?;
    cert.set_serial_number(plain.serial_number())?;
    cert.set_not_before(plain.not_before())?;
    cert.set_not_after(plain.not_after())?;
    cert.set_subject_name(plain.subject_name())?;
    cert.set_issuer_name(plain.issuer_name())?;
    cert.set_pubkey(&key)?;
    cert.append_extension(extension)?;
    cert.sign(&issuer.key, MessageDigest::sha256())?;
    let cert = cert.build();
    Ok(Identity { cert, key })
}
