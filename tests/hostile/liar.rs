//! A store that gives other answers than the right ones.

use openssl_resumption::{Session, SessionKey, SessionStore, StoreError};
use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::now;

/// A store that answers as it is told.
#[derive(Default)]
pub(crate) struct Liar {
    pub(crate) stored: Mutex<Vec<(SessionKey, Session)>>,
    pub(crate) lie: Mutex<Option<Lie>>,
    pub(crate) lookups: Mutex<Vec<Lookup>>,
}

/// What was looked up, what is stored under it, and what was said.
pub(crate) struct Lookup {
    pub(crate) truth: Option<Session>,
    pub(crate) answer: Option<Session>,
}

#[derive(Debug, Clone)]
pub(crate) enum Lie {
    Nothing,
    Failure,
    /// Bytes that may or may not be a session.
    Bytes(Vec<u8>),
    /// A header of the right kind over any bytes.
    Payload(Vec<u8>),
    /// The session that was asked for, cut, lengthened, or with bytes changed.
    Cut(Index),
    Longer(Vec<u8>),
    Changed(Vec<(Index, u8)>),
    Ended,
    /// Another session that is stored.
    Other(Index),
    /// The start of the right one, the end of another.
    Mixed(Index, Index),
    /// The DER of another session, or a changed one, under a checksum that is right.
    ForgedOther(Index),
    ForgedChange(Vec<(Index, u8)>),
    Forged(Vec<u8>),
    /// Another end, under a checksum that is right.
    ForgedEnd(u64),
}

pub(crate) const HEADER: usize = 9;
pub(crate) const CHECKSUM: usize = 8;

impl Lie {
    fn record(&self, key: &SessionKey, truth: &Session, others: &[Session]) -> Vec<u8> {
        let mut record = truth.as_bytes().to_vec();
        let len = record.len();
        let change = |record: &mut Vec<u8>, from: usize, changes: &[(Index, u8)]| {
            for (at, mask) in changes {
                record[from + at.index(len - from)] ^= mask;
            }
        };
        let forge = |record: &mut Vec<u8>, der: &[u8]| {
            record.truncate(HEADER);
            let words = der.chunks_exact(8);
            let (rest, mut last) = (words.remainder(), [0; 8]);
            last[..rest.len()].copy_from_slice(rest);
            let ends: [u8; 8] = record[1..].try_into().expect("a header");
            let ends = u64::from_be_bytes(ends).to_le_bytes();
            let words = words.map(|word| word.try_into().expect("8 bytes each"));
            let words = [ends].into_iter().chain(words).chain([last]);
            let hash = words.fold(der.len() as u64, |hash, word: [u8; 8]| {
                let word = u64::from_le_bytes(word);
                let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                hash ^ (hash >> 32)
            });
            let key = key.as_bytes().first_chunk().expect("a key is longer");
            let check = u64::from_be_bytes(*key) ^ hash;
            record.extend_from_slice(&check.to_be_bytes());
            record.extend_from_slice(der);
        };
        match self {
            Self::Nothing | Self::Failure => {}
            Self::Bytes(bytes) => record.clone_from(bytes),
            Self::Payload(bytes) => {
                record.truncate(HEADER);
                record.extend_from_slice(bytes);
            }
            Self::Cut(at) => record.truncate(at.index(len)),
            Self::Longer(bytes) => record.extend_from_slice(bytes),
            Self::Changed(changes) => change(&mut record, 0, changes),
            Self::Ended => record[1..HEADER].copy_from_slice(&now().to_be_bytes()),
            Self::Other(other) => return other.get(others).as_bytes().to_vec(),
            Self::Mixed(other, at) => {
                let other = other.get(others).as_bytes();
                let at = at.index(len);
                record.truncate(at);
                record.extend_from_slice(other.get(at..).unwrap_or_default());
            }
            Self::ForgedOther(other) => {
                forge(
                    &mut record,
                    &other.get(others).as_bytes()[HEADER + CHECKSUM..],
                );
            }
            Self::ForgedChange(changes) => {
                change(&mut record, HEADER + CHECKSUM, changes);
                let der = record[HEADER + CHECKSUM..].to_vec();
                forge(&mut record, &der);
            }
            Self::Forged(der) => forge(&mut record, der),
            Self::ForgedEnd(ends) => {
                record[1..HEADER].copy_from_slice(&ends.to_be_bytes());
                let der = record[HEADER + CHECKSUM..].to_vec();
                forge(&mut record, &der);
            }
        }
        record
    }
}

impl SessionStore for Liar {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.stored.lock().push((*key, session));
        Ok(())
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        let stored = self.stored.lock();
        let truth = stored
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, s)| s.clone());
        let others: Vec<_> = stored
            .iter()
            .filter(|(k, _)| k != key)
            .map(|(_, s)| s.clone())
            .collect();
        let answer = match (&*self.lie.lock(), &truth) {
            (Some(Lie::Nothing), _) => Ok(None),
            (Some(Lie::Failure), _) => Err(StoreError::new("no")),
            (Some(lie), Some(truth)) => {
                Session::from_bytes(&lie.record(key, truth, &others)).map(Some)
            }
            _ => Ok(truth.clone()),
        };
        let lookup = Lookup {
            truth,
            answer: answer.as_ref().ok().cloned().flatten(),
        };
        self.lookups.lock().push(lookup);
        answer
    }

    fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
        panic!("nobody has a reason to remove a session")
    }
}

pub(crate) fn lies() -> impl Strategy<Value = Lie> {
    let bytes = |len| vec(any::<u8>(), 0..len);
    let changes = || vec((any::<Index>(), 1..=255_u8), 1..4);
    prop_oneof![
        1 => Just(Lie::Nothing),
        1 => Just(Lie::Failure),
        1 => Just(Lie::Ended),
        1 => bytes(300).prop_map(Lie::Bytes),
        1 => bytes(300).prop_map(Lie::Payload),
        1 => any::<Index>().prop_map(Lie::Cut),
        1 => vec(any::<u8>(), 1..50).prop_map(Lie::Longer),
        3 => changes().prop_map(Lie::Changed),
        3 => any::<Index>().prop_map(Lie::Other),
        1 => any::<(Index, Index)>().prop_map(|(other, at)| Lie::Mixed(other, at)),
        1 => any::<Index>().prop_map(Lie::ForgedOther),
        3 => changes().prop_map(Lie::ForgedChange),
        1 => bytes(300).prop_map(Lie::Forged),
        1 => any::<u64>().prop_map(Lie::ForgedEnd),
        1 => (0..1_u64 << 40).prop_map(Lie::ForgedEnd),
    ]
}
