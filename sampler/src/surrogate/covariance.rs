//! The training points by dimension, and what a point has to do with all of them: the inner loops of the model.
//!
//! For each training point i, with u = x - ½ for numbers and ordinals:
//!
//! ```text
//! ρ² = Σ_j (Δ_j / ℓ_j)²
//! Σ_j φ_j(x)·φ_j(x_i):   number      12 u u_i + 90 (u² - 1/12) (u_i² - 1/12)
//!                        category    1 where equal, else -1/(c-1)          c levels
//!                        inactive    0
//! ```
//! Loops go over blocks of [`LANES`] training points, so that sums stay in registers and the compiler vectorises them;
//! columns are filled up to whole blocks. Only arithmetic in a fixed order: every platform gives the same bits.

use super::cholesky::dot;
use super::features::{Features, LINE, PARABOLA};
use crate::kde::Dimension;

/// Training points that are worked on together.
const LANES: usize = 8;
/// Mean of u² over the range.
const MEAN_SQUARE: f64 = 1.0 / 12.0;

/// The training points.
#[derive(Debug)]
pub(super) struct TrainingPoints {
    n: usize,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    kind: Kind,
    /// 1/ℓ.
    weight: f64,
    /// u, 0 where inactive; or the level.
    values: Vec<f64>,
    /// 1 where active, 0 where not; `None` where always active.
    is_active: Option<Vec<f64>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Number,
    Category {
        /// Product of the main effects of two levels that differ.
        different: f64,
    },
    /// One level only.
    Nothing,
}

/// What [`TrainingPoints::slopes`] sums up, by training point, filled up to whole blocks.
#[derive(Debug)]
pub(super) struct Weights {
    /// Of the differences, for the mean.
    mean: Vec<f64>,
    /// Of the differences, for the variance.
    variance: Vec<f64>,
    /// Of the main effects, for the variance.
    effects: Vec<f64>,
    /// Their sums.
    totals: [f64; 3],
}

/// Derivatives by one coordinate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slopes {
    /// `Σ mean (x - x_i) / ℓ²`.
    pub(super) mean: f64,
    /// `Σ variance (x - x_i) / ℓ²`.
    pub(super) variance: f64,
    /// `Σ effects φ'(x)·φ(x_i)`.
    pub(super) effects: f64,
}

/// Σ weight, Σ weight u and Σ weight u² over the training points in which a dimension is active.
pub(super) type Moments = [f64; 3];

impl TrainingPoints {
    pub(super) fn new(features: &Features, inverse_lengths: &[f64], points: &[&[f64]]) -> Self {
        let padded = points.len().next_multiple_of(LANES);
        let columns = features.dimensions.iter().zip(inverse_lengths).enumerate();
        let column = |(j, (dimension, weight)): (usize, (&Dimension, &f64))| {
            let kind = match *dimension {
                Dimension::Unordered { levels: 0 | 1 } | Dimension::Ordered { levels: 0 | 1 } => {
                    Kind::Nothing
                }
                Dimension::Continuous | Dimension::Ordered { .. } => Kind::Number,
                Dimension::Unordered { levels } => Kind::Category {
                    different: -1.0 / (levels as f64 - 1.0),
                },
            };
            let value = |x: f64| match kind {
                _ if x.is_nan() => 0.0,
                Kind::Number => x - 0.5,
                Kind::Category { .. } | Kind::Nothing => x,
            };
            let mut values: Vec<f64> = points.iter().map(|p| value(p[j])).collect();
            values.resize(padded, 0.0);
            let is_always_active = points.iter().all(|p| !p[j].is_nan());
            let is_active = (!is_always_active).then(|| {
                let active = points.iter().map(|p| f64::from(u8::from(!p[j].is_nan())));
                active.chain(std::iter::repeat(0.0)).take(padded).collect()
            });
            Column {
                kind,
                weight: *weight,
                values,
                is_active,
            }
        };
        Self {
            n: points.len(),
            columns: columns.map(column).collect(),
        }
    }

    pub(super) fn num_dimensions(&self) -> usize {
        self.columns.len()
    }

    /// ρ² and the sum of the products of main effects, of a point with each of the first `count` training points;
    /// returns the point's own sum of squared main effects.
    pub(super) fn compare(
        &self,
        point: &[f64],
        count: usize,
        rho2: &mut Vec<f64>,
        effects: &mut Vec<f64>,
    ) -> f64 {
        debug_assert!(count <= self.n, "there are so many training points");
        let padded = count.next_multiple_of(LANES);
        // Numbers that are active everywhere: column, u, 1/ℓ, and the effects' factors of u_i and u_i².
        let mut plain: Vec<(&[f64], [f64; 4])> = Vec::with_capacity(self.columns.len());
        let mut others: Vec<(&Column, f64)> = Vec::new();
        let mut constant = 0.0;
        let mut own = 0.0;
        for (column, x) in self.columns.iter().zip(point) {
            if column.kind == Kind::Number && column.is_active.is_none() && !x.is_nan() {
                let [u, by_u, by_square] = number(*x);
                constant -= by_square * MEAN_SQUARE;
                own += u * (by_u + by_square * u) - by_square * MEAN_SQUARE;
                plain.push((
                    &column.values[..padded],
                    [u, column.weight, by_u, by_square],
                ));
            } else if column.kind != Kind::Nothing {
                others.push((column, *x));
            }
        }
        rho2.clear();
        rho2.resize(padded, 0.0);
        effects.clear();
        effects.resize(padded, constant);
        let (rho2_blocks, _) = rho2.as_chunks_mut::<LANES>();
        let (effects_blocks, _) = effects.as_chunks_mut::<LANES>();
        for (block, (rho2, effects)) in rho2_blocks.iter_mut().zip(effects_blocks).enumerate() {
            let (mut distance, mut product) = (*rho2, *effects);
            for (column, [u, weight, by_u, by_square]) in &plain {
                let (column, _) = column[block * LANES..].as_chunks::<LANES>();
                let other = &column[0];
                for i in 0..LANES {
                    let z = (u - other[i]) * weight;
                    distance[i] += z * z;
                    product[i] += other[i] * (by_u + by_square * other[i]);
                }
            }
            (*rho2, *effects) = (distance, product);
        }
        for (column, x) in others {
            own += column.compare(x, rho2, effects);
        }
        rho2.truncate(count);
        effects.truncate(count);
        own
    }

    /// The moments of weights in a dimension.
    pub(super) fn moments(&self, j: usize, weights: &[f64]) -> Moments {
        let column = &self.columns[j];
        let mut moments = [0.0; 3];
        for (i, (weight, u)) in weights.iter().zip(&column.values).enumerate() {
            let active = column.is_active.as_ref().map_or(1.0, |active| active[i]);
            moments[0] += weight * active;
            moments[1] += weight * u;
            moments[2] += weight * u * u;
        }
        moments
    }

    /// Derivatives by coordinate j of a point; `None` for categories and where it is inactive.
    pub(super) fn slopes(&self, j: usize, x: f64, weights: &Weights) -> Option<Slopes> {
        let column = &self.columns[j];
        if column.kind != Kind::Number || x.is_nan() {
            return None;
        }
        let (values, _) = column.values.as_chunks::<LANES>();
        let (by_mean, _) = weights.mean.as_chunks::<LANES>();
        let (by_variance, _) = weights.variance.as_chunks::<LANES>();
        let (by_effects, _) = weights.effects.as_chunks::<LANES>();
        let mut sums = [[0.0; LANES]; 4];
        for (block, u) in values.iter().enumerate() {
            let (mean, variance, effects) =
                (&by_mean[block], &by_variance[block], &by_effects[block]);
            for i in 0..LANES {
                let first = effects[i] * u[i];
                sums[0][i] += mean[i] * u[i];
                sums[1][i] += variance[i] * u[i];
                sums[2][i] += first;
                sums[3][i] += first * u[i];
            }
        }
        let [mean, variance, effects, effects_square] = sums.map(|lanes| lanes.iter().sum::<f64>());
        let totals = match &column.is_active {
            None => weights.totals,
            Some(active) => [
                dot(active, &weights.mean),
                dot(active, &weights.variance),
                dot(active, &weights.effects),
            ],
        };
        let square = column.weight * column.weight;
        let u = x - 0.5;
        Some(Slopes {
            mean: square * (u * totals[0] - mean),
            variance: square * (u * totals[1] - variance),
            effects: effects_slope(x, [totals[2], effects, effects_square]),
        })
    }
}

/// `Σ weight φ'(x)·φ(x_i)`, for a number.
pub(super) fn effects_slope(x: f64, [sum, first, second]: Moments) -> f64 {
    let parabola = 2.0 * PARABOLA * PARABOLA * (x - 0.5);
    LINE * LINE * first + parabola * (second - sum * MEAN_SQUARE)
}

/// `φ'(x)·φ(x)`, for a number.
pub(super) fn own_slope(x: f64) -> f64 {
    let u = x - 0.5;
    effects_slope(x, [1.0, u, u * u])
}

impl Weights {
    /// From α, the weights of the covariances in the variance, and the slopes of the covariances by ½ρ².
    pub(super) fn new(
        alpha: &[f64],
        by_covariance: impl Iterator<Item = f64>,
        slopes: &[f64],
    ) -> Self {
        let padded = slopes.len().next_multiple_of(LANES);
        let mut effects: Vec<f64> = Vec::with_capacity(padded);
        effects.extend(by_covariance);
        let times_slopes = |weights: &[f64]| {
            let mut product: Vec<f64> = Vec::with_capacity(padded);
            product.extend(
                weights
                    .iter()
                    .zip(slopes)
                    .map(|(weight, slope)| weight * slope),
            );
            product.resize(padded, 0.0);
            product
        };
        let (mean, variance) = (times_slopes(alpha), times_slopes(&effects));
        effects.resize(padded, 0.0);
        let totals = [&mean, &variance, &effects].map(|weights| weights.iter().sum());
        Self {
            mean,
            variance,
            effects,
            totals,
        }
    }
}

impl Column {
    /// Adds a dimension that is a category, or inactive somewhere; returns the point's own squared main effect.
    fn compare(&self, x: f64, rho2: &mut [f64], effects: &mut [f64]) -> f64 {
        let weight2 = self.weight * self.weight;
        let active = |i: usize| self.is_active.as_ref().map_or(1.0, |active| active[i]);
        let sums = rho2.iter_mut().zip(effects).zip(&self.values).enumerate();
        match self.kind {
            _ if x.is_nan() => {
                for (i, ((rho2, _), _)) in sums {
                    *rho2 += active(i) * weight2;
                }
                0.0
            }
            Kind::Number => {
                let [u, by_u, by_square] = number(x);
                for (i, ((rho2, effects), other)) in sums {
                    let active = active(i);
                    let step = u - other;
                    *rho2 += weight2 * (active * (step * step) + (1.0 - active));
                    *effects +=
                        other * (by_u + by_square * other) - active * by_square * MEAN_SQUARE;
                }
                u * (by_u + by_square * u) - by_square * MEAN_SQUARE
            }
            Kind::Category { different } => {
                for (i, ((rho2, effects), other)) in sums {
                    let active = active(i);
                    let is_same = active > 0.5 && (x - other).abs() < 0.5;
                    *rho2 += if is_same { 0.0 } else { weight2 };
                    *effects += if is_same { 1.0 } else { active * different };
                }
                1.0
            }
            Kind::Nothing => 0.0,
        }
    }
}

/// u, and the factors of `u_i` and `u_i²` in the product of main effects.
fn number(x: f64) -> [f64; 3] {
    let u = x - 0.5;
    [
        u,
        LINE * LINE * u,
        PARABOLA * PARABOLA * (u * u - MEAN_SQUARE),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{dimensions, observations};
    use super::*;

    #[test]
    fn points_are_compared_as_the_features_say() {
        let features = Features::new(&dimensions());
        for n in [1, 7, 8, 21] {
            let observations = observations(n, 5);
            let points: Vec<&[f64]> = observations.iter().map(|o| o.point.as_slice()).collect();
            let inverse_lengths: Vec<f64> = (1..=features.num_dimensions())
                .map(|j| 0.7 * j as f64)
                .collect();
            let columns = TrainingPoints::new(&features, &inverse_lengths, &points);
            let (mut rho2, mut effects) = (Vec::new(), Vec::new());
            for a in &points {
                let own = columns.compare(a, n, &mut rho2, &mut effects);
                let of_a = features.effects(a);
                assert!((own - dot(&of_a, &of_a)).abs() < 1e-12);
                for (i, b) in points.iter().enumerate() {
                    let expected: f64 = (0..features.num_dimensions())
                        .map(|j| {
                            let weight = inverse_lengths[j];
                            features.squared_difference(j, a[j], b[j]) * weight * weight
                        })
                        .sum();
                    assert!((rho2[i] - expected).abs() < 1e-12, "{a:?} {b:?}");
                    let expected = dot(&of_a, &features.effects(b));
                    assert!((effects[i] - expected).abs() < 1e-12, "{a:?} {b:?}");
                }
            }
        }
    }
}
