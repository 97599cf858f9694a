//! `search.json`: the question a search asks, written once by `scheduler init`.
//!
//! A person writes a [`SearchFile`]; checked, with its space in hand, it is a [`Search`].

mod check;
mod method;
mod trainers;

pub use method::{BohbSettings, MethodName};
pub use trainers::TrainerSettings;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::budget::{BracketSizes, BudgetSettings, Ladder, is_same_budget};
use crate::constraint::Constraint;
use crate::error::{Complaints, Error, Invalid};
use crate::evidence::EvidenceFile;
use crate::format::Record;
use crate::fs;
use crate::id::JobId;
use crate::known::Start;
use crate::number;
use crate::objective::{Objective, ObjectiveFile};
use crate::seed::Seed;
use crate::space::{SearchSpace, SpaceFile};
use crate::value::Configuration;

/// A search as a person writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchFile {
    /// A name for people.
    pub name: String,
    /// Which revision of the methods it was begun with, so that its proposals can be computed again;
    /// [`Directory::create`](crate::Directory::create) fills it in, `None` is the first.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::whole_or_none"
    )]
    pub revision: Option<u32>,
    /// What may vary; or `space_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<SpaceFile>,
    /// Path of a space file, relative to this file; `scheduler init` puts its content in place of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_file: Option<String>,
    /// What is minimised.
    pub objective: ObjectiveFile,
    /// The folder in which trainers run commands, and where relative paths of data begin; absolute once
    /// `scheduler init` has written it, which takes its own where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// The budgets.
    pub budget: BudgetSettings,
    /// How much is tried.
    pub limit: Limit,
    /// What is minimised, where it is more than the loss: `loss`, then measures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<String>,
    /// How often a configuration that comes to the largest budget is trained with it, each time with another seed.
    #[serde(
        default = "once",
        skip_serializing_if = "is_once",
        deserialize_with = "number::whole"
    )]
    pub repetitions: u32,
    /// Limits of measures: what breaks one is never promoted and never the incumbent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// How configurations are found.
    #[serde(default)]
    pub method: MethodName,
    /// Settings of method `bohb`.
    #[serde(default)]
    pub bohb: BohbSettings,
    /// Whether method `tandem` asks for the largest expected improvement by the second that a training takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cost_aware: bool,
    /// When configurations are promoted to the next rung.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// How the sizes of brackets are rounded.
    #[serde(default)]
    pub bracket_sizes: BracketSizes,
    /// The rungs at which brackets start, in turn; `None`: as the method needs it, see [`Search::first_rungs`].
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::list_or_none"
    )]
    pub first_rungs: Option<Vec<u8>>,
    /// Whether a promoted job goes on from its lower rung's checkpoint; or whether trainings are stopped in place of promotions.
    #[serde(default)]
    pub promotion: Promotion,
    /// Drives everything that is left to chance.
    #[serde(default, deserialize_with = "number::whole")]
    pub seed: u64,
    /// Hyperparameters that have one value only in this search.
    #[serde(default, skip_serializing_if = "Configuration::is_empty")]
    pub fix: Configuration,
    /// Where the values of `fix` come from, for people; `scheduler init --fix-from` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_from: Option<String>,
    /// Configurations to be tried before any that the method proposes: values, or names of published networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start_with: Vec<Start>,
    /// Results of earlier searches that this one learns from; `scheduler init --learn-from` writes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learn_from: Vec<EvidenceFile>,
    /// How trainers and the scheduler watch each other.
    #[serde(default)]
    pub trainers: TrainerSettings,
}

impl Record for SearchFile {
    const FORMAT: &'static str = "search";
    /// 1.0: first. 1.1: `forbidden`, `prior` and `confidence` in the space; `fix`, `fixed_from`, `first_rungs`. 1.2:
    /// `revision`; `keep_alive`; `job_limit_s`, `silence_limit_s`, `output_kib`, `pause_after`; `working_directory`. 1.3:
    /// `cpu_seconds`; names in `start_with`; methods `tournament` and `progressive`; `learn_from`. 1.4:
    /// `constraints`, `objectives`, `repetitions`; `precision` of a network's training. 1.5: `promotion` `stopping`.
    /// 1.6: `cost_aware`.
    const VERSION: [u32; 2] = [1, 6];
    const IS_WRITTEN_BY_PEOPLE: bool = true;

    fn version(&self) -> [u32; 2] {
        match self.promotion {
            _ if self.cost_aware => Self::VERSION,
            Promotion::Stopping => [1, 5],
            Promotion::Scratch | Promotion::Continue => [1, 4],
        }
    }

    fn complaints(&self) -> Vec<Invalid> {
        let wrong = Search::check(self).err().into_iter().flatten();
        // The space may be in another file, and paths are made absolute later.
        let is_elsewhere = self.space.is_none() && self.space_file.is_some();
        let comes_later = |w: &Invalid| match w.at.as_str() {
            "space" => is_elsewhere,
            "working_directory" => true,
            _ => false,
        };
        wrong.filter(|w| !comes_later(w)).collect()
    }

    fn stand_ins() -> Json {
        json!({
            "name": "",
            "objective": { "benchmark": "branin" },
            "budget": { "unit": "steps", "min": 1, "max": 1 },
            "limit": { "brackets": 1 },
        })
    }
}

impl SearchFile {
    /// Reads a search file that a person names, and puts the space of its `space_file` in.
    ///
    /// # Errors
    /// One of the two files cannot be read, or is wrong by itself.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut file: Self = fs::read_named_record(path)?;
        if file.space.is_none()
            && let Some(name) = file.space_file.take()
        {
            let folder = path.parent().unwrap_or(Path::new(""));
            let space_path = folder.join(&name);
            let space: SpaceFile = match fs::read_named_record(&space_path) {
                Err(error) if error.is_not_found() => {
                    let expected = format!("a space file at `{}`", space_path.display());
                    let found = format!("`{name}`: no such file");
                    return Err(Error::Value {
                        path: path.to_path_buf(),
                        format: Self::FORMAT,
                        source: Invalid::new("space_file", expected, found).into(),
                    });
                }
                other => other?,
            };
            file.space = Some(space);
        }
        Ok(file)
    }
}

/// The newest revision of what searches do.
///
/// 1: Tandem 0.1. 2: draws are uniform over what is allowed, however little that is; nothing is proposed twice while
/// something is untried, and the search ends when all is tried. `tandem` asks its model from
/// eight results on, not four, and takes lengths to be longer. 3: `reinforce` has a recurrent controller. 4: `tandem` leaves
/// out every second rung and starts all brackets at the lowest; more of its proposals are the best of a few draws. 5: these draws become more
/// as results come.
pub const REVISION: u32 = 5;

/// The first revision in which `tandem` leaves out rungs.
const LEAVES_OUT_RUNGS: u32 = 4;

fn once() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_once(number: &u32) -> bool {
    *number == 1
}

/// When the search is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// After this many Hyperband brackets.
    Brackets(#[serde(deserialize_with = "number::whole")] u32),
    /// After this many configurations (asynchronous scheduling only).
    Configurations(#[serde(deserialize_with = "number::whole")] u32),
}

/// When configurations are promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheduling {
    /// By bracket, when its whole rung has results (Hyperband, HpBandSter).
    #[default]
    Synchronous,
    /// As soon as a configuration is among the best 1/eta of its rung so far, without waiting (ASHA).
    Asynchronous,
}

/// What a promoted job starts from, or that none is promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// From new weights (the reference).
    #[default]
    Scratch,
    /// From the checkpoint its lower rung ended with; only the difference of the budgets is spent.
    Continue,
    /// None is promoted: every training is towards the largest budget, and ends at a lower rung's where its loss is not
    /// among the best 1/eta of all that have got there so far.
    Stopping,
}

/// A checked search: what every program works from.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// A name for people.
    pub name: String,
    /// What may vary, with what is fixed as constants.
    pub space: SearchSpace,
    /// What is minimised.
    pub objective: Objective,
    /// The folder in which trainers run commands, and where relative paths of data begin; absolute. `None`: nothing
    /// depends on it, or a version before 1.2 made the search.
    pub working_directory: Option<PathBuf>,
    /// The rungs, with those that extensions have added on top.
    pub ladder: Ladder,
    /// When it is finished.
    pub limit: Limit,
    /// What is minimised, where it is more than the loss: `loss`, then measures; else empty.
    pub objectives: Vec<String>,
    /// Limits of measures.
    pub constraints: Vec<Constraint>,
    /// How configurations are found.
    pub method: MethodName,
    /// Knobs of BOHB.
    pub bohb: BohbSettings,
    /// Whether it counts how long a configuration's trainings take.
    pub is_cost_aware: bool,
    /// When configurations are promoted.
    pub scheduling: Scheduling,
    /// How bracket sizes are rounded.
    pub bracket_sizes: BracketSizes,
    /// The rungs at which brackets start on the ladder of the search file, over and over; never empty.
    ///
    /// By default Hyperband's, every rung in turn from the lowest. Method `tandem`: the lowest; before revision 4 then twice
    /// the top rung, because full trainings that small budgets had no say in show whether these mislead. The top where
    /// trainings are stopped.
    pub first_rungs: Vec<u8>,
    /// Whether they are the same on every ladder: the search file names them.
    names_first_rungs: bool,
    /// What a promoted job starts from, or that none is promoted.
    pub promotion: Promotion,
    /// Drives everything that is left to chance.
    pub seed: Seed,
    /// Which revision of the methods it was begun with.
    pub revision: u32,
    /// Tried first; checked against the space.
    pub start_with: Vec<Configuration>,
    /// The evidence that it learns from.
    pub learn_from: Vec<EvidenceFile>,
    /// Heartbeats, leases, attempts.
    pub trainers: TrainerSettings,
    /// SHA-256 of the search as version 1.0 would have written it, in hexadecimal: it stays when the format's version
    /// goes up.
    pub digest: String,
}

impl Search {
    /// Checks a search whose space is in place; the first thing that is wrong.
    pub fn new(file: &SearchFile) -> Result<Self, Invalid> {
        Self::check(file).map_err(Complaints::into_first)
    }

    /// Whether a configuration is never proposed again while another one is left. Searches of the first revision, and
    /// `HpBandSter`, do.
    pub fn tries_nothing_twice(&self) -> bool {
        self.revision >= 2 && !(self.method == MethodName::Bohb && self.bohb.faithful)
    }

    /// How many different configurations can be tried, where nothing is tried twice; `None` for any number.
    pub fn most_configurations(&self) -> Option<u64> {
        let number = self.space.num_configurations();
        number.filter(|_| self.tries_nothing_twice())
    }

    /// What a job on a rung starts from, if it was promoted there: repetitions are trainings of their own.
    pub fn promotion_to(&self, rung: u8) -> Promotion {
        match self.ladder.repetition(rung) {
            0 => self.promotion,
            _ => Promotion::Scratch,
        }
    }

    /// Whether trainings are stopped at lower rungs' budgets, and none is promoted.
    pub fn is_stopping(&self) -> bool {
        self.promotion == Promotion::Stopping
    }

    /// The rung with a budget below the largest one, but for rounding.
    pub fn lower_rung(&self, amount: f64) -> Option<u8> {
        let is_its = |rung: &u8| is_same_budget(self.ladder.budget(*rung).amount, amount);
        (0..self.ladder.top()).find(is_its)
    }

    /// The seed of a job's training: the same at every rung and attempt of a configuration, but another one for each
    /// repetition.
    pub fn training_seed(&self, job: JobId) -> u64 {
        let seed = self.seed.child("training", job.configuration);
        match self.ladder.repetition(job.rung) {
            0 => seed.number(),
            repetition => seed.child("repetition", repetition).number(),
        }
    }

    /// The search file's ladder with rungs added on top, up to a larger largest budget.
    ///
    /// # Errors
    /// The budget is none of a rung that there can be, or the search has no rungs to add to; `at` is `max_budget`.
    pub fn ladder_to(&self, max_budget: f64) -> Result<Ladder, Invalid> {
        let reasons = [
            (
                "its method trains on the largest budget only",
                self.method.has_one_budget(),
            ),
            (
                "HpBandSter, which `bohb.faithful` reproduces, has no such thing",
                self.method == MethodName::Bohb && self.bohb.faithful,
            ),
            (
                "with `\"promotion\": \"stopping\"` all its trainings are towards the largest budget there was",
                self.is_stopping(),
            ),
            (
                "its `repetitions` are on the rungs above the top",
                self.ladder.last() > self.ladder.top(),
            ),
        ];
        if let Some((why, _)) = reasons.iter().find(|(_, is_so)| *is_so) {
            let expected = format!(
                "nothing, because {why}: a new search with the larger budget can `start_with` the best of this one"
            );
            return Err(Invalid::new("max_budget", expected, max_budget));
        }
        self.ladder.raised_to(max_budget)
    }

    /// Sizes of a bracket's rungs, lowest first, on the ladder of the search file; the bracket ends at the top rung, or with
    /// its last repetition.
    ///
    /// Methods of one budget evaluate at the largest only, so their brackets have one rung.
    pub fn bracket_sizes(&self, bracket: u32) -> Vec<u32> {
        let first_rung = self.first_rungs[bracket as usize % self.first_rungs.len()];
        self.sizes_from(first_rung, &self.ladder.original())
    }

    /// The kinds of brackets that take turns on a ladder with rungs added on top: sizes of their rungs, lowest first.
    pub(crate) fn kinds_of_brackets(&self, ladder: &Ladder) -> Vec<Vec<u32>> {
        let first_rungs = if self.names_first_rungs {
            self.first_rungs.clone()
        } else {
            default_first_rungs(self.method, self.revision, ladder.top())
        };
        let sizes = |first_rung| self.sizes_from(first_rung, ladder);
        first_rungs.into_iter().map(sizes).collect()
    }

    fn sizes_from(&self, first_rung: u8, ladder: &Ladder) -> Vec<u32> {
        let mut sizes = ladder.bracket_sizes(u32::from(first_rung), self.bracket_sizes);
        if self.method.has_one_budget() {
            sizes.truncate(1);
        }
        // Who comes to the top is trained there again and again.
        let length = sizes.len() + usize::from(ladder.last() - ladder.top());
        sizes.resize(length, sizes.last().copied().unwrap_or(0)); // there is one
        sizes
    }
}

fn default_first_rungs(method: MethodName, revision: u32, top: u8) -> Vec<u8> {
    match method {
        MethodName::Tandem if revision >= LEAVES_OUT_RUNGS => vec![0],
        MethodName::Tandem if top > 0 => vec![0, top, top],
        _ => (0..=top).collect(),
    }
}
