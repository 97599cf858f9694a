//! What is asked of the sampler, and what it answers.

use serde::{Deserialize, Serialize};

use super::job::check_checks;
use crate::error::Invalid;
use crate::format::Record;
use crate::id::{ConfigurationId, GivenId, JobId, ResultId};
use crate::value::Configuration;

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
    /// Where trainings are stopped: the rungs below that of its first job, lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<RungCheck>,
    /// Version of the sampler that wrote it.
    pub program: String,
}

/// A rung at whose budget a training's loss is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RungCheck {
    /// The rung.
    pub rung: u8,
    /// A larger loss there ends the training; absent where too little is known, or nothing is to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

impl Record for Proposal {
    const FORMAT: &'static str = "configuration";
    /// 1.0: first. 1.1: `checks`.
    const VERSION: [u32; 2] = [1, 1];

    fn version(&self) -> [u32; 2] {
        if self.checks.is_empty() {
            [1, 0]
        } else {
            Self::VERSION
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        let rungs = self.checks.iter().map(|check| f64::from(check.rung));
        let losses = self.checks.iter().map(|check| check.loss);
        check_checks("rung", rungs, losses)
    }
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
