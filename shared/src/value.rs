//! Values of hyperparameters, and configurations made of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a hyperparameter is set to: a JSON scalar.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A finite real number.
    Float(f64),
    /// A word.
    Text(String),
    /// `null`: no value, which may be a choice like others.
    Null,
}

impl Value {
    /// The number this is, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            Self::Boolean(_) | Self::Text(_) | Self::Null => None,
        }
    }

    /// The whole number this is, if it is one; 3.0 is.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(i) => Some(*i),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "checked to be whole and small"
            )]
            Self::Float(f) if f.fract().abs() < f64::MIN_POSITIVE && f.abs() < 9e15 => {
                Some(*f as i64)
            }
            Self::Float(_) | Self::Boolean(_) | Self::Text(_) | Self::Null => None,
        }
    }

    /// Equal as a person would say: 1 and 1.0 are.
    pub fn same(&self, other: &Self) -> bool {
        match (self.as_f64(), other.as_f64()) {
            // 0.0 and -0.0 are the same number, which `total_cmp` alone would deny.
            (Some(a), Some(b)) => (a + 0.0).total_cmp(&(b + 0.0)).is_eq(),
            _ => self == other,
        }
    }

    /// As it stands in JSON, with quotes around words: for complaints, in which "3" and 3 differ.
    ///
    /// # Panics
    /// Never: every value can be written.
    pub fn quoted(&self) -> String {
        serde_json::to_string(self).expect("a value can be written")
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(b) => write!(f, "{b}"),
            Self::Integer(i) => write!(f, "{i}"),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Text(text) => f.write_str(text),
            Self::Null => f.write_str("null"),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Boolean(b) => serializer.serialize_bool(*b),
            Self::Integer(i) => serializer.serialize_i64(*i),
            Self::Float(f) => serializer.serialize_f64(*f),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Null => serializer.serialize_unit(),
        }
    }
}

impl JsonSchema for Value {
    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string", "boolean", "null"] })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a string, true, false or null")
            }
            fn visit_bool<E: de::Error>(self, b: bool) -> Result<Value, E> {
                Ok(Value::Boolean(b))
            }
            fn visit_i64<E: de::Error>(self, i: i64) -> Result<Value, E> {
                Ok(Value::Integer(i))
            }
            fn visit_u64<E: de::Error>(self, i: u64) -> Result<Value, E> {
                let large = de::Unexpected::Unsigned(i);
                let expected = &"a whole number up to 9223372036854775807";
                i64::try_from(i)
                    .map(Value::Integer)
                    .map_err(|_large| E::invalid_value(large, expected))
            }
            fn visit_f64<E: de::Error>(self, f: f64) -> Result<Value, E> {
                if f.is_finite() {
                    Ok(Value::Float(f))
                } else {
                    Err(E::custom("a number that is not finite"))
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

/// One point of a search space: the value of every active hyperparameter, by name.
///
/// On disk a plain object, name → value, in alphabetical order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Configuration(pub BTreeMap<String, Value>);

impl Configuration {
    /// Whether it has no value at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a hyperparameter, if it is active.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The number a hyperparameter is set to; `None` where it is inactive or no number.
    pub fn float(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_f64()
    }

    /// The whole number a hyperparameter is set to; `None` where it is inactive or no whole number.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_i64()
    }

    /// The word a hyperparameter is set to; `None` where it is inactive or no word.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            Value::Boolean(_) | Value::Integer(_) | Value::Float(_) | Value::Null => None,
        }
    }

    /// Sets a hyperparameter.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// Names and values, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<S: Into<String>> FromIterator<(S, Value)> for Configuration {
    fn from_iter<I: IntoIterator<Item = (S, Value)>>(items: I) -> Self {
        Self(
            items
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_numbers_survive_a_round_trip() {
        let text = r#"{"a":1,"b":1.0,"c":"x","d":true,"e":1e-5}"#;
        let configuration: Configuration = serde_json::from_str(text).unwrap();
        assert_eq!(configuration.get("a"), Some(&Value::Integer(1)));
        assert_eq!(configuration.get("b"), Some(&Value::Float(1.0)));
        assert_eq!(
            serde_json::to_string(&configuration).unwrap(),
            r#"{"a":1,"b":1.0,"c":"x","d":true,"e":0.00001}"#
        );
        assert!(Value::Integer(1).same(&Value::Float(1.0)));
    }

    #[test]
    fn null_is_a_value_and_lists_are_none() {
        assert_eq!(serde_json::from_str::<Value>("null").unwrap(), Value::Null);
        assert_eq!(serde_json::to_string(&Value::Null).unwrap(), "null");
        assert!(Value::Float(-0.0).same(&Value::Integer(0)));
        assert!(serde_json::from_str::<Value>("[1]").is_err());
    }
}
