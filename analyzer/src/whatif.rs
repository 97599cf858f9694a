//! What another ladder of budgets would have cost and found, from a search's own results and learning curves.
//!
//! The configurations of the search, in its order, go through brackets of successive halving on each ladder: eta^(rungs − 1)
//! of them (the last bracket has what is left) begin at the lowest budget, and one in eta is promoted each time. The largest
//! budget stays. The ladder that the search had goes through the same, so that ladders are compared and not methods.
//!
//! A loss at a budget is, in this order: the result of a job with that budget; the learning curve of a longer job, between
//! its two nearest points; else filled in: the configuration's own loss at the nearest budget where there is
//! one, changed as one of the five configurations changed whose losses there are the nearest, of those that have both. Where
//! fewer than three have both, budgets in between that were filled in serve as steps.
//!
//! Intervals are percentiles over resamples. Each draws the configurations with replacement, keeps their order, and fills
//! in anew, with changes of configurations that it has drawn. What a model would have proposed on another ladder is not
//! known: the configurations are those that were tried. Resamples in which the search's own ladder finds no loss do not count.

mod resampling;
mod words;

pub(crate) use words::{caveat, full_table, short_table, verdict};

use rayon::prelude::*;
use shared::budget::BudgetSettings;
use shared::search::Promotion;
use shared::{BudgetUnit, Search, Seed};

use crate::history::{History, position_of};
use crate::wording::{count, significant};

use resampling::{Grid, Run};

/// Resamples, unless told otherwise or there are very many configurations.
const RESAMPLES: u32 = 400;
/// Configurations drawn for all resamples together, unless told otherwise: of more than 1,250 there are fewer resamples.
const MOST_DRAWS: usize = 500_000;
/// Resamples at least: fewer have no 95 % interval.
const FEWEST_RESAMPLES: u32 = 40;
/// Etas that are tried, beside the search's own.
const ETAS: [f64; 3] = [2.0, 3.0, 4.0];
/// Ladders have at most so many rungs.
const MOST_RUNGS: u8 = 8;
/// Configurations that a search must have for an answer.
const FEWEST: usize = 10;

/// A ladder of budgets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ladder {
    /// Factor between its budgets; one in so many configurations is promoted.
    pub(crate) eta: f64,
    /// Its budgets, ascending; the last is the search's largest.
    pub(crate) budgets: Vec<f64>,
    /// `min` of a search file that has it; less than its lowest budget where that is rounded up.
    pub(crate) min: f64,
}

impl Ladder {
    /// That of a search, as far as its method uses it.
    fn own(search: &Search) -> Self {
        let ladder = &search.ladder;
        let lowest = if search.method.has_one_budget() {
            ladder.top()
        } else {
            0
        };
        Self::of(ladder, ladder.eta(), lowest, ladder.budget(lowest).amount)
    }

    /// The one with another eta and so many rungs that ends at the same budget; its budgets are whole where the own ones are.
    /// `None` where a search file cannot have it: rounding would make two rungs one, or a step less than one.
    fn beside(&self, unit: BudgetUnit, eta: f64, num_rungs: u8) -> Option<Self> {
        let exact = self.lowest_of(eta, num_rungs);
        let is_whole = !unit.is_time() && self.budgets.iter().all(|b| b.fract().abs() < 1e-9);
        let is_rounded = unit == BudgetUnit::Steps || (is_whole && exact >= 1.0);
        let min = if is_rounded {
            (exact * (1.0 + 1e-9)).floor()
        } else {
            exact
        };
        let settings = BudgetSettings {
            unit,
            min,
            max: self.top(),
            eta,
        };
        let ladder = shared::Ladder::new(settings, is_whole).ok()?;
        (ladder.num_rungs() == num_rungs).then(|| Self::of(&ladder, eta, 0, min))
    }

    fn of(ladder: &shared::Ladder, eta: f64, lowest: u8, min: f64) -> Self {
        let rungs = lowest..ladder.num_rungs();
        Self {
            eta,
            budgets: rungs.map(|rung| ladder.budget(rung).amount).collect(),
            min,
        }
    }

    fn top(&self) -> f64 {
        self.budgets.last().copied().unwrap_or_default()
    }

    /// The lowest budget of a ladder with another eta and so many rungs, before it is rounded.
    fn lowest_of(&self, eta: f64, num_rungs: u8) -> f64 {
        self.top() / eta.powi(i32::from(num_rungs) - 1)
    }
}

/// A quantity over resamples: median and 95 % interval. Infinite where it is never reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The lower end.
    pub(crate) low: f64,
    /// The upper end.
    pub(crate) high: f64,
}

/// What a ladder would have cost and found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forecast {
    /// The ladder.
    pub(crate) ladder: Ladder,
    /// Whether it is the search's own.
    pub(crate) is_own: bool,
    /// Budget spent on all configurations, as a share of what the search's own ladder takes.
    pub(crate) cost: f64,
    /// Lowest loss found at the largest budget.
    pub(crate) loss: Spread,
    /// Share of the resamples in which it is at most what the search's own ladder finds.
    pub(crate) as_good: f64,
    /// Budget spent until it is, as a share of what the search's own ladder spends until then.
    pub(crate) until: Spread,
}

/// Why there is no answer, in words.
pub(crate) type NoAnswer = String;

/// What other ladders would have cost and found; the search's own comes first, then by eta and number of rungs. With
/// `eta`, of the others those only; without `resamples`, as many as are usual. Beside them, why some ladders are missing, if
/// any are.
pub(crate) fn forecasts(
    history: &History,
    eta: Option<f64>,
    resamples: Option<u32>,
    seed: Seed,
) -> Result<(Vec<Forecast>, Option<NoAnswer>), NoAnswer> {
    let search = history
        .search
        .as_ref()
        .ok_or("another program's log does not say what its ladder was")?;
    let num = history.configurations.len();
    if num < FEWEST {
        return Err(format!(
            "{} tried, at least {FEWEST} are needed",
            count(num, "configuration")
        ));
    }
    let own = Ladder::own(search);
    let grid = Grid::new(history, ladders(history, &own, search.ladder.unit(), eta));
    let (possible, missing): (Vec<_>, Vec<_>) = grid
        .ladders
        .iter()
        .map(|ladder| (ladder, grid.gap(&ladder.budgets)))
        .partition(|(_, gap)| gap.is_none());
    let possible: Vec<&Ladder> = possible.into_iter().map(|(ladder, _)| ladder).collect();
    if let Some((_, Some(gap))) = missing.first().filter(|(ladder, _)| **ladder == own) {
        return Err(too_little_in_words(history, &grid, *gap));
    }
    let missing = missing_in_words(history, &grid, &missing);
    if possible.len() == 1 {
        return Err(missing.unwrap_or_else(|| "there is no other ladder in reach".into()));
    }
    let continues = search.promotion == Promotion::Continue;
    let runs = (0..resamples.unwrap_or_else(|| usual_resamples(num)))
        .into_par_iter()
        .map(|number| {
            let sample = grid.sample(seed.child("whatif", number));
            let run = |ladder: &&Ladder| grid.run(ladder, &sample, continues);
            possible.iter().map(run).collect()
        });
    let has_loss = |run: &Vec<Run>| run[0].loss.is_finite();
    let runs: Vec<Vec<Run>> = runs.filter(has_loss).collect();
    if runs.is_empty() {
        return Err(format!(
            "no configuration has a loss at {}, the largest budget",
            history.amount_phrase(own.top())
        ));
    }
    let forecasts = possible.iter().enumerate().map(|(index, ladder)| {
        let pairs = runs.iter().map(|run| (&run[0], &run[index]));
        forecast(ladder, index == 0, pairs)
    });
    Ok((forecasts.collect(), missing))
}

/// How many resamples of so many configurations there are, unless told otherwise.
fn usual_resamples(num: usize) -> u32 {
    let most = u32::try_from(MOST_DRAWS / num).unwrap_or(u32::MAX); // of very few configurations
    most.clamp(FEWEST_RESAMPLES, RESAMPLES)
}

/// Why nothing can be said of the search's own ladder, one of whose budgets has a gap.
fn too_little_in_words(history: &History, grid: &Grid, gap: usize) -> NoAnswer {
    let at = history.amount_phrase(grid.budgets[gap]);
    format!(
        "only {} a loss both at {at} and at another budget of the search, at least {} are needed: more brackets would give \
         them (`scheduler extend DIR --brackets N`)",
        match grid.most_pairs(gap) {
            1 => "1 configuration has".to_owned(),
            num => format!("{num} configurations have"),
        },
        resampling::FEWEST_PAIRS
    )
}

/// Why some ladders are left out, each with the budget at which too little is known.
fn missing_in_words(
    history: &History,
    grid: &Grid,
    missing: &[(&Ladder, Option<usize>)],
) -> Option<NoAnswer> {
    let mut gaps: Vec<usize> = missing.iter().filter_map(|(_, gap)| *gap).collect();
    gaps.sort_unstable();
    gaps.dedup();
    let gaps: Vec<String> = gaps
        .into_iter()
        .map(|gap| significant(grid.budgets[gap], 4))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "left out {}, since too little is known of losses at budgets of {} {}",
            count(missing.len(), "ladder"),
            gaps.join(", "),
            history.unit_name()
        )
    })
}

/// The search's own ladder, and the others that end at the same budget and do not begin below what is known.
fn ladders(history: &History, own: &Ladder, unit: BudgetUnit, eta: Option<f64>) -> Vec<Ladder> {
    let mut all = vec![own.clone()];
    let etas: Vec<f64> = match eta {
        Some(eta) => vec![eta],
        None => [own.eta].into_iter().chain(ETAS).collect(),
    };
    for eta in etas {
        let least = if own.budgets.len() == 1 {
            lowest_on_curves(history)
        } else {
            // Two rungs below the search's own are no question that its results can answer.
            own.budgets[0] / eta
        };
        let is_in_reach = |num_rungs: &u8| own.lowest_of(eta, *num_rungs) >= least * (1.0 - 1e-9);
        for num_rungs in (1..=MOST_RUNGS).take_while(is_in_reach) {
            let Some(ladder) = own.beside(unit, eta, num_rungs) else {
                continue;
            };
            let is_same = |other: &Ladder| {
                other.budgets.len() == ladder.budgets.len()
                    && ((other.eta - eta).abs() < 1e-9 || num_rungs == 1)
                    && position_of(&other.budgets, ladder.budgets[0]) == Some(0)
            };
            if !all.iter().any(is_same) {
                all.push(ladder);
            }
        }
    }
    let by_eta = |a: &Ladder, b: &Ladder| a.eta.total_cmp(&b.eta);
    all[1..].sort_by(|a, b| by_eta(a, b).then(a.budgets.len().cmp(&b.budgets.len())));
    all
}

/// The smallest budget at which any learning curve has a loss; infinite where none has.
fn lowest_on_curves(history: &History) -> f64 {
    let points = history.results.iter().flat_map(|result| &result.curve);
    let told = points.filter(|point| point.loss.is_some());
    told.map(|point| point.spent).fold(f64::INFINITY, f64::min)
}

/// So many configurations: at least one, and never one more for a rounding error.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and saturating"
)]
fn whole(number: f64) -> usize {
    (number + 1e-9).floor().max(1.0) as usize
}

fn forecast<'a>(
    ladder: &Ladder,
    is_own: bool,
    runs: impl Iterator<Item = (&'a Run, &'a Run)> + Clone,
) -> Forecast {
    let until = |(own, run): (&Run, &Run)| {
        let reached = |run: &Run| {
            let step = run.steps.iter().find(|(_, best)| *best <= own.loss);
            step.map_or(f64::INFINITY, |(cost, _)| *cost)
        };
        reached(run) / reached(own)
    };
    let as_good = runs.clone().filter(|(own, run)| run.loss <= own.loss);
    let num = runs.clone().count() as f64;
    Forecast {
        ladder: ladder.clone(),
        is_own,
        cost: runs
            .clone()
            .map(|(own, run)| run.cost / own.cost)
            .sum::<f64>()
            / num,
        loss: Spread::of(runs.clone().map(|(_, run)| run.loss)),
        as_good: as_good.count() as f64 / num,
        until: Spread::of(runs.map(until)),
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values
            .map(|x| if x.is_nan() { f64::INFINITY } else { x })
            .collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = sorted.len().saturating_sub(1);
            let index = (0..=last).find(|index| *index as f64 >= share * last as f64 - 1e-9);
            index
                .and_then(|index| sorted.get(index))
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            median: at(0.5),
            low: at(0.025),
            high: at(0.975),
        }
    }
}

#[cfg(test)]
mod tests;
