//! A ClientHello that no client sends.

use super::with_groups;

/// A vector with its length before it in `prefix` bytes.
fn vector(prefix: usize, content: &[u8]) -> Vec<u8> {
    [&content.len().to_be_bytes()[8 - prefix..], content].concat()
}

/// A stateful ticket, another one for each number.
pub fn ticket_of_nobody(i: usize) -> Vec<u8> {
    let mut ticket = vec![0xaa; 32];
    ticket[..8].copy_from_slice(&i.to_be_bytes());
    ticket
}

/// The first flight of a client with these groups, in which it offers these TLS 1.3 tickets, each
/// with an age, and one binder for all: OpenSSL looks at binders only when it has found a session.
pub fn offering(groups: &str, tickets: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let hello = with_groups(groups).hello(None);
    // A record header of five bytes and a message header of four, then version and random.
    let body = &hello[9..];
    let mut at = 2 + 32;
    at += 1 + usize::from(body[at]);
    at += 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    at += 1 + usize::from(body[at]);
    let (fixed, extensions) = (&body[..at], &body[at + 2..]);

    let identity = |ticket: Vec<u8>| [&vector(2, &ticket)[..], &[0; 4]].concat();
    let identities: Vec<u8> = tickets.into_iter().flat_map(identity).collect();
    let offered = [vector(2, &identities), vector(2, &vector(1, &[0; 32]))].concat();
    let pre_shared_key = [&[0, 41][..], &vector(2, &offered)].concat();
    let extensions = vector(2, &[extensions, &pre_shared_key].concat());
    let message = [&[1][..], &vector(3, &[fixed, &extensions].concat())].concat();
    // Records hold 16 KiB at most.
    let record = |part: &[u8]| [&[22, 3, 1][..], &vector(2, part)].concat();
    message.chunks(16_000).flat_map(record).collect()
}
