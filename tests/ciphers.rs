//! A session of TLS 1.2 brings its cipher with it, which may have been switched off since.

mod common;

use common::*;
use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason,
};

#[test]
fn a_cipher_that_was_switched_off_is_not_resumed() {
    for (mode, policy) in resuming() {
        for kind in [Kind::Tls12, Kind::Tls12WithoutTickets] {
            let with = |ciphers| {
                context_with(&policy, |builder| builder.set_cipher_list(ciphers).unwrap())
            };
            let before = with("ECDHE-ECDSA-AES128-SHA:ECDHE+AESGCM:@SECLEVEL=0");
            let client = Client::with(kind, |context| {
                context.set_cipher_list("ECDHE-ECDSA-AES128-SHA:ECDHE+AESGCM:@SECLEVEL=0")
            });
            let client = client.unwrap();
            let first = meet(&before, &client, None);
            let Some(session) = first.next() else {
                continue;
            };
            let again = meet(&before, &client, Some(session)).agreed();
            assert!(matches!(again, Resumed(_)), "{mode} {kind:?}");
            let met = meet(&with("ECDHE+AESGCM"), &client, Some(session));
            assert_eq!(met.agreed(), Full(Reason::WrongContext), "{mode} {kind:?}");
        }
    }
}
