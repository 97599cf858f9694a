//! The records that programs write for each other: plain data, one JSON object a file.
//!
//! Who writes and who reads each is in the crate's front page; the envelope is in [`crate::format`].
#![warn(clippy::wildcard_enum_match_arm)]

mod job;
mod proposal;
mod result;
mod trainer;

pub use job::{AttemptEnd, Check, Checked, Checks, Fate, Job, Retry, RetryReason};
pub use proposal::{Gift, Given, ModelUse, Origin, Proposal, Request, RungCheck};
pub use result::{CurvePoint, JobResult, Outcome};
pub use trainer::{Heartbeat, Observation, ObservedClaim, ObservedTrainer, TrainerState};

use serde::{Deserialize, Serialize};

use crate::budget::BudgetUnit;
use crate::error::Invalid;
use crate::format::Record;
use crate::search::Limit;
use crate::space::SpaceFile;

/// What `scheduler init` made: `created.json`, scheduler → all.
///
/// A search whose digest is another one has been changed since, and no program works on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Digest of the search, as in [`Job::search`].
    pub search: String,
    /// When, RFC 3339 in UTC, for people.
    pub at: String,
    /// Version of the program that made it.
    pub program: String,
}

impl Record for Created {
    const FORMAT: &'static str = "created";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];
}

/// A search goes on beyond its limit: `extensions/0001.json`, `scheduler extend` → schedulers.
///
/// All of them count, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extension {
    /// How much there is beyond what there was; of the same kind as the search's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// The largest budget from here on, in the search's unit: a rung above those there were. What `limit` adds has it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_budget: Option<f64>,
    /// When this was written, RFC 3339 in UTC, for people.
    pub at: String,
    /// Version of the program that wrote it.
    pub program: String,
}

impl Record for Extension {
    const FORMAT: &'static str = "extension";
    /// 1.0: first. 2.0: `max_budget`, without which a program would expect other jobs.
    const VERSION: [u32; 2] = [2, 0];

    fn version(&self) -> [u32; 2] {
        if self.max_budget.is_some() {
            Self::VERSION
        } else {
            [1, 0]
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        match (self.limit, self.max_budget) {
            (None, None) => Err(Invalid::new("limit", "a limit or `max_budget`", "neither")),
            (_, Some(max)) if !(max.is_finite() && max > 0.0) => {
                Err(Invalid::new("max_budget", "a finite number above 0", max))
            }
            _ => Ok(()),
        }
    }
}

/// The scheduler's last word: `finished.json`. Trainers and samplers that see it leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Number of configurations tried.
    pub configurations: u64,
    /// Number of jobs that have a result.
    pub jobs: u64,
    /// Number of retries that it takes account of; where there are more, the search goes on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u64,
    /// The uppermost rung that it takes account of, where extensions have added some; where there is a higher one, the search
    /// goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<u8>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Record for Finished {
    const FORMAT: &'static str = "finished";
    /// 1.0: first. 1.1: `retries`. 1.2: `top`.
    const VERSION: [u32; 2] = [1, 2];
}

/// What a directory with another program's results is: `imported.json`, in place of `search.json`; analyzer → analyzer.
///
/// Such a directory has `configurations/` and `results/` only and is no search: no other program works on it. Rungs
/// are the positions in `budgets`; the unit in its results is `steps`, whatever the other program counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// A name for people.
    pub name: String,
    /// The program whose log it was: `HpBandSter`.
    pub source: String,
    /// What the budgets are amounts of, if the user said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<BudgetUnit>,
    /// The budgets, ascending.
    pub budgets: Vec<f64>,
    /// What may vary; absent where the log had too much of it to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<SpaceFile>,
    /// Whether `space` was guessed from the values that occur.
    pub space_is_inferred: bool,
    /// Version of the analyzer that wrote it.
    pub program: String,
}

impl Record for Imported {
    const FORMAT: &'static str = "imported";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];

    fn check(&self) -> Result<(), Invalid> {
        let is_ascending = self.budgets.windows(2).all(|pair| pair[0] < pair[1]);
        if is_ascending && self.budgets.iter().all(|b| b.is_finite() && *b > 0.0) {
            Ok(())
        } else {
            let found = format!("{:?}", self.budgets);
            Err(Invalid::new(
                "budgets",
                "finite, more than 0, ascending",
                found,
            ))
        }
    }
}
