//! The flat table of all results, for pandas, polars, R or a spreadsheet: one row a result.

use anyhow::Result;
use shared::ConfigurationId;

use crate::load::History;
use crate::table::{Cell, Table};

/// CSV with a header; what does not exist is an empty field.
///
/// Columns: `job`, `configuration`, `foreign_id`, `bracket`, `rung`, `budget`, `unit`, `outcome`, `loss`, `test_loss`,
/// `spent` (in the budget's unit), `started_s` and `finished_s` (seconds since 1970), `elapsed_s`, `owner`, `origin`
/// (`model`, `prior`, `other`), `message`; then `values.NAME` for every hyperparameter and `measures.NAME` for every
/// measure, in alphabetical order.
pub fn csv(history: &History) -> Result<String> {
    let mut names: Vec<&str> = history
        .configurations
        .iter()
        .flat_map(|tried| tried.values.iter().map(|(name, _)| name))
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut measures: Vec<usize> = (0..history.measures.len()).collect();
    measures.sort_by_key(|&index| &history.measures[index]);
    let mut header: Vec<String> = [
        "job",
        "configuration",
        "foreign_id",
        "bracket",
        "rung",
        "budget",
        "unit",
        "outcome",
        "loss",
        "test_loss",
        "spent",
        "started_s",
        "finished_s",
        "elapsed_s",
        "owner",
        "origin",
        "message",
    ]
    .map(str::to_owned)
    .to_vec();
    header.extend(names.iter().map(|name| format!("values.{name}")));
    header.extend(
        measures
            .iter()
            .map(|&m| format!("measures.{}", history.measures[m])),
    );
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&header)?;
    for index in 0..history.results.len() {
        let mut row = fixed_fields(history, index);
        let result = &history.results[index];
        let values = &history.configurations[result.configuration].values;
        // Both sides are in alphabetical order.
        let mut own = values.iter().peekable();
        for name in &names {
            let value = own.next_if(|(own, _)| own == name);
            row.push(value.map_or_else(String::new, |(_, value)| value.to_string()));
        }
        for measure in &measures {
            let found = result.measures.iter().find(|(index, _)| index == measure);
            row.push(found.map_or_else(String::new, |(_, x)| format!("{x:?}")));
        }
        writer.write_record(&row)?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// Learning curves, one row a point. Columns: `job`, `configuration`, `budget` (of the job), `spent` (so far),
/// `training_loss`, `loss`.
pub fn curves(history: &History, only: Option<ConfigurationId>) -> Table {
    let mut table = Table::new(&[
        "job",
        "configuration",
        "budget",
        "spent",
        "training_loss",
        "loss",
    ]);
    for result in &history.results {
        let id = result.job.configuration;
        if only.is_some_and(|only| only != id) {
            continue;
        }
        for point in &result.curve {
            table.push(vec![
                Cell::text(result.job.to_string()),
                Cell::text(id.to_string()),
                Cell::Number(history.budgets[result.budget]),
                Cell::Number(point.spent),
                Cell::number(point.training_loss),
                Cell::number(point.loss),
            ]);
        }
    }
    table
}

fn fixed_fields(history: &History, index: usize) -> Vec<String> {
    let result = &history.results[index];
    let tried = &history.configurations[result.configuration];
    let number = |number: Option<f64>| number.map_or_else(String::new, |x| Cell::Number(x).plain());
    vec![
        result.job.to_string(),
        tried.id.to_string(),
        tried.foreign_id.clone().unwrap_or_default(), // not from elsewhere: empty
        result.bracket.to_string(),
        result.job.rung.to_string(),
        number(Some(history.budgets[result.budget])),
        history.unit.map_or("", shared::BudgetUnit::symbol).into(),
        result.outcome.as_str().into(),
        number(result.loss()),
        number(result.test_loss),
        number(Some(result.spent)),
        number(result.started_s),
        number(result.finished_s),
        number(Some(result.elapsed_s)),
        history.owners[result.owner].clone(),
        tried.origin.map_or("", crate::load::Source::as_str).into(),
        message(&result.outcome),
    ]
}

/// What an outcome says beyond its kind.
pub fn message(outcome: &shared::Outcome) -> String {
    match outcome {
        shared::Outcome::Evaluated { .. } => String::new(),
        shared::Outcome::Diverged { message, .. } | shared::Outcome::Crashed { message } => {
            message.clone()
        }
        shared::Outcome::OutOfMemory {
            needed_mib,
            available_mib,
        } => format!("{needed_mib} MiB needed, {available_mib} MiB free"),
        shared::Outcome::Lost { attempts, fate } => {
            format!("{attempts} attempts, the last: {}", fate.as_str())
        }
    }
}
