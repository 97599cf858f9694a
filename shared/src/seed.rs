//! Seeds and their children: every use of chance has a generator of its own, made from a purpose and an id.
//!
//! No generator is shared, stored or global, so the order of calls, threads and restarts cannot change a result. The
//! streams are `ChaCha`'s, which `rand` keeps the same on every platform and version.

use std::fmt::Display;

use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A source of chance with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(u64);

impl Seed {
    /// The seed with this number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The seed for one purpose and one id; different purposes and ids give unrelated seeds.
    #[must_use]
    pub fn child(self, purpose: &str, id: impl Display) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0.to_le_bytes());
        hash.update(purpose.as_bytes());
        hash.update([0]);
        hash.update(id.to_string().as_bytes());
        let digest = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// A fresh generator; two calls give the same stream.
    pub fn rng(self) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;

    #[test]
    fn streams_are_the_same_on_every_machine_and_version() {
        let seed = Seed::new(7).child("proposal", "c000123");
        // Python: struct.unpack("<Q", sha256(pack("<Q", 7) + b"proposal\0c000123").digest()[:8])
        assert_eq!(seed.number(), 5_603_545_067_549_736_027);
        assert_eq!(seed.rng().random::<u32>(), seed.rng().random::<u32>());
    }

    #[test]
    fn children_differ_by_purpose_and_id() {
        let seed = Seed::new(7);
        assert_ne!(seed.child("a", 1), seed.child("a", 2));
        assert_ne!(seed.child("a", 1), seed.child("b", 1));
        assert_ne!(seed.child("ab", "c"), seed.child("a", "bc"));
        assert_ne!(seed.child("a", 1), Seed::new(8).child("a", 1));
    }
}
