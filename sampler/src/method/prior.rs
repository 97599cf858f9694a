//! Methods `hyperband` and `random`: every configuration is a draw from the prior.
//!
//! They differ in what the scheduler does with it: brackets of rungs, or the largest budget at once.
//!
//! # Source
//! Li et al. 2018, Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization.

use crate::history::History;
use crate::method::{Ask, Method, Suggestion};

/// Draws from the prior.
#[derive(Debug, Clone, Copy)]
pub struct Prior;

impl Method for Prior {
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion {
        draw(
            history,
            &mut ask.seed.rng(),
            "the method draws every configuration from the prior",
        )
    }
}

/// A draw from the prior, with the reason for it.
pub fn draw(history: &History, rng: &mut impl rand::Rng, reason: impl Into<String>) -> Suggestion {
    Suggestion {
        vector: history.space().sample(rng),
        source: "prior",
        reason: reason.into(),
        model: None,
    }
}
