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

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use shared::Seed;

/// Up to this many levels, subsets of them are split; more are treated as ordered.
const MOST_LEVELS: usize = 64;
/// At most this many small forests are fitted, each to what those before left over.
const MOST_STAGES: u32 = 60;
/// The part of each that is added: smaller parts fit better and take more stages.
const PART: f64 = 0.3;
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

fn sorted(column: &[f64]) -> Vec<u32> {
    let n = u32::try_from(column.len()).expect("no search has 4·10⁹ results");
    let mut order: Vec<u32> = (0..n).collect();
    order.sort_by(|&a, &b| column[a as usize].total_cmp(&column[b as usize]));
    order
}

/// What one tree is grown from.
struct Samples<'a> {
    axes: &'a [Axis],
    columns: &'a [Vec<f64>],
    values: &'a [f64],
    min_leaf: u32,
}

/// Samples as one tree has drawn them.
struct Bag<'a> {
    samples: &'a Samples<'a>,
    counts: &'a [u32],
}

/// A split of a node, with what it gains.
struct Split {
    axis: usize,
    rule: Rule,
    gain: f64,
}

/// Sums over the samples of a node: how many as drawn, Σ value.
#[derive(Clone, Copy, Default)]
struct Sums {
    num: f64,
    sum: f64,
}

impl Sums {
    fn add(&mut self, num: f64, value: f64) {
        self.num += num;
        self.sum += num * value;
    }

    /// Σ²/n, which is what a split must raise.
    fn score(self) -> f64 {
        self.sum * self.sum / self.num
    }

    fn without(self, other: Self) -> Self {
        Self {
            num: self.num - other.num,
            sum: self.sum - other.sum,
        }
    }
}

impl Samples<'_> {
    /// Grows the trees of one stage, and predicts every sample by the trees that have not drawn it.
    fn stage(
        &self,
        orders: &[Vec<u32>],
        points: &[Vec<f64>],
        num_trees: u32,
        seed: Seed,
    ) -> (Vec<Tree>, Vec<Option<f64>>) {
        let n = points.len();
        let grow = |number| {
            let mut rng = seed.child("tree", number).rng();
            let mut counts = vec![0_u32; n];
            for _ in 0..n {
                counts[rng.random_range(0..n)] += 1;
            }
            let bag = Bag {
                samples: self,
                counts: &counts,
            };
            (bag.grow(orders, &mut rng), counts)
        };
        let grown: Vec<(Tree, Vec<u32>)> = (0..num_trees).into_par_iter().map(grow).collect();
        let out_of_bag = (0..n).into_par_iter().map(|sample| {
            let without = grown.iter().filter(|(_, counts)| counts[sample] == 0);
            let predictions = without.map(|(tree, _)| tree.predict(&points[sample]));
            let (sum, num) = predictions.fold((0.0, 0), |(sum, num), x| (sum + x, num + 1));
            (num > 0).then(|| sum / f64::from(num))
        });
        let out_of_bag = out_of_bag.collect();
        (
            grown.into_iter().map(|(tree, _)| tree).collect(),
            out_of_bag,
        )
    }
}

impl Bag<'_> {
    /// Grows a tree to the end. `orders` hold all samples sorted along each axis.
    fn grow(&self, orders: &[Vec<u32>], rng: &mut impl rand::Rng) -> Tree {
        let drawn = |order: &Vec<u32>| -> Vec<u32> {
            let is_drawn = |sample: &&u32| self.counts[**sample as usize] > 0;
            order.iter().filter(is_drawn).copied().collect()
        };
        let mut orders: Vec<Vec<u32>> = orders.iter().map(drawn).collect();
        let mut nodes = vec![Node::Leaf(0.0)];
        let end = orders.first().map_or(0, Vec::len);
        let mut open = vec![(0_usize, 0_usize, end)];
        let mut scratch = Vec::with_capacity(end);
        while let Some((node, start, end)) = open.pop() {
            let all = self.sums(&orders, start, end);
            let Some(split) = self.best_split(&orders, start, end, all, rng) else {
                nodes[node] = Node::Leaf(PART * all.sum / all.num);
                continue;
            };
            let column = &self.samples.columns[split.axis];
            let mut middle = start;
            for order in &mut orders {
                // Both parts stay sorted.
                scratch.clear();
                middle = start;
                for position in start..end {
                    let sample = order[position];
                    if split.rule.holds(column[sample as usize]) {
                        order[middle] = sample;
                        middle += 1;
                    } else {
                        scratch.push(sample);
                    }
                }
                order[middle..end].copy_from_slice(&scratch);
            }
            let yes = nodes.len();
            nodes[node] = Node::Split {
                axis: u32::try_from(split.axis).expect("few axes"),
                rule: split.rule,
                yes: u32::try_from(yes).expect("fewer nodes than samples, twice"),
            };
            nodes.extend([Node::Leaf(0.0); 2]);
            open.push((yes, start, middle));
            open.push((yes + 1, middle, end));
        }
        Tree { nodes }
    }

    fn sums(&self, orders: &[Vec<u32>], start: usize, end: usize) -> Sums {
        let mut sums = Sums::default();
        if let Some(order) = orders.first() {
            for &sample in &order[start..end] {
                let sample = sample as usize;
                sums.add(f64::from(self.counts[sample]), self.samples.values[sample]);
            }
        }
        sums
    }

    /// Of the dimensions that are tried, the split that lowers the squared error most; `None` where none does.
    fn best_split(
        &self,
        orders: &[Vec<u32>],
        start: usize,
        end: usize,
        all: Sums,
        rng: &mut impl rand::Rng,
    ) -> Option<Split> {
        if all.num < 2.0 * f64::from(self.samples.min_leaf) {
            return None;
        }
        let mut best: Option<Split> = None;
        let num_tried = (orders.len() * 2).div_ceil(3);
        let mut tried: Vec<usize> = (0..orders.len()).collect();
        for &mut axis in tried.partial_shuffle(rng, num_tried).0 {
            let order = &orders[axis][start..end];
            let split = match self.samples.axes[axis] {
                Axis::Interval => self.threshold(axis, order, all, rng),
                Axis::Levels(levels) => self.subset(axis, order, all, levels),
            };
            if let Some(split) = split
                && best.as_ref().is_none_or(|best| split.gain > best.gain)
            {
                best = Some(split);
            }
        }
        // Rounding must not split a node of equal values.
        let scale = all.score().abs().max(f64::MIN_POSITIVE);
        best.filter(|split| split.gain > 1e-12 * scale)
    }

    fn threshold(
        &self,
        axis: usize,
        order: &[u32],
        all: Sums,
        rng: &mut impl rand::Rng,
    ) -> Option<Split> {
        let column = &self.samples.columns[axis];
        let least = f64::from(self.samples.min_leaf);
        let mut below = Sums::default();
        let mut best: Option<(f64, f64, f64)> = None;
        for pair in order.windows(2) {
            let sample = pair[0] as usize;
            below.add(f64::from(self.counts[sample]), self.samples.values[sample]);
            let (from, to) = (column[sample], column[pair[1] as usize]);
            let above = all.without(below);
            if from < to && below.num >= least && above.num >= least {
                let gain = below.score() + above.score() - all.score();
                if best.is_none_or(|best| gain > best.0) {
                    best = Some((gain, from, to));
                }
            }
        }
        let (gain, from, to) = best?;
        let at = from + rng.random::<f64>() * (to - from);
        // Rounding may give `to` itself, which belongs above.
        let at = if at < to { at } else { from };
        Some(Split {
            axis,
            rule: Rule::AtMost(at),
            gain,
        })
    }

    fn subset(&self, axis: usize, order: &[u32], all: Sums, levels: usize) -> Option<Split> {
        let mut by_level = vec![Sums::default(); levels];
        for &sample in order {
            let sample = sample as usize;
            let sums = &mut by_level[level(self.samples.columns[axis][sample]) as usize];
            sums.add(f64::from(self.counts[sample]), self.samples.values[sample]);
        }
        let mut present: Vec<usize> = (0..levels).filter(|&l| by_level[l].num > 0.0).collect();
        let mean = |level: usize| by_level[level].sum / by_level[level].num;
        present.sort_by(|&a, &b| mean(a).total_cmp(&mean(b)));
        let least = f64::from(self.samples.min_leaf);
        let (mut yes, mut bits) = (Sums::default(), 0_u64);
        let mut best: Option<Split> = None;
        for &level in present.split_last()?.1 {
            yes.num += by_level[level].num;
            yes.sum += by_level[level].sum;
            bits |= 1 << level;
            let no = all.without(yes);
            let gain = yes.score() + no.score() - all.score();
            let fits = yes.num >= least && no.num >= least;
            if fits && best.as_ref().is_none_or(|best| gain > best.gain) {
                let rule = Rule::In(bits);
                best = Some(Split { axis, rule, gain });
            }
        }
        best
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
