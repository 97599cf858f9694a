//! Method `smbo`: a random forest and expected improvement, at the largest budget.
//!
//! Each of [`NUM_TREES`] regression trees sees a bootstrap sample of the results' normal scores (failures rank last) and
//! splits, among a random 5/6 of the dimensions, where the squares fall most; leaves hold at least [`LEAF`] results.
//! Mean μ and variance σ² are those of the trees' predictions. The point with the largest expected improvement over the
//! best score is proposed, among draws from the prior and one-hyperparameter changes of the best ten; every
//! [`INTERLEAVE`]th proposal is a draw from the prior.
//!
//! Range of validity: any space; an inactive dimension has the coordinate -1. Fewer than [`NUM_STARTUP`] results: draws
//! from the prior. Equal scores: every tree is a leaf, σ is its floor and the first candidate is taken.
//!
//! # Source
//! Hutter, Hoos and Leyton-Brown 2011, Sequential Model-Based Optimization for General Algorithm Configuration.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use crate::history::History;
use crate::kde::Dimension;
use crate::method::{Ask, Method, Suggestion, random};
use crate::normal;
use shared::Ranked;

const NUM_TREES: usize = 20;
const LEAF: usize = 3;
const NUM_STARTUP: usize = 10;
const INTERLEAVE: u32 = 4;
/// Results that the forest is grown from at most, the best ones.
const MOST_RESULTS: usize = 1000;
const NUM_PRIOR: usize = 300;
/// The best results whose neighbours are candidates, and how many neighbours each has.
const NUM_PARENTS: usize = 10;
const NUM_NEIGHBOURS: usize = 20;
const STEP: f64 = 0.2;
/// Smallest standard deviation believed, in scores.
const SMALLEST_DEVIATION: f64 = 1e-3;

/// The forest is grown anew for each proposal.
#[derive(Debug)]
pub struct Smbo {
    dimensions: Vec<Dimension>,
}

impl Smbo {
    /// For the dimensions of a space.
    pub fn new(dimensions: Vec<Dimension>) -> Self {
        Self { dimensions }
    }

    fn candidates(
        &self,
        history: &History,
        results: &[Ranked],
        rng: &mut ChaCha12Rng,
    ) -> Vec<Vec<f64>> {
        let mut candidates: Vec<Vec<f64>> = (0..NUM_PRIOR)
            .map(|_| history.space().sample(rng))
            .collect();
        for parent in results.iter().take(NUM_PARENTS) {
            for _ in 0..NUM_NEIGHBOURS {
                let mut vector = history.space().sample(rng);
                let changed = rng.random_range(0..vector.len());
                let known = history.vector(parent.job.configuration);
                for (j, x) in vector.iter_mut().enumerate() {
                    if known[j].is_nan() {
                        continue;
                    }
                    if j != changed {
                        *x = known[j];
                    } else if self.dimensions[j] == Dimension::Continuous {
                        *x = normal::draw_in_unit_interval(known[j], STEP, rng);
                    }
                }
                candidates.push(vector);
            }
        }
        candidates
    }
}

impl Method for Smbo {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let mut rng = ask.seed.rng();
        let rung = history.num_rungs().saturating_sub(1);
        let results = history.rung(rung);
        if results.len() < NUM_STARTUP || self.dimensions.is_empty() {
            let reason = format!("the forest needs {NUM_STARTUP} results");
            return random::draw(history, &mut rng, reason);
        }
        if ask.configuration.0 % INTERLEAVE == INTERLEAVE - 1 {
            let reason = format!("one proposal in {INTERLEAVE} is drawn from the prior");
            return random::draw(history, &mut rng, reason);
        }
        let results = &results[..results.len().min(MOST_RESULTS)];
        let n = results.len();
        let trees = grow(history, results, NUM_TREES, &mut rng);
        let best_score = score(0, n);
        let mut best: Option<(f64, Vec<f64>)> = None;
        let candidates = self.candidates(history, results, &mut rng);
        let num_candidates = candidates.len();
        for vector in candidates {
            // What the forest sees of it depends on which dimensions are active, and what is forbidden is changed.
            let point = seen(&history.space().encode(&history.space().decode(&vector)));
            let value = improvement(&trees, best_score, &point);
            if best.as_ref().is_none_or(|(best, _)| value > *best) {
                best = Some((value, vector));
            }
        }
        let (value, vector) = best.expect("there are candidates");
        Suggestion {
            vector,
            source: "model",
            reason: format!(
                "the largest expected improvement ({value:.4} in scores) among {num_candidates} candidates, by a forest \
                 of {n} results"
            ),
            model: None,
        }
    }
}

/// The normal score of the result at a place, of so many.
fn score(place: usize, number: usize) -> f64 {
    normal::quantile((place as f64 + 0.5) / number as f64)
}

/// Trees for results in order, best first, each on a bootstrap sample.
pub(super) fn grow(
    history: &History,
    results: &[Ranked],
    number: usize,
    rng: &mut ChaCha12Rng,
) -> Vec<Tree> {
    let n = results.len();
    let vector = |result: &Ranked| seen(history.vector(result.job.configuration));
    let rows: Vec<Vec<f64>> = results.iter().map(vector).collect();
    let scores: Vec<f64> = (0..n).map(|place| score(place, n)).collect();
    let tree = |_| {
        let sample = (0..n).map(|_| rng.random_range(0..n)).collect();
        Tree::grow(&rows, &scores, sample, rng)
    };
    (0..number).map(tree).collect()
}

/// A vector as trees see it.
pub(super) fn seen(vector: &[f64]) -> Vec<f64> {
    vector
        .iter()
        .map(|x| if x.is_nan() { -1.0 } else { *x })
        .collect()
}

fn improvement(trees: &[Tree], best: f64, point: &[f64]) -> f64 {
    let predictions: Vec<f64> = trees.iter().map(|tree| tree.predict(point)).collect();
    let n = predictions.len() as f64;
    let mean = predictions.iter().sum::<f64>() / n;
    let variance = predictions
        .iter()
        .map(|x| (x - mean) * (x - mean))
        .sum::<f64>()
        / n;
    let deviation = variance.sqrt().max(SMALLEST_DEVIATION);
    let z = (best - mean) / deviation;
    deviation * (z * normal::distribution(z) + normal::density(z))
}

/// A regression tree.
#[derive(Debug)]
pub(super) enum Tree {
    Leaf(f64),
    Split {
        dimension: usize,
        at: f64,
        below: Box<Tree>,
        above: Box<Tree>,
    },
}

impl Tree {
    fn grow(rows: &[Vec<f64>], scores: &[f64], sample: Vec<usize>, rng: &mut ChaCha12Rng) -> Self {
        let mean = sample.iter().map(|i| scores[*i]).sum::<f64>() / sample.len() as f64;
        let Some((dimension, at)) = best_split(rows, scores, &sample, rng) else {
            return Self::Leaf(mean);
        };
        let (below, above): (Vec<usize>, Vec<usize>) =
            sample.into_iter().partition(|i| rows[*i][dimension] < at);
        Self::Split {
            dimension,
            at,
            below: Box::new(Self::grow(rows, scores, below, rng)),
            above: Box::new(Self::grow(rows, scores, above, rng)),
        }
    }

    /// The mean score of the results that are like a point.
    pub(super) fn predict(&self, point: &[f64]) -> f64 {
        match self {
            Self::Leaf(mean) => *mean,
            Self::Split {
                dimension,
                at,
                below,
                above,
            } => {
                let side = if point[*dimension] < *at {
                    below
                } else {
                    above
                };
                side.predict(point)
            }
        }
    }
}

/// The dimension and the place where the sum of squares falls most, if it falls at all and both sides are large enough.
fn best_split(
    rows: &[Vec<f64>],
    scores: &[f64],
    sample: &[usize],
    rng: &mut ChaCha12Rng,
) -> Option<(usize, f64)> {
    let total: f64 = sample.iter().map(|i| scores[*i]).sum();
    // The squares fall by S_b²/n_b + S_a²/n_a - S²/n.
    let mut best_gain = total * total / sample.len() as f64 + 1e-12;
    let mut best = None;
    let mut order = sample.to_vec();
    let num_dimensions = rows.first().map_or(0, Vec::len);
    for j in 0..num_dimensions {
        if rng.random_range(0..6) == 0 {
            continue;
        }
        order.sort_unstable_by(|a, b| rows[*a][j].total_cmp(&rows[*b][j]).then(a.cmp(b)));
        if let Some((gain, at)) = best_cut(rows, scores, &order, j)
            && gain > best_gain
        {
            best_gain = gain;
            best = Some((j, at));
        }
    }
    best
}

/// The place in one dimension, along which the sample is ordered, with the largest `S_b²/n_b + S_a²/n_a`, and that.
fn best_cut(rows: &[Vec<f64>], scores: &[f64], order: &[usize], j: usize) -> Option<(f64, f64)> {
    let n = order.len();
    let total: f64 = order.iter().map(|i| scores[*i]).sum();
    let mut below = 0.0;
    let mut best: Option<(f64, f64)> = None;
    for k in 1..n {
        below += scores[order[k - 1]];
        let (x, next) = (rows[order[k - 1]][j], rows[order[k]][j]);
        if k < LEAF || n - k < LEAF || next - x < 1e-12 {
            continue;
        }
        let above = total - below;
        let gain = below * below / k as f64 + above * above / (n - k) as f64;
        if best.is_none_or(|(best, _)| gain > best) {
            best = Some((gain, f64::midpoint(x, next)));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use shared::Seed;

    use super::*;

    #[test]
    fn a_tree_finds_the_step_of_a_step_function() {
        let rows: Vec<Vec<f64>> = (0..60)
            .map(|i| vec![f64::from(i % 7), f64::from(i) / 60.0])
            .collect();
        let scores: Vec<f64> = rows
            .iter()
            .map(|x| if x[1] < 0.5 { -1.0 } else { 1.0 })
            .collect();
        let mut right = 0;
        for seed in 0..50 {
            let mut rng = Seed::new(seed).rng();
            if let Some((j, at)) =
                best_split(&rows, &scores, &(0..60).collect::<Vec<_>>(), &mut rng)
            {
                right += u32::from(j == 1 && (at - 0.4917).abs() < 0.01);
            }
        }
        // Each dimension is looked at five times in six.
        assert!((33..50).contains(&right), "{right}");
        let tree = Tree::grow(&rows, &scores, (0..60).collect(), &mut Seed::new(1).rng());
        assert!(tree.predict(&[3.0, 0.1]) < 0.0 && tree.predict(&[3.0, 0.9]) > 0.0);
    }

    #[test]
    fn equal_scores_give_a_leaf() {
        let rows: Vec<Vec<f64>> = (0..20).map(|i| vec![f64::from(i)]).collect();
        let tree = Tree::grow(
            &rows,
            &[0.5; 20],
            (0..20).collect(),
            &mut Seed::new(1).rng(),
        );
        assert!(matches!(tree, Tree::Leaf(_)));
    }
}
