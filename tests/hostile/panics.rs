//! No panic crosses into OpenSSL. Run in child processes, because one that did would abort.

use std::panic::panic_any;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::child::in_child;
use crate::common::*;
use foreign_types::ForeignType;
use openssl::ssl::{Ssl, SslContext, SslRef};
use openssl_resumption::{
    Handshake::Full, KeyError, KeySet, KeySource, Reason, Resumption, Session, SessionKey,
    SessionStore, StoreError, TicketKey, TicketKeys, Usage,
};

/// Panics in each method, with a payload that panics when it is dropped.
struct Panicking;

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a payload that panics when dropped");
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        panic_any(Bomb)
    }
}

impl SessionStore for Panicking {
    fn put(&self, _: &SessionKey, _: Session) -> Result<(), StoreError> {
        panic_any(Bomb)
    }
    fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
        panic_any(Bomb)
    }
    fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
        panic_any(Bomb)
    }
    fn take(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
        panic_any(Bomb)
    }
    fn takes_once(&self) -> bool {
        panic_any(Bomb)
    }
    fn usage(&self) -> Option<Usage> {
        panic_any(Bomb)
    }
}

/// Gives one key, due at once, and panics from then on.
struct OneKey(std::sync::atomic::AtomicBool);

impl Drop for OneKey {
    fn drop(&mut self) {
        panic_any(Bomb)
    }
}

impl KeySource for OneKey {
    fn load(&self, now: std::time::SystemTime) -> Result<KeySet, KeyError> {
        if self.0.swap(true, std::sync::atomic::Ordering::Relaxed) {
            panic_any(Bomb);
        }
        Ok(KeySet::new(TicketKey::random()?, now))
    }
}

#[test]
fn a_store_that_panics_in_each_method() {
    in_child("a_store_that_panics_in_each_method", || {
        for policy in [
            Resumption::stateful(Panicking),
            Resumption::hybrid(Panicking, TicketKeys::random()),
        ] {
            let context = context(&policy);
            for kind in Kind::ALL {
                let client = Client::new(kind).unwrap();
                let first = meet(&context, &client, None);
                first.agreed();
                let second = meet(&context, &client, first.next());
                if policy.stats().tickets.sealed == 0 {
                    assert_eq!(second.agreed(), Full(Reason::StoreFailed), "{kind:?}");
                }
            }
            let stats = policy.stats();
            assert!(stats.store.errors > 0 && stats.store.usage.is_none());
            assert_eq!(handshakes(&stats).0 + handshakes(&stats).1, 6);
            // The context is the last to go: the store is dropped inside SSL_CTX_free.
            drop(policy);
            drop(context);
        }
    });
}

#[test]
fn a_key_source_that_panics() {
    in_child("a_key_source_that_panics", || {
        let policy = Resumption::stateless(TicketKeys::from_source(OneKey(false.into())));
        let context = context(&policy);
        for kind in [Kind::Tls12, Kind::Tls13] {
            let client = Client::new(kind).unwrap();
            let first = meet(&context, &client, None);
            assert!(
                meet(&context, &client, first.next()).client.resumed,
                "the one key goes on"
            );
        }
        let begun = Instant::now();
        while policy.stats().tickets.key_failures == 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "not asked again");
            thread::sleep(Duration::from_millis(10));
        }
        drop(policy);
        drop(context);
    });
}

#[test]
fn a_hook_that_panics() {
    in_child("a_hook_that_panics", || {
        for (mode, policy) in modes() {
            let dropped = Panicking;
            let policy = policy.on_outcome(move |_| {
                let _ = &dropped;
                panic_any(Bomb)
            });
            let context = context(&policy);
            for kind in [Kind::Tls12, Kind::Tls13] {
                let met = meet_twice(&context, &Client::new(kind).unwrap());
                met[0].agreed();
                met[1].agreed();
                assert_eq!(met[1].client.resumed, mode != "off", "{mode} {kind:?}");
            }
            drop(policy);
            drop(context);
        }
    });
}

/// An `SSL` that the `openssl` crate did not make lacks that crate's own ex-data, on which its
/// callbacks insist.
#[expect(unsafe_code, reason = "this is what other bindings do")]
fn raw_ssl(context: &SslContext) -> Ssl {
    // SAFETY: the context is live.
    let ssl = unsafe { openssl_sys::SSL_new(context.as_ptr()) };
    assert!(!ssl.is_null());
    // SAFETY: SSL_new has just handed over the only reference.
    unsafe { Ssl::from_ptr(ssl) }
}

#[test]
fn an_ssl_made_by_raw_ssl_new() {
    in_child("an_ssl_made_by_raw_ssl_new", || {
        for (mode, policy) in modes() {
            let context = context(&policy);
            for kind in Kind::ALL {
                let client = Client::new(kind).unwrap();
                let first = meet_with(raw_ssl(&context), &client, None);
                first.agreed();
                let second = meet_with(raw_ssl(&context), &client, first.next());
                let makes_sense =
                    mode != "off" && !(mode == "stateless" && kind == Kind::Tls12WithoutTickets);
                second.agreed();
                assert_eq!(second.client.resumed, makes_sense, "{mode} {kind:?}");
            }
        }
    });
}

/// An `SSL` whose context had no policy when its handshake started, so that nobody owns it, but has
/// our callbacks: the context was switched before the handshake.
#[test]
fn an_ssl_whose_context_was_switched_before_the_handshake() {
    in_child(
        "an_ssl_whose_context_was_switched_before_the_handshake",
        || {
            for (mode, policy) in modes() {
                let ours = context(&policy);
                let bare = acceptor().build().into_context();
                for kind in Kind::ALL {
                    let client = Client::new(kind).unwrap();
                    let switched = || {
                        let mut ssl = Ssl::new(&ours).unwrap();
                        let inner: &mut SslRef = &mut ssl;
                        inner.set_ssl_context(&bare).unwrap();
                        ssl
                    };
                    let first = meet_with(switched(), &client, None);
                    let second = meet_with(switched(), &client, first.next());
                    assert!(
                        first.outcome.is_none() && second.outcome.is_none(),
                        "{mode} {kind:?}"
                    );
                }
            }
        },
    );
}
