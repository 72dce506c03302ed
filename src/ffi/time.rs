//! Times as certificates and revocation lists have them.

use openssl::asn1::{Asn1Time, Asn1TimeRef};

/// Seconds since the Unix epoch; 0, which is over, for a time before it, or that OpenSSL cannot read.
pub(crate) fn unix_time(time: &Asn1TimeRef) -> u64 {
    Asn1Time::from_unix(0)
        .and_then(|epoch| epoch.diff(time))
        .map_or(0, |since| {
            i64::from(since.days) * 86_400 + i64::from(since.secs)
        })
        .try_into()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_times_become_unix_times() {
        for time in [0, 1, 86_400, 1_800_000_000, 4_102_444_801] {
            let asn1 = Asn1Time::from_unix(time).unwrap();
            assert_eq!(unix_time(&asn1), u64::try_from(time).unwrap());
        }
        let before = Asn1Time::from_str_x509("19500101000000Z").unwrap();
        assert_eq!(unix_time(&before), 0);
    }
}
