//! Method `progressive`: from small configurations to large ones, ranked by an ensemble, at the largest budget.
//!
//! What grows are the whole numbers and ordinals of the space. The first [`WIDTH`] configurations have the smallest value of
//! each; then come [`WIDTH`] up to the middle of their ranges, and from then on the whole ranges are allowed. From the
//! second stage on a proposal is an expansion of one of the [`WIDTH`] best so far: one of its sizes becomes larger, maybe
//! others do, at random up to what the stage allows, and one other hyperparameter may change. Of [`NUM_EXPANSIONS`] for
//! each the one with the best mean prediction is proposed, by [`NUM_TREES`] regression trees, each on a bootstrap sample of
//! the results' normal scores.
//!
//! Range of validity: any space; one without sizes grows nothing. In the last stage every [`INTERLEAVE`]th proposal has sizes
//! redrawn instead of enlarged, so that a search that goes on does not end at the largest networks.
//!
//! # Source
//! Liu et al. 2018, Progressive Neural Architecture Search: a beam of the K best is expanded by a block in all ways, a surrogate
//! ensemble ranks the expansions, the K best of them are trained. Here configurations are trained one after the other,
//! and the ensemble knows what became of each. `smbo` is the form without stages, with expected improvement (SMAC).

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::Ranked;
use shared::space::Kind;

use crate::history::History;
use crate::method::smbo::{grow, seen};
use crate::method::{Ask, Method, Suggestion, random};
use crate::normal;

/// Configurations of a stage, and of the beam that is expanded.
const WIDTH: usize = 8;
/// How far sizes reach in each stage, as a share of their ranges.
const STAGES: [f64; 3] = [0.0, 0.5, 1.0];
const NUM_TREES: usize = 5;
const NUM_EXPANSIONS: usize = 30;
const INTERLEAVE: u32 = 4;
/// Standard deviation of the step of a number that is no size, as a share of its range.
const STEP: f64 = 0.2;

/// Expands the best.
#[derive(Debug)]
pub struct Progressive;

impl Method for Progressive {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let mut rng = ask.seed.rng();
        let rung = history.num_rungs().saturating_sub(1);
        let results = history.rung(rung);
        let stage = usize::try_from(ask.configuration.0).map_or(STAGES.len(), |id| id / WIDTH);
        let sizes = Sizes::of(history);
        let reach = STAGES.get(stage).copied().unwrap_or(1.0);
        if stage == 0 || results.is_empty() || history.space().num_dimensions() == 0 {
            let start = random::draw(history, &mut rng, "the smallest configurations come first");
            let vector = history.space().first_allowed(&mut rng, |rng| {
                sizes.limited(history.space().sample(rng), reach)
            });
            return Suggestion { vector, ..start };
        }
        let trees = grow(history, results, NUM_TREES, &mut rng);
        let is_redrawn = stage >= STAGES.len() && ask.configuration.0.is_multiple_of(INTERLEAVE);
        let mut best: Option<(f64, Vec<f64>, Ranked)> = None;
        for parent in results.iter().take(WIDTH) {
            for _ in 0..NUM_EXPANSIONS {
                let known = history.vector(parent.job.configuration);
                let vector = sizes.expand(history, known, reach, is_redrawn, &mut rng);
                let point = seen(&history.space().encode(&history.space().decode(&vector)));
                let mean = trees.iter().map(|tree| tree.predict(&point)).sum::<f64>();
                let mean = mean / trees.len() as f64;
                if best.as_ref().is_none_or(|(best, ..)| mean < *best) {
                    best = Some((mean, vector, *parent));
                }
            }
        }
        let (mean, vector, parent) = best.expect("there are results to expand");
        let what = if is_redrawn {
            "with other sizes"
        } else {
            "made larger"
        };
        Suggestion {
            vector,
            source: "model",
            reason: format!(
                "stage {}: {} {what}, the best of {} expansions by the mean of {NUM_TREES} trees (score {mean:.3})",
                (stage + 1).min(STAGES.len()),
                parent.job.configuration,
                NUM_EXPANSIONS * results.len().min(WIDTH)
            ),
            model: None,
        }
    }
}

/// A dimension that grows.
#[derive(Debug, Clone, Copy)]
enum Size {
    /// Whole numbers, whose coordinates are from 0 to 1.
    Number,
    /// Levels, the last of which is this.
    Levels(usize),
}

impl Size {
    /// The largest coordinate within reach.
    fn limit(self, reach: f64) -> f64 {
        match self {
            Self::Number => reach,
            Self::Levels(last) => (last as f64 * reach).floor(),
        }
    }

    /// A coordinate beyond a known one, at least half of the way to the limit.
    fn grown(self, known: f64, reach: f64, rng: &mut ChaCha12Rng) -> f64 {
        let way = self.limit(reach) - known;
        let share = 0.5 + 0.5 * rng.random::<f64>();
        match self {
            Self::Number => known + share * way,
            Self::Levels(_) => known + (share * way).ceil(),
        }
    }
}

/// The dimensions that grow.
struct Sizes(Vec<Option<Size>>);

impl Sizes {
    fn of(history: &History) -> Self {
        let size = |kind: &Kind| match kind {
            Kind::Integer { .. } => Some(Size::Number),
            Kind::Ordinal { sequence } => Some(Size::Levels(sequence.len().saturating_sub(1))),
            Kind::Float { .. } | Kind::Categorical { .. } | Kind::Constant { .. } => None,
        };
        Self(
            history
                .space()
                .dimensions()
                .map(|h| size(&h.kind))
                .collect(),
        )
    }

    /// The vector with sizes within reach.
    fn limited(&self, mut vector: Vec<f64>, reach: f64) -> Vec<f64> {
        for (x, size) in vector.iter_mut().zip(&self.0) {
            if let Some(size) = size {
                *x = x.min(size.limit(reach));
            }
        }
        vector
    }

    /// An expansion of a configuration: one size that can grows, and a third of the others may; one other hyperparameter may
    /// change.
    fn expand(
        &self,
        history: &History,
        known: &[f64],
        reach: f64,
        is_redrawn: bool,
        rng: &mut ChaCha12Rng,
    ) -> Vec<f64> {
        let mut vector = self.limited(history.space().sample(rng), reach);
        let other = rng.random_range(0..vector.len());
        let can_grow = |j: &usize| self.0[*j].is_some_and(|size| known[*j] < size.limit(reach));
        let growing: Vec<usize> = (0..known.len()).filter(can_grow).collect();
        let grown = growing.get(rng.random_range(0..growing.len().max(1)));
        for (j, (x, known)) in vector.iter_mut().zip(known).enumerate() {
            if known.is_nan() {
                continue;
            }
            let kind = history.space().dimensions().nth(j).map(|h| &h.kind);
            *x = match (self.0[j], kind) {
                (Some(size), _) if grown == Some(&j) && !is_redrawn => {
                    size.grown(*known, reach, rng)
                }
                (Some(_), _) if rng.random_range(0..3) > 0 => *known,
                (Some(_), _) if is_redrawn => *x,
                (Some(_), _) => x.max(*known),
                (None, Some(Kind::Float { .. })) if j == other => {
                    normal::draw_in_unit_interval(*known, STEP, rng)
                }
                (None, _) if j == other => *x,
                (None, _) => *known,
            };
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use shared::space::SpaceFile;
    use shared::{Configuration, ConfigurationId, Score, SearchSpace, Seed};

    use super::*;

    const SPACE: &str = r#"{"hyperparameters":[
        {"name":"blocks","type":"integer","lower":1,"upper":9},
        {"name":"width","type":"ordinal","sequence":[8,16,32,64,128]},
        {"name":"rate","type":"float","lower":0,"upper":1}]}"#;

    /// Proposals in their order, with the loss of each.
    fn proposals(number: u32, loss: impl Fn(&Configuration) -> f64) -> Vec<Configuration> {
        let space = SearchSpace::new(&serde_json::from_str::<SpaceFile>(SPACE).unwrap()).unwrap();
        let mut history = History::new(&space);
        let mut proposals = Vec::new();
        for id in (0..number).map(ConfigurationId) {
            let ask = Ask {
                configuration: id,
                rung: 0,
                pending: &[],
                seed: Seed::new(u64::from(id.0)),
            };
            let vector = Progressive.propose(&history, &ask).vector;
            let values = space.decode(&vector);
            let vector = space.encode(&values);
            history.know(id, vector.clone());
            history.learn(id.job(0), Some(Score::Loss(loss(&values))), vector);
            proposals.push(values);
        }
        proposals
    }

    #[test]
    fn sizes_grow_stage_by_stage() {
        let proposals = proposals(60, |values| -values.float("blocks").unwrap());
        let sizes = |values: &Configuration| {
            let size = |name| values.integer(name).unwrap();
            (size("blocks"), size("width"))
        };
        assert!(proposals[..8].iter().all(|values| sizes(values) == (1, 8)));
        let second = &proposals[8..16];
        assert!(
            second
                .iter()
                .all(|values| sizes(values).0 <= 5 && sizes(values).1 <= 32)
        );
        assert!(second.iter().any(|values| sizes(values).0 > 1));
        // More blocks are better, and the ensemble has learnt so.
        let best = |some: &[Configuration]| some.iter().map(|v| sizes(v).0).max().unwrap();
        assert!(best(&proposals[16..24]) > best(second));
        let last: Vec<i64> = proposals[40..]
            .iter()
            .map(|values| sizes(values).0)
            .collect();
        assert!(
            last.iter().filter(|blocks| **blocks >= 8).count() > 14,
            "{last:?}"
        );
    }

    #[test]
    fn a_search_that_goes_on_finds_back_to_smaller_ones() {
        let far = |values: &Configuration| (values.float("blocks").unwrap() - 3.0).abs();
        let proposals = proposals(80, far);
        let near = proposals[60..].iter().filter(|values| far(values) <= 1.0);
        assert!(near.count() > 10);
    }
}
