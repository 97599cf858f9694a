//! Networks that people have published, as configurations of the built-in network: what `start_with` may name.
//!
//! Depths, widths and branches are those of the publications, and so are the hyperparameters of training. The skip
//! connections that change shape are the built-in network's, so parameters differ a little from those published.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Invalid;
use crate::space::{Kind, SearchSpace};
use crate::value::{Configuration, Value};

/// A published network with its training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// What `start_with` calls it.
    pub name: &'static str,
    /// Where it was published.
    pub source: &'static str,
    blocks: i32,
    branches: i32,
    widening: i32,
    learning_rate: f64,
    weight_decay: f64,
}

const fn resnet(name: &'static str, blocks: i32) -> Known {
    Known {
        name,
        source: "He et al. 2016",
        blocks,
        branches: 1,
        widening: 1,
        learning_rate: 0.1,
        weight_decay: 1e-4,
    }
}

const fn wide_resnet(name: &'static str, blocks: i32, widening: i32) -> Known {
    Known {
        name,
        source: "Zagoruyko and Komodakis 2016",
        blocks,
        branches: 1,
        widening,
        learning_rate: 0.1,
        weight_decay: 5e-4,
    }
}

const fn shake_shake(name: &'static str, widening: i32) -> Known {
    Known {
        name,
        source: "Gastaldi 2017",
        blocks: 4,
        branches: 2,
        widening,
        learning_rate: 0.2,
        weight_decay: 1e-4,
    }
}

/// All of them. A name keeps its meaning for ever, since searches refer to it.
pub const KNOWN: [Known; 15] = [
    resnet("resnet-20", 3),
    resnet("resnet-32", 5),
    resnet("resnet-44", 7),
    resnet("resnet-56", 9),
    resnet("resnet-110", 18),
    wide_resnet("wide-resnet-16-4", 2, 4),
    wide_resnet("wide-resnet-16-8", 2, 8),
    wide_resnet("wide-resnet-28-2", 4, 2),
    wide_resnet("wide-resnet-28-8", 4, 8),
    wide_resnet("wide-resnet-28-10", 4, 10),
    wide_resnet("wide-resnet-40-4", 6, 4),
    shake_shake("shake-shake-26-2x32d", 2),
    shake_shake("shake-shake-26-2x64d", 4),
    shake_shake("shake-shake-26-2x96d", 6),
    shake_shake("shake-shake-26-2x112d", 7),
];

impl Known {
    /// The one of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name == name)
    }

    /// Its network and training, for spaces that vary whatever it consists of.
    pub fn configuration(&self) -> Configuration {
        let network = self
            .network()
            .into_iter()
            .map(|(name, value, _)| (name, value));
        let training = self
            .training()
            .map(|(name, value)| (name.to_owned(), value));
        network.chain(training).collect()
    }

    /// As a configuration of a space: the network as it is, its training as near as the space allows.
    ///
    /// # Errors
    /// The space's hyperparameter that does not allow this network, or that nothing is known of.
    pub fn within(&self, space: &SearchSpace) -> Result<Configuration, Invalid> {
        let network = self.network();
        for (name, value, is_default) in &network {
            let allowed = match space.find(name) {
                None => *is_default,
                Some(hyperparameter) => hyperparameter.kind.typed(value).is_some(),
            };
            if !allowed {
                let expected = space.find(name).map_or_else(
                    || "the default, because the space does not have it".to_owned(),
                    |hyperparameter| hyperparameter.kind.describe(),
                );
                let found = format!("{value} in `{}`", self.name);
                return Err(Invalid::new(name, expected, found));
            }
        }
        let training = self.training();
        let mut configuration = Configuration::default();
        for hyperparameter in space.hyperparameters() {
            let name = hyperparameter.name.as_str();
            if !space.is_active(hyperparameter, &configuration) {
                continue;
            }
            let of_network = network.iter().find(|(other, ..)| other == name);
            let of_training = training.iter().find(|(other, _)| *other == name);
            let value = match (of_network, of_training) {
                (Some((_, value, _)), _) => value.clone(),
                (None, Some((_, value))) => nearest(&hyperparameter.kind, value),
                (None, None) => {
                    let expected = format!("a hyperparameter that `{}` has a value of", self.name);
                    return Err(Invalid::new(name, expected, "another one"));
                }
            };
            configuration.set(name, value);
        }
        space.check_configuration(&configuration)
    }

    /// Names and values of what makes the network, and whether that is the built-in network's default.
    fn network(&self) -> Vec<(String, Value, bool)> {
        let mut values: Vec<(String, Value, bool)> = [
            ("initial_filters", Value::Integer(16)),
            ("groups", Value::Integer(3)),
            ("kernel_size", Value::Integer(3)),
            ("activation", Value::from("relu")),
            ("squeeze_excitation", Value::Boolean(false)),
        ]
        .map(|(name, value)| (name.to_owned(), value, true))
        .into();
        for (group, default, widening) in [(1, 1, self.widening), (2, 2, 2), (3, 2, 2)] {
            let (blocks, branches) = (i64::from(self.blocks), i64::from(self.branches));
            let widening_value = Value::Float(f64::from(widening));
            values.extend([
                (
                    format!("nr_residual_blocks_{group}"),
                    Value::Integer(blocks),
                    blocks == 3,
                ),
                (
                    format!("widen_factor_{group}"),
                    widening_value,
                    widening == default,
                ),
                (
                    format!("res_branches_{group}"),
                    Value::Integer(branches),
                    branches == 1,
                ),
            ]);
        }
        values
    }

    /// How it was trained.
    fn training(&self) -> [(&'static str, Value); 12] {
        [
            ("learning_rate", Value::Float(self.learning_rate)),
            ("batch_size", Value::Integer(128)),
            ("weight_decay", Value::Float(self.weight_decay)),
            ("momentum", Value::Float(0.9)),
            ("mixup_alpha", Value::Float(0.0)),
            ("cutout_length", Value::Integer(0)),
            ("death_rate", Value::Float(0.0)),
            ("optimizer", Value::from("sgd")),
            ("label_smoothing", Value::Float(0.0)),
            ("warm_up", Value::Float(0.0)),
            ("gradient_clipping", Value::Float(0.0)),
            ("weight_average", Value::Float(0.0)),
        ]
    }
}

/// The value, or the one that is nearest to it among those allowed.
fn nearest(kind: &Kind, value: &Value) -> Value {
    match (kind, value.as_f64()) {
        (Kind::Constant { value }, _) => value.clone(),
        (Kind::Float { lower, upper, .. }, Some(number)) => {
            Value::Float(number.clamp(*lower, *upper))
        }
        (Kind::Integer { lower, upper, .. }, _) => value.as_i64().map_or_else(
            || value.clone(),
            |number| Value::Integer(number.clamp(*lower, *upper)),
        ),
        (
            Kind::Ordinal { sequence: levels } | Kind::Categorical { choices: levels },
            Some(number),
        ) => {
            let distance =
                |level: &Value| level.as_f64().map_or(f64::INFINITY, |x| (x - number).abs());
            let nearest = levels
                .iter()
                .min_by(|a, b| distance(a).total_cmp(&distance(b)));
            nearest.unwrap_or(value).clone()
        }
        _ => value.clone(),
    }
}

/// A configuration to be tried first: its values, or the name of a published network.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// Name → value.
    Values(Configuration),
    /// The name of one of [`KNOWN`].
    Known(String),
}

impl Start {
    /// The configuration, checked against the space.
    pub(crate) fn within(&self, space: &SearchSpace) -> Result<Configuration, Invalid> {
        match self {
            Self::Values(configuration) => space.check_configuration(configuration),
            Self::Known(name) => {
                let known = Known::find(name).ok_or_else(|| {
                    let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
                    let expected = format!("values, or one of {}", names.join(", "));
                    Invalid::new("", expected, format!("\"{name}\""))
                })?;
                known.within(space)
            }
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Values(configuration) => configuration.serialize(serializer),
            Self::Known(name) => name.serialize(serializer),
        }
    }
}

impl JsonSchema for Start {
    fn schema_name() -> Cow<'static, str> {
        "Start".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let names = KNOWN.map(|known| known.name);
        json_schema!({ "anyOf": [
            generator.subschema_for::<Configuration>(),
            { "type": "string", "enum": names },
        ] })
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Start;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, name to value, or the name of a known network")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Start, E> {
                Ok(Start::Known(name.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Start, A::Error> {
                Configuration::deserialize(MapAccessDeserializer::new(map)).map(Start::Values)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::SpaceFile;

    fn space(json: &str) -> SearchSpace {
        SearchSpace::new(&serde_json::from_str::<SpaceFile>(json).unwrap()).unwrap()
    }

    const SPACE: &str = r#"{"hyperparameters":[
        {"name":"nr_residual_blocks_1","type":"integer","lower":1,"upper":16},
        {"name":"nr_residual_blocks_2","type":"integer","lower":1,"upper":16},
        {"name":"nr_residual_blocks_3","type":"integer","lower":1,"upper":16},
        {"name":"widen_factor_1","type":"float","lower":0.5,"upper":8},
        {"name":"res_branches_1","type":"integer","lower":1,"upper":5},
        {"name":"learning_rate","type":"float","lower":0.001,"upper":0.15},
        {"name":"batch_size","type":"ordinal","sequence":[32,64,100]}]}"#;

    #[test]
    fn a_name_stands_for_the_network_and_the_nearest_training() {
        let configuration = Known::find("wide-resnet-28-8")
            .unwrap()
            .within(&space(SPACE))
            .unwrap();
        let text = serde_json::to_string(&configuration).unwrap();
        let expected = r#"{"batch_size":100,"learning_rate":0.1,"nr_residual_blocks_1":4,"nr_residual_blocks_2":4,"nr_residual_blocks_3":4,"res_branches_1":1,"widen_factor_1":8.0}"#;
        assert_eq!(text, expected);
        let fixed = serde_json::from_str(r#"{"learning_rate":0.02}"#).unwrap();
        let fixed = space(SPACE).fix(&fixed).unwrap();
        let configuration = Known::find("resnet-20").unwrap().within(&fixed).unwrap();
        assert_eq!(configuration.float("learning_rate"), Some(0.02));
    }

    #[test]
    fn a_space_that_does_not_have_the_network_is_named_with_its_place() {
        let refused = |name: &str| {
            let start = Start::Known(name.to_owned());
            start.within(&space(SPACE)).unwrap_err().to_string()
        };
        insta::assert_snapshot!(
            [
                refused("wide-resnet-28-10"),
                refused("resnet-110"),
                refused("shake-shake-26-2x32d"),
                refused("resnet-21"),
            ]
            .join("\n")
        );
    }
}
