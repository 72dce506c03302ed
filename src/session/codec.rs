//! Between sessions of OpenSSL and records.

use std::time::SystemTime;

use super::chain::Chain;
use super::key::SessionKey;
use super::record::{HEADER, Session};
use super::stamp::expires_at;
use crate::base::unix_seconds;
use crate::ffi::{self, OwnedSession, SessionMut};

/// The length of every session id that OpenSSL makes.
const ID_LEN: usize = 32;

const CHECKSUM_LEN: usize = 8;

/// The record of a session: when it ends, a checksum, and its DER without what is known otherwise: the
/// id, which who asks for it has, and the timeout, which is the end less the time it was made. The certificates of its
/// chain follow. It is written in one place, so that there are no copies to wipe.
pub(crate) fn encode(
    key: &SessionKey,
    session: &mut SessionMut<'_>,
    chain: Option<&Chain>,
) -> Option<Session> {
    let chain = chain.map_or(&[][..], Chain::der);
    let id: [u8; ID_LEN] = session.id().try_into().ok()?;
    let timeout = u64::try_from(session.timeout()).ok()?;
    let ends = expires_at(session);
    session.set_id(&[]);
    session.set_timeout(0);
    let record = ffi::session_to_der(session, HEADER + CHECKSUM_LEN, chain.len());
    session.set_id(&id);
    session.set_timeout(timeout);
    let mut record = record?;
    let (check, body) = record.as_mut_bytes()[HEADER..].split_first_chunk_mut()?;
    let end = body.len() - chain.len();
    body[end..].copy_from_slice(chain);
    *check = checksum(key, ends, body);
    Some(Session::with_header(ends, record))
}

/// The session in a record, which has this id, and the DER of its chain, empty if it has none.
pub(crate) fn decode<'a>(
    key: &SessionKey,
    id: &[u8],
    record: &'a Session,
) -> Option<(OwnedSession, &'a [u8])> {
    let (check, body) = record.payload().split_first_chunk()?;
    let ends = record.expires_at();
    if *check != checksum(key, ends, body) {
        return None;
    }
    let (der, chain) = ffi::first_element(body)?;
    let mut session = ffi::session_from_der(der)?;
    let made = u64::try_from(session.time()).ok()?;
    let mut writing = session.as_mut();
    writing.set_id(id);
    writing.set_timeout(unix_seconds(ends).checked_sub(made)?);
    Some((session, chain))
}

/// The DER of the chain in a record that is known to be whole.
pub(crate) fn chain_in(record: &Session) -> &[u8] {
    let body = record.payload().get(CHECKSUM_LEN..);
    let (_, chain) = body.and_then(ffi::first_element).unwrap_or_default();
    chain
}

/// Tells a record that was damaged, or stored under another key, before OpenSSL sees it: a session
/// with a damaged or another's secret breaks the handshake. It is no protection against a store that
/// wants to deceive: that one can compute it.
///
/// The first 8 bytes of the key, a hash of the id, masked with a hash of the end and what follows by words: any
/// change within one word shows, because each step can be undone.
fn checksum(key: &SessionKey, ends: SystemTime, der: &[u8]) -> [u8; CHECKSUM_LEN] {
    let key = key.as_bytes().first_chunk().expect("8 is less than 32");
    let words = der.chunks_exact(8);
    let (rest, mut last) = (words.remainder(), [0; 8]);
    last[..rest.len()].copy_from_slice(rest);
    let words = words.map(|word| word.try_into().expect("8 bytes each"));
    let step = |hash: u64, word: [u8; 8]| {
        let hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Its highest bits come from all of the word, its lowest from the lowest alone.
        hash ^ (hash >> 32)
    };
    let ends = unix_seconds(ends).to_le_bytes();
    let hash = words.fold(step(der.len() as u64, ends), step);
    let hash = step(hash, last);
    (u64::from_be_bytes(*key) ^ hash).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A session of TLS 1.3, made at 1,700,000,000, for 86,399 seconds.
    fn session() -> OwnedSession {
        let time = [0xa1, 6, 2, 4, 0x65, 0x53, 0xf1, 0x00];
        let timeout = [0xa2, 5, 2, 3, 1, 0x51, 0x7f];
        let head = [2, 1, 1, 2, 2, 3, 4, 4, 2, 0x13, 2];
        let (id, secret) = ([&[4, 32], &[1; 32][..]], [&[4, 48], &[2; 48][..]]);
        let fields = [&head[..], &id.concat(), &secret.concat(), &time, &timeout].concat();
        let der = [&[0x30, fields.len() as u8], &fields[..]].concat();
        ffi::session_from_der(&der).unwrap()
    }

    #[test]
    fn a_session_survives_its_record() {
        let mut session = session();
        let der = session.to_der().unwrap();
        let key = SessionKey::derive(b"", true, session.id());
        let record = encode(&key, &mut session.as_mut(), None).unwrap();
        assert_eq!(session.to_der().unwrap(), der, "it is as it was");
        assert_eq!(unix_seconds(record.expires_at()), 1_700_086_399);

        let (read, chain) = decode(&key, session.id(), &record).unwrap();
        assert!(chain.is_empty());
        assert_eq!(read.to_der().unwrap(), der);
    }

    #[test]
    fn a_session_that_ends_before_it_was_made_is_none() {
        let mut session = session();
        let key = SessionKey::derive(b"", true, session.id());
        let mut record = encode(&key, &mut session.as_mut(), None)
            .unwrap()
            .as_bytes()
            .to_vec();
        let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(1_699_999_999);
        record[1..HEADER].copy_from_slice(&1_699_999_999_u64.to_be_bytes());
        let check = checksum(&key, ends, &record[HEADER + CHECKSUM_LEN..]);
        record[HEADER..HEADER + CHECKSUM_LEN].copy_from_slice(&check);
        let record = Session::from_bytes(&record).unwrap();
        assert!(decode(&key, session.id(), &record).is_none());
    }
}
