//! Losses in units of those known: of the order of 1 around 0, without far outliers above.
//!
//! ```text
//! y = t below 0, ln(1 + t) above      t = (loss - median) / spread,  spread = (median - 10 % quantile) / 1.2816
//! ```
//! Range of validity: any finite losses. Equal losses: spread 0, and every y is 0.

/// Distance from the median to the 10 % quantile of the standard normal distribution.
const TENTH: f64 = 1.281_551_565_544_600_4;
/// Two losses may be further apart than the largest number; quarters of them are not.
const QUARTER: f64 = 0.25;
/// Where y ends, so that its squares can be summed.
const FURTHEST: f64 = 1e3;

/// The units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Units {
    /// Of a quarter of the losses.
    median: f64,
    spread: f64,
}

impl Units {
    /// Of finite losses.
    pub(super) fn of(losses: Vec<f64>) -> Self {
        let mut quarters: Vec<f64> = losses.into_iter().map(|loss| QUARTER * loss).collect();
        quarters.sort_unstable_by(f64::total_cmp);
        let (Some(smallest), Some(largest)) = (quarters.first(), quarters.last()) else {
            return Self {
                median: 0.0,
                spread: 0.0,
            };
        };
        let median = quarters[quarters.len() / 2];
        let spreads = [
            (median - quarters[quarters.len() / 10]) / TENTH,
            largest - smallest,
        ];
        Self {
            median,
            spread: spreads.into_iter().find(|x| *x > 0.0).unwrap_or(0.0),
        }
    }

    /// y of a finite loss.
    pub(super) fn of_loss(&self, loss: f64) -> f64 {
        let distance = QUARTER * loss - self.median;
        if self.spread <= 0.0 {
            return 0.0;
        }
        let t = (distance / self.spread).clamp(-FURTHEST, f64::MAX);
        if t > 0.0 { libm::log1p(t) } else { t }
    }

    /// The loss of a y, finite.
    pub(super) fn loss(&self, y: f64) -> f64 {
        let t = if y > 0.0 {
            libm::expm1(y.min(FURTHEST))
        } else {
            y
        };
        ((self.median + self.spread * t) / QUARTER).clamp(f64::MIN, f64::MAX)
    }

    /// Whether all losses are equal.
    pub(super) fn is_flat(&self) -> bool {
        self.spread <= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_come_back_and_keep_their_order() {
        let units = Units::of(vec![1.0, 2.0, 3.0, 4.0, 1e300]);
        // Median 3, 10 % quantile 1: spread 2 / 1.2816.
        assert!((units.of_loss(1.0) + TENTH).abs() < 1e-12);
        assert!((units.of_loss(3.0 + 2.0 / TENTH) - std::f64::consts::LN_2).abs() < 1e-12);
        let mut before = f64::NEG_INFINITY;
        for loss in [-1e3, 0.0, 1.0, 2.5, 3.0, 3.5, 1e6, 1e300] {
            let y = units.of_loss(loss);
            assert!(y > before);
            before = y;
            assert!(
                (units.loss(y) - loss).abs() < 1e-12 * loss.abs().max(1.0),
                "{loss}"
            );
        }
    }

    #[test]
    fn equal_losses_and_the_largest_numbers_have_finite_units() {
        let flat = Units::of(vec![7.0; 5]);
        assert!(flat.of_loss(7.0).abs() < 1e-15 && (flat.loss(0.0) - 7.0).abs() < 1e-15);
        assert!(flat.is_flat());
        let wide = Units::of(vec![f64::MAX, f64::MIN, 0.0, 1.0]);
        for loss in [f64::MAX, f64::MIN, 0.0] {
            assert!(wide.of_loss(loss).is_finite() && wide.loss(wide.of_loss(loss)).is_finite());
        }
        assert!(Units::of(Vec::new()).of_loss(3.0).abs() < 1e-15);
    }
}
