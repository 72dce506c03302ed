//! Keys that Python derives from the same secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::rand::rand_bytes;
use openssl_resumption::{Resumption, TicketKeys};

use crate::common::*;
use crate::python;

/// The last one is longer than the time since its beginning.
const PERIODS: [u64; 3] = [60, 12 * 3_600, 1_000_000_000_000];

#[test]
fn python_derives_the_keys_that_seal_our_tickets() {
    let labels = [&b""[..], b"caf\xc3\xa9 \xff\0", &[b'x'; 255]];
    for (i, label) in labels.into_iter().enumerate() {
        for (j, len) in [32, 33, 1_024].into_iter().enumerate() {
            let mut secret = vec![0; len];
            rand_bytes(&mut secret).unwrap();
            check(label, &secret, PERIODS[(i + j) % 3]);
        }
    }
}

fn check(label: &[u8], secret: &[u8], period: u64) {
    let keys = TicketKeys::derived_every(label, [secret], Duration::from_secs(period));
    let context = context(&Resumption::stateless(keys));
    for kind in [Kind::Tls12, Kind::Tls13] {
        let what = format!("{label:?}, {} bytes, {period} s, {kind:?}", secret.len());
        let client = Client::new(kind).unwrap();
        // A period may end meanwhile.
        let before = unix_seconds() / period;
        let met = meet(&context, &client, None);
        let after = unix_seconds() / period;
        let session = met.next().unwrap();
        let ticket = ticket(session);

        let keys = python::derive(label, secret, period, [before, after]);
        let mut keys = keys.iter();
        let key = keys
            .find(|key| key[..16] == ticket[..16])
            .unwrap_or_else(|| panic!("no key of this name: {what}"));
        let inside = python::open(ticket, key, "aes hmac");
        assert_eq!(secret_of(&inside), secret_of(session), "{what}");
    }
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}
