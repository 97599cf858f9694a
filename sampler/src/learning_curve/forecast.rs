//! What is said of a curve's end: a distribution, by its quantiles.

use super::units::Units;

/// Weight of Student's t beside the errors that were seen, in curves.
const PRIOR_ERRORS: f64 = 4.0;
/// Halvings of an interval in which a probability lies.
const NUM_HALVINGS: usize = 40;

/// How a training will probably end.
#[derive(Debug, Clone)]
pub struct Forecast<'a> {
    pub(super) units: Units,
    pub(super) centre: f64,
    pub(super) deviation: f64,
    pub(super) diverging: f64,
    /// Errors in units of their deviations, sorted.
    pub(super) errors: &'a [f64],
    /// How it has ended, if it has.
    pub(super) ended: Option<f64>,
}

impl Forecast<'_> {
    /// The loss that the end is below with this probability; infinite where it has then diverged.
    ///
    /// # Shapes
    /// `probability` between 0 and 1, exclusively; it rises with that.
    pub fn quantile(&self, probability: f64) -> f64 {
        if let Some(loss) = self.ended {
            return loss;
        }
        let finite = 1.0 - self.diverging;
        if probability >= finite {
            return f64::INFINITY;
        }
        let error = self.error_quantile(probability / finite);
        self.units.loss(self.centre + self.deviation * error)
    }

    /// The loss that it ends above as probably as below.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The probability that it diverges before the end.
    pub fn diverging(&self) -> f64 {
        self.diverging
    }

    /// The probability that it ends below a loss.
    pub fn probability_below(&self, loss: f64) -> f64 {
        if let Some(ended) = self.ended {
            return if ended < loss { 1.0 } else { 0.0 };
        }
        let (mut below, mut above) = (0.0, 1.0);
        for _ in 0..NUM_HALVINGS {
            let middle = f64::midpoint(below, above);
            if self.quantile(middle) < loss {
                below = middle;
            } else {
                above = middle;
            }
        }
        below
    }

    fn error_quantile(&self, p: f64) -> f64 {
        let t = student_quantile(p);
        let n = self.errors.len() as f64;
        if self.errors.is_empty() {
            return t;
        }
        (n * order_statistic(self.errors, p) + PRIOR_ERRORS * t) / (n + PRIOR_ERRORS)
    }
}

/// Between the order statistics that a further draw lies below with probabilities i / (n + 1).
fn order_statistic(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() as f64 + 1.0) - 1.0;
    let last = sorted.len() - 1;
    if place <= 0.0 {
        return sorted[0];
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and at most the number of errors"
    )]
    let below = (place as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (place - below as f64).min(1.0) * (sorted[above] - sorted[below])
}

/// Of Student's t with four degrees of freedom, divided by its standard deviation.
///
/// Source: Shaw 2006.
fn student_quantile(p: f64) -> f64 {
    let alpha = (4.0 * p * (1.0 - p)).clamp(1e-300, 1.0);
    let root = alpha.sqrt();
    let q = libm::cos(libm::acos(root) / 3.0) / root;
    (std::f64::consts::SQRT_2 * (q - 1.0).max(0.0).sqrt()).copysign(p - 0.5)
}
