//! The incumbent, and how it came about: over jobs, spent budget and wall time.
//!
//! The incumbent is the best configuration at the largest budget that has a loss; a loss at a larger budget replaces any
//! at a smaller one, so its loss can go up. Equal losses: the lower id. Wall time is by the trainers' own clocks, whose
//! differences it inherits.

use serde_json::{Map, Value as Json, json};

use crate::history::{Evaluation, History};
use crate::table::{Cell, Table};
use crate::wording::{count, put, significant};

/// Which results may become incumbents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum At {
    /// Those at the largest budget that has a loss so far
    #[default]
    Reached,
    /// Those at the search's largest budget only
    Top,
    /// Those at any budget: the lowest loss counts
    Any,
}

/// A moment at which the incumbent changed, or the last result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Number of jobs that had a result.
    pub jobs: usize,
    /// Seconds since the first attempt started; `None` where times are unknown.
    pub wall_s: Option<f64>,
    /// Budget spent by all jobs together, in the search's unit.
    pub spent: f64,
    /// Index of the incumbent's result.
    pub incumbent: usize,
}

/// The moments at which the incumbent changed, and the last result.
pub fn steps(history: &History, at: At) -> Vec<Step> {
    let start_s = history.start_s();
    let top = history.budgets.len().saturating_sub(1);
    let mut steps: Vec<Step> = Vec::new();
    let mut spent = 0.0;
    let mut incumbent: Option<usize> = None;
    let order = history.by_time();
    for (position, &index) in order.iter().enumerate() {
        let result = &history.results[index];
        spent += result.spent;
        let is_candidate = result.standing().is_some() && (at != At::Top || result.budget == top);
        let is_better = is_candidate
            && incumbent.is_none_or(|old| is_better(result, &history.results[old], at));
        if is_better {
            incumbent = Some(index);
        }
        let is_last = position + 1 == order.len();
        if let Some(incumbent) = incumbent.filter(|_| is_better || is_last) {
            let finished_s = result.finished_s.zip(start_s);
            steps.push(Step {
                jobs: position + 1,
                wall_s: finished_s.map(|(finished, start)| finished - start),
                spent,
                incumbent,
            });
        }
    }
    steps
}

/// The best result of those that may become the incumbent, which is the incumbent of the last step.
pub fn incumbent(history: &History, at: At) -> Option<&Evaluation> {
    match at {
        At::Reached => history.incumbent(),
        At::Top => history.best_at(history.budgets.len().checked_sub(1)?),
        At::Any => history.best_at_any(),
    }
}

fn is_better(new: &Evaluation, old: &Evaluation, at: At) -> bool {
    let (Some(new_loss), Some(old_loss)) = (new.standing(), old.standing()) else {
        return false;
    };
    let by_budget = match at {
        At::Any => std::cmp::Ordering::Equal,
        At::Reached | At::Top => old.level().cmp(&new.level()),
    };
    let by_loss = new_loss.total_cmp(&old_loss);
    by_budget.then(by_loss).then(new.job.cmp(&old.job)).is_lt()
}

/// One row a step. Columns: `jobs`, `wall_s`, `spent` (in the search's unit), `budget`, `loss`, `test_loss`,
/// `configuration`.
pub fn table(history: &History, at: At) -> Table {
    let mut table = Table::new(&[
        "jobs",
        "wall_s",
        "spent",
        "budget",
        "loss",
        "test_loss",
        "configuration",
    ]);
    for step in steps(history, at) {
        let result = &history.results[step.incumbent];
        table.push(vec![
            Cell::Count(step.jobs),
            Cell::number(step.wall_s),
            Cell::Number(step.spent),
            Cell::Number(history.budgets[result.budget]),
            Cell::number(result.standing()),
            Cell::number(result.test_loss),
            Cell::text(history.configuration_name(result.configuration)),
        ]);
    }
    table
}

/// Why there is no incumbent, for people.
pub fn no_incumbent(history: &History, at: At) -> String {
    let num = history.results.len();
    match (at, history.budgets.len().checked_sub(1)) {
        (At::Top, Some(top)) if history.reached().is_some() => format!(
            "No incumbent yet: no result at {} has a loss; `--at reached` shows the best at smaller budgets.\n",
            history.budget_phrase(top)
        ),
        _ => format!(
            "No incumbent yet: none of {} has a loss.\n",
            count(num, "result")
        ),
    }
}

/// The incumbent for people: what it is, then its values.
pub fn incumbent_text(history: &History, result: &Evaluation, at: At) -> String {
    let tried = &history.configurations[result.configuration];
    let number = |number: Option<f64>| number.map_or_else(|| "-".into(), |x| significant(x, 5));
    let peers = history
        .results
        .iter()
        .filter(|other| at == At::Any || other.budget == result.budget)
        .filter(|other| other.loss().is_some() && other.repetition == result.repetition);
    let mut text = format!(
        "{}: loss {}{} at {}, the best of {} {}\n",
        history.configuration_name(result.configuration),
        number(result.standing()),
        result.mean.map_or_else(String::new, |mean| format!(
            " ± {} (mean of {} seeds)",
            significant(mean.standard_error, 2),
            mean.seeds
        )),
        history.budget_phrase(result.budget),
        peers.count(),
        if at == At::Any {
            "at all budgets"
        } else {
            "there"
        },
    );
    if result.test_loss.is_some() {
        put(
            &mut text,
            format_args!("test loss {}\n", number(result.test_loss)),
        );
    }
    if let Some(origin) = tried.origin {
        put(
            &mut text,
            format_args!(
                "found by: {}, in bracket {}\n",
                origin.as_str(),
                tried.bracket
            ),
        );
    }
    let mut values = Table::new(&["hyperparameter", "value"]);
    for (name, value) in tried.values.iter() {
        let value = value
            .as_f64()
            .map_or_else(|| value.to_string(), |x| significant(x, 6));
        values.push(vec![Cell::text(name), Cell::text(value)]);
    }
    text.push('\n');
    text.push_str(&values.aligned());
    text
}

/// The incumbent for programs; `null` where no job has a loss.
pub fn incumbent_json(history: &History, result: Option<&Evaluation>) -> Json {
    let Some(result) = result else {
        return Json::Null;
    };
    let tried = &history.configurations[result.configuration];
    let measures = result.measures.iter();
    let named = |(index, x): &(usize, f64)| (history.measures[*index].clone(), json!(x));
    json!({
        "configuration": tried.id,
        "foreign_id": tried.foreign_id,
        "job": result.job,
        "budget": history.budgets[result.budget],
        "unit": history.unit,
        "loss": result.standing(),
        "standard_error": result.mean.map(|mean| mean.standard_error),
        "seeds": result.mean.map_or(1, |mean| mean.seeds),
        "test_loss": result.test_loss,
        "bracket": tried.bracket,
        "origin": tried.origin.map(crate::history::Source::as_str),
        "values": tried.values,
        "measures": measures.map(named).collect::<Map<String, Json>>(),
    })
}

/// The incumbent as a table of one row (none where no job has a loss): what it is, then its values.
pub fn incumbent_table(history: &History, result: Option<&Evaluation>) -> Table {
    let values = result.map(|result| &history.configurations[result.configuration].values);
    let names = values.into_iter().flat_map(shared::Configuration::iter);
    let mut columns = vec!["configuration", "budget", "loss", "test_loss"];
    columns.extend(names.map(|(name, _)| name));
    let mut table = Table::new(&columns);
    if let Some(result) = result {
        let values = history.configurations[result.configuration].values.iter();
        let mut row = vec![
            Cell::text(history.configuration_name(result.configuration)),
            Cell::Number(history.budgets[result.budget]),
            Cell::number(result.standing()),
            Cell::number(result.test_loss),
        ];
        row.extend(values.map(|(_, value)| Cell::text(value.to_string())));
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests;
