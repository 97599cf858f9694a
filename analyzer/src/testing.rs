//! Histories and search directories for tests.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use shared::budget::BudgetUnit;
use shared::record::{Origin, Proposal};
use shared::{
    Budget, Configuration, ConfigurationId, CurvePoint, Directory, JobResult, Outcome, OwnerId,
    SearchFile, Value, fs,
};

use crate::history::History;
use crate::load::{self, Wanted};

/// A search over `rate` (float, log), `blocks` (integer), `kind` (categorical) and, for one kind, `size` (ordinal);
/// budgets 1, 3 and 9 epochs.
pub(crate) fn search_file() -> SearchFile {
    let json = json!({
        "name": "test <search>",
        "space": {"hyperparameters": [
            {"name": "rate", "type": "float", "lower": 1e-3, "upper": 1.0, "log": true},
            {"name": "blocks", "type": "integer", "lower": 1, "upper": 5},
            {"name": "kind", "type": "categorical", "choices": ["plain", "wide"]},
            {"name": "size", "type": "ordinal", "sequence": [8, 16, 32],
             "active_when": {"hyperparameter": "kind", "in": ["wide"]}},
        ]},
        "objective": {"benchmark": "counting-ones"},
        "budget": {"unit": "epochs", "min": 1, "max": 9, "eta": 3},
        "limit": {"brackets": 3},
        "first_rungs": [0, 2, 2],
        "trainers": {},
    });
    serde_json::from_value(json).unwrap()
}

/// The `number`-th of a fixed sequence of configurations.
pub(crate) fn configuration(number: u32) -> Configuration {
    let x = f64::from(number * 37 % 101) / 101.0;
    let mut configuration: Configuration = [
        ("rate", Value::Float(10_f64.powf(-3.0 * x))),
        ("blocks", Value::Integer(i64::from(number % 5) + 1)),
        (
            "kind",
            Value::Text(
                if number.is_multiple_of(3) {
                    "wide"
                } else {
                    "plain"
                }
                .into(),
            ),
        ),
    ]
    .into_iter()
    .collect();
    if number.is_multiple_of(3) {
        configuration.set("size", Value::Integer([8, 16, 32][number as usize / 3 % 3]));
    }
    configuration
}

/// A result of configuration `number` at `rung`; jobs follow each other every 10 seconds.
pub(crate) fn result(number: u32, rung: u8, outcome: Outcome) -> JobResult {
    let start = 1.6e9 + f64::from(number) * 10.0 + f64::from(rung) * 1000.0;
    JobResult {
        attempt: ConfigurationId(number).job(rung).attempt(1),
        owner: OwnerId::from_parts(&["trainer", &(number % 2).to_string()]),
        bracket: number / 9,
        budget: Budget {
            amount: 3_f64.powi(i32::from(rung)),
            unit: BudgetUnit::Epochs,
        },
        configuration: configuration(number),
        measures: match outcome.loss() {
            Some(loss) => [("test_error".to_owned(), loss + 0.01)].into(),
            None => BTreeMap::new(),
        },
        curve: match outcome.loss() {
            Some(loss) => [0.5, 1.0]
                .map(|share| CurvePoint {
                    spent: share * 3_f64.powi(i32::from(rung)),
                    training_loss: Some(loss / share),
                    loss: (share > 0.6).then_some(loss),
                })
                .into(),
            None => Vec::new(),
        },
        outcome,
        notes: BTreeMap::new(),
        started_at: shared::clock::stamp(start).unwrap(),
        finished_at: shared::clock::stamp(start + 15.0).unwrap(),
        elapsed_s: 15.0,
        program: "0.1.0".into(),
        supersedes: None,
        checks: Vec::new(),
    }
}

/// A loss.
pub(crate) fn evaluated(loss: f64) -> Outcome {
    Outcome::Evaluated { loss }
}

/// Makes a search directory with these results, and a proposal for each configuration.
pub(crate) fn write_search(root: &Path, results: &[JobResult]) -> Directory {
    let directory = Directory::create(root, &search_file(), Path::new("search.json")).unwrap();
    for result in results {
        directory.publish_result(result).unwrap();
        let id = result.job().configuration;
        let source = if id.0.is_multiple_of(2) {
            "model"
        } else {
            "prior"
        };
        let proposal = Proposal {
            configuration: id,
            values: result.configuration.clone(),
            origin: Origin {
                method: "bohb".into(),
                source: source.into(),
                reason: String::new(),
                num_results: 0,
                results_digest: String::new(),
                model: None,
            },
            checks: Vec::new(),
            program: "0.1.0".into(),
        };
        directory.propose(&proposal).unwrap();
    }
    directory
}

/// The history of a search whose configurations have these losses by budget; `NaN` is a divergence, and a missing
/// entry was never evaluated.
pub(crate) fn history(losses: &[&[f64]]) -> History {
    let folder = tempfile::tempdir().unwrap();
    let mut results = Vec::new();
    for (number, row) in losses.iter().enumerate() {
        let number = u32::try_from(number).unwrap();
        for (rung, loss) in row.iter().enumerate() {
            let outcome = if loss.is_nan() {
                Outcome::Diverged {
                    spent: 0.5,
                    message: "loss NaN".into(),
                }
            } else {
                evaluated(*loss)
            };
            results.push(result(number, u8::try_from(rung).unwrap(), outcome));
        }
    }
    write_search(folder.path(), &results);
    load::open(folder.path(), Wanted::ALL).unwrap()
}

/// Writes a file of a log or a corrupt record.
pub(crate) fn write(path: &Path, text: &str) {
    fs::replace(path, text.as_bytes()).unwrap();
}
