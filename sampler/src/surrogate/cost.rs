//! What a training costs: its seconds by configuration, as far as results tell.
//!
//! ```text
//! ln seconds = b_r + Σ_j w_j·φ_j(x) + noise        b_r ~ N(0, 10²)     w ~ N(0, 1)     noise ~ N(0, 0.05)
//! ```
//! with the rung r of a result and the main effects φ of the surrogate, so that factors of the cost add up: what is wider, and what
//! is deeper. Proposals are compared at one rung, so that only the sum over j counts, [`CostModel::ln_cost`].
//!
//! Range of validity: any number of results with positive, finite seconds. Beyond what has been seen a cost is not extrapolated:
//! none is smaller or larger than those of the configurations that the model was made from.

use super::cholesky::{Cholesky, dot};
use super::features::{Features, LINE, PARABOLA};
use crate::kde::Dimension;

/// Variance of the noise of ln seconds, in units of a weight's: trainings on one machine differ by a fifth or so.
const NOISE: f64 = 0.05;
/// Deviation of a rung's own term.
const RUNG_DEVIATION: f64 = 10.0;

/// What one training has cost.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    /// The configuration, as [`Features::of_vector`] makes it.
    pub(crate) point: Vec<f64>,
    /// At which rung.
    pub(crate) rung: usize,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// Costs of configurations in comparison with each other.
#[derive(Debug, Clone)]
pub(crate) struct CostModel {
    /// w, all dimensions one after the other.
    weights: Vec<f64>,
    /// The smallest and the largest ln cost of those seen.
    range: (f64, f64),
}

impl CostModel {
    /// The most probable weights; `None` without any cost.
    pub(crate) fn new(features: &Features, costs: &[Cost]) -> Option<Self> {
        let num_rungs = costs.iter().map(|cost| cost.rung).max()? + 1;
        let effects: Vec<Vec<f64>> = costs.iter().map(|c| features.effects(&c.point)).collect();
        let num_effects = effects[0].len();
        let n = num_effects + num_rungs;
        let mut matrix = vec![0.0; n * n];
        let mut sums = vec![0.0; n];
        for (cost, effects) in costs.iter().zip(&effects) {
            let mut row = effects.clone();
            row.resize(n, 0.0);
            row[num_effects + cost.rung] = RUNG_DEVIATION;
            let ln_seconds = libm::log(cost.seconds);
            for (i, x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                sums[i] += x * ln_seconds;
                for (k, other) in row[..=i].iter().enumerate() {
                    matrix[i * n + k] += x * other;
                }
            }
        }
        for i in 0..n {
            matrix[i * n + i] += NOISE;
        }
        let mut weights = Cholesky::new(matrix, n)?.solve(&sums);
        weights.truncate(num_effects);
        let seen = effects.iter().map(|effects| dot(effects, &weights));
        let range = seen.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        Some(Self { weights, range })
    }

    /// ln of the seconds that a configuration takes, up to a constant that is the same for all.
    pub(crate) fn ln_cost(&self, features: &Features, point: &[f64]) -> f64 {
        let (low, high) = self.range;
        dot(&features.effects(point), &self.weights).clamp(low, high)
    }

    /// Derivatives of [`ln_cost`](Self::ln_cost) by the coordinates: 0 for categories, inactive dimensions, and beyond what has
    /// been seen.
    pub(crate) fn slopes(&self, features: &Features, point: &[f64]) -> Vec<f64> {
        let (low, high) = self.range;
        let ln_cost = dot(&features.effects(point), &self.weights);
        let is_known = low < ln_cost && ln_cost < high;
        let mut weights = self.weights.as_slice();
        let slope = |(x, dimension): (&f64, &Dimension)| {
            let own;
            (own, weights) = weights.split_at(Features::num_effects(dimension));
            match (*dimension, own) {
                (Dimension::Continuous | Dimension::Ordered { .. }, [line, parabola])
                    if is_known && !x.is_nan() =>
                {
                    LINE * line + 2.0 * PARABOLA * (x - 0.5) * parabola
                }
                _ => 0.0,
            }
        };
        point.iter().zip(&features.dimensions).map(slope).collect()
    }

    /// By how much the dearest value of each dimension is dearer than the cheapest one.
    pub(crate) fn factors(&self, features: &Features) -> Vec<f64> {
        const STEPS: usize = 20;
        let mut weights = self.weights.as_slice();
        let factor = |dimension: &Dimension| {
            let own;
            (own, weights) = weights.split_at(Features::num_effects(dimension));
            let alone = Features::new(std::slice::from_ref(dimension));
            let values: Vec<f64> = match *dimension {
                Dimension::Continuous | Dimension::Ordered { .. } => {
                    (0..=STEPS).map(|i| i as f64 / STEPS as f64).collect()
                }
                Dimension::Unordered { levels } => (0..levels).map(|i| i as f64).collect(),
            };
            let ln_costs = values.iter().map(|x| dot(&alone.effects(&[*x]), own));
            let (low, high) = ln_costs.fold((0.0, 0.0), |(low, high): (f64, f64), x| {
                (low.min(x), high.max(x))
            });
            libm::exp(high - low)
        };
        features.dimensions.iter().map(factor).collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;
    use shared::Seed;

    use super::super::tests::dimensions;
    use super::*;

    /// Trainings whose cost is 100 · 8^x₀ · 2^level of the third, 9 times as much at rung 1, within a tenth.
    fn costs(count: usize) -> Vec<Cost> {
        let features = Features::new(&dimensions());
        let mut rng = Seed::new(4).rng();
        let mut cost = |number: usize| {
            let vector = [
                rng.random(),
                f64::from(rng.random_range(0..3_u8)),
                f64::from(rng.random_range(0..4_u8)),
                if number.is_multiple_of(4) {
                    f64::NAN
                } else {
                    rng.random()
                },
            ];
            let rung = usize::from(number.is_multiple_of(5));
            let noise = 1.0 + 0.1 * rng.random::<f64>();
            Cost {
                point: features.of_vector(&vector),
                rung,
                seconds: noise * true_cost(&vector) * [1.0, 9.0][rung],
            }
        };
        (0..count).map(&mut cost).collect()
    }

    fn true_cost(vector: &[f64]) -> f64 {
        100.0 * libm::exp2(3.0 * vector[0] + vector[2])
    }

    #[test]
    fn factors_of_the_cost_are_found_whatever_the_rung() {
        let features = Features::new(&dimensions());
        let model = CostModel::new(&features, &costs(60)).unwrap();
        let ln_cost = |vector: &[f64]| model.ln_cost(&features, &features.of_vector(vector));
        let pairs = [
            ([0.2, 1.0, 2.0, 0.5], [0.8, 1.0, 1.0, 0.5]),
            ([0.5, 0.0, 0.0, 0.1], [0.5, 2.0, 3.0, f64::NAN]),
        ];
        for (a, b) in pairs {
            let expected = libm::log(true_cost(&a) / true_cost(&b));
            assert!(
                (ln_cost(&a) - ln_cost(&b) - expected).abs() < 0.15,
                "{a:?} {b:?}"
            );
        }
        let factors = model.factors(&features);
        for (found, expected) in factors.iter().zip([8.0, 1.0, 8.0, 1.0]) {
            assert!((found / expected - 1.0).abs() < 0.2, "{factors:?}");
        }
    }

    #[test]
    fn nothing_is_cheaper_or_dearer_than_what_has_been_seen() {
        let features = Features::new(&dimensions());
        let costs = costs(12);
        let model = CostModel::new(&features, &costs).unwrap();
        let seen: Vec<f64> = costs
            .iter()
            .map(|c| model.ln_cost(&features, &c.point))
            .collect();
        let (low, high) = seen
            .iter()
            .fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
        for corner in [[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 1.0]] {
            let point = features.of_vector(&corner);
            let ln_cost = model.ln_cost(&features, &point);
            assert!((low..=high).contains(&ln_cost));
            assert_eq!(model.slopes(&features, &point).len(), 4);
        }
        assert!(CostModel::new(&features, &[]).is_none());
    }

    #[test]
    fn slopes_are_difference_quotients() {
        let features = Features::new(&dimensions());
        let model = CostModel::new(&features, &costs(60)).unwrap();
        let point = features.of_vector(&[0.4, 1.0, 2.0, 0.6]);
        let slopes = model.slopes(&features, &point);
        for j in [0, 2, 3] {
            let at = |h: f64| {
                let mut moved = point.clone();
                moved[j] += h;
                model.ln_cost(&features, &moved)
            };
            let quotient = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!(
                (quotient - slopes[j]).abs() < 1e-8,
                "{j}: {quotient} {slopes:?}"
            );
        }
        assert!(slopes[1].abs() < 1e-300);
        let inactive = features.of_vector(&[0.4, 1.0, 2.0, f64::NAN]);
        assert!(model.slopes(&features, &inactive)[3].abs() < 1e-300);
    }
}
