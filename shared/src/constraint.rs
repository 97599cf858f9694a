//! What a configuration must keep to beside being good: limits on measures of its results.
//!
//! A configuration that breaks one is infeasible: it is worse than every one that keeps all, never promoted and never the
//! incumbent. Among infeasible ones the one that breaks its limits by less is better, so that models find their way back.
//!
//! Source: ranks after Deb 2000, "An efficient constraint handling method for genetic algorithms".

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::objective::Objective;

/// Limits of one measure, both included; one of them at least.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// The measure, as results name it.
    pub measure: String,
    /// The smallest value that is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest value that is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// A limit that is broken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// The measure.
    pub measure: String,
    /// What it is.
    pub value: f64,
    /// The smallest value that is allowed, where it is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest value that is allowed, where it is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl Constraint {
    /// What a value breaks.
    pub fn violation(&self, value: f64) -> Option<Violation> {
        let min = self.min.filter(|min| value < *min);
        let max = self.max.filter(|max| value > *max);
        (min.is_some() || max.is_some()).then(|| Violation {
            measure: self.measure.clone(),
            value,
            min,
            max,
        })
    }

    fn check(&self, objective: Option<&Objective>) -> Result<(), Invalid> {
        check_measure(&self.measure, objective).map_err(|e| e.within("measure"))?;
        for (name, bound) in [("min", self.min), ("max", self.max)] {
            if let Some(bound) = bound.filter(|bound| !bound.is_finite()) {
                return Err(Invalid::new(name, "a finite number", bound));
            }
        }
        match (self.min, self.max) {
            (None, None) => Err(Invalid::new("", "`min`, `max` or both", "neither")),
            (Some(min), Some(max)) if min > max => {
                let found = format!("`min` {min} and `max` {max}");
                Err(Invalid::new("", "`min` up to `max`", found))
            }
            _ => Ok(()),
        }
    }
}

impl Violation {
    /// The limit in words, whatever the value is.
    pub fn limit(&self) -> String {
        format!("{}: {}", self.measure, self.allowed())
    }

    fn allowed(&self) -> String {
        match (self.min, self.max) {
            (Some(min), _) => format!("at least {min} is allowed"),
            (None, Some(max)) => format!("at most {max} is allowed"),
            (None, None) => "less is allowed".to_owned(), // a record made by hand
        }
    }

    /// By how much the limit is broken, as a share of it; of 0 in the measure's own unit.
    pub fn amount(&self) -> f64 {
        let by = |bound: Option<f64>| {
            let bound = bound?;
            let scale = if bound == 0.0 { 1.0 } else { bound.abs() };
            Some(((self.value - bound).abs() / scale).min(f64::MAX))
        };
        by(self.min).into_iter().chain(by(self.max)).sum()
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, {}", self.measure, self.value, self.allowed())
    }
}

/// Several violations in words.
pub fn in_words(violations: &[Violation]) -> String {
    let words: Vec<String> = violations.iter().map(ToString::to_string).collect();
    words.join("; ")
}

/// What the measures of a result break, as far as they are known.
pub fn violations(constraints: &[Constraint], measures: &BTreeMap<String, f64>) -> Vec<Violation> {
    let broken = |constraint: &Constraint| {
        let value = measures.get(&constraint.measure)?;
        constraint.violation(*value)
    };
    constraints.iter().filter_map(broken).collect()
}

/// The first measure that a constraint is about and that is not among these.
pub fn missing<'a>(
    constraints: &'a [Constraint],
    measures: &BTreeMap<String, f64>,
) -> Option<&'a str> {
    let mut named = constraints.iter().map(|c| c.measure.as_str());
    named.find(|measure| !measures.contains_key(*measure))
}

/// Everything that is wrong with the constraints of a search.
pub(crate) fn check_all(constraints: &[Constraint], objective: Option<&Objective>) -> Vec<Invalid> {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for (index, constraint) in constraints.iter().enumerate() {
        let at = format!("constraints[{index}]");
        wrong.extend(constraint.check(objective).err().map(|e| e.within(&at)));
        if !seen.insert(&constraint.measure) {
            let found = format!("`{}` again", constraint.measure);
            let expected = "one constraint for each measure, with `min` and `max`";
            wrong.push(Invalid::new(format!("{at}.measure"), expected, found));
        }
    }
    wrong
}

/// Measures of the built-in network that are known before it is trained.
pub const KNOWN_BEFORE_TRAINING: [&str; 3] = ["parameters", "multiply_adds", "memory_mib"];
/// Measures of the built-in network that may decide something: not those of the test side.
const OF_NETWORK: [&str; 10] = [
    "parameters",
    "multiply_adds",
    "memory_mib",
    "steps",
    "epochs",
    "training_s",
    "training_cpu_s",
    "loading_s",
    "set_up_s",
    "evaluation_s",
];

/// Whether results can have a measure that something is to depend on.
pub(crate) fn check_measure(measure: &str, objective: Option<&Objective>) -> Result<(), Invalid> {
    let known: &[&str] = match objective {
        _ if measure.is_empty() || measure == "loss" => {
            let found = format!("\"{measure}\"");
            return Err(Invalid::new("", "the name of a measure", found));
        }
        Some(Objective::Network(_)) => &OF_NETWORK,
        Some(Objective::Benchmark(_)) => &["true_regret"],
        // Only the program knows.
        Some(Objective::Command(_)) | None => return Ok(()),
    };
    if known.contains(&measure) {
        return Ok(());
    }
    let expected = format!("one of {}", known.join(", "));
    Err(Invalid::new("", expected, format!("\"{measure}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constraint(min: Option<f64>, max: Option<f64>) -> Constraint {
        Constraint {
            measure: "latency_ms".into(),
            min,
            max,
        }
    }

    #[test]
    fn limits_belong_to_what_is_allowed_and_break_by_shares_of_themselves() {
        let between = constraint(Some(1.0), Some(4.0));
        for (value, amount) in [
            (1.0, None),
            (4.0, None),
            (0.5, Some(0.5)),
            (6.0, Some(0.5)),
            (f64::MAX, Some(f64::MAX / 4.0)),
        ] {
            let found = between.violation(value).map(|v| v.amount());
            assert_eq!(found.is_some(), amount.is_some(), "{value}");
            let (found, amount) = (found.unwrap_or(0.0), amount.unwrap_or(0.0));
            assert!((found - amount).abs() <= 1e-12 * amount, "{value}: {found}");
        }
        let none = constraint(None, Some(0.0));
        assert!((none.violation(2.5).unwrap().amount() - 2.5).abs() < 1e-12);
        assert!(
            constraint(None, Some(f64::MIN_POSITIVE))
                .violation(f64::MAX)
                .unwrap()
                .amount()
                .is_finite()
        );
    }

    #[test]
    fn what_makes_no_limit_is_refused_with_its_place() {
        let of_command = |constraints: &[Constraint]| {
            let wrong = check_all(constraints, None);
            wrong.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let unnamed = Constraint {
            measure: String::new(),
            ..constraint(Some(1.0), None)
        };
        let all = [
            constraint(None, None),
            constraint(Some(2.0), Some(1.0)),
            constraint(Some(f64::NAN), None),
            unnamed,
        ];
        insta::assert_snapshot!(of_command(&all).join("\n"));
    }
}
