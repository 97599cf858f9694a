//! Draws of one of several things.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

/// Which of several things a draw with these probabilities takes; the last one where rounding leaves some over.
pub fn index(probabilities: &[f64], rng: &mut ChaCha12Rng) -> usize {
    let mut left: f64 = rng.random();
    let drawn = probabilities.iter().position(|p| {
        left -= p;
        left < 0.0
    });
    drawn.unwrap_or(probabilities.len() - 1)
}
