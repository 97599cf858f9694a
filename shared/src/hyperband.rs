//! Hyperband: which configuration belongs to which bracket, and which of them are promoted.
//!
//! One implementation for the scheduler, which learns of results from files, and for simulations, which make them up.

mod asha;
mod brackets;
pub mod stopping;
mod table;

use serde::Serialize;

use crate::id::{ConfigurationId, JobId};
use crate::score::Score;

pub use asha::Asha;
pub use brackets::Brackets;
pub use table::{Place, Table};

/// What the promotion that comes next waits for, for people and scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NextPromotion {
    /// The bracket; none where promotions have no barrier, or are to a rung that an extension has added.
    pub bracket: Option<u32>,
    /// The rung whose results are missing.
    pub rung: u8,
    /// How many are; without barrier about.
    pub missing: usize,
    /// How many configurations are then promoted; 0 if the bracket ends there.
    pub promoted: usize,
}

/// What promotes configurations, as a search's `scheduling` has it.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// With a barrier: by bracket, when its whole rung has results.
    Brackets(Brackets),
    /// Without.
    Asha(Asha),
}

impl Schedule {
    /// No results yet.
    pub fn new(table: &Table) -> Self {
        if table.is_synchronous() {
            Self::Brackets(Brackets::new(table.clone()))
        } else {
            Self::Asha(Asha::new(table.num_rungs(), table.eta(), table.top()))
        }
    }

    /// Takes note of a result; returns the configurations that will get no job any more.
    pub fn record(&mut self, job: JobId, score: Option<Score>) -> Vec<ConfigurationId> {
        match self {
            Self::Brackets(brackets) => brackets.record(job, score),
            Self::Asha(asha) => asha.record(job, score),
        }
    }

    /// A configuration that somebody gave takes the next id; without a barrier it is promoted like any other.
    pub fn insert(&mut self, id: ConfigurationId, rung: u8) {
        match self {
            Self::Brackets(brackets) => brackets.insert(id, rung),
            Self::Asha(_) => {}
        }
    }

    /// Takes note that a job is offered.
    pub fn offered(&mut self, job: JobId) {
        match self {
            Self::Brackets(brackets) => brackets.offered(job),
            Self::Asha(asha) => asha.offered(job),
        }
    }

    /// Promoted configurations whose next job is not offered, in the order in which it should be.
    pub fn promotions(&self) -> Box<dyn Iterator<Item = JobId> + '_> {
        match self {
            Self::Brackets(brackets) => Box::new(brackets.promotions()),
            Self::Asha(asha) => Box::new(asha.promotions()),
        }
    }

    /// The promotion that comes next, as far as it can be foreseen.
    pub fn next_promotion(&self) -> Option<NextPromotion> {
        match self {
            Self::Brackets(brackets) => brackets.next_promotion(),
            Self::Asha(asha) => asha.next_promotion(),
        }
    }
}

#[cfg(test)]
mod testing {
    use serde_json::json;

    use crate::score::Score;
    use crate::search::{Limit, Search, SearchFile};

    pub(super) const FAILED: Option<Score> = Some(Score::Failed);

    #[expect(clippy::unnecessary_wraps, reason = "as `record` takes it")]
    pub(super) fn loss(loss: f64) -> Option<Score> {
        Some(Score::Loss(loss))
    }

    /// One hyperparameter, budgets from `min` to `max`, one cycle of brackets; with changes.
    pub(super) fn search_with(
        min: u64,
        max: u64,
        eta: u64,
        change: impl FnOnce(&mut SearchFile),
    ) -> Search {
        let file = json!({
            "name": "test",
            "space": { "hyperparameters": [{ "name": "x", "type": "float", "lower": 0, "upper": 1 }] },
            "objective": { "benchmark": "branin" },
            "budget": { "unit": "steps", "min": min, "max": max, "eta": eta },
            "limit": { "brackets": 1 },
            "method": "hyperband",
        });
        let mut file: SearchFile = serde_json::from_value(file).unwrap();
        let num_rungs = Search::new(&file).unwrap().ladder.num_rungs();
        file.limit = Limit::Brackets(u32::from(num_rungs));
        change(&mut file);
        Search::new(&file).unwrap()
    }

    pub(super) fn search(min: u64, max: u64, eta: u64) -> Search {
        search_with(min, max, eta, |_| {})
    }

    /// A space of so many configurations, of which none is tried twice.
    pub(super) fn of_whole_numbers(file: &mut SearchFile, number: i64) {
        let space = json!({
            "hyperparameters": [{ "name": "n", "type": "integer", "lower": 1, "upper": number }]
        });
        file.revision = Some(2);
        file.space = Some(serde_json::from_value(space).unwrap());
    }
}
