//! A client may send another name after a HelloRetryRequest.

#![expect(unsafe_code, reason = "no safe client does this")]

use std::ffi::c_int;
use std::sync::{Arc, Mutex};

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::{NameType, SslContextBuilder, SslRef};
use openssl_resumption::{Handshake::Full, Reason};
use openssl_sys::{SSL, SSL_CTX};

use crate::common::*;

unsafe extern "C" {
    fn SSL_CTX_set_info_callback(
        ctx: *mut SSL_CTX,
        callback: Option<unsafe extern "C" fn(*const SSL, c_int, c_int)>,
    );
}

const SSL_CB_CONNECT_LOOP: c_int = 0x1001;

/// The client has read a server hello: the next one it sends, if any, is for b.example.
unsafe extern "C" fn change_name(ssl: *const SSL, event: c_int, _: c_int) {
    // SAFETY: OpenSSL passes the live SSL that this thread drives.
    let ssl = unsafe { SslRef::from_ptr_mut(ssl.cast_mut()) };
    if event == SSL_CB_CONNECT_LOOP && ssl.state_string_long().contains("read server hello") {
        ssl.set_hostname("b.example").unwrap();
    }
}

fn fickle(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    // SAFETY: the builder owns the context, and nobody uses it yet.
    unsafe { SSL_CTX_set_info_callback(context.as_ptr(), Some(change_name)) };
    context.set_groups_list("P-256:P-384")
}

/// What was found for the first hello must not be resumed under the second one's name.
#[test]
fn another_name_after_a_hello_retry_request_is_not_resumed() {
    for (mode, policy) in resuming() {
        let names = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&names);
        let context = context_with(&policy, |builder| {
            builder.set_groups_list("P-384").unwrap();
            builder.set_servername_callback(move |ssl, _| {
                let name = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
                seen.lock().unwrap().extend(name);
                Ok(())
            });
        });
        let faithful = with_groups("P-256:P-384").server_name("a.example");
        let [first, second] = meet_twice(&context, &faithful);
        assert!(second.client.resumed, "{mode}");

        names.lock().unwrap().clear();
        let fickle = Client::with(Kind::Tls13, fickle).unwrap();
        let fickle = fickle.server_name("a.example");
        let changed = meet(&context, &fickle, first.next());
        assert_eq!(*names.lock().unwrap(), ["a.example", "b.example"], "{mode}");
        assert_eq!(changed.agreed(), Full(Reason::OtherBinding), "{mode}");
    }
}
