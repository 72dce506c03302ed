//! What may stand where a session should: for tickets and for stores.

use openssl_resumption::{Reason, Resumption};

use crate::common::*;
use crate::der::*;
use crate::now;

/// What a session is not.
pub(crate) fn no_sessions(session: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let cuts = (0..session.len()).map(|len| ("cut", session[..len].to_vec()));
    [
        ("zeros", vec![0; 200]),
        ("an empty sequence", tlv(0x30, b"")),
        ("a certificate", identity().cert.to_der().unwrap()),
        ("a byte more", [session, &[0]].concat()),
        ("two sessions", [session, session].concat()),
        ("no format version", with_plain(session, 0, &[])),
        ("a later format", with_plain(session, 0, &[2])),
        (
            "a field of a later OpenSSL",
            with_field(session, LATER, Some(b"new")),
        ),
        (
            "a cipher of no length",
            with_plain(session, CIPHER_SUITE, &[]),
        ),
        ("an id too long", with_plain(session, ID, &[1; 33])),
    ]
    .into_iter()
    .chain(cuts)
    .collect()
}

/// Sessions that are not ours or not for this time and place, and why.
pub(crate) fn strange_sessions(session: &[u8], kind: Kind) -> Vec<(&'static str, Vec<u8>, Reason)> {
    let other_version = [3, if kind == Kind::Tls13 { 3 } else { 4 }];
    let ago = |seconds| now() - seconds;
    let dated = |session: &[u8], time: u64| {
        stamped(session, |stamp| {
            stamp[2..10].copy_from_slice(&time.to_be_bytes())
        })
    };
    let day = Resumption::DEFAULT_LIFETIME.as_secs();
    let endless = with_number(&with_number(session, TIME, now()), TIMEOUT, 1 << 30);
    let stamp = |bytes| with_field(session, STAMP, bytes);
    let context = |bytes| with_field(session, ID_CONTEXT, bytes);
    let version = |bytes: &[u8]| with_plain(session, 1, bytes);
    let mut strange = vec![
        ("no stamp", stamp(None), Reason::NoStamp),
        ("an empty stamp", stamp(Some(b"")), Reason::NoStamp),
        (
            "the data of another product",
            stamp(Some(b"nginx")),
            Reason::NoStamp,
        ),
        (
            "neither context nor stamp",
            with_field(&stamp(None), ID_CONTEXT, None),
            Reason::NoStamp,
        ),
        ("no context", context(None), Reason::WrongContext),
        ("an empty context", context(Some(b"")), Reason::WrongContext),
        (
            "another context",
            context(Some(&[1; 32])),
            Reason::WrongContext,
        ),
        (
            "the other version",
            version(&other_version),
            Reason::WrongContext,
        ),
        ("an old version", version(&[3, 1]), Reason::WrongContext),
        ("an old stamp", dated(session, ago(day)), Reason::Expired),
        (
            "an old stamp in a session without end",
            dated(&endless, ago(day)),
            Reason::Expired,
        ),
        (
            "another name",
            stamped(session, |stamp| stamp[25] ^= 1),
            Reason::OtherBinding,
        ),
    ];
    if kind != Kind::Tls13 {
        // OpenSSL would tell it to the server name callback, which decides what is demanded.
        // (Without a name it is told the one that the stamp is bound to.)
        strange.push((
            "a name beside",
            with_field(session, HOSTNAME, Some(b"other.example")),
            Reason::OtherBinding,
        ));
    }
    strange
}

/// The session with its stamp changed.
fn stamped(session: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut stamp = content(session, STAMP).to_vec();
    change(&mut stamp);
    with_field(session, STAMP, Some(&stamp))
}
