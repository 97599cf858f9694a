//! What a curve is like so far: where it stands, and how steep it is there, by all of its points.
//!
//! ```text
//! y(b) = a + s h(b),   h(b) = (1 - (b / B)^-½) / ½       B: budget of the last point; s: slope per e-fold of b at B
//! minimises Σ (b / B) (y - a - s h)²                     late points count more
//! change = s g,   g = (1 - (B / until)^½) / ½            what that power law still changes by
//! last   = y of the last point
//! ```
//! Range of validity: one point at least. One: slope 0. Points before a divergence only.

use super::Point;
use super::units::Units;

/// -½ is the exponent of the law.
const POWER: f64 = 0.5;

/// What a curve is like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Shape {
    /// Where it stands.
    pub(super) last: f64,
    /// By how much it is to change until the end.
    pub(super) change: f64,
}

impl Shape {
    /// Of points that are ascending in budget, finite ones; `None` of none.
    pub(super) fn of(points: &[Point], until: f64, units: &Units) -> Option<Self> {
        let end = points.last()?;
        let last = units.of_loss(end.loss);
        let (mut w, mut h1, mut h2, mut y1, mut hy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for point in points {
            let share = point.budget / end.budget;
            let h = (1.0 - 1.0 / share.sqrt()) / POWER;
            // Relative to the last: sums of small numbers.
            let y = units.of_loss(point.loss) - last;
            w += share;
            h1 += share * h;
            h2 += share * h * h;
            y1 += share * y;
            hy += share * h * y;
        }
        let determinant = w * h2 - h1 * h1;
        // One point, or one budget again and again.
        let slope = if determinant > 1e-12 * w * h2 {
            (w * hy - h1 * y1) / determinant
        } else {
            0.0
        };
        let rest = (1.0 - (end.budget / until).min(1.0).sqrt()) / POWER;
        Some(Self {
            last,
            change: slope * rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units() -> Units {
        // Median 0, spread 1 below.
        Units::of(vec![-1.281_551_565_544_600_4, 0.0, 1.0])
    }

    #[test]
    fn a_power_law_is_followed_to_its_end() {
        // y = -2 + b^-½: at 4 -1.5, at 16 -1.75.
        let curve: Vec<Point> = [1.0_f64, 2.0, 3.0, 4.0]
            .map(|budget| Point {
                budget,
                loss: -2.0 + 1.0 / budget.sqrt(),
            })
            .to_vec();
        let shape = Shape::of(&curve, 16.0, &units()).unwrap();
        assert!((shape.last + 1.5).abs() < 1e-12, "{shape:?}");
        assert!((shape.change + 0.25).abs() < 1e-12, "{shape:?}");
    }

    #[test]
    fn one_point_has_no_slope_and_none_no_shape() {
        let point = Point {
            budget: 3.0,
            loss: -1.0,
        };
        let shape = Shape::of(&[point], 9.0, &units()).unwrap();
        assert!((shape.last + 1.0).abs() < 1e-15 && shape.change.abs() < 1e-15);
        assert_eq!(Shape::of(&[point, point], 9.0, &units()), Some(shape));
        assert_eq!(Shape::of(&[], 9.0, &units()), None);
    }
}
