//! Ridge regression around a prior mean, with the errors of leaving one out.
//!
//! ```text
//! b = m + A⁻¹ Xᵀ (y - X m)         A = XᵀX + Λ,   Λ_jj: mean square of feature j, as much as one more observation says
//! left-out error_i = (y_i - x_i b) / (1 - x_i A⁻¹ x_i)
//! ```
//! Range of validity: no observation: b = m.
//!
//! # Source
//! Hoerl and Kennard 1970; errors of leaving one out: Golub, Heath and Wahba 1979.

/// Constant, expected change, distance of the last y from the mean.
pub(super) const NUM_FEATURES: usize = 3;
/// The features of one curve.
pub(super) type Features = [f64; NUM_FEATURES];
/// What is believed before anything has ended: the expected change.
const PRIOR: Features = [0.0, 1.0, 0.0];

/// The fit.
#[derive(Debug, Clone, Default)]
pub(super) struct Ridge {
    coefficients: Features,
    inverse: [Features; NUM_FEATURES],
}

impl Ridge {
    /// Of features and values.
    pub(super) fn new(known: &[(Features, f64)]) -> Self {
        Self::with_penalty(known, penalty(known))
    }

    fn with_penalty(known: &[(Features, f64)], penalty: Features) -> Self {
        let mut matrix = [[0.0; NUM_FEATURES]; NUM_FEATURES];
        let mut right = [0.0; NUM_FEATURES];
        for (x, y) in known {
            let rest = y - dot(x, &PRIOR);
            for i in 0..NUM_FEATURES {
                right[i] += x[i] * rest;
                for k in 0..NUM_FEATURES {
                    matrix[i][k] += x[i] * x[k];
                }
            }
        }
        for (i, (row, penalty)) in matrix.iter_mut().zip(penalty).enumerate() {
            row[i] += penalty;
        }
        let inverse = inverse(matrix);
        let mut coefficients = PRIOR;
        for (coefficient, row) in coefficients.iter_mut().zip(&inverse) {
            *coefficient += dot(row, &right);
        }
        Self {
            coefficients,
            inverse,
        }
    }

    /// The value to be expected.
    pub(super) fn predict(&self, x: &Features) -> f64 {
        dot(x, &self.coefficients)
    }

    /// What a fit without this observation errs by, which must be one of those it was fitted on.
    pub(super) fn left_out_error(&self, x: &Features, y: f64) -> f64 {
        let leverage: f64 = x
            .iter()
            .zip(&self.inverse)
            .map(|(xi, row)| xi * dot(row, x))
            .sum();
        // Λ keeps it below 1.
        (y - self.predict(x)) / (1.0 - leverage).max(1e-6)
    }
}

/// The diagonal of Λ; a feature that is always 0 keeps the coefficient of the prior.
fn penalty(known: &[(Features, f64)]) -> Features {
    let square = |j: usize| known.iter().map(|(x, _)| x[j] * x[j]).sum::<f64>();
    std::array::from_fn(|j| {
        let mean = square(j) / known.len().max(1) as f64;
        if mean > 0.0 { mean } else { 1.0 }
    })
}

fn dot(a: &Features, b: &Features) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Of a positive definite matrix, by Gauss and Jordan.
fn inverse(mut a: [Features; NUM_FEATURES]) -> [Features; NUM_FEATURES] {
    let mut inverse = [[0.0; NUM_FEATURES]; NUM_FEATURES];
    for (i, row) in inverse.iter_mut().enumerate() {
        row[i] = 1.0;
    }
    for i in 0..NUM_FEATURES {
        let pivot = a[i][i];
        for k in 0..NUM_FEATURES {
            a[i][k] /= pivot;
            inverse[i][k] /= pivot;
        }
        let (row, inverse_row) = (a[i], inverse[i]);
        for other in (0..NUM_FEATURES).filter(|other| *other != i) {
            let factor = a[other][i];
            for k in 0..NUM_FEATURES {
                a[other][k] -= factor * row[k];
                inverse[other][k] -= factor * inverse_row[k];
            }
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<(Features, f64)> {
        [
            [0.3, 1.0],
            [-0.5, 0.2],
            [0.1, -0.9],
            [0.9, 0.4],
            [-0.2, -0.3],
        ]
        .iter()
        .zip([0.5, -0.1, 0.3, 1.4, -0.6])
        .map(|(x, y)| ([1.0, x[0], x[1]], y))
        .collect()
    }

    #[test]
    fn errors_of_leaving_one_out_are_those_of_fits_without_it() {
        let known = known();
        let fit = Ridge::new(&known);
        for i in 0..known.len() {
            let mut others = known.clone();
            let (x, y) = others.remove(i);
            // The same Λ: the identity holds for a fixed one.
            let without = Ridge::with_penalty(&others, penalty(&known));
            let error = y - without.predict(&x);
            assert!((fit.left_out_error(&x, y) - error).abs() < 1e-12, "{i}");
        }
    }

    #[test]
    fn nothing_known_is_the_prior_and_much_known_is_least_squares() {
        assert!((Ridge::new(&[]).predict(&[1.0, 0.7, 5.0]) - 0.7).abs() < 1e-15);
        let line = |x: f64| ([1.0, x, x * x], 2.0 - 3.0 * x + 0.5 * x * x);
        let many: Vec<(Features, f64)> = (0..20_000)
            .map(|i| line(f64::from(i) / 1e4 - 1.0))
            .collect();
        let fit = Ridge::new(&many);
        assert!(
            (fit.predict(&[1.0, 0.5, 0.25]) - 0.625).abs() < 1e-2,
            "{fit:?}"
        );
    }
}
