//! Results of earlier searches that a search learns from before it has results of its own.
//!
//! `scheduler init` copies them once, to files whose names are digests of what is in them, and names those in
//! `search.json`: they are part of the question, so that proposals can be computed again when their source is gone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::format::{self, Record};
use crate::value::Configuration;

/// Results of one earlier search: `evidence/DIGEST.json`, `scheduler init` → samplers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Where they come from: a path, for people.
    pub source: String,
    /// What is known, in the order of the source.
    pub results: Vec<EarlierResult>,
}

/// The outcome of a configuration in an earlier search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlierResult {
    /// The value of every active hyperparameter, in the space of the search that learns from it.
    pub configuration: Configuration,
    /// What it was trained with there, in the unit of that search.
    pub budget: f64,
    /// The rung of the search that learns from it whose results it is compared with.
    pub rung: u8,
    /// The loss; absent where the configuration failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

impl Record for Evidence {
    const FORMAT: &'static str = "evidence";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];

    fn check(&self) -> Result<(), Invalid> {
        for (index, result) in self.results.iter().enumerate() {
            let numbers = [
                ("budget", Some(result.budget).filter(|b| *b > 0.0)),
                ("loss", Some(result.loss.unwrap_or(0.0))),
            ];
            for (name, number) in numbers {
                if !number.is_some_and(f64::is_finite) {
                    let at = format!("results[{index}].{name}");
                    let found = format!("{result:?}");
                    return Err(Invalid::new(at, "a finite number", found));
                }
            }
        }
        Ok(())
    }
}

impl Evidence {
    /// SHA-256 of it as version 1.0 writes it, in hexadecimal.
    pub fn digest(&self) -> String {
        format::digest(&format::to_bytes_of(self, [1, 0]))
    }

    /// How `search.json` names it.
    pub fn named(&self) -> EvidenceFile {
        EvidenceFile {
            source: self.source.clone(),
            results: self.results.len() as u64,
            digest: self.digest(),
        }
    }
}

/// An entry of `learn_from` in `search.json`; `scheduler init --learn-from` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceFile {
    /// Where the results come from, for people.
    pub source: String,
    /// How many there are.
    pub results: u64,
    /// SHA-256 of what was copied; the file's name begins with it.
    pub digest: String,
}

impl EvidenceFile {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let is_hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if self.digest.len() == 64 && self.digest.chars().all(is_hexadecimal) {
            return Ok(());
        }
        let expected =
            "a digest that `scheduler init --learn-from` has written: 64 hexadecimal digits";
        Err(Invalid::new("digest", expected, &self.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(loss: Option<f64>, budget: f64) -> Evidence {
        Evidence {
            source: "/earlier".to_owned(),
            results: vec![EarlierResult {
                configuration: serde_json::from_str(r#"{"x":0.5}"#).unwrap(),
                budget,
                rung: 1,
                loss,
            }],
        }
    }

    #[test]
    fn its_name_depends_on_everything_in_it() {
        let first = evidence(Some(0.25), 27.0);
        let named = first.named();
        assert_eq!(named.check(), Ok(()));
        for other in [evidence(None, 27.0), evidence(Some(0.25), 9.0)] {
            assert_ne!(other.digest(), named.digest);
        }
        assert_eq!(first.clone().digest(), named.digest);
    }

    #[test]
    fn numbers_that_json_has_not_are_refused() {
        assert_eq!(evidence(None, 1.0).check(), Ok(()));
        for (loss, budget) in [(Some(f64::NAN), 1.0), (None, f64::INFINITY), (None, 0.0)] {
            assert!(evidence(loss, budget).check().is_err());
        }
    }
}
