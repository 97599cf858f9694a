//! How well rankings at one budget predict those at another: Spearman's rho and Kendall's tau-b for every pair of
//! budgets, with n, p, a bootstrap interval, the overlap of the best thirds, regret, and a verdict in words.
//!
//! Only configurations evaluated at both budgets can be compared, and a search evaluates at larger budgets what did
//! well at smaller ones. This selection narrows the range of losses at the smaller budget and so usually lowers the
//! correlation. [`crate::extra`] has a way to a table without it.

use std::collections::BTreeSet;

use shared::{ConfigurationId, Seed};

use crate::history::{Evaluation, History};
use crate::statistics::{self, PValue};
use crate::table::{Cell, Table};
use crate::wording::{self, count, fixed, p_value, put, significant};

/// Pairs are formed among at most this many budgets: those with the most losses.
pub(crate) const MOST_BUDGETS: usize = 24;
/// Resamples of the bootstrap, unless the user says otherwise.
pub(crate) const RESAMPLES: u32 = 2000;
/// Draws of one bootstrap, all resamples together; very many pairs get fewer resamples, so that they take no longer.
const MOST_DRAWS: usize = 2_000_000;
/// The fewest resamples that give an interval.
const LEAST_RESAMPLES: u32 = 200;
/// A p value from here on is no evidence of a correlation.
const SIGNIFICANT: f64 = 0.05;

/// A pair of budgets and how the losses of the configurations that have both go together.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Index of the smaller budget in the history.
    pub lower: usize,
    /// Index of the larger one.
    pub upper: usize,
    /// Losses at the smaller and at the larger budget, one entry a configuration, in the order of ids.
    pub losses: Vec<(f64, f64)>,
    /// What can be said of them; `None` below 3 configurations or where one side is constant.
    pub agreement: Option<Agreement>,
    /// Of the best k at the smaller budget, how many are among the best k at the larger.
    pub overlap: Option<Overlap>,
    /// Loss given up at the larger budget by picking the best at the smaller: its loss less the best loss there is.
    /// Several equal best ones at the smaller budget: the mean over them.
    pub regret: Option<f64>,
}

/// Rank correlations of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Spearman's rho.
    pub rho: f64,
    /// Its two-sided p.
    pub(crate) rho_p: PValue,
    /// Its 95 % bootstrap interval; `None` where most resamples have a constant side.
    pub interval: Option<(f64, f64)>,
    /// Kendall's tau-b.
    pub tau: f64,
    /// Its two-sided p.
    pub(crate) tau_p: PValue,
}

/// How many of the best third at one budget are among the best third at the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// Size of a third, rounded up.
    pub k: usize,
    /// How many are in both; with ties at the border, the expected number if they are broken by chance.
    pub in_both: f64,
}

impl Pair {
    /// How many configurations have a loss at both budgets.
    pub fn n(&self) -> usize {
        self.losses.len()
    }
}

/// How the pairs are computed.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Resamples of the bootstrap; fewer are taken of very many pairs, but 200 at least.
    pub resamples: u32,
    /// Drives the bootstrap.
    pub seed: Seed,
    /// Compare these configurations only.
    pub among: Option<&'a BTreeSet<ConfigurationId>>,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self {
            resamples: RESAMPLES,
            seed: Seed::new(0),
            among: None,
        }
    }
}

/// All pairs of a history's budgets, by smaller, then larger budget.
pub fn pairs(history: &History, settings: &Settings<'_>) -> Vec<Pair> {
    let losses = history.losses();
    let budgets = compared_budgets(history);
    let mut pairs = Vec::new();
    for (index, &lower) in budgets.iter().enumerate() {
        for &upper in &budgets[index + 1..] {
            let rows = history.configurations.iter().zip(&losses);
            let both = rows
                .filter(|(tried, _)| settings.among.is_none_or(|among| among.contains(&tried.id)))
                .filter_map(|(_, row)| Some((row[lower]?, row[upper]?)));
            pairs.push(pair(lower, upper, both.collect(), settings));
        }
    }
    pairs
}

/// The budgets that pairs are formed of, ascending.
fn compared_budgets(history: &History) -> Vec<usize> {
    let mut num_losses = vec![0_usize; history.budgets.len()];
    for (budget, _) in history.results.iter().flat_map(Evaluation::all_losses) {
        num_losses[budget] += 1;
    }
    let mut budgets: Vec<usize> = (0..num_losses.len()).collect();
    budgets.sort_by_key(|&budget| std::cmp::Reverse(num_losses[budget]));
    budgets.truncate(MOST_BUDGETS);
    budgets.sort_unstable();
    budgets
}

fn pair(lower: usize, upper: usize, losses: Vec<(f64, f64)>, settings: &Settings<'_>) -> Pair {
    let (x, y): (Vec<f64>, Vec<f64>) = losses.iter().copied().unzip();
    Pair {
        lower,
        upper,
        agreement: agreement(&x, &y, settings, format!("{lower}-{upper}")),
        overlap: overlap(&x, &y),
        regret: regret(&losses),
        losses,
    }
}

fn agreement(x: &[f64], y: &[f64], settings: &Settings<'_>, id: String) -> Option<Agreement> {
    let rho = statistics::spearman(x, y)?;
    let seed = settings.seed.child("pair", id);
    let (tau, tau_p) = statistics::kendall(x, y)?;
    Some(Agreement {
        rho,
        rho_p: statistics::spearman_p(x, y)?,
        interval: statistics::spearman_interval(x, y, resamples(x.len(), settings), seed),
        tau,
        tau_p,
    })
}

/// How often `n` pairs are drawn anew.
fn resamples(n: usize, settings: &Settings<'_>) -> u32 {
    let affordable = u32::try_from(MOST_DRAWS / n.max(1)).unwrap_or(u32::MAX); // more than anybody asks for
    settings.resamples.min(affordable.max(LEAST_RESAMPLES))
}

/// The overlap of the best thirds; `None` without pairs.
///
/// A configuration tied at the border of the best k belongs to them with the share of the tied ones that fit in, and
/// the overlap is the sum over configurations of the product of both shares: the mean over all ways to break ties.
fn overlap(x: &[f64], y: &[f64]) -> Option<Overlap> {
    if x.is_empty() {
        return None;
    }
    let k = x.len().div_ceil(3);
    let (x, y) = (shares_in_best(x, k), shares_in_best(y, k));
    Some(Overlap {
        k,
        in_both: x.iter().zip(&y).map(|(a, b)| a * b).sum(),
    })
}

fn shares_in_best(values: &[f64], k: usize) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let border = sorted[k - 1];
    let better = sorted.partition_point(|value| *value < border);
    let tied = sorted.partition_point(|value| *value <= border) - better;
    let share = (k - better) as f64 / tied as f64;
    values
        .iter()
        .map(|value| match value.partial_cmp(&border) {
            Some(std::cmp::Ordering::Less) => 1.0,
            Some(std::cmp::Ordering::Equal) => share,
            _ => 0.0,
        })
        .collect()
}

fn regret(losses: &[(f64, f64)]) -> Option<f64> {
    let best_lower = losses.iter().map(|pair| pair.0).min_by(f64::total_cmp)?;
    let best_upper = losses.iter().map(|pair| pair.1).min_by(f64::total_cmp)?;
    let picked = losses.iter().filter(|pair| pair.0 <= best_lower);
    let picked: Vec<f64> = picked.map(|pair| pair.1).collect();
    // Neither a sum nor a difference of finite losses need be finite.
    let number = picked.len() as f64;
    let mean = picked.iter().map(|loss| loss / number).sum::<f64>();
    Some((mean - best_upper).clamp(0.0, f64::MAX))
}

/// How a pair is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Fewer than 3 configurations at both.
    TooFew,
    /// All losses of one side are equal.
    Constant,
    /// The correlation may be chance.
    Nothing,
    /// Better at the smaller budget is worse at the larger.
    Reversed,
    /// rho below 0.5.
    Weak,
    /// rho from 0.5 to 0.8.
    Moderate,
    /// rho of 0.8 or more.
    Strong,
}

/// Judges a pair. Chance counts as excluded where p < 0.05; the steps 0.5 and 0.8 are conventions.
pub fn judge(pair: &Pair) -> Judgement {
    match &pair.agreement {
        None if pair.n() < 3 => Judgement::TooFew,
        None => Judgement::Constant,
        Some(agreement) if agreement.rho_p.p >= SIGNIFICANT => Judgement::Nothing,
        Some(agreement) if agreement.rho < 0.0 => Judgement::Reversed,
        Some(agreement) if agreement.rho < 0.5 => Judgement::Weak,
        Some(agreement) if agreement.rho < 0.8 => Judgement::Moderate,
        Some(_) => Judgement::Strong,
    }
}

/// The verdict on a pair, in words.
pub fn verdict(history: &History, pair: &Pair) -> String {
    let (lower, upper) = (
        history.budget_phrase(pair.lower),
        history.budget_phrase(pair.upper),
    );
    let n = pair.n();
    let rho = pair
        .agreement
        .map_or_else(String::new, |a| format!("rho {}, n {n}", fixed(a.rho, 2)));
    match judge(pair) {
        Judgement::TooFew => {
            format!("{lower} to {upper}: nothing can be said yet (n {n}; at least 3 are needed)")
        }
        Judgement::Constant => {
            let is_constant = |side: fn(&(f64, f64)) -> f64| {
                let mut values = pair.losses.iter().map(side);
                let first = values.next().unwrap_or(0.0);
                values.all(|value| value.total_cmp(&first).is_eq())
            };
            let side = if is_constant(|pair| pair.0) {
                &lower
            } else {
                &upper
            };
            format!(
                "{lower} to {upper}: all losses at {side} are equal, so there is no ranking (n {n})"
            )
        }
        Judgement::Nothing if n < 10 => {
            let how = if history.search.is_some() {
                " (--extra)"
            } else {
                ""
            };
            format!(
                "rankings at {lower} say nothing certain about {upper} ({rho}): too few to tell; \
                 evaluate more configurations at both{how}"
            )
        }
        Judgement::Nothing => format!(
            "rankings at {lower} say nothing about {upper} ({rho}): raise the smallest budget or lower eta"
        ),
        Judgement::Reversed => format!(
            "rankings at {lower} are the reverse of those at {upper} ({rho}): what is promoted there \
             is the wrong half; raise the smallest budget"
        ),
        Judgement::Weak => format!(
            "rankings at {lower} say little about {upper} ({rho}): promote more of them (lower eta), \
             or go by way of a budget between"
        ),
        Judgement::Moderate => {
            format!("rankings at {lower} are a fair guide to {upper} ({rho})")
        }
        Judgement::Strong => format!("rankings at {lower} stand in well for {upper} ({rho})"),
    }
}

/// What must be known to read the table: the selection effect, and how p and intervals were had.
pub fn caveat(history: &History, pairs: &[Pair], settings: &Settings<'_>) -> String {
    let selection = if settings.among.is_some() {
        "Only the configurations of the given list are compared.".to_owned()
    } else if is_everything_everywhere(history) {
        "Every configuration has a result at every budget, so nothing was selected.".to_owned()
    } else {
        let is_checked = |result: &Evaluation| !result.checks.is_empty();
        let (known, fate) = if history.results.iter().any(is_checked) {
            ("whose loss is known", "not to be stopped")
        } else {
            ("evaluated", "to be promoted")
        };
        format!(
            "Only configurations {known} at both budgets are compared: those that did well enough {fate}. \
             This selection usually lowers rho; correlation --extra N makes jobs for a table without it."
        )
    };
    if pairs.iter().all(|pair| pair.agreement.is_none()) {
        return selection;
    }
    let fewest = pairs.iter().map(|pair| resamples(pair.n(), settings)).min();
    let fewer = match fewest {
        Some(fewest) if fewest < settings.resamples => {
            format!(" (as few as {fewest} for the largest n)")
        }
        _ => String::new(),
    };
    format!(
        "{selection} p is two-sided, exact for small n (up to 9), else by Student's t; the interval is a \
         95 % percentile bootstrap with {} resamples{fewer}.",
        wording::thousands(settings.resamples as usize)
    )
}

/// Whether no configuration was left behind at a smaller budget.
fn is_everything_everywhere(history: &History) -> bool {
    let told = |result: &Evaluation| result.checks.len() + usize::from(!result.was_stopped());
    let num: usize = history.results.iter().map(told).sum();
    num == history.configurations.len() * history.budgets.len()
}

/// The table for programs: full precision, one row a pair.
///
/// Columns: `lower`, `upper` (budgets in the search's unit), `n`, `rho`, `rho_low`, `rho_high` (95 % bootstrap),
/// `rho_p`, `rho_p_method` (`exact`, `t`), `tau`, `tau_p`, `tau_p_method` (`exact`, `normal`), `top_k`, `top_overlap`,
/// `regret`, `verdict`. What does not exist is `-` in CSV and `null` in JSON.
pub fn full_table(history: &History, pairs: &[Pair]) -> Table {
    let mut table = Table::new(&[
        "lower",
        "upper",
        "n",
        "rho",
        "rho_low",
        "rho_high",
        "rho_p",
        "rho_p_method",
        "tau",
        "tau_p",
        "tau_p_method",
        "top_k",
        "top_overlap",
        "regret",
        "verdict",
    ]);
    for pair in pairs {
        let agreement = pair.agreement.as_ref();
        let number = |value: fn(&Agreement) -> f64| Cell::number(agreement.map(value));
        let word = |value: fn(&Agreement) -> PValue| {
            agreement.map_or(Cell::Missing, |a| Cell::text(value(a).method.as_str()))
        };
        let interval = agreement.and_then(|a| a.interval);
        table.push(vec![
            Cell::Number(history.budgets[pair.lower]),
            Cell::Number(history.budgets[pair.upper]),
            Cell::Count(pair.n()),
            number(|a| a.rho),
            Cell::number(interval.map(|(low, _)| low)),
            Cell::number(interval.map(|(_, high)| high)),
            number(|a| a.rho_p.p),
            word(|a| a.rho_p),
            number(|a| a.tau),
            number(|a| a.tau_p.p),
            word(|a| a.tau_p),
            pair.overlap.map_or(Cell::Missing, |o| Cell::Count(o.k)),
            Cell::number(pair.overlap.map(|o| o.in_both)),
            Cell::number(pair.regret),
            Cell::text(verdict(history, pair)),
        ]);
    }
    table
}

/// The table for people: rounded, one row a pair, narrow enough for a terminal of 80 columns.
pub fn short_table(history: &History, pairs: &[Pair]) -> Table {
    let mut table = Table::new(&[
        "budget",
        "to",
        "n",
        "rho",
        "95 % interval",
        "p",
        "tau",
        "best third",
        "regret",
    ]);
    for pair in pairs {
        let agreement = pair.agreement.as_ref();
        let rounded = |value: fn(&Agreement) -> f64| {
            Cell::rounded(agreement.map(value), |number| fixed(number, 2))
        };
        let interval = agreement.and_then(|a| a.interval);
        let interval = interval.map_or(Cell::Missing, |(low, high)| {
            Cell::Rounded(format!("{} to {}", fixed(low, 2), fixed(high, 2)))
        });
        let overlap = |o: Overlap| {
            let in_both = fixed(o.in_both, usize::from(o.in_both.fract() > 0.05));
            Cell::Rounded(format!("{in_both} of {}", o.k))
        };
        table.push(vec![
            Cell::Rounded(history.budget_name(pair.lower)),
            Cell::Rounded(history.budget_name(pair.upper)),
            Cell::Count(pair.n()),
            rounded(|a| a.rho),
            interval,
            Cell::rounded(agreement.map(|a| a.rho_p.p), p_value),
            rounded(|a| a.tau),
            pair.overlap.map_or(Cell::Missing, overlap),
            Cell::rounded(pair.regret, |regret| significant(regret, 3)),
        ]);
    }
    table
}

/// A line on what the losses are of: how many results, and how many were not compared because they have no loss.
pub fn summary(history: &History) -> String {
    let num_losses = history.results.iter().filter(|r| r.loss().is_some());
    let num_losses = num_losses.count();
    let without = history.results.len() - num_losses;
    let mut text = format!(
        "{}: {} of {}",
        wording::one_line(&history.name),
        count(num_losses, "loss").replace("losss", "losses"),
        count(history.configurations.len(), "configuration"),
    );
    if without > 0 {
        let outcomes = history.outcomes();
        let parts = outcomes
            .iter()
            .filter(|(word, _)| **word != "evaluated")
            .map(|(word, number)| format!("{number} {}", word.replace('_', " ")));
        put(
            &mut text,
            format_args!("; no loss: {}", parts.collect::<Vec<_>>().join(", ")),
        );
    }
    text
}

#[cfg(test)]
mod tests;
