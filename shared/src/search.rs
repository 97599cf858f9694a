//! `search.json`: the question a search asks, written once by `scheduler init`.
//!
//! A person writes a [`SearchFile`]; checked, with its space in hand, it is a [`Search`].

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::budget::{BracketSizes, BudgetSettings, Ladder};
use crate::constraint::{self, Constraint};
use crate::error::{Complaints, Error, Invalid};
use crate::evidence::EvidenceFile;
use crate::format::{self, Record};
use crate::fs;
use crate::id::JobId;
use crate::known::Start;
use crate::number;
use crate::objective::{Objective, ObjectiveFile};
use crate::pareto;
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
    /// Whether a promoted job goes on from its lower rung's checkpoint.
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
    /// `constraints`, `objectives`, `repetitions`; `precision` of a network's training.
    const VERSION: [u32; 2] = [1, 4];
    const IS_WRITTEN_BY_PEOPLE: bool = true;

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

/// The most repetitions: rungs are counted in a byte.
const MOST_REPETITIONS: u32 = 100;

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

/// How configurations are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodName {
    /// Bayesian optimisation and Hyperband, Falkner et al. 2018.
    Bohb,
    /// Hyperband, Li et al. 2018: draws from the prior, evaluated in brackets.
    Hyperband,
    /// Draws from the prior, each evaluated at the largest budget only.
    Random,
    /// A Gaussian process over configurations and rungs, in brackets.
    #[default]
    Tandem,
    /// Tree-structured Parzen estimators, Bergstra et al. 2011, at the largest budget only.
    Tpe,
    /// Regularised evolution, Real et al. 2018, at the largest budget only.
    Evolution,
    /// Policy gradient and a recurrent controller, Zoph et al. 2018, at the largest budget only.
    Reinforce,
    /// Random forest and expected improvement, after Hutter et al. 2011 (SMAC), at the largest budget only.
    Smbo,
    /// Evolution by tournaments in a population that only grows, after Liu et al. 2018, at the largest budget only.
    Tournament,
    /// From small configurations to large ones, ranked by an ensemble, after Liu et al. 2018 (PNAS), at the largest budget
    /// only.
    Progressive,
}

impl MethodName {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Bohb,
        Self::Hyperband,
        Self::Random,
        Self::Tandem,
        Self::Tpe,
        Self::Evolution,
        Self::Reinforce,
        Self::Smbo,
        Self::Tournament,
        Self::Progressive,
    ];

    /// The name as in `search.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bohb => "bohb",
            Self::Hyperband => "hyperband",
            Self::Random => "random",
            Self::Tandem => "tandem",
            Self::Tpe => "tpe",
            Self::Evolution => "evolution",
            Self::Reinforce => "reinforce",
            Self::Smbo => "smbo",
            Self::Tournament => "tournament",
            Self::Progressive => "progressive",
        }
    }

    /// Whether it trains on the largest budget only.
    pub fn has_one_budget(self) -> bool {
        match self {
            Self::Random
            | Self::Tpe
            | Self::Evolution
            | Self::Reinforce
            | Self::Smbo
            | Self::Tournament
            | Self::Progressive => true,
            Self::Bohb | Self::Hyperband | Self::Tandem => false,
        }
    }

    /// Whether what it proposes depends on results.
    pub fn learns(self) -> bool {
        match self {
            Self::Hyperband | Self::Random => false,
            Self::Bohb
            | Self::Tandem
            | Self::Tpe
            | Self::Evolution
            | Self::Reinforce
            | Self::Smbo
            | Self::Tournament
            | Self::Progressive => true,
        }
    }
}

/// Knobs of BOHB, with their published names and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BohbSettings {
    /// Results a budget needs before it gets a model; default: dimensions + 1. The model needs twice as many as the
    /// larger of this and dimensions + 1 cannot do without.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::whole_or_none"
    )]
    pub min_points_in_model: Option<u32>,
    /// Share of the results that counts as good, in percent.
    #[serde(deserialize_with = "number::whole")]
    pub top_n_percent: u32,
    /// Candidates drawn from the good density for each proposal.
    #[serde(deserialize_with = "number::whole")]
    pub num_samples: u32,
    /// Share of the proposals drawn from the prior.
    pub random_fraction: f64,
    /// Candidates are drawn with bandwidths this much wider.
    pub bandwidth_factor: f64,
    /// Smallest bandwidth of a dimension.
    pub min_bandwidth: f64,
    /// Reproduce HpBandSter where repairs would change proposals: results below the largest modelled budget are
    /// forgotten.
    pub faithful: bool,
}

impl Default for BohbSettings {
    fn default() -> Self {
        Self {
            min_points_in_model: None,
            top_n_percent: 15,
            num_samples: 64,
            random_fraction: 1.0 / 3.0,
            bandwidth_factor: 3.0,
            min_bandwidth: 1e-3,
            faithful: false,
        }
    }
}

impl BohbSettings {
    fn check(&self) -> Result<(), Invalid> {
        let refuse = |at: &str, expected: &str, found: f64| Err(Invalid::new(at, expected, found));
        if !(1..=99).contains(&self.top_n_percent) {
            return refuse("top_n_percent", "1 to 99", f64::from(self.top_n_percent));
        }
        if self.num_samples == 0 {
            return refuse("num_samples", "at least 1", 0.0);
        }
        if !(0.0..=1.0).contains(&self.random_fraction) {
            return refuse("random_fraction", "0 to 1", self.random_fraction);
        }
        if !(self.bandwidth_factor.is_finite() && self.bandwidth_factor > 0.0) {
            return refuse("bandwidth_factor", "more than 0", self.bandwidth_factor);
        }
        if !(self.min_bandwidth.is_finite() && self.min_bandwidth > 0.0) {
            return refuse("min_bandwidth", "more than 0", self.min_bandwidth);
        }
        Ok(())
    }
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

/// What a promoted job starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// From new weights (the reference).
    #[default]
    Scratch,
    /// From the checkpoint its lower rung ended with; only the difference of the budgets is spent.
    Continue,
}

/// How trainers show that they live, and how often they are believed to have died.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainerSettings {
    /// Seconds between two heartbeats of a trainer.
    pub heartbeat_s: f64,
    /// Seconds of silence after which a trainer's job is taken back; default: ten heartbeats, and at least 240 s on a
    /// network filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<f64>,
    /// Attempts at one job that bring no progress before its outcome is `lost`.
    #[serde(deserialize_with = "number::whole")]
    pub max_attempts: u32,
    /// Seconds between two periodic checkpoints.
    pub checkpoint_s: f64,
    /// Open jobs that the scheduler keeps ready beyond one for each live trainer. More keeps trainers busier when the
    /// filesystem is slow to show files; fewer lets each proposal see more results.
    #[serde(deserialize_with = "number::whole")]
    pub ahead: u32,
    /// Seconds that one attempt at a job may take; longer: it is ended, and the job has crashed. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_limit_s: Option<f64>,
    /// Seconds for which a job may report no progress; longer: it is ended, and the job has crashed. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence_limit_s: Option<f64>,
    /// KiB of an attempt's output that are kept from its beginning, and as many from its end; default: 1,024.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::whole_or_none"
    )]
    pub output_kib: Option<u32>,
    /// Attempts that crash or are lost without any progress, and nothing else, with which a search may begin before no
    /// more jobs are offered; 0: any number; default: 5.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::whole_or_none"
    )]
    pub pause_after: Option<u32>,
}

impl Default for TrainerSettings {
    fn default() -> Self {
        Self {
            heartbeat_s: 10.0,
            lease_s: None,
            max_attempts: 5,
            checkpoint_s: 300.0,
            ahead: 0,
            job_limit_s: None,
            silence_limit_s: None,
            output_kib: None,
            pause_after: None,
        }
    }
}

impl TrainerSettings {
    /// Attempts that crash or are lost without any progress, and nothing else, after which no more jobs are offered.
    pub fn pause_after(&self) -> u32 {
        self.pause_after.unwrap_or(5)
    }

    /// Bytes of an attempt's output that are kept from its beginning, and as many from its end.
    pub fn output_bytes(&self) -> usize {
        usize::try_from(self.output_kib.unwrap_or(1024))
            .map_or(usize::MAX, |kib| kib.saturating_mul(1024))
    }

    fn check(&self) -> Result<(), Invalid> {
        /// A month: more is a slip of the pen.
        const LONGEST_S: f64 = 30.0 * 86_400.0;
        let positive = |at: &str, seconds: f64| {
            if seconds > 0.0 && seconds <= LONGEST_S {
                Ok(())
            } else {
                let expected = format!("more than 0 and up to {LONGEST_S} seconds");
                Err(Invalid::new(at, expected, seconds))
            }
        };
        if self.ahead > 1_000_000 {
            return Err(Invalid::new("ahead", "up to 1000000", self.ahead));
        }
        positive("heartbeat_s", self.heartbeat_s)?;
        positive("checkpoint_s", self.checkpoint_s)?;
        if let Some(lease_s) = self.lease_s {
            positive("lease_s", lease_s)?;
            if lease_s < 2.0 * self.heartbeat_s {
                let expected = format!("at least two heartbeats ({} s)", 2.0 * self.heartbeat_s);
                return Err(Invalid::new("lease_s", expected, lease_s));
            }
        }
        for (at, limit) in [
            ("job_limit_s", self.job_limit_s),
            ("silence_limit_s", self.silence_limit_s),
        ] {
            if let Some(seconds) = limit {
                positive(at, seconds)?;
            }
        }
        if self.max_attempts == 0 {
            return Err(Invalid::new("max_attempts", "at least 1", 0));
        }
        Ok(())
    }
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
    /// When configurations are promoted.
    pub scheduling: Scheduling,
    /// How bracket sizes are rounded.
    pub bracket_sizes: BracketSizes,
    /// The rungs at which brackets start on the ladder of the search file, over and over; never empty.
    ///
    /// By default Hyperband's, every rung in turn from the lowest. Method `tandem`: the lowest; before revision 4 then twice
    /// the top rung, because full trainings that small budgets had no say in show whether these mislead.
    pub first_rungs: Vec<u8>,
    /// Whether the search file names them.
    names_first_rungs: bool,
    /// What a promoted job starts from.
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

    /// Checks a search whose space is in place; everything that is wrong.
    pub fn check(file: &SearchFile) -> Result<Self, Complaints> {
        let mut wrong: Vec<Invalid> = Vec::new();
        let revision = noted(&mut wrong, check_revision(file.revision));
        let space = file.checked_space(&mut wrong);
        let ladder = noted(&mut wrong, file.ladder(revision));
        let objective = Objective::new(&file.objective).map_err(|e| e.within("objective"));
        let objective = noted(&mut wrong, objective);
        let working_directory = noted(&mut wrong, working_directory(file));
        noted(&mut wrong, file.bohb.check().map_err(|e| e.within("bohb")));
        let trainers = file.trainers.check().map_err(|e| e.within("trainers"));
        noted(&mut wrong, trainers);
        noted(&mut wrong, file.check_limit());
        wrong.extend(file.check_learn_from());
        wrong.extend(file.check_constraints(objective.as_ref()));
        wrong.extend(file.check_objectives(objective.as_ref()));
        wrong.extend(file.check_repetitions());
        let first_rungs = ladder.and_then(|ladder| {
            let first_rungs = first_rungs(file, revision?, ladder.top());
            noted(&mut wrong, first_rungs)
        });
        let start_with: Vec<Configuration> = file
            .start_with
            .iter()
            .enumerate()
            .filter_map(|(index, start)| {
                let checked = start.within(space.as_ref()?);
                let checked = checked.map_err(|e| e.within(&format!("start_with[{index}]")));
                noted(&mut wrong, checked)
            })
            .collect();
        if let Some(complaints) = Complaints::new(wrong) {
            return Err(complaints);
        }
        let (Some(revision), Some(space), Some(ladder)) = (revision, space, ladder) else {
            unreachable!("what is missing was complained about");
        };
        let (Some(objective), Some(first_rungs)) = (objective, first_rungs) else {
            unreachable!("what is missing was complained about");
        };
        let is_exact = revision >= 2 && !file.is_faithful();
        Ok(Self {
            name: file.name.clone(),
            revision,
            start_with,
            learn_from: file.learn_from.clone(),
            space: if is_exact {
                space
            } else {
                space.without_exact_draws()
            },
            objective,
            working_directory: working_directory.flatten(),
            // What is wrong with it was complained about.
            ladder: ladder.with_repetitions(u8::try_from(file.repetitions).unwrap_or(1)),
            limit: file.limit,
            objectives: file.objectives.clone(),
            constraints: file.constraints.clone(),
            method: file.method,
            bohb: file.bohb,
            scheduling: file.scheduling,
            bracket_sizes: file.bracket_sizes,
            first_rungs,
            names_first_rungs: file.first_rungs.is_some(),
            promotion: file.promotion,
            seed: Seed::new(file.seed),
            trainers: file.trainers,
            digest: format::digest(&format::to_bytes_of(file, [1, 0])),
        })
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

    /// The rungs, as far as the search uses them; of an unknown revision those of the first.
    fn ladder(&self, revision: Option<u32>) -> Result<Ladder, Invalid> {
        let revision = revision.unwrap_or(1);
        let wants_whole = revision >= 2 && !self.is_faithful();
        let ladder = Ladder::new(self.budget, wants_whole).map_err(|e| e.within("budget"))?;
        let is_open = self.first_rungs.is_none();
        if self.method == MethodName::Tandem && is_open && revision >= LEAVES_OUT_RUNGS {
            return Ok(ladder.with_every_second_rung());
        }
        Ok(ladder)
    }

    /// The space with what is fixed, if nothing is wrong with it.
    fn checked_space(&self, wrong: &mut Vec<Invalid>) -> Option<SearchSpace> {
        let Some(file) = &self.space else {
            let expected = "a search space (or `space_file`)";
            wrong.push(Invalid::new("space", expected, "nothing"));
            return None;
        };
        if self.space_file.is_some() {
            let expected = "either `space` or `space_file`";
            wrong.push(Invalid::new("space_file", expected, "both"));
        }
        match SearchSpace::check(file) {
            Err(complaints) => {
                wrong.extend(complaints.within("space"));
                None
            }
            Ok(space) if self.fix.is_empty() => Some(space),
            Ok(space) => noted(wrong, space.fix(&self.fix).map_err(|e| e.within("fix"))),
        }
    }

    fn check_limit(&self) -> Result<(), Invalid> {
        match (self.limit, self.scheduling) {
            (Limit::Brackets(0) | Limit::Configurations(0), _) => {
                Err(Invalid::new("limit", "at least 1", 0))
            }
            (Limit::Configurations(n), Scheduling::Synchronous) => {
                let expected = "`brackets`, because `scheduling` is synchronous";
                let found = format!("configurations: {n}");
                Err(Invalid::new("limit", expected, found))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with its limits of measures.
    fn check_constraints(&self, objective: Option<&Objective>) -> Vec<Invalid> {
        let mut wrong = constraint::check_all(&self.constraints, objective);
        if !self.constraints.is_empty() && self.is_faithful() {
            let expected =
                "nothing, because HpBandSter, which `bohb.faithful` reproduces, has none";
            wrong.push(Invalid::new("constraints", expected, "a list"));
        }
        wrong
    }

    fn check_repetitions(&self) -> Vec<Invalid> {
        let mut wrong = Vec::new();
        if !(1..=MOST_REPETITIONS).contains(&self.repetitions) {
            let expected = format!("1 to {MOST_REPETITIONS}");
            wrong.push(Invalid::new("repetitions", expected, self.repetitions));
        }
        let others = [
            (
                "HpBandSter, which `bohb.faithful` reproduces, has none",
                self.is_faithful(),
            ),
            (
                "with several `objectives` there is no one mean to compare",
                !self.objectives.is_empty(),
            ),
        ];
        for (why, _) in others
            .iter()
            .filter(|(_, is_so)| *is_so && self.repetitions > 1)
        {
            let expected = format!("1, because {why}");
            wrong.push(Invalid::new("repetitions", expected, self.repetitions));
        }
        wrong
    }

    /// What is wrong with its objectives.
    fn check_objectives(&self, objective: Option<&Objective>) -> Vec<Invalid> {
        let Some((first, others)) = self.objectives.split_first() else {
            return Vec::new();
        };
        let mut wrong = Vec::new();
        if first != "loss" {
            let found = format!("\"{first}\"");
            wrong.push(Invalid::new("objectives[0]", "\"loss\"", found));
        }
        let most = pareto::MOST;
        if !(2..=most).contains(&self.objectives.len()) {
            let expected = format!("`loss` and one to {} measures", most - 1);
            let found = format!("{} in all", self.objectives.len());
            wrong.push(Invalid::new("objectives", expected, found));
        }
        for (index, measure) in (1..).zip(others) {
            let at = format!("objectives[{index}]");
            if self.objectives[..index].contains(measure) {
                let found = format!("\"{measure}\" again");
                wrong.push(Invalid::new(at, "another measure", found));
            } else if let Err(e) = constraint::check_measure(measure, objective) {
                wrong.push(e.within(&at));
            }
        }
        if self.is_faithful() {
            let expected = "nothing, because HpBandSter, which `bohb.faithful` reproduces, has one";
            wrong.push(Invalid::new("objectives", expected, "a list"));
        }
        if !self.learn_from.is_empty() {
            let expected =
                "nothing, because what other searches have found is known by its loss alone";
            wrong.push(Invalid::new(
                "learn_from",
                expected,
                "a list beside `objectives`",
            ));
        }
        wrong
    }

    /// What is wrong with what it learns from.
    fn check_learn_from(&self) -> Vec<Invalid> {
        let entries = self.learn_from.iter().enumerate();
        let mut wrong: Vec<Invalid> = entries
            .filter_map(|(index, entry)| {
                let wrong = entry.check().err()?;
                Some(wrong.within(&format!("learn_from[{index}]")))
            })
            .collect();
        if !self.learn_from.is_empty() && self.method != MethodName::Tandem {
            let expected = "nothing, because only method `tandem` learns from other searches";
            let found = format!("method `{}`", self.method.as_str());
            wrong.push(Invalid::new("learn_from", expected, found));
        }
        wrong
    }

    /// Whether it is to do what `HpBandSter` does, faults included.
    fn is_faithful(&self) -> bool {
        self.method == MethodName::Bohb && self.bohb.faithful
    }
}

/// The value, or `None` and a complaint more.
fn noted<T>(wrong: &mut Vec<Invalid>, result: Result<T, Invalid>) -> Option<T> {
    result.map_err(|invalid| wrong.push(invalid)).ok()
}

fn check_revision(revision: Option<u32>) -> Result<u32, Invalid> {
    let revision = revision.unwrap_or(1);
    if (1..=REVISION).contains(&revision) {
        return Ok(revision);
    }
    let expected = format!("1 to {REVISION}, or a newer program");
    Err(Invalid::new("revision", expected, revision))
}

fn working_directory(file: &SearchFile) -> Result<Option<PathBuf>, Invalid> {
    match file.working_directory.as_deref().map(Path::new) {
        Some(folder) if !folder.is_absolute() => {
            let expected = "an absolute path, as `scheduler init` writes it";
            Err(Invalid::new(
                "working_directory",
                expected,
                folder.display(),
            ))
        }
        folder => Ok(folder.map(Path::to_path_buf)),
    }
}

fn first_rungs(file: &SearchFile, revision: u32, top: u8) -> Result<Vec<u8>, Invalid> {
    let Some(first_rungs) = &file.first_rungs else {
        return Ok(default_first_rungs(file.method, revision, top));
    };
    let method = file.method.as_str();
    if file.method.has_one_budget() {
        let expected =
            format!("nothing, because method `{method}` trains on the largest budget only");
        return Err(Invalid::new("first_rungs", expected, "a list"));
    }
    if first_rungs.is_empty() {
        return Err(Invalid::new("first_rungs", "at least one rung", "none"));
    }
    match first_rungs.iter().position(|rung| *rung > top) {
        None => Ok(first_rungs.clone()),
        Some(index) => Err(Invalid::new(
            format!("first_rungs[{index}]"),
            format!("a rung from 0 to {top}"),
            first_rungs[index],
        )),
    }
}

fn default_first_rungs(method: MethodName, revision: u32, top: u8) -> Vec<u8> {
    match method {
        MethodName::Tandem if revision >= LEAVES_OUT_RUNGS => vec![0],
        MethodName::Tandem if top > 0 => vec![0, top, top],
        _ => (0..=top).collect(),
    }
}
