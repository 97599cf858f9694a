//! Functions with a known optimum that stand in for a training: cheap, noisy at low budgets, misleading where wanted.
//!
//! Pure: the same configuration, budget and seed give the same bits on every machine. Logarithms and exponentials come
//! from `libm` and not from the system for that reason. Noise depends on configuration and budget through the seed, so
//! that a job evaluated again gives the same loss.
//!
//! | name | hyperparameters | source |
//! |--|--|--|
//! | `counting-ones` | any number of `cat_*` in {0, 1} and of `cont_*` in \[0, 1\] | Falkner et al. 2018 (BOHB), section 5.1 |
//! | `branin` | `x1` in \[-5, 10\], `x2` in \[0, 15\] | Branin 1972; low fidelities as in `BoTorch`'s `AugmentedBranin` |
//! | `mf-hartmann3`, `mf-hartmann6` | `x_0`, `x_1`, … in \[0, 1\] | mf-prior-bench 1.10, `MFHartmannGenerator` |
//! | `joint-resnet` | the 17 of `data/spaces/joint-resnet.json` | this project's: [`joint`] |

use std::fmt;
use std::str::FromStr;

use chance::{mean_of_tosses, normal};
use formula::{branin, hartmann};
use shared::space::SpaceFile;
use shared::{Configuration, Seed, Value};

mod chance;
mod formula;
mod joint;

/// A benchmark function and how far its low fidelities can be trusted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Benchmark {
    /// The function.
    pub function: Function,
    /// How far the function itself is changed at low budgets; 0: not at all. Counting ones has no bias.
    pub bias: f64,
    /// How large the noise is at low budgets; 0: none. Counting ones has its own, from its draws.
    pub noise: f64,
}

/// The benchmark functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Minus the number of ones: categories are seen exactly, numbers by `budget` coin tosses each.
    CountingOnes,
    /// Branin's function of two numbers, with three equal minima.
    Branin,
    /// Hartmann's function of three numbers.
    MfHartmann3,
    /// Hartmann's function of six numbers.
    MfHartmann6,
    /// Architecture and training that depend on one another, in the reference space.
    JointResnet,
}

impl Function {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::CountingOnes,
        Self::Branin,
        Self::MfHartmann3,
        Self::MfHartmann6,
        Self::JointResnet,
    ];

    /// The name in search files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CountingOnes => "counting-ones",
            Self::Branin => "branin",
            Self::MfHartmann3 => "mf-hartmann3",
            Self::MfHartmann6 => "mf-hartmann6",
            Self::JointResnet => "joint-resnet",
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Function {
    type Err = BenchmarkError;

    fn from_str(name: &str) -> Result<Self, BenchmarkError> {
        let found = Self::ALL
            .into_iter()
            .find(|function| function.as_str() == name);
        found.ok_or_else(|| BenchmarkError::UnknownFunction {
            name: name.to_owned(),
        })
    }
}

/// Why a configuration has no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BenchmarkError {
    /// No function has this name.
    #[error(
        "unknown benchmark `{name}`; known are {known}",
        known = Function::ALL.map(Function::as_str).join(", ")
    )]
    UnknownFunction {
        /// The name given.
        name: String,
    },
    /// The configuration lacks a hyperparameter.
    #[error("benchmark `{function}` needs the hyperparameter `{hyperparameter}`")]
    Missing {
        /// The function.
        function: Function,
        /// The hyperparameter's name.
        hyperparameter: String,
    },
    /// The configuration has a hyperparameter that the function does not know.
    #[error("benchmark `{function}` has no hyperparameter `{hyperparameter}`")]
    Unknown {
        /// The function.
        function: Function,
        /// The hyperparameter's name.
        hyperparameter: String,
    },
    /// A hyperparameter is outside the function's domain.
    #[error("benchmark `{function}`: expected {expected} for `{hyperparameter}`, found {found}")]
    OutOfDomain {
        /// The function.
        function: Function,
        /// The hyperparameter's name.
        hyperparameter: String,
        /// What the function is defined on.
        expected: String,
        /// The value given.
        found: Value,
    },
    /// A budget is not above 0 and at most the largest.
    #[error("expected a budget above 0 and at most {max_budget}, found {budget}")]
    Budget {
        /// The budget given.
        budget: f64,
        /// The largest budget.
        max_budget: f64,
    },
}

/// A configuration as the functions see it.
enum Point {
    CountingOnes { ones: f64, probabilities: Vec<f64> },
    Branin(Vec<f64>),
    Hartmann(Vec<f64>),
    JointResnet(Vec<f64>),
}

impl Benchmark {
    /// The reference space, which `joint-resnet` is defined on.
    pub fn joint_space() -> SpaceFile {
        joint::file()
    }

    /// The function with its own bias and noise.
    ///
    /// Hartmann: bias 0.5, noise 0.1, as mf-prior-bench has where no level is named. Branin: bias 0.1 as in `BoTorch`, and noise 1. The joint space: bias 1, noise 0.02.
    /// Counting ones has neither.
    pub fn new(function: Function) -> Self {
        let (bias, noise) = match function {
            Function::CountingOnes => (0.0, 0.0),
            Function::Branin => (0.1, 1.0),
            Function::MfHartmann3 | Function::MfHartmann6 => (0.5, 0.1),
            Function::JointResnet => (1.0, 0.02),
        };
        Self {
            function,
            bias,
            noise,
        }
    }

    /// The loss that a job sees: biased and noisy below the largest budget.
    ///
    /// - Counting ones: −(Σ categories + Σ means of ⌊`budget`⌋ coin tosses with probability x), at least one toss.
    ///   Noisy at the largest budget too.
    /// - Branin: b is lowered by bias·(1 − s), and noise·(1 − s)·N(0, 1) is added, with s = `budget`/`max_budget`.
    /// - Hartmann: every α is lowered by bias·(1 − u), and noise·(1 − u)·|N(0, 1)| is added, with u = ln z / ln 100
    ///   and z = 100·`budget`/`max_budget`, at least 1.
    /// - The joint space: small networks and large rates look better, and noise·(1 − √s)·N(0, 1) is added.
    pub fn evaluate(
        &self,
        configuration: &Configuration,
        budget: f64,
        max_budget: f64,
        seed: Seed,
    ) -> Result<f64, BenchmarkError> {
        if !(budget > 0.0 && budget <= max_budget && max_budget.is_finite()) {
            return Err(BenchmarkError::Budget { budget, max_budget });
        }
        let point = self.point(configuration)?;
        let mut rng = seed
            .child("benchmark", identity(configuration, budget))
            .rng();
        let share = budget / max_budget;
        Ok(match point {
            Point::CountingOnes {
                ones,
                probabilities,
            } => {
                let num_tosses = whole(budget);
                let means = probabilities
                    .iter()
                    .map(|&p| mean_of_tosses(p, num_tosses, &mut rng));
                -(ones + means.sum::<f64>())
            }
            Point::Branin(x) => {
                let distance = 1.0 - share;
                branin(x[0], x[1], self.bias * distance) + self.noise * distance * normal(&mut rng)
            }
            Point::JointResnet(x) => {
                let distance = 1.0 - share.sqrt();
                joint::loss(&x, self.bias * distance) + self.noise * distance * normal(&mut rng)
            }
            Point::Hartmann(x) => {
                let z = (100.0 * share).max(1.0);
                let distance = 1.0 - libm::log(z) / libm::log(100.0);
                let noise = self.noise * distance * normal(&mut rng).abs();
                hartmann(&x, self.bias * distance) + noise
            }
        })
    }

    /// The loss without bias and noise, at the largest budget.
    pub fn true_value(&self, configuration: &Configuration) -> Result<f64, BenchmarkError> {
        Ok(match self.point(configuration)? {
            Point::CountingOnes {
                ones,
                probabilities,
            } => -(ones + probabilities.iter().sum::<f64>()),
            Point::Branin(x) => branin(x[0], x[1], 0.0),
            Point::JointResnet(x) => joint::loss(&x, 0.0),
            Point::Hartmann(x) => hartmann(&x, 0.0),
        })
    }

    /// The smallest true value in a space of so many dimensions; only counting ones depends on their number.
    pub fn optimum(&self, num_dimensions: usize) -> f64 {
        match self.function {
            Function::CountingOnes => -(num_dimensions as f64),
            Function::Branin => 0.397_887_357_729_738_2,
            // With P of 1091; the often printed -3.86278214782 belongs to 1090.
            Function::MfHartmann3 => -3.862_779_787_332_663,
            Function::MfHartmann6 => -3.322_368_011_415_514_7,
            Function::JointResnet => joint::OPTIMUM,
        }
    }

    /// How far the true value is above the optimum; for counting ones divided by the number of dimensions, so 0..=1.
    pub fn regret(&self, configuration: &Configuration) -> Result<f64, BenchmarkError> {
        let num_dimensions = configuration.0.len();
        let regret = self.true_value(configuration)? - self.optimum(num_dimensions);
        Ok(match self.function {
            Function::CountingOnes => regret / num_dimensions as f64,
            Function::Branin
            | Function::MfHartmann3
            | Function::MfHartmann6
            | Function::JointResnet => regret,
        })
    }

    /// What an evaluation costs, as a share of one at the largest budget.
    ///
    /// The budget's share; for Hartmann 0.05 + 0.95·share², as in mf-prior-bench.
    pub fn cost(&self, budget: f64, max_budget: f64) -> f64 {
        let share = budget / max_budget;
        match self.function {
            Function::CountingOnes | Function::Branin | Function::JointResnet => share,
            Function::MfHartmann3 | Function::MfHartmann6 => 0.05 + 0.95 * share * share,
        }
    }

    /// Checks a configuration against the function's domain.
    fn point(&self, configuration: &Configuration) -> Result<Point, BenchmarkError> {
        match self.function {
            Function::CountingOnes => self.counting_ones(configuration),
            Function::Branin => self
                .numbers(configuration, &[("x1", -5.0, 10.0), ("x2", 0.0, 15.0)])
                .map(Point::Branin),
            Function::MfHartmann3 => self.unit_cube(configuration, 3).map(Point::Hartmann),
            Function::MfHartmann6 => self.unit_cube(configuration, 6).map(Point::Hartmann),
            Function::JointResnet => self
                .numbers(configuration, &joint::bounds())
                .map(Point::JointResnet),
        }
    }

    fn counting_ones(&self, configuration: &Configuration) -> Result<Point, BenchmarkError> {
        let function = self.function;
        let mut ones = 0.0;
        let mut probabilities = Vec::new();
        for (name, value) in configuration.iter() {
            let number = match value {
                Value::Text(text) => text.parse().ok(),
                Value::Null => None,
                Value::Boolean(is_one) => Some(f64::from(u8::from(*is_one))),
                Value::Integer(_) | Value::Float(_) => value.as_f64(),
            };
            let is_categorical = name.starts_with("cat_");
            if !is_categorical && !name.starts_with("cont_") {
                return Err(BenchmarkError::Unknown {
                    function,
                    hyperparameter: name.to_owned(),
                });
            }
            let expected = if is_categorical {
                "0 or 1"
            } else {
                "a number in [0, 1]"
            };
            let in_domain =
                number.filter(|x| (0.0..=1.0).contains(x) && !(is_categorical && x.fract() > 0.0));
            let Some(x) = in_domain else {
                let (hyperparameter, found) = (name.to_owned(), value.clone());
                let expected = expected.to_owned();
                return Err(BenchmarkError::OutOfDomain {
                    function,
                    hyperparameter,
                    expected,
                    found,
                });
            };
            if is_categorical {
                ones += x;
            } else {
                probabilities.push(x);
            }
        }
        if configuration.0.is_empty() {
            return Err(BenchmarkError::Missing {
                function,
                hyperparameter: "cat_0".to_owned(),
            });
        }
        Ok(Point::CountingOnes {
            ones,
            probabilities,
        })
    }

    fn unit_cube(
        &self,
        configuration: &Configuration,
        num_dimensions: usize,
    ) -> Result<Vec<f64>, BenchmarkError> {
        let names = ["x_0", "x_1", "x_2", "x_3", "x_4", "x_5"].map(|name| (name, 0.0, 1.0));
        self.numbers(configuration, &names[..num_dimensions])
    }

    /// The values of exactly these hyperparameters, each within its bounds.
    fn numbers(
        &self,
        configuration: &Configuration,
        names: &[(&str, f64, f64)],
    ) -> Result<Vec<f64>, BenchmarkError> {
        let function = self.function;
        if let Some((name, _)) = configuration
            .iter()
            .find(|(name, _)| names.iter().all(|known| known.0 != *name))
        {
            return Err(BenchmarkError::Unknown {
                function,
                hyperparameter: name.to_owned(),
            });
        }
        let number = |&(name, lower, upper): &(&str, f64, f64)| {
            let hyperparameter = name.to_owned();
            let Some(value) = configuration.get(name) else {
                return Err(BenchmarkError::Missing {
                    function,
                    hyperparameter,
                });
            };
            value
                .as_f64()
                .filter(|x| (lower..=upper).contains(x))
                .ok_or_else(|| {
                    let (expected, found) =
                        (format!("a number in [{lower}, {upper}]"), value.clone());
                    BenchmarkError::OutOfDomain {
                        function,
                        hyperparameter,
                        expected,
                        found,
                    }
                })
        };
        names.iter().map(number).collect()
    }
}

/// What the noise depends on beside the seed.
fn identity(configuration: &Configuration, budget: f64) -> String {
    let values: Vec<String> = configuration
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{} budget={budget:?}", values.join(" "))
}

/// The whole part of a budget, at least 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "budgets are checked to be positive, and the cast saturates"
)]
fn whole(budget: f64) -> u64 {
    (budget as u64).max(1)
}

#[cfg(test)]
mod tests;
