//! A search as an Optuna journal: one trial for each configuration.
//!
//! A configuration with a loss at the largest budget that has any is a complete trial, and that loss is its value; one
//! that was given up before is pruned, with its last loss; one without any loss has failed. Intermediate values are the
//! learning curve of the longest job, or else the losses at each budget; their steps are amounts of budget, rounded.
//!
//! # Source
//! Optuna 5.0, `storages/journal/_storage.py`: operations 0 (create a study), 2 and 3 (its attributes) and 4 (create a
//! trial, whole).

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value as Json, json};
use shared::exit::{Code, Failure};
use shared::{Kind, Outcome, SearchSpace, Value};

use crate::history::{Evaluation, History};
use crate::rows::message;

/// Optuna's number for minimising.
const MINIMISE: u8 = 1;
/// Optuna's numbers for states of a trial.
const COMPLETE: u8 = 1;
const PRUNED: u8 = 2;
const FAILED: u8 = 3;

/// The journal, a line for each operation.
pub(crate) fn journal(history: &History) -> Result<String> {
    let space = history.space.as_ref().ok_or_else(|| {
        let message = "the search space is not known, and Optuna needs one";
        Failure::new(Code::BadInput, message)
    })?;
    let mut lines = String::new();
    let mut write = |operation: u8, fields: Json| {
        let mut line = Map::new();
        line.insert("op_code".into(), json!(operation));
        line.insert("worker_id".into(), json!("tandem"));
        if let Json::Object(fields) = fields {
            line.extend(fields);
        }
        lines.push_str(&Json::Object(line).to_string());
        lines.push('\n');
    };
    write(
        0,
        json!({"study_name": history.name, "directions": [MINIMISE]}),
    );
    let metric = json!({"study:metric_names": ["loss"]});
    write(3, json!({"study_id": 0, "system_attr": metric}));
    for (name, value) in [
        ("budgets", json!(history.budgets)),
        ("budget_unit", json!(history.unit)),
    ] {
        write(2, json!({"study_id": 0, "user_attr": {name: value}}));
    }
    let mut by_configuration: Vec<Vec<&Evaluation>> =
        vec![Vec::new(); history.configurations.len()];
    for result in &history.results {
        by_configuration[result.configuration].push(result);
    }
    for results in &mut by_configuration {
        results.sort_by_key(|result| result.budget);
        if !results.is_empty() {
            write(4, trial(history, space, results));
        }
    }
    Ok(lines)
}

/// A configuration's results, the shortest job first, as the fields of a trial.
fn trial(history: &History, space: &SearchSpace, results: &[&Evaluation]) -> Json {
    let tried = &history.configurations[results[0].configuration];
    let evaluated = results.iter().rfind(|result| result.loss().is_some());
    let stopped = results.iter().find_map(|result| match result.outcome {
        Outcome::Stopped { loss, .. } => Some(loss),
        _ => None,
    });
    let state = match evaluated {
        None if stopped.is_some() => PRUNED,
        None => FAILED,
        Some(result) if Some(result.budget) == history.reached() => COMPLETE,
        Some(_) => PRUNED,
    };
    let (mut distributions, mut params) = (Map::new(), Map::new());
    for (name, value) in tried.values.iter() {
        let kind = space.find(name).map(|h| &h.kind);
        if let Some((distribution, internal)) = kind.and_then(|kind| parameter(kind, value)) {
            distributions.insert(name.to_owned(), json!(distribution.to_string()));
            params.insert(name.to_owned(), internal);
        }
    }
    let started = results.iter().filter_map(|result| result.started_s);
    let finished = results.iter().filter_map(|result| result.finished_s);
    let mut trial = json!({
        "study_id": 0,
        "state": state,
        "value": evaluated.and_then(|result| result.loss()).or(stopped),
        "values": null,
        "datetime_start": started.min_by(f64::total_cmp).and_then(time),
        "distributions": distributions,
        "params": params,
        "user_attrs": attributes(history, results),
        "system_attrs": {},
        "intermediate_values": intermediate(history, results),
    });
    if let Some(time) = finished.max_by(f64::total_cmp).and_then(time) {
        trial["datetime_complete"] = json!(time);
    }
    trial
}

/// A time in the form that Python's `fromisoformat` reads in all its versions.
fn time(unix_s: f64) -> Option<String> {
    let stamp = shared::clock::stamp(unix_s)?;
    let (seconds, _) = stamp.split_once(['.', 'Z'])?;
    let micros = (unix_s.rem_euclid(1.0) * 1e6).floor();
    Some(format!("{seconds}.{micros:06.0}+00:00"))
}

/// The distribution of a hyperparameter, and its value as Optuna stores it; `None` for one that has one value.
fn parameter(kind: &Kind, value: &Value) -> Option<(Json, Json)> {
    let categorical = |levels: &[Value]| {
        let place = levels.iter().position(|level| level.same(value))?;
        let distribution =
            json!({"name": "CategoricalDistribution", "attributes": {"choices": levels}});
        Some((distribution, json!(place)))
    };
    match kind {
        Kind::Float { lower, upper, log } => Some((
            json!({"name": "FloatDistribution", "attributes":
                {"step": null, "low": lower, "high": upper, "log": log}}),
            json!(value.as_f64()?),
        )),
        Kind::Integer { lower, upper, log } => Some((
            json!({"name": "IntDistribution", "attributes":
                {"log": log, "step": 1, "low": lower, "high": upper}}),
            json!(value.as_f64()?),
        )),
        Kind::Ordinal { sequence: levels } | Kind::Categorical { choices: levels } => {
            categorical(levels)
        }
        Kind::Constant { .. } => None,
    }
}

/// What else there is to know of a configuration.
fn attributes(history: &History, results: &[&Evaluation]) -> Json {
    let tried = &history.configurations[results[0].configuration];
    let last = results[results.len() - 1];
    let mut attributes = Map::new();
    attributes.insert(
        "configuration".into(),
        json!(history.configuration_name(results[0].configuration)),
    );
    attributes.insert("bracket".into(), json!(tried.bracket));
    attributes.insert("budget".into(), json!(history.budgets[last.budget]));
    if let Some(origin) = tried.origin {
        attributes.insert("origin".into(), json!(origin.as_str()));
    }
    if last.loss().is_none() {
        attributes.insert("outcome".into(), json!(last.outcome.as_str()));
        attributes.insert("message".into(), json!(message(&last.outcome)));
    }
    for (measure, x) in &last.measures {
        attributes.insert(history.measures[*measure].clone(), json!(x));
    }
    Json::Object(attributes)
}

/// Losses by step; of two at one step the later one.
fn intermediate(history: &History, results: &[&Evaluation]) -> BTreeMap<u64, f64> {
    let curve = results.iter().rev().map(|result| {
        let points = result.curve.iter();
        points
            .filter_map(|point| Some((step(point.spent), point.loss?)))
            .collect::<BTreeMap<_, _>>()
    });
    let longest = curve.into_iter().find(|points| points.len() > 1);
    longest.unwrap_or_else(|| {
        let losses = results.iter();
        losses
            .filter_map(|result| Some((step(history.budgets[result.budget]), result.loss()?)))
            .collect()
    })
}

/// An amount of budget as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "budgets are positive and below 2^53"
)]
pub(crate) fn step(spent: f64) -> u64 {
    spent.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::history;

    #[test]
    fn trials_are_complete_pruned_or_failed() {
        let history = history(&[&[0.5, 0.4, 0.3], &[0.7], &[f64::NAN], &[0.6, 0.5]]);
        let journal = journal(&history).unwrap();
        let lines: Vec<Json> = journal
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let trials: Vec<&Json> = lines.iter().filter(|line| line["op_code"] == 4).collect();
        let of = |field: &str| trials.iter().map(|t| t[field].clone()).collect::<Vec<_>>();
        assert_eq!(of("state"), [COMPLETE, PRUNED, FAILED, PRUNED]);
        assert_eq!(
            of("value"),
            [json!(0.3), json!(0.7), Json::Null, json!(0.5)]
        );
        assert_eq!(
            trials[0]["intermediate_values"],
            json!({"1": 0.5, "3": 0.4, "9": 0.3})
        );
        assert_eq!(
            trials[0]["datetime_start"],
            "2020-09-13T12:26:40.000000+00:00"
        );
        // `wide` is the second choice; `size` is there with it only.
        assert_eq!(trials[0]["params"]["kind"], 1);
        assert!(trials[0]["params"]["size"].is_number() && trials[1]["params"]["size"].is_null());
        let rate: Json =
            serde_json::from_str(trials[0]["distributions"]["rate"].as_str().unwrap()).unwrap();
        assert_eq!(
            rate["attributes"],
            json!({"step": null, "low": 1e-3, "high": 1.0, "log": true})
        );
        assert_eq!(trials[2]["user_attrs"]["outcome"], "diverged");
    }
}
