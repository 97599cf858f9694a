//! Search spaces to and from ConfigSpace's JSON.
//!
//! Read: what ConfigSpace 0.4 to 0.7 (`json_format_version` 0.1 to 0.4) and 1.x write. What has a meaning here is
//! translated, the rest refused by name:
//!
//! | ConfigSpace | here |
//! |---|---|
//! | uniform floats and integers, categories, ordinals, constants | the same |
//! | `q` | an ordinal of the values it leaves; of an integer, 1 means nothing |
//! | normal distributions | a range with a `prior` and its `confidence`; bounds are needed |
//! | weights of categories, one above all others, which are equal | a `prior` and its `confidence`; others are noted |
//! | conditions EQ, NEQ, IN, GT, LT, and AND and OR of these | `active_when` |
//! | forbidden EQUALS, IN, less and greater than, AND, OR | `forbidden` |
//! | relations of two hyperparameters, one of them with few values | one entry in `forbidden` for each of these |
//!
//! Refused: beta distributions and relations of two floats.

mod condition;
mod field;
mod forbidden;
mod read;
mod write;

pub use read::{Read, from_json};
pub use write::{Generation, to_json};

/// The file's usual name.
pub(crate) const CONFIGSPACE: &str = "configspace.json";

/// Whole numbers of a range, or steps of a quantized one, that are listed at most.
const MOST_LISTED: usize = 10_000;

#[cfg(test)]
mod tests;
