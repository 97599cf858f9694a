//! Reading a history: from a search directory (running, finished, or a read-only copy), from a directory that
//! `analyzer import` made, or straight from an HpBandSter log.
//!
//! Nothing is written and nothing set aside. A file that cannot be used is left out and named in
//! [`History::problems`].

use std::path::Path;

use anyhow::{Context as _, Result};
use shared::exit::{Code, Failure};
use shared::{fs, layout};

use crate::history::History;
use crate::hpbandster;

mod directory;

/// What to read beyond the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// How each configuration was found: one more file for each.
    pub origins: bool,
    /// Learning curves.
    pub curves: bool,
    /// Measures beside the loss.
    pub measures: bool,
}

impl Wanted {
    /// Everything there is.
    pub const ALL: Self = Self {
        origins: true,
        curves: true,
        measures: true,
    };
}

/// Reads whatever is at `path`, and warns of what was left out.
pub fn open(path: &Path, wanted: Wanted) -> Result<History> {
    let history = read(path, wanted)?;
    for problem in history.problems.lines() {
        tracing::warn!("{problem}");
    }
    Ok(history)
}

fn read(path: &Path, wanted: Wanted) -> Result<History> {
    let names =
        fs::list_named(path).with_context(|| format!("cannot analyse `{}`", path.display()))?;
    let has = |name: &str| names.iter().any(|n| n == name);
    if has(layout::SEARCH) {
        directory::read_search(path, wanted)
    } else if has(layout::IMPORTED) {
        directory::read_imported(path, wanted)
    } else if has(hpbandster::CONFIGS) || has(hpbandster::RESULTS) {
        hpbandster::read(path, None)
    } else {
        let expected = format!(
            "`{}` holds no search: expected `{}`, `{}`, or HpBandSter's `{}` and `{}`",
            path.display(),
            layout::SEARCH,
            layout::IMPORTED,
            hpbandster::CONFIGS,
            hpbandster::RESULTS
        );
        Err(Failure::new(Code::BadInput, expected).into())
    }
}

#[cfg(test)]
mod tests;
