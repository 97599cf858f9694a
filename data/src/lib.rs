//! Data sets by name or path, checked once, divided by a seed and described by a digest.
//!
//! ```no_run
//! use data::{DataSettings, Dataset, DatasetName};
//!
//! let splits = Dataset::load(&DataSettings::new(DatasetName::Digits))?;
//! assert_eq!(splits.train.len() + splits.validation.len(), 1_500);
//! # Ok::<(), data::Error>(())
//! ```
//!
//! No tensors and no training: images stay bytes here. The crate also has the [`benchmark`] functions that stand in
//! for a training where one would take too long.
//!
//! | module | reads |
//! |--|--|
//! | `digits` | the digits built into the program |
//! | `idx` | MNIST and Fashion-MNIST, and the part of MNIST built into the program |
//! | `cifar` | CIFAR-10 and CIFAR-100, binary version |
//! | `folder`, `jpeg`, `cache` | folders of images |
//! | `split` | nothing: divides what the others read |

mod cache;
mod cifar;
mod dataset;
mod digits;
mod error;
mod exact;
#[cfg(test)]
mod fixture;
mod folder;
mod idx;
mod jpeg;
mod read;
mod split;

pub mod benchmark;

pub use dataset::{Dataset, Digest, ImageShape, Images};
pub use error::{BadImage, Error, Found};
pub use folder::read_images;
pub use shared::dataset::{DataSettings, DatasetName, Validation};
pub use split::{Normalisation, Splits};
