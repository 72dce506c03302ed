//! Refuses TLS libraries other than OpenSSL 3.0 and later, with a sentence that says why.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // `openssl-sys` declares `links = "openssl"`, so cargo hands its findings over as DEP_OPENSSL_*.
    let found = |name: &str| std::env::var(format!("DEP_OPENSSL_{name}")).ok();
    if let Err(refusal) = check(found) {
        panic!("\n\nopenssl-resumption: {refusal}\n");
    }
    // Raw public keys came with 3.2, a getter of the purpose of certificates with 3.5.
    for (since, cfg) in [(0x3020_0000, "openssl320"), (0x3050_0000, "openssl350")] {
        println!("cargo::rustc-check-cfg=cfg({cfg})");
        if version(found).is_some_and(|version| version >= since) {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}

/// Decides on what `openssl-sys` found; `found` looks one of its metadata keys up.
pub(crate) fn check(found: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    for (key, library) in [
        ("BORINGSSL", "BoringSSL"),
        ("AWSLC", "AWS-LC"),
        ("LIBRESSL", "LibreSSL"),
    ] {
        if found(key).is_some() {
            return Err(format!(
                "this build links {library}, which lacks the ticket and session callbacks of OpenSSL 3; \
                 link OpenSSL 3.0 or later (set OPENSSL_DIR, or enable the feature `vendored`)"
            ));
        }
    }
    let Some(text) = found("VERSION_NUMBER") else {
        return Err(
            "openssl-sys did not say which OpenSSL it found; link OpenSSL 3.0 or later \
                    (set OPENSSL_DIR, or enable the feature `vendored`)"
                .into(),
        );
    };
    match version(found) {
        Some(version) if version >= 0x3000_0000 => Ok(()),
        _ => Err(format!(
            "this build links OpenSSL 0x{text}, which has no SSL_CTX_set_tlsext_ticket_key_evp_cb; \
             link OpenSSL 3.0 or later (set OPENSSL_DIR, or enable the feature `vendored`)"
        )),
    }
}

/// The version of OpenSSL that is linked, as its headers number it.
fn version(found: impl Fn(&str) -> Option<String>) -> Option<u64> {
    u64::from_str_radix(&found("VERSION_NUMBER")?, 16).ok()
}
