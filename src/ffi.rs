//! OpenSSL in small safe functions, a file a subject. The only unsafe code.
//!
//! It knows no policy: what OpenSSL's callbacks ask goes to the one object of the trait `Decisions`. It uses `base`
//! alone.

#![allow(unsafe_code)]

mod authorities;
mod carried;
mod client_hello;
mod connection;
mod context;
mod credential;
mod decisions;
mod declare;
mod early_data;
mod error_queue;
mod info;
mod install;
mod memory;
mod message;
mod process;
mod secret;
mod session;
mod session_mut;
mod ticket;
mod time;
mod trampolines;
mod verification;
mod verifier;
mod verify_param;

pub(crate) use authorities::{ca_store_of, certificate_authorities};
pub(crate) use carried::{Carried, Place};
pub(crate) use client_hello::{
    client_hello_extension, offered_ciphers, pending_cipher, server_name_extension,
};
pub(crate) use connection::{
    can_withhold_tickets, drop_session, has_option, has_replay_protection, has_tls13,
    is_before_handshake, isolate, set_no_ticket, shut_down,
};
pub(crate) use context::{Settings, as_context, set_timeout, verify_mode_of};
pub(crate) use credential::{
    Credential, CredentialRef, certificate_len, credential, extensions_len, has_chain,
    peer_certificate,
};
pub(crate) use decisions::{Alert, Decisions};
pub(crate) use early_data::{EarlySettings, EarlyStatus, early_status};
pub(crate) use error_queue::shielded;
pub(crate) use info::{has_info_callback, keep_info_callback};
pub(crate) use install::{Asked, has_session_callbacks, install, prepare, settings_of};
#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
pub(crate) use memory::allocated;
pub(crate) use memory::cleanse;
pub(crate) use memory::random;
pub(crate) use process::{at_fork, at_openssl_exit, block_signals, thread_stop};
pub(crate) use secret::Secret;
pub(crate) use session::{
    appdata, copy_session, copy_stands_alone, first_element, has_ex_data, has_ticket_age, hostname,
    id_context, max_fragment_length, session_cipher, session_from_der, session_to_der,
};
pub(crate) use session_mut::{OwnedSession, SessionMut};
pub(crate) use ticket::{Ticket, TicketContext, Verdict};
pub(crate) use time::unix_time;
pub(crate) use verification::{
    Verification, asks_after_handshake, is_of_context, verification, verify_mode,
};
pub(crate) use verifier::{TrustState, Verifier, trust_state};
pub(crate) use verify_param::{take_address, verify_param, verify_param_of};
