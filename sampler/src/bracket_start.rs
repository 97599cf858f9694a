//! At which rung the next bracket starts: where screening at small budgets pays, by the correlation that was measured.
//!
//! ```text
//! evidence  for each rung q below the top R: Spearman's r of the losses at q and at R, among the newest n ≤ 30
//!           configurations evaluated at R whose loss at q is known, from a result or from their learning curve
//! belief    atanh ρ_q ~ N(z, 1/(n' + k)),   z = (n' atanh r + k z₀) / (n' + k),   n' = max(0, n - 3)
//! model     a configuration is worth f ~ N(0, 1); rung q shows f + ε_q with a correlation of ρ_q, and the errors of
//!           rungs add up from the top down
//! value     of starting at q: mean of the best f that reaches the top in brackets of a total cost of 12 largest budgets
//! ```
//! One ρ is drawn from the belief, and the bracket starts where the value is largest: rungs are chosen as often as they
//! are likely to be the best, so a lack of evidence leads to more of it. The newest configurations count, because what
//! is asked is whether small budgets tell apart those that are proposed now.
//!
//! Range of validity: any ladder. Without evidence the belief is that of the prior, around ρ = 0.5. Failures rank after
//! all losses; equal losses share their rank; where all are equal nothing is said.
//!
//! # Source
//! Fisher 1921 for the transformation; Thompson 1933 for drawing by belief. Rank correlation of budgets as a reason to
//! leave some out: Li et al. 2022 (Hyper-Tune).

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::budget::BracketSizes;
use shared::{Ladder, Score, Seed};

use crate::history::History;
use crate::normal;
use crate::ranks::mean_ranks;

/// Configurations that are looked at, the newest ones.
const MOST_PAIRS: usize = 30;
/// k: what the prior counts for.
const PRIOR_PAIRS: f64 = 3.0;
/// z₀ = atanh 0.5.
const PRIOR_MEAN: f64 = 0.549_306_144_334_054_8;
/// What the starts are compared for, in largest budgets.
const HORIZON: f64 = 12.0;
/// Draws of all configurations of the brackets of a horizon.
const NUM_DRAWS: usize = 200;
/// No correlation is taken to be below this: its error would have no variance.
const SMALLEST_CORRELATION: f64 = 0.05;

/// What is known of how well a rung foretells the top rung.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// The rung.
    pub rung: u8,
    /// How many configurations are known at it and at the top rung.
    pub num_pairs: usize,
    /// Spearman's correlation of their losses; 0 where it is not defined.
    pub correlation: f64,
    /// Centre of the belief about atanh ρ.
    centre: f64,
    /// Its standard deviation.
    deviation: f64,
}

impl Evidence {
    /// The range in which ρ is believed to be with a probability of 95 %.
    pub fn interval(&self) -> (f64, f64) {
        let half = 1.959_963_984_540_054 * self.deviation;
        (
            libm::tanh(self.centre - half),
            libm::tanh(self.centre + half),
        )
    }
}

/// The evidence for each rung below the top, lowest first.
pub fn evidence(history: &History, ladder: &Ladder) -> Vec<Evidence> {
    let top = ladder.top();
    let mut newest: Vec<_> = history
        .arrivals()
        .iter()
        .rev()
        .filter(|r| r.job.rung == top)
        .take(MOST_PAIRS)
        .collect();
    newest.reverse();
    (0..top)
        .map(|rung| {
            let budget = ladder.budget(rung).amount;
            let pairs = newest.iter().filter_map(|ranked| {
                let lower = history.score_at(ranked.job.configuration, rung, budget)?;
                Some((lower, ranked.score))
            });
            of_pairs(rung, &pairs.collect::<Vec<_>>())
        })
        .collect()
}

fn of_pairs(rung: u8, pairs: &[(Score, Score)]) -> Evidence {
    let ranks = |of: fn(&(Score, Score)) -> Score| {
        mean_ranks(pairs, |a, b| of(a).cmp(&of(b)), |a, b| of(a) == of(b))
    };
    let correlation = crate::ranks::correlation(&ranks(|pair| pair.0), &ranks(|pair| pair.1));
    // As many as nothing, where it is not defined.
    let weight = correlation.map_or(0.0, |_| (pairs.len() as f64 - 3.0).max(0.0));
    let correlation = correlation.unwrap_or(0.0);
    let measured = libm::atanh(correlation.clamp(-0.99, 0.99));
    Evidence {
        rung,
        num_pairs: pairs.len(),
        correlation,
        centre: (weight * measured + PRIOR_PAIRS * PRIOR_MEAN) / (weight + PRIOR_PAIRS),
        deviation: 1.0 / (weight + PRIOR_PAIRS).sqrt(),
    }
}

/// The rung at which a bracket starts.
pub fn first_rung(evidence: &[Evidence], ladder: &Ladder, form: BracketSizes, seed: Seed) -> u8 {
    let mut rng = seed.rng();
    let common = normal::draw(&mut rng);
    let mut correlations: Vec<f64> = evidence
        .iter()
        .map(|e| libm::tanh(e.centre + common * e.deviation).max(SMALLEST_CORRELATION))
        .collect();
    // Where less is known of a rung than of one below, it is taken to be as good as that.
    let mut known = (f64::INFINITY, 0.0);
    for (correlation, evidence) in correlations.iter_mut().zip(evidence) {
        if evidence.deviation > known.0 {
            *correlation = correlation.max(known.1);
        } else {
            known = (evidence.deviation, *correlation);
        }
    }
    correlations.push(1.0);
    let mut best = (f64::NEG_INFINITY, ladder.top());
    for rung in (0..ladder.num_rungs()).rev() {
        let sizes = ladder.bracket_sizes(u32::from(rung), form);
        let value = value(
            &correlations[usize::from(rung)..],
            &sizes,
            ladder.eta(),
            seed,
        );
        if value > best.0 {
            best = (value, rung);
        }
    }
    best.1
}

/// The mean of the best f in brackets of these sizes that cost a horizon.
fn value(correlations: &[f64], sizes: &[u32], eta: f64, seed: Seed) -> f64 {
    let mut rng = seed.child("value", sizes.len()).rng();
    let costs = sizes.iter().rev().scan(1.0, |share, size| {
        let cost = f64::from(*size) * *share;
        *share /= eta;
        Some(cost)
    });
    let num_brackets = HORIZON / costs.sum::<f64>();
    let whole = num_brackets.floor();
    let mut sum = 0.0;
    for _ in 0..NUM_DRAWS {
        // A part of a bracket is one that takes place with that probability.
        let has_one_more = rng.random::<f64>() < num_brackets - whole;
        let count = whole + f64::from(u8::from(has_one_more));
        let mut best = f64::NEG_INFINITY;
        let mut done = 0.0;
        while done < count {
            best = best.max(best_of_bracket(correlations, sizes, &mut rng));
            done += 1.0;
        }
        sum += best.max(0.0);
    }
    sum / NUM_DRAWS as f64
}

fn best_of_bracket(correlations: &[f64], sizes: &[u32], rng: &mut ChaCha12Rng) -> f64 {
    let num_rungs = sizes.len();
    // What the errors of each rung add to those of the rung above.
    let mut above = 0.0;
    let mut added = vec![0.0; num_rungs];
    for (added, correlation) in added.iter_mut().zip(correlations).rev() {
        let variance = (1.0 / (correlation * correlation) - 1.0).max(above);
        *added = (variance - above).sqrt();
        above = variance;
    }
    // f and what each rung shows of it.
    let mut entrants: Vec<(f64, Vec<f64>)> = (0..sizes[0])
        .map(|_| {
            let f = normal::draw(rng);
            let mut shown = f;
            let mut by_rung: Vec<f64> = added
                .iter()
                .rev()
                .map(|added| {
                    shown += added * normal::draw(rng);
                    shown
                })
                .collect();
            by_rung.reverse();
            (f, by_rung)
        })
        .collect();
    for (rung, size) in sizes.iter().enumerate().skip(1) {
        entrants.sort_by(|a, b| b.1[rung - 1].total_cmp(&a.1[rung - 1]));
        entrants.truncate(usize::try_from(*size).unwrap_or(usize::MAX));
    }
    entrants
        .iter()
        .map(|(f, _)| *f)
        .fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use shared::budget::BudgetSettings;
    use shared::{BudgetUnit, ConfigurationId, SearchSpace};

    use super::*;

    fn ladder() -> Ladder {
        Ladder::new(
            BudgetSettings {
                unit: BudgetUnit::Epochs,
                min: 1.0,
                max: 27.0,
                eta: 3.0,
            },
            true,
        )
        .unwrap()
    }

    /// `count` configurations at the top whose loss is their number, and at the lowest budget `low` of it, on the curve.
    fn history(count: u32, low: fn(f64) -> f64) -> History {
        let json = r#"{"hyperparameters":[{"name":"x","type":"float","lower":0,"upper":1}]}"#;
        let space = SearchSpace::new(&serde_json::from_str(json).unwrap()).unwrap();
        let mut history = History::new(&space);
        for number in 0..count {
            let id = ConfigurationId(number);
            let loss = f64::from(number);
            history.trace(id, [(1.0, low(loss)), (27.0, loss)]);
            history.learn(id.job(3), Some(Score::Loss(loss)), vec![0.5]);
        }
        history
    }

    /// How many of 200 brackets start at each rung.
    fn starts(evidence: &[Evidence]) -> [u32; 4] {
        let mut counts = [0; 4];
        for number in 0..200 {
            let seed = Seed::new(1).child("start", number);
            counts[usize::from(first_rung(evidence, &ladder(), BracketSizes::Floor, seed))] += 1;
        }
        counts
    }

    #[test]
    fn evidence_comes_from_learning_curves() {
        let agreeing = evidence(&history(20, |loss| loss + 3.0), &ladder());
        assert_eq!(agreeing.len(), 3);
        assert_eq!((agreeing[0].num_pairs, agreeing[1].num_pairs), (20, 0));
        assert!((agreeing[0].correlation - 1.0).abs() < 1e-12);
        let (lower, upper) = agreeing[0].interval();
        assert!(0.8 < lower && upper < 1.0);
        let (lower, upper) = agreeing[1].interval();
        assert!(lower < 0.0 && upper > 0.9, "nothing is known of rung 1");
        // All alike at the lowest budget: nothing is said.
        let flat = evidence(&history(20, |_| 1.0), &ladder());
        assert!((flat[0].centre - PRIOR_MEAN).abs() < 1e-12);
    }

    #[test]
    fn brackets_start_low_where_small_budgets_foretell_and_high_where_they_mislead() {
        let foretelling = starts(&evidence(&history(30, |loss| loss), &ladder()));
        assert!(
            foretelling[0] > 150 && foretelling[3] == 0,
            "{foretelling:?}"
        );
        let misleading = starts(&evidence(&history(30, |loss| -loss), &ladder()));
        assert!(misleading[0] < 20, "{misleading:?}");
        let nothing = starts(&evidence(&history(0, |loss| loss), &ladder()));
        assert!(
            nothing.iter().filter(|count| **count > 0).count() >= 2,
            "{nothing:?}"
        );
    }

    #[test]
    fn failures_rank_after_losses() {
        let loss = Score::Loss;
        let pairs = [
            (loss(1.0), loss(2.0)),
            (loss(2.0), loss(3.0)),
            (Score::Failed, Score::Failed),
            (loss(3.0), Score::Failed),
        ];
        assert!(of_pairs(0, &pairs).correlation > 0.9);
    }
}
