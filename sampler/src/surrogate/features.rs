//! From vectors of the space to points of the model: distances, main effects, and the kernel between them.

use crate::kde::Kernel;

/// √5.
const SQRT_5: f64 = 2.236_067_977_499_79;
/// √12: a straight line of variance 1 over [0, 1].
pub(super) const LINE: f64 = 3.464_101_615_137_754_4;
/// √180 / √2: a parabola of variance 1/2 over [0, 1].
pub(super) const PARABOLA: f64 = 9.486_832_980_505_138;

/// How vectors of the space become points of the model.
#[derive(Debug, Clone)]
pub struct Features {
    pub(super) kernels: Vec<Kernel>,
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

    /// The vector of a point; ordinals at their nearest level.
    pub fn to_vector(&self, point: &[f64]) -> Vec<f64> {
        let scaled = point
            .iter()
            .zip(&self.kernels)
            .map(|(x, kernel)| match kernel {
                Kernel::Continuous | Kernel::Unordered { .. } => *x,
                Kernel::Ordered { levels } => (x * levels.saturating_sub(1) as f64).round(),
            });
        scaled.collect()
    }

    /// φ of a point, all dimensions one after the other.
    pub(super) fn effects(&self, point: &[f64]) -> Vec<f64> {
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

    /// `Δ_j²`.
    pub(super) fn squared_difference(&self, j: usize, a: f64, b: f64) -> f64 {
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

/// k at ρ², and ℓ ∂k/∂ℓ divided by (Δ/ℓ)²: 5/3 (1 + √5 ρ) exp(-√5 ρ).
pub(super) fn matern(rho2: f64) -> (f64, f64) {
    let t = SQRT_5 * rho2.sqrt();
    let decay = libm::exp(-t);
    (
        (1.0 + t + 5.0 / 3.0 * rho2) * decay,
        5.0 / 3.0 * (1.0 + t) * decay,
    )
}
