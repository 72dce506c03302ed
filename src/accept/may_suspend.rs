//! Connections whose driver knows what to do when their handshake is suspended.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslRef};

use crate::ffi::{Carried, Place};

static PLACE: Place<MaySuspend> = Place::new();

struct MaySuspend {
    may: AtomicBool,
    reads_early_data: bool,
}

impl Carried for MaySuspend {
    fn freed(self: Box<Self>, _: bool) {}
}

pub(super) fn let_suspend(ssl: &mut Ssl, reads_early_data: bool) -> Result<(), ErrorStack> {
    PLACE.prepare()?;
    let may = MaySuspend {
        may: AtomicBool::new(true),
        reads_early_data,
    };
    PLACE.set(ssl, may).ok_or_else(ErrorStack::get)
}

/// Whether early data would be read, if it is accepted.
pub(super) fn reads_early_data(ssl: &SslRef) -> bool {
    PLACE.get(ssl).is_some_and(|may| may.reads_early_data)
}

/// Its handshake is done; another one, after `SSL_clear`, is somebody else's.
pub(super) fn no_longer_suspend(ssl: &SslRef) {
    if let Some(may) = PLACE.get(ssl) {
        may.may.store(false, Relaxed);
    }
}

pub(super) fn may_suspend(ssl: &SslRef) -> bool {
    PLACE.get(ssl).is_some_and(|may| may.may.load(Relaxed))
}
