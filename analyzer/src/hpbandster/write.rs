//! Writing logs: an HpBandSter log as a directory of this project's records, and any history as an HpBandSter log.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use rayon::prelude::*;
use serde_json::{Map, Value as Json, json};
use shared::exit::{Code, Failure};
use shared::layout::{self, Layout};
use shared::record::{Imported, Origin, Proposal};
use shared::{Budget, BudgetUnit, JobResult, Outcome, OwnerId, SearchSpace, fs};

use super::{CONFIGS, RESULTS};
use crate::configspace::{self, Generation};
use crate::history::{Evaluation, FOREIGN_ID, History, Source, Tried};
use crate::rows::message;
use crate::wording::put;

/// Writes a log that was read by [`super::read`] as an imported directory. `imported.json` comes last, so that a
/// directory that has it is whole.
pub fn import(history: &History, to: &Path) -> Result<()> {
    let layout = Layout::new(to);
    if !fs::list_named(to)?.is_empty() {
        let message = format!(
            "`{}` is not empty: import into a new directory",
            to.display()
        );
        return Err(Failure::new(Code::Usage, message).into());
    }
    history
        .configurations
        .par_iter()
        .try_for_each(|tried| -> Result<()> {
            fs::publish_record(&layout.configuration(tried.id), &proposal(tried))?;
            Ok(())
        })?;
    history
        .results
        .par_iter()
        .try_for_each(|result| -> Result<()> {
            fs::publish_record(&layout.result(result.job), &job_result(history, result))?;
            Ok(())
        })?;
    let imported = Imported {
        name: history.name.clone(),
        source: "HpBandSter".into(),
        unit: history.unit,
        budgets: history.budgets.clone(),
        space: history.space.as_ref().map(SearchSpace::to_file),
        space_is_inferred: history.space_is_inferred,
        program: env!("CARGO_PKG_VERSION").into(),
    };
    fs::publish_record(&layout.path(layout::IMPORTED), &imported)?;
    Ok(())
}

fn proposal(tried: &Tried) -> Proposal {
    let source = tried.origin.unwrap_or(Source::Other);
    Proposal {
        configuration: tried.id,
        values: tried.values.clone(),
        origin: Origin {
            method: "hpbandster".into(),
            source: source.as_str().into(),
            reason: "from an HpBandSter log".into(),
            num_results: 0,
            results_digest: String::new(),
            model: None,
        },
        checks: Vec::new(),
        program: env!("CARGO_PKG_VERSION").into(),
    }
}

fn job_result(history: &History, result: &Evaluation) -> JobResult {
    let tried = &history.configurations[result.configuration];
    let stamp = |seconds: Option<f64>| seconds.and_then(shared::clock::stamp).unwrap_or_default(); // unknown: empty
    let measures = result.measures.iter();
    let foreign_id = tried.foreign_id.iter();
    JobResult {
        attempt: result.job.attempt(1),
        owner: OwnerId::from_parts(&[&history.owners[result.owner]]),
        bracket: result.bracket,
        budget: Budget {
            amount: history.budgets[result.budget],
            unit: BudgetUnit::Steps,
        },
        configuration: tried.values.clone(),
        outcome: result.outcome.clone(),
        measures: measures
            .map(|(index, x)| (history.measures[*index].clone(), *x))
            .collect(),
        curve: Vec::new(),
        notes: foreign_id
            .map(|id| (FOREIGN_ID.to_owned(), id.clone()))
            .collect(),
        started_at: stamp(result.started_s),
        finished_at: stamp(result.finished_s),
        elapsed_s: result.elapsed_s,
        program: env!("CARGO_PKG_VERSION").into(),
        supersedes: None,
        checks: Vec::new(),
    }
}

/// Writes a history as an HpBandSter log with a `configspace.json`.
///
/// Whatever is no evaluation becomes a `null` result with the outcome as its exception: a loss that is not finite would
/// not be readable by strict parsers, and HpBandSter's own incumbent cannot deal with it. Lost jobs are left out.
pub fn export(history: &History, to: &Path) -> Result<()> {
    let ids = ids(history);
    let mut configs = String::new();
    for (tried, id) in history.configurations.iter().zip(&ids) {
        let is_model = tried.origin == Some(Source::Model);
        let line = json!([id, tried.values, {"model_based_pick": is_model}]);
        put(&mut configs, format_args!("{line}\n"));
    }
    let mut results = String::new();
    for index in history.by_time() {
        let result = &history.results[index];
        if let Some(line) = result_line(history, result, &ids[result.configuration]) {
            put(&mut results, format_args!("{line}\n"));
        }
    }
    let write = |name: &str, text: &str| {
        let path = to.join(name);
        fs::replace(&path, text.as_bytes()).with_context(|| format!("cannot export `{name}`"))
    };
    if let Some(space) = &history.space {
        let space = configspace::to_json(space, &history.name, Generation::Seven)?;
        write(configspace::CONFIGSPACE, &format!("{space:#}\n"))?;
    }
    write(CONFIGS, &configs)?;
    write(RESULTS, &results)
}

/// Ids as HpBandSter counts: iteration (our bracket), stage 0, number in the iteration; imported ones as they were.
fn ids(history: &History) -> Vec<Vec<i64>> {
    let mut in_bracket: BTreeMap<u32, i64> = BTreeMap::new();
    let id = |tried: &Tried| {
        let numbers = tried.foreign_id.as_ref().and_then(|id| {
            let parts = id.split(',').map(|part| part.parse().ok());
            parts.collect::<Option<Vec<i64>>>()
        });
        numbers.unwrap_or_else(|| {
            let number = in_bracket.entry(tried.bracket).or_insert(0);
            *number += 1;
            vec![i64::from(tried.bracket), 0, *number - 1]
        })
    };
    history.configurations.iter().map(id).collect()
}

fn result_line(history: &History, result: &Evaluation, id: &[i64]) -> Option<Json> {
    let (outcome, exception) = match &result.outcome {
        Outcome::Evaluated { loss } => {
            let named = |(index, x): &(usize, f64)| (history.measures[*index].clone(), json!(x));
            let info: Map<String, Json> = result.measures.iter().map(named).collect();
            (json!({"loss": loss, "info": info}), Json::Null)
        }
        // That log has no word for it.
        Outcome::Stopped { .. } => (Json::Null, json!(message(&result.outcome))),
        Outcome::Diverged { message, .. } => (Json::Null, json!(format!("diverged: {message}"))),
        Outcome::OutOfMemory { needed_mib, .. } => {
            let message = format!("out of memory: {needed_mib} MiB needed");
            (Json::Null, json!(message))
        }
        Outcome::Infeasible { violations, .. } => {
            let message = format!("infeasible: {}", shared::constraint::in_words(violations));
            (Json::Null, json!(message))
        }
        Outcome::Crashed { message, .. } => (Json::Null, json!(message)),
        Outcome::Lost { .. } => return None,
    };
    let finished = result.finished_s.unwrap_or(0.0);
    let started = result.started_s.unwrap_or(finished - result.elapsed_s);
    let times = json!({"submitted": started, "started": started, "finished": finished});
    let budget = history.budgets[result.budget];
    Some(json!([id, budget, times, outcome, exception]))
}
