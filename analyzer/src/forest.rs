//! Random forests for regression on the unit cube and on levels, with access to the boxes that their leaves are.
//!
//! Own code, because the variance decomposition of [`crate::importance`] needs every leaf's box, which the regression
//! forests on crates.io do not show. Trees are grown on bootstrap samples, two thirds of the dimensions are
//! tried at each split, and a threshold lies at a random place between its neighbours, which makes the mean of the trees smooth.
//!
//! A forest draws towards the mean, and least along the dimensions that matter most, which would distort their shares.
//! So it is boosted: of each small forest only a part is added, and the next one is fitted to what is left over out of
//! the bag, for as long as the error out of the bag falls.
//!
//! # Source
//! Breiman 2001; Ghosal and Hooker 2021 (boosted forests, residuals out of the bag). Levels are split after sorting them by their mean (Breiman et al. 1984, theorem 4.5).

mod growth;

use rayon::prelude::*;
use shared::Seed;

use growth::{Samples, sorted};

/// Up to this many levels, subsets of them are split; more are treated as ordered.
const MOST_LEVELS: usize = 64;
/// At most this many small forests are fitted, each to what those before left over.
const MOST_STAGES: u32 = 60;
/// A further stage must lower the squared error out of the bag to this share.
const WORTHWHILE: f64 = 0.99;

/// What a dimension's coordinates are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    /// Numbers in `[0, 1]`.
    Interval,
    /// Whole numbers 0, 1, … below this many; at most 64.
    Levels(usize),
}

impl Axis {
    /// The axis for so many unordered levels, or an interval on which they stand in order if they are too many.
    pub(crate) fn of_levels(levels: usize) -> Self {
        if levels <= MOST_LEVELS {
            Self::Levels(levels)
        } else {
            Self::Interval
        }
    }
}

/// Where a forest comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Number of trees in each stage.
    pub(crate) num_trees: u32,
    /// Drives bootstrap samples and thresholds.
    pub(crate) seed: Seed,
}

/// A forest that has been fitted.
#[derive(Debug, Clone)]
pub(crate) struct Forest {
    axes: Vec<Axis>,
    /// The mean of the values: what the stages start from.
    base: f64,
    /// One list of trees a stage, all of the same length.
    stages: Vec<Vec<Tree>>,
    /// Out-of-bag prediction of every sample; `None` for one that every tree of some stage has drawn.
    out_of_bag: Vec<Option<f64>>,
}

/// One tree.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
enum Node {
    Leaf(f64),
    Split {
        axis: u32,
        rule: Rule,
        /// Where the rule holds; the other child is the next one.
        yes: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    AtMost(f64),
    /// Bit l is set where level l goes.
    In(u64),
}

/// The part of an axis that a leaf covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Side {
    /// From, to.
    Interval(f64, f64),
    /// Bit l is set for level l.
    Levels(u64),
}

impl Side {
    fn whole(axis: Axis) -> Self {
        match axis {
            Axis::Interval => Self::Interval(0.0, 1.0),
            Axis::Levels(levels) => Self::Levels(u64::MAX >> (64 - levels)),
        }
    }

    /// Its share of the axis.
    pub(crate) fn share(self, axis: Axis) -> f64 {
        match (self, axis) {
            (Self::Levels(bits), Axis::Levels(levels)) => {
                f64::from(bits.count_ones()) / levels as f64
            }
            (Self::Interval(from, to), _) => to - from,
            (Self::Levels(_), Axis::Interval) => unreachable!("a side is of its axis's kind"),
        }
    }

    fn cut(self, rule: Rule) -> (Self, Self) {
        match (self, rule) {
            (Self::Interval(from, to), Rule::AtMost(at)) => {
                let at = at.clamp(from, to);
                (Self::Interval(from, at), Self::Interval(at, to))
            }
            (Self::Levels(bits), Rule::In(yes)) => {
                (Self::Levels(bits & yes), Self::Levels(bits & !yes))
            }
            _ => unreachable!("a rule is of its axis's kind"),
        }
    }
}

impl Rule {
    fn holds(self, coordinate: f64) -> bool {
        match self {
            Self::AtMost(at) => coordinate <= at,
            Self::In(bits) => bits >> level(coordinate) & 1 == 1,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a level is a small whole number"
)]
fn level(coordinate: f64) -> u32 {
    coordinate.clamp(0.0, 63.0) as u32
}

impl Forest {
    /// Fits a forest.
    ///
    /// # Shapes
    /// - `points`: `[n][axes]`, no NaN
    /// - `values`: `[n]`, finite
    ///
    /// # Panics
    /// Without points.
    pub(crate) fn fit(
        axes: Vec<Axis>,
        points: &[Vec<f64>],
        values: &[f64],
        settings: &Settings,
    ) -> Self {
        assert!(
            !points.is_empty() && points.len() == values.len(),
            "samples"
        );
        let columns: Vec<Vec<f64>> = (0..axes.len())
            .map(|axis| points.iter().map(|point| point[axis]).collect())
            .collect();
        let orders: Vec<Vec<u32>> = columns.par_iter().map(|column| sorted(column)).collect();
        let base = values.iter().sum::<f64>() / values.len() as f64;
        let mut forest = Self {
            axes,
            base,
            stages: Vec::new(),
            out_of_bag: vec![Some(base); points.len()],
        };
        // Leaves of 10 of thousands; of fewer samples smaller ones, or there would be nothing to split.
        let min_leaf = u32::try_from(values.len() / 200).map_or(10, |size| size.clamp(3, 10));
        let mut least = f64::INFINITY;
        for number in 0..MOST_STAGES {
            let pairs = values.iter().zip(&forest.out_of_bag);
            let left: Vec<f64> = pairs.map(|(y, p)| p.map_or(0.0, |p| y - p)).collect();
            let samples = Samples {
                axes: &forest.axes,
                columns: &columns,
                values: &left,
                min_leaf,
            };
            let seed = settings.seed.child("stage", number);
            let (stage, predictions) = samples.stage(&orders, points, settings.num_trees, seed);
            let sums = forest.out_of_bag.iter().zip(&predictions);
            let sums: Vec<Option<f64>> = sums.map(|(a, b)| Some((*a)? + (*b)?)).collect();
            let errors = sums.iter().zip(values);
            let error: f64 = errors.filter_map(|(p, y)| Some(((*p)? - y).powi(2))).sum();
            if error > WORTHWHILE * least {
                break;
            }
            least = error;
            forest.stages.push(stage);
            forest.out_of_bag = sums;
        }
        forest
    }

    /// What the axes are.
    pub(crate) fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Number of trees in each stage.
    pub(crate) fn num_trees(&self) -> usize {
        self.stages[0].len()
    }

    /// Number of stages.
    pub(crate) fn num_stages(&self) -> usize {
        self.stages.len()
    }

    /// What every member adds its trees to.
    pub(crate) fn base(&self) -> f64 {
        self.base
    }

    /// The `number`-th tree of every stage; the forest is the mean over numbers of the sums of these and the base.
    pub(crate) fn members(&self, number: usize) -> impl Iterator<Item = &Tree> {
        self.stages.iter().map(move |stage| &stage[number])
    }

    /// The base and, summed over the stages, the mean of their trees' predictions.
    pub(crate) fn predict(&self, point: &[f64]) -> f64 {
        let trees = self.stages.iter().flatten();
        let sum: f64 = trees.map(|tree| tree.predict(point)).sum();
        self.base + sum / self.num_trees() as f64
    }

    /// Root of the mean squared error out of the bag, and the share of the variance that is explained out of the bag:
    /// 1 − squared error / variance (negative where a constant would do better). `None` for constant values.
    pub(crate) fn error(&self, values: &[f64]) -> Option<(f64, f64)> {
        let pairs = self.out_of_bag.iter().zip(values);
        let pairs: Vec<(f64, f64)> = pairs.filter_map(|(p, v)| Some(((*p)?, *v))).collect();
        let n = pairs.len() as f64;
        let mean = pairs.iter().map(|(_, value)| value).sum::<f64>() / n;
        let squares = |f: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>() / n;
        let error = squares(&|(prediction, value)| (prediction - value).powi(2));
        let variance = squares(&|(_, value)| (value - mean).powi(2));
        let is_constant = pairs
            .iter()
            .all(|(_, value)| value.total_cmp(&pairs[0].1).is_eq());
        (!is_constant).then(|| (error.sqrt(), 1.0 - error / variance))
    }
}

impl Tree {
    /// The value of the leaf that a point lies in.
    pub(crate) fn predict(&self, point: &[f64]) -> f64 {
        let mut node = 0;
        loop {
            match self.nodes[node] {
                Node::Leaf(value) => return value,
                Node::Split { axis, rule, yes } => {
                    let no = u32::from(!rule.holds(point[axis as usize]));
                    node = (yes + no) as usize;
                }
            }
        }
    }

    /// Calls `leaf` with the value and the box of every leaf. The boxes fill the space.
    pub(crate) fn for_each_leaf(&self, axes: &[Axis], mut leaf: impl FnMut(f64, &[Side])) {
        let whole: Vec<Side> = axes.iter().map(|axis| Side::whole(*axis)).collect();
        let mut open = vec![(0_usize, whole)];
        while let Some((node, sides)) = open.pop() {
            match self.nodes[node] {
                Node::Leaf(value) => leaf(value, &sides),
                Node::Split { axis, rule, yes } => {
                    let (side_yes, side_no) = sides[axis as usize].cut(rule);
                    let mut other = sides.clone();
                    let mut sides = sides;
                    sides[axis as usize] = side_yes;
                    other[axis as usize] = side_no;
                    open.push((yes as usize, sides));
                    open.push((yes as usize + 1, other));
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact values are expected")]
mod tests;
