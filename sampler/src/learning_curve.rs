//! How a training will probably end, after a part of it: learning curves extrapolated by those that have ended.
//!
//! ```text
//! y        a loss in units of the losses known: linear below their median, logarithmic above        [`units`]
//! last, s  a curve's last y, and its slope per e-fold of budget there by all of its points          [`shape`]
//! Δ        y at the end - last = b₀ + b₁ g s + b₂ (last - mean last)                                [`regression`]
//! g        (1 - (b / B)^½) / ½: what a power law with exponent -½ still gains from budget b to B, in units of its slope
//! σ(x)²    squared errors of the curves most like this one, each foretold by the others
//! y at the end = last + Δ + σ E,   E: errors / σ of the curves that have ended, mixed with Student's t
//! ```
//! b is the ridge estimate around (0, 1, 0), that is around the power law, each coefficient held by as much as one
//! more curve would: with no curve that has ended the power law is all there is. Errors are those of leaving one out, so that
//! intervals hold what they promise for curves that are exchangeable with those that have ended, whatever the
//! distribution: quantiles between order statistics are those of split conformal prediction.
//!
//! A curve that has diverged stays so. The probability that one diverges later is the share of such curves among those
//! most like it.
//!
//! Range of validity: any number of curves and points. No change when every loss is shifted or multiplied (but for
//! rounding). Equal losses: that loss, with certainty. One point: no slope. Curves in a search that were chosen for being good are not
//! exchangeable with others: the local σ makes up for a part of that.
//!
//! # Source
//! Power laws of learning curves: Domhan, Springenberg and Hutter 2015. Errors of leaving one out as intervals: Barber et al. 2021
//! (jackknife+); near the curve in question: Guan 2023 (localized conformal prediction).

mod forecast;
mod hopeless;
mod regression;
mod shape;
mod units;

pub use forecast::Forecast;
pub use hopeless::{Threshold, hopeless};

use regression::{Features, Ridge};
use shape::Shape;
use units::Units;

/// A point of a learning curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Budget spent, positive, in any unit.
    pub budget: f64,
    /// Loss then; infinite: it had diverged.
    pub loss: f64,
}

/// Curves that have ended and are looked at, at most: the newest ones.
const MOST_REFERENCES: usize = 100;
/// How many ends the units are taken from, at least; of fewer the points so far count as well.
const FEWEST_ENDS: usize = 4;
/// Weight of the error as a whole beside the local one, in curves.
const GLOBAL_WEIGHT: f64 = 4.0;
/// The deviation that is believed in before anything has ended: this, and as much of the expected change.
const PRIOR_DEVIATION: f64 = 1.0;

/// What curves that have ended say of those under way.
#[derive(Debug, Clone)]
pub struct CurveModel {
    until: f64,
    units: Units,
    ridge: Ridge,
    /// Mean of the last y's.
    mean_last: f64,
    /// Standard deviations of the last y's and of the expected changes: the scale of likeness.
    spread: [f64; 2],
    references: Vec<Reference>,
    /// Sorted.
    errors: Vec<f64>,
}

/// A curve that has ended.
#[derive(Debug, Clone)]
struct Reference {
    /// Last y and expected change.
    place: [f64; 2],
    /// What leaving it out would have erred by; `None`: it diverged.
    error: Option<f64>,
}

impl CurveModel {
    /// Learns from curves how those that have got to budget `at` are at budget `until`.
    ///
    /// Points beyond `until` are not looked at; curves without a point up to `at` say nothing.
    ///
    /// # Shapes
    /// Points ascending in budget; the newest curve last.
    pub fn new<'a>(
        curves: impl DoubleEndedIterator<Item = &'a [Point]> + Clone,
        at: f64,
        until: f64,
    ) -> Self {
        let ended = |curve: &&[Point]| end(curve, until).is_some() && is_alive(curve, at);
        let mut ends: Vec<&[Point]> = curves
            .clone()
            .rev()
            .filter(ended)
            .take(MOST_REFERENCES)
            .collect();
        ends.reverse();
        let mut losses: Vec<f64> = ends.iter().filter_map(|c| end(c, until)).collect();
        losses.retain(|loss| loss.is_finite());
        if losses.len() < FEWEST_ENDS {
            let lasts = curves.filter_map(|curve| up_to(curve, at).last());
            losses.extend(lasts.map(|p| p.loss).filter(|loss| loss.is_finite()));
        }
        let units = Units::of(losses);
        let shapes: Vec<Shape> = ends
            .iter()
            .filter_map(|curve| Shape::of(up_to(curve, at), until, &units))
            .collect();
        let mean_last = mean(shapes.iter().map(|s| s.last));
        let mut model = Self {
            until,
            spread: [
                deviation(shapes.iter().map(|s| s.last)),
                deviation(shapes.iter().map(|s| s.change)),
            ],
            ridge: Ridge::default(),
            mean_last,
            units,
            references: Vec::new(),
            errors: Vec::new(),
        };
        let final_y = |curve: &[Point]| end(curve, until).filter(|x| x.is_finite());
        let known: Vec<(Features, f64)> = shapes
            .iter()
            .zip(&ends)
            .filter_map(|(s, curve)| {
                Some((model.features(s), units.of_loss(final_y(curve)?) - s.last))
            })
            .collect();
        model.ridge = Ridge::new(&known);
        model.references = shapes
            .iter()
            .zip(&ends)
            .map(|(s, curve)| Reference {
                place: [s.last, s.change],
                error: final_y(curve).map(|loss| {
                    model
                        .ridge
                        .left_out_error(&model.features(s), units.of_loss(loss) - s.last)
                }),
            })
            .collect();
        model.errors = (0..model.references.len())
            .filter_map(|i| {
                let Reference { place, error } = model.references[i];
                Some(error? / model.deviation(place, Some(i)).max(f64::MIN_POSITIVE))
            })
            .collect();
        model.errors.sort_unstable_by(f64::total_cmp);
        model
    }

    /// How many curves that have ended it knows.
    pub fn num_references(&self) -> usize {
        self.references.len()
    }

    /// How a curve will probably end; `None` where it has no point.
    ///
    /// # Shapes
    /// Points ascending in budget, about as far as the model's `at`; one that has ended is its own forecast.
    pub fn forecast(&self, curve: &[Point]) -> Option<Forecast<'_>> {
        let last = curve.last()?;
        // Where all losses are equal there is nothing to learn from.
        let stays = (!last.loss.is_finite() || self.units.is_flat()).then_some(last.loss);
        let ended = end(curve, self.until).or(stays);
        let shape = match ended {
            None => Shape::of(curve, self.until, &self.units)?,
            Some(_) => Shape::default(),
        };
        let place = [shape.last, shape.change];
        Some(Forecast {
            units: self.units,
            centre: shape.last + self.ridge.predict(&self.features(&shape)),
            deviation: self.deviation(place, None),
            diverging: if last.loss.is_finite() {
                self.diverging(place)
            } else {
                1.0
            },
            errors: &self.errors,
            ended,
        })
    }

    fn features(&self, shape: &Shape) -> Features {
        [1.0, shape.change, shape.last - self.mean_last]
    }

    /// How much references are like a curve, from 0 to 1: normal kernels with Silverman's bandwidth for two dimensions.
    fn likeness(&self, place: [f64; 2]) -> impl Iterator<Item = f64> {
        let n = self.references.len() as f64;
        let inverse = libm::pow(n, 1.0 / 3.0);
        self.references.iter().map(move |reference| {
            let squares = (0..2).map(|k| {
                let distance =
                    (place[k] - reference.place[k]) / self.spread[k].max(f64::MIN_POSITIVE);
                distance * distance
            });
            libm::exp(-0.5 * inverse * squares.sum::<f64>())
        })
    }

    /// The deviation of the error at a place, as seen without one of the references.
    fn deviation(&self, place: [f64; 2], without: Option<usize>) -> f64 {
        let prior = PRIOR_DEVIATION * (1.0 + place[1].abs());
        let (mut squares, mut count) = (prior * prior, 1.0);
        let (mut near, mut weight) = (0.0, 0.0);
        for ((i, reference), likeness) in
            self.references.iter().enumerate().zip(self.likeness(place))
        {
            let Some(error) = reference.error.filter(|_| Some(i) != without) else {
                continue;
            };
            squares += error * error;
            count += 1.0;
            near += likeness * error * error;
            weight += likeness;
        }
        let overall = squares / count;
        ((near + GLOBAL_WEIGHT * overall) / (weight + GLOBAL_WEIGHT)).sqrt()
    }

    /// The probability that a curve at a place diverges before the end.
    fn diverging(&self, place: [f64; 2]) -> f64 {
        let diverged = self.references.iter().filter(|r| r.error.is_none()).count();
        if diverged == 0 {
            return 0.0;
        }
        let share = diverged as f64 / (self.references.len() as f64 + 1.0);
        let (mut near, mut weight) = (0.0, 0.0);
        for (reference, likeness) in self.references.iter().zip(self.likeness(place)) {
            near += if reference.error.is_none() {
                likeness
            } else {
                0.0
            };
            weight += likeness;
        }
        (near + GLOBAL_WEIGHT * share) / (weight + GLOBAL_WEIGHT)
    }
}

/// The points up to a budget.
fn up_to(curve: &[Point], budget: f64) -> &[Point] {
    &curve[..curve.partition_point(|p| p.budget <= budget * (1.0 + 1e-9))]
}

/// The loss at a budget, if the curve has got there.
fn end(curve: &[Point], budget: f64) -> Option<f64> {
    let last = up_to(curve, budget).last()?;
    let has_ended = last.budget >= budget * (1.0 - 1e-9) || !last.loss.is_finite();
    has_ended.then_some(last.loss)
}

/// Whether there is a point up to a budget, and it had not diverged there.
fn is_alive(curve: &[Point], budget: f64) -> bool {
    up_to(curve, budget)
        .last()
        .is_some_and(|p| p.loss.is_finite())
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

fn deviation(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let centre = mean(values.clone());
    mean(values.map(|x| (x - centre) * (x - centre))).sqrt()
}
