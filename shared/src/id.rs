//! Names of configurations, jobs, attempts and owners; their text form is the file-name form.
//!
//! Ids are deterministic: two schedulers that run by accident give the same thing the same name and so lose a race
//! harmlessly. Parsing accepts the canonical form only, so that nothing read from a directory can name a file outside
//! of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not the canonical form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

fn wrong(text: &str, expected: &'static str) -> ParseIdError {
    ParseIdError {
        text: text.chars().take(80).collect(),
        expected,
    }
}

macro_rules! text_form {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The number of a configuration in its search, counted from 0: `c000123`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigurationId(pub u32);

impl ConfigurationId {
    /// Configurations (and what belongs to them) are kept in folders of this many.
    pub const SHARD: u32 = 1000;

    /// The number of the folder this configuration's files are in.
    pub fn shard(self) -> u32 {
        self.0 / Self::SHARD
    }

    /// The id of this configuration's job at `rung`.
    pub fn job(self, rung: u8) -> JobId {
        JobId {
            configuration: self,
            rung,
        }
    }
}

impl fmt::Display for ConfigurationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:06}", self.0)
    }
}

impl FromStr for ConfigurationId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let id = text.strip_prefix('c').and_then(digits).map(Self);
        let id = id.filter(|id| id.to_string() == text);
        id.ok_or_else(|| wrong(text, "a configuration id such as `c000123`"))
    }
}
text_form!(ConfigurationId);

/// One configuration to be evaluated at one rung's budget: `c000123-r2`. Rung 0 has the smallest budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// Which configuration.
    pub configuration: ConfigurationId,
    /// At which rung of the search's budget ladder.
    pub rung: u8,
}

impl JobId {
    /// The id of this job's `attempt`-th attempt, counted from 1.
    pub fn attempt(self, attempt: u32) -> AttemptId {
        AttemptId { job: self, attempt }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-r{}", self.configuration, self.rung)
    }
}

impl FromStr for JobId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let id = numbered(text, "-r")
            .map(|(configuration, rung): (ConfigurationId, u8)| configuration.job(rung));
        let id = id.filter(|id: &Self| id.to_string() == text);
        id.ok_or_else(|| wrong(text, "a job id such as `c000123-r2`"))
    }
}
text_form!(JobId);

/// One trainer's try at a job: `c000123-r2-a3`. Attempts are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// Which job.
    pub job: JobId,
    /// Which try.
    pub attempt: u32,
}

impl AttemptId {
    /// The try after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self {
            job: self.job,
            attempt: self.attempt.saturating_add(1),
        }
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-a{}", self.job, self.attempt)
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let id = numbered(text, "-a").map(|(job, attempt): (JobId, u32)| job.attempt(attempt));
        let id = id.filter(|id: &Self| id.attempt > 0 && id.to_string() == text);
        id.ok_or_else(|| wrong(text, "an attempt id such as `c000123-r2-a3`"))
    }
}
text_form!(AttemptId);

macro_rules! number {
    ($(#[$doc:meta])* $type:ident, $of:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub u32);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:04}", self.0)
            }
        }

        impl FromStr for $type {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let id = digits(text).map(Self);
                let id = id.filter(|id| id.0 > 0 && id.to_string() == text);
                id.ok_or_else(|| wrong(text, concat!("the number of ", $of, " such as `0001`")))
            }
        }
    };
}

number!(
    /// The number of an extension of a search, counted from 1: `0001`.
    ExtensionId,
    "an extension"
);
number!(
    /// The number of a configuration that somebody gave to a search, counted from 1: `0001`.
    GivenId,
    "a given configuration"
);
text_form!(GivenId);

/// One outcome of a job: `c000123-r2`, or, where an earlier outcome was superseded, `c000123-r2-a5` with the first attempt
/// that may give it.
///
/// Of a job's results the last in order is the one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResultId {
    /// Of which job.
    pub job: JobId,
    /// The first attempt that may give it; `None` for the job's first result.
    pub from: Option<u32>,
}

impl ResultId {
    /// The id of a job's first result, or of the one that comes after a superseded attempt's.
    pub fn of(job: JobId, superseded: Option<AttemptId>) -> Self {
        Self {
            job,
            from: superseded.map(|attempt| attempt.next().attempt),
        }
    }
}

impl From<JobId> for ResultId {
    fn from(job: JobId) -> Self {
        Self { job, from: None }
    }
}

impl fmt::Display for ResultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            None => write!(f, "{}", self.job),
            Some(from) => write!(f, "{}", self.job.attempt(from)),
        }
    }
}

impl FromStr for ResultId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if let Ok(job) = text.parse::<JobId>() {
            return Ok(job.into());
        }
        match text.parse::<AttemptId>() {
            // A first attempt takes the place of nothing.
            Ok(AttemptId { job, attempt }) if attempt > 1 => Ok(Self {
                job,
                from: Some(attempt),
            }),
            _ => Err(wrong(
                text,
                "a result id such as `c000123-r2` or `c000123-r2-a5`",
            )),
        }
    }
}

text_form!(ResultId);

/// A running process: host, process id, SLURM job and restart, and chance, so that no two ever share one.
///
/// Letters, digits, `-` and `_` only: it is part of file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(String);

impl OwnerId {
    /// Longest owner name accepted, so that every file name built from it stays below 255 bytes.
    pub(crate) const MAX_LENGTH: usize = 120;

    /// Makes an owner from its parts; characters that cannot be in a file name become `_`.
    pub fn from_parts(parts: &[&str]) -> Self {
        let text: String = parts
            .join("-")
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        // The tail holds the random part.
        let start = text.len().saturating_sub(Self::MAX_LENGTH);
        Self(text[start..].to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OwnerId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fits = !text.is_empty()
            && text.len() <= Self::MAX_LENGTH
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(wrong(text, "an owner name"))
        }
    }
}
text_form!(OwnerId);

/// A job in the hands of one process: `c000123-r2-a3.OWNER`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// Which try at which job.
    pub attempt: AttemptId,
    /// Whose.
    pub owner: OwnerId,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.attempt, self.owner)
    }
}

impl FromStr for Claim {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let expected = "a claim such as `c000123-r2-a3.host-1-x`";
        let (attempt, owner) = text.split_once('.').ok_or_else(|| wrong(text, expected))?;
        Ok(Self {
            attempt: attempt
                .parse()
                .map_err(|_lost: ParseIdError| wrong(text, expected))?,
            owner: owner
                .parse()
                .map_err(|_lost: ParseIdError| wrong(text, expected))?,
        })
    }
}
text_form!(Claim);

/// An id and a number behind a separator, in decimal digits.
fn numbered<Id: FromStr, T: FromStr>(text: &str, separator: &str) -> Option<(Id, T)> {
    let (id, number) = text.split_once(separator)?;
    Some((id.parse().ok()?, digits(number)?)) // not an id: nor is the whole
}

/// Parses decimal digits only: `u32::from_str` alone would accept `+1`.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok() // too large: not an id
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_forms_round_trip(c: u32, r: u8, a in 1u32.., owner in "[A-Za-z0-9_-]{1,120}") {
            let attempt = ConfigurationId(c).job(r).attempt(a);
            prop_assert_eq!(attempt.to_string().parse(), Ok(attempt));
            prop_assert_eq!(attempt.job.to_string().parse(), Ok(attempt.job));
            prop_assert_eq!(attempt.job.configuration.to_string().parse(), Ok(attempt.job.configuration));
            for superseded in [None, (a < u32::MAX).then_some(attempt)] {
                let result = ResultId::of(attempt.job, superseded);
                prop_assert_eq!(result.to_string().parse(), Ok(result));
            }
            let claim = Claim { attempt, owner: owner.parse().unwrap() };
            prop_assert_eq!(claim.to_string().parse(), Ok(claim));
        }

        #[test]
        fn whatever_parses_is_canonical(text in "[c]?[0-9+ ]{0,9}(-r[0-9]{1,4})?(-a[0-9]{1,3})?") {
            if let Ok(id) = text.parse::<ConfigurationId>() { prop_assert_eq!(id.to_string(), text.clone()); }
            if let Ok(id) = text.parse::<JobId>() { prop_assert_eq!(id.to_string(), text.clone()); }
            if let Ok(id) = text.parse::<ResultId>() { prop_assert_eq!(id.to_string(), text.clone()); }
            if let Ok(id) = text.parse::<AttemptId>() { prop_assert_eq!(id.to_string(), text); }
        }
    }

    #[test]
    fn names_that_leave_the_directory_are_no_ids() {
        for text in [
            "../../x",
            "/etc/passwd",
            "c000001-r0/../../x",
            "c1",
            "c000001-r00",
            "c000001-r0-a0",
            "",
        ] {
            assert!(text.parse::<ConfigurationId>().is_err(), "{text}");
            assert!(text.parse::<JobId>().is_err(), "{text}");
            assert!(text.parse::<AttemptId>().is_err(), "{text}");
        }
        for text in ["", "a.b", "a/b", "..", "a b"] {
            assert!(text.parse::<OwnerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn owners_of_odd_hosts_are_still_file_names() {
        let owner = OwnerId::from_parts(&["gpu node.å", "17", "x"]);
        assert_eq!(owner.to_string().parse(), Ok(owner.clone()));
        let long = OwnerId::from_parts(&[&"h".repeat(300), "17", "tail"]);
        assert!(long.as_str().ends_with("-17-tail") && long.as_str().len() == OwnerId::MAX_LENGTH);
    }
}
