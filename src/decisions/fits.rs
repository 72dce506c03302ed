//! Whether OpenSSL could resume a session in the handshake that is being made. It finds out by itself, and too
//! late: then the connection fails, or is full and brings no ticket, each time that the client offers the session.

use std::ffi::c_uint;

use openssl::ssl::{SslCipherRef, SslRef, SslSessionRef, SslVersion};

use crate::ffi;

const MAX_FRAGMENT_LENGTH: c_uint = 1;

/// What `SSL_SESSION_get_max_fragment_length` may say of a session without one: it was not negotiated, or has not
/// been yet.
const NONE: [u8; 2] = [0, 255];

pub(crate) fn fits(ssl: &SslRef, session: &SslSessionRef, version: SslVersion) -> bool {
    let cipher = match version {
        SslVersion::TLS1_3 => has_hash_of_cipher(ssl, session),
        _ => is_cipher_offered(ssl, session),
    };
    cipher && has_length_of_fragments(ssl, session)
}

/// The hash of a TLS 1.3 session is that of the cipher that has been chosen (RFC 8446, section 4.2.11). Otherwise
/// OpenSSL goes on without it, and before 3.0.22 and 3.6.3 sends no ticket.
fn has_hash_of_cipher(ssl: &SslRef, session: &SslSessionRef) -> bool {
    let hash = |cipher: &SslCipherRef| Some(cipher.handshake_digest()?.type_());
    match (ffi::pending_cipher(ssl), ffi::session_cipher(session)) {
        // Most often it is the same cipher, and to look hashes up takes a lock.
        (Some(chosen), Some(own)) => {
            chosen.protocol_id() == own.protocol_id() || hash(chosen) == hash(own)
        }
        // OpenSSL decides.
        _ => true,
    }
}

/// A client that offers a session offers its cipher (RFC 5246, section 7.4.1.2). Some do not, and OpenSSL fails the
/// connection.
fn is_cipher_offered(ssl: &SslRef, session: &SslSessionRef) -> bool {
    let Some(own) = ffi::session_cipher(session).map(SslCipherRef::protocol_id) else {
        return true;
    };
    let offered = ffi::offered_ciphers(ssl);
    // OpenSSL decides where there are none.
    offered.is_empty() || offered.chunks_exact(2).any(|cipher| cipher == own)
}

/// What a session has it keeps (RFC 6066, section 4): OpenSSL fails a connection whose client asks for another length,
/// and sends a length to one that asks for none, which then ends the handshake.
fn has_length_of_fragments(ssl: &SslRef, session: &SslSessionRef) -> bool {
    let own = Some(ffi::max_fragment_length(session)).filter(|own| !NONE.contains(own));
    match ffi::client_hello_extension(ssl, MAX_FRAGMENT_LENGTH) {
        Some([offered]) => own == Some(*offered),
        // Damaged: OpenSSL ends the handshake.
        Some(_) => true,
        None => own.is_none(),
    }
}
