//! HpBandSter's logs, line by line: `configs.json` and `results.json`.
//!
//! Each line is a JSON array, in which Python leaves `NaN` and `Infinity` bare:
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

use crate::exit::{Code, Failure};
use crate::fs;
use crate::python_json::{lenient, number};
use crate::record::Outcome;
use crate::value::{Configuration, Value};

/// The file of configurations.
pub const CONFIGS: &str = "configs.json";
/// The file of results.
pub const RESULTS: &str = "results.json";
/// A time further from 1970 is none: 30 million years.
const LATEST_S: f64 = 1e15;

/// A log as it was written.
#[derive(Debug, Default)]
pub struct Log {
    /// The configurations, in the order of the file.
    pub configurations: Vec<Logged>,
    /// The results, ordered by configuration and budget.
    pub runs: Vec<Run>,
    /// What was strange, and what was left out, for people.
    pub notes: Vec<String>,
}

/// A configuration of a log.
#[derive(Debug)]
pub struct Logged {
    /// Its id there: iteration, stage, number.
    pub id: Vec<i64>,
    /// Its values; what was `null` is inactive.
    pub values: Configuration,
    /// Whether a model chose it, where the log says so.
    pub is_model_based: Option<bool>,
}

impl Logged {
    /// Its id as text: `0,0,3`.
    pub fn id_text(&self) -> String {
        id_text(&self.id)
    }
}

/// A line of `results.json`.
#[derive(Debug)]
pub struct Run {
    /// The place of its configuration in the log.
    pub configuration: usize,
    /// What it was trained with, above 0.
    pub budget: f64,
    /// When it began, in seconds since 1970.
    pub started_s: Option<f64>,
    /// When it ended, in seconds since 1970.
    pub finished_s: Option<f64>,
    /// What came out.
    pub outcome: Outcome,
    /// The finite numbers of its `info`.
    pub measures: BTreeMap<String, f64>,
}

/// Reads a log.
///
/// # Errors
/// A file cannot be read, or none of its lines is such a log's.
pub fn read(path: &Path) -> Result<Log> {
    let mut log = Log::default();
    let index = read_configs(path, &mut log)?;
    read_results(path, &index, &mut log)?;
    Ok(log)
}

/// The lines of a file as JSON arrays; a line that is none is noted and skipped.
fn lines(
    path: &Path,
    notes: &mut Vec<String>,
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
        let used = crate::format::parse(&lenient(line))
            .map_err(|error| error.to_string())
            .and_then(|fields: Vec<Json>| each(&fields));
        let place = || format!("line {} of `{}`", index + 1, path.display());
        match used {
            Ok(None) => num_used += 1,
            Ok(Some(note)) => {
                num_used += 1;
                notes.push(format!("{}: {note}", place()));
            }
            Err(why) => notes.push(format!("left out {}: {why}", place())),
        }
    }
    if num_lines > 0 && num_used == 0 {
        let why = notes.first().cloned().unwrap_or_default();
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

fn read_configs(path: &Path, log: &mut Log) -> Result<BTreeMap<Vec<i64>, usize>> {
    let mut index: BTreeMap<Vec<i64>, usize> = BTreeMap::new();
    let Log {
        configurations,
        notes,
        ..
    } = log;
    lines(&path.join(CONFIGS), notes, |fields| {
        let id = id(fields.first())?;
        let (values, note) = configuration(fields.get(1))?;
        let logged = Logged {
            id: id.clone(),
            values,
            is_model_based: fields
                .get(2)
                .and_then(|info| info.get("model_based_pick")?.as_bool()),
        };
        if let Some(&place) = index.get(&id) {
            configurations[place] = logged;
            return Ok(Some(format!(
                "configuration {} is there twice; the last one counts",
                id_text(&id)
            )));
        }
        index.insert(id, configurations.len());
        configurations.push(logged);
        Ok(note)
    })?;
    Ok(index)
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

fn read_results(path: &Path, index: &BTreeMap<Vec<i64>, usize>, log: &mut Log) -> Result<()> {
    let mut runs: BTreeMap<(usize, u64), Run> = BTreeMap::new();
    lines(&path.join(RESULTS), &mut log.notes, |fields| {
        let id = id(fields.first())?;
        let Some(&configuration) = index.get(&id) else {
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
    // Positive floats sort like their bits, so this is the order of budgets.
    log.runs = runs.into_values().collect();
    Ok(())
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
