//! Everything that can go wrong between a path and a split data set.

use std::path::PathBuf;
use std::{fmt, io};

use shared::dataset::DatasetName;
use shared::exit::{Code, Failure};

/// What went wrong, and with which file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data set needs a path and the settings have none.
    #[error("data set `{dataset}` needs a `path`: {origin}")]
    NoPath {
        /// The data set asked for.
        dataset: DatasetName,
        /// What the path must lead to and where to get it.
        origin: &'static str,
    },
    /// The settings have a field that this data set does not use.
    #[error("data set `{dataset}` takes no `{field}`")]
    UnusedField {
        /// The data set asked for.
        dataset: DatasetName,
        /// The field of the settings.
        field: &'static str,
    },
    /// The path does not lead to the data set.
    #[error(
        "cannot find data set `{dataset}`: no {looked_for} at `{path}`; expected {origin}",
        path = path.display()
    )]
    NotFound {
        /// The data set asked for.
        dataset: DatasetName,
        /// Where it was looked for.
        path: PathBuf,
        /// The file or folder that is missing.
        looked_for: String,
        /// What the path must lead to and where to get it.
        origin: &'static str,
    },
    /// A file or folder cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file has more or less content than its format demands.
    #[error(
        "`{path}` has the wrong size: expected {expected} bytes of {content}, found {found}",
        path = path.display()
    )]
    WrongSize {
        /// The file; inside an archive, the archive's path with the member's name appended.
        path: PathBuf,
        /// What the bytes are.
        content: &'static str,
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        found: Found,
    },
    /// A file is not of the format its name says.
    #[error("`{path}` is not {expected}: found {found}", path = path.display())]
    WrongFormat {
        /// The file.
        path: PathBuf,
        /// The format expected.
        expected: &'static str,
        /// What was found instead.
        found: String,
    },
    /// A label is not one of the classes.
    #[error(
        "label {label} of item {item} in `{path}` is not below {num_classes}, the number of classes",
        path = path.display()
    )]
    UnknownLabel {
        /// The file with the label.
        path: PathBuf,
        /// The item's position in the file, from 0.
        item: usize,
        /// The label found.
        label: u16,
        /// Classes of the data set.
        num_classes: usize,
    },
    /// Two files that belong together disagree.
    #[error(
        "`{path}` and `{other}` do not belong together: {found} against {other_found}",
        path = path.display(),
        other = other.display()
    )]
    Mismatch {
        /// One file.
        path: PathBuf,
        /// The other file.
        other: PathBuf,
        /// What the one has.
        found: String,
        /// What the other has.
        other_found: String,
    },
    /// Images of a folder cannot be used.
    #[error(
        "cannot use {num_bad} of the {num_images} images in `{path}`:{listing}",
        path = path.display(),
        listing = Listing(*num_bad, first)
    )]
    BadImages {
        /// The folder of the data set.
        path: PathBuf,
        /// Images looked at.
        num_images: usize,
        /// Images that cannot be used.
        num_bad: usize,
        /// The first of them, in order of their paths.
        first: Vec<BadImage>,
    },
    /// A class has no images to train on.
    #[error("no .png, .jpg or .jpeg images in `{path}`", path = path.display())]
    EmptyClass {
        /// The folder of the class.
        path: PathBuf,
    },
    /// The test side has a class that the training side lacks.
    #[error(
        "class folder `{path}` has no counterpart in the train folder, which has: {classes}",
        path = path.display(),
        classes = classes.join(", ")
    )]
    UnknownClass {
        /// The class folder in the test side.
        path: PathBuf,
        /// Classes of the training side.
        classes: Vec<String>,
    },
    /// There are more classes than labels can tell apart.
    #[error("`{path}` has {found} classes, more than the {limit} supported", path = path.display())]
    TooManyClasses {
        /// The folder with the class folders.
        path: PathBuf,
        /// Classes found.
        found: usize,
        /// Classes supported.
        limit: usize,
    },
    /// The settings ask for a validation side that leaves one of the two empty.
    #[error(
        "cannot keep {asked} of data set `{dataset}` for validation: \
         both sides need an image, and there are {num_images}"
    )]
    Validation {
        /// The data set.
        dataset: DatasetName,
        /// What the settings ask for.
        asked: String,
        /// Images to divide.
        num_images: usize,
    },
}

/// What a data set's `path` must lead to and where to get it.
pub(crate) fn origin(dataset: DatasetName) -> &'static str {
    match dataset {
        DatasetName::Digits | DatasetName::Mnist10k => "it is built into the program",
        DatasetName::Mnist => {
            "a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, \
             t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (each with or without .gz), \
             from https://ossci-datasets.s3.amazonaws.com/mnist/"
        }
        DatasetName::FashionMnist => {
            "a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, \
             t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (each with or without .gz), \
             from https://github.com/zalandoresearch/fashion-mnist"
        }
        DatasetName::Cifar10 => {
            "cifar-10-binary.tar.gz or the folder cifar-10-batches-bin unpacked from it, \
             from https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
        }
        DatasetName::Cifar100 => {
            "cifar-100-binary.tar.gz or the folder cifar-100-binary unpacked from it, \
             from https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
        }
        DatasetName::Folder => {
            "a folder of your own with train/<class>/*.png, *.jpg or *.jpeg in it"
        }
    }
}

/// A data set that cannot be used is a bad input: of the search, not of a configuration.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Read { source, .. } => Self::because(Code::BadInput, message, source),
            _ => Self::new(Code::BadInput, message),
        }
    }
}

/// How much content was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// So many bytes.
    Exactly(u64),
    /// More than expected; the rest was not read.
    More,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(bytes) => write!(f, "{bytes}"),
            Self::More => f.write_str("more"),
        }
    }
}

/// One image that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadImage {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
}

/// Lists bad images one a line, and says how many more there are.
struct Listing<'a>(usize, &'a [BadImage]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for image in self.1 {
            write!(f, "\n  `{}`: {}", image.path.display(), image.reason)?;
        }
        match self.0.saturating_sub(self.1.len()) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_failure_says_what_the_error_says_and_keeps_its_cause() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let failure = Failure::from(Error::Read {
            path: "images".into(),
            source,
        });
        assert_eq!(
            (failure.code, failure.to_string().as_str()),
            (Code::BadInput, "cannot read `images`")
        );
        assert_eq!(failure.source().unwrap().to_string(), "permission denied");
        let failure = Failure::from(Error::EmptyClass {
            path: "train/a".into(),
        });
        assert_eq!(
            failure.to_string(),
            "no .png, .jpg or .jpeg images in `train/a`"
        );
        assert!(failure.source().is_none());
    }
}
