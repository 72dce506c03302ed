//! The server name that a client asks for.

use openssl::ssl::SslRef;

use crate::ffi;

/// The server name in the ClientHello that is being processed.
pub(super) fn offered_name(ssl: &SslRef) -> Option<&[u8]> {
    ffi::server_name_extension(ssl).map(host_name)
}

/// The name in a server name extension (RFC 6066, section 3): a list of one entry, a type and a
/// name. OpenSSL ends the handshake over any other, and over a longer name than DNS has; what it is bound
/// to is then of no account, and not worth hashing or keeping in full.
fn host_name(extension: &[u8]) -> &[u8] {
    let name = match extension {
        [_, _, 0, _, _, name @ ..] => name,
        other => other,
    };
    &name[..name.len().min(LONGEST_NAME + 1)]
}

/// The longest name that OpenSSL takes (`TLSEXT_MAXLEN_host_name`).
const LONGEST_NAME: usize = 255;

pub(super) fn same(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_follows_the_list_and_entry_headers() {
        assert_eq!(host_name(b"\0\x04\0\0\x01a"), b"a");
        assert_eq!(host_name(b"\0\x03\0\0\0"), b"");
        assert_eq!(
            host_name(b"\0\x04\x01\0\x01a"),
            b"\0\x04\x01\0\x01a",
            "not a host name"
        );
        assert_eq!(host_name(b""), b"");
    }
}
