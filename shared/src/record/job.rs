//! A job, an attempt at it that ended without a result, and that it is done again.

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::error::Invalid;
use crate::format::Record;
use crate::id::{AttemptId, Claim, JobId, ResultId};
use crate::value::Configuration;

/// One configuration to be evaluated at one budget: `jobs/open/c000123-r2-a1.json`, scheduler → trainer.
///
/// The file's name, not its content, says which attempt it is: taking back and claiming only rename it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub job: JobId,
    /// The bracket it belongs to.
    pub bracket: u32,
    /// What to spend.
    pub budget: Budget,
    /// The value of every active hyperparameter.
    pub configuration: Configuration,
    /// The lower rung whose checkpoint it continues, where promotions continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<JobId>,
    /// Digest of the `search.json` it belongs to.
    pub search: String,
    /// The attempt whose outcome the next result takes the place of, where the job is done again: see [`Retry`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<AttemptId>,
    /// Hosts whose trainers leave it to others, because it crashed there without any progress.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid_hosts: Vec<String>,
    /// MiB of the device's memory (the host's, where that is the device) that a trainer must have to claim it, as far as
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<f64>,
    /// Drives what is left to chance in its training; `None`: as the search has it for all of a configuration's jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The rung of its configuration's first job, where extensions have added rungs that its bracket has: the search file
    /// does not tell it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_rung: Option<u8>,
    /// Where trainings are stopped: the budgets at which its loss is looked at, ascending, below its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// A budget at which a training's loss is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// That budget, in the job's unit: what counts is the first loss when so much or more is spent.
    pub spent: f64,
    /// A larger loss ends the training; absent where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

/// The loss that was seen at a check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// The check's budget, in the job's unit.
    pub spent: f64,
    /// The loss; finite.
    pub loss: f64,
}

impl Job {
    /// The result that it is to have.
    pub fn result(&self) -> ResultId {
        ResultId::of(self.job, self.supersedes)
    }
}

impl Record for Job {
    const FORMAT: &'static str = "job";
    /// 1.0: first. 1.1: `supersedes`, `avoid_hosts`, `memory_mib`. 1.2: `seed`. 1.3: `checks`. 2.0: `first_rung`, of a job that
    /// may be on a rung that earlier programs do not know.
    const VERSION: [u32; 2] = [2, 0];

    fn version(&self) -> [u32; 2] {
        if self.first_rung.is_some() {
            Self::VERSION
        } else if self.checks.is_empty() {
            [1, 2]
        } else {
            [1, 3]
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        check_budget(self.budget)?;
        check_superseded(self.job, self.supersedes)?;
        if let Some(first) = self.first_rung.filter(|first| *first > self.job.rung) {
            let expected = format!("a rung up to its own ({})", self.job.rung);
            return Err(Invalid::new("first_rung", expected, first));
        }
        check_memory("memory_mib", self.memory_mib)?;
        let budgets = self.checks.iter().map(|check| check.spent);
        let losses = self.checks.iter().map(|check| check.loss);
        check_checks("spent", budgets, losses)?;
        match self.continues {
            Some(lower)
                if lower.configuration != self.job.configuration || lower.rung >= self.job.rung =>
            {
                Err(Invalid::new(
                    "continues",
                    "a lower rung of the same configuration",
                    lower,
                ))
            }
            _ => Ok(()),
        }
    }
}

/// What attempts at a job have seen at its checks: `checkpoints/000/c000123/checks-r2.json`, trainer → the next trainer.
///
/// Of somebody's program, which may go on from where it was without telling what it has told before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    /// The job.
    pub job: JobId,
    /// The losses, lowest budget first.
    pub checks: Vec<Checked>,
}

impl Record for Checks {
    const FORMAT: &'static str = "checks";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];

    fn check(&self) -> Result<(), Invalid> {
        let budgets = self.checks.iter().map(|check| check.spent);
        let losses = self.checks.iter().map(|check| Some(check.loss));
        check_checks("spent", budgets, losses)
    }
}

/// Whether what is looked at comes in ascending order, and its losses are finite.
pub(super) fn check_checks(
    name: &str,
    places: impl Iterator<Item = f64>,
    losses: impl Iterator<Item = Option<f64>>,
) -> Result<(), Invalid> {
    let mut before = -1.0;
    for (index, (place, loss)) in places.zip(losses).enumerate() {
        let at = |field: &str| format!("checks[{index}].{field}");
        if !(place.is_finite() && place > before) {
            let expected = "a finite number above those before it";
            return Err(Invalid::new(at(name), expected, place));
        }
        if let Some(loss) = loss.filter(|loss| !loss.is_finite()) {
            return Err(Invalid::new(at("loss"), "a finite number", loss));
        }
        before = place;
    }
    Ok(())
}

pub(super) fn check_superseded(job: JobId, superseded: Option<AttemptId>) -> Result<(), Invalid> {
    match superseded {
        Some(other) if other.job != job => {
            let expected = format!("an attempt at {job}");
            Err(Invalid::new("supersedes", expected, other))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_memory(name: &str, mib: Option<f64>) -> Result<(), Invalid> {
    match mib {
        Some(mib) if !(mib.is_finite() && mib > 0.0) => {
            Err(Invalid::new(name, "a finite number of MiB above 0", mib))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_budget(budget: Budget) -> Result<(), Invalid> {
    if budget.amount.is_finite() && budget.amount > 0.0 {
        Ok(())
    } else {
        Err(Invalid::new("budget.amount", "more than 0", budget.amount))
    }
}

/// How one attempt ended without a result: `attempts/000/c000123-r2-a1.OWNER.json`.
///
/// Written before the job is offered again, by the trainer that gives it back or the scheduler that takes it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// Which attempt, whose.
    pub claim: Claim,
    /// Whose fault it was; never the configuration's.
    pub fate: Fate,
    /// Budget that the newest checkpoint has spent, as far as the writer knows; in the job's unit.
    pub spent: f64,
    /// More words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When this was written, RFC 3339 in UTC, for people.
    pub at: String,
}

impl Record for AttemptEnd {
    const FORMAT: &'static str = "attempt";
    /// 1.0: first. 1.1: `device_failed`.
    const VERSION: [u32; 2] = [1, 1];
}

/// Why an attempt ended without a result. The job is tried again; the sampler never hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// A warning signal: preemption, requeue, cancellation, Ctrl-C.
    Preempted,
    /// The SLURM job's time was about to end.
    TimeLimit,
    /// The search was stopped.
    Stopped,
    /// The trainer fell silent: its node, its process or its network is gone.
    NodeLost,
    /// The disk or quota was full.
    DiskFull,
    /// Reading or writing failed otherwise.
    InputOutput,
    /// The device failed in the middle of the job: once somebody else's device does, too, it is the configuration's fault.
    DeviceFailed,
}

impl Fate {
    /// The word as it stands in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preempted => "preempted",
            Self::TimeLimit => "time_limit",
            Self::Stopped => "stopped",
            Self::NodeLost => "node_lost",
            Self::DiskFull => "disk_full",
            Self::InputOutput => "input_output",
            Self::DeviceFailed => "device_failed",
        }
    }
}

/// A job is to be done again: `retries/000/c000123-r2-a4.json`, scheduler or `scheduler retry` → all.
///
/// The file's name is the attempt whose outcome no longer counts; its result stays where it is. The job's next result has
/// a name of its own, [`ResultId`], which must be new as well. The first retry of an attempt stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// The attempt whose outcome no longer counts.
    pub supersedes: AttemptId,
    /// Why.
    pub reason: RetryReason,
    /// Hosts on which the job crashed without any progress: others try it, as long as some live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid_hosts: Vec<String>,
    /// MiB of memory that the next trainer must have, as long as one that has it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<f64>,
    /// When this was written, RFC 3339 in UTC, for people.
    pub at: String,
    /// Version of the program that wrote it.
    pub program: String,
}

impl Record for Retry {
    const FORMAT: &'static str = "retry";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];

    fn check(&self) -> Result<(), Invalid> {
        check_memory("memory_mib", self.memory_mib)
    }
}

/// Why a job is done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryReason {
    /// Somebody asked for it.
    Asked,
    /// It crashed without any progress, which may be the host's fault.
    OtherHost,
    /// It had too little memory where a larger trainer lives.
    LargerTrainer,
}
