//! Method `reinforce` of searches of the first two revisions: a policy of independent choices.
//!
//! It draws every dimension on its own: a level, or one of [`BINS`] equal bins of a number and a uniform value
//! within. After each result, for every dimension,
//!
//! ```text
//! logits += rate (R - b) (indicator of what was drawn - probabilities)        REINFORCE, Williams 1992
//! R = share of the earlier results that are worse, b = moving average of R
//! ```
//! R takes the ranks, not the losses, so it does not depend on their scale. Failures have R = 0.
//!
//! Range of validity: any space; an inactive dimension learns nothing from a result. Without results: draws from the
//! prior, which the policy starts as.

use rand_chacha::ChaCha12Rng;
use shared::Ranked;

use super::controller::softmax as probabilities;
use super::{BASELINE_DECAY, BINS, choice, coordinate, insert};
use crate::draw;
use crate::history::History;
use crate::kde::Dimension;
use crate::method::{Ask, Method, Suggestion, random};

/// Step of the logits.
const RATE: f64 = 0.3;

/// The policy, and how many results it has learnt from.
#[derive(Debug)]
pub(crate) struct Independent {
    dimensions: Vec<Dimension>,
    logits: Vec<Vec<f64>>,
    baseline: f64,
    /// Results learnt from, best first.
    learnt: Vec<Ranked>,
}

impl Independent {
    /// The policy that draws from the prior.
    pub(crate) fn new(dimensions: Vec<Dimension>) -> Self {
        Self {
            logits: dimensions
                .iter()
                .map(|k| vec![0.0; k.levels().unwrap_or(BINS)])
                .collect(),
            dimensions,
            baseline: 0.5,
            learnt: Vec::new(),
        }
    }

    fn learn(&mut self, result: Ranked, vector: &[f64]) {
        let reward = insert(&mut self.learnt, result);
        for ((logits, dimension), x) in self.logits.iter_mut().zip(&self.dimensions).zip(vector) {
            if x.is_nan() {
                continue;
            }
            let drawn = choice(*dimension, *x);
            for (i, p) in probabilities(logits).into_iter().enumerate() {
                let indicator = f64::from(u8::from(i == drawn));
                logits[i] += RATE * (reward - self.baseline) * (indicator - p);
            }
        }
        self.baseline = BASELINE_DECAY * self.baseline + (1.0 - BASELINE_DECAY) * reward;
    }

    fn draw(&self, rng: &mut ChaCha12Rng) -> Vec<f64> {
        self.logits
            .iter()
            .zip(&self.dimensions)
            .map(|(logits, dimension)| {
                let drawn = draw::index(&probabilities(logits), rng);
                coordinate(*dimension, drawn, rng)
            })
            .collect()
    }
}

impl Method for Independent {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        let results = history.arrivals();
        for result in &results[self.learnt.len()..] {
            self.learn(*result, history.vector(result.job.configuration));
        }
        let mut rng = ask.seed.rng();
        if results.is_empty() {
            return random::draw(
                history,
                &mut rng,
                "the policy has learnt from no result yet",
            );
        }
        let vector = history
            .space()
            .first_allowed(&mut rng, |rng| self.draw(rng));
        Suggestion {
            vector,
            source: "policy",
            reason: format!("a draw from the policy after {} results", results.len()),
            model: None,
        }
    }
}
