//! Connections whose driver knows what to do when their handshake is suspended.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslRef};

use crate::ffi::{Carried, Place};

static PLACE: Place<MaySuspend> = Place::new();

struct MaySuspend(AtomicBool);

impl Carried for MaySuspend {
    fn freed(self: Box<Self>, _: bool) {}
}

pub(super) fn let_suspend(ssl: &mut Ssl) -> Result<(), ErrorStack> {
    PLACE.prepare()?;
    PLACE
        .set(ssl, MaySuspend(AtomicBool::new(true)))
        .ok_or_else(ErrorStack::get)
}

/// Its handshake is done; another one, after `SSL_clear`, is somebody else's.
pub(super) fn no_longer_suspend(ssl: &SslRef) {
    if let Some(may) = PLACE.get(ssl) {
        may.0.store(false, Relaxed);
    }
}

pub(super) fn may_suspend(ssl: &SslRef) -> bool {
    PLACE.get(ssl).is_some_and(|may| may.0.load(Relaxed))
}
