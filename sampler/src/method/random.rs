//! Methods `hyperband` and `random`: every configuration is a draw from the prior.
//!
//! What the user believes about good values is not used, so that they stay what others are compared with.
//!
//! They differ in what the scheduler does with it: brackets of rungs, or the largest budget at once.
//!
//! # Source
//! Li et al. 2018, Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use crate::history::History;
use crate::method::{Ask, Method, Suggestion};
use crate::user_prior::MOST_RESULTS;

/// Draws from the prior.
#[derive(Debug, Clone, Copy)]
pub struct Random;

impl Method for Random {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        uniform(
            history,
            &mut ask.seed.rng(),
            "the method draws every configuration from the prior",
        )
    }
}

/// A draw from the prior, with the reason for it: uniform, or where the user believes in some values and results do not
/// speak against them, near those. The very first one is the believed values themselves.
pub fn draw(history: &History, rng: &mut ChaCha12Rng, reason: impl Into<String>) -> Suggestion {
    let Some(user_prior) = history.user_prior() else {
        return uniform(history, rng, reason);
    };
    let is_first = history.named().is_empty() && history.outstanding().is_empty();
    if is_first {
        return Suggestion {
            vector: user_prior.centre(history.space(), rng),
            source: "belief",
            reason: format!("{}; the values given as `prior` come first", reason.into()),
            model: None,
        };
    }
    let share = user_prior.share(&history.newest(MOST_RESULTS));
    if rng.random::<f64>() >= share {
        return uniform(history, rng, reason);
    }
    Suggestion {
        vector: user_prior.draw(history.space(), rng),
        source: "belief",
        reason: format!(
            "{}; near the values given as `prior`, with a share of {share:.2}",
            reason.into()
        ),
        model: None,
    }
}

/// A uniform draw, whatever the user believes.
pub fn uniform(history: &History, rng: &mut ChaCha12Rng, reason: impl Into<String>) -> Suggestion {
    Suggestion {
        vector: history.space().sample(rng),
        source: "prior",
        reason: reason.into(),
        model: None,
    }
}
