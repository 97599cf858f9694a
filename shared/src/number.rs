//! Numbers as people write them: 3.0 is the whole number 3, and is written as 3.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// A whole number of at least 0, written with or without decimals that are 0.
struct Whole<T>(T);

impl<'de, T: TryFrom<u64> + Bounded> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<T>(PhantomData<T>);
        impl<T: TryFrom<u64> + Bounded> Visitor<'_> for Number<T> {
            type Value = Whole<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 0 to {}", T::MOST)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole<T>, E> {
                let wrong = |_| E::invalid_value(Unexpected::Unsigned(number), &self);
                T::try_from(number).map(Whole).map_err(wrong)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Whole<T>, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
                }
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole<T>, E> {
                match as_u64(number) {
                    Some(number) => self.visit_u64(number),
                    None => Err(E::invalid_value(Unexpected::Float(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(Number(PhantomData))
    }
}

/// The largest number of a type, for what was expected.
pub(crate) trait Bounded {
    const MOST: u64;
}

impl Bounded for u8 {
    const MOST: u64 = Self::MAX as u64;
}
impl Bounded for u32 {
    const MOST: u64 = Self::MAX as u64;
}
impl Bounded for u64 {
    const MOST: u64 = Self::MAX;
}

/// The whole number that this is exactly, if it is one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number that was checked"
)]
pub(crate) fn as_u64(number: f64) -> Option<u64> {
    const MOST: f64 = 9_007_199_254_740_992.0; // 2^53, up to which they are exact
    let is_whole = number.fract().abs() < f64::MIN_POSITIVE;
    (is_whole && (0.0..=MOST).contains(&number)).then_some(number as u64)
}

/// Reads a whole number.
pub(crate) fn whole<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<u64> + Bounded,
    D: Deserializer<'de>,
{
    Whole::deserialize(deserializer).map(|whole| whole.0)
}

/// Reads a whole number where there may be none.
pub(crate) fn whole_or_none<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<u64> + Bounded,
    D: Deserializer<'de>,
{
    let whole = Option::<Whole<T>>::deserialize(deserializer)?;
    Ok(whole.map(|whole| whole.0))
}

/// Reads a list of whole numbers where there may be none.
pub(crate) fn list_or_none<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: TryFrom<u64> + Bounded,
    D: Deserializer<'de>,
{
    let list = Option::<Vec<Whole<T>>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.into_iter().map(|whole| whole.0).collect()))
}

/// Writes a number, without decimals where it is whole.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands fields over so"
)]
pub(crate) fn shortest<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match as_u64(*number) {
        Some(whole) => serializer.serialize_u64(whole),
        None => serializer.serialize_f64(*number),
    }
}
