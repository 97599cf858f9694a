//! The records that programs write for each other: plain data, one JSON object a file.
//!
//! Who writes and who reads each is in the crate's front page; the envelope is in [`crate::format`].
#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::budget::{Budget, BudgetUnit};
use crate::clock::Reading;
use crate::constraint::Violation;
use crate::error::Invalid;
use crate::format::Record;
use crate::id::{AttemptId, Claim, ConfigurationId, GivenId, JobId, OwnerId, ResultId};
use crate::search::Limit;
use crate::space::SpaceFile;
use crate::value::Configuration;

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

/// "A configuration with this id, please": `requests/000/c000123.json`, scheduler → sampler.
///
/// Requests are numbered without gaps. The results known when a configuration is proposed are those named by its own
/// request and all before it, so a proposal is a function of these files and the search alone: two samplers write the
/// same, and `sampler replay` can redo any of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The id that the configuration will have.
    pub configuration: ConfigurationId,
    /// The bracket it is for.
    pub bracket: u32,
    /// The rung of its first job.
    pub rung: u8,
    /// Jobs whose results became known since the request before, in the order of their ids.
    pub finished: Vec<JobId>,
    /// Jobs above their configuration's first rung that were offered since the request before, in the order of their
    /// ids. They are under way until a request names them as finished, as are the first jobs of all configurations
    /// asked for before.
    pub pending: Vec<JobId>,
    /// Results of jobs that were done again which became known since the request before, in the order of their ids: each
    /// takes the place of what was known of its job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseding: Vec<ResultId>,
    /// The configuration that it is to be, where somebody gave one: then it belongs to no bracket, and those of the
    /// brackets come after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Gift>,
    /// The uppermost rung, where extensions have added some to the search file's: models know of those from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<u8>,
}

/// What somebody gave, in a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gift {
    /// The number of its [`Given`].
    pub number: GivenId,
    /// The value of every active hyperparameter.
    pub values: Configuration,
}

impl Record for Request {
    const FORMAT: &'static str = "request";
    /// 1.0: first. 1.1: `superseding`. 2.0: `given`, without which a program would take ids for those of other places. 3.0:
    /// `top`, without which it would take rungs for repetitions.
    const VERSION: [u32; 2] = [3, 0];

    fn version(&self) -> [u32; 2] {
        match (self.top, &self.given) {
            (Some(_), _) => Self::VERSION,
            (None, Some(_)) => [2, 0],
            (None, None) => [1, 1],
        }
    }
}

/// Somebody wants a configuration to be tried: `given/0001.json`, `scheduler propose` → schedulers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// The value of every active hyperparameter.
    pub configuration: Configuration,
    /// The rung of its job.
    pub rung: u8,
    /// When this was written, RFC 3339 in UTC, for people.
    pub at: String,
    /// Version of the program that wrote it.
    pub program: String,
}

impl Record for Given {
    const FORMAT: &'static str = "given";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];
}

/// The answer to a request: `configurations/000/c000123.json`, sampler → all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its id.
    pub configuration: ConfigurationId,
    /// The value of every active hyperparameter.
    pub values: Configuration,
    /// How it was found.
    pub origin: Origin,
    /// Version of the sampler that wrote it.
    pub program: String,
}

impl Record for Proposal {
    const FORMAT: &'static str = "configuration";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];
}

/// How a configuration was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The search method: `bohb`, `random`, …
    pub method: String,
    /// What the method did: `given` (by the user), `prior` (a draw from it), `model`, …
    pub source: String,
    /// Why, in a few words for people.
    pub reason: String,
    /// How many results were known: those named by this configuration's request and all before it.
    pub num_results: u64,
    /// SHA-256 over the ids of these results in ascending order, each with a newline behind it.
    pub results_digest: String,
    /// The model, if one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUse>,
}

/// Which model gave a proposal, and how strongly it spoke for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelUse {
    /// The rung whose results the model was fitted on; method `tandem`: the highest of those that it saw.
    pub rung: u8,
    /// Number of results behind the good density; method `tandem`: all that the model saw.
    pub num_good: u64,
    /// Number of results behind the bad density; method `tandem`: 0.
    pub num_bad: u64,
    /// Candidates that were compared.
    pub num_candidates: u64,
    /// Natural logarithm of l(x)/g(x), or, method `tandem`, of the expected improvement: the largest among the candidates.
    pub log_acquisition: f64,
}

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
}

impl Job {
    /// The result that it is to have.
    pub fn result(&self) -> ResultId {
        ResultId::of(self.job, self.supersedes)
    }
}

impl Record for Job {
    const FORMAT: &'static str = "job";
    /// 1.0: first. 1.1: `supersedes`, `avoid_hosts`, `memory_mib`. 1.2: `seed`. 2.0: `first_rung`, of a job that may be on a
    /// rung that earlier programs do not know.
    const VERSION: [u32; 2] = [2, 0];

    fn version(&self) -> [u32; 2] {
        if self.first_rung.is_some() {
            Self::VERSION
        } else {
            [1, 2]
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

fn check_superseded(job: JobId, superseded: Option<AttemptId>) -> Result<(), Invalid> {
    match superseded {
        Some(other) if other.job != job => {
            let expected = format!("an attempt at {job}");
            Err(Invalid::new("supersedes", expected, other))
        }
        _ => Ok(()),
    }
}

fn check_memory(name: &str, mib: Option<f64>) -> Result<(), Invalid> {
    match mib {
        Some(mib) if !(mib.is_finite() && mib > 0.0) => {
            Err(Invalid::new(name, "a finite number of MiB above 0", mib))
        }
        _ => Ok(()),
    }
}

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

fn check_budget(budget: Budget) -> Result<(), Invalid> {
    if budget.amount.is_finite() && budget.amount > 0.0 {
        Ok(())
    } else {
        Err(Invalid::new("budget.amount", "more than 0", budget.amount))
    }
}

/// A trainer's sign of life: `trainers/OWNER.json`, replaced by its owner.
///
/// A watcher times on its own clock how long `beat` has not changed; no clocks are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose.
    pub owner: OwnerId,
    /// Goes up by one each time.
    pub beat: u64,
    /// What it is doing.
    pub state: TrainerState,
    /// Host name, for people.
    pub host: String,
    /// Process id on that host, for people.
    pub pid: u32,
    /// What it computes on: `cpu`, `cuda:0`, `vulkan:0`, …
    pub device: String,
    /// The SLURM job it runs in: `123` or `123_4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slurm_job: Option<String>,
    /// MiB of memory that trainings may use on this host, as far as known: what system and control groups allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<f64>,
    /// MiB of the device's own memory, where it has some and it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory_mib: Option<f64>,
    /// Seconds until it has to leave, where its time is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_left_s: Option<f64>,
    /// When this was written, RFC 3339 in UTC, for people.
    pub at: String,
    /// Version of the trainer.
    pub program: String,
}

impl Heartbeat {
    /// MiB that a job's training has: the device's own where there are some, else the host's.
    pub fn training_memory_mib(&self) -> Option<f64> {
        self.device_memory_mib.or(self.memory_mib)
    }
}

impl Record for Heartbeat {
    const FORMAT: &'static str = "heartbeat";
    /// 1.0: first. 1.1: `memory_mib`, `device_memory_mib`, `time_left_s`.
    const VERSION: [u32; 2] = [1, 1];

    fn check(&self) -> Result<(), Invalid> {
        check_memory("memory_mib", self.memory_mib)?;
        check_memory("device_memory_mib", self.device_memory_mib)?;
        match self.time_left_s {
            Some(left_s) if !(left_s.is_finite() && left_s >= 0.0) => {
                let expected = "a finite number from 0 on";
                Err(Invalid::new("time_left_s", expected, left_s))
            }
            _ => Ok(()),
        }
    }
}

/// What a trainer is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TrainerState {
    /// Waits for an open job.
    Waiting,
    /// Has claimed a job.
    Working {
        /// Which.
        claim: Claim,
        /// Budget spent on it so far, in its unit.
        spent: f64,
    },
    /// Has left in good order and holds nothing.
    Gone,
}

/// What a scheduler saw of the trainers when it left: `observations/HOST.json`, replaced by each scheduler of that host.
///
/// The next scheduler there goes on timing. A claim and its owner's counter never come back once they have changed, so
/// an observation that is old, or another scheduler's, says less than a new one and nothing wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The host that watched.
    pub host: String,
    /// That host's clocks at the time.
    pub reading: Reading,
    /// Trainers that had not left.
    pub trainers: Vec<ObservedTrainer>,
    /// Jobs in trainers' hands.
    pub claims: Vec<ObservedClaim>,
}

impl Record for Observation {
    const FORMAT: &'static str = "observation";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];

    fn check(&self) -> Result<(), Invalid> {
        let trainers = self.trainers.iter().map(|trainer| trainer.silent_s);
        let claims = self.claims.iter().map(|claim| claim.silent_s);
        for silent_s in trainers.chain(claims) {
            if !(silent_s.is_finite() && silent_s >= 0.0) {
                return Err(Invalid::new(
                    "silent_s",
                    "a finite number from 0 on",
                    silent_s,
                ));
            }
        }
        Ok(())
    }
}

/// A trainer as a scheduler saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedTrainer {
    /// Which.
    pub owner: OwnerId,
    /// Its heartbeat's counter.
    pub beat: u64,
    /// Seconds, at least, for which that had not changed.
    pub silent_s: f64,
}

/// A claimed job as a scheduler saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedClaim {
    /// Which, and whose.
    pub claim: Claim,
    /// The counter of the last heartbeat that named it, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beat: Option<u64>,
    /// Seconds, at least, for which that had not changed.
    pub silent_s: f64,
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
    /// The attempt whose outcome this takes the place of: as in its [`Job`].
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
    /// programs would take for a damaged file.
    const VERSION: [u32; 2] = [2, 0];

    fn version(&self) -> [u32; 2] {
        if matches!(self.outcome, Outcome::Infeasible { .. }) {
            Self::VERSION
        } else {
            [1, 1]
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

    /// The loss, if the job was evaluated and breaks no constraint.
    pub fn loss(&self) -> Option<f64> {
        match self {
            Self::Evaluated { loss } => Some(*loss),
            Self::Diverged { .. }
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
            Self::Evaluated { .. } | Self::Lost { .. } => false,
        }
    }

    /// The word as it stands in records.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Evaluated { .. } => "evaluated",
            Self::Diverged { .. } => "diverged",
            Self::OutOfMemory { .. } => "out_of_memory",
            Self::Infeasible { .. } => "infeasible",
            Self::Crashed { .. } => "crashed",
            Self::Lost { .. } => "lost",
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
