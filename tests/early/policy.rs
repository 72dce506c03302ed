//! What `set_resumption` says of early data, and sets on a context.

use crate::common::*;
use openssl::ssl::{SslAcceptorBuilder, SslContextBuilder, SslOptions};
use openssl_resumption::{
    Error, MemoryRegister, MemoryStore, Resumption, SslContextBuilderExt, TicketKeys,
};

/// Early data without what says that it is new.
fn bare() -> Resumption {
    Resumption::stateful(MemoryStore::default()).early_data(1_000)
}

fn refusal(policy: &Resumption, prepare: impl FnOnce(&mut SslAcceptorBuilder)) -> String {
    let mut builder = acceptor();
    prepare(&mut builder);
    let before = set_on(&builder);
    let error = builder.set_resumption(policy).unwrap_err();
    assert_eq!(set_on(&builder), before, "half-applied: {error}");
    error.to_string()
}

#[test]
fn early_data_that_nobody_protects_is_refused() {
    let said = refusal(&bare(), |_| ());
    assert!(
        said.contains("replay register") && said.contains("single_use"),
        "{said}"
    );
    let off = Resumption::off()
        .early_data(1_000)
        .replay_register(MemoryRegister::default());
    assert!(refusal(&off, |_| ()).contains("a mode in which sessions resume"));
    let policy = bare().replay_register(MemoryRegister::default());
    let said = refusal(&policy, |b| b.set_max_early_data(999).unwrap());
    assert!(said.contains("999") && said.contains("1000"), "{said}");
    let said = refusal(&Resumption::off(), |b| b.set_max_early_data(999).unwrap());
    assert!(said.contains("999"), "{said}");
    // A sealed ticket is in no store that could give it out once only.
    let hybrid = || Resumption::hybrid(MemoryStore::default(), TicketKeys::random());
    for sealing in [Resumption::stateless(TicketKeys::random()), hybrid()] {
        for single_use in [false, true] {
            let policy = sealing.clone().early_data(1).single_use(single_use);
            let said = refusal(&policy, |_| ());
            assert!(said.contains("a replay register"), "{policy:?}: {said}");
        }
    }
    let with_register = |policy: Resumption| {
        policy
            .early_data(1)
            .single_use(true)
            .replay_register(MemoryRegister::default())
    };
    let stateless = with_register(Resumption::stateless(TicketKeys::random()));
    assert!(refusal(&stateless, |_| ()).starts_with("single use needs"));
    acceptor().set_resumption(&with_register(hybrid())).unwrap();
}

#[test]
fn errors_can_be_told_apart() {
    let error = acceptor().set_resumption(&bare()).unwrap_err();
    assert!(matches!(error, Error::EarlyData(_)), "{error}");
    let mut builder = acceptor();
    builder.set_max_early_data(5).unwrap();
    let error = builder.set_resumption(&Resumption::off()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::MaxEarlyData {
                context: 5,
                policy: 0
            }
        ),
        "{error}"
    );
}

#[allow(unsafe_code, reason = "the openssl crate has no function for it")]
unsafe extern "C" {
    fn SSL_CTX_get_max_early_data(ctx: *const openssl_sys::SSL_CTX) -> u32;
    fn SSL_CTX_get_recv_max_early_data(ctx: *const openssl_sys::SSL_CTX) -> u32;
}

/// `max_early_data`, `recv_max_early_data`, and whether OpenSSL's own protection is off.
#[allow(unsafe_code, reason = "as above")]
fn set_on(builder: &SslContextBuilder) -> (u32, u32, bool) {
    let context = builder.as_ptr();
    // SAFETY: reads a field of a live context.
    let max = unsafe { SSL_CTX_get_max_early_data(context) };
    // SAFETY: as above.
    let recv_max = unsafe { SSL_CTX_get_recv_max_early_data(context) };
    let anti_replay_off = SslOptions::from_bits_retain(1 << 24);
    (max, recv_max, builder.options().contains(anti_replay_off))
}

#[test]
fn another_policy_puts_back_what_was_set_before() {
    let with = |max| {
        Resumption::stateful(MemoryStore::default())
            .early_data(max)
            .replay_register(MemoryRegister::default())
    };
    let mut builder = acceptor();
    let before = set_on(&builder);
    assert_eq!(before, (0, 16_384, false));
    for _ in 0..2 {
        builder.set_resumption(&with(1_000)).unwrap();
        assert_eq!(set_on(&builder), (1_000, 22_528, true));
        builder.set_resumption(&with(20_000)).unwrap();
        assert_eq!(set_on(&builder), (20_000, 26_596, true));
        builder.set_resumption(&Resumption::off()).unwrap();
        assert_eq!(set_on(&builder), before);
    }
    // One's own setting that is the same is no error, and stays.
    let mut builder = acceptor();
    builder.set_max_early_data(1_000).unwrap();
    builder.set_resumption(&with(1_000)).unwrap();
    assert_eq!(set_on(&builder), (1_000, 22_528, true));
    assert!(builder.set_resumption(&Resumption::off()).is_err());
    assert_eq!(set_on(&builder), (1_000, 22_528, true));
}

/// What somebody else has changed meanwhile does not make the library's own setting somebody else's.
#[test]
fn a_setting_that_was_changed_in_between_is_put_back_all_the_same() {
    let with = || bare().replay_register(MemoryRegister::default());
    let mut builder = acceptor();
    builder.set_resumption(&with()).unwrap();
    builder.clear_options(SslOptions::from_bits_retain(1 << 24));
    builder.set_resumption(&with()).unwrap();
    builder
        .set_resumption(&Resumption::stateless(TicketKeys::random()))
        .unwrap();
    assert_eq!(set_on(&builder), (0, 16_384, false));
}
