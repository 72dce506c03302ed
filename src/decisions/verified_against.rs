//! A hash of what clients are verified against.

use openssl::sha::Sha256;

use crate::session::{Binding, truncated};

/// What clients are verified against.
#[derive(Debug)]
pub(crate) struct VerifiedAgainst {
    /// The CA certificates, by their SHA-256, in any order.
    pub(crate) certificates: Vec<[u8; 32]>,
    /// The client CA names, in any order.
    pub(crate) names: Vec<Vec<u8>>,
    /// The verify parameters that are numbers.
    pub(crate) rules: Vec<i64>,
    /// The hash of the names that the client's certificate must have.
    pub(crate) demanded: [u8; 16],
    /// Hashes of purpose and IP address: what is in force, and what the context that accepted has.
    pub(crate) dear: [[u8; 16]; 2],
    /// Whether a callback decides beside.
    pub(crate) by_callback: bool,
    /// What the context has in common with no other, where something decides out of sight.
    pub(crate) context: Option<Binding>,
}

impl VerifiedAgainst {
    pub(crate) fn hash(mut self) -> Binding {
        self.certificates.sort_unstable();
        self.names.sort_unstable();
        let mut hash = Sha256::new();
        hash.update(b"openssl-resumption authority 2\0");
        let mut list = |fields: &mut dyn ExactSizeIterator<Item = &[u8]>| {
            hash.update(&(fields.len() as u64).to_be_bytes());
            for field in fields {
                hash.update(&(field.len() as u64).to_be_bytes());
                hash.update(field);
            }
        };
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|number| number.to_be_bytes())
            .collect();
        list(&mut self.certificates.iter().map(<[u8; 32]>::as_slice));
        list(&mut self.names.iter().map(Vec::as_slice));
        list(&mut rules.iter().map(<[u8; 8]>::as_slice));
        list(&mut self.context.iter().map(Binding::as_slice));
        hash.update(&self.demanded);
        hash.update(self.dear.as_flattened());
        hash.update(&[u8::from(self.by_callback)]);
        truncated(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(certificates: &[[u8; 32]], names: &[&str]) -> VerifiedAgainst {
        VerifiedAgainst {
            certificates: certificates.to_vec(),
            names: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
            rules: vec![1, -1],
            demanded: [0; 16],
            dear: [[0; 16]; 2],
            by_callback: false,
            context: None,
        }
    }

    #[test]
    fn authorities_do_not_depend_on_order_and_tell_all_that_is_in_them() {
        let (a, b) = ([1; 32], [2; 32]);
        let one = || authority(&[a, b], &["x", "y"]);
        assert_eq!(one().hash(), authority(&[b, a], &["y", "x"]).hash());
        let others = [
            authority(&[a], &["x", "y"]),
            authority(&[a, b], &[]),
            authority(&[a, b], &["xy"]),
            VerifiedAgainst {
                rules: vec![1, 0],
                ..one()
            },
            VerifiedAgainst {
                demanded: [1; 16],
                ..one()
            },
            VerifiedAgainst {
                dear: [[1; 16], [0; 16]],
                ..one()
            },
            VerifiedAgainst {
                context: Some([1; 16]),
                ..one()
            },
            VerifiedAgainst {
                by_callback: true,
                ..one()
            },
        ];
        for (i, other) in others.into_iter().enumerate() {
            assert_ne!(one().hash(), other.hash(), "{i}");
        }
        let a_name = VerifiedAgainst {
            names: vec![a.to_vec()],
            ..authority(&[], &[])
        };
        assert_ne!(a_name.hash(), authority(&[a], &[]).hash());
    }
}
