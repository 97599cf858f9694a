//! A search as TensorBoard's event files: a run for each job, with its learning curve, its hyperparameters and its
//! outcome, and the experiment they belong to.
//!
//! Steps are amounts of budget, rounded; of two points at one step the later one counts.
//!
//! # Source
//! TensorBoard 2.21: `compat/proto/{event,summary}.proto`, `plugins/hparams/{api,plugin_data}.proto`; records are framed as
//! in TensorFlow's `core/lib/io/record_writer.cc`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use prost::Message;
use shared::{Outcome, Value, fs};

use crate::history::{Evaluation, History};
use crate::optuna::step;

/// Writes the event files.
pub(crate) fn write(history: &History, folder: &Path) -> Result<()> {
    let file = |run: &Path| folder.join(run).join("events.out.tfevents.0.tandem");
    let start_s = history.start_s().unwrap_or_default();
    fs::replace(
        &file(Path::new("")),
        &records(&[version(start_s), experiment(history, start_s)]),
    )?;
    for result in &history.results {
        let events = events(history, result);
        fs::replace(&file(Path::new(&result.job.to_string())), &records(&events))?;
    }
    Ok(())
}

/// Events one after the other, each with its length and checksums.
fn records(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        bytes.extend(length);
        bytes.extend(masked_checksum(&length).to_le_bytes());
        bytes.extend(&data);
        bytes.extend(masked_checksum(&data).to_le_bytes());
    }
    bytes
}

fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn version(wall_time: f64) -> Event {
    Event {
        wall_time,
        file_version: Some("brain.Event:2".into()),
        ..Event::default()
    }
}

/// Which hyperparameters and measures there are.
fn experiment(history: &History, time_created_secs: f64) -> Event {
    let mut kinds: BTreeMap<&str, HparamType> = BTreeMap::new();
    for tried in &history.configurations {
        for (name, value) in tried.values.iter() {
            let kind = HparamType::of(value);
            let known = kinds.entry(name).or_insert(kind);
            if *known != kind {
                *known = HparamType::String;
            }
        }
    }
    kinds.insert("budget", HparamType::Float64);
    let hparam_infos = kinds.into_iter().map(|(name, kind)| HparamInfo {
        name: name.to_owned(),
        kind: kind.into(),
    });
    let metric = MetricInfo {
        name: Some(MetricName { tag: "loss".into() }),
    };
    plugin_event(
        time_created_secs,
        "_hparams_/experiment",
        &HparamsPluginData {
            experiment: Some(Experiment {
                name: history.name.clone(),
                time_created_secs,
                hparam_infos: hparam_infos.collect(),
                metric_infos: vec![metric],
            }),
            ..HparamsPluginData::default()
        },
    )
}

/// The run of a job.
fn events(history: &History, result: &Evaluation) -> Vec<Event> {
    let budget = history.budgets[result.budget];
    let start_s = result.started_s.or(result.finished_s).unwrap_or_default();
    let end_s = result.finished_s.unwrap_or(start_s);
    let mut events = vec![version(start_s), session_start(history, result, start_s)];
    let mut last: Option<(u64, f64)> = None;
    for point in &result.curve {
        let at_s = start_s + (end_s - start_s) * (point.spent / budget).clamp(0.0, 1.0);
        let numbers = [("loss", point.loss), ("training_loss", point.training_loss)];
        events.extend(scalars(at_s, step(point.spent), numbers));
        last = point.loss.map(|loss| (step(point.spent), loss)).or(last);
    }
    let end = (step(budget), result.loss());
    if let (at, Some(loss)) = end
        && last.is_none_or(|last| last != (at, loss))
    {
        events.extend(scalars(
            end_s,
            at,
            [("loss", Some(loss)), ("training_loss", None)],
        ));
    }
    for (measure, x) in &result.measures {
        let tag = format!("measures/{}", history.measures[*measure]);
        events.extend(scalars(end_s, step(budget), [(tag.as_str(), Some(*x))]));
    }
    let status = match result.outcome {
        Outcome::Evaluated { .. } | Outcome::Stopped { .. } => Status::Success,
        _ => Status::Failure,
    };
    events.push(plugin_event(
        end_s,
        "_hparams_/session_end_info",
        &HparamsPluginData {
            session_end_info: Some(SessionEndInfo {
                status: status.into(),
                end_time_secs: end_s,
            }),
            ..HparamsPluginData::default()
        },
    ));
    events
}

/// What a job was about.
fn session_start(history: &History, result: &Evaluation, start_time_secs: f64) -> Event {
    let values = history.configurations[result.configuration].values.iter();
    let mut hparams: BTreeMap<String, HparamValue> = values
        .map(|(name, value)| (name.to_owned(), HparamValue::of(value)))
        .collect();
    let budget = Value::Float(history.budgets[result.budget]);
    hparams.insert("budget".into(), HparamValue::of(&budget));
    plugin_event(
        start_time_secs,
        "_hparams_/session_start_info",
        &HparamsPluginData {
            session_start_info: Some(SessionStartInfo {
                hparams,
                group_name: result.job.to_string(),
                start_time_secs,
            }),
            ..HparamsPluginData::default()
        },
    )
}

fn scalars<const N: usize>(
    wall_time: f64,
    step: u64,
    numbers: [(&str, Option<f64>); N],
) -> Option<Event> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "TensorBoard has single precision"
    )]
    let value = |(tag, number): (&str, Option<f64>)| {
        Some(SummaryValue {
            tag: tag.to_owned(),
            simple_value: Some(number? as f32),
            ..SummaryValue::default()
        })
    };
    let value: Vec<SummaryValue> = numbers.into_iter().filter_map(value).collect();
    (!value.is_empty()).then(|| Event {
        wall_time,
        step: i64::try_from(step).unwrap_or(i64::MAX),
        summary: Some(Summary { value }),
        ..Event::default()
    })
}

/// An event of the hyperparameter plugin, which keeps its data beside an empty tensor.
fn plugin_event(wall_time: f64, tag: &str, data: &HparamsPluginData) -> Event {
    let empty = Tensor {
        dtype: 1, // single precision
        shape: Some(TensorShape {
            dim: vec![TensorDim { size: 0 }],
        }),
    };
    let metadata = SummaryMetadata {
        plugin_data: Some(PluginData {
            plugin_name: "hparams".into(),
            content: data.encode_to_vec(),
        }),
    };
    Event {
        wall_time,
        summary: Some(Summary {
            value: vec![SummaryValue {
                tag: tag.to_owned(),
                tensor: Some(empty),
                metadata: Some(metadata),
                ..SummaryValue::default()
            }],
        }),
        ..Event::default()
    }
}

impl HparamType {
    fn of(value: &Value) -> Self {
        if matches!(value, Value::Boolean(_)) {
            Self::Bool
        } else if value.as_f64().is_some() {
            Self::Float64
        } else {
            Self::String
        }
    }
}

impl HparamValue {
    fn of(value: &Value) -> Self {
        let mut this = Self::default();
        if let Value::Boolean(b) = value {
            this.boolean = Some(*b);
        } else if let Some(number) = value.as_f64() {
            this.number = Some(number);
        } else {
            this.text = Some(value.to_string());
        }
        this
    }
}

// The messages, with the fields that are written.

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<SummaryMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<TensorDim>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct TensorDim {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct HparamsPluginData {
    #[prost(message, optional, tag = "2")]
    experiment: Option<Experiment>,
    #[prost(message, optional, tag = "3")]
    session_start_info: Option<SessionStartInfo>,
    #[prost(message, optional, tag = "4")]
    session_end_info: Option<SessionEndInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Experiment {
    #[prost(double, tag = "3")]
    time_created_secs: f64,
    #[prost(message, repeated, tag = "4")]
    hparam_infos: Vec<HparamInfo>,
    #[prost(message, repeated, tag = "5")]
    metric_infos: Vec<MetricInfo>,
    #[prost(string, tag = "6")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct HparamInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(enumeration = "HparamType", tag = "4")]
    kind: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum HparamType {
    Unset = 0,
    String = 1,
    Bool = 2,
    Float64 = 3,
}

#[derive(Clone, PartialEq, Message)]
struct MetricInfo {
    #[prost(message, optional, tag = "1")]
    name: Option<MetricName>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricName {
    #[prost(string, tag = "2")]
    tag: String,
}

#[derive(Clone, PartialEq, Message)]
struct SessionStartInfo {
    #[prost(btree_map = "string, message", tag = "1")]
    hparams: BTreeMap<String, HparamValue>,
    #[prost(string, tag = "4")]
    group_name: String,
    #[prost(double, tag = "5")]
    start_time_secs: f64,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
struct HparamValue {
    #[prost(double, optional, tag = "2")]
    number: Option<f64>,
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
    #[prost(bool, optional, tag = "4")]
    boolean: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct SessionEndInfo {
    #[prost(enumeration = "Status", tag = "1")]
    status: i32,
    #[prost(double, tag = "2")]
    end_time_secs: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Status {
    Unknown = 0,
    Success = 1,
    Failure = 2,
    Running = 3,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::history;

    /// The events of a file, whose lengths and checksums are right.
    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let size = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
            assert_eq!(number(&rest[..4]), masked_checksum(length));
            let data = &rest[4..4 + size];
            assert_eq!(number(&rest[4 + size..8 + size]), masked_checksum(data));
            events.push(Event::decode(data).unwrap());
            bytes = &rest[8 + size..];
        }
        events
    }

    #[test]
    fn checksums_are_tensorflows() {
        // By RFC 3720, and by TensorBoard 2.21 (`masked_crc32c`).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_checksum(&24_u64.to_le_bytes()), 0x224b_7fa3);
    }

    #[test]
    fn each_job_is_a_run_with_its_curve_and_hyperparameters() {
        let folder = tempfile::tempdir().unwrap();
        let history = history(&[&[0.5, 0.4], &[f64::NAN]]);
        write(&history, folder.path()).unwrap();
        let events = |run: &str| {
            let path = folder.path().join(run).join("events.out.tfevents.0.tandem");
            read(&fs::read(&path).unwrap())
        };
        assert_eq!(events("").len(), 2);
        let run = events("c000000-r1");
        assert_eq!(run[0].file_version.as_deref(), Some("brain.Event:2"));
        let numbers: Vec<(i64, String, f32)> = run
            .iter()
            .flat_map(|event| {
                let values = event.summary.iter().flat_map(|summary| &summary.value);
                values.filter_map(|v| Some((event.step, v.tag.clone(), v.simple_value?)))
            })
            .collect();
        let of = |tag: &str| -> Vec<(i64, f32)> {
            let own = numbers.iter().filter(|(_, t, _)| t == tag);
            own.map(|(step, _, x)| (*step, *x)).collect()
        };
        assert_eq!(of("loss"), [(3, 0.4)]);
        assert_eq!(of("training_loss"), [(2, 0.8), (3, 0.4)]);
        assert_eq!(of("measures/test_error"), [(3, 0.41)]);
        let failed = events("c000001-r0");
        let last = failed.last().unwrap().summary.as_ref().unwrap();
        let content = &last.value[0]
            .metadata
            .as_ref()
            .unwrap()
            .plugin_data
            .as_ref()
            .unwrap()
            .content;
        let data = HparamsPluginData::decode(content.as_slice()).unwrap();
        assert_eq!(data.session_end_info.unwrap().status(), Status::Failure);
    }
}
