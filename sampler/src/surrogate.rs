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
//! The kernel parameters ℓ, s, a, w, σ are the most probable ones under log-normal priors; that of ℓ grows with √d (Hvarfner et
//! al. 2024), so that the same model serves 1 and 200 dimensions.
//!
//! Range of validity: at least one observation. Equal observations: the noise keeps the matrix positive definite. The
//! values y are to be of the order of 1 around 0.

mod cholesky;
mod cost;
mod covariance;
mod features;
mod kernel_parameters;

pub(crate) use cost::{Cost, CostModel};
pub(crate) use features::Features;
pub(crate) use kernel_parameters::{KernelParameters, LengthPrior};

use cholesky::{Cholesky, dot};
use covariance::{Moments, TrainingPoints, Weights, effects_slope, own_slope};
use features::matern;

/// Variance of the common offset c and of each rung's offset `b_r`.
const OFFSET_VARIANCE: f64 = 1.0;

/// One observation.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// Coordinates in `[0, 1]` or a level's number; NaN where inactive. As [`Features::of_vector`] makes them.
    pub point: Vec<f64>,
    /// At which rung.
    pub rung: usize,
    /// What was seen there.
    pub value: f64,
}

/// The model, given kernel parameters and observations.
#[derive(Debug)]
pub(crate) struct Surrogate {
    n: usize,
    training: TrainingPoints,
    signal: f64,
    /// s² a / d.
    effects_scale: f64,
    factor: Cholesky,
    /// `1 / K_ii`.
    inverse_diagonal: Vec<f64>,
    alpha: Vec<f64>,
    /// `[d]`: moments of α.
    alpha_moments: Vec<Moments>,
    /// `[m]`: mean of f at the observed points.
    means: Vec<f64>,
    /// Posterior covariance with f at the reference is the sum of these times the prior covariances.
    reference: Vec<f64>,
    reference_variance: f64,
    reference_mean: f64,
    /// `[m]`: ln density of each value, given those before it, less ½ ln 2π.
    ln_densities: Vec<f64>,
}

/// What the model says of f at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prediction {
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
    ///
    /// The first `num_earlier` observations are of other searches: the reference, which improvements are counted from, is
    /// none of them, since what was best elsewhere is still to be had here.
    pub(crate) fn new(
        features: &Features,
        parameters: &KernelParameters,
        observations: &[Observation],
        under_way: &[(Vec<f64>, usize)],
        num_earlier: usize,
    ) -> Option<Self> {
        if observations.len() <= num_earlier {
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
        let inverse_lengths: Vec<f64> = parameters.lengths().iter().map(|l| 1.0 / l).collect();
        let d = inverse_lengths.len();
        let signal = libm::exp(parameters.signal);
        let mut model = Self {
            n,
            training: TrainingPoints::new(features, &inverse_lengths, &points),
            signal,
            effects_scale: signal * libm::exp(parameters.effects) / d.max(1) as f64,
            factor: Cholesky::default(),
            inverse_diagonal: Vec::new(),
            alpha: Vec::new(),
            alpha_moments: Vec::new(),
            means: Vec::new(),
            reference: Vec::new(),
            reference_variance: 0.0,
            reference_mean: 0.0,
            ln_densities: Vec::new(),
        };
        let num_rungs = parameters.noises.len();
        // Relative to that of the top rung.
        let covariances: Vec<f64> = (0..num_rungs)
            .map(|r| parameters.covariance(r, r) / signal)
            .collect();
        let mut matrix = vec![0.0; n * n];
        // Prior covariances of f itself, row-major.
        let mut of_f = vec![0.0; n * n];
        let mut work = Work::default();
        for i in 0..n {
            model.covariances(points[i], i + 1, &mut work);
            of_f[i * n..=i * n + i].copy_from_slice(&work.covariance);
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
                + parameters.noise(rungs[i]);
        }
        model.inverse_diagonal = (0..n).map(|i| 1.0 / matrix[i * n + i]).collect();
        model.factor = Cholesky::new(matrix, n)?;
        model.factor.prepare_rough();
        for i in 0..n {
            for k in 0..i {
                of_f[k * n + i] = of_f[i * n + k];
            }
        }
        model.condition(observations, num_earlier, |i| &of_f[i * n..(i + 1) * n]);
        Some(model)
    }

    /// Takes the observed values in; `row`: prior covariances of f at a training point with f at all.
    fn condition<'a>(
        &mut self,
        observations: &[Observation],
        num_earlier: usize,
        row: impl Fn(usize) -> &'a [f64],
    ) {
        let m = observations.len();
        let mut values: Vec<f64> = observations.iter().map(|o| o.value).collect();
        // L z = y on the first m rows; a zero beyond is exactly "the expected value was seen".
        values.resize(self.n, 0.0);
        self.factor.forward(&mut values[..m]);
        self.ln_densities = (0..m)
            .map(|i| -0.5 * values[i] * values[i] - libm::log(self.factor.diagonal(i)))
            .collect();
        self.factor.backward(&mut values);
        self.alpha = values;
        self.alpha_moments = (0..self.training.num_dimensions())
            .map(|j| self.training.moments(j, &self.alpha))
            .collect();
        self.means = (0..m).map(|i| dot(row(i), &self.alpha)).collect();
        self.refer_to_best(num_earlier, row);
    }

    /// ln density of the last `count` values together, given all before them, less ½ ln 2π each.
    pub(crate) fn ln_density_of_last(&self, count: usize) -> f64 {
        self.ln_densities[self.ln_densities.len() - count..]
            .iter()
            .sum()
    }

    /// Mean of f at the reference: the smallest of all points observed in this search.
    pub(crate) fn reference_mean(&self) -> f64 {
        self.reference_mean
    }

    /// Mean of f at each observed point.
    pub(crate) fn means(&self) -> &[f64] {
        &self.means
    }

    /// The reference is the observed point with the smallest mean, of this search's; `row`: prior covariances of f there.
    fn refer_to_best<'a>(&mut self, num_earlier: usize, row: impl Fn(usize) -> &'a [f64]) {
        let best = (num_earlier..self.means.len())
            .min_by(|a, b| self.means[*a].total_cmp(&self.means[*b]))
            .expect("there is an observation");
        self.reference_mean = self.means[best];
        let mut weights = row(best).to_vec();
        self.factor.forward(&mut weights);
        self.factor.backward(&mut weights);
        for weight in &mut weights {
            *weight = -*weight;
        }
        weights[best] += 1.0;
        self.reference_variance = dot(&weights, row(best));
        self.reference = weights;
    }

    /// Prior covariances of f at a point with f at the first `count` training points, and the slope of the interaction
    /// part by ½ρ².
    fn covariances(&self, point: &[f64], count: usize, work: &mut Work) {
        let Work {
            covariance, slope, ..
        } = work;
        work.own_effects = self.training.compare(point, count, covariance, slope);
        for (x, s) in covariance.iter_mut().zip(slope) {
            let (value, derivative) = matern(*x);
            *x = value * self.signal + self.effects_scale * *s;
            *s = derivative * self.signal;
        }
    }

    /// Prior variance of f at the point that was compared last.
    fn prior_variance(&self, work: &Work) -> f64 {
        self.signal + self.effects_scale * work.own_effects
    }

    /// What the model says of a point.
    pub(crate) fn predict(&self, point: &[f64], work: &mut Work) -> Prediction {
        self.covariances(point, self.n, work);
        let mean = dot(&work.covariance, &self.alpha);
        let shared = dot(&work.covariance, &self.reference);
        self.factor.forward(&mut work.covariance);
        let variance = self.prior_variance(work) - dot(&work.covariance, &work.covariance);
        self.prediction(mean, variance, shared)
    }

    /// As [`predict`](Self::predict), with a variance that is too large: only the one observation that says most about
    /// the point is taken into account. Costs n instead of n².
    pub(crate) fn predict_roughly(&self, point: &[f64], work: &mut Work) -> Prediction {
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
    /// in `work`: 0 for categories and inactive dimensions. The variance and its derivatives come from a solution in
    /// single precision: good enough for the direction of a step, and twice as fast.
    pub(crate) fn predict_with_slopes(&self, point: &[f64], work: &mut Work) -> Prediction {
        self.covariances(point, self.n, work);
        let mean = dot(&work.covariance, &self.alpha);
        let shared = dot(&work.covariance, &self.reference);
        let known = self.factor.solve_roughly(&mut work.covariance);
        let variance = self.prior_variance(work) - known;
        // ∂ variance = ∂ k(x, x) - 2 vᵀ ∂ k,   v = K⁻¹ k; and -2 reference for the covariance.
        let by_covariance = |(v, r): (&f64, &f64)| -2.0 * (v + r);
        let pairs = work.covariance.iter().zip(&self.reference);
        let weights = Weights::new(&self.alpha, pairs.map(by_covariance), &work.slope);
        work.mean_slopes.clear();
        work.variance_slopes.clear();
        for (j, x) in point.iter().enumerate() {
            let (mut by_mean, mut by_variance) = (0.0, 0.0);
            if let Some(slopes) = self.training.slopes(j, *x, &weights) {
                let mean_effects = effects_slope(*x, self.alpha_moments[j]);
                by_mean = self.effects_scale * mean_effects - slopes.mean;
                by_variance =
                    self.effects_scale * (slopes.effects + 2.0 * own_slope(*x)) - slopes.variance;
            }
            work.mean_slopes.push(by_mean);
            work.variance_slopes.push(by_variance);
        }
        self.prediction(mean, variance, shared)
    }
}

/// Buffers of [`Surrogate::predict_with_slopes`], and the slopes it finds.
#[derive(Debug, Default)]
pub(crate) struct Work {
    covariance: Vec<f64>,
    slope: Vec<f64>,
    own_effects: f64,
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
    use crate::kde::Dimension;

    pub(super) fn dimensions() -> Vec<Dimension> {
        vec![
            Dimension::Continuous,
            Dimension::Unordered { levels: 3 },
            Dimension::Ordered { levels: 4 },
            Dimension::Continuous,
        ]
    }

    pub(super) fn observations(n: usize, seed: u64) -> Vec<Observation> {
        let features = Features::new(&dimensions());
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

    fn model(features: &Features, observations: &[Observation]) -> Surrogate {
        let parameters = KernelParameters::prior(4, 3, LengthPrior::Medium);
        Surrogate::new(features, &parameters, observations, &[], 0).unwrap()
    }

    #[test]
    fn slopes_of_predictions_are_their_difference_quotients() {
        let features = Features::new(&dimensions());
        let observations = observations(23, 2);
        let model = model(&features, &observations);
        let point = vec![0.4, 1.0, 1.0 / 3.0, 0.7];
        let mut work = Work::default();
        let found = model.predict_with_slopes(&point, &mut work);
        let plain = model.predict(&point, &mut Work::default());
        assert!((found.mean - plain.mean).abs() < 1e-12);
        // In single precision.
        assert!((found.difference_variance - plain.difference_variance).abs() < 1e-5);
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
            assert!((by_variance - work.variance_slopes[j]).abs() < 1e-4, "{j}");
        }
        assert!(work.mean_slopes[1].abs() < f64::MIN_POSITIVE);
    }

    #[test]
    fn what_is_under_way_takes_away_variance_and_leaves_the_mean() {
        let features = Features::new(&dimensions());
        let observations = observations(15, 3);
        let parameters = KernelParameters::prior(4, 3, LengthPrior::Medium);
        let point = vec![0.9, 2.0, 0.0, 0.1];
        let at = |under_way: &[(Vec<f64>, usize)]| {
            let model =
                Surrogate::new(&features, &parameters, &observations, under_way, 0).unwrap();
            model.predict(&point, &mut Work::default())
        };
        let (free, busy) = (
            at(&[]),
            at(&[(point.clone(), 2), (vec![0.1, 0.0, 1.0, 0.2], 0)]),
        );
        assert!((free.mean - busy.mean).abs() < 1e-9, "{free:?} {busy:?}");
        assert!(busy.variance < free.variance, "{free:?} {busy:?}");
        // The level of f as a whole stays unknown; what is there to be gained at the point does not.
        let (free, busy) = (free.difference_variance, busy.difference_variance);
        assert!(busy < 0.3 * free, "{free} {busy}");
    }

    #[test]
    fn the_reference_is_the_best_observed_and_does_not_differ_from_itself() {
        let features = Features::new(&dimensions());
        let observations = observations(15, 3);
        let model = model(&features, &observations);
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

    #[test]
    fn improvements_are_counted_from_this_search_alone() {
        let features = Features::new(&dimensions());
        let observations = observations(12, 3);
        let model = |num_earlier| {
            let parameters = KernelParameters::prior(4, 3, LengthPrior::Medium);
            Surrogate::new(&features, &parameters, &observations, &[], num_earlier)
        };
        let all = model(0).unwrap();
        let best = (0..12).min_by(|a, b| all.means()[*a].total_cmp(&all.means()[*b]));
        let later = model(best.unwrap() + 1).unwrap();
        let own = &later.means()[best.unwrap() + 1..];
        let smallest = own.iter().copied().fold(f64::INFINITY, f64::min);
        assert_eq!(later.reference_mean().to_bits(), smallest.to_bits());
        assert!(all.reference_mean() < later.reference_mean());
        assert!(model(12).is_none(), "nothing is known of this search");
    }
}
