//! What is minimised: a network's validation error, an outside command's loss, or a benchmark function.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::DataSettings;
use crate::error::Invalid;

/// The objective as a person writes it: exactly one of `network`, `command`, `benchmark`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveFile {
    /// Train the network of the search space's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkObjective>,
    /// Run a program: its name and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Start the program once a trainer and hand it one job after the other, not once a job; default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<bool>,
    /// Evaluate a function with known optimum: `counting-ones`, `branin`, `mf-hartmann3`, `mf-hartmann6`,
    /// `joint-resnet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<String>,
    /// How far low fidelities of the benchmark are off; default: the function's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
    /// How noisy low fidelities of the benchmark are; default: the function's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// Seconds that the benchmark sleeps for one unit of budget, to imitate training; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_per_unit: Option<f64>,
}

/// A program that evaluates jobs; the contract is `docs/any-trainer.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandObjective {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// Whether it is started once a trainer and reads one job after the other.
    pub keep_alive: bool,
}

/// Train the network of the configuration on a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkObjective {
    /// On what.
    pub data: DataSettings,
    /// How, beyond what the search space varies.
    #[serde(default)]
    pub training: TrainingSettings,
}

/// How a network is trained, beyond what the search space varies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSettings {
    /// Mirror training images at random.
    pub flip: bool,
    /// Pixels of zeros around an image of 32×32 before a random crop, scaled to the image's size; 0 for no crop.
    #[serde(deserialize_with = "crate::number::whole")]
    pub crop_padding: u32,
    /// Training loss above which a training counts as diverged.
    pub divergence_bound: f64,
    /// Images evaluated at once.
    #[serde(deserialize_with = "crate::number::whole")]
    pub evaluation_batch: u32,
    /// What convolutions multiply in.
    #[serde(skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
}

/// What convolutions multiply in. All else is in single precision, sums of products among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// Factors rounded to 10 bits behind the point, on a GPU's tensor cores.
    Tf32,
}

impl Precision {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
        })
    }
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self {
            flip: true,
            crop_padding: 4,
            divergence_bound: 1e4,
            evaluation_batch: 256,
            precision: Precision::Fp32,
        }
    }
}

/// A benchmark function and its options.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchmarkObjective {
    /// The function's name.
    pub name: String,
    /// How far low fidelities are off; `None`: the function's own.
    pub bias: Option<f64>,
    /// How noisy low fidelities are; `None`: the function's own.
    pub noise: Option<f64>,
    /// Seconds slept for one unit of budget.
    pub seconds_per_unit: f64,
}

/// The objective, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Objective {
    /// A network's validation error.
    Network(NetworkObjective),
    /// An outside program's loss.
    Command(CommandObjective),
    /// A function with a known optimum.
    Benchmark(BenchmarkObjective),
}

/// Benchmark functions by name.
pub const BENCHMARKS: [&str; 5] = [
    "counting-ones",
    "branin",
    "mf-hartmann3",
    "mf-hartmann6",
    "joint-resnet",
];

impl Objective {
    /// Checks an objective as written.
    pub fn new(file: &ObjectiveFile) -> Result<Self, Invalid> {
        let given: BTreeMap<&str, bool> = [
            ("network", file.network.is_some()),
            ("command", file.command.is_some()),
            ("benchmark", file.benchmark.is_some()),
        ]
        .into();
        if given.values().filter(|is_given| **is_given).count() != 1 {
            let found: Vec<&str> = given
                .iter()
                .filter(|(_, is)| **is)
                .map(|(name, _)| *name)
                .collect();
            let found = if found.is_empty() {
                "none of them".to_owned()
            } else {
                found.join(" and ")
            };
            return Err(Invalid::new(
                "",
                "exactly one of `network`, `command`, `benchmark`",
                found,
            ));
        }
        file.refuse_options_of_others()?;
        if let Some(network) = &file.network {
            network.check().map_err(|e| e.within("network"))?;
            return Ok(Self::Network(network.clone()));
        }
        if let Some(command) = &file.command {
            if command.first().is_none_or(String::is_empty) {
                return Err(Invalid::new(
                    "command",
                    "a program and its arguments",
                    "nothing",
                ));
            }
            return Ok(Self::Command(CommandObjective {
                command: command.clone(),
                keep_alive: file.keep_alive.unwrap_or(false),
            }));
        }
        let name = file.benchmark.clone().unwrap_or_default();
        if !BENCHMARKS.contains(&name.as_str()) {
            return Err(Invalid::new(
                "benchmark",
                format!("one of {}", BENCHMARKS.join(", ")),
                crate::Value::from(name.as_str()).quoted(),
            ));
        }
        let seconds_per_unit = file.seconds_per_unit.unwrap_or(0.0);
        if !(seconds_per_unit.is_finite() && seconds_per_unit >= 0.0) {
            return Err(Invalid::new(
                "seconds_per_unit",
                "at least 0",
                seconds_per_unit,
            ));
        }
        Ok(Self::Benchmark(BenchmarkObjective {
            name,
            bias: file.bias,
            noise: file.noise,
            seconds_per_unit,
        }))
    }
}

impl ObjectiveFile {
    /// An option of an objective that is not the one given would be ignored silently.
    fn refuse_options_of_others(&self) -> Result<(), Invalid> {
        let refuse = |field, kind: &str, value: &dyn std::fmt::Display| {
            let expected = format!("nothing, because there is no `{kind}`");
            Err(Invalid::new(field, expected, value))
        };
        if let (None, Some(keep_alive)) = (&self.command, self.keep_alive) {
            return refuse("keep_alive", "command", &keep_alive);
        }
        if self.benchmark.is_none() {
            for (field, value) in [
                ("bias", self.bias),
                ("noise", self.noise),
                ("seconds_per_unit", self.seconds_per_unit),
            ] {
                if let Some(value) = value {
                    return refuse(field, "benchmark", &value);
                }
            }
        }
        Ok(())
    }
}

impl NetworkObjective {
    fn check(&self) -> Result<(), Invalid> {
        if self.training.evaluation_batch == 0 {
            return Err(Invalid::new("training.evaluation_batch", "at least 1", 0));
        }
        // A NaN bound would let every loss pass.
        if !self.training.divergence_bound.is_finite() || self.training.divergence_bound <= 0.0 {
            let found = self.training.divergence_bound;
            return Err(Invalid::new(
                "training.divergence_bound",
                "more than 0",
                found,
            ));
        }
        Ok(())
    }
}
