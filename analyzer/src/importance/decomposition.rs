//! The parts of a forest's variance: marginals of one axis and of two, and what varies along each axis through a point.

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use shared::Seed;

use super::Marginal;
use crate::forest::{self, Axis, Forest, Side};

/// Places along an interval at which marginals are taken.
const PLACES: usize = 128;

/// Places along each interval at which marginals of two are taken.
const PAIR_PLACES: usize = 32;

/// Points at which the forest's variance is taken.
const VARIANCE_POINTS: usize = 1 << 15;

/// Pairs are formed among this many hyperparameters: those with the largest main effects.
const MOST_IN_PAIRS: usize = 40;

/// The parts of a forest's variance.
#[derive(Debug)]
pub(super) struct Decomposition {
    /// Share of each axis alone.
    pub(super) main: Vec<f64>,
    /// Share of two axes beyond their own, largest first.
    pub(super) pairs: Vec<(usize, usize, f64)>,
    /// Marginal of each axis.
    pub(super) marginals: Vec<Marginal>,
}

/// A leaf as ranges of places on the grids, with what it adds to marginals.
struct Leaf {
    value: f64,
    shares: Vec<f64>,
    sides: Vec<Side>,
}

impl Decomposition {
    /// Decomposes the mean of the trees; `None` for a constant one.
    pub(crate) fn new(forest: &Forest, seed: Seed) -> Option<Self> {
        let axes = forest.axes();
        let leaves: Vec<Vec<Leaf>> = (0..forest.num_trees())
            .into_par_iter()
            .map(|number| {
                forest
                    .members(number)
                    .flat_map(|tree| leaves(tree, axes))
                    .collect()
            })
            .collect();
        let variance = variance(forest, seed);
        if variance <= 0.0 {
            return None;
        }
        let marginals: Vec<Marginal> = (0..axes.len())
            .into_par_iter()
            .map(|axis| marginal(&leaves, axes, axis, forest.base()))
            .collect();
        let main: Vec<f64> = marginals
            .iter()
            .map(|marginal| spread_of(&marginal.mean) / variance)
            .collect();
        let mut order: Vec<usize> = (0..axes.len()).collect();
        order.sort_by(|&a, &b| main[b].total_cmp(&main[a]));
        order.truncate(MOST_IN_PAIRS);
        order.sort_unstable();
        let of_two: Vec<(usize, usize)> = order
            .iter()
            .flat_map(|&a| order.iter().map(move |&b| (a, b)))
            .filter(|(a, b)| a < b)
            .collect();
        let mut pairs: Vec<(usize, usize, f64)> = of_two
            .into_par_iter()
            .map(|(a, b)| (a, b, interaction(&leaves, axes, a, b) / variance))
            .collect();
        pairs.sort_by(|x, y| y.2.total_cmp(&x.2));
        Some(Self {
            main,
            pairs,
            marginals,
        })
    }
}

fn leaves(tree: &forest::Tree, axes: &[Axis]) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    tree.for_each_leaf(axes, |value, sides| {
        let shares = sides.iter().zip(axes).map(|(side, axis)| side.share(*axis));
        leaves.push(Leaf {
            value,
            shares: shares.collect(),
            sides: sides.to_vec(),
        });
    });
    leaves
}

/// Variance of the mean of the trees, at the points of a Latin hypercube.
fn variance(forest: &Forest, seed: Seed) -> f64 {
    let axes = forest.axes();
    let columns: Vec<Vec<f64>> = axes
        .par_iter()
        .enumerate()
        .map(|(number, axis)| {
            let mut rng = seed.child("hypercube", number).rng();
            let mut column: Vec<f64> = (0..VARIANCE_POINTS)
                .map(|i| (i as f64 + rng.random::<f64>()) / VARIANCE_POINTS as f64)
                .collect();
            column.shuffle(&mut rng);
            if let Axis::Levels(levels) = axis {
                for x in &mut column {
                    *x = (*x * *levels as f64).floor();
                }
            }
            column
        })
        .collect();
    let predictions: Vec<f64> = (0..VARIANCE_POINTS)
        .into_par_iter()
        .map(|i| {
            let point: Vec<f64> = columns.iter().map(|column| column[i]).collect();
            forest.predict(&point)
        })
        .collect();
    spread_of(&predictions)
}

/// Mean squared distance from the mean.
fn spread_of(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n
}

fn num_places(axis: Axis, places: usize) -> usize {
    match axis {
        Axis::Interval => places,
        Axis::Levels(levels) => levels,
    }
}

/// The ranges of places on an axis's grid that a side covers, as pairs of first and behind-last.
fn ranges(side: Side, places: usize) -> impl Iterator<Item = (usize, usize)> {
    // The middle of cell i is (i + 1/2)/places.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the grid"
    )]
    let first_at =
        move |x: f64| (x * places as f64 - 0.5).ceil().clamp(0.0, places as f64) as usize;
    let (interval, bits) = match side {
        Side::Interval(from, to) => (Some((first_at(from), first_at(to))), 0),
        Side::Levels(bits) => (None, bits),
    };
    let levels = (0..64).filter(move |level| bits >> level & 1 == 1);
    interval
        .into_iter()
        .chain(levels.map(|level| (level, level + 1)))
}

fn marginal(leaves: &[Vec<Leaf>], axes: &[Axis], axis: usize, base: f64) -> Marginal {
    let places = num_places(axes[axis], PLACES);
    let (mut sum, mut squares) = (vec![0.0; places], vec![0.0; places]);
    let mut steps = vec![0.0; places + 1];
    for tree in leaves {
        steps.fill(0.0);
        for leaf in tree {
            let others = leaf.shares.iter().enumerate().filter(|(a, _)| *a != axis);
            let weight = leaf.value * others.map(|(_, share)| share).product::<f64>();
            for (from, to) in ranges(leaf.sides[axis], places) {
                steps[from] += weight;
                steps[to] -= weight;
            }
        }
        let mut height = base;
        for place in 0..places {
            height += steps[place];
            sum[place] += height;
            squares[place] += height * height;
        }
    }
    let n = leaves.len() as f64;
    let mean: Vec<f64> = sum.iter().map(|sum| sum / n).collect();
    let spread = squares.iter().zip(&mean);
    Marginal {
        places: match axes[axis] {
            Axis::Interval => (0..places)
                .map(|i| (i as f64 + 0.5) / places as f64)
                .collect(),
            Axis::Levels(_) => (0..places).map(|i| i as f64).collect(),
        },
        spread: spread
            .map(|(s, m)| (s / n - m * m).max(0.0).sqrt())
            .collect(),
        mean,
    }
}

/// Variance of what two axes do together beyond what each does alone.
fn interaction(leaves: &[Vec<Leaf>], axes: &[Axis], a: usize, b: usize) -> f64 {
    let (rows, columns) = (
        num_places(axes[a], PAIR_PLACES),
        num_places(axes[b], PAIR_PLACES),
    );
    let width = columns + 1;
    let mut steps = vec![0.0; (rows + 1) * width];
    for leaf in leaves.iter().flatten() {
        let others = leaf.shares.iter().enumerate();
        let others = others.filter(|(axis, _)| *axis != a && *axis != b);
        let weight = leaf.value * others.map(|(_, share)| share).product::<f64>();
        for (top, bottom) in ranges(leaf.sides[a], rows) {
            for (left, right) in ranges(leaf.sides[b], columns) {
                steps[top * width + left] += weight;
                steps[top * width + right] -= weight;
                steps[bottom * width + left] -= weight;
                steps[bottom * width + right] += weight;
            }
        }
    }
    for row in 0..rows {
        for column in 0..columns {
            let left = if column > 0 {
                steps[row * width + column - 1]
            } else {
                0.0
            };
            let above = if row > 0 {
                steps[(row - 1) * width + column]
            } else {
                0.0
            };
            let corner = if row > 0 && column > 0 {
                steps[(row - 1) * width + column - 1]
            } else {
                0.0
            };
            steps[row * width + column] += left + above - corner;
        }
    }
    let n = leaves.len() as f64;
    let at = |row: usize, column: usize| steps[row * width + column] / n;
    let row_means: Vec<f64> = (0..rows)
        .map(|row| (0..columns).map(|column| at(row, column)).sum::<f64>() / columns as f64)
        .collect();
    let column_means: Vec<f64> = (0..columns)
        .map(|column| (0..rows).map(|row| at(row, column)).sum::<f64>() / rows as f64)
        .collect();
    let mean = row_means.iter().sum::<f64>() / rows as f64;
    let mut variance = 0.0;
    for (row, row_mean) in row_means.iter().enumerate() {
        for (column, column_mean) in column_means.iter().enumerate() {
            variance += (at(row, column) - row_mean - column_mean + mean).powi(2);
        }
    }
    variance / (rows * columns) as f64
}

/// Shares of the variances of the forest along each axis through one point, all other coordinates kept.
pub(super) fn local(forest: &Forest, around: &[f64]) -> Vec<f64> {
    let along = |axis: usize| {
        let places = num_places(forest.axes()[axis], PLACES);
        let mut point = around.to_vec();
        let predictions: Vec<f64> = (0..places)
            .map(|place| {
                point[axis] = match forest.axes()[axis] {
                    Axis::Interval => (place as f64 + 0.5) / places as f64,
                    Axis::Levels(_) => place as f64,
                };
                forest.predict(&point)
            })
            .collect();
        spread_of(&predictions)
    };
    let variances: Vec<f64> = (0..around.len()).into_par_iter().map(along).collect();
    let whole: f64 = variances.iter().sum();
    let share = |v: &f64| if whole > 0.0 { v / whole } else { 0.0 };
    variances.iter().map(share).collect()
}
