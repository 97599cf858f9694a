//! The weights of a block's branches: Shake-Shake for several, ShakeDrop for one.
//!
//! Both draw a weight for every image, and another one, independently, for the way back.
//!
//! # Source
//! Gastaldi 2017 (Shake-Shake regularization), "Shake-Shake-Image"; Yamada et al. 2018 (ShakeDrop regularization),
//! with the same death rate in every block, α in [−1, 1] and β in [0, 1].

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use super::layers::single;

/// The weights of branches one after the other, each branch's for the way forward before those for the way back.
pub(super) fn flat<'a>(factors: impl IntoIterator<Item = &'a Factors>) -> Vec<f32> {
    let both = |factors: &'a Factors| [&factors.forward, &factors.backward];
    factors
        .into_iter()
        .flat_map(both)
        .flatten()
        .copied()
        .collect()
}

/// One branch's weights for the images of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// What the branch's values are multiplied by. `[batch]`
    pub forward: Vec<f32>,
    /// What the gradients are multiplied by on the way back. `[batch]`
    pub backward: Vec<f32>,
}

/// How a block's branches are weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weighting {
    /// Convex combinations of the branches: the softmax of uniform numbers, one for each branch.
    ShakeShake {
        /// How many branches there are.
        branches: usize,
    },
    /// A single branch, now and then replaced by noise of its own size.
    ShakeDrop {
        /// How often.
        death_rate: f64,
    },
}

impl Weighting {
    /// Draws the weights for a batch; one set per branch.
    pub fn draw(&self, batch: usize, rng: &mut ChaCha12Rng) -> Vec<Factors> {
        match *self {
            Self::ShakeShake { branches } => {
                let mut factors = vec![
                    Factors {
                        forward: vec![0.0; batch],
                        backward: vec![0.0; batch]
                    };
                    branches
                ];
                for image in 0..batch {
                    for (factors, weight) in factors.iter_mut().zip(convex(branches, rng)) {
                        factors.forward[image] = weight;
                    }
                    for (factors, weight) in factors.iter_mut().zip(convex(branches, rng)) {
                        factors.backward[image] = weight;
                    }
                }
                factors
            }
            Self::ShakeDrop { death_rate } => {
                let (forward, backward) = (0..batch)
                    .map(|_| {
                        // All three are drawn always, so that the death rate does not move later draws.
                        let is_dead = rng.random::<f64>() < death_rate;
                        let alpha = single(rng.random_range(-1.0..1.0));
                        let beta = single(rng.random());
                        if is_dead { (alpha, beta) } else { (1.0, 1.0) }
                    })
                    .unzip();
                vec![Factors { forward, backward }]
            }
        }
    }

    /// The expected weights, for use after training.
    pub fn expect(&self, batch: usize) -> Vec<Factors> {
        match *self {
            Self::ShakeShake { branches } => constant(branches, 1.0 / branches as f64, batch),
            Self::ShakeDrop { death_rate } => constant(1, 1.0 - death_rate, batch),
        }
    }

    /// Weights of 1: branches are added as they are.
    pub fn add(&self, batch: usize) -> Vec<Factors> {
        match *self {
            Self::ShakeShake { branches } => constant(branches, 1.0, batch),
            Self::ShakeDrop { .. } => constant(1, 1.0, batch),
        }
    }
}

/// The same weight for all images and branches.
fn constant(branches: usize, weight: f64, batch: usize) -> Vec<Factors> {
    let weights = vec![single(weight); batch];
    let factors = Factors {
        forward: weights.clone(),
        backward: weights,
    };
    vec![factors; branches]
}

/// The softmax of uniform numbers in [0, 1].
fn convex(branches: usize, rng: &mut ChaCha12Rng) -> Vec<f32> {
    let exponentials: Vec<f64> = (0..branches).map(|_| rng.random::<f64>().exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials
        .iter()
        .map(|value| single(value / sum))
        .collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact values are expected")]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn draw(weighting: Weighting, batch: usize) -> Vec<Factors> {
        weighting.draw(batch, &mut ChaCha12Rng::seed_from_u64(5))
    }

    fn mean(values: &[f32]) -> f64 {
        values.iter().copied().map(f64::from).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn shake_shake_weighs_every_image_by_its_own_convex_combination() {
        let factors = draw(Weighting::ShakeShake { branches: 3 }, 2000);
        assert_eq!(factors.len(), 3);
        for image in 0..2000 {
            let forward: Vec<f32> = factors.iter().map(|f| f.forward[image]).collect();
            let backward: Vec<f32> = factors.iter().map(|f| f.backward[image]).collect();
            for side in [forward, backward] {
                assert!((side.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                // The softmax of numbers in [0, 1] stays between these bounds: 1/(1+2e) and e/(e+2).
                assert!(side.iter().all(|weight| (0.155..0.577).contains(weight)));
            }
        }
        assert!((mean(&factors[1].forward) - 1.0 / 3.0).abs() < 0.01);
        assert_ne!(factors[0].forward[0], factors[0].forward[1]);
    }

    #[test]
    fn forward_and_backward_are_drawn_independently() {
        let factors = &draw(Weighting::ShakeShake { branches: 2 }, 4000)[0];
        let covariance = factors
            .forward
            .iter()
            .zip(&factors.backward)
            .map(|(a, b)| (f64::from(*a) - 0.5) * (f64::from(*b) - 0.5))
            .sum::<f64>()
            / 4000.0;
        // Each has variance 0.01 or so; independent ones of 4,000 have a covariance of ±0.00016.
        assert!(covariance.abs() < 0.0008, "{covariance}");
    }

    #[test]
    fn shake_drop_replaces_as_often_as_the_death_rate_says() {
        let factors = &draw(Weighting::ShakeDrop { death_rate: 0.3 }, 10_000)[0];
        let dead: Vec<usize> = (0..10_000).filter(|&i| factors.backward[i] < 1.0).collect();
        assert!((dead.len() as f64 / 10_000.0 - 0.3).abs() < 0.02);
        assert!(dead.iter().any(|&i| factors.forward[i] < -0.9));
        assert!(dead.iter().any(|&i| factors.forward[i] > 0.9));
        assert!(
            dead.iter()
                .all(|&i| (0.0..1.0).contains(&factors.backward[i]))
        );
        assert!((mean(&factors.forward) - 0.7).abs() < 0.02);
    }

    #[test]
    fn shake_drop_of_rate_zero_is_a_plain_residual() {
        let factors = draw(Weighting::ShakeDrop { death_rate: 0.0 }, 50);
        assert_eq!(factors, Weighting::ShakeDrop { death_rate: 0.0 }.expect(50));
        assert_eq!(factors[0].forward, [1.0; 50]);
    }

    #[test]
    fn expected_weights_are_the_means() {
        let shake = Weighting::ShakeShake { branches: 4 }.expect(1);
        assert!(shake.len() == 4 && shake.iter().all(|factors| factors.forward == [0.25]));
        let drop = Weighting::ShakeDrop { death_rate: 0.25 }.expect(1);
        assert!(drop.len() == 1 && drop[0].forward == [0.75]);
    }
}
