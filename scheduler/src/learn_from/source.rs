//! Where earlier results are: search directories, imported ones, HpBandSter's logs, tables.

use std::path::Path;

use anyhow::{Result, bail};
use shared::exit::{Code, Failure};
use shared::layout::{self, Layout};
use shared::record::Imported;
use shared::{
    BudgetUnit, Directory, JobResult, Outcome, ResultId, Score, SearchSpace, fs, hpbandster,
};
use tracing::warn;

use super::{Found, table};

/// Every result of a source that says something of its configuration.
pub(super) fn read(path: &Path, space: &SearchSpace, unit: BudgetUnit) -> Result<Vec<Found>> {
    let shown = path.display();
    let has = |name: &str| path.join(name).is_file();
    if path.is_file() {
        return table::read(path, space);
    }
    if has(layout::SEARCH) {
        let directory = Directory::observe(path)?;
        warn_of_unit(path, Some(directory.search().ladder.unit()), unit);
        return Ok(of_results(&directory.all_results()?));
    }
    if has(layout::IMPORTED) {
        let imported: Imported = fs::read_record(&path.join(layout::IMPORTED))?;
        warn_of_unit(path, imported.unit, unit);
        return Ok(of_results(&imported_results(path)?));
    }
    if has(hpbandster::CONFIGS) && has(hpbandster::RESULTS) {
        return log(path);
    }
    let what = if path.exists() {
        "is no search directory, HpBandSter log or table"
    } else {
        "is not there"
    };
    let message = format!(
        "--learn-from: `{shown}` {what}: expected a folder with `{}`, `{}`, or `{}` and `{}`, or a CSV file",
        layout::SEARCH,
        layout::IMPORTED,
        hpbandster::CONFIGS,
        hpbandster::RESULTS
    );
    bail!(Failure::new(Code::BadInput, message))
}

/// Says that budgets of two units are compared by their amounts.
fn warn_of_unit(path: &Path, there: Option<BudgetUnit>, here: BudgetUnit) {
    if let Some(there) = there.filter(|there| *there != here) {
        warn!(
            "budgets of `{}` are amounts of {}, here of {}: their numbers are compared",
            path.display(),
            there.symbol(),
            here.symbol()
        );
    }
}

fn of_results(results: &[JobResult]) -> Vec<Found> {
    let own = |result: &JobResult| {
        found(
            result.configuration.clone(),
            result.budget.amount,
            &result.outcome,
        )
    };
    // What was seen on the way is as good as a result there, but of what breaks a constraint.
    let is_feasible = |result: &JobResult| !matches!(result.outcome, Outcome::Infeasible { .. });
    let checks = |result: &JobResult| -> Vec<Found> {
        let checks = result.checks.iter().filter(|_| is_feasible(result));
        checks
            .map(|check| Found {
                values: result.configuration.clone(),
                budget: Some(check.spent),
                loss: Some(check.loss),
            })
            .collect()
    };
    let all = |result: &JobResult| checks(result).into_iter().chain(own(result));
    results.iter().flat_map(all).collect()
}

/// `None` for a job that was lost or stopped, which says nothing of that budget, and for what breaks a constraint of another search.
fn found(values: shared::Configuration, budget: f64, outcome: &Outcome) -> Option<Found> {
    let score = outcome.score();
    let says_something = |score: &Score| !matches!(score, Score::Infeasible(_));
    score.filter(says_something).map(|score| Found {
        values,
        budget: Some(budget),
        loss: score.loss(),
    })
}

fn imported_results(path: &Path) -> Result<Vec<JobResult>> {
    let layout = Layout::new(path);
    let mut results = Vec::new();
    for folder in fs::list(&layout.path(layout::RESULTS))? {
        let Some(shard) = layout::shard_in(&folder) else {
            continue;
        };
        let mut ids: Vec<ResultId> = fs::list(&layout.shard(layout::RESULTS, shard))?
            .iter()
            .filter_map(|name| layout::id_in(name))
            .collect();
        ids.sort_unstable();
        for id in ids {
            results.push(fs::read_record(&layout.result(id))?);
        }
    }
    Ok(results)
}

fn log(path: &Path) -> Result<Vec<Found>> {
    let log = hpbandster::read(path)?;
    for note in &log.notes {
        warn!("{note}");
    }
    let runs = log.runs.iter().filter_map(|run| {
        let values = log.configurations[run.configuration].values.clone();
        found(values, run.budget, &run.outcome)
    });
    Ok(runs.collect())
}
