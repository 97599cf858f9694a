//! From vectors of the space to points of the model: distances, main effects, and the kernel between them.

use crate::kde::Dimension;

/// √5.
const SQRT_5: f64 = 2.236_067_977_499_79;
/// √12: a straight line of variance 1 over [0, 1].
pub(super) const LINE: f64 = 3.464_101_615_137_754_4;
/// √180 / √2: a parabola of variance 1/2 over [0, 1].
pub(super) const PARABOLA: f64 = 9.486_832_980_505_138;

/// How vectors of the space become points of the model.
#[derive(Debug, Clone)]
pub(crate) struct Features {
    pub(super) dimensions: Vec<Dimension>,
}

impl Features {
    /// For the dimensions of a space.
    pub(crate) fn new(dimensions: &[Dimension]) -> Self {
        Self {
            dimensions: dimensions.to_vec(),
        }
    }

    /// d.
    pub(crate) fn num_dimensions(&self) -> usize {
        self.dimensions.len()
    }

    /// The point of a vector.
    pub(crate) fn of_vector(&self, vector: &[f64]) -> Vec<f64> {
        let scaled = vector
            .iter()
            .zip(&self.dimensions)
            .map(|(x, dimension)| match dimension {
                Dimension::Continuous | Dimension::Unordered { .. } => *x,
                Dimension::Ordered { levels } => x / (levels.saturating_sub(1).max(1) as f64),
            });
        scaled.collect()
    }

    /// The vector of a point; ordinals at their nearest level.
    pub(crate) fn to_vector(&self, point: &[f64]) -> Vec<f64> {
        let scaled = point
            .iter()
            .zip(&self.dimensions)
            .map(|(x, dimension)| match dimension {
                Dimension::Continuous | Dimension::Unordered { .. } => *x,
                Dimension::Ordered { levels } => (x * levels.saturating_sub(1) as f64).round(),
            });
        scaled.collect()
    }

    /// How many numbers φ has for a dimension.
    pub(super) fn num_effects(dimension: &Dimension) -> usize {
        match *dimension {
            Dimension::Unordered { levels: 0 | 1 } | Dimension::Ordered { levels: 0 | 1 } => 0,
            Dimension::Continuous | Dimension::Ordered { .. } => 2,
            Dimension::Unordered { levels } => levels,
        }
    }

    /// φ of a point, all dimensions one after the other.
    pub(super) fn effects(&self, point: &[f64]) -> Vec<f64> {
        let mut effects = Vec::with_capacity(2 * point.len());
        for (x, dimension) in point.iter().zip(&self.dimensions) {
            match *dimension {
                Dimension::Unordered { levels: 0 | 1 } | Dimension::Ordered { levels: 0 | 1 } => {}
                Dimension::Continuous | Dimension::Ordered { .. } => {
                    let u = x - 0.5;
                    let (line, parabola) = if u.is_nan() {
                        (0.0, 0.0)
                    } else {
                        (LINE * u, PARABOLA * (u * u - 1.0 / 12.0))
                    };
                    effects.extend([line, parabola]);
                }
                Dimension::Unordered { levels } => {
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

    /// `Δ_j²`.
    pub(super) fn squared_difference(&self, j: usize, a: f64, b: f64) -> f64 {
        match (a.is_nan(), b.is_nan()) {
            (true, true) => 0.0,
            (true, false) | (false, true) => 1.0,
            (false, false) => match self.dimensions[j] {
                Dimension::Continuous | Dimension::Ordered { .. } => (a - b) * (a - b),
                Dimension::Unordered { .. } => f64::from(u8::from((a - b).abs() > 0.5)),
            },
        }
    }
}

/// k at ρ², and ℓ ∂k/∂ℓ divided by (Δ/ℓ)²: 5/3 (1 + √5 ρ) exp(-√5 ρ).
#[inline]
pub(super) fn matern(rho2: f64) -> (f64, f64) {
    let t = SQRT_5 * rho2.sqrt();
    let decay = exp_of_negative(t);
    (
        (1.0 + t + 5.0 / 3.0 * rho2) * decay,
        5.0 / 3.0 * (1.0 + t) * decay,
    )
}

/// exp(-t) for t ≥ 0, to a relative error of 1e-13; at most 1e-304 from t = 700 on.
///
/// Without a branch or a call, so that a loop over many is vectorised; arithmetic only, so every platform gives the same
/// bits. exp(-t) = 2^k exp(r) with k the whole number nearest to -t / ln 2, and exp(r) by its series to r¹⁰: the
/// remainder is below (ln 2 / 2)¹¹ / 11! = 2.2e-13.
#[inline]
fn exp_of_negative(t: f64) -> f64 {
    /// Added to a small number, it leaves its whole part in the last bits.
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52
    const LN_2_UPPER: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOWER: f64 = 1.908_214_929_270_587_7e-10;
    let x = (-t).max(-700.0);
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN_2_UPPER) - k * LN_2_LOWER;
    let mut series = 1.0 / 3_628_800.0;
    for factorial in [
        362_880.0, 40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0,
    ] {
        series = series * r + 1.0 / factorial;
    }
    // The bits of 2^k: k stands in the last bits of `shifted`.
    series * f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_a_relative_error_of_1e_13() {
        for i in 0..70_000 {
            let t = f64::from(i) * 0.01 + 1e-7;
            let expected = libm::exp(-t);
            let found = exp_of_negative(t);
            assert!(
                (found - expected).abs() <= 3e-13 * expected,
                "{t}: {found} {expected}"
            );
        }
        assert!((exp_of_negative(0.0) - 1.0).abs() < f64::MIN_POSITIVE);
        assert!(exp_of_negative(1e300) < 1e-303 && exp_of_negative(1e300) >= 0.0);
        assert!(exp_of_negative(f64::INFINITY) < 1e-303);
    }
}
