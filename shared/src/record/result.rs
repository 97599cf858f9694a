//! The outcome of a job.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::{check_budget, check_checks, check_superseded};
use super::{Checked, Fate};
use crate::budget::Budget;
use crate::constraint::Violation;
use crate::error::Invalid;
use crate::format::Record;
use crate::id::{AttemptId, JobId, OwnerId, ResultId};
use crate::value::Configuration;

fn check_infeasible(violations: &[Violation], loss: Option<f64>) -> Result<(), Invalid> {
    if violations.is_empty() {
        let expected = "at least one constraint that is broken";
        return Err(Invalid::new("violations", expected, "none"));
    }
    let bounds = violations
        .iter()
        .flat_map(|v| [Some(v.value), v.min, v.max]);
    match bounds.chain([loss]).flatten().find(|x| !x.is_finite()) {
        Some(number) => Err(Invalid::new("violations", "finite numbers", number)),
        None => Ok(()),
    }
}

/// The outcome of a job: `results/000/c000123-r2.json`, trainer → all. The first one published stays.
///
/// One of a job that was done again is in `results/000/c000123-r2-a5.json`, see [`ResultId`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// Which attempt gave it.
    pub attempt: AttemptId,
    /// Who published it.
    pub owner: OwnerId,
    /// The bracket of the job.
    pub bracket: u32,
    /// The budget of the job.
    pub budget: Budget,
    /// The value of every active hyperparameter.
    pub configuration: Configuration,
    /// What came out.
    pub outcome: Outcome,
    /// Other numbers: test error, parameters, seconds by phase; names end with the unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, f64>,
    /// The learning curve, ascending in `spent`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CurvePoint>,
    /// The losses that were seen where the job has checks, as far as it came: lowest budget first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Checked>,
    /// What it was computed on and from, for people: device, data digest, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
    /// When this attempt started, RFC 3339 in UTC, for people and plots.
    pub started_at: String,
    /// When the result was published, RFC 3339 in UTC, for people and plots.
    pub finished_at: String,
    /// Wall seconds of this attempt, on the trainer's clock.
    pub elapsed_s: f64,
    /// Version of the program that wrote it.
    pub program: String,
    /// The attempt whose outcome this takes the place of: as in its [`Job`](super::Job).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<AttemptId>,
}

impl JobResult {
    /// The job's id.
    pub fn job(&self) -> JobId {
        self.attempt.job
    }

    /// Its own id, which is its file's name.
    pub fn id(&self) -> ResultId {
        ResultId::of(self.job(), self.supersedes)
    }
}

impl Record for JobResult {
    const FORMAT: &'static str = "result";
    /// 1.0: first. 1.1: `supersedes`; `progressed` and `log` of a crash. 2.0: the outcome `infeasible`, which earlier
    /// programs would take for a damaged file. 1.2 and 2.1: `checks`. 3.0: the outcome `stopped`, for the same reason.
    const VERSION: [u32; 2] = [3, 0];

    fn version(&self) -> [u32; 2] {
        let has_checks = !self.checks.is_empty();
        match self.outcome {
            Outcome::Stopped { .. } => Self::VERSION,
            Outcome::Infeasible { .. } => [2, u32::from(has_checks)],
            Outcome::Evaluated { .. }
            | Outcome::Diverged { .. }
            | Outcome::OutOfMemory { .. }
            | Outcome::Crashed { .. }
            | Outcome::Lost { .. } => [1, 1 + u32::from(has_checks)],
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        check_budget(self.budget)?;
        check_superseded(self.job(), self.supersedes)?;
        if let Outcome::Evaluated { loss } = self.outcome
            && !loss.is_finite()
        {
            return Err(Invalid::new("outcome.loss", "a finite number", loss));
        }
        if let Outcome::Infeasible {
            violations,
            trained_loss,
        } = &self.outcome
        {
            check_infeasible(violations, *trained_loss).map_err(|e| e.within("outcome"))?;
        }
        if let Outcome::Stopped { spent, loss, limit } = self.outcome {
            for (name, number) in [("spent", spent), ("loss", loss), ("limit", limit)] {
                if !number.is_finite() {
                    let at = format!("outcome.{name}");
                    return Err(Invalid::new(at, "a finite number", number));
                }
            }
        }
        let budgets = self.checks.iter().map(|check| check.spent);
        let losses = self.checks.iter().map(|check| Some(check.loss));
        check_checks("spent", budgets, losses)?;
        // JSON has no NaN; serde_json would write null, which no reader accepts.
        let numbers = self.measures.iter().map(|(name, x)| (name.as_str(), *x));
        for (name, x) in numbers.chain([("elapsed_s", self.elapsed_s)]) {
            if !x.is_finite() {
                return Err(Invalid::new(name, "a finite number", x));
            }
        }
        Ok(())
    }
}

/// A point of a learning curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Budget spent so far, in the budget's unit.
    pub spent: f64,
    /// Mean training loss since the point before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_loss: Option<f64>,
    /// The objective's loss here, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

/// What came out of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// It was trained to its budget.
    Evaluated {
        /// What the search minimises; finite.
        loss: f64,
    },
    /// It was ended on its way, because its loss at a lower rung's budget was too large: no failure.
    Stopped {
        /// Budget spent when it ended.
        spent: f64,
        /// The loss at the check that ended it; finite.
        loss: f64,
        /// The largest loss with which it would have gone on; finite.
        limit: f64,
    },
    /// The training loss stopped being finite, or passed its bound.
    Diverged {
        /// Budget spent when that was noticed.
        spent: f64,
        /// What was seen.
        message: String,
    },
    /// It does not fit the device's memory.
    OutOfMemory {
        /// MiB it needs, as far as known.
        needed_mib: f64,
        /// MiB that were free.
        available_mib: f64,
    },
    /// It breaks a constraint of the search.
    Infeasible {
        /// Which, and by how much; never empty.
        violations: Vec<Violation>,
        /// Its loss, where it was trained all the same, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trained_loss: Option<f64>,
    },
    /// It failed in another way of its own.
    Crashed {
        /// What happened.
        message: String,
        /// Whether anything of it ever progressed: a step, a point of its curve, a report. A first crash without is
        /// tried on another host before it counts. `None`: not known, and it counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progressed: Option<bool>,
        /// What it printed: a path relative to the search directory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<String>,
    },
    /// Attempt after attempt was lost for reasons that are not the configuration's; the sampler never sees this one.
    Lost {
        /// How many attempts there were.
        attempts: u32,
        /// How the last one ended.
        fate: Fate,
    },
}

impl Outcome {
    /// A crash of which no more is known.
    pub fn crashed(message: impl Into<String>) -> Self {
        Self::Crashed {
            message: message.into(),
            progressed: None,
            log: None,
        }
    }

    /// The loss, if the job was evaluated to its end and breaks no constraint.
    pub fn loss(&self) -> Option<f64> {
        match self {
            Self::Evaluated { loss } => Some(*loss),
            Self::Stopped { .. }
            | Self::Diverged { .. }
            | Self::OutOfMemory { .. }
            | Self::Infeasible { .. }
            | Self::Crashed { .. }
            | Self::Lost { .. } => None,
        }
    }

    /// Whether the configuration is worse than every finite loss.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Diverged { .. }
            | Self::OutOfMemory { .. }
            | Self::Infeasible { .. }
            | Self::Crashed { .. } => true,
            Self::Evaluated { .. } | Self::Stopped { .. } | Self::Lost { .. } => false,
        }
    }

    /// The word as it stands in records.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Evaluated { .. } => "evaluated",
            Self::Stopped { .. } => "stopped",
            Self::Diverged { .. } => "diverged",
            Self::OutOfMemory { .. } => "out_of_memory",
            Self::Infeasible { .. } => "infeasible",
            Self::Crashed { .. } => "crashed",
            Self::Lost { .. } => "lost",
        }
    }
}
