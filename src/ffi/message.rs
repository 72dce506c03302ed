//! The message callback: sees a ClientHello before OpenSSL makes anything of it.

use std::ffi::{c_int, c_void};
use std::panic::AssertUnwindSafe;
use std::slice;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContextBuilder, SslRef};
use openssl_sys as sys;

use super::decisions::decisions;
use super::declare::*;
use crate::base::catch;

/// Sets the callback. Whose it was before OpenSSL does not tell.
pub(super) fn install(builder: &mut SslContextBuilder) {
    // SAFETY: the context is live, and so is the callback: a function.
    unsafe { SSL_CTX_set_msg_callback(builder.as_ptr(), Some(message)) };
}

/// `SSL_CTX_set_msg_callback`: called with each message, and the head of each record.
unsafe extern "C" fn message(
    is_written: c_int,
    version: c_int,
    kind: c_int,
    bytes: *const c_void,
    len: usize,
    ssl: *mut sys::SSL,
    _arg: *mut c_void,
) {
    if is_written != 0 || bytes.is_null() || ssl.is_null() {
        return;
    }
    let message = match kind {
        // SAFETY: OpenSSL passes that many bytes of the message.
        SSL3_RT_HANDSHAKE => unsafe { slice::from_raw_parts(bytes.cast::<u8>(), len) },
        // A hello in the format of SSL 2.0, which OpenSSL still takes: it has no extensions, and so offers no ticket.
        0 if version == SSL2_VERSION => &[SSL3_MT_CLIENT_HELLO],
        _ => return,
    };
    if message.first() != Some(&SSL3_MT_CLIENT_HELLO) {
        return;
    }
    // Nothing in there leaves errors in the queue.
    catch(AssertUnwindSafe(|| {
        // SAFETY: live and ours alone for the call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
        if let Some(decisions) = decisions() {
            decisions.greeted(ssl, message);
        }
    }));
}
