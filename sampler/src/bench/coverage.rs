//! How well the ends of learning curves are foretold: by curves of the same pool, drawn at random, that have ended.
//!
//! ```text
//! inside    share of ends within the central interval that is to hold `coverage` of them
//! below     share of ends below it
//! width     mean width of the interval / (95 % - 5 % quantile of the pool's ends), both cut off at those quantiles
//! loss      Spearman's correlation of the loss so far with the end
//! forecast  the same of the forecast's median
//! ```
//! Curves that had diverged by the point are not asked about; an end that has diverged is infinite. Where no curve can be
//! asked about, there is a `-`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use rand::RngExt as _;
use rayon::prelude::*;
use shared::Seed;

use crate::bench::curve::{self, Mean};
use crate::bench::pool::Pool;
use crate::bench::problem::Problem;
use crate::learning_curve::{CurveModel, Point};
use shared::ranks::{correlation, mean_ranks};

/// Curves that are asked about, for each seed.
const NUM_ASKED: usize = 200;
const NUM_COLUMNS: usize = 5;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// What the intervals are to hold.
    pub(super) coverage: f64,
    /// The share of a curve that is known.
    pub(super) known: f64,
    /// From, to.
    pub(super) seeds: (u64, u64),
}

/// A row for each pool and number of curves that have ended.
pub(super) fn table(problems: &[Problem], ended: &[usize], asked: Asked) -> Result<String> {
    let mut text = format!(
        "{:44} {:>6} {:>16} {:>8} {:>8} {:>8} {:>8}\n",
        "ends within intervals for", asked.coverage, "inside", "below", "width", "loss", "forecast"
    );
    for problem in problems {
        let pool = problem.as_pool().context("forecasts need a pool")?;
        for count in ended {
            let seeds: Vec<u64> = (asked.seeds.0..asked.seeds.1).collect();
            let found: Vec<[f64; NUM_COLUMNS]> = seeds
                .par_iter()
                .filter_map(|seed| {
                    let seed = Seed::new(*seed).child("coverage", &problem.name);
                    of_seed(pool, problem.max_budget as f64, *count, asked, seed)
                })
                .collect();
            let column = |k: usize| {
                let values: Vec<f64> = found.iter().map(|row| row[k]).collect();
                curve::mean(&values)
            };
            let inside = cell(column(0), |m| m.to_text(3));
            write!(text, "{:44} {count:>6} {inside:>16}", problem.name)?;
            for k in 1..NUM_COLUMNS {
                let mean = cell(column(k), |m| format!("{:.3}", m.mean));
                write!(text, " {mean:>8}")?;
            }
            text.push('\n');
        }
    }
    Ok(text)
}

fn cell(mean: Option<Mean>, words: impl Fn(Mean) -> String) -> String {
    mean.map_or_else(|| "-".to_owned(), words)
}

/// The columns' values; `None` where there is nothing to ask about.
fn of_seed(
    pool: &Pool,
    until: f64,
    count: usize,
    asked: Asked,
    seed: Seed,
) -> Option<[f64; NUM_COLUMNS]> {
    let mut rng = seed.rng();
    let mut rows: Vec<usize> = (0..pool.num_rows()).collect();
    for i in (1..rows.len()).rev() {
        rows.swap(i, rng.random_range(0..=i));
    }
    let curves: Vec<Vec<Point>> = rows.iter().map(|row| pool.curve(*row)).collect();
    let until = pool.recorded(until);
    let at = pool.recorded(until * asked.known);
    let (ended, others) = curves.split_at(count.min(curves.len()));
    let mut ends: Vec<f64> = curves.iter().map(|curve| end(curve, until)).collect();
    ends.retain(|end| end.is_finite());
    ends.sort_unstable_by(f64::total_cmp);
    let cut = (
        ends[ends.len() / 20],
        ends[ends.len() - 1 - ends.len() / 20],
    );
    let (mut inside, mut below, mut width) = (0.0, 0.0, 0.0);
    let (mut lasts, mut medians, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let part = |curve: &[Point]| curve[..curve.partition_point(|p| p.budget <= at)].to_vec();
    let parts: Vec<(Vec<Point>, f64)> = others
        .iter()
        .map(|curve| (part(curve), end(curve, until)))
        .filter(|(part, _)| part.last().is_some_and(|p| p.loss.is_finite()))
        .take(NUM_ASKED)
        .collect();
    // What is under way is known to the model, too.
    let known = ended.iter().map(Vec::as_slice);
    let model = CurveModel::new(
        parts.iter().map(|(part, _)| part.as_slice()).chain(known),
        at,
        until,
    );
    for (part, end) in &parts {
        let (Some(forecast), Some(last)) = (model.forecast(part), part.last()) else {
            continue;
        };
        let tail = 0.5 * (1.0 - asked.coverage);
        let (lower, upper) = (forecast.quantile(tail), forecast.quantile(1.0 - tail));
        below += f64::from(u8::from(*end < lower));
        inside += f64::from(u8::from(*end >= lower && *end <= upper));
        width += upper.clamp(cut.0, cut.1) - lower.clamp(cut.0, cut.1);
        lasts.push(last.loss);
        medians.push(forecast.median());
        ends.push(*end);
    }
    if ends.is_empty() {
        return None;
    }
    let n = ends.len() as f64;
    let spread = (cut.1 - cut.0).max(f64::MIN_POSITIVE);
    Some([
        inside / n,
        below / n,
        width / n / spread,
        rank_correlation(&lasts, &ends),
        rank_correlation(&medians, &ends),
    ])
}

fn end(curve: &[Point], until: f64) -> f64 {
    let points = curve.iter().take_while(|p| p.budget <= until);
    points.last().map_or(f64::INFINITY, |p| p.loss)
}

fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |x: &[f64]| mean_ranks(x, f64::total_cmp, |a, b| a.total_cmp(b).is_eq());
    correlation(&ranks(a), &ranks(b)).unwrap_or(0.0) // all equal
}
