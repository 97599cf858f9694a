//! The kernel's parameters: their priors, and the most probable ones for some observations.

use super::cholesky::{Cholesky, dot};
use super::features::{Features, matern};
use super::{OFFSET_VARIANCE, Observation};

/// No noise variance is below this; the values are of the order of 1.
const SMALLEST_NOISE: f64 = 1e-6;

/// Lengths, variances and noises, as logarithms.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KernelParameters {
    /// `ln ℓ_j`.
    lengths: Vec<f64>,
    /// ln s².
    pub(super) signal: f64,
    /// ln a.
    pub(super) effects: f64,
    /// `ln w_q²`, by rung below the top.
    deviations: Vec<f64>,
    /// `ln σ_r²`, by rung.
    pub(super) noises: Vec<f64>,
    length_prior: LengthPrior,
}

/// A log-normal prior: mean and variance of the logarithm.
type Prior = (f64, f64);
const SIGNAL_PRIOR: Prior = (-0.7, 1.0);
const EFFECTS_PRIOR: Prior = (0.0, 1.0);
/// w² around 0.14, within a factor of about 50 either way: budgets agree well, or not at all.
const DEVIATION_PRIOR: Prior = (-2.0, 4.0);
/// σ² around 0.02.
const NOISE_PRIOR: Prior = (-4.0, 2.25);

/// Where the prior of ln ℓ has its mean, below that of Hvarfner et al., √2 + ln(d)/2 with variance 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LengthPrior {
    /// By one variance: the mode of their density over ℓ. There most pairs of few points in some dimensions are strangers.
    /// Searches of the first revision have it.
    Short,
    /// By half of that, which was the best on real learning curves.
    Medium,
}

impl LengthPrior {
    fn of(self, num_dimensions: usize) -> Prior {
        let below = match self {
            Self::Short => 3.0,
            Self::Medium => 1.5,
        };
        let mean = std::f64::consts::SQRT_2 + 0.5 * libm::log((num_dimensions.max(1)) as f64);
        (mean - below, 3.0)
    }
}

impl KernelParameters {
    /// The most probable ones before anything is seen.
    pub(crate) fn prior(
        num_dimensions: usize,
        num_rungs: usize,
        length_prior: LengthPrior,
    ) -> Self {
        Self {
            lengths: vec![length_prior.of(num_dimensions).0; num_dimensions],
            length_prior,
            signal: SIGNAL_PRIOR.0,
            effects: EFFECTS_PRIOR.0,
            deviations: vec![DEVIATION_PRIOR.0; num_rungs.saturating_sub(1)],
            noises: vec![NOISE_PRIOR.0; num_rungs],
        }
    }

    /// ℓ.
    pub(crate) fn lengths(&self) -> Vec<f64> {
        self.lengths.iter().map(|x| libm::exp(*x)).collect()
    }

    /// Correlation of the noiseless losses of each rung with those of the top rung, as modelled.
    pub(crate) fn correlations(&self) -> Vec<f64> {
        let signal = libm::exp(self.signal);
        (0..self.noises.len())
            .map(|rung| (signal / self.covariance(rung, rung)).sqrt())
            .collect()
    }

    /// Noise variance of a rung.
    pub(super) fn noise(&self, rung: usize) -> f64 {
        libm::exp(self.noises[rung]) + SMALLEST_NOISE
    }

    /// `s² + Σ_{q ≥ max(r, r')} w_q²`.
    pub(super) fn covariance(&self, a: usize, b: usize) -> f64 {
        let above = self.deviations.iter().skip(a.max(b));
        libm::exp(self.signal) + above.map(|w| libm::exp(*w)).sum::<f64>()
    }

    fn to_vec(&self) -> Vec<f64> {
        let mut all = self.lengths.clone();
        all.push(self.signal);
        all.push(self.effects);
        all.extend(&self.deviations);
        all.extend(&self.noises);
        all
    }

    fn set(&mut self, all: &[f64]) {
        let d = self.lengths.len();
        let q = self.deviations.len();
        self.lengths.copy_from_slice(&all[..d]);
        self.signal = all[d];
        self.effects = all[d + 1];
        self.deviations.copy_from_slice(&all[d + 2..d + 2 + q]);
        self.noises.copy_from_slice(&all[d + 2 + q..]);
    }

    fn priors(&self) -> Vec<Prior> {
        let d = self.lengths.len();
        let mut all = vec![self.length_prior.of(d); d];
        all.push(SIGNAL_PRIOR);
        all.push(EFFECTS_PRIOR);
        all.extend(vec![DEVIATION_PRIOR; self.deviations.len()]);
        all.extend(vec![NOISE_PRIOR; self.noises.len()]);
        all
    }

    /// The most probable parameters for the observations, by a fixed number of steps from the prior's.
    ///
    /// Resilient propagation (Riedmiller and Braun 1993): step sizes follow the signs of the gradient only, so nothing
    /// has to be tuned, and the result is the same on every machine.
    pub(crate) fn fit(
        features: &Features,
        observations: &[Observation],
        num_rungs: usize,
        length_prior: LengthPrior,
        num_steps: usize,
    ) -> Self {
        let mut parameters = Self::prior(features.num_dimensions(), num_rungs, length_prior);
        let differences = Differences::new(features, observations);
        let mut theta = parameters.to_vec();
        let mut steps = vec![0.2; theta.len()];
        let mut before = vec![0.0; theta.len()];
        let mut best = (f64::NEG_INFINITY, theta.clone());
        for _ in 0..num_steps {
            parameters.set(&theta);
            let Some((value, gradient)) = differences.posterior(&parameters, observations) else {
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
        parameters.set(&best.1);
        parameters
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

    /// Log posterior density of the parameters up to a constant, and its gradient; `None` if rounding makes the matrix
    /// indefinite.
    fn posterior(
        &self,
        parameters: &KernelParameters,
        observations: &[Observation],
    ) -> Option<(f64, Vec<f64>)> {
        let n = self.n;
        let rungs: Vec<usize> = observations.iter().map(|o| o.rung).collect();
        let prior = self.prior(parameters, &rungs);
        let factor = Cholesky::new(prior.matrix.clone(), n)?;
        let values: Vec<f64> = observations.iter().map(|o| o.value).collect();
        let alpha = factor.solve(&values);
        let mut value = -0.5 * dot(&values, &alpha) - factor.half_ln_determinant();
        // d(value)/dK = ½ (α αᵀ - K⁻¹), off the diagonal counted twice.
        let mut weights = factor.inverse();
        for i in 0..n {
            for k in 0..=i {
                let weight = alpha[i] * alpha[k] - weights[i * n + k];
                weights[i * n + k] = if k < i { weight } else { 0.5 * weight };
            }
        }
        let mut gradient = self.gradient(parameters, &rungs, &prior, &weights);
        for ((slope, theta), (mean, variance)) in gradient
            .iter_mut()
            .zip(parameters.to_vec())
            .zip(parameters.priors())
        {
            value -= 0.5 * (theta - mean) * (theta - mean) / variance;
            *slope -= (theta - mean) / variance;
        }
        value.is_finite().then_some((value, gradient))
    }

    fn prior(&self, parameters: &KernelParameters, rungs: &[usize]) -> PriorCovariance {
        let n = self.n;
        let mut rho2 = vec![0.0; n * n.saturating_sub(1) / 2];
        for (squared, ln_length) in self.squared.iter().zip(&parameters.lengths) {
            let weight = libm::exp(-2.0 * ln_length);
            for (sum, x) in rho2.iter_mut().zip(squared) {
                *sum += x * weight;
            }
        }
        let by_rung: Vec<f64> = (0..parameters.noises.len())
            .map(|rung| parameters.covariance(rung, rung))
            .collect();
        let effects_scale = libm::exp(parameters.effects);
        let mut kernel = Vec::with_capacity(self.effects.len());
        let mut slope = Vec::with_capacity(rho2.len());
        let mut matrix = vec![0.0; n * n];
        let mut pair = 0;
        for i in 0..n {
            for k in 0..i {
                let (interaction, derivative) = matern(rho2[pair]);
                pair += 1;
                slope.push(derivative);
                let value = interaction + effects_scale * self.effects[kernel.len()];
                kernel.push(value);
                let same = if rungs[i] == rungs[k] {
                    OFFSET_VARIANCE
                } else {
                    0.0
                };
                matrix[i * n + k] =
                    value * by_rung[rungs[i].max(rungs[k])] + OFFSET_VARIANCE + same;
            }
            let value = 1.0 + effects_scale * self.effects[kernel.len()];
            kernel.push(value);
            matrix[i * n + i] =
                value * by_rung[rungs[i]] + 2.0 * OFFSET_VARIANCE + parameters.noise(rungs[i]);
        }
        PriorCovariance {
            matrix,
            kernel,
            slope,
            by_rung,
        }
    }

    /// The gradient of Σ weights·K by the parameters.
    fn gradient(
        &self,
        parameters: &KernelParameters,
        rungs: &[usize],
        prior: &PriorCovariance,
        weights: &[f64],
    ) -> Vec<f64> {
        let n = self.n;
        let num_rungs = parameters.noises.len();
        let mut by_length = Vec::with_capacity(prior.slope.len());
        let mut by_rung = vec![0.0; num_rungs];
        let mut by_noise = vec![0.0; num_rungs];
        let mut by_effects = 0.0;
        let mut entry = 0;
        for i in 0..n {
            for k in 0..=i {
                let weight = weights[i * n + k];
                let upper = rungs[i].max(rungs[k]);
                by_rung[upper] += weight * prior.kernel[entry];
                by_effects += weight * prior.by_rung[upper] * self.effects[entry];
                entry += 1;
                if k < i {
                    by_length.push(weight * prior.by_rung[upper] * prior.slope[by_length.len()]);
                }
            }
            by_noise[rungs[i]] += weights[i * n + i];
        }
        let lengths = self.squared.iter().zip(&parameters.lengths);
        let mut gradient: Vec<f64> = lengths
            .map(|(squared, l)| dot(&by_length, squared) * libm::exp(-2.0 * l))
            .collect();
        gradient.push(by_rung.iter().sum::<f64>() * libm::exp(parameters.signal));
        gradient.push(by_effects * libm::exp(parameters.effects));
        for (q, w) in parameters.deviations.iter().enumerate() {
            gradient.push(by_rung[..=q].iter().sum::<f64>() * libm::exp(*w));
        }
        for (by_noise, noise) in by_noise.iter().zip(&parameters.noises) {
            gradient.push(by_noise * libm::exp(*noise));
        }
        gradient
    }
}

/// What the parameters say of the observations before their values are looked at.
struct PriorCovariance {
    /// Row-major, the lower triangle.
    matrix: Vec<f64>,
    /// k of every pair (i, k) with k ≤ i in order.
    kernel: Vec<f64>,
    /// Slope of the interaction part of every pair with k < i, see [`matern`].
    slope: Vec<f64>,
    /// `s² + Σ w_q²` by rung.
    by_rung: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::{dimensions, observations};
    use super::*;

    #[test]
    fn the_gradient_of_the_posterior_is_its_difference_quotient() {
        let features = Features::new(&dimensions());
        let observations = observations(17, 1);
        let differences = Differences::new(&features, &observations);
        let mut parameters = KernelParameters::prior(4, 3, LengthPrior::Medium);
        let mut theta = parameters.to_vec();
        for (i, t) in theta.iter_mut().enumerate() {
            *t += 0.3 * libm::sin(i as f64);
        }
        parameters.set(&theta);
        let (_, gradient) = differences.posterior(&parameters, &observations).unwrap();
        assert_eq!(gradient.len(), 4 + 2 + 2 + 3);
        for i in 0..theta.len() {
            let h = 1e-5;
            let mut at = |x: f64| {
                let mut moved = theta.clone();
                moved[i] += x;
                parameters.set(&moved);
                differences.posterior(&parameters, &observations).unwrap().0
            };
            let quotient = (at(h) - at(-h)) / (2.0 * h);
            // Truncation h² and rounding ε/h.
            assert!(
                (quotient - gradient[i]).abs() < 1e-7 * (1.0 + quotient.abs()),
                "{i}: {quotient} {gradient:?}"
            );
        }
    }
}
