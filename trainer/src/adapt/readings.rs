//! What a script has printed of its metric, and the result that it makes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use shared::adapter::{Adapter, Choice, reading};
use shared::{Budget, BudgetUnit};

use crate::evaluator::contract::shortened;

/// The most points of a learning curve.
const MAX_POINTS: usize = 4096;
/// The most that is quoted of a line, in bytes.
const MAX_QUOTED: usize = 200;

/// What was read so far.
pub(super) struct Readings<'a> {
    adapter: &'a Adapter,
    /// What the script was told to spend.
    given: f64,
    budget: Budget,
    /// The metric's values, each with how far the training was where the script says so.
    found: Vec<(f64, Option<f64>)>,
    measures: BTreeMap<&'a str, f64>,
    /// Why a line that matches says nothing.
    complaint: Option<String>,
    /// The last line that was not empty.
    last_line: String,
}

impl<'a> Readings<'a> {
    pub(super) fn new(adapter: &'a Adapter, given: f64, budget: Budget) -> Self {
        Self {
            adapter,
            given,
            budget,
            found: Vec::new(),
            measures: BTreeMap::new(),
            complaint: None,
            last_line: String::new(),
        }
    }

    /// Reads a line; whether it says the metric.
    pub(super) fn read(&mut self, line: &str) -> bool {
        if !line.trim().is_empty() {
            line.trim().clone_into(&mut self.last_line);
        }
        for (name, pattern) in &self.adapter.measures {
            if let Ok(Some((value, _))) = reading(pattern, line) {
                self.measures.insert(name, value);
            }
        }
        match reading(&self.adapter.metric, line) {
            Ok(Some(found)) => {
                self.found.push(found);
                true
            }
            Ok(None) => false,
            Err(complaint) => {
                self.complaint = Some(complaint);
                false
            }
        }
    }

    /// What the metric's last value is as a loss.
    pub(super) fn last_loss(&self) -> Option<f64> {
        self.found.last().map(|(value, _)| self.loss(*value))
    }

    /// How far the script is, in the budget's unit, `elapsed` after its start.
    pub(super) fn spent(&self, elapsed: Duration) -> f64 {
        let said = self.found.last().and_then(|(_, spent)| *spent);
        let spent = said.unwrap_or(match self.budget.unit {
            BudgetUnit::Seconds | BudgetUnit::CpuSeconds => elapsed.as_secs_f64(),
            // A line is at least one of them.
            BudgetUnit::Epochs | BudgetUnit::Steps => self.found.len() as f64,
        });
        self.in_budget(spent)
    }

    /// The result file of a script that has ended well.
    pub(super) fn result(&self) -> Value {
        let pattern = &self.adapter.metric;
        let mut values = self.found.iter().map(|(value, _)| *value);
        let chosen = match self.adapter.value {
            Choice::Last => values.next_back(),
            Choice::Best => values.min_by(|a, b| self.loss(*a).total_cmp(&self.loss(*b))),
        };
        let Some(chosen) = chosen else {
            let last = shortened(self.last_line.clone(), MAX_QUOTED);
            let message = self.complaint.clone().unwrap_or_else(|| {
                format!("the pattern `{pattern}` matches no line that the script has printed; its last line: `{last}`")
            });
            return json!({ "crashed": message });
        };
        let curve = self.curve();
        if !chosen.is_finite() {
            let spent = curve.last().map_or(self.budget.amount, |(spent, _)| *spent);
            return json!({ "diverged": format!("the metric is {chosen}"), "spent": spent });
        }
        let measures = self.measures.iter().filter(|(_, value)| value.is_finite());
        let mut measures: BTreeMap<&str, f64> = measures.map(|(name, x)| (*name, *x)).collect();
        measures.entry("metric").or_insert(chosen);
        let points = curve.iter().filter(|(_, loss)| loss.is_finite());
        let points: Vec<Value> = points
            .map(|(spent, loss)| json!({ "spent": spent, "loss": loss }))
            .collect();
        json!({ "loss": self.loss(chosen), "measures": measures, "curve": points })
    }

    /// What a value of the metric is as a loss.
    fn loss(&self, value: f64) -> f64 {
        let loss = if self.adapter.maximise { -value } else { value };
        // One that is none is worse than every other.
        if loss.is_nan() { f64::INFINITY } else { loss }
    }

    /// What was spent, in ascending order, and the loss then.
    fn curve(&self) -> Vec<(f64, f64)> {
        let num = self.found.len();
        let mut curve: Vec<(f64, f64)> = Vec::new();
        for (index, (value, said)) in self.found.iter().enumerate() {
            let evenly = self.given * (index + 1) as f64 / num as f64;
            let spent = self.in_budget(said.unwrap_or(evenly));
            if curve.last().is_none_or(|(before, _)| spent >= *before) {
                curve.push((spent, self.loss(*value)));
            }
        }
        let stride = num.div_ceil(MAX_POINTS).max(1);
        // The last one is among them.
        let mut thinned: Vec<_> = curve.into_iter().rev().step_by(stride).collect();
        thinned.reverse();
        thinned
    }

    /// Where the budget is no whole number, the script was told another one.
    fn in_budget(&self, spent: f64) -> f64 {
        if spent.is_finite() {
            spent.clamp(0.0, self.budget.amount)
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(arguments: &[&str], amount: f64, lines: &[&str]) -> Value {
        let words = ["tandem-run"].iter().chain(arguments).chain(&["script"]);
        let words: Vec<String> = words.map(|&word| word.to_owned()).collect();
        let adapter = Adapter::of(&words).unwrap().unwrap();
        let budget = Budget {
            amount,
            unit: BudgetUnit::Epochs,
        };
        let mut readings = Readings::new(&adapter, shared::adapter::amount(budget), budget);
        for line in lines {
            readings.read(line);
        }
        readings.result()
    }

    fn points(result: &Value) -> Vec<(f64, f64)> {
        let points = result["curve"].as_array().unwrap().iter();
        points
            .map(|p| (p["spent"].as_f64().unwrap(), p["loss"].as_f64().unwrap()))
            .collect()
    }

    const ACCURACY: [&str; 3] = ["--metric", r"accuracy: (\d+\.\d+)", "--maximise"];
    const EPOCHS: [&str; 4] = [
        "loading",
        "epoch 1 accuracy: 0.5",
        "epoch 2 accuracy: 0.75",
        "epoch 3 accuracy: 0.625",
    ];

    #[test]
    fn every_line_is_a_point_and_the_last_or_the_best_is_the_result() {
        let last = result(&ACCURACY, 3.0, &EPOCHS);
        assert_eq!(last["loss"], -0.625);
        assert_eq!(last["measures"]["metric"], 0.625);
        assert_eq!(points(&last), [(1.0, -0.5), (2.0, -0.75), (3.0, -0.625)]);
        let best = [&ACCURACY[..], &["--value", "best"]].concat();
        assert_eq!(result(&best, 3.0, &EPOCHS)["loss"], -0.75);
        let minimised = result(
            &["--metric", "accuracy: (.*)", "--value", "best"],
            3.0,
            &EPOCHS,
        );
        assert_eq!(minimised["loss"], 0.5);
        let measured = [&ACCURACY[..], &["--measure", "epoch=epoch (.) "]].concat();
        assert_eq!(result(&measured, 3.0, &EPOCHS)["measures"]["epoch"], 3.0);
    }

    #[test]
    fn lines_are_evenly_spaced_unless_they_say_where_they_are() {
        let every_fifth = points(&result(&ACCURACY, 15.0, &EPOCHS));
        assert_eq!(every_fifth.map_spent(), [5.0, 10.0, 15.0]);
        let at_the_end = points(&result(&ACCURACY, 15.0, &EPOCHS[3..]));
        assert_eq!(at_the_end, [(15.0, -0.625)]);
        let named = ["--metric", r"epoch (?<spent>\d+) accuracy: (\S+)"];
        let named = points(&result(&named, 15.0, &EPOCHS));
        assert_eq!(named.map_spent(), [1.0, 2.0, 3.0]);
        // The script was told 2 epochs; its curve ends where the budget does.
        let rounded = points(&result(&ACCURACY, 1.852, &EPOCHS[1..3]));
        assert_eq!(rounded.map_spent(), [1.0, 1.852]);
        let lines = vec!["accuracy: 0.5"; 100_000];
        let many = points(&result(&ACCURACY, 10.0, &lines));
        assert!(many.len() <= MAX_POINTS && many.last() == Some(&(10.0, -0.5)));
    }

    trait Spent {
        fn map_spent(&self) -> Vec<f64>;
    }

    impl Spent for Vec<(f64, f64)> {
        fn map_spent(&self) -> Vec<f64> {
            self.iter().map(|(spent, _)| *spent).collect()
        }
    }

    #[test]
    fn what_is_no_metric_is_said() {
        let none = result(&ACCURACY, 3.0, &["epoch 1", "done", ""]);
        let message = none["crashed"].as_str().unwrap();
        assert!(
            message.contains("accuracy: ") && message.contains("`done`"),
            "{message}"
        );
        let words = result(&["--metric", "loss: (.*)"], 3.0, &["loss: low"]);
        assert!(
            words["crashed"].as_str().unwrap().contains("no number"),
            "{words}"
        );
        let loss = ["--metric", "loss: (.*)"];
        let diverged = result(&loss, 3.0, &["loss: 0.5", "loss: inf", "loss: nan"]);
        assert!(
            diverged["diverged"].as_str().unwrap().contains("NaN"),
            "{diverged}"
        );
        let best = result(
            &["--metric", "loss: (.*)", "--value", "best"],
            3.0,
            &["loss: 0.5", "loss: nan"],
        );
        assert_eq!(best["loss"], 0.5);
        assert_eq!(points(&best), [(1.5, 0.5)]);
    }
}
