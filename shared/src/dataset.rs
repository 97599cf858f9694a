//! Which data a search trains on, as a search file says it.
//!
//! A plain record: nothing here looks at the data; the crate `data` does.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::number::as_u64;

/// The seed of the split where the search names none.
pub(crate) const DEFAULT_SPLIT_SEED: u64 = 0;

/// The validation share where the search names none: 5,000 of CIFAR's 50,000, as in the published set-up.
pub(crate) const DEFAULT_VALIDATION: Validation = Validation::Fraction(0.1);

/// Which data, and how its training side is divided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// The data set; for `folder`, the format.
    pub name: DatasetName,
    /// Where it is, for those that are not built in; relative to the search's working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How much of the training side is kept for validation.
    #[serde(default = "default_validation")]
    pub validation: Validation,
    /// Whether each class keeps its share on both sides of the split, to within one image.
    #[serde(default)]
    pub stratified: bool,
    /// The seed of the split. The same seed gives the same split in every job of every search.
    #[serde(
        default = "default_split_seed",
        deserialize_with = "crate::number::whole"
    )]
    pub seed: u64,
    /// Height and width that the images of a folder are scaled to, in pixels; without it all must have one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<NonZeroU32>,
    /// The folder for decoded images; by default `tandem` in the user's cache folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

impl DataSettings {
    /// The named data set with every other field at its default.
    pub fn new(name: DatasetName) -> Self {
        Self {
            name,
            path: None,
            validation: DEFAULT_VALIDATION,
            stratified: false,
            seed: DEFAULT_SPLIT_SEED,
            resize: None,
            cache: None,
        }
    }
}

/// The data sets a search can name.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum DatasetName {
    /// 1,797 digits of 8×8 pixels, built in.
    #[serde(rename = "digits")]
    Digits,
    /// 10,000 images of MNIST, built in.
    #[serde(rename = "mnist-10k")]
    Mnist10k,
    /// MNIST, four IDX files.
    #[serde(rename = "mnist")]
    Mnist,
    /// Fashion-MNIST, four IDX files.
    #[serde(rename = "fashion-mnist")]
    FashionMnist,
    /// CIFAR-10, binary version.
    #[serde(rename = "cifar-10")]
    Cifar10,
    /// CIFAR-100 with its 100 fine labels, binary version.
    #[serde(rename = "cifar-100")]
    Cifar100,
    /// A folder `train/<class>/*.{png,jpg,jpeg}`, with or without a `test/` side.
    #[serde(rename = "folder")]
    Folder,
}

impl DatasetName {
    /// The name as a search file spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Mnist10k => "mnist-10k",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar-10",
            Self::Cifar100 => "cifar-100",
            Self::Folder => "folder",
        }
    }

    /// Whether the program carries the images itself.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Digits | Self::Mnist10k => true,
            Self::Mnist | Self::FashionMnist | Self::Cifar10 | Self::Cifar100 | Self::Folder => {
                false
            }
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of the training side kept for validation.
///
/// In JSON one number: below 1 a share, from 1 on a number of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Validation {
    /// A share of the training side, above 0 and below 1, rounded to whole images.
    Fraction(f64),
    /// A number of images, at least 1.
    Count(usize),
}

impl Serialize for Validation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fraction(fraction) => serializer.serialize_f64(*fraction),
            Self::Count(count) => count.serialize(serializer),
        }
    }
}

impl JsonSchema for Validation {
    fn schema_name() -> Cow<'static, str> {
        "Validation".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0 })
    }
}

impl<'de> Deserialize<'de> for Validation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Validation;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share between 0 and 1 or a whole number of images")
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Validation, E> {
                let unexpected = || E::invalid_value(de::Unexpected::Unsigned(count), &self);
                let count = usize::try_from(count).ok().filter(|&count| count > 0);
                count.map(Validation::Count).ok_or_else(unexpected)
            }
            fn visit_f64<E: de::Error>(self, fraction: f64) -> Result<Validation, E> {
                if fraction > 0.0 && fraction < 1.0 {
                    Ok(Validation::Fraction(fraction))
                } else if let Some(count) = as_u64(fraction).filter(|count| *count > 1) {
                    // 1.0 could be meant as either.
                    self.visit_u64(count)
                } else {
                    Err(E::invalid_value(de::Unexpected::Float(fraction), &self))
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

fn default_validation() -> Validation {
    DEFAULT_VALIDATION
}

fn default_split_seed() -> u64 {
    DEFAULT_SPLIT_SEED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_enough() {
        let settings: DataSettings = serde_json::from_str(r#"{"name": "digits"}"#).unwrap();
        assert_eq!(settings, DataSettings::new(DatasetName::Digits));
    }

    #[test]
    fn settings_survive_a_round_trip() {
        let text = r#"{"name":"folder","path":"pets","validation":50,"stratified":true,"seed":7,"resize":32,"cache":"fast"}"#;
        let settings: DataSettings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.validation, Validation::Count(50));
        assert_eq!(serde_json::to_string(&settings).unwrap(), text);
    }

    #[test]
    fn a_validation_side_is_a_share_or_a_count() {
        let parse = |text: &str| serde_json::from_str::<Validation>(text);
        assert_eq!(parse("0.1").unwrap(), Validation::Fraction(0.1));
        assert_eq!(parse("5000").unwrap(), Validation::Count(5_000));
        assert_eq!(
            serde_json::to_string(&Validation::Fraction(0.1)).unwrap(),
            "0.1"
        );
        for text in ["0", "0.0", "1.0", "1.5", "-1", "-0.5", "\"0.1\"", "null"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.contains("a share between 0 and 1 or a whole number"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_size_of_no_pixels_is_refused() {
        let text = r#"{"name": "folder", "path": "pets", "resize": 0}"#;
        assert!(serde_json::from_str::<DataSettings>(text).is_err());
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<DataSettings>(r#"{"name": "digits", "stratify": true}"#)
            .unwrap_err();
        assert!(error.to_string().contains("stratify"), "{error}");
    }

    #[test]
    fn an_unknown_data_set_is_refused_with_the_known_ones() {
        let error = serde_json::from_str::<DataSettings>(r#"{"name": "imagenet"}"#).unwrap_err();
        assert!(error.to_string().contains("cifar-100"), "{error}");
    }

    #[test]
    fn every_name_is_written_as_it_is_shown() {
        for name in [
            DatasetName::Digits,
            DatasetName::Mnist10k,
            DatasetName::Mnist,
            DatasetName::FashionMnist,
            DatasetName::Cifar10,
            DatasetName::Cifar100,
            DatasetName::Folder,
        ] {
            assert_eq!(serde_json::to_string(&name).unwrap(), format!("\"{name}\""));
        }
    }
}
