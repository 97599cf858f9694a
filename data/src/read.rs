//! Which reader reads which data set.

use std::path::Path;

use shared::dataset::{DataSettings, DatasetName};

use crate::dataset::Dataset;
use crate::error::{self, Error};
use crate::split::{self, Splits};
use crate::{cache, cifar, digits, folder, idx};

impl Dataset {
    /// Reads the data set that the settings name and divides it as they say.
    ///
    /// # Errors
    /// Every [`Error`]; each names the file or folder it is about.
    pub fn load(settings: &DataSettings) -> Result<Splits, Error> {
        split::split(Self::read(settings)?, settings)
    }

    /// Reads the data set that the settings name.
    ///
    /// # Errors
    /// Every [`Error`] but the split's.
    pub fn read(settings: &DataSettings) -> Result<Self, Error> {
        let dataset = settings.name;
        if settings.resize.is_some() && dataset != DatasetName::Folder {
            return Err(Error::UnusedField {
                dataset,
                field: "resize",
            });
        }
        if settings.path.is_some() && dataset.is_built_in() {
            return Err(Error::UnusedField {
                dataset,
                field: "path",
            });
        }
        let path = || -> Result<&Path, Error> {
            let origin = error::origin(dataset);
            settings
                .path
                .as_deref()
                .ok_or(Error::NoPath { dataset, origin })
        };
        match dataset {
            DatasetName::Digits => digits::read(),
            DatasetName::Mnist10k => idx::read_built_in(),
            DatasetName::Mnist | DatasetName::FashionMnist => idx::read(dataset, path()?),
            DatasetName::Cifar10 => cifar::read(&cifar::CIFAR_10, path()?),
            DatasetName::Cifar100 => cifar::read(&cifar::CIFAR_100, path()?),
            DatasetName::Folder => {
                let cache = cache::folder(settings.cache.as_deref());
                folder::read(path()?, settings.resize, cache.as_deref())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_that_is_not_built_in_needs_a_path() {
        for name in [
            DatasetName::Mnist,
            DatasetName::Cifar100,
            DatasetName::Folder,
        ] {
            let error = Dataset::load(&DataSettings::new(name)).unwrap_err();
            assert!(matches!(error, Error::NoPath { .. }), "{error}");
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("data set `{name}` needs a `path`: "))
            );
        }
    }

    #[test]
    fn a_setting_that_would_be_ignored_is_refused() {
        let digits = DataSettings::new(DatasetName::Digits);
        let error = Dataset::load(&DataSettings {
            path: Some("x".into()),
            ..digits.clone()
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "data set `digits` takes no `path`"
        );
        let resize = std::num::NonZeroU32::new(8);
        let error = Dataset::load(&DataSettings { resize, ..digits });
        assert_eq!(
            error.unwrap_err().to_string(),
            "data set `digits` takes no `resize`"
        );
    }

    /// Equal on every machine and in every later version, or old results cannot be compared with new ones.
    #[test]
    fn the_built_in_data_sets_keep_their_digests() {
        let digest = |name| {
            Dataset::load(&DataSettings::new(name))
                .unwrap()
                .digest
                .to_string()
        };
        assert_eq!(digest(DatasetName::Digits), DIGITS_DIGEST);
        assert_eq!(digest(DatasetName::Mnist10k), MNIST_10K_DIGEST);
    }

    const DIGITS_DIGEST: &str = "1c15863c201c357d39fa7d80f38a95ffbdab73d6ba5f06fecdc14fe73338fceb";
    const MNIST_10K_DIGEST: &str =
        "8e03593ed26a80ea31b81503297913242c087f6233083167c033e8986252bd75";
}
