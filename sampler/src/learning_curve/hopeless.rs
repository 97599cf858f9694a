//! Which losses on the way are hopeless: thresholds at which a training may be ended.

use super::{CurveModel, Point, end, is_alive, up_to};

/// Curves that have ended, needed before any loss is called hopeless.
const FEWEST_REFERENCES: usize = 8;

/// A loss that is hopeless at a budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Where it is looked at.
    pub at: f64,
    /// This loss, and every larger one, ends below the target with less than the probability asked for.
    pub loss: f64,
    /// How a training that is ended there would probably have ended, at least.
    pub forecast: f64,
}

/// At each of some budgets the smallest loss, of those seen there, from which on a training ends below `target` with a
/// probability of less than `least`; nothing where no loss is hopeless or fewer than eight curves have ended.
///
/// Only the loss at that budget counts, not the way there, so that who trains has one comparison to make.
///
/// # Shapes
/// As in [`CurveModel::new`]; `budgets` below `until`.
pub fn hopeless<'a>(
    curves: impl Iterator<Item = &'a [Point]>,
    budgets: &[f64],
    until: f64,
    target: f64,
    least: f64,
) -> Vec<Threshold> {
    let curves: Vec<&[Point]> = curves.collect();
    let threshold = |at: &f64| {
        let pairs: Vec<Vec<Point>> = curves
            .iter()
            .filter(|curve| is_alive(curve, *at))
            .filter_map(|curve| {
                let here = Point {
                    budget: *at,
                    ..*up_to(curve, *at).last()?
                };
                let loss = end(curve, until)?;
                Some(vec![
                    here,
                    Point {
                        budget: until,
                        loss,
                    },
                ])
            })
            .collect();
        let model = CurveModel::new(pairs.iter().map(Vec::as_slice), *at, until);
        if model.num_references() < FEWEST_REFERENCES {
            return None;
        }
        let mut seen: Vec<f64> = pairs.iter().map(|pair| pair[0].loss).collect();
        seen.sort_unstable_by(f64::total_cmp);
        let mut found = None;
        for loss in seen.into_iter().rev() {
            let forecast = model.forecast(&[Point { budget: *at, loss }])?;
            if forecast.probability_below(target) >= least {
                break;
            }
            found = Some(Threshold {
                at: *at,
                loss,
                forecast: forecast.median(),
            });
        }
        found
    };
    budgets.iter().filter_map(threshold).collect()
}
