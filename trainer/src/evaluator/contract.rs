//! What a trainer and the process that does its work say to each other: the files of `docs/any-trainer.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::record::{Check, Checked};
use shared::{Budget, Claim, Configuration, CurvePoint, JobId};

use crate::checks::{Checks, Stop};
use crate::objective::{Ended, Evaluation};

/// The most of what a program says about its failure that is kept in the result, in bytes.
const MAX_MESSAGE: usize = 1000;
/// The most that is said about what was left out of a result, in bytes.
const MAX_NOTE: usize = 400;

/// What a worker is given: `job.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobFile {
    pub(crate) job: JobId,
    /// Which attempt of whom; absent where a job is done by hand, and its checkpoints are nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<Claim>,
    pub(crate) configuration: Configuration,
    /// The hyperparameters that are not active.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) inactive: Vec<String>,
    pub(crate) budget: Budget,
    /// Budgets that this training has finished, when it continues a lower rung.
    pub(crate) earlier_budgets: Vec<Budget>,
    /// Checkpoints of built-in trainings that it may go on from, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) resume: Vec<Claim>,
    /// Where its loss is looked at on its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) checks: Vec<Check>,
    pub(crate) seed: u64,
    /// Which of the trainers of its host or SLURM array has it, counted from 0, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worker: Option<u32>,
    /// The file to write at the end.
    pub(crate) result: PathBuf,
    /// The file to write how far it is: [`Progress`].
    pub(crate) progress: PathBuf,
    /// A folder for checkpoints: of this rung, or, where promotions continue, of the configuration.
    pub(crate) checkpoints: PathBuf,
}

/// How far a worker is: the file `progress`, a plain number (what is spent) or this as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Budget spent so far, in its unit.
    pub(crate) spent: f64,
    /// Budget that the newest checkpoint has spent; as much as `spent` where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) saved: Option<f64>,
    /// Whether the worker has noticed that it should stop, and is saving what it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) saving: bool,
    /// The loss when so much was spent, where it was measured then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loss: Option<f64>,
    /// The first losses at or beyond the job's checks, with what was spent then, as far as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) checks: Vec<Checked>,
}

impl Progress {
    /// Reads a progress file's text; `None` for what is half-written or nonsense.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let spent = text.parse::<f64>().ok().map(|spent| Self {
            spent,
            ..Self::default()
        });
        let progress: Self = spent.or_else(|| serde_json::from_str(text).ok())?;
        [Some(progress.spent), progress.saved]
            .into_iter()
            .flatten()
            .all(|number| number.is_finite() && number >= 0.0)
            .then_some(progress)
    }

    /// Takes note of the losses that it tells; `Some` if one of them ends the training.
    pub(crate) fn check(&self, checks: &mut Checks<'_>) -> Option<Stop> {
        let told = self.checks.iter().map(|told| (told.spent, told.loss));
        let now = self.loss.map(|loss| (self.spent, loss));
        told.chain(now)
            .find_map(|(spent, loss)| checks.see(spent, loss))
    }

    /// Budget that the next attempt need not spend again.
    pub(crate) fn kept(&self) -> f64 {
        self.saved.unwrap_or(self.spent)
    }
}

/// What a worker of the built-in network says before its first job, on one line of standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// What it computes on.
    pub(crate) device: String,
    /// MiB of that device, where it has memory of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device_memory_mib: Option<f64>,
    /// For the notes of results.
    pub(crate) notes: BTreeMap<String, String>,
    /// What decides, beside the configuration, how much memory a training takes.
    pub(crate) data: crate::objective::network::DataSize,
}

/// What a worker's result file says; `spent` is how far the worker was, in the budget's unit.
///
/// A `loss` that can be read counts, whatever else in the file cannot: that is left out, and named in the notes.
pub fn outcome_in(bytes: &[u8], spent: f64) -> Ended {
    outcome_of_worker(bytes, spent, false)
}

/// The same; a worker of this program may say as well that it has stopped at a check.
pub(crate) fn outcome_of_worker(bytes: &[u8], spent: f64, is_built_in: bool) -> Ended {
    let crashed = |message: String| Ended::Crashed {
        message: shortened(message, MAX_MESSAGE),
    };
    let (text, num_replaced) = readable(bytes);
    let mut fields: Map<String, Value> = match serde_json::from_str(&text) {
        Ok(fields) => fields,
        Err(error) => return crashed(format!("the program's result file is wrong: {error}")),
    };
    let mut word = |name: &str| match fields.remove(name) {
        Some(Value::String(message)) if !message.is_empty() => Some(message),
        // As a program says it that fills in every field.
        None | Some(Value::String(_) | Value::Null | Value::Bool(false)) => None,
        Some(other) => Some(other.to_string()),
    };
    let [diverged, failed, again, memory] =
        ["diverged", "crashed", "again", "out_of_memory"].map(&mut word);
    if let Some(message) = again {
        return Ended::MachineFailed {
            message: shortened(message, MAX_MESSAGE),
        };
    }
    if let Some(message) = diverged {
        let at = fields.get("spent").and_then(Value::as_f64);
        return Ended::Diverged {
            spent: at
                .filter(|at| at.is_finite() && *at >= 0.0)
                .unwrap_or(spent),
            message: shortened(message, MAX_MESSAGE),
        };
    }
    if let Some(message) = failed {
        return crashed(message);
    }
    if let Some(memory) = memory {
        let memory: Value = serde_json::from_str(&memory).unwrap_or_default(); // words: nothing is known
        let number = |name: &str| {
            let number = memory.get(name).and_then(Value::as_f64);
            number
                .filter(|mib| (0.0..=1e12).contains(mib))
                .unwrap_or(0.0)
        };
        return Ended::OutOfMemory {
            needed_mib: number("needed_mib"),
            available_mib: number("available_mib"),
        };
    }
    let stopped = if is_built_in {
        fields.remove("stopped")
    } else {
        None
    };
    match (
        evaluation(fields, num_replaced),
        stopped.as_ref().and_then(stop),
    ) {
        (Ended::Evaluated(evaluation), Some((spent, limit))) => Ended::Stopped {
            spent,
            limit,
            evaluation,
        },
        (ended, _) => ended,
    }
}

/// What was spent by a training that has stopped at a check, and the limit there.
fn stop(stopped: &Value) -> Option<(f64, f64)> {
    let number = |name: &str| stopped.get(name).and_then(Value::as_f64);
    Some((number("spent")?, number("limit")?))
}

fn evaluation(mut fields: Map<String, Value>, num_replaced: usize) -> Ended {
    let crashed = |message: &str| Ended::Crashed {
        message: message.to_owned(),
    };
    let is_null = fields.get("loss").is_none_or(Value::is_null) && num_replaced == 0;
    let known = measures(fields.get("measures").cloned(), &mut Vec::new());
    if is_null && !known.is_empty() {
        // It may have given up before training, because of a constraint.
        return Ended::Untrained { measures: known };
    }
    let loss = match fields.remove("loss") {
        Some(Value::Number(number)) => number.as_f64().filter(|loss| loss.is_finite()),
        None => return crashed("the program's result file has no `loss`"),
        Some(Value::Null) if num_replaced > 0 => {
            return crashed(
                "the `loss` in the program's result file is no finite number; write `diverged` instead of a `loss` that is none",
            );
        }
        Some(Value::Null) => return crashed("the program's result file has no `loss`: it is null"),
        Some(other) => {
            let message = format!(
                "the `loss` in the program's result file is no number: {}",
                shortened(other.to_string(), 100)
            );
            return crashed(&message);
        }
    };
    let Some(loss) = loss else {
        return crashed("the `loss` in the program's result file is out of range");
    };
    let mut left_out = Vec::new();
    if num_replaced > 0 {
        left_out.push(format!("{num_replaced} numbers that are not finite"));
    }
    let measures = measures(fields.remove("measures"), &mut left_out);
    let curve = curve(fields.remove("curve"), &mut left_out);
    left_out.extend(fields.keys().map(|name| format!("unknown field `{name}`")));
    let notes = (!left_out.is_empty()).then(|| {
        let text = shortened(left_out.join("; "), MAX_NOTE);
        (LEFT_OUT.to_owned(), text)
    });
    Ended::Evaluated(Evaluation {
        loss,
        measures,
        curve,
        notes: notes.into_iter().collect(),
    })
}

/// The note of a result that names what could not be read of a program's result file.
pub(crate) const LEFT_OUT: &str = "left_out";

fn measures(value: Option<Value>, left_out: &mut Vec<String>) -> BTreeMap<String, f64> {
    let fields = match value {
        None | Some(Value::Null) => return BTreeMap::new(),
        Some(Value::Object(fields)) => fields,
        Some(_) => {
            left_out.push("`measures` is no object".to_owned());
            return BTreeMap::new();
        }
    };
    let mut measures = BTreeMap::new();
    for (name, value) in fields {
        let number = match value {
            Value::Bool(is_so) => Some(f64::from(u8::from(is_so))),
            other => other.as_f64().filter(|number| number.is_finite()),
        };
        match number {
            Some(number) => {
                measures.insert(name, number);
            }
            None => left_out.push(format!("`measures.{name}` is no finite number")),
        }
    }
    measures
}

/// The points that have finite numbers, ascending in `spent`; of a point's numbers each that can be read.
fn curve(value: Option<Value>, left_out: &mut Vec<String>) -> Vec<CurvePoint> {
    let points = match value {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(points)) => points,
        Some(_) => {
            left_out.push("`curve` is no list".to_owned());
            return Vec::new();
        }
    };
    let mut curve: Vec<CurvePoint> = Vec::new();
    let mut num_wrong = 0;
    for point in points {
        let number = |name: &str| {
            point
                .get(name)
                .and_then(Value::as_f64)
                .filter(|x| x.is_finite())
        };
        let is_wrong = |name: &str| {
            number(name).is_none() && point.get(name).is_some_and(|value| !value.is_null())
        };
        num_wrong += usize::from(is_wrong("training_loss") || is_wrong("loss"));
        let last = curve.last().map_or(0.0, |last| last.spent);
        let (training_loss, loss) = (number("training_loss"), number("loss"));
        match number("spent") {
            Some(spent) if spent >= last => {
                // One that says nothing is none.
                curve.extend(training_loss.or(loss).map(|_| CurvePoint {
                    spent,
                    training_loss,
                    loss,
                }));
            }
            _ => num_wrong += 1,
        }
    }
    if num_wrong > 0 {
        left_out.push(format!(
            "{num_wrong} points or numbers of `curve` cannot be read"
        ));
    }
    curve
}

/// What programs write that is nearly JSON, as JSON: numbers that are not finite (`NaN`, `-Infinity`, `1e999`) are `null`,
/// halves of characters and bytes that are no text are replaced, a byte order mark is left out. Also how many numbers were
/// replaced.
fn readable(bytes: &[u8]) -> (String, usize) {
    let text = String::from_utf8_lossy(bytes);
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut json = String::with_capacity(rest.len());
    let (mut is_in_string, mut count) = (false, 0);
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let length = if is_in_string {
            in_string(rest, &mut json)
        } else if is_word(first) {
            let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
            let is_finite = word.parse::<f64>().map(f64::is_finite);
            count += usize::from(is_finite == Ok(false));
            json.push_str(if is_finite == Ok(false) { "null" } else { word });
            word.len()
        } else {
            json.push(first);
            first.len_utf8()
        };
        if first == '"' {
            is_in_string = !is_in_string;
        }
        rest = &rest[length..];
    }
    (json, count)
}

/// Copies one character of a string, or what stands for one, and tells its length. Half a character becomes `\ufffd`.
fn in_string(rest: &str, json: &mut String) -> usize {
    let unit = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let pair = match (unit(rest), rest.get(6..).and_then(unit)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => Some(12),
        (Some(0xd800..=0xdfff), _) => {
            json.push_str("\\ufffd");
            return 6;
        }
        _ => None,
    };
    let one = |text: &str| text.chars().next().map_or(0, char::len_utf8);
    let escape = rest.strip_prefix('\\').map(|rest| 1 + one(rest));
    let length = pair.or(escape).unwrap_or_else(|| one(rest));
    json.push_str(&rest[..length]);
    length
}

/// A message that a record can hold.
pub(crate) fn shortened(mut message: String, most: usize) -> String {
    if message.len() > most {
        message.truncate(message.floor_char_boundary(most));
        message.push('…');
    }
    message
}

/// The result file of a worker of this program: how its training ended.
pub(crate) fn result_of(ended: &Ended) -> Option<Value> {
    let file = match ended {
        Ended::Evaluated(evaluation) => serde_json::json!({
            "loss": evaluation.loss,
            "measures": evaluation.measures,
            "curve": evaluation.curve,
        }),
        Ended::Stopped {
            spent,
            limit,
            evaluation,
        } => serde_json::json!({
            "loss": evaluation.loss,
            "measures": evaluation.measures,
            "curve": evaluation.curve,
            "stopped": { "spent": spent, "limit": limit },
        }),
        Ended::Diverged { spent, message } => {
            serde_json::json!({ "diverged": message, "spent": spent })
        }
        Ended::OutOfMemory {
            needed_mib,
            available_mib,
        } => serde_json::json!({
            "out_of_memory": { "needed_mib": needed_mib, "available_mib": available_mib },
        }),
        Ended::Untrained { measures } => serde_json::json!({ "measures": measures }),
        Ended::Crashed { message } => serde_json::json!({ "crashed": message }),
        Ended::MachineFailed { message } | Ended::DeviceFailed { message } => {
            serde_json::json!({ "again": message })
        }
        Ended::Interrupted => return None,
    };
    Some(file)
}

/// The files of one job, in a folder of the trainer's own.
#[derive(Debug, Clone)]
pub(crate) struct JobFiles {
    pub(crate) job: PathBuf,
    pub(crate) result: PathBuf,
    pub(crate) progress: PathBuf,
}

impl JobFiles {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            job: folder.join("job.json"),
            result: folder.join("result.json"),
            progress: folder.join("progress"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(text: &str) -> Evaluation {
        match outcome_in(text.as_bytes(), 1.0) {
            Ended::Evaluated(evaluation) => evaluation,
            other => panic!("{text} gave {other:?}"),
        }
    }

    fn point(spent: f64, training_loss: Option<f64>, loss: Option<f64>) -> CurvePoint {
        CurvePoint {
            spent,
            training_loss,
            loss,
        }
    }

    #[test]
    fn a_loss_counts_whatever_stands_beside_it() {
        for (extra, note) in [
            (
                r#""measures": {"auc": NaN}"#,
                "`measures.auc` is no finite number",
            ),
            (
                r#""measures": {"auc": -Infinity, "f1": 0.5}"#,
                "`measures.auc`",
            ),
            (
                r#""measures": {"name": "x", "list": [1]}"#,
                "`measures.list`",
            ),
            (r#""measures": [1, 2]"#, "`measures` is no object"),
            (r#""acc": null"#, "unknown field `acc`"),
            (
                r#""history": {"loss": [1, 2]}, "acc": 1"#,
                "unknown field `history`",
            ),
            (r#""curve": {"loss": 1}"#, "`curve` is no list"),
            (r#""curve": [1, "x", null]"#, "3 points"),
            (
                r#""curve": [{"spent": 2, "loss": 1}, {"spent": 1, "loss": 1}]"#,
                "1 points",
            ),
        ] {
            let evaluation = evaluated(&format!("{{\"loss\": 0.5, {extra}}}"));
            assert_eq!(evaluation.loss.to_bits(), 0.5f64.to_bits());
            assert!(
                evaluation.notes[LEFT_OUT].contains(note),
                "{extra}: {:?}",
                evaluation.notes
            );
        }
        let some =
            evaluated(r#"{"loss": 1, "measures": {"auc": NaN, "f1": 0.5, "is_large": true}}"#);
        let expected = [("f1".to_owned(), 0.5), ("is_large".to_owned(), 1.0)];
        assert_eq!(some.measures, expected.into());
        assert!(
            evaluated(r#"{"loss": 1, "measures": null, "curve": null}"#)
                .notes
                .is_empty()
        );
    }

    #[test]
    fn a_loss_counts_in_what_is_nearly_json() {
        for extra in [
            r#""measures": {"x": 1e999}"#,
            r#""measures": {"x": -nan}"#,
            r#""name": "\udcff", "emoji": "\ud83d\ude00""#,
            r#""diverged": false, "crashed": false, "again": false, "out_of_memory": false"#,
            r#""diverged": null, "crashed": "", "again": null"#,
            r#""text": "a \"quoted\" NaN \\""#,
        ] {
            assert!(
                (evaluated(&format!("\u{feff}{{\"loss\": 0.5, {extra}}}")).loss - 0.5).abs() < 1e-9
            );
        }
        let latin_1 = b"{\"loss\": 0.5, \"city\": \"Z\xfcrich\"}";
        assert!(matches!(outcome_in(latin_1, 1.0), Ended::Evaluated(_)));
        let memory = outcome_in(
            br#"{"out_of_memory": {"needed_mib": -5, "available_mib": 1e308}}"#,
            1.0,
        );
        let expected = Ended::OutOfMemory {
            needed_mib: 0.0,
            available_mib: 0.0,
        };
        assert_eq!(memory, expected);
    }

    #[test]
    fn of_a_curve_each_number_that_can_be_read_is_kept() {
        let evaluation = evaluated(
            r#"{"loss": 1, "curve": [
                {"spent": 1, "loss": NaN, "training_loss": 2}, {"spent": 2, "loss": Infinity},
                {"spent": 3, "loss": 0.5}, {"spent": NaN, "loss": 0.5}, {"spent": 4, "loss": "low"}]}"#,
        );
        assert_eq!(evaluation.curve[0], point(1.0, Some(2.0), None));
        assert!(evaluation.curve.contains(&point(3.0, None, Some(0.5))));
        assert!(evaluation.curve.iter().all(|point| point.spent < 4.0));
        assert!(evaluation.notes[LEFT_OUT].contains("`curve`"));
    }

    #[test]
    fn words_that_only_look_like_constants_stay() {
        let ended = outcome_in(
            br#"{"crashed": "the loss was NaN, \"Infinity\" even"}"#,
            1.0,
        );
        let message = "the loss was NaN, \"Infinity\" even".to_owned();
        assert_eq!(ended, Ended::Crashed { message });
    }

    #[test]
    fn losses_that_are_none_are_crashes() {
        for (text, words) in [
            (r#"{"loss": NaN}"#, "write `diverged` instead"),
            (r#"{"loss": -Infinity}"#, "write `diverged` instead"),
            (r#"{"loss": null}"#, "no `loss`"),
            (r#"{"loss": "0.5"}"#, "no number: \"0.5\""),
            (r#"{"loss": [0.5]}"#, "no number"),
            (r#"{"measures": {}}"#, "no `loss`"),
        ] {
            match outcome_in(text.as_bytes(), 1.0) {
                Ended::Crashed { message } => assert!(message.contains(words), "{text}: {message}"),
                other => panic!("{text} gave {other:?}"),
            }
        }
    }

    #[test]
    fn what_a_worker_writes_is_read_back() {
        let evaluation = Evaluation {
            loss: 0.1 + 0.2,
            measures: [("steps".to_owned(), 3.0)].into(),
            curve: vec![point(1.0, Some(2.0), None), point(3.0, None, Some(0.3))],
            notes: BTreeMap::new(),
        };
        let message = "boom".to_owned();
        for ended in [
            Ended::Evaluated(evaluation),
            Ended::Diverged {
                spent: 0.7,
                message: message.clone(),
            },
            Ended::OutOfMemory {
                needed_mib: 9.5,
                available_mib: 1.5,
            },
            Ended::Crashed {
                message: message.clone(),
            },
            Ended::MachineFailed { message },
        ] {
            let bytes = serde_json::to_vec(&result_of(&ended).unwrap()).unwrap();
            assert_eq!(outcome_in(&bytes, 1.0), ended);
        }
        assert_eq!(result_of(&Ended::Interrupted), None);
    }

    #[test]
    fn progress_is_a_number_or_an_object_and_nonsense_is_none() {
        let spent = |spent| {
            Some(Progress {
                spent,
                ..Progress::default()
            })
        };
        assert_eq!(Progress::parse("0.5\n"), spent(0.5));
        assert_eq!(Progress::parse(r#"{"spent": 3}"#), spent(3.0));
        let full = Progress::parse(r#"{"spent": 3, "saved": 2, "saving": true, "colour": "red"}"#);
        let full = full.unwrap();
        assert!(full.saving && (full.kept() - 2.0).abs() < 1e-9);
        for nonsense in [
            "",
            "soon",
            "-1",
            "NaN",
            "inf",
            "{}",
            r#"{"spent": -1}"#,
            r#"{"spent": 1"#,
        ] {
            assert_eq!(Progress::parse(nonsense), None, "{nonsense}");
        }
    }
}
