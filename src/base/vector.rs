//! Bytes whose length goes before them, as TLS writes vectors (RFC 8446, section 3.4).

/// What a length of so many bytes counts, and what follows it.
pub(crate) fn vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<N>()?;
    let len = len
        .iter()
        .fold(0, |len, byte| len << 8 | usize::from(*byte));
    rest.split_at_checked(len)
}
