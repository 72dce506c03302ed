//! A client's session, taken apart.

use std::ops::Range;

pub const LIFETIME_HINT: u8 = 9;
pub const TICKET: u8 = 10;

/// The fields of a session, as tag and where the content is.
///
/// `SSL_SESSION_ASN1` is a SEQUENCE of plain fields and of `[n] EXPLICIT` ones, all with definite
/// lengths.
pub fn fields(der: &[u8]) -> impl Iterator<Item = (u8, Range<usize>)> {
    let (_, all) = header(der, 0);
    let mut at = all.start;
    std::iter::from_fn(move || {
        (at < all.end).then(|| {
            let field = header(der, at);
            at = field.1.end;
            field
        })
    })
}

/// Where in the DER of a session its field `[n]` has its bytes.
pub fn field(der: &[u8], n: u8) -> Option<Range<usize>> {
    let (_, content) = fields(der).find(|(tag, _)| *tag == 0xa0 | n)?;
    Some(header(der, content.start).1)
}

/// The ticket in a client's session.
pub fn ticket(der: &[u8]) -> &[u8] {
    &der[field(der, TICKET).expect("a ticket")]
}

/// What a session keeps secret: the master key, or what TLS 1.3 has in its place.
pub fn secret_of(der: &[u8]) -> &[u8] {
    &der[plain(der, 4)]
}

/// The session with another secret: what somebody has who knows its id only.
pub fn guess(der: &[u8]) -> Vec<u8> {
    let mut guess = der.to_vec();
    guess[plain(der, 4).start] ^= 1;
    guess
}

/// Where a session has its id.
pub fn id_at(der: &[u8]) -> Range<usize> {
    plain(der, 3)
}

/// Where in the DER of a session its `n`th field is; the first five have no tag of their own.
fn plain(der: &[u8], n: usize) -> Range<usize> {
    let (_, at) = fields(der).nth(n).expect("one of the first five fields");
    at
}

/// The lifetime hint that came with the client's ticket, in seconds; 0 if none did.
pub fn hint(der: &[u8]) -> u64 {
    field(der, LIFETIME_HINT).map_or(0, |at| number(&der[at]))
}

/// The number in these bytes, of which the first counts most.
pub fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// The tag at `at`, and where its content is.
fn header(der: &[u8], at: usize) -> (u8, Range<usize>) {
    let first = usize::from(der[at + 1]);
    let (start, len) = if first < 0x80 {
        (at + 2, first)
    } else {
        let bytes = &der[at + 2..at + 2 + (first & 0x7f)];
        (at + 2 + bytes.len(), number(bytes) as usize)
    };
    (der[at], start..start + len)
}
