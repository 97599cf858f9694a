//! Guessing a search space from the values that occur in a log which does not bring one.

use std::collections::BTreeMap;

use shared::space::{HyperparameterFile, KindName, SpaceFile};
use shared::{Configuration, Value};

/// Logs with more hyperparameters than this get no space: it would take too long to check and nobody could read it.
const MOST_HYPERPARAMETERS: usize = 10_000;
/// A positive range over more than this factor is taken for logarithmic.
const LOG_FACTOR: f64 = 100.0;
/// Words with more different values than this are taken for names, not choices, and left out.
const MOST_CHOICES: usize = 1000;

/// What one hyperparameter was seen to be.
#[derive(Default)]
struct Seen {
    numbers: Vec<f64>,
    is_whole: bool,
    others: Vec<Value>,
}

/// A space that holds all these configurations: ranges from the smallest to the largest value seen, logarithmic where
/// they are positive and span more than a factor of 100; words and booleans are choices; what never varies is a
/// constant. No conditions are guessed: a hyperparameter may be missing.
///
/// `None` without hyperparameters or with more than 10,000.
pub(crate) fn infer_space<'a>(
    configurations: impl Iterator<Item = &'a Configuration>,
) -> Option<SpaceFile> {
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    for configuration in configurations {
        for (name, value) in configuration.iter() {
            let entry = seen.entry(name).or_insert_with(|| Seen {
                is_whole: true,
                ..Seen::default()
            });
            entry.add(value);
        }
        if seen.len() > MOST_HYPERPARAMETERS {
            return None;
        }
    }
    let hyperparameters: Vec<HyperparameterFile> = seen
        .into_iter()
        .filter(|(name, _)| !name.is_empty())
        .filter_map(|(name, seen)| seen.hyperparameter(name))
        .collect();
    (!hyperparameters.is_empty()).then_some(SpaceFile {
        hyperparameters,
        ..SpaceFile::default()
    })
}

impl Seen {
    fn add(&mut self, value: &Value) {
        match value.as_f64() {
            Some(number) => {
                self.is_whole &= matches!(value, Value::Integer(_));
                self.numbers.push(number);
            }
            None if self.others.len() <= MOST_CHOICES && !self.others.contains(value) => {
                self.others.push(value.clone());
            }
            None => {}
        }
    }

    fn hyperparameter(self, name: &str) -> Option<HyperparameterFile> {
        let mut file = HyperparameterFile::new(name, KindName::Constant);
        if self.others.is_empty() {
            let lower = self.numbers.iter().copied().min_by(f64::total_cmp)?;
            let upper = self.numbers.iter().copied().max_by(f64::total_cmp)?;
            let value = |number: f64| {
                let number = Value::Float(number);
                match number.as_i64().filter(|_| self.is_whole) {
                    Some(whole) => Value::Integer(whole),
                    None => number,
                }
            };
            if lower < upper {
                let is_small = lower.abs().max(upper.abs()) < 1e15;
                let is_whole = self.is_whole && is_small;
                file.kind = if is_whole {
                    KindName::Integer
                } else {
                    KindName::Float
                };
                file.log = Some(lower > 0.0 && upper / lower > LOG_FACTOR);
                file.lower = Some(value(lower));
                file.upper = Some(value(upper));
            } else {
                file.value = Some(value(lower));
            }
            return Some(file);
        }
        // Numbers among words are words too.
        let mut choices = self.others;
        let mut numbers = self.numbers;
        numbers.sort_by(f64::total_cmp);
        numbers.dedup_by(|a, b| a.total_cmp(b).is_eq());
        choices.extend(numbers.into_iter().map(Value::Float));
        choices.sort_by_key(ToString::to_string);
        match choices.len() {
            1 => file.value = choices.pop(),
            2..=MOST_CHOICES => {
                file.kind = KindName::Categorical;
                file.choices = Some(choices);
            }
            _ => return None,
        }
        Some(file)
    }
}

#[cfg(test)]
mod tests {
    use shared::SearchSpace;

    use super::*;

    #[test]
    fn spaces_are_inferred_from_what_occurs() {
        let parse = |text| serde_json::from_str::<Configuration>(text).unwrap();
        let configurations = [
            parse(r#"{"a": 1, "b": 0.001, "c": "x", "d": true, "e": 3, "f": 1.5, "g": 1}"#),
            parse(r#"{"a": 300, "b": 0.5, "c": "y", "d": false, "e": 3, "f": -2, "g": "one"}"#),
            parse(r#"{"a": 20, "b": 0.01, "c": "x", "d": false, "e": 3, "h": 7}"#),
        ];
        let space = infer_space(configurations.iter()).unwrap();
        insta::assert_json_snapshot!(space);
        let space = SearchSpace::new(&space).unwrap();
        assert_eq!(
            space.encode(&configurations[2]).len(),
            space.num_dimensions()
        );
        assert_eq!(infer_space([].into_iter()), None);
        let wide: Configuration = (0..10_001)
            .map(|number| (format!("x{number}"), Value::Integer(number)))
            .collect();
        assert_eq!(infer_space([wide].iter()), None);
    }
}
