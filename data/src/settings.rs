//! What a person writes into a search file to say which data to train on.
//!
//! A plain record: nothing here looks at a file.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The seed of the split where the search names none.
pub const DEFAULT_SPLIT_SEED: u64 = 0;

/// The validation share where the search names none: 5,000 of CIFAR's 50,000, as in the published set-up.
pub const DEFAULT_VALIDATION: Validation = Validation::Fraction(0.1);

/// Which data, and how its training side is divided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// The data set; for `folder`, the format.
    pub name: DatasetName,
    /// Where it lies; none for the data sets built into the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How much of the training side is kept for validation.
    #[serde(default = "default_validation")]
    pub validation: Validation,
    /// Whether each class keeps its share on both sides of the split, to within one image.
    #[serde(default)]
    pub stratified: bool,
    /// The seed of the split. The same seed gives the same split in every job of every search.
    #[serde(default = "default_split_seed")]
    pub seed: u64,
    /// The size every image of a folder is brought to; without it all must have one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Size>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

    /// What `path` must lead to and where to get it, for messages.
    pub(crate) fn origin(self) -> &'static str {
        match self {
            Self::Digits | Self::Mnist10k => "it is built into the program",
            Self::Mnist => {
                "a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, \
                 t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (each with or without .gz), \
                 from https://ossci-datasets.s3.amazonaws.com/mnist/"
            }
            Self::FashionMnist => {
                "a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, \
                 t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (each with or without .gz), \
                 from https://github.com/zalandoresearch/fashion-mnist"
            }
            Self::Cifar10 => {
                "cifar-10-binary.tar.gz or the folder cifar-10-batches-bin unpacked from it, \
                 from https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
            }
            Self::Cifar100 => {
                "cifar-100-binary.tar.gz or the folder cifar-100-binary unpacked from it, \
                 from https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
            }
            Self::Folder => "a folder of your own with train/<class>/*.png, *.jpg or *.jpeg in it",
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of the training side kept for validation: `{"fraction": 0.1}` or `{"count": 5000}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Validation {
    /// A share of the training side, above 0 and below 1, rounded to whole images.
    Fraction(f64),
    /// A number of images.
    Count(usize),
}

/// Height and width of an image.
///
/// # Units
/// Pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
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
        let text = r#"{"name":"folder","path":"pets","validation":{"count":50},"stratified":true,"seed":7,"resize":{"height":32,"width":48},"cache":"fast"}"#;
        let settings: DataSettings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.validation, Validation::Count(50));
        assert_eq!(serde_json::to_string(&settings).unwrap(), text);
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
