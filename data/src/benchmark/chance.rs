//! Numbers from a generator, by methods that no library's next version changes.

use std::f64::consts::TAU;

use rand::Rng;

/// The share of ones among so many tosses of a coin.
pub(super) fn mean_of_tosses(probability: f64, num_tosses: u64, rng: &mut impl Rng) -> f64 {
    let num_ones = (0..num_tosses)
        .filter(|_| uniform(rng) < probability)
        .count();
    num_ones as f64 / num_tosses as f64
}

/// A number in [0, 1), a multiple of 2^-53.
fn uniform(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A standard normal number, by Box and Muller: a library's method may change between versions, this one does not.
pub(super) fn normal(rng: &mut impl Rng) -> f64 {
    // 1 − u lies in (0, 1], so that its logarithm is finite.
    let radius = (-2.0 * libm::log(1.0 - uniform(rng))).sqrt();
    radius * libm::cos(TAU * uniform(rng))
}
