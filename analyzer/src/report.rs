//! The report: one HTML file with everything there is to see, which needs no network, no script and no server.
//!
//! Sections are computed once and are either a page ([`page`]) or single drawings. What is drawn of very many results
//! is a sample, and each drawing says so. The same results give the same bytes.

use std::path::Path;

use anyhow::{Context as _, Result};
use shared::{Seed, fs};

use crate::correlation::{self, Pair};
use crate::history::{Evaluation, History};
use crate::importance::{self, Importance, Of};
use crate::plot::Scene;

mod agreement;
mod configurations;
pub(crate) mod curves;
mod exploration;
mod front;
mod influence;
mod page;
mod progress;

/// Width of one of several drawings side by side.
const PANEL_WIDTH: f64 = 350.0;
/// Height of one of several drawings side by side.
const PANEL_HEIGHT: f64 = 250.0;
/// Width of a drawing that takes a whole row.
const WIDE: f64 = 1100.0;
/// Budgets for which importance is computed: the largest ones that have enough losses.
const MOST_IMPORTANCES: usize = 3;
/// Importance in a report is of at most this many losses, so that a report takes seconds.
const MOST_LOSSES: usize = 2500;

/// A part of the report.
#[derive(Debug, Default)]
pub struct Section {
    /// Its anchor, and the beginning of its drawings' file names.
    pub id: &'static str,
    /// Its heading.
    pub title: String,
    /// What is said before the drawings, a paragraph each.
    pub text: Vec<String>,
    /// The drawings.
    pub figures: Vec<Scene>,
    /// A table in HTML, already escaped.
    pub table: Option<String>,
    /// Whether the drawings take a whole row each.
    pub is_wide: bool,
}

impl Section {
    fn new(id: &'static str, title: impl Into<String>) -> Self {
        Self {
            id,
            title: title.into(),
            ..Self::default()
        }
    }

    fn say(mut self, text: impl Into<String>) -> Self {
        self.text.push(text.into());
        self
    }
}

/// What several sections need.
struct Facts<'a> {
    history: &'a History,
    pairs: Vec<Pair>,
    pair_settings: correlation::Settings<'a>,
    importances: Vec<Importance>,
    /// Why there is no importance at some budgets.
    no_importance: Vec<String>,
    seed: Seed,
}

impl<'a> Facts<'a> {
    fn new(history: &'a History, seed: Seed) -> Self {
        let pair_settings = correlation::Settings {
            seed,
            ..correlation::Settings::default()
        };
        let mut facts = Self {
            history,
            pairs: correlation::pairs(history, &pair_settings),
            pair_settings,
            importances: Vec::new(),
            no_importance: Vec::new(),
            seed,
        };
        let settings = importance::Settings {
            of: if spans_magnitudes(history) {
                Of::Ranks
            } else {
                Of::Losses
            },
            most_losses: MOST_LOSSES,
            seed,
            ..importance::Settings::default()
        };
        for budget in (0..history.budgets.len()).rev() {
            if facts.importances.len() == MOST_IMPORTANCES {
                break;
            }
            match importance::importance(history, budget, &settings) {
                Ok(importance) => facts.importances.push(importance),
                Err(reason) => facts.no_importance.push(reason),
            }
        }
        facts.no_importance.dedup();
        facts.no_importance.truncate(5);
        facts
    }
}

/// Whether the losses span so many orders of magnitude that their variance would be that of a few outliers.
fn spans_magnitudes(history: &History) -> bool {
    const FACTOR: f64 = 1000.0;
    let losses = || history.results.iter().filter_map(Evaluation::loss);
    let low = losses().fold(f64::INFINITY, f64::min);
    let high = losses().fold(f64::NEG_INFINITY, f64::max);
    low > 0.0 && high / low > FACTOR
}

/// Computes all sections of a report.
pub fn sections(history: &History, seed: Seed) -> Vec<Section> {
    let facts = Facts::new(history, seed);
    let mut sections = vec![configurations::best(&facts)];
    sections.extend(front::section(&facts));
    sections.extend([
        agreement::section(&facts),
        progress::trajectory(&facts),
        progress::timeline(&facts),
        configurations::parallel(&facts),
        progress::whatif(&facts),
        influence::importance(&facts),
        influence::marginals(&facts),
        exploration::map(&facts),
        exploration::coverage(&facts),
        configurations::origins(&facts),
        curves::section(history, seed),
        configurations::failures(&facts),
    ]);
    sections
}

/// Writes the report.
pub fn write(history: &History, sections: &[Section], out: &Path) -> Result<()> {
    let html = page::html(history, sections);
    fs::replace(out, html.as_bytes()).context("cannot write the report")
}

/// Writes every drawing as a file of its own, and returns how many.
pub(crate) fn write_drawings(
    sections: &[Section],
    folder: &Path,
    extension: &str,
    encode: impl Fn(&Scene) -> Result<Vec<u8>>,
) -> Result<usize> {
    let mut num = 0;
    for section in sections {
        for (index, scene) in section.figures.iter().enumerate() {
            let name = format!("{}-{:02}.{extension}", section.id, index + 1);
            fs::replace(&folder.join(name), &encode(scene)?)?;
            num += 1;
        }
    }
    Ok(num)
}

/// At most `most` of the items, drawn at random and in their old order; and words on that, if some were left out.
fn sampled<T>(items: Vec<T>, most: usize, noun: &str, seed: Seed) -> (Vec<T>, Option<String>) {
    use rand::seq::IteratorRandom as _;
    let num = items.len();
    if num <= most {
        return (items, None);
    }
    let mut drawn: Vec<(usize, T)> = items
        .into_iter()
        .enumerate()
        .sample(&mut seed.child("sample", noun).rng(), most);
    drawn.sort_by_key(|(index, _)| *index);
    let note = format!(
        "{} of {} {noun} are drawn, chosen at random.",
        crate::wording::thousands(most),
        crate::wording::thousands(num)
    );
    (
        drawn.into_iter().map(|(_, item)| item).collect(),
        Some(note),
    )
}

#[cfg(test)]
mod tests;
