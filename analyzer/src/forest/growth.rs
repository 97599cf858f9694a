//! How trees are grown: samples drawn, and split where that lowers the squared error most.

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use shared::Seed;

use super::{Axis, Node, Rule, Tree, level};

/// The part of each that is added: smaller parts fit better and take more stages.
const PART: f64 = 0.3;

pub(super) fn sorted(column: &[f64]) -> Vec<u32> {
    let n = u32::try_from(column.len()).expect("no search has 4·10⁹ results");
    let mut order: Vec<u32> = (0..n).collect();
    order.sort_by(|&a, &b| column[a as usize].total_cmp(&column[b as usize]));
    order
}

/// What one tree is grown from.
pub(super) struct Samples<'a> {
    pub(super) axes: &'a [Axis],
    pub(super) columns: &'a [Vec<f64>],
    pub(super) values: &'a [f64],
    pub(super) min_leaf: u32,
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
    pub(super) fn stage(
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
