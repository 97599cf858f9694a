//! Product kernel density estimates over mixed vectors, in log space.
//!
//! ```text
//! f(x) = 1/n Σᵢ Πⱼ K(xⱼ, Xᵢⱼ; hⱼ)
//! continuous   K = exp(-½ ((x - X)/h)²) / (h √(2π))                 Gaussian, over the whole line
//! unordered    K = 1 - h if x = X, else h/(c-1)                     Aitchison and Aitken 1976, c levels
//! ordered      K = 1 - h if x = X, else ½ (1-h) h^|x - X|           Wang and van Ryzin 1981, over all integers
//! ```
//! n: rows; d: dimensions; hⱼ: `bandwidths[j]`; X: `rows`. These are the forms of statsmodels' `KDEMultivariate`, which
//! HpBandSter uses; its file of reference values is in `tests/golden`.
//!
//! Range of validity: h > 0 for continuous, 0 ≤ h ≤ 1 for the others (statsmodels goes negative above; [`fit`] never
//! does). An unordered dimension with one level has K = 1, where the form would divide 0 by 0. Equal rows are fine;
//! [`fit`] bounds their bandwidth, which the rule would make 0, from below. One row gives that row's kernel. No row
//! gives no density: [`Density::new`] refuses.
//!
//! Everything is a sum of logarithms, so 200 dimensions neither underflow nor overflow. Elementary functions come from
//! `libm`, and sums have a fixed order: every platform gives the same bits.
//!
//! [`fit`]: Density::fit

use shared::SearchSpace;
use shared::space::Kind;

use crate::normal::LN_SQRT_TWO_PI;

/// What kind of dimension it is, which decides its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// Gaussian.
    Continuous,
    /// Aitchison-Aitken.
    Unordered {
        /// How many levels there are: c.
        levels: usize,
    },
    /// Wang-Ryzin.
    Ordered {
        /// How many levels there are.
        levels: usize,
    },
}

impl Dimension {
    /// The dimensions of a space; levels are counted from the space, not from the data.
    pub(crate) fn of_space(space: &SearchSpace) -> Vec<Self> {
        space
            .dimensions()
            .map(|h| match &h.kind {
                Kind::Float { .. } | Kind::Integer { .. } => Self::Continuous,
                Kind::Categorical { choices } => Self::Unordered {
                    levels: choices.len(),
                },
                Kind::Ordinal { sequence } => Self::Ordered {
                    levels: sequence.len(),
                },
                Kind::Constant { .. } => unreachable!("constants are no dimensions"),
            })
            .collect()
    }

    /// How many levels there are; `None` for a continuous dimension.
    pub fn levels(self) -> Option<usize> {
        match self {
            Self::Continuous => None,
            Self::Unordered { levels } | Self::Ordered { levels } => Some(levels),
        }
    }

    /// The largest bandwidth that makes sense: (c-1)/c, where the unordered kernel is uniform. Beyond it, statsmodels'
    /// forms give negative densities, or prefer the levels that were *not* seen.
    pub(crate) fn largest_bandwidth(self) -> f64 {
        match self.levels() {
            None => f64::INFINITY,
            Some(levels) => (levels as f64 - 1.0) / levels as f64,
        }
    }
}

/// A density over vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Density {
    dimensions: Vec<Dimension>,
    bandwidths: Vec<f64>,
    num_rows: usize,
    /// By dimension, so that one dimension's terms are added in one sweep; continuous ones divided by their bandwidth.
    columns: Vec<f64>,
    /// The part of the logarithm that is the same for all rows: -Σ ln(hⱼ √(2π)).
    ln_constant: f64,
}

impl Density {
    /// The density with given bandwidths; `None` without rows.
    ///
    /// # Shapes
    /// `rows`: `[n, d]`, finite; `kernels` and `bandwidths`: `[d]`.
    /// # Panics
    /// If there is not one bandwidth for each kernel.
    pub fn new<R: AsRef<[f64]>>(
        dimensions: &[Dimension],
        rows: &[R],
        bandwidths: &[f64],
    ) -> Option<Self> {
        assert_eq!(
            dimensions.len(),
            bandwidths.len(),
            "one bandwidth a dimension"
        );
        if rows.is_empty() {
            return None;
        }
        let mut columns = Vec::with_capacity(rows.len() * dimensions.len());
        let mut ln_constant = 0.0;
        for (j, (dimension, h)) in dimensions.iter().zip(bandwidths).enumerate() {
            let scale = match dimension {
                Dimension::Continuous => {
                    ln_constant -= libm::log(*h) + LN_SQRT_TWO_PI;
                    1.0 / h
                }
                Dimension::Unordered { .. } | Dimension::Ordered { .. } => 1.0,
            };
            columns.extend(rows.iter().map(|row| row.as_ref()[j] * scale));
        }
        Some(Self {
            dimensions: dimensions.to_vec(),
            bandwidths: bandwidths.to_vec(),
            num_rows: rows.len(),
            columns,
            ln_constant,
        })
    }

    /// The density with bandwidths by the normal reference rule, `1.06 σⱼ n^(-1/(4+d))` with the population's standard
    /// deviation σⱼ, at least `min_bandwidth` and at most the kernel's largest; `None` without rows.
    pub fn fit<R: AsRef<[f64]>>(
        dimensions: &[Dimension],
        rows: &[R],
        min_bandwidth: f64,
    ) -> Option<Self> {
        let bandwidths: Vec<f64> = normal_reference(dimensions.len(), rows)
            .into_iter()
            .zip(dimensions)
            .map(|(h, dimension)| h.max(min_bandwidth).min(dimension.largest_bandwidth()))
            .collect();
        Self::new(dimensions, rows, &bandwidths)
    }

    /// The bandwidths.
    pub fn bandwidths(&self) -> &[f64] {
        &self.bandwidths
    }

    /// How many rows there are.
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// ln f(x).
    pub fn ln_pdf(&self, point: &[f64]) -> f64 {
        self.ln_pdf_into(point, &mut Vec::new())
    }

    /// As [`ln_pdf`](Self::ln_pdf), with a buffer that is used again from call to call.
    ///
    /// # Panics
    /// If the point has not one coordinate for each dimension.
    pub(crate) fn ln_pdf_into(&self, point: &[f64], terms: &mut Vec<f64>) -> f64 {
        assert_eq!(
            point.len(),
            self.dimensions.len(),
            "one coordinate a dimension"
        );
        terms.clear();
        terms.resize(self.num_rows, 0.0);
        for (j, ((dimension, h), x)) in self
            .dimensions
            .iter()
            .zip(&self.bandwidths)
            .zip(point)
            .enumerate()
        {
            let column = &self.columns[j * self.num_rows..(j + 1) * self.num_rows];
            match *dimension {
                Dimension::Continuous => {
                    let x = x / h;
                    for (term, centre) in terms.iter_mut().zip(column) {
                        let z = x - centre;
                        *term -= 0.5 * (z * z);
                    }
                }
                Dimension::Unordered { levels: 0 | 1 } => {}
                Dimension::Unordered { levels } => {
                    let same = libm::log(1.0 - h);
                    let other = libm::log(h / (levels as f64 - 1.0));
                    for (term, centre) in terms.iter_mut().zip(column) {
                        *term += if is_same(*x, *centre) { same } else { other };
                    }
                }
                Dimension::Ordered { .. } => {
                    let same = libm::log(1.0 - h);
                    let (half, ln_h) = (libm::log(0.5 * (1.0 - h)), libm::log(*h));
                    for (term, centre) in terms.iter_mut().zip(column) {
                        let steps = (x - centre).abs();
                        *term += if steps < 0.5 {
                            same
                        } else {
                            half + steps * ln_h
                        };
                    }
                }
            }
        }
        ln_sum_exp(terms) + self.ln_constant - libm::log(self.num_rows as f64)
    }
}

/// Whether two level indices, whole numbers, are the same.
fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.5
}

/// Bandwidths by the normal reference rule, unbounded.
///
/// # Shapes
/// `rows`: `[n, d]`; result: `[d]`.
pub fn normal_reference<R: AsRef<[f64]>>(num_dimensions: usize, rows: &[R]) -> Vec<f64> {
    let n = rows.len() as f64;
    let factor = 1.06 * libm::pow(n, -1.0 / (4.0 + num_dimensions as f64));
    (0..num_dimensions)
        .map(|j| {
            let column = || rows.iter().map(|row| row.as_ref()[j]);
            let mean = column().sum::<f64>() / n;
            let variance = column().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
            factor * variance.sqrt()
        })
        .collect()
}

/// A term this far below the largest is less than half an ulp of the sum, even a hundred thousand times over.
const NEGLIGIBLE: f64 = -50.0;

/// ln Σ exp(termᵢ); -∞ if there are none or all are -∞.
pub(crate) fn ln_sum_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return largest;
    }
    let sum: f64 = terms
        .iter()
        .map(|term| term - largest)
        .filter(|difference| *difference > NEGLIGIBLE)
        .map(libm::exp)
        .sum();
    largest + libm::log(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_row_gives_its_kernel() {
        let dimensions = [
            Dimension::Continuous,
            Dimension::Unordered { levels: 3 },
            Dimension::Ordered { levels: 4 },
        ];
        let density = Density::new(&dimensions, &[[0.5, 1.0, 2.0]], &[0.1, 0.3, 0.4]).unwrap();
        // Φ'(1)/0.1 · 0.3/2 · ½ (1 - 0.4) 0.4²
        let expected = 0.241_970_724_519_143_37 / 0.1 * 0.15 * 0.3 * 0.16;
        let found = density.ln_pdf(&[0.6, 0.0, 0.0]);
        assert!((found - f64::ln(expected)).abs() < 1e-13, "{found}");
        let at_it = density.ln_pdf(&[0.5, 1.0, 2.0]);
        assert!((at_it - f64::ln(3.989_422_804_014_327 * 0.7 * 0.6)).abs() < 1e-13);
        assert!(Density::new::<[f64; 3]>(&dimensions, &[], &[0.1, 0.3, 0.4]).is_none());
    }

    #[test]
    fn equal_rows_get_the_smallest_bandwidth_and_one_level_none() {
        let dimensions = [Dimension::Continuous, Dimension::Unordered { levels: 1 }];
        let density = Density::fit(&dimensions, &[[0.5, 0.0]; 5], 1e-3).unwrap();
        assert_eq!(density.bandwidths(), [1e-3, 0.0]);
        assert!((density.ln_pdf(&[0.5, 0.0]) - f64::ln(398.942_280_401_432_7)).abs() < 1e-12);
    }

    #[test]
    fn two_hundred_dimensions_neither_underflow_nor_overflow() {
        let dimensions = [Dimension::Continuous; 200];
        let density = Density::new(&dimensions, &[[0.0; 200]], &[1e-3; 200]).unwrap();
        assert!((density.ln_pdf(&[1.0; 200]) + 1e8).abs() < 2e3);
        assert!(density.ln_pdf(&[0.0; 200]) > 1e3);
    }

    #[test]
    fn nothing_is_minus_infinity() {
        for terms in [&[][..], &[f64::NEG_INFINITY; 2]] {
            let sum = ln_sum_exp(terms);
            assert!(sum.is_infinite() && sum < 0.0);
        }
        assert!((ln_sum_exp(&[1000.0, 1000.0]) - 1000.0 - 2.0_f64.ln()).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn densities_integrate_to_one(
            rows in prop::collection::vec((0.0..1.0_f64, 0u8..3), 1..12), h in 0.02..0.5_f64, share in 0.0..1.0_f64
        ) {
            let dimensions = [Dimension::Continuous, Dimension::Unordered { levels: 3 }];
            let rows: Vec<[f64; 2]> = rows.into_iter().map(|(x, level)| [x, f64::from(level)]).collect();
            let density = Density::new(&dimensions, &rows, &[h, share * 2.0 / 3.0]).unwrap();
            // The trapezoid rule on a smooth, quickly falling function: exact to rounding with a step of h/2.
            let (lower, step) = (-10.0 * h, h / 2.0);
            let mut integral = 0.0;
            let mut x = lower;
            while x < 1.0 + 10.0 * h {
                for level in 0..3 {
                    integral += step * density.ln_pdf(&[x, f64::from(level)]).exp();
                }
                x += step;
            }
            prop_assert!((integral - 1.0).abs() < 1e-9, "{integral}");
        }

        #[test]
        fn ordered_kernels_sum_to_one_over_the_integers(centre in 0u8..5, h in 0.01..0.8_f64) {
            let dimensions = [Dimension::Ordered { levels: 5 }];
            let density = Density::new(&dimensions, &[[f64::from(centre)]], &[h]).unwrap();
            let sum: f64 = (-200..200).map(|k| density.ln_pdf(&[f64::from(k)]).exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        }
    }
}
