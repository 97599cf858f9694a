//! What a user believes to be about the best value of a hyperparameter, and how firmly.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{HyperparameterFile, Kind};
use crate::error::Invalid;
use crate::value::Value;

/// A user prior, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct UserPrior {
    /// The value believed in.
    pub value: Value,
    /// How firmly.
    pub confidence: Confidence,
}

impl UserPrior {
    pub(super) fn new(raw: &HyperparameterFile, kind: &Kind) -> Result<Option<Self>, Invalid> {
        let Some(value) = &raw.prior else {
            return match raw.confidence {
                None => Ok(None),
                Some(_) => Err(Invalid::new("confidence", "`prior` beside it", "nothing")),
            };
        };
        let confidence = raw.confidence.unwrap_or_default();
        let sharpness = confidence.sharpness();
        if !(sharpness > 0.0 && sharpness.is_finite()) {
            let expected = "`low`, `medium`, `high` or a number above 0";
            return Err(Invalid::new("confidence", expected, sharpness));
        }
        let typed = kind.typed(value);
        let value = typed.ok_or_else(|| Invalid::new("prior", kind.describe(), value.quoted()))?;
        Ok(Some(Self { value, confidence }))
    }
}

/// How firmly a value is believed to be about the best.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Confidence {
    /// A guess.
    Low,
    /// Likely.
    #[default]
    Medium,
    /// Nearly sure.
    High,
    /// By its sharpness.
    Number(f64),
}

impl Confidence {
    /// The inverse of the standard deviation around the value, in units of the range; for categories how many times
    /// as likely the value is as any other one.
    ///
    /// # Source
    /// The form is that of Mallik et al. 2023 (`PriorBand`); the numbers are this project's.
    pub fn sharpness(self) -> f64 {
        match self {
            Self::Low => 2.0,
            Self::Medium => 4.0,
            Self::High => 8.0,
            Self::Number(sharpness) => sharpness,
        }
    }
}

impl Serialize for Confidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Low => serializer.serialize_str("low"),
            Self::Medium => serializer.serialize_str("medium"),
            Self::High => serializer.serialize_str("high"),
            Self::Number(sharpness) => serializer.serialize_f64(*sharpness),
        }
    }
}

impl JsonSchema for Confidence {
    fn schema_name() -> Cow<'static, str> {
        "Confidence".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "enum": ["low", "medium", "high"] },
            { "type": "number", "exclusiveMinimum": 0 },
        ] })
    }
}

impl<'de> Deserialize<'de> for Confidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrNumber;
        impl Visitor<'_> for WordOrNumber {
            type Value = Confidence;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`low`, `medium`, `high` or a number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Confidence, E> {
                match text {
                    "low" => Ok(Confidence::Low),
                    "medium" => Ok(Confidence::Medium),
                    "high" => Ok(Confidence::High),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Confidence, E> {
                Ok(Confidence::Number(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Confidence, E> {
                Ok(Confidence::Number(number as f64))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Confidence, E> {
                Ok(Confidence::Number(number as f64))
            }
        }
        deserializer.deserialize_any(WordOrNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidences_are_words_or_numbers() {
        for (text, sharpness) in [("\"low\"", 2.0), ("\"high\"", 8.0), ("3.5", 3.5)] {
            let confidence: Confidence = serde_json::from_str(text).unwrap();
            assert!((confidence.sharpness() - sharpness).abs() < f64::MIN_POSITIVE);
            assert_eq!(serde_json::to_string(&confidence).unwrap(), text);
        }
        let error = serde_json::from_str::<Confidence>("\"strong\"").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("expected `low`, `medium`, `high` or a number")
        );
    }
}
