//! HpBandSter's logs: `configs.json`, `results.json` and, where there is one, `configspace.json`.
//!
//! Each line of the first two is a JSON array, in which Python leaves `NaN` and `Infinity` bare:
//!
//! ```text
//! configs.json   [id, {name: value, …}, {"model_based_pick": true}]
//! results.json   [id, budget, {"submitted": s, "started": s, "finished": s}, {"loss": x, "info": {…}} or null, exception]
//! ```
//! An id is `[iteration, stage, number]`. A `null` result is a crash; a loss that is not finite is a divergence. Of two
//! results with the same id and budget the last one counts, as in HpBandSter's own reader.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::Value as Json;
use shared::exit::{Code, Failure};
use shared::{BudgetUnit, Configuration, ConfigurationId, Outcome, SearchSpace, Value, fs};

use crate::configspace;
use crate::history::{
    Evaluation, History, Names, Problems, Source, State, Tried, distinct_budgets, position_of,
    test_loss,
};
use crate::infer::infer_space;
use crate::json::{lenient, number};

mod write;

pub use write::{export, import};

/// The file of configurations.
pub const CONFIGS: &str = "configs.json";
/// The file of results.
pub const RESULTS: &str = "results.json";
/// A time further from 1970 is none: 30 million years.
const LATEST_S: f64 = 1e15;
/// More budgets than this are no ladder of rungs.
const MOST_BUDGETS: usize = 256;

/// Reads a log. HpBandSter does not say what its budgets are amounts of; `unit` does, where the user knows.
pub fn read(path: &Path, unit: Option<BudgetUnit>) -> Result<History> {
    let mut problems = Problems::default();
    let configurations = read_configs(path, &mut problems)?;
    let runs = read_results(path, &configurations, &mut problems)?;
    let budgets = distinct_budgets(runs.values().map(|run| run.budget).collect());
    if budgets.len() > MOST_BUDGETS {
        let message = format!(
            "`{}` has {} different budgets, at most {MOST_BUDGETS} expected",
            path.join(RESULTS).display(),
            budgets.len()
        );
        return Err(Failure::new(Code::BadInput, message).into());
    }
    let (space, space_is_inferred) = space(path, &configurations, &mut problems)?;
    let mut measures = Names::default();
    let results = evaluations(runs, &configurations, &budgets, &mut measures);
    let name = path.file_name().unwrap_or(path.as_os_str());
    let mut history = History {
        name: name.to_string_lossy().into_owned(),
        path: path.to_path_buf(),
        unit,
        budgets,
        space,
        space_is_inferred,
        search: None,
        configurations: configurations.tried,
        results,
        owners: vec!["hpbandster".into()],
        measures: measures.into_names(),
        problems,
        state: State {
            is_finished: true,
            ..State::default()
        },
    };
    history.count_spent(false);
    Ok(history)
}

/// The configurations of a log, in the order of the file.
#[derive(Default)]
struct Configs {
    tried: Vec<Tried>,
    index: BTreeMap<Vec<i64>, usize>,
}

/// One line of `results.json`.
struct Run {
    configuration: usize,
    budget: f64,
    started_s: Option<f64>,
    finished_s: Option<f64>,
    outcome: Outcome,
    measures: BTreeMap<String, f64>,
}

/// The lines of a file as JSON arrays; a line that is none is noted and skipped.
fn lines(
    path: &Path,
    problems: &mut Problems,
    mut each: impl FnMut(&[Json]) -> Result<Option<String>, String>,
) -> Result<()> {
    let bytes = fs::read_named(path)?;
    let (mut num_lines, mut num_used) = (0_usize, 0_usize);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        num_lines += 1;
        let used = shared::format::parse(&lenient(line))
            .map_err(|error| error.to_string())
            .and_then(|fields: Vec<Json>| each(&fields));
        let place = || format!("line {} of `{}`", index + 1, path.display());
        match used {
            Ok(None) => num_used += 1,
            Ok(Some(note)) => {
                num_used += 1;
                problems.add(format!("{}: {note}", place()));
            }
            Err(why) => problems.left_out(format!("{}: {why}", place())),
        }
    }
    if num_lines > 0 && num_used == 0 {
        let why = problems.lines().first().cloned().unwrap_or_default();
        let message = format!("no line of `{}` is HpBandSter's: {why}", path.display());
        return Err(Failure::new(Code::BadInput, message).into());
    }
    Ok(())
}

fn id(json: Option<&Json>) -> Result<Vec<i64>, String> {
    let numbers = json.and_then(Json::as_array).map(|parts| {
        let parts = parts.iter().map(Json::as_i64);
        parts.collect::<Option<Vec<i64>>>()
    });
    match numbers.flatten() {
        Some(id) if !id.is_empty() => Ok(id),
        _ => Err("it does not begin with an id such as [0, 0, 3]".into()),
    }
}

fn id_text(id: &[i64]) -> String {
    let parts: Vec<String> = id.iter().map(ToString::to_string).collect();
    parts.join(",")
}

fn read_configs(path: &Path, problems: &mut Problems) -> Result<Configs> {
    let mut configs = Configs::default();
    lines(&path.join(CONFIGS), problems, |fields| {
        let id = id(fields.first())?;
        let (values, note) = configuration(fields.get(1))?;
        let is_model = fields
            .get(2)
            .and_then(|info| info.get("model_based_pick")?.as_bool());
        let tried = Tried {
            id: ConfigurationId(0), // set below
            foreign_id: Some(id_text(&id)),
            bracket: u32::try_from(id[0]).unwrap_or(0), // none there has a negative number
            values,
            origin: is_model.map(|is| if is { Source::Model } else { Source::Prior }),
        };
        if let Some(&index) = configs.index.get(&id) {
            configs.tried[index] = tried;
            return Ok(Some(format!(
                "configuration {} is there twice; the last one counts",
                id_text(&id)
            )));
        }
        configs.index.insert(id, configs.tried.len());
        configs.tried.push(tried);
        Ok(note)
    })?;
    for (index, tried) in configs.tried.iter_mut().enumerate() {
        let number = u32::try_from(index).map_err(|_large| {
            let message = format!("`{}` has too many lines", path.join(CONFIGS).display());
            Failure::new(Code::BadInput, message)
        })?;
        tried.id = ConfigurationId(number);
    }
    Ok(configs)
}

/// The values of a configuration; nulls are inactive hyperparameters, lists and objects are dropped with a note.
fn configuration(json: Option<&Json>) -> Result<(Configuration, Option<String>), String> {
    let Some(Json::Object(fields)) = json else {
        return Err("its second entry is no object of hyperparameters".into());
    };
    let mut configuration = Configuration::default();
    let mut note = None;
    for (name, json) in fields {
        if json.is_null() {
            continue;
        }
        match serde_json::from_value::<Value>(json.clone()) {
            Ok(value) => configuration.set(name.as_str(), value),
            Err(_not_a_scalar) => {
                note.get_or_insert_with(|| format!("`{name}` is no number, word or boolean"));
            }
        }
    }
    Ok((configuration, note))
}

fn read_results(
    path: &Path,
    configs: &Configs,
    problems: &mut Problems,
) -> Result<BTreeMap<(usize, u64), Run>> {
    let mut runs: BTreeMap<(usize, u64), Run> = BTreeMap::new();
    lines(&path.join(RESULTS), problems, |fields| {
        let id = id(fields.first())?;
        let Some(&configuration) = configs.index.get(&id) else {
            let message = format!("configuration {} is not in `{CONFIGS}`", id_text(&id));
            return Err(message);
        };
        let budget = fields.get(1).and_then(number);
        let budget = budget.filter(|budget| budget.is_finite() && *budget > 0.0);
        let budget = budget.ok_or("its budget is no number above 0")?;
        let time = |name: &str| {
            let seconds = fields.get(2).and_then(|times| number(times.get(name)?));
            seconds.filter(|seconds| seconds.abs() <= LATEST_S)
        };
        if fields.len() < 4 {
            return Err("it ends before its result".into());
        }
        let (outcome, measures) = outcome(&fields[3], fields.get(4), budget);
        let run = Run {
            configuration,
            budget,
            started_s: time("started"),
            finished_s: time("finished"),
            outcome,
            measures,
        };
        let before = runs.insert((configuration, budget.to_bits()), run);
        Ok(before.map(|_forgotten| {
            let id = id_text(&id);
            format!("configuration {id} has budget {budget} twice; the last one counts")
        }))
    })?;
    Ok(runs)
}

fn outcome(
    result: &Json,
    exception: Option<&Json>,
    budget: f64,
) -> (Outcome, BTreeMap<String, f64>) {
    let loss = match result {
        Json::Object(fields) => fields.get("loss").and_then(number),
        other => number(other),
    };
    let measures = result.get("info").map_or_else(BTreeMap::new, numbers_in);
    let outcome = match (loss, exception) {
        (Some(loss), _) if loss.is_finite() => Outcome::Evaluated { loss },
        (Some(loss), _) => Outcome::Diverged {
            spent: budget,
            message: format!("loss {loss}"),
        },
        (None, Some(Json::String(message))) => Outcome::crashed(message),
        (None, _) => Outcome::crashed("no result in the log"),
    };
    (outcome, measures)
}

/// The finite numbers of a run's `info`: its own, or those it holds by name.
fn numbers_in(info: &Json) -> BTreeMap<String, f64> {
    let finite = |json: &Json| number(json).filter(|number| number.is_finite());
    match info {
        Json::Object(fields) => fields
            .iter()
            .filter_map(|(name, json)| Some((name.clone(), finite(json)?)))
            .collect(),
        other => finite(other)
            .map(|x| ("info".into(), x))
            .into_iter()
            .collect(),
    }
}

fn space(
    path: &Path,
    configs: &Configs,
    problems: &mut Problems,
) -> Result<(Option<SearchSpace>, bool)> {
    let path = path.join(configspace::CONFIGSPACE);
    if path.exists() {
        let bytes = fs::read_named(&path)?;
        match configspace::from_json(&path, &bytes) {
            Ok(read) => {
                for note in read.notes {
                    problems.add(format!("`{}`: {note}", path.display()));
                }
                return Ok((SearchSpace::new(&read.space).ok(), false)); // checked by its reader
            }
            Err(error) => problems.add(format!("{error:#}; the space is inferred from the values")),
        }
    }
    let inferred = infer_space(configs.tried.iter().map(|tried| &tried.values));
    let space = inferred.and_then(|file| SearchSpace::new(&file).ok()); // cannot be described: no space
    if space.is_none() && !configs.tried.is_empty() {
        problems
            .add("no search space can be inferred from the values: no importance, no marginals");
    }
    Ok((space, true))
}

fn evaluations(
    runs: BTreeMap<(usize, u64), Run>,
    configs: &Configs,
    budgets: &[f64],
    measures: &mut Names,
) -> Vec<Evaluation> {
    let evaluation = |run: Run| {
        let bracket = configs.tried[run.configuration].bracket;
        let budget = position_of(budgets, run.budget).expect("every budget was collected");
        let rung = u8::try_from(budget).expect("there are at most 256");
        let elapsed_s = match (run.started_s, run.finished_s) {
            (Some(started), Some(finished)) => finished - started,
            _ => 0.0,
        };
        Evaluation {
            job: ConfigurationId(u32::try_from(run.configuration).expect("checked with the ids"))
                .job(rung),
            configuration: run.configuration,
            budget,
            bracket,
            outcome: run.outcome,
            test_loss: test_loss(&run.measures),
            started_s: run.started_s,
            finished_s: run.finished_s,
            elapsed_s,
            spent: 0.0, // set when all results are there
            owner: 0,
            measures: run
                .measures
                .iter()
                .map(|(name, x)| (measures.index_of(name), *x))
                .collect(),
            curve: Vec::new(),
        }
    };
    // Positive floats sort like their bits, so this is the order of ids.
    runs.into_values().map(evaluation).collect()
}
