//! Reading a search directory: many small files, in parallel, one shard after the other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;
use serde::Deserialize;
use shared::format::{self, Record};
use shared::id::{AttemptId, Claim};
use shared::layout::{self, Layout};
use shared::record::{Checked, Imported, Proposal};
use shared::search::Promotion;
use shared::{
    Budget, BudgetUnit, Configuration, ConfigurationId, CurvePoint, JobId, JobResult, Outcome,
    OwnerId, ResultId, SearchSpace, directory, fs,
};

use super::Wanted;
use crate::history::{
    Evaluation, FOREIGN_ID, History, Names, Problems, Source, State, Tried, distinct_budgets,
    position_of, test_loss,
};

pub(super) fn read_search(path: &Path, wanted: Wanted) -> Result<History> {
    let layout = Layout::new(path);
    let search = directory::read_search(path)?;
    let ladder = &search.ladder;
    let about = About {
        name: search.name.clone(),
        unit: Some(ladder.unit()),
        result_unit: ladder.unit(),
        budgets: (0..ladder.num_rungs())
            .map(|rung| ladder.budget(rung).amount)
            .collect(),
        space: Some(search.space.clone()),
        space_is_inferred: false,
        has_foreign_ids: false,
    };
    let state = state(&layout)?;
    let mut history = read_results(&layout, about, wanted)?;
    let continues = search.promotion == Promotion::Continue;
    history.count_repetitions(&search.ladder);
    history.count_spent(continues);
    history.state = state;
    history.search = Some(search);
    Ok(history)
}

pub(super) fn read_imported(path: &Path, wanted: Wanted) -> Result<History> {
    let layout = Layout::new(path);
    let imported_path = layout.path(layout::IMPORTED);
    let imported: Imported = fs::read_record(&imported_path)?;
    let space = imported.space.as_ref().map(SearchSpace::new).transpose();
    let space = space.map_err(|source| shared::Error::Value {
        path: imported_path,
        format: Imported::FORMAT,
        source: source.within("space").into(),
    })?;
    let about = About {
        name: imported.name,
        unit: imported.unit,
        result_unit: BudgetUnit::Steps,
        budgets: imported.budgets,
        space,
        space_is_inferred: imported.space_is_inferred,
        has_foreign_ids: true,
    };
    let mut history = read_results(&layout, about, wanted)?;
    history.count_spent(false);
    history.state.is_finished = true;
    Ok(history)
}

fn state(layout: &Layout) -> Result<State> {
    let names = fs::list_named(layout.root())?;
    let has = |name: &str| names.iter().any(|n| n == name);
    let open = fs::list(&layout.path(layout::OPEN))?;
    let claims = fs::list(&layout.path(layout::CLAIMED))?;
    let is_open_job = |name: &&String| layout::id_in::<AttemptId>(name).is_some();
    let is_claim = |name: &&String| layout::id_in::<Claim>(name).is_some();
    Ok(State {
        is_finished: has(layout::FINISHED),
        is_stopped: has(layout::STOP),
        num_open: open.iter().filter(is_open_job).count(),
        num_claimed: claims.iter().filter(is_claim).count(),
    })
}

/// What the directory says of itself.
struct About {
    name: String,
    unit: Option<BudgetUnit>,
    /// The unit that results must have.
    result_unit: BudgetUnit,
    budgets: Vec<f64>,
    space: Option<SearchSpace>,
    space_is_inferred: bool,
    /// Whether results have another program's ids in their notes.
    has_foreign_ids: bool,
}

fn read_results(layout: &Layout, about: About, wanted: Wanted) -> Result<History> {
    let mut gathered = Gathered::default();
    let mut read = Shard::default();
    for number in shards(layout, layout::RESULTS)? {
        // One shard is gathered while the next is read.
        let next = || read_shard(layout, number, &about, wanted);
        let (next, ()) = rayon::join(next, || gathered.add_shard(read, wanted));
        read = next?;
    }
    gathered.add_shard(read, wanted);
    if wanted.origins {
        read_origins(layout, &mut gathered)?;
    }
    Ok(gathered.into_history(layout.root(), about))
}

/// What one shard holds.
#[derive(Default)]
struct Shard {
    /// Paths of files that are no results.
    foreign: Vec<String>,
    /// Results in the order of their ids, or why one cannot be used; `None` for one withdrawn since it was listed.
    found: Vec<Result<Option<Found>, String>>,
}

fn read_shard(layout: &Layout, number: u32, about: &About, wanted: Wanted) -> Result<Shard> {
    let folder = layout.shard(layout::RESULTS, number);
    let mut foreign = Vec::new();
    // Of a job that was done again the last result counts.
    let mut last: BTreeMap<JobId, ResultId> = BTreeMap::new();
    for name in fs::list(&folder)? {
        match layout::id_in::<ResultId>(&name) {
            Some(id) => {
                let known = last.entry(id.job).or_insert(id);
                *known = id.max(*known);
            }
            None => foreign.push(folder.join(name).display().to_string()),
        }
    }
    let read = |id: &ResultId| match read_result(layout, *id, about, wanted) {
        Ok(found) => Ok(Ok(found)),
        Err(unusable) => unusable.why_left_out().map(Err),
    };
    let ids: Vec<ResultId> = last.into_values().collect();
    let found: Result<Vec<_>, shared::Error> = ids.par_iter().map(read).collect();
    Ok(Shard {
        foreign,
        found: found?,
    })
}

/// Why a record cannot be used.
enum Unusable {
    /// A newer program wrote it: what is shown without it would be wrong, so nothing is shown.
    Newer(shared::Error),
    /// It is corrupt or of another search: it is left out.
    Wrong(String),
}

impl Unusable {
    /// Why the record is left out; the error where it must not be.
    fn why_left_out(self) -> Result<String, shared::Error> {
        match self {
            Self::Newer(error) => Err(error),
            Self::Wrong(why) => Ok(why),
        }
    }
}

impl From<shared::Error> for Unusable {
    fn from(error: shared::Error) -> Self {
        match error {
            shared::Error::NewerVersion { .. } => Self::Newer(error),
            error => Self::Wrong(format!("{:#}", anyhow::Error::new(error))),
        }
    }
}

fn shards(layout: &Layout, kind: &str) -> Result<Vec<u32>> {
    let names = fs::list(&layout.path(kind))?;
    let mut shards: Vec<u32> = names
        .iter()
        .filter_map(|name| layout::shard_in(name))
        .collect();
    shards.sort_unstable();
    Ok(shards)
}

/// A result's record without what few commands need: parsing is most of the work on a large search.
#[derive(Deserialize)]
struct Slim<'a> {
    #[serde(borrow)]
    format: Cow<'a, str>,
    version: [u32; 2],
    attempt: AttemptId,
    owner: OwnerId,
    bracket: u32,
    budget: Budget,
    configuration: Configuration,
    outcome: Outcome,
    #[serde(default)]
    checks: Vec<Checked>,
    #[serde(default)]
    measures: TestLosses,
    #[serde(borrow)]
    started_at: Cow<'a, str>,
    #[serde(borrow)]
    finished_at: Cow<'a, str>,
    elapsed_s: f64,
}

/// The measures that every command may need.
#[derive(Deserialize, Default)]
struct TestLosses {
    test_loss: Option<f64>,
    test_error: Option<f64>,
}

impl Slim<'_> {
    /// What was read; `None` where the envelope or a value is wrong, which the slow reader then tells.
    fn into_found(self) -> Option<Found> {
        let is_ours = self.format == JobResult::FORMAT && self.version[0] <= JobResult::VERSION[0];
        let losses = self.checks.iter().map(|check| check.loss);
        let is_loss = losses.chain(self.outcome.loss()).all(f64::is_finite);
        let is_budget = self.budget.amount.is_finite() && self.budget.amount > 0.0;
        (is_ours && is_loss && is_budget).then(|| Found {
            job: self.attempt.job,
            owner: self.owner,
            bracket: self.bracket,
            budget: self.budget,
            configuration: self.configuration,
            outcome: self.outcome,
            test_loss: self.measures.test_loss.or(self.measures.test_error),
            measures: BTreeMap::new(),
            curve: Vec::new(),
            checks: self.checks,
            foreign_id: None,
            started_s: shared::clock::parse(&self.started_at),
            finished_s: shared::clock::parse(&self.finished_at),
            elapsed_s: self.elapsed_s,
        })
    }
}

/// A result as it was read, with what can be done to it in parallel done.
struct Found {
    job: JobId,
    owner: OwnerId,
    bracket: u32,
    budget: Budget,
    configuration: Configuration,
    outcome: Outcome,
    test_loss: Option<f64>,
    measures: BTreeMap<String, f64>,
    curve: Vec<CurvePoint>,
    checks: Vec<Checked>,
    foreign_id: Option<String>,
    started_s: Option<f64>,
    finished_s: Option<f64>,
    elapsed_s: f64,
}

impl From<JobResult> for Found {
    fn from(mut result: JobResult) -> Self {
        Self {
            job: result.job(),
            test_loss: test_loss(&result.measures),
            foreign_id: result.notes.remove(FOREIGN_ID),
            started_s: shared::clock::parse(&result.started_at),
            finished_s: shared::clock::parse(&result.finished_at),
            owner: result.owner,
            bracket: result.bracket,
            budget: result.budget,
            configuration: result.configuration,
            outcome: result.outcome,
            measures: result.measures,
            curve: result.curve,
            checks: result.checks,
            elapsed_s: result.elapsed_s,
        }
    }
}

/// One result, if it is still there.
fn read_result(
    layout: &Layout,
    id: ResultId,
    about: &About,
    wanted: Wanted,
) -> Result<Option<Found>, Unusable> {
    let path = layout.result(id);
    let Some(bytes) = fs::read_if_there(&path)? else {
        return Ok(None);
    };
    let is_slim = !wanted.curves && !wanted.measures && !about.has_foreign_ids;
    let slim = is_slim
        .then(|| serde_json::from_slice::<Slim<'_>>(&bytes).ok()) // told below
        .flatten();
    let result = match slim.and_then(Slim::into_found) {
        Some(found) => found,
        None => Found::from(read_fast::<JobResult>(&path, &bytes)?),
    };
    let wrong = |why: String| Err(Unusable::Wrong(format!("`{}`: {why}", path.display())));
    if result.job != id.job {
        return wrong(format!("it is the result of {}", result.job));
    }
    if result.budget.unit != about.result_unit {
        return wrong(format!(
            "its budget is in {}, the search's in {}",
            result.budget.unit.symbol(),
            about.result_unit.symbol()
        ));
    }
    // An inferred space has no conditions, so what is inactive in it is missing.
    if let Some(space) = about.space.as_ref().filter(|_| !about.space_is_inferred)
        && !is_plainly_of(space, &result.configuration)
        && let Err(invalid) = space.check_configuration(&result.configuration)
    {
        return wrong(format!("no configuration of this search: {invalid}"));
    }
    Ok(Some(result))
}

/// Whether every hyperparameter of a space without conditions has a value of its kind, and nothing else has one. A
/// quick look that spares most configurations the thorough check; `false` says nothing.
fn is_plainly_of(space: &SearchSpace, configuration: &Configuration) -> bool {
    let mut num_found = 0;
    for hyperparameter in space.hyperparameters() {
        let value = configuration.get(&hyperparameter.name);
        let fits = |value| hyperparameter.kind.typed(value).is_some();
        if hyperparameter.condition.is_some() || !value.is_some_and(fits) {
            return false;
        }
        num_found += 1;
    }
    configuration.iter().count() == num_found
}

/// Reads a record without the detour over a JSON tree; what is wrong with a wrong one is told by the slow reader.
fn read_fast<R: Record>(path: &Path, bytes: &[u8]) -> Result<R, shared::Error> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        format: Cow<'a, str>,
        version: [u32; 2],
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(bytes)
        && envelope.format == R::FORMAT
        && envelope.version[0] == R::VERSION[0]
        && let Ok(record) = serde_json::from_slice::<R>(bytes)
        && record.check().is_ok()
    {
        return Ok(record);
    }
    format::from_bytes(path, bytes)
}

/// How each configuration was found. A proposal that cannot be read is no reason to leave out its results.
fn read_origins(layout: &Layout, gathered: &mut Gathered) -> Result<()> {
    let read = |tried: &Tried| -> Result<Option<Source>, Unusable> {
        let path = layout.configuration(tried.id);
        let Some(bytes) = fs::read_if_there(&path)? else {
            return Ok(None);
        };
        let proposal = read_fast::<Proposal>(&path, &bytes)?;
        Ok(Some(match proposal.origin.source.as_str() {
            "model" => Source::Model,
            "prior" => Source::Prior,
            _ => Source::Other,
        }))
    };
    let origins: Vec<Result<Option<Source>, Unusable>> =
        gathered.configurations.par_iter().map(read).collect();
    for (tried, origin) in gathered.configurations.iter_mut().zip(origins) {
        match origin {
            Ok(source) => tried.origin = source,
            Err(unusable) => gathered.problems.left_out(unusable.why_left_out()?),
        }
    }
    Ok(())
}

/// Results as they come in.
#[derive(Default)]
struct Gathered {
    configurations: Vec<Tried>,
    index: BTreeMap<ConfigurationId, usize>,
    results: Vec<(Evaluation, f64, Vec<Checked>)>,
    owners: Names,
    measures: Names,
    problems: Problems,
}

impl Gathered {
    fn add_shard(&mut self, shard: Shard, wanted: Wanted) {
        for path in shard.foreign {
            self.problems
                .left_out(format!("`{path}`: its name is no job's"));
        }
        for result in shard.found {
            match result {
                Ok(Some(result)) => self.add(result, wanted),
                Ok(None) => {}
                Err(problem) => self.problems.left_out(problem),
            }
        }
    }

    fn add(&mut self, result: Found, wanted: Wanted) {
        let id = result.job.configuration;
        let configuration = match self.index.get(&id) {
            Some(&index) if self.configurations[index].values != result.configuration => {
                self.problems.left_out(format!(
                    "result {}: {id} has other values at a lower rung; are two searches mixed?",
                    result.job
                ));
                return;
            }
            Some(&index) => index,
            None => {
                self.configurations.push(Tried {
                    id,
                    foreign_id: result.foreign_id,
                    bracket: result.bracket,
                    values: result.configuration,
                    origin: None,
                });
                let index = self.configurations.len() - 1;
                self.index.insert(id, index);
                index
            }
        };
        let numbers = result.measures.iter().filter(|_| wanted.measures);
        let measures = numbers
            .map(|(name, x)| (self.measures.index_of(name), *x))
            .collect();
        let evaluation = Evaluation {
            job: result.job,
            configuration,
            budget: 0, // set when all budgets are known
            bracket: result.bracket,
            repetition: 0, // set when all results are there
            mean: None,
            outcome: result.outcome,
            test_loss: result.test_loss,
            started_s: result.started_s,
            finished_s: result.finished_s,
            elapsed_s: result.elapsed_s,
            spent: 0.0, // set when all results are there
            owner: self.owners.index_of(result.owner.as_str()),
            measures,
            curve: if wanted.curves {
                result.curve
            } else {
                Vec::new()
            },
            checks: Vec::new(), // set when all budgets are known
        };
        let amount = result.budget.amount;
        self.results.push((evaluation, amount, result.checks));
    }

    fn into_history(self, root: &Path, about: About) -> History {
        let mut problems = self.problems;
        let known = distinct_budgets(about.budgets);
        let found = self.results.iter().flat_map(|(_, amount, checks)| {
            let checks = checks.iter().map(|check| check.spent);
            checks.chain([*amount])
        });
        let budgets = distinct_budgets(known.iter().copied().chain(found).collect());
        let mut results: Vec<Evaluation> = Vec::with_capacity(self.results.len());
        for (mut evaluation, amount, checks) in self.results {
            // Above the top rung are repetitions with its budget.
            let rung = usize::from(evaluation.job.rung).min(known.len().saturating_sub(1));
            if position_of(&known, amount) != Some(rung) {
                problems.add(format!(
                    "result {} has budget {amount}, which is not that of its rung",
                    evaluation.job
                ));
            }
            evaluation.budget = position_of(&budgets, amount).expect("every budget was collected");
            let place = |check: Checked| Some((position_of(&budgets, check.spent)?, check.loss));
            evaluation.checks = checks.into_iter().filter_map(place).collect();
            results.push(evaluation);
        }
        History {
            name: about.name,
            path: root.to_path_buf(),
            unit: about.unit,
            budgets,
            space: about.space,
            space_is_inferred: about.space_is_inferred,
            search: None,
            configurations: self.configurations,
            results,
            owners: self.owners.into_names(),
            measures: self.measures.into_names(),
            problems,
            state: State::default(),
        }
    }
}
