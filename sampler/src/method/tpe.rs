//! Method `tpe`: tree-structured Parzen estimators, at the largest budget.
//!
//! The results are split into the best ⌈¼ √n⌉, at most 25, and the others. Each dimension on its own has a density l of
//! the former and g of the latter, over the configurations in which it is active; of [`NUM_CANDIDATES`] draws from l the
//! one with the largest l/g is taken. Densities, with the prior as one more observation:
//!
//! ```text
//! number   mean of normal distributions cut off at 0 and 1, one around each value, as wide as the larger gap to its
//!          neighbours (at least 1/min(100, n + 1), at most 1), and one of width 1 around ½
//! level    (count + 1/c) / (n + 1)
//! ```
//! Range of validity: any space; fewer than [`NUM_STARTUP`] results: draws from the prior. No value in a set: the prior.
//! Equal values: gaps are 0, so the smallest width. Failures are among the others.
//!
//! # Source
//! Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization, section 4; Bergstra et al. 2013 and hyperopt 0.2
//! for the numbers.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use crate::draw;
use crate::history::History;
use crate::kde::{Dimension, ln_sum_exp};
use crate::method::{Ask, Method, Suggestion, random};
use crate::normal;
use shared::Ranked;

/// Draws from the prior before the densities are asked.
const NUM_STARTUP: usize = 20;
const NUM_CANDIDATES: usize = 24;

/// Independent densities.
#[derive(Debug)]
pub struct Tpe {
    dimensions: Vec<Dimension>,
}

impl Tpe {
    /// For the dimensions of a space.
    pub fn new(dimensions: Vec<Dimension>) -> Self {
        Self { dimensions }
    }
}

impl Method for Tpe {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let mut rng = ask.seed.rng();
        let rung = history.num_rungs().saturating_sub(1);
        let results = history.rung(rung);
        if results.len() < NUM_STARTUP {
            let reason = format!("the first {NUM_STARTUP} configurations come from the prior");
            return random::draw(history, &mut rng, reason);
        }
        let num_good = num_good(results.len());
        let (good, bad) = results.split_at(num_good);
        let values = |set: &[Ranked], j: usize| -> Vec<f64> {
            let all = set.iter().map(|r| history.vector(r.job.configuration)[j]);
            all.filter(|x| !x.is_nan()).collect()
        };
        let vector = history.space().first_allowed(&mut rng, |rng| {
            let dimensions = self.dimensions.iter().enumerate();
            dimensions
                .map(|(j, dimension)| best_draw(*dimension, &values(good, j), &values(bad, j), rng))
                .collect()
        });
        Suggestion {
            vector,
            source: "model",
            reason: format!(
                "in each dimension the draw with the largest l/g of {NUM_CANDIDATES}, by {num_good} good and {} other results",
                bad.len()
            ),
            model: None,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and 25"
)]
fn num_good(num_results: usize) -> usize {
    ((0.25 * (num_results as f64).sqrt()).ceil() as usize).clamp(1, 25)
}

fn best_draw(dimension: Dimension, good: &[f64], bad: &[f64], rng: &mut ChaCha12Rng) -> f64 {
    let mut best = (f64::NEG_INFINITY, 0.0);
    if let Some(levels) = dimension.levels() {
        let (l, g) = (shares(good, levels), shares(bad, levels));
        for _ in 0..NUM_CANDIDATES {
            let drawn = draw::index(&l, rng);
            let ratio = l[drawn] / g[drawn];
            if ratio > best.0 {
                best = (ratio, drawn as f64);
            }
        }
        return best.1;
    }
    let (l, g) = (Parzen::new(good), Parzen::new(bad));
    for _ in 0..NUM_CANDIDATES {
        let (centre, width) = l.parts[rng.random_range(0..l.parts.len())];
        let x = normal::draw_in_unit_interval(centre, width, rng);
        let ratio = l.ln_density(x) - g.ln_density(x);
        if ratio > best.0 {
            best = (ratio, x);
        }
    }
    best.1
}

/// Probabilities of levels.
fn shares(values: &[f64], levels: usize) -> Vec<f64> {
    (0..levels)
        .map(|level| {
            let count = values
                .iter()
                .filter(|x| (*x - level as f64).abs() < 0.5)
                .count();
            (count as f64 + 1.0 / levels as f64) / (values.len() as f64 + 1.0)
        })
        .collect()
}

/// A mixture of equal parts: centre and width.
struct Parzen {
    parts: Vec<(f64, f64)>,
}

impl Parzen {
    fn new(values: &[f64]) -> Self {
        let mut centres: Vec<f64> = values.to_vec();
        centres.push(0.5);
        centres.sort_unstable_by(f64::total_cmp);
        let smallest = 1.0 / (centres.len() as f64).min(100.0);
        let mut parts: Vec<(f64, f64)> = (0..centres.len())
            .map(|i| {
                let below = if i == 0 { 0.0 } else { centres[i - 1] };
                let above = centres.get(i + 1).copied().unwrap_or(1.0);
                let gap = (centres[i] - below).max(above - centres[i]);
                (centres[i], gap.clamp(smallest, 1.0))
            })
            .collect();
        let at_prior = centres.partition_point(|x| *x < 0.5);
        parts[at_prior].1 = 1.0;
        Self { parts }
    }

    fn ln_density(&self, x: f64) -> f64 {
        let terms: Vec<f64> = self
            .parts
            .iter()
            .map(|(centre, width)| {
                let z = (x - centre) / width;
                let inside = normal::distribution((1.0 - centre) / width)
                    - normal::distribution(-centre / width);
                -0.5 * z * z - normal::LN_SQRT_TWO_PI - libm::log(width * inside)
            })
            .collect();
        ln_sum_exp(&terms) - libm::log(self.parts.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_good_set_has_hyperopts_size() {
        assert_eq!(
            [20, 64, 65, 10_000, 1_000_000].map(num_good),
            [2, 2, 3, 25, 25]
        );
    }

    #[test]
    fn mixtures_integrate_to_one_over_the_unit_interval() {
        for values in [&[][..], &[0.0, 0.0, 1.0], &[0.2, 0.21, 0.9]] {
            let parzen = Parzen::new(values);
            assert_eq!(parzen.parts.len(), values.len() + 1);
            let n = 20_000;
            // The midpoint rule on a smooth function.
            let at = |i: i32| (f64::from(i) + 0.5) / f64::from(n);
            let sum: f64 = (0..n).map(|i| libm::exp(parzen.ln_density(at(i)))).sum();
            assert!((sum / f64::from(n) - 1.0).abs() < 1e-6, "{values:?} {sum}");
        }
        let shares = shares(&[0.0, 0.0, 2.0], 3);
        assert!((shares[0] - 7.0 / 12.0).abs() < 1e-15 && (shares[1] - 1.0 / 12.0).abs() < 1e-15);
    }
}
