use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use openssl::x509::X509;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::store::MemoryStore;
use crate::store::faulty::{Faulty, Mood, Plain, found, key, session};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn sealed<const N: usize>(secrets: [[u8; 32]; N]) -> Sealed<Arc<MemoryStore>> {
    Sealed::new(Arc::default(), secrets).unwrap()
}

/// A store over the records of another.
fn with_records_of<const N: usize>(
    other: &Sealed<Arc<MemoryStore>>,
    secrets: [[u8; 32]; N],
) -> Sealed<Arc<MemoryStore>> {
    Sealed::new(Arc::clone(&other.inner), secrets).unwrap()
}

/// The record under `key` in the inner store.
fn record(store: &Sealed<Arc<MemoryStore>>, key: &SessionKey) -> Vec<u8> {
    found(store.inner.get(key)).unwrap()
}

/// What the store says when the inner one holds these bytes.
fn get_with(
    store: &Sealed<Arc<MemoryStore>>,
    key: &SessionKey,
    record: &[u8],
) -> Result<Option<Session>, StoreError> {
    store.inner.put(key, Session::from_bytes(record)?).unwrap();
    store.get(key)
}

#[test]
fn what_was_put_is_got_and_taken() {
    let store = sealed([NEW]);
    for len in [0, 1, 15, 16, 17, 300, 1 << 14] {
        let put = session(len);
        store.put(&key(1), put.clone()).unwrap();
        assert_eq!(found(store.get(&key(1))).unwrap(), put.as_bytes(), "{len}");
        assert_eq!(found(store.take(&key(1))).unwrap(), put.as_bytes(), "{len}");
        assert_eq!(found(store.get(&key(1))), None, "{len}");
    }
}

#[test]
fn the_inner_store_sees_the_expiry_and_the_size() {
    let store = sealed([NEW]);
    let put = session(300);
    store.put(&key(1), put.clone()).unwrap();
    let record = record(&store, &key(1));
    assert_eq!(record[..HEADER], put.as_bytes()[..HEADER]);
    assert_eq!(record.len(), put.as_bytes().len() + 1 + SALT + NONCE + 16);
    let parts: Vec<_> = put.payload().windows(4).collect();
    assert!(!record.windows(4).any(|window| parts.contains(&window)));
}

#[test]
fn no_salt_and_no_nonce_is_used_twice() {
    let store = sealed([NEW]);
    let records = [(); 2].map(|()| {
        store.put(&key(1), session(20)).unwrap();
        record(&store, &key(1))
    });
    for part in [10..26, 26..38, 38..58, 58..74] {
        assert_ne!(
            records[0][part.clone()],
            records[1][part.clone()],
            "{part:?}"
        );
    }
}

/// Computed by Python's `cryptography`:
///
/// ```python
/// secret, salt, nonce, key = bytes(range(32)), b"s" * 16, b"n" * 12, b"k" * 32
/// header = b"\x01" + (1_800_000_000).to_bytes(8, "big")
/// aes = HKDF(SHA256(), 32, salt, b"openssl-resumption sealed session 1").derive(secret)
/// sealed = AESGCM(aes).encrypt(nonce, b"the DER of a session", key + header + b"\x01")
/// print((header + b"\x01" + salt + nonce + sealed).hex())
/// ```
#[test]
fn the_format_is_the_documented_one() {
    const RECORD: &[u8] = b"\x01\0\0\0\0\x6b\x49\xd2\0\x01ssssssssssssssssnnnnnnnnnnnn\
        \x45\x93\x67\xb3\x0d\x3d\xa5\x17\xbb\x76\xcd\xe0\x50\xff\xb8\xe8\x44\xd2\xad\x33\
        \x60\xe2\x75\x72\x32\xec\x6c\x30\x47\x1d\x42\x63\x10\xdb\x06\xba";
    let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
    let (store, key) = (sealed([secret]), key(b'k'));
    let expires_at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let session = Session::new(expires_at, b"the DER of a session");
    let sealed = store
        .seal(&key, &session, b"ssssssssssssssssnnnnnnnnnnnn")
        .unwrap();
    assert_eq!(sealed.as_bytes(), RECORD);
    let opened = store.open_any(&key, &Session::from_bytes(RECORD).unwrap());
    assert_eq!(opened.unwrap().as_bytes(), session.as_bytes());
}

#[test]
fn a_record_of_which_any_bit_was_changed_does_not_open() {
    let (store, key) = (sealed([NEW]), key(1));
    store.put(&key, session(40)).unwrap();
    let record = record(&store, &key);
    for bit in 0..8 * record.len() {
        let mut changed = record.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        match get_with(&store, &key, &changed) {
            Err(_) => {}
            // Bits of the expiry, which make it one in the past.
            Ok(None) => assert!((8..72).contains(&bit), "{bit}"),
            Ok(Some(_)) => panic!("bit {bit}"),
        }
    }
    assert!(get_with(&store, &key, &record).unwrap().is_some());
}

#[test]
fn a_record_whose_expiry_was_put_off_does_not_open() {
    let (store, key) = (sealed([NEW]), key(1));
    store.put(&key, session(40)).unwrap();
    let mut later = record(&store, &key);
    later[5] += 1;
    let error = get_with(&store, &key, &later).unwrap_err();
    assert!(error.to_string().contains("does not open"), "{error}");
}

proptest! {
    #[test]
    fn a_record_under_another_key_does_not_open(
        keys in any::<[[u8; 32]; 2]>(),
        len in 0..100_usize,
    ) {
        prop_assume!(keys[0] != keys[1]);
        let store = sealed([NEW]);
        let keys = keys.map(SessionKey::from);
        keys.iter().for_each(|key| store.put(key, session(len)).unwrap());
        let records = keys.map(|key| record(&store, &key));
        prop_assert!(get_with(&store, &keys[0], &records[1]).is_err());
        prop_assert!(get_with(&store, &keys[1], &records[0]).is_err());
        prop_assert!(get_with(&store, &keys[0], &records[0]).is_ok());
    }

    #[test]
    fn a_record_that_was_cut_or_grew_or_got_parts_of_another_does_not_open(
        at in any::<[Index; 2]>(),
        more in proptest::collection::vec(any::<u8>(), 1..20),
    ) {
        let (store, key) = (sealed([NEW]), key(1));
        store.put(&key, session(40)).unwrap();
        let record = record(&store, &key);
        store.put(&key, session(40)).unwrap();
        let other = self::record(&store, &key);

        let cut = &record[..HEADER + at[0].index(record.len() - HEADER)];
        prop_assert!(get_with(&store, &key, cut).is_err());
        prop_assert!(get_with(&store, &key, &[&record, more.as_slice()].concat()).is_err());
        let (a, b) = (at[0].index(record.len()), at[1].index(record.len()));
        let part = a.min(b)..a.max(b);
        let mut mixed = record.clone();
        mixed[part.clone()].copy_from_slice(&other[part]);
        if mixed != record && mixed != other {
            prop_assert!(get_with(&store, &key, &mixed).is_err());
        }
    }

    #[test]
    fn what_was_never_sealed_does_not_open(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        format in any::<bool>(),
    ) {
        let store = sealed([NEW]);
        let prefix: &[u8] = if format { &[FORMAT] } else { b"" };
        let header = &session(0).as_bytes().to_vec();
        let record = [header, prefix, &payload].concat();
        prop_assert!(get_with(&store, &key(1), &record).is_err());
    }
}

#[test]
fn secrets_roll_over_without_loss() {
    let before = sealed([OLD]);
    before.put(&key(1), session(10)).unwrap();
    let first = with_records_of(&before, [OLD, NEW]);
    first.put(&key(2), session(10)).unwrap();
    let second = with_records_of(&before, [NEW, OLD]);
    second.put(&key(3), session(10)).unwrap();
    let after = with_records_of(&before, [NEW]);

    let opens = |store: &Sealed<_>| [1, 2, 3].map(|n| store.get(&key(n)).is_ok());
    assert_eq!(opens(&before), [true, true, false], "the first seals");
    assert_eq!(opens(&first), [true; 3]);
    assert_eq!(opens(&second), [true; 3]);
    assert_eq!(opens(&after), [false, false, true]);
}

#[test]
fn what_does_not_open_and_has_ended_is_not_found() {
    let store = sealed([OLD]);
    let put = session(10);
    store.put(&key(1), put.clone()).unwrap();
    let sealed_record = store.inner.get(&key(1)).unwrap().unwrap();
    let after = with_records_of(&store, [NEW]);
    let at = |store: &Sealed<_>, now| store.open(&key(1), &sealed_record, now);
    let end = put.expires_at();
    assert!(at(&after, end - Duration::from_secs(1)).is_err());
    assert_eq!(found(at(&after, end)), None);
    let ended = found(at(&store, end));
    assert!(
        ended.is_some(),
        "an expired session is told from a missing one"
    );
}

#[test]
fn what_is_taken_and_does_not_open_is_an_error_and_gone() {
    let store = sealed([OLD]);
    store.put(&key(1), session(10)).unwrap();
    let after = with_records_of(&store, [NEW]);
    assert!(after.take(&key(1)).is_err());
    assert_eq!(found(after.take(&key(1))), None);
}

#[test]
fn errors_say_what_is_wrong_and_show_no_bytes() {
    let store = sealed([NEW]);
    let plain = Session::new(
        session(0).expires_at(),
        b"\xfe plain secret bytes and more of them than a header has",
    );
    let error = get_with(&store, &key(1), plain.as_bytes()).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("not a session sealed in format 1"), "{text}");
    assert!(!text.contains("plain") && !text.contains("254"), "{text}");

    store.put(&key(1), session(10)).unwrap();
    let moved = record(&store, &key(1));
    let error = get_with(&store, &key(2), &moved).unwrap_err().to_string();
    assert!(error.contains("does not open"), "{error}");
    assert_eq!(format!("{store:?}"), "Sealed { secrets: 1, .. }");
}

#[test]
fn secrets_are_checked() {
    let wrong = |secrets: &[&[u8]]| {
        let refused = Sealed::new(Plain, secrets).unwrap_err();
        refused.to_string()
    };
    assert_eq!(wrong(&[]), "Sealed::new: there must be a secret");
    assert!(wrong(&[&[0; 31]]).contains("number 1 has 31"));
    assert!(wrong(&[&[0; 32], &[0; 1025]]).contains("number 2 has 1025"));
    Sealed::new(Plain, [[7; 1024]]).unwrap();
}

#[test]
fn the_rest_is_the_inner_stores() {
    let store = Sealed::new(Plain, [NEW]).unwrap();
    assert!(!store.takes_once() && store.usage().is_none() && store.take(&key(1)).is_err());

    let inner = Arc::new(Faulty::new());
    let store = Sealed::new(Arc::clone(&inner), [NEW]).unwrap();
    store.put(&key(1), session(10)).unwrap();
    assert!(store.takes_once());
    assert_eq!(store.usage(), inner.usage());
    store.remove(&key(1)).unwrap();
    assert_eq!(found(inner.get(&key(1))), None);

    inner.put(&key(2), session(10)).unwrap();
    store.get(&key(2)).unwrap_err();
    let said = store.last_error().unwrap();
    assert!(said.contains("not a session sealed"), "{said}");
    inner.set(Mood::Failing);
    store.get(&key(2)).unwrap_err();
    assert_eq!(store.last_error().unwrap(), "failing", "newer");
    let answers = [
        store.put(&key(1), session(10)),
        store.get(&key(1)).map(drop),
        store.take(&key(1)).map(drop),
        store.remove(&key(1)),
    ];
    for answer in answers {
        assert_eq!(answer.unwrap_err().to_string(), "failing");
    }
}

/// A failed call of the `openssl` crate would empty the queue.
#[test]
fn openssls_error_queue_is_left_as_it_was_found() {
    let store = sealed([NEW]);
    store.put(&key(1), session(10)).unwrap();
    let moved = record(&store, &key(1));
    let left = X509::from_pem(b"no certificate").unwrap_err();
    left.put();
    assert!(get_with(&store, &key(2), &moved).is_err());
    store.get(&key(1)).unwrap();
    assert_eq!(ErrorStack::get().errors().len(), left.errors().len());
}
