//! A Gaussian process over configurations and rungs: what the results of all budgets say about the largest one.
//!
//! ```text
//! y(x, r) = c + b_r + f(x) + Σ_{q = r}^{R-1} e_q(x) + noise_r
//! f ~ GP(0, s² k)      the loss at the top rung R            b_r ~ N(0, 1)     how a rung's losses lie as a whole
//! e_q ~ GP(0, w_q² k)  how rung q differs from rung q + 1    noise_r ~ N(0, σ_r²)
//! k(x, x') = m(ρ) + a/d Σ_j φ_j(x)·φ_j(x')           interactions, and main effects
//! m(ρ) = (1 + √5 ρ + 5/3 ρ²) exp(-√5 ρ),   ρ² = Σ_j (Δ_j / ℓ_j)²            Matérn 5/2
//! ```
//! `Δ_j`: difference of two coordinates in `[0, 1]` for numbers and ordinals, 0 or 1 for categories; 1 where only one of
//! two configurations has the dimension, 0 where neither has. A rung that ranks configurations as the top rung does
//! gets a small w and speaks for it; one that does not gets a large w and is hardly heard: the correlation of budgets
//! is part of the model. `b_r` takes up that only promoted, better configurations reach the higher rungs.
//!
//! `φ_j` holds the effects of one dimension alone, each with mean 0 and variance 1 over the prior: a straight line and
//! half a parabola for numbers and ordinals, one free value a level for categories, nothing where inactive. Many
//! objectives are largely sums of such effects, and those are learnt from few results in many dimensions.
//!
//! Lengths ℓ, scales s, a, w, σ are the most probable ones under log-normal priors; that of ℓ grows with √d (Hvarfner et
//! al. 2024), so that the same model serves 1 and 200 dimensions.
//!
//! Range of validity: at least one observation. Equal observations: the noise keeps the matrix positive definite. The
//! values y are to be of the order of 1 around 0.

use crate::kde::Kernel;

mod features;
mod linear;
mod scales;

pub use features::Features;
pub use scales::Scales;

use features::{LINE, PARABOLA, matern};
use linear::{Cholesky, dot};

/// Variance of the common offset c and of each rung's offset `b_r`.
const OFFSET_VARIANCE: f64 = 1.0;
/// One observation.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Coordinates in `[0, 1]` or a level's number; NaN where inactive. As [`Features::of_vector`] makes them.
    pub point: Vec<f64>,
    /// At which rung.
    pub rung: usize,
    /// What was seen there.
    pub value: f64,
}

/// The model, given scales and observations.
#[derive(Debug)]
pub struct Surrogate {
    features: Features,
    n: usize,
    /// `[d][n]`: coordinates by dimension.
    columns: Vec<Vec<f64>>,
    /// `[effects][n]`: main effects by feature.
    effects: Vec<Vec<f64>>,
    inverse_lengths: Vec<f64>,
    signal: f64,
    /// s² a / d.
    effects_scale: f64,
    factor: Cholesky,
    /// `1 / K_ii`.
    inverse_diagonal: Vec<f64>,
    alpha: Vec<f64>,
    /// Posterior covariance with f at the reference is the sum of these times the prior covariances.
    reference: Vec<f64>,
    reference_variance: f64,
    reference_mean: f64,
}

/// What the model says of f at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Mean of f.
    pub mean: f64,
    /// Variance of f.
    pub variance: f64,
    /// Variance of f at the point less f at the reference.
    pub difference_variance: f64,
}

impl Surrogate {
    /// Conditions the model on observations, and on configurations under way at a rung as if they had their expected
    /// value (which leaves the mean as it is, and takes away the variance that their results will take away).
    pub fn new(
        features: &Features,
        scales: &Scales,
        observations: &[Observation],
        under_way: &[(Vec<f64>, usize)],
    ) -> Option<Self> {
        if observations.is_empty() {
            return None;
        }
        let points: Vec<&[f64]> = observations
            .iter()
            .map(|o| o.point.as_slice())
            .chain(under_way.iter().map(|(point, _)| point.as_slice()))
            .collect();
        let rungs: Vec<usize> = observations
            .iter()
            .map(|o| o.rung)
            .chain(under_way.iter().map(|(_, rung)| *rung))
            .collect();
        let n = points.len();
        let inverse_lengths: Vec<f64> = scales.lengths().iter().map(|l| 1.0 / l).collect();
        let d = inverse_lengths.len();
        let by_point: Vec<Vec<f64>> = points.iter().map(|p| features.effects(p)).collect();
        let signal = libm::exp(scales.signal);
        let mut model = Self {
            features: features.clone(),
            n,
            columns: (0..d)
                .map(|j| points.iter().map(|p| p[j]).collect())
                .collect(),
            effects: (0..by_point[0].len())
                .map(|f| by_point.iter().map(|effects| effects[f]).collect())
                .collect(),
            inverse_lengths,
            signal,
            effects_scale: signal * libm::exp(scales.effects) / d.max(1) as f64,
            factor: Cholesky::default(),
            inverse_diagonal: Vec::new(),
            alpha: Vec::new(),
            reference: Vec::new(),
            reference_variance: 0.0,
            reference_mean: 0.0,
        };
        let num_rungs = scales.noises.len();
        // Relative to that of the top rung.
        let covariances: Vec<f64> = (0..num_rungs)
            .map(|r| scales.covariance(r, r) / signal)
            .collect();
        let mut matrix = vec![0.0; n * n];
        let mut work = Work::default();
        for i in 0..n {
            model.covariances(points[i], i + 1, &mut work);
            for k in 0..i {
                let same = if rungs[i] == rungs[k] {
                    OFFSET_VARIANCE
                } else {
                    0.0
                };
                matrix[i * n + k] = work.covariance[k] * covariances[rungs[i].max(rungs[k])]
                    + OFFSET_VARIANCE
                    + same;
            }
            matrix[i * n + i] = work.covariance[i] * covariances[rungs[i]]
                + 2.0 * OFFSET_VARIANCE
                + scales.noise(rungs[i]);
        }
        let m = observations.len();
        model.inverse_diagonal = (0..n).map(|i| 1.0 / matrix[i * n + i]).collect();
        model.factor = Cholesky::new(matrix, n)?;
        let mut values: Vec<f64> = observations.iter().map(|o| o.value).collect();
        // L z = y on the first m rows; a zero beyond is exactly "the expected value was seen".
        values.resize(n, 0.0);
        model.factor.forward(&mut values[..m]);
        model.factor.backward(&mut values);
        model.alpha = values;
        model.refer_to_best(&points[..m]);
        Some(model)
    }

    /// Mean of f at the reference: the smallest of all observed points.
    pub fn reference_mean(&self) -> f64 {
        self.reference_mean
    }

    /// The reference is the observed point with the smallest mean.
    fn refer_to_best(&mut self, points: &[&[f64]]) {
        let mut work = Work::default();
        let means: Vec<f64> = points.iter().map(|p| self.mean(p, &mut work)).collect();
        let best = (0..means.len())
            .min_by(|a, b| means[*a].total_cmp(&means[*b]))
            .expect("there is an observation");
        self.reference_mean = means[best];
        self.covariances(points[best], self.n, &mut work);
        let mut weights = work.covariance.clone();
        self.factor.forward(&mut weights);
        self.factor.backward(&mut weights);
        for weight in &mut weights {
            *weight = -*weight;
        }
        weights[best] += 1.0;
        self.reference_variance = dot(&weights, &work.covariance);
        self.reference = weights;
    }

    /// Prior covariances of f at a point with f at the first `count` training points, and the slope of the interaction
    /// part by ½ρ².
    fn covariances(&self, point: &[f64], count: usize, work: &mut Work) {
        let Work {
            covariance,
            slope,
            effects,
            ..
        } = work;
        self.squared_distances(point, count, covariance);
        *effects = self.features.effects(point);
        slope.clear();
        slope.resize(count, 0.0);
        for (column, x) in self.effects.iter().zip(effects.iter()) {
            let weight = x * self.effects_scale;
            for (sum, other) in slope.iter_mut().zip(column) {
                *sum += weight * other;
            }
        }
        for (x, s) in covariance.iter_mut().zip(slope) {
            let (value, derivative) = matern(*x);
            *x = value * self.signal + *s;
            *s = derivative * self.signal;
        }
    }

    /// ρ² of a point and the first `count` training points.
    fn squared_distances(&self, point: &[f64], count: usize, into: &mut Vec<f64>) {
        into.clear();
        into.resize(count, 0.0);
        for (j, (column, x)) in self.columns.iter().zip(point).enumerate() {
            let weight = self.inverse_lengths[j];
            match self.features.kernels[j] {
                Kernel::Unordered { levels: 0 | 1 } | Kernel::Ordered { levels: 0 | 1 } => {}
                Kernel::Continuous | Kernel::Ordered { .. } if !x.is_nan() => {
                    for (sum, other) in into.iter_mut().zip(column) {
                        let z = (x - other) * weight;
                        // NaN only where the other is inactive.
                        *sum += if z.is_nan() { weight * weight } else { z * z };
                    }
                }
                _ => {
                    for (sum, other) in into.iter_mut().zip(column) {
                        *sum += self.features.squared_difference(j, *x, *other) * weight * weight;
                    }
                }
            }
        }
    }

    /// Prior variance of f at the point whose effects are in `work`.
    fn prior_variance(&self, work: &Work) -> f64 {
        self.signal + self.effects_scale * dot(&work.effects, &work.effects)
    }

    /// What the model says of a point.
    pub fn predict(&self, point: &[f64], work: &mut Work) -> Prediction {
        self.covariances(point, self.n, work);
        let mean = dot(&work.covariance, &self.alpha);
        let shared = dot(&work.covariance, &self.reference);
        self.factor.forward(&mut work.covariance);
        let variance = self.prior_variance(work) - dot(&work.covariance, &work.covariance);
        self.prediction(mean, variance, shared)
    }

    /// As [`predict`](Self::predict), with a variance that is too large: only the one observation that says most about
    /// the point is taken into account. Costs n instead of n².
    pub fn predict_roughly(&self, point: &[f64], work: &mut Work) -> Prediction {
        self.covariances(point, self.n, work);
        let mean = dot(&work.covariance, &self.alpha);
        let shared = dot(&work.covariance, &self.reference);
        let known = work
            .covariance
            .iter()
            .zip(&self.inverse_diagonal)
            .map(|(k, inverse)| k * k * inverse)
            .fold(0.0, f64::max);
        self.prediction(mean, self.prior_variance(work) - known, shared)
    }

    fn prediction(&self, mean: f64, variance: f64, shared: f64) -> Prediction {
        let smallest = 1e-10 * self.signal;
        Prediction {
            mean,
            variance: variance.max(smallest),
            difference_variance: (variance + self.reference_variance - 2.0 * shared).max(smallest),
        }
    }

    /// As [`predict`](Self::predict), with the derivatives of the mean and the difference's variance by the coordinates
    /// in `work`: 0 for categories and inactive dimensions.
    pub fn predict_with_slopes(&self, point: &[f64], work: &mut Work) -> Prediction {
        self.covariances(point, self.n, work);
        let mean = dot(&work.covariance, &self.alpha);
        let shared = dot(&work.covariance, &self.reference);
        self.factor.forward(&mut work.covariance);
        let variance = self.prior_variance(work) - dot(&work.covariance, &work.covariance);
        self.factor.backward(&mut work.covariance);
        // ∂ variance = ∂ k(x, x) - 2 vᵀ ∂ k,   v = K⁻¹ k; and -2 reference for the covariance.
        let by_difference: Vec<f64> = work
            .covariance
            .iter()
            .zip(&self.reference)
            .map(|(v, r)| -2.0 * (v + r))
            .collect();
        let d = self.columns.len();
        work.mean_slopes.clear();
        work.mean_slopes.resize(d, 0.0);
        work.variance_slopes.clear();
        work.variance_slopes.resize(d, 0.0);
        let mut feature = 0;
        for (j, (column, x)) in self.columns.iter().zip(point).enumerate() {
            match self.features.kernels[j] {
                Kernel::Unordered { levels: 0 | 1 } | Kernel::Ordered { levels: 0 | 1 } => {}
                Kernel::Unordered { levels } => feature += levels,
                Kernel::Continuous | Kernel::Ordered { .. } => {
                    feature += 2;
                    if x.is_nan() {
                        continue;
                    }
                    let (mut by_mean, mut by_variance) = (0.0, 0.0);
                    for (i, other) in column.iter().enumerate() {
                        let step = x - other;
                        if !step.is_nan() {
                            by_mean -= self.alpha[i] * work.slope[i] * step;
                            by_variance -= by_difference[i] * work.slope[i] * step;
                        }
                    }
                    let weight = self.inverse_lengths[j] * self.inverse_lengths[j];
                    by_mean *= weight;
                    by_variance *= weight;
                    let slopes = [LINE, 2.0 * PARABOLA * (x - 0.5)];
                    for (f, slope) in [feature - 2, feature - 1].into_iter().zip(slopes) {
                        let weight = self.effects_scale * slope;
                        by_mean += weight * dot(&self.alpha, &self.effects[f]);
                        by_variance += weight
                            * (dot(&by_difference, &self.effects[f]) + 2.0 * work.effects[f]);
                    }
                    work.mean_slopes[j] = by_mean;
                    work.variance_slopes[j] = by_variance;
                }
            }
        }
        self.prediction(mean, variance, shared)
    }

    /// Mean of f at a point.
    pub fn mean(&self, point: &[f64], work: &mut Work) -> f64 {
        self.covariances(point, self.n, work);
        dot(&work.covariance, &self.alpha)
    }
}

/// Buffers of [`Surrogate::predict_with_slopes`], and the slopes it finds.
#[derive(Debug, Default)]
pub struct Work {
    covariance: Vec<f64>,
    slope: Vec<f64>,
    effects: Vec<f64>,
    /// `∂ mean / ∂ x_j`.
    pub mean_slopes: Vec<f64>,
    /// `∂ difference_variance / ∂ x_j`.
    pub variance_slopes: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;
    use shared::Seed;

    use super::*;

    pub(super) fn kernels() -> Vec<Kernel> {
        vec![
            Kernel::Continuous,
            Kernel::Unordered { levels: 3 },
            Kernel::Ordered { levels: 4 },
            Kernel::Continuous,
        ]
    }

    pub(super) fn observations(n: usize, seed: u64) -> Vec<Observation> {
        let features = Features::new(&kernels());
        let mut rng = Seed::new(seed).rng();
        (0..n)
            .map(|i| {
                let level = f64::from(rng.random_range(0..3_u8));
                let fourth = if i % 4 == 0 { f64::NAN } else { rng.random() };
                let x = [
                    rng.random(),
                    level,
                    f64::from(rng.random_range(0..4_u8)),
                    fourth,
                ];
                Observation {
                    point: features.of_vector(&x),
                    rung: i % 3,
                    value: libm::sin(4.0 * x[0]) + 0.5 * x[1] - 1.0 + 0.1 * (i % 3) as f64,
                }
            })
            .collect()
    }

    #[test]
    fn slopes_of_predictions_are_their_difference_quotients() {
        let features = Features::new(&kernels());
        let observations = observations(23, 2);
        let model = Surrogate::new(&features, &Scales::prior(4, 3), &observations, &[]).unwrap();
        let point = vec![0.4, 1.0, 1.0 / 3.0, 0.7];
        let mut work = Work::default();
        let found = model.predict_with_slopes(&point, &mut work);
        let plain = model.predict(&point, &mut Work::default());
        assert!((found.mean - plain.mean).abs() < 1e-12);
        assert!((found.difference_variance - plain.difference_variance).abs() < 1e-12);
        let rough = model.predict_roughly(&point, &mut Work::default());
        assert!((found.mean - rough.mean).abs() < 1e-12);
        assert!(rough.variance > found.variance);
        assert!(rough.difference_variance > found.difference_variance);
        for j in [0, 2, 3] {
            let h = 1e-5;
            let at = |x: f64| {
                let mut moved = point.clone();
                moved[j] += x;
                model.predict(&moved, &mut Work::default())
            };
            let (above, below) = (at(h), at(-h));
            let by_mean = (above.mean - below.mean) / (2.0 * h);
            let by_variance = (above.difference_variance - below.difference_variance) / (2.0 * h);
            assert!((by_mean - work.mean_slopes[j]).abs() < 1e-8, "{j}");
            assert!((by_variance - work.variance_slopes[j]).abs() < 1e-8, "{j}");
        }
        assert!(work.mean_slopes[1].abs() < f64::MIN_POSITIVE);
    }

    #[test]
    fn what_is_under_way_takes_away_variance_and_leaves_the_mean() {
        let features = Features::new(&kernels());
        let observations = observations(15, 3);
        let scales = Scales::prior(4, 3);
        let point = vec![0.9, 2.0, 0.0, 0.1];
        let at = |under_way: &[(Vec<f64>, usize)]| {
            let model = Surrogate::new(&features, &scales, &observations, under_way).unwrap();
            model.predict(&point, &mut Work::default())
        };
        let (free, busy) = (
            at(&[]),
            at(&[(point.clone(), 2), (vec![0.1, 0.0, 1.0, 0.2], 0)]),
        );
        assert!((free.mean - busy.mean).abs() < 1e-9, "{free:?} {busy:?}");
        assert!(busy.variance < 0.3 * free.variance, "{free:?} {busy:?}");
    }

    #[test]
    fn the_reference_is_the_best_observed_and_does_not_differ_from_itself() {
        let features = Features::new(&kernels());
        let observations = observations(15, 3);
        let model = Surrogate::new(&features, &Scales::prior(4, 3), &observations, &[]).unwrap();
        let mut work = Work::default();
        let at: Vec<Prediction> = observations
            .iter()
            .map(|o| model.predict(&o.point, &mut work))
            .collect();
        let best = at.iter().min_by(|a, b| a.mean.total_cmp(&b.mean)).unwrap();
        assert!((best.mean - model.reference_mean()).abs() < 1e-12);
        assert!(best.difference_variance < 1e-9);
        let others = at.iter().filter(|p| p.mean > best.mean + 1e-9);
        assert!(
            others.clone().count() == 14
                && others.into_iter().all(|p| p.difference_variance > 1e-3)
        );
    }
}
