//! Some values of a hyperparameter as people write them: one, a list, or a range.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Kind;
use super::clause::Set;
use crate::error::Invalid;
use crate::value::Value;

/// Some values of a hyperparameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// This one.
    One(Value),
    /// Each of these.
    Several(Vec<Value>),
    /// All in a range (float, integer).
    Range(ValueRange),
}

/// A range of numbers, both ends included; a missing end is that of the hyperparameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueRange {
    /// Smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// Largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
}

impl Values {
    /// The values meant, each of which has to be one of the hyperparameter; `at` is where they stand, for messages.
    pub(super) fn check(&self, at: &str, kind: &Kind) -> Result<Set, Invalid> {
        let typed = |at: String, value: &Value| {
            kind.typed(value)
                .ok_or_else(|| Invalid::new(at, kind.describe(), value.quoted()))
        };
        match self {
            Self::One(value) => Ok(Set::of(kind, &[typed(at.to_owned(), value)?])),
            Self::Several(values) => {
                if values.is_empty() {
                    return Err(Invalid::new(at, "at least one value", "none"));
                }
                let typed = values
                    .iter()
                    .enumerate()
                    .map(|(i, v)| typed(format!("{at}[{i}]"), v));
                Ok(Set::of(kind, &typed.collect::<Result<Vec<_>, _>>()?))
            }
            Self::Range(ValueRange { min, max }) => {
                let (lower, upper) = match kind {
                    Kind::Float { lower, upper, .. } => (*lower, *upper),
                    Kind::Integer { lower, upper, .. } => (*lower as f64, *upper as f64),
                    Kind::Ordinal { .. } | Kind::Categorical { .. } | Kind::Constant { .. } => {
                        return Err(Invalid::new(at, "a value or a list of values", "a range"));
                    }
                };
                if min.is_none() && max.is_none() {
                    return Err(Invalid::new(at, "`min`, `max` or both", "neither"));
                }
                let end = |value: &Option<Value>, end: &str, otherwise: f64| match value {
                    None => Ok(otherwise),
                    Some(value) => typed(below(at, end), value)
                        .map(|value| value.as_f64().unwrap_or(otherwise)), // numbers are numbers
                };
                let (min, max) = (end(min, "min", lower)?, end(max, "max", upper)?);
                if min > max {
                    return Err(Invalid::new(
                        below(at, "max"),
                        format!("at least `min` ({min})"),
                        max,
                    ));
                }
                Ok(Set::Intervals(vec![(min, max)]))
            }
        }
    }
}

/// The place of a field.
fn below(at: &str, field: &str) -> String {
    if at.is_empty() {
        field.to_owned()
    } else {
        format!("{at}.{field}")
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(value) => value.serialize(serializer),
            Self::Several(values) => values.serialize(serializer),
            Self::Range(range) => range.serialize(serializer),
        }
    }
}

impl JsonSchema for Values {
    fn schema_name() -> Cow<'static, str> {
        "Values".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            generator.subschema_for::<Value>(),
            generator.subschema_for::<Vec<Value>>(),
            generator.subschema_for::<ValueRange>(),
        ] })
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        fn one<E: de::Error>(value: impl de::IntoDeserializer<'static, E>) -> Result<Values, E> {
            Value::deserialize(value.into_deserializer()).map(Values::One)
        }
        impl<'de> Visitor<'de> for Any {
            type Value = Values;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, a list of values, or a range with `min` and `max`")
            }
            fn visit_bool<E: de::Error>(self, b: bool) -> Result<Values, E> {
                one(b)
            }
            fn visit_i64<E: de::Error>(self, i: i64) -> Result<Values, E> {
                one(i)
            }
            fn visit_u64<E: de::Error>(self, i: u64) -> Result<Values, E> {
                one(i)
            }
            fn visit_f64<E: de::Error>(self, x: f64) -> Result<Values, E> {
                one(x)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Values, E> {
                Ok(Values::One(Value::Null))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Values, E> {
                Value::deserialize(text.into_deserializer()).map(Values::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Values, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Values::Several)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Values, A::Error> {
                ValueRange::deserialize(MapAccessDeserializer::new(map)).map(Values::Range)
            }
        }
        deserializer.deserialize_any(Any)
    }
}
