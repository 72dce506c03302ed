//! What OpenSSL has and `openssl-sys` does not declare.

use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};

use openssl_sys as sys;

/// `SSL_CTX_set_info_callback`'s argument.
pub(crate) type InfoCallback = unsafe extern "C" fn(*const sys::SSL, c_int, c_int);

/// `SSL_CTX_set_verify`'s argument, and `X509_STORE_set_verify_cb`'s.
pub(super) type VerifyCallback = unsafe extern "C" fn(c_int, *mut sys::X509_STORE_CTX) -> c_int;

pub(super) type NewSessionCallback =
    unsafe extern "C" fn(*mut sys::SSL, *mut sys::SSL_SESSION) -> c_int;
pub(super) type GetSessionCallback =
    unsafe extern "C" fn(*mut sys::SSL, *const c_uchar, c_int, *mut c_int) -> *mut sys::SSL_SESSION;
pub(super) type TicketKeyCallback = unsafe extern "C" fn(
    *mut sys::SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut sys::EVP_CIPHER_CTX,
    *mut sys::EVP_MAC_CTX,
    c_int,
) -> c_int;
pub(super) type GenerateTicketCallback = unsafe extern "C" fn(*mut sys::SSL, *mut c_void) -> c_int;
pub(super) type AllowEarlyDataCallback = unsafe extern "C" fn(*mut sys::SSL, *mut c_void) -> c_int;
pub(super) type DecryptTicketCallback = unsafe extern "C" fn(
    *mut sys::SSL,
    *mut sys::SSL_SESSION,
    *const c_uchar,
    usize,
    c_int,
    *mut c_void,
) -> c_int;

pub(super) type MessageCallback =
    unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, usize, *mut sys::SSL, *mut c_void);

// From openssl/ssl.h, equal in 3.0 to 4.0.
pub(super) const SSL_CB_HANDSHAKE_START: c_int = 0x10;
pub(super) const SSL_CB_HANDSHAKE_DONE: c_int = 0x20;
pub(super) const SSL2_VERSION: c_int = 2;
pub(super) const SSL3_RT_HANDSHAKE: c_int = 22;
pub(super) const SSL3_MT_CLIENT_HELLO: u8 = 1;
pub(super) const SSL_CTRL_CERT_FLAGS: c_int = 99;
pub(super) const SSL_CERT_FLAG_SUITEB_128_LOS: c_long = 0x3_0000;
pub(super) const SSL_CTRL_GET_SESS_CACHE_MODE: c_int = 45;
pub(super) const SSL_CB_READ_ALERT: c_int = 0x4004;
pub(super) const SSL_CB_WRITE_ALERT: c_int = 0x4008;
pub(super) const ALERT_LEVEL_FATAL: c_int = 2;
pub(super) const ALERT_CLOSE_NOTIFY: c_int = 0;
pub(super) const ALERT_USER_CANCELED: c_int = 90;
pub(super) const SSL_CB_ACCEPT_LOOP: c_int = 0x2001;
pub(super) const SSL_CTRL_GET_RAW_CIPHERLIST: c_int = 110;
pub(super) const SSL_CTRL_GET_VERIFY_CERT_STORE: c_int = 137;
pub(super) const TLSEXT_TYPE_SERVER_NAME: c_uint = 0;
pub(super) const SSL_VERIFY_POST_HANDSHAKE: c_int = 8;
pub(super) const SSL_SENT_SHUTDOWN: c_int = 1;
pub(super) const SSL_RECEIVED_SHUTDOWN: c_int = 2;
pub(super) const SSL_OP_NO_ANTI_REPLAY: u64 = 1 << 24;
pub(super) const SSL_EARLY_DATA_NOT_SENT: c_int = 0;
pub(super) const SSL_EARLY_DATA_ACCEPTED: c_int = 2;
pub(super) const SSL_TICKET_EMPTY: c_int = 3;
pub(super) const SSL_TICKET_SUCCESS: c_int = 5;
pub(super) const SSL_TICKET_SUCCESS_RENEW: c_int = 6;
pub(super) const SSL_TICKET_RETURN_IGNORE_RENEW: c_int = 2;
pub(super) const SSL_TICKET_RETURN_USE: c_int = 3;
pub(super) const SSL_TICKET_RETURN_USE_RENEW: c_int = 4;

unsafe extern "C" {
    pub(super) fn SSL_get_pending_cipher(ssl: *const sys::SSL) -> *const sys::SSL_CIPHER;
    pub(super) fn SSL_SESSION_get0_cipher(
        session: *const sys::SSL_SESSION,
    ) -> *const sys::SSL_CIPHER;
    pub(super) fn SSL_SESSION_get_max_fragment_length(session: *const sys::SSL_SESSION) -> u8;
    pub(super) fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
        ctx: *mut sys::SSL_CTX,
        callback: Option<TicketKeyCallback>,
    ) -> c_int;
    pub(super) fn SSL_CTX_set_session_ticket_cb(
        ctx: *mut sys::SSL_CTX,
        generate: Option<GenerateTicketCallback>,
        decrypt: Option<DecryptTicketCallback>,
        arg: *mut c_void,
    ) -> c_int;
    pub(super) fn SSL_CTX_set_info_callback(ctx: *mut sys::SSL_CTX, callback: Option<InfoCallback>);
    pub(super) fn SSL_CTX_get_info_callback(ctx: *mut sys::SSL_CTX) -> Option<InfoCallback>;
    pub(super) fn SSL_set_info_callback(ssl: *mut sys::SSL, callback: Option<InfoCallback>);
    pub(super) fn SSL_get_info_callback(ssl: *const sys::SSL) -> Option<InfoCallback>;
    pub(super) fn SSL_CTX_sess_get_new_cb(ctx: *mut sys::SSL_CTX) -> Option<NewSessionCallback>;
    pub(super) fn SSL_CTX_sess_get_get_cb(ctx: *mut sys::SSL_CTX) -> Option<GetSessionCallback>;
    pub(super) fn SSL_CTX_set_timeout(ctx: *mut sys::SSL_CTX, seconds: c_long) -> c_long;
    pub(super) fn SSL_SESSION_get0_ticket_appdata(
        session: *mut sys::SSL_SESSION,
        data: *mut *mut c_void,
        len: *mut usize,
    ) -> c_int;
    pub(super) fn SSL_SESSION_set1_ticket_appdata(
        session: *mut sys::SSL_SESSION,
        data: *const c_void,
        len: usize,
    ) -> c_int;
    pub(super) fn SSL_SESSION_set1_id(
        session: *mut sys::SSL_SESSION,
        id: *const c_uchar,
        len: c_uint,
    ) -> c_int;
    pub(super) fn SSL_SESSION_set_timeout(
        session: *mut sys::SSL_SESSION,
        seconds: c_long,
    ) -> c_long;
    #[cfg(openssl320)]
    pub(super) fn SSL_SESSION_get0_peer_rpk(session: *mut sys::SSL_SESSION) -> *mut sys::EVP_PKEY;
    pub(super) fn SSL_get_verify_callback(ssl: *const sys::SSL) -> Option<VerifyCallback>;
    pub(super) fn SSL_CTX_get_verify_callback(ctx: *const sys::SSL_CTX) -> Option<VerifyCallback>;
    pub(super) fn X509_STORE_get_verify_cb(store: *const sys::X509_STORE)
    -> Option<VerifyCallback>;
    pub(super) fn X509_STORE_get0_param(
        store: *const sys::X509_STORE,
    ) -> *mut sys::X509_VERIFY_PARAM;
    pub(super) fn X509_VERIFY_PARAM_set1(
        to: *mut sys::X509_VERIFY_PARAM,
        from: *const sys::X509_VERIFY_PARAM,
    ) -> c_int;
    pub(super) fn X509_VERIFY_PARAM_get_inh_flags(param: *const sys::X509_VERIFY_PARAM) -> u32;
    pub(super) fn X509_VERIFY_PARAM_set_inh_flags(
        param: *mut sys::X509_VERIFY_PARAM,
        flags: u32,
    ) -> c_int;
    #[cfg(openssl350)]
    pub(super) fn X509_VERIFY_PARAM_get_purpose(param: *const sys::X509_VERIFY_PARAM) -> c_int;
    pub(super) fn X509_STORE_lock(store: *mut sys::X509_STORE) -> c_int;
    pub(super) fn X509_STORE_unlock(store: *mut sys::X509_STORE) -> c_int;
    pub(super) fn X509_OBJECT_get0_X509_CRL(object: *const sys::X509_OBJECT) -> *mut sys::X509_CRL;
    pub(super) fn X509_STORE_CTX_get0_param(
        context: *const sys::X509_STORE_CTX,
    ) -> *mut sys::X509_VERIFY_PARAM;
    pub(super) fn X509_STORE_CTX_set_flags(context: *mut sys::X509_STORE_CTX, flags: c_ulong);
    pub(super) fn X509_STORE_CTX_set_default(
        context: *mut sys::X509_STORE_CTX,
        name: *const c_char,
    ) -> c_int;
    pub(super) fn X509_STORE_CTX_set_ex_data(
        context: *mut sys::X509_STORE_CTX,
        index: c_int,
        data: *mut c_void,
    ) -> c_int;
    pub(super) fn SSL_CTX_set_msg_callback(
        ctx: *mut sys::SSL_CTX,
        callback: Option<MessageCallback>,
    );
    pub(super) fn X509_VERIFY_PARAM_get_depth(param: *const sys::X509_VERIFY_PARAM) -> c_int;
    pub(super) fn X509_VERIFY_PARAM_get_hostflags(param: *const sys::X509_VERIFY_PARAM) -> c_uint;
    pub(super) fn X509_VERIFY_PARAM_get0_host(
        param: *mut sys::X509_VERIFY_PARAM,
        index: c_int,
    ) -> *mut c_char;
    pub(super) fn X509_VERIFY_PARAM_get1_ip_asc(param: *mut sys::X509_VERIFY_PARAM) -> *mut c_char;
    pub(super) fn X509_VERIFY_PARAM_get0_email(param: *mut sys::X509_VERIFY_PARAM) -> *mut c_char;
    pub(super) fn SSL_SESSION_get0_peer(session: *mut sys::SSL_SESSION) -> *mut sys::X509;
    pub(super) fn SSL_CTX_get_client_CA_list(
        ctx: *const sys::SSL_CTX,
    ) -> *mut sys::stack_st_X509_NAME;
    pub(super) fn SSL_get_client_CA_list(ssl: *const sys::SSL) -> *mut sys::stack_st_X509_NAME;
    pub(super) fn SSL_set_session_id_context(
        ssl: *mut sys::SSL,
        context: *const c_uchar,
        len: c_uint,
    ) -> c_int;
    pub(super) fn SSL_CTX_set_allow_early_data_cb(
        ctx: *mut sys::SSL_CTX,
        callback: Option<AllowEarlyDataCallback>,
        arg: *mut c_void,
    );
    pub(super) fn SSL_CTX_set_recv_max_early_data(ctx: *mut sys::SSL_CTX, bytes: u32) -> c_int;
    pub(super) fn SSL_CTX_get_recv_max_early_data(ctx: *const sys::SSL_CTX) -> u32;
    pub(super) fn SSL_get_recv_max_early_data(ssl: *const sys::SSL) -> u32;
    pub(super) fn SSL_get_early_data_status(ssl: *const sys::SSL) -> c_int;
    pub(super) fn SSL_in_before(ssl: *const sys::SSL) -> c_int;
    pub(super) fn SSL_SESSION_get_ex_data(
        session: *const sys::SSL_SESSION,
        index: c_int,
    ) -> *mut c_void;
    pub(super) fn SSL_SESSION_dup(session: *const sys::SSL_SESSION) -> *mut sys::SSL_SESSION;
    pub(super) fn SSL_SESSION_get0_hostname(session: *const sys::SSL_SESSION) -> *const c_char;
    pub(super) fn SSL_SESSION_set1_hostname(
        session: *mut sys::SSL_SESSION,
        name: *const c_char,
    ) -> c_int;
    pub(super) fn X509_STORE_up_ref(store: *mut sys::X509_STORE) -> c_int;
    pub(super) fn SSL_get_options(ssl: *const sys::SSL) -> u64;
    pub(super) fn SSL_set_options(ssl: *mut sys::SSL, options: u64) -> u64;
    pub(super) fn SSL_clear_options(ssl: *mut sys::SSL, options: u64) -> u64;
    pub(super) fn SSL_get_quiet_shutdown(ssl: *const sys::SSL) -> c_int;
    pub(super) fn SSL_SESSION_get0_id_context(
        session: *const sys::SSL_SESSION,
        len: *mut c_uint,
    ) -> *const c_uchar;
    pub(super) fn OSSL_PARAM_construct_utf8_string(
        key: *const c_char,
        buf: *mut c_char,
        len: usize,
    ) -> sys::OSSL_PARAM;
    pub(super) fn OPENSSL_atexit(handler: extern "C" fn()) -> c_int;
    pub(super) fn OPENSSL_thread_stop();
    pub(super) fn OPENSSL_cleanse(ptr: *mut c_void, len: usize);
    pub(super) fn ERR_set_mark() -> c_int;
    pub(super) fn ERR_pop_to_mark() -> c_int;
}
