//! A Gaussian process over configurations and rungs: what the results of all budgets say about the largest one.
//!
//! ```text
//! y(x, r) = c + b_r + f(x) + Σ_{q = r}^{R-1} e_q(x) + noise_r
//! f ~ GP(0, s² k)      the loss at the top rung R            b_r ~ N(0, 1)     how a rung's losses lie as a whole
//! e_q ~ GP(0, w_q² k)  how rung q differs from rung q + 1    noise_r ~ N(0, σ_r²)
//! k(x, x') = m(ρ) + a/d Σ_j φ_j(x)·φ_j(x')           interactions, and main effects
//! m(ρ) = (1 + √5 ρ + 5/3 ρ²) exp(-√5 ρ),   ρ² = Σ_j (Δ_j / ℓ_j)²            Matérn 5/2
//! ```
//! Δ_j: difference of two coordinates in `[0, 1]` for numbers and ordinals, 0 or 1 for categories; 1 where only one of
//! two configurations has the dimension, 0 where neither has. A rung that ranks configurations as the top rung does
//! gets a small w and speaks for it; one that does not gets a large w and is hardly heard: the correlation of budgets
//! is part of the model. b_r takes up that only promoted, better configurations reach the higher rungs.
//!
//! φ_j holds the effects of one dimension alone, each with mean 0 and variance 1 over the prior: a straight line and
//! half a parabola for numbers and ordinals, one free value a level for categories, nothing where inactive. Many
//! objectives are largely sums of such effects, and those are learnt from few results in many dimensions.
//!
//! Lengths ℓ, scales s, a, w, σ are the most probable ones under log-normal priors; that of ℓ grows with √d (Hvarfner et
//! al. 2024), so that the same model serves 1 and 200 dimensions.
//!
//! Range of validity: at least one observation. Equal observations: the noise keeps the matrix positive definite. The
//! values y are to be of the order of 1 around 0.

use crate::kde::Kernel;

/// √5.
const SQRT_5: f64 = 2.236_067_977_499_79;
/// √12: a straight line of variance 1 over [0, 1].
const LINE: f64 = 3.464_101_615_137_754_4;
/// √180 / √2: a parabola of variance 1/2 over [0, 1].
const PARABOLA: f64 = 9.486_832_980_505_138;
/// Variance of the common offset c and of each rung's offset b_r.
const OFFSET_VARIANCE: f64 = 1.0;
/// No noise variance is below this; the values are of the order of 1.
const SMALLEST_NOISE: f64 = 1e-6;

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

/// How vectors of the space become points of the model.
#[derive(Debug, Clone)]
pub struct Features {
    kernels: Vec<Kernel>,
}

impl Features {
    /// For the dimensions of a space.
    pub fn new(kernels: &[Kernel]) -> Self {
        Self {
            kernels: kernels.to_vec(),
        }
    }

    /// d.
    pub fn num_dimensions(&self) -> usize {
        self.kernels.len()
    }

    /// The point of a vector.
    pub fn of_vector(&self, vector: &[f64]) -> Vec<f64> {
        let scaled = vector
            .iter()
            .zip(&self.kernels)
            .map(|(x, kernel)| match kernel {
                Kernel::Continuous | Kernel::Unordered { .. } => *x,
                Kernel::Ordered { levels } => x / (levels.saturating_sub(1).max(1) as f64),
            });
        scaled.collect()
    }

    /// φ of a point, all dimensions one after the other.
    fn effects(&self, point: &[f64]) -> Vec<f64> {
        let mut effects = Vec::with_capacity(2 * point.len());
        for (x, kernel) in point.iter().zip(&self.kernels) {
            match *kernel {
                Kernel::Unordered { levels: 0 | 1 } | Kernel::Ordered { levels: 0 | 1 } => {}
                Kernel::Continuous | Kernel::Ordered { .. } => {
                    let u = x - 0.5;
                    let (line, parabola) = if u.is_nan() {
                        (0.0, 0.0)
                    } else {
                        (LINE * u, PARABOLA * (u * u - 1.0 / 12.0))
                    };
                    effects.extend([line, parabola]);
                }
                Kernel::Unordered { levels } => {
                    let c = levels as f64;
                    let norm = (c / (c - 1.0)).sqrt();
                    effects.extend((0..levels).map(|level| {
                        if x.is_nan() {
                            0.0
                        } else {
                            norm * (f64::from(u8::from((x - level as f64).abs() < 0.5)) - 1.0 / c)
                        }
                    }));
                }
            }
        }
        effects
    }

    /// Δ_j².
    fn squared_difference(&self, j: usize, a: f64, b: f64) -> f64 {
        match (a.is_nan(), b.is_nan()) {
            (true, true) => 0.0,
            (true, false) | (false, true) => 1.0,
            (false, false) => match self.kernels[j] {
                Kernel::Continuous | Kernel::Ordered { .. } => (a - b) * (a - b),
                Kernel::Unordered { .. } => f64::from(u8::from((a - b).abs() > 0.5)),
            },
        }
    }
}

/// Lengths and scales, as logarithms.
#[derive(Debug, Clone, PartialEq)]
pub struct Scales {
    /// ln ℓ_j.
    ln_lengths: Vec<f64>,
    /// ln s².
    ln_signal: f64,
    /// ln a.
    ln_effects: f64,
    /// ln w_q², by rung below the top.
    ln_deviations: Vec<f64>,
    /// ln σ_r², by rung.
    ln_noises: Vec<f64>,
}

/// A log-normal prior: mean and variance of the logarithm.
type Prior = (f64, f64);
const SIGNAL_PRIOR: Prior = (-0.7, 1.0);
const EFFECTS_PRIOR: Prior = (0.0, 1.0);
/// w² around 0.05, within a factor of about 20 either way.
const DEVIATION_PRIOR: Prior = (-3.0, 2.25);
/// σ² around 0.02.
const NOISE_PRIOR: Prior = (-4.0, 2.25);

fn length_prior(num_dimensions: usize) -> Prior {
    // Mean √2 + ln(d)/2 and variance 3 of ln ℓ; the mode of the density of ℓ is one variance lower.
    let mean = std::f64::consts::SQRT_2 + 0.5 * libm::log((num_dimensions.max(1)) as f64);
    (mean - 3.0, 3.0)
}

impl Scales {
    /// The most probable ones before anything is seen.
    pub fn prior(num_dimensions: usize, num_rungs: usize) -> Self {
        Self {
            ln_lengths: vec![length_prior(num_dimensions).0; num_dimensions],
            ln_signal: SIGNAL_PRIOR.0,
            ln_effects: EFFECTS_PRIOR.0,
            ln_deviations: vec![DEVIATION_PRIOR.0; num_rungs.saturating_sub(1)],
            ln_noises: vec![NOISE_PRIOR.0; num_rungs],
        }
    }

    /// ℓ.
    pub fn lengths(&self) -> Vec<f64> {
        self.ln_lengths.iter().map(|x| libm::exp(*x)).collect()
    }

    /// Correlation of the noiseless losses of each rung with those of the top rung, as modelled.
    pub fn correlations(&self) -> Vec<f64> {
        let signal = libm::exp(self.ln_signal);
        (0..self.ln_noises.len())
            .map(|rung| (signal / self.covariance(rung, rung)).sqrt())
            .collect()
    }

    /// Noise variance of a rung.
    fn noise(&self, rung: usize) -> f64 {
        libm::exp(self.ln_noises[rung]) + SMALLEST_NOISE
    }

    /// s² + Σ_{q ≥ max(r, r')} w_q².
    fn covariance(&self, a: usize, b: usize) -> f64 {
        let above = self.ln_deviations.iter().skip(a.max(b));
        libm::exp(self.ln_signal) + above.map(|w| libm::exp(*w)).sum::<f64>()
    }

    fn to_vec(&self) -> Vec<f64> {
        let mut all = self.ln_lengths.clone();
        all.push(self.ln_signal);
        all.push(self.ln_effects);
        all.extend(&self.ln_deviations);
        all.extend(&self.ln_noises);
        all
    }

    fn set(&mut self, all: &[f64]) {
        let d = self.ln_lengths.len();
        let q = self.ln_deviations.len();
        self.ln_lengths.copy_from_slice(&all[..d]);
        self.ln_signal = all[d];
        self.ln_effects = all[d + 1];
        self.ln_deviations.copy_from_slice(&all[d + 2..d + 2 + q]);
        self.ln_noises.copy_from_slice(&all[d + 2 + q..]);
    }

    fn priors(&self) -> Vec<Prior> {
        let d = self.ln_lengths.len();
        let mut all = vec![length_prior(d); d];
        all.push(SIGNAL_PRIOR);
        all.push(EFFECTS_PRIOR);
        all.extend(vec![DEVIATION_PRIOR; self.ln_deviations.len()]);
        all.extend(vec![NOISE_PRIOR; self.ln_noises.len()]);
        all
    }

    /// The most probable scales for the observations, by a fixed number of steps from the prior's.
    ///
    /// Resilient propagation (Riedmiller and Braun 1993): step sizes follow the signs of the gradient only, so nothing
    /// has to be tuned, and the result is the same on every machine.
    pub fn fit(
        features: &Features,
        observations: &[Observation],
        num_rungs: usize,
        num_steps: usize,
    ) -> Self {
        let mut scales = Self::prior(features.num_dimensions(), num_rungs);
        let differences = Differences::new(features, observations);
        let mut theta = scales.to_vec();
        let mut steps = vec![0.2; theta.len()];
        let mut before = vec![0.0; theta.len()];
        let mut best = (f64::NEG_INFINITY, theta.clone());
        for _ in 0..num_steps {
            scales.set(&theta);
            let Some((value, gradient)) = differences.posterior(&scales, observations) else {
                // Not positive definite by rounding: half way back to the best so far.
                for ((t, best), step) in theta.iter_mut().zip(&best.1).zip(&mut steps) {
                    *t = f64::midpoint(*t, *best);
                    *step *= 0.5;
                }
                before.fill(0.0);
                continue;
            };
            if value > best.0 {
                best = (value, theta.clone());
            }
            for i in 0..theta.len() {
                let mut slope = gradient[i];
                let turn = slope * before[i];
                if turn > 0.0 {
                    steps[i] = f64::min(steps[i] * 1.2, 0.8);
                } else if turn < 0.0 {
                    steps[i] *= 0.5;
                    slope = 0.0;
                }
                before[i] = slope;
                if slope.abs() > 1e-3 {
                    theta[i] += steps[i].copysign(slope);
                }
                theta[i] = theta[i].clamp(-14.0, 8.0);
            }
        }
        scales.set(&best.1);
        scales
    }
}

/// Squared differences of all pairs of observations, by dimension.
struct Differences {
    n: usize,
    /// `[d][pairs]`, pairs (i, j) with j < i in order.
    squared: Vec<Vec<f64>>,
    /// Main effects' products: pairs (i, k) with k ≤ i in order, divided by d.
    effects: Vec<f64>,
}

impl Differences {
    fn new(features: &Features, observations: &[Observation]) -> Self {
        let n = observations.len();
        let squared = (0..features.num_dimensions())
            .map(|j| {
                let x = |i: usize| observations[i].point[j];
                let pairs = (0..n).flat_map(|i| (0..i).map(move |k| (i, k)));
                pairs
                    .map(|(i, k)| features.squared_difference(j, x(i), x(k)))
                    .collect()
            })
            .collect();
        let all: Vec<Vec<f64>> = observations
            .iter()
            .map(|o| features.effects(&o.point))
            .collect();
        let share = 1.0 / features.num_dimensions().max(1) as f64;
        let effects = (0..n)
            .flat_map(|i| (0..=i).map(move |k| (i, k)))
            .map(|(i, k)| share * dot(&all[i], &all[k]))
            .collect();
        Self {
            n,
            squared,
            effects,
        }
    }

    /// Log posterior density of the scales up to a constant, and its gradient.
    fn posterior(&self, scales: &Scales, observations: &[Observation]) -> Option<(f64, Vec<f64>)> {
        let n = self.n;
        let d = self.squared.len();
        let num_pairs = n * n.saturating_sub(1) / 2;
        let mut rho2 = vec![0.0; num_pairs];
        let weights: Vec<f64> = scales
            .ln_lengths
            .iter()
            .map(|l| libm::exp(-2.0 * l))
            .collect();
        for (squared, weight) in self.squared.iter().zip(&weights) {
            for (sum, x) in rho2.iter_mut().zip(squared) {
                *sum += x * weight;
            }
        }
        let num_rungs = scales.ln_noises.len();
        let covariances: Vec<f64> = (0..num_rungs).map(|r| scales.covariance(r, r)).collect();
        let rung = |i: usize| observations[i].rung;
        // k of each pair, and -dk/d(ρ²)·2 = 5/3 (1 + √5 ρ) exp(-√5 ρ).
        let mut correlation = vec![0.0; num_pairs];
        let mut slope = vec![0.0; num_pairs];
        let mut matrix = vec![0.0; n * n];
        let effects_scale = libm::exp(scales.ln_effects);
        let own: Vec<f64> = (0..n)
            .map(|i| 1.0 + effects_scale * self.effects[i * (i + 1) / 2 + i])
            .collect();
        let mut pair = 0;
        for i in 0..n {
            for k in 0..i {
                let (value, derivative) = matern(rho2[pair]);
                let value = value + effects_scale * self.effects[pair + i];
                correlation[pair] = value;
                slope[pair] = derivative;
                let same = if rung(i) == rung(k) {
                    OFFSET_VARIANCE
                } else {
                    0.0
                };
                matrix[i * n + k] =
                    value * covariances[rung(i).max(rung(k))] + OFFSET_VARIANCE + same;
                pair += 1;
            }
            matrix[i * n + i] =
                own[i] * covariances[rung(i)] + 2.0 * OFFSET_VARIANCE + scales.noise(rung(i));
        }
        let factor = Cholesky::new(matrix, n)?;
        let values: Vec<f64> = observations.iter().map(|o| o.value).collect();
        let alpha = factor.solve(&values);
        let mut value = -0.5 * dot(&values, &alpha) - factor.half_ln_determinant();
        // d(value)/dK = ½ (α αᵀ - K⁻¹), off the diagonal counted twice.
        let inverse = factor.inverse();
        let mut by_length = vec![0.0; num_pairs];
        let after = d + 2 + scales.ln_deviations.len();
        let mut gradient = vec![0.0; after + num_rungs];
        let mut by_covariance = vec![0.0; num_rungs];
        let mut by_effects = 0.0;
        let mut pair = 0;
        for i in 0..n {
            for k in 0..i {
                let weight = alpha[i] * alpha[k] - inverse[i * n + k];
                let upper = rung(i).max(rung(k));
                by_length[pair] = weight * covariances[upper] * slope[pair];
                by_covariance[upper] += weight * correlation[pair];
                by_effects += weight * covariances[upper] * self.effects[pair + i];
                pair += 1;
            }
            let weight = 0.5 * (alpha[i] * alpha[i] - inverse[i * n + i]);
            by_covariance[rung(i)] += weight * own[i];
            by_effects += weight * covariances[rung(i)] * self.effects[i * (i + 1) / 2 + i];
            gradient[after + rung(i)] += weight * libm::exp(scales.ln_noises[rung(i)]);
        }
        for (j, squared) in self.squared.iter().enumerate() {
            gradient[j] = dot(&by_length, squared) * weights[j];
        }
        gradient[d] = by_covariance.iter().sum::<f64>() * libm::exp(scales.ln_signal);
        gradient[d + 1] = by_effects * effects_scale;
        for (q, w) in scales.ln_deviations.iter().enumerate() {
            gradient[d + 2 + q] = by_covariance[..=q].iter().sum::<f64>() * libm::exp(*w);
        }
        for ((slope, theta), (mean, variance)) in gradient
            .iter_mut()
            .zip(scales.to_vec())
            .zip(scales.priors())
        {
            value -= 0.5 * (theta - mean) * (theta - mean) / variance;
            *slope -= (theta - mean) / variance;
        }
        value.is_finite().then_some((value, gradient))
    }
}

/// k at ρ², and ℓ ∂k/∂ℓ divided by (Δ/ℓ)²: 5/3 (1 + √5 ρ) exp(-√5 ρ).
fn matern(rho2: f64) -> (f64, f64) {
    let t = SQRT_5 * rho2.sqrt();
    let decay = libm::exp(-t);
    (
        (1.0 + t + 5.0 / 3.0 * rho2) * decay,
        5.0 / 3.0 * (1.0 + t) * decay,
    )
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
    alpha: Vec<f64>,
    /// Posterior covariance with f at the reference is the sum of these times the prior covariances.
    reference: Vec<f64>,
    reference_variance: f64,
    /// Mean of f at the reference.
    pub reference_mean: f64,
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
        let signal = libm::exp(scales.ln_signal);
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
            effects_scale: signal * libm::exp(scales.ln_effects) / d.max(1) as f64,
            factor: Cholesky {
                lower: Vec::new(),
                n: 0,
            },
            alpha: Vec::new(),
            reference: Vec::new(),
            reference_variance: 0.0,
            reference_mean: 0.0,
        };
        let num_rungs = scales.ln_noises.len();
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
    /// ∂ mean / ∂ x_j.
    pub mean_slopes: Vec<f64>,
    /// ∂ difference variance / ∂ x_j.
    pub variance_slopes: Vec<f64>,
}

/// The lower triangular L of L Lᵀ = K.
#[derive(Debug)]
struct Cholesky {
    /// Row-major; above the diagonal nothing is read.
    lower: Vec<f64>,
    n: usize,
}

impl Cholesky {
    /// Factors a matrix of which the lower triangle is given; `None` if it is not positive definite.
    fn new(mut a: Vec<f64>, n: usize) -> Option<Self> {
        for i in 0..n {
            let (above, from_i) = a.split_at_mut(i * n);
            let row = &mut from_i[..=i];
            for k in 0..i {
                let other = &above[k * n..=k * n + k];
                row[k] = (row[k] - dot(&row[..k], &other[..k])) / other[k];
            }
            let square = row[i] - dot(&row[..i], &row[..i]);
            // Also refuses NaN.
            if !(square > 0.0) {
                return None;
            }
            row[i] = square.sqrt();
        }
        Some(Self { lower: a, n })
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.lower[i * self.n..=i * self.n + i]
    }

    /// x := L⁻¹ x, for the first rows if x is shorter.
    fn forward(&self, x: &mut [f64]) {
        for i in 0..x.len() {
            let row = self.row(i);
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
    }

    /// x := L⁻ᵀ x.
    fn backward(&self, x: &mut [f64]) {
        for i in (0..x.len()).rev() {
            let row = self.row(i);
            x[i] /= row[i];
            let value = x[i];
            for (x, l) in x[..i].iter_mut().zip(row) {
                *x -= value * l;
            }
        }
    }

    fn solve(&self, values: &[f64]) -> Vec<f64> {
        let mut x = values.to_vec();
        self.forward(&mut x);
        self.backward(&mut x);
        x
    }

    fn half_ln_determinant(&self) -> f64 {
        (0..self.n)
            .map(|i| libm::log(self.lower[i * self.n + i]))
            .sum()
    }

    /// K⁻¹, row-major, the lower triangle only.
    fn inverse(&self) -> Vec<f64> {
        let n = self.n;
        // Rows of `columns` are the columns of L⁻¹: zero before the diagonal.
        let mut columns = vec![0.0; n * n];
        for c in 0..n {
            let x = &mut columns[c * n..(c + 1) * n];
            x[c] = 1.0 / self.lower[c * n + c];
            for i in c + 1..n {
                let row = self.row(i);
                x[i] = -dot(&row[c..i], &x[c..i]) / row[i];
            }
        }
        let mut inverse = vec![0.0; n * n];
        for i in 0..n {
            for k in 0..=i {
                // Σ_m (L⁻¹)_{m i} (L⁻¹)_{m k}, m from i on.
                let a = &columns[i * n + i..(i + 1) * n];
                let b = &columns[k * n + i..(k + 1) * n];
                inverse[i * n + k] = dot(a, b);
            }
        }
        inverse
    }
}

/// Σ aᵢ bᵢ in eight interleaved sums: a fixed order, which the compiler can vectorise.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let mut sum =
        (sums[0] + sums[4]) + (sums[1] + sums[5]) + (sums[2] + sums[6]) + (sums[3] + sums[7]);
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum += a * b;
    }
    sum
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;
    use shared::Seed;

    use super::*;

    fn kernels() -> Vec<Kernel> {
        vec![
            Kernel::Continuous,
            Kernel::Unordered { levels: 3 },
            Kernel::Ordered { levels: 4 },
            Kernel::Continuous,
        ]
    }

    fn observations(n: usize, seed: u64) -> Vec<Observation> {
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
    fn the_gradient_of_the_posterior_is_its_difference_quotient() {
        let features = Features::new(&kernels());
        let observations = observations(17, 1);
        let differences = Differences::new(&features, &observations);
        let mut scales = Scales::prior(4, 3);
        let mut theta = scales.to_vec();
        for (i, t) in theta.iter_mut().enumerate() {
            *t += 0.3 * libm::sin(i as f64);
        }
        scales.set(&theta);
        let (_, gradient) = differences.posterior(&scales, &observations).unwrap();
        assert_eq!(gradient.len(), 4 + 2 + 2 + 3);
        for i in 0..theta.len() {
            let h = 1e-5;
            let mut at = |x: f64| {
                let mut moved = theta.clone();
                moved[i] += x;
                scales.set(&moved);
                differences.posterior(&scales, &observations).unwrap().0
            };
            let quotient = (at(h) - at(-h)) / (2.0 * h);
            // Truncation h² and rounding ε/h.
            assert!(
                (quotient - gradient[i]).abs() < 1e-7 * (1.0 + quotient.abs()),
                "{i}: {quotient} {gradient:?}"
            );
        }
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
        assert!((best.mean - model.reference_mean).abs() < 1e-12);
        assert!(best.difference_variance < 1e-9);
        let others = at.iter().filter(|p| p.mean > best.mean + 1e-9);
        assert!(
            others.clone().count() == 14
                && others.into_iter().all(|p| p.difference_variance > 1e-3)
        );
    }

    #[test]
    fn the_inverse_inverts() {
        let n = 13;
        let mut rng = Seed::new(9).rng();
        let b: Vec<f64> = (0..n * n).map(|_| rng.random::<f64>() - 0.5).collect();
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for k in 0..n {
                a[i * n + k] = dot(&b[i * n..(i + 1) * n], &b[k * n..(k + 1) * n]);
            }
            a[i * n + i] += 0.1;
        }
        let inverse = Cholesky::new(a.clone(), n).unwrap().inverse();
        let at = |i: usize, k: usize| inverse[i.max(k) * n + i.min(k)];
        for i in 0..n {
            for k in 0..n {
                let product: f64 = (0..n).map(|m| a[i * n + m] * at(m, k)).sum();
                let expected = f64::from(u8::from(i == k));
                assert!((product - expected).abs() < 1e-10, "{i} {k} {product}");
            }
        }
        assert!(Cholesky::new(vec![1.0, 0.0, 2.0, 1.0], 2).is_none());
    }
}
