//! Forbidden combinations as people write them: values, lists of values, or ranges.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::value::Value;

/// A combination that must not occur, as a person writes it: the values of two or more hyperparameters, or of one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ForbiddenFile(pub BTreeMap<String, ForbiddenValues>);

/// The values of one hyperparameter in a forbidden combination.
#[derive(Debug, Clone, PartialEq)]
pub enum ForbiddenValues {
    /// This one.
    One(Value),
    /// Each of these.
    Several(Vec<Value>),
    /// All in a range (float, integer).
    Range(ForbiddenRange),
}

/// A range of numbers, both ends included; a missing end is that of the hyperparameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForbiddenRange {
    /// Smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// Largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
}

impl Serialize for ForbiddenValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(value) => value.serialize(serializer),
            Self::Several(values) => values.serialize(serializer),
            Self::Range(range) => range.serialize(serializer),
        }
    }
}

impl JsonSchema for ForbiddenValues {
    fn schema_name() -> Cow<'static, str> {
        "ForbiddenValues".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            generator.subschema_for::<Value>(),
            generator.subschema_for::<Vec<Value>>(),
            generator.subschema_for::<ForbiddenRange>(),
        ] })
    }
}

impl<'de> Deserialize<'de> for ForbiddenValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        fn one<E: de::Error>(
            value: impl de::IntoDeserializer<'static, E>,
        ) -> Result<ForbiddenValues, E> {
            Value::deserialize(value.into_deserializer()).map(ForbiddenValues::One)
        }
        impl<'de> Visitor<'de> for Any {
            type Value = ForbiddenValues;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, a list of values, or a range with `min` and `max`")
            }
            fn visit_bool<E: de::Error>(self, b: bool) -> Result<ForbiddenValues, E> {
                one(b)
            }
            fn visit_i64<E: de::Error>(self, i: i64) -> Result<ForbiddenValues, E> {
                one(i)
            }
            fn visit_u64<E: de::Error>(self, i: u64) -> Result<ForbiddenValues, E> {
                one(i)
            }
            fn visit_f64<E: de::Error>(self, x: f64) -> Result<ForbiddenValues, E> {
                one(x)
            }
            fn visit_unit<E: de::Error>(self) -> Result<ForbiddenValues, E> {
                Ok(ForbiddenValues::One(Value::Null))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ForbiddenValues, E> {
                Value::deserialize(text.into_deserializer()).map(ForbiddenValues::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ForbiddenValues, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(ForbiddenValues::Several)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ForbiddenValues, A::Error> {
                ForbiddenRange::deserialize(MapAccessDeserializer::new(map))
                    .map(ForbiddenValues::Range)
            }
        }
        deserializer.deserialize_any(Any)
    }
}
