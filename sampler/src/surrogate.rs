//! A Gaussian process over configurations and rungs: what the results of all budgets say about the largest one.
//!
//! ```text
//! y(x, r) = c + b_r + f(x) + Σ_{q = r}^{R-1} e_q(x) + noise_r
//! f ~ GP(0, s² k)      the loss at the top rung R            b_r ~ N(0, 1)     how a rung's losses lie as a whole
//! e_q ~ GP(0, w_q² k)  how rung q differs from rung q + 1    noise_r ~ N(0, σ_r²)
//! k(x, x') = (1 + √5 ρ + 5/3 ρ²) exp(-√5 ρ),   ρ² = Σ_j (Δ_j / ℓ_j)²            Matérn 5/2
//! ```
//! Δ_j: difference of two coordinates in `[0, 1]` for numbers and ordinals, 0 or 1 for categories; 1 where only one of
//! two configurations has the dimension, 0 where neither has. A rung that ranks configurations as the top rung does
//! gets a small w and speaks for it; one that does not gets a large w and is hardly heard: the correlation of budgets
//! is part of the model. b_r takes up that only promoted, better configurations reach the higher rungs.
//!
//! Lengths ℓ, scales s, w, σ are the most probable ones under log-normal priors; that of ℓ grows with √d (Hvarfner et
//! al. 2024), so that the same model serves 1 and 200 dimensions.
//!
//! Range of validity: at least one observation. Equal observations: the noise keeps the matrix positive definite. The
//! values y are to be of the order of 1 around 0.

use crate::kde::Kernel;

/// √5.
const SQRT_5: f64 = 2.236_067_977_499_79;
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
    /// ln w_q², by rung below the top.
    ln_deviations: Vec<f64>,
    /// ln σ_r², by rung.
    ln_noises: Vec<f64>,
}

/// A log-normal prior: mean and variance of the logarithm.
type Prior = (f64, f64);
const SIGNAL_PRIOR: Prior = (0.0, 1.0);
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
        all.extend(&self.ln_deviations);
        all.extend(&self.ln_noises);
        all
    }

    fn set(&mut self, all: &[f64]) {
        let d = self.ln_lengths.len();
        let q = self.ln_deviations.len();
        self.ln_lengths.copy_from_slice(&all[..d]);
        self.ln_signal = all[d];
        self.ln_deviations.copy_from_slice(&all[d + 1..=d + q]);
        self.ln_noises.copy_from_slice(&all[d + q + 1..]);
    }

    fn priors(&self) -> Vec<Prior> {
        let d = self.ln_lengths.len();
        let mut all = vec![length_prior(d); d];
        all.push(SIGNAL_PRIOR);
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
        Self { n, squared }
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
        let mut pair = 0;
        for i in 0..n {
            for k in 0..i {
                let (value, derivative) = matern(rho2[pair]);
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
                covariances[rung(i)] + 2.0 * OFFSET_VARIANCE + scales.noise(rung(i));
        }
        let factor = Cholesky::new(matrix, n)?;
        let values: Vec<f64> = observations.iter().map(|o| o.value).collect();
        let alpha = factor.solve(&values);
        let mut value = -0.5 * dot(&values, &alpha) - factor.half_ln_determinant();
        // d(value)/dK = ½ (α αᵀ - K⁻¹), off the diagonal counted twice.
        let inverse = factor.inverse();
        let mut by_length = vec![0.0; num_pairs];
        let mut gradient = vec![0.0; d + 1 + scales.ln_deviations.len() + num_rungs];
        let mut by_covariance = vec![0.0; num_rungs];
        let mut pair = 0;
        for i in 0..n {
            for k in 0..i {
                let weight = alpha[i] * alpha[k] - inverse[i * n + k];
                let upper = rung(i).max(rung(k));
                by_length[pair] = weight * covariances[upper] * slope[pair];
                by_covariance[upper] += weight * correlation[pair];
                pair += 1;
            }
            let weight = 0.5 * (alpha[i] * alpha[i] - inverse[i * n + i]);
            by_covariance[rung(i)] += weight;
            gradient[d + 1 + scales.ln_deviations.len() + rung(i)] +=
                weight * libm::exp(scales.ln_noises[rung(i)]);
        }
        for (j, squared) in self.squared.iter().enumerate() {
            gradient[j] = dot(&by_length, squared) * weights[j];
        }
        gradient[d] = by_covariance.iter().sum::<f64>() * libm::exp(scales.ln_signal);
        for (q, w) in scales.ln_deviations.iter().enumerate() {
            gradient[d + 1 + q] = by_covariance[..=q].iter().sum::<f64>() * libm::exp(*w);
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
    /// `[d][n]`: coordinates by dimension, numbers divided by their length.
    columns: Vec<Vec<f64>>,
    inverse_lengths: Vec<f64>,
    signal: f64,
    factor: Cholesky,
    alpha: Vec<f64>,
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
        let lengths = scales.lengths();
        let inverse_lengths: Vec<f64> = lengths.iter().map(|l| 1.0 / l).collect();
        let columns: Vec<Vec<f64>> = (0..lengths.len())
            .map(|j| points.iter().map(|p| p[j]).collect())
            .collect();
        let mut model = Self {
            features: features.clone(),
            n,
            columns,
            inverse_lengths,
            signal: libm::exp(scales.ln_signal),
            factor: Cholesky {
                lower: Vec::new(),
                n: 0,
            },
            alpha: Vec::new(),
        };
        let num_rungs = scales.ln_noises.len();
        let covariances: Vec<f64> = (0..num_rungs).map(|r| scales.covariance(r, r)).collect();
        let mut matrix = vec![0.0; n * n];
        let mut row = Vec::new();
        for i in 0..n {
            model.correlations(points[i], i, &mut row);
            for k in 0..i {
                let same = if rungs[i] == rungs[k] {
                    OFFSET_VARIANCE
                } else {
                    0.0
                };
                matrix[i * n + k] =
                    row[k] * covariances[rungs[i].max(rungs[k])] + OFFSET_VARIANCE + same;
            }
            matrix[i * n + i] =
                covariances[rungs[i]] + 2.0 * OFFSET_VARIANCE + scales.noise(rungs[i]);
        }
        let m = observations.len();
        model.factor = Cholesky::new(matrix, n)?;
        let mut values: Vec<f64> = observations.iter().map(|o| o.value).collect();
        // L z = y on the first m rows; a zero beyond is exactly "the expected value was seen".
        values.resize(n, 0.0);
        model.factor.forward(&mut values[..m]);
        model.factor.backward(&mut values);
        model.alpha = values;
        Some(model)
    }

    /// Correlations of a point with the first `count` training points.
    fn correlations(&self, point: &[f64], count: usize, into: &mut Vec<f64>) {
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
        for x in into {
            *x = matern(*x).0;
        }
    }

    /// Mean and variance of f at a point.
    pub fn predict(&self, point: &[f64], buffer: &mut Vec<f64>) -> (f64, f64) {
        self.correlations(point, self.n, buffer);
        for x in buffer.iter_mut() {
            *x *= self.signal;
        }
        let mean = dot(buffer, &self.alpha);
        self.factor.forward(buffer);
        let variance = self.signal - dot(buffer, buffer);
        (mean, variance.max(1e-12 * self.signal))
    }

    /// Mean of f at a point.
    pub fn mean(&self, point: &[f64], buffer: &mut Vec<f64>) -> f64 {
        self.correlations(point, self.n, buffer);
        self.signal * dot(buffer, &self.alpha)
    }
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
