//! Sessions taken apart, and put together in another way.

use openssl_resumption::{Handshake::Resumed, Resumption, Source};

use crate::common::*;
use crate::server::Server;
use crate::tickets::{known, open, seal};

pub(crate) const CIPHER_SUITE: usize = 2;
pub(crate) const ID: usize = 3;
pub(crate) const SECRET: usize = 4;
pub(crate) const TIME: u8 = 1;
pub(crate) const TIMEOUT: u8 = 2;
pub(crate) const ID_CONTEXT: u8 = 4;
pub(crate) const HOSTNAME: u8 = 6;
pub(crate) const STAMP: u8 = 18;
/// No version of OpenSSL has as many fields.
pub(crate) const LATER: u8 = 29;

pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header = match content.len() {
        0..0x80 => vec![tag, len[1]],
        0x80..0x100 => vec![tag, 0x81, len[1]],
        _ => vec![tag, 0x82, len[0], len[1]],
    };
    [&header, content].concat()
}

/// The fields of a session, as tag and content.
pub(crate) fn elements(der: &[u8]) -> Vec<(u8, Vec<u8>)> {
    fields(der)
        .map(|(tag, at)| (tag, der[at].to_vec()))
        .collect()
}

/// The bytes in its field `[n]`, which it has.
pub(crate) fn content(der: &[u8], n: u8) -> &[u8] {
    &der[field(der, n).unwrap()]
}

fn assembled(elements: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<_> = elements
        .iter()
        .map(|(tag, content)| tlv(*tag, content))
        .collect();
    tlv(0x30, &body.concat())
}

/// The session with another content in one of the fields without a tag of their own: version of the
/// format, version of TLS, cipher, id and secret.
pub(crate) fn with_plain(der: &[u8], n: usize, content: &[u8]) -> Vec<u8> {
    let mut elements = elements(der);
    elements[n].1 = content.to_vec();
    assembled(&elements)
}

/// The session with this element in its field `[n]`, or without the field.
fn with_element(der: &[u8], n: u8, content: Option<Vec<u8>>) -> Vec<u8> {
    let mut elements = elements(der);
    elements.retain(|(tag, _)| *tag != 0xa0 | n);
    elements.extend(content.map(|content| (0xa0 | n, content)));
    // Stable: the fields without a tag of their own come first and keep their order.
    elements.sort_by_key(|(tag, _)| if *tag < 0xa0 { 0 } else { *tag });
    assembled(&elements)
}

/// The session with these bytes in its field `[n]`, or without the field.
pub(crate) fn with_field(der: &[u8], n: u8, bytes: Option<&[u8]>) -> Vec<u8> {
    with_element(der, n, bytes.map(|bytes| tlv(4, bytes)))
}

/// The session with this number in its field `[n]`.
pub(crate) fn with_number(der: &[u8], n: u8, value: u64) -> Vec<u8> {
    let bytes = [&[0], &value.to_be_bytes()[..]].concat();
    // As short as the sign allows.
    let start = (0..8)
        .find(|at| bytes[*at] != 0 || bytes[at + 1] >= 0x80)
        .unwrap_or(8);
    with_element(der, n, Some(tlv(2, &bytes[start..])))
}

#[test]
fn sessions_survive_being_taken_apart() {
    let server = Server::new(&Resumption::stateless(known()));
    for kind in [Kind::Tls12, Kind::Tls13] {
        let guest = server.guest(kind);
        for der in [&guest.session, &open(guest.ticket())] {
            assert_eq!(assembled(&elements(der)), *der);
            assert_eq!(with_element(der, LATER, None), *der);
            let stamp = field(der, STAMP).map(|at| der[at].to_vec());
            assert_eq!(with_field(der, STAMP, stamp.as_deref()), *der);
        }
        let der = open(guest.ticket());
        let time = |der: &[u8]| number(content(der, TIME));
        assert_eq!(with_number(&der, TIME, time(&der)), der);
        for other in [0, 1, 0x7f, 0x80, 0xffff, u64::MAX] {
            assert_eq!(time(&with_number(&der, TIME, other)), other);
        }
        assert_eq!(guest.offer(&seal(&der)), Ok(Resumed(Source::Ticket)));
    }
}
