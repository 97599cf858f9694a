//! What another ladder of budgets would have cost and found, from a search's own results and learning curves.
//!
//! The configurations of the search, in its order, go through brackets of successive halving on each ladder: eta^(rungs − 1)
//! of them (the last bracket has what is left) begin at the lowest budget, and one in eta is promoted each time. The largest
//! budget stays. The ladder that the search had goes through the same, so that ladders are compared and not methods.
//!
//! A loss at a budget is, in this order: the result of a job with that budget; the learning curve of a longer job, between
//! its two nearest points; else filled in: the configuration's own loss at the nearest budget where there is
//! one, changed as one of the five configurations changed whose losses there are the nearest, of those that have both.
//!
//! Intervals are percentiles over resamples. Each draws the configurations with replacement, keeps their order, and fills
//! in anew, with changes of configurations that it has drawn. What a model would have proposed on another ladder is not
//! known: the configurations are those that were tried.

use std::collections::BTreeMap;

use rand::{Rng, RngExt as _};
use rayon::prelude::*;
use shared::Seed;
use shared::search::Promotion;

use crate::history::{Evaluation, History, position_of};
use crate::table::{Cell, Table};
use crate::wording::{count, fixed, significant};

/// Resamples, unless told otherwise.
pub(crate) const RESAMPLES: u32 = 400;
/// Etas that are tried, beside the search's own.
const ETAS: [f64; 3] = [2.0, 3.0, 4.0];
/// Ladders have at most so many rungs.
const MOST_RUNGS: u32 = 8;
/// Configurations that must have losses at two budgets for one to be filled in from the other.
const FEWEST_PAIRS: usize = 3;
/// Of so many configurations with the nearest losses there, one lends its change.
const DONORS: usize = 5;
/// Configurations that a search must have for an answer.
const FEWEST: usize = 10;
/// A ladder finds as good an incumbent where it does in at least this share of the resamples.
const RELIABLE: f64 = 0.8;
/// A ladder is cheaper where it needs at most this share of the training.
const CHEAPER: f64 = 0.9;

/// A ladder of budgets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ladder {
    /// Factor between its budgets; one in so many configurations is promoted.
    pub(crate) eta: f64,
    /// Its budgets, ascending; the last is the search's largest.
    pub(crate) budgets: Vec<f64>,
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
/// `eta`, of the others those only. Beside them, why some ladders are missing, if any are.
pub(crate) fn forecasts(
    history: &History,
    eta: Option<f64>,
    resamples: u32,
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
    let own = Ladder {
        eta: search.ladder.eta(),
        budgets: (0..search.ladder.num_rungs())
            .map(|rung| search.ladder.budget(rung).amount)
            .collect(),
    };
    let grid = Grid::new(history, ladders(&own, eta));
    let (possible, missing): (Vec<_>, Vec<_>) = grid
        .ladders
        .iter()
        .map(|ladder| (ladder, grid.gap(&ladder.budgets)))
        .partition(|(_, gap)| gap.is_none());
    let possible: Vec<&Ladder> = possible.into_iter().map(|(ladder, _)| ladder).collect();
    if possible.first() != Some(&&grid.ladders[0]) {
        return Err("too few configurations have losses at several budgets of the search".into());
    }
    let continues = search.promotion == Promotion::Continue;
    let runs: Vec<Vec<Run>> = (0..resamples)
        .into_par_iter()
        .map(|number| {
            let sample = grid.sample(seed.child("whatif", number));
            let run = |ladder: &&Ladder| grid.run(ladder, &sample, continues);
            possible.iter().map(run).collect()
        })
        .collect();
    let forecasts = possible.iter().enumerate().map(|(index, ladder)| {
        let pairs = runs.iter().map(|run| (&run[0], &run[index]));
        forecast(ladder, index == 0, pairs)
    });
    let missing = missing_in_words(history, &grid, &missing);
    Ok((forecasts.collect(), missing))
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
fn ladders(own: &Ladder, eta: Option<f64>) -> Vec<Ladder> {
    let top = own.budgets.last().copied().unwrap_or_default();
    let mut all = vec![own.clone()];
    let etas: Vec<f64> = match eta {
        Some(eta) => vec![eta],
        None => [own.eta].into_iter().chain(ETAS).collect(),
    };
    for eta in etas {
        for rungs in 1..=MOST_RUNGS {
            let divisor = |rung| eta.powi(i32::try_from(rungs - 1 - rung).unwrap_or(0));
            let budgets: Vec<f64> = (0..rungs).map(|rung| top / divisor(rung)).collect();
            // Two rungs below the search's own are no question that its results can answer.
            if budgets[0] < own.budgets[0] / eta * (1.0 - 1e-9) {
                break;
            }
            let ladder = Ladder { eta, budgets };
            let is_same = |other: &Ladder| {
                other.budgets.len() == ladder.budgets.len()
                    && ((other.eta - eta).abs() < 1e-9 || rungs == 1)
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

/// So many configurations: at least one, and never one more for a rounding error.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and saturating"
)]
fn whole(number: f64) -> usize {
    (number + 1e-9).floor().max(1.0) as usize
}

/// What is known of every configuration at every budget of some ladder.
struct Grid {
    ladders: Vec<Ladder>,
    /// Ascending.
    budgets: Vec<f64>,
    /// Infinite for a failure; `None` where it is not known. `[configurations][budgets]`
    known: Vec<Vec<Option<f64>>>,
    /// For each pair of budgets, source and target, the configurations with a finite loss at both, by the loss at the
    /// source.
    donors: BTreeMap<(usize, usize), Vec<Donor>>,
    is_log: bool,
}

/// How a configuration's loss changed from one budget to another.
#[derive(Clone, Copy)]
struct Donor {
    from: f64,
    to: f64,
    configuration: usize,
}

/// What one resample is about.
struct Sample {
    /// The configurations, ascending, some of them more than once.
    order: Vec<usize>,
    /// Their losses, those that are not known filled in. `[configurations][budgets]`; empty where not drawn.
    losses: Vec<Vec<f64>>,
}

/// A ladder in one resample.
struct Run {
    cost: f64,
    loss: f64,
    /// Budget spent and lowest loss after each bracket.
    steps: Vec<(f64, f64)>,
}

impl Grid {
    fn new(history: &History, ladders: Vec<Ladder>) -> Self {
        let all = ladders.iter().flat_map(|ladder| ladder.budgets.clone());
        let budgets =
            crate::history::distinct_budgets(all.chain(history.budgets.iter().copied()).collect());
        let mut known = vec![vec![None; budgets.len()]; history.configurations.len()];
        let mut by_configuration: Vec<Vec<&Evaluation>> = vec![Vec::new(); known.len()];
        for result in &history.results {
            by_configuration[result.configuration].push(result);
        }
        for (row, results) in known.iter_mut().zip(&mut by_configuration) {
            results.sort_by_key(|result| result.budget);
            for (cell, budget) in row.iter_mut().zip(&budgets) {
                *cell = loss_at(history, results, *budget);
            }
        }
        let finite = known.iter().flatten().flatten().filter(|x| x.is_finite());
        let is_log = finite.clone().all(|x| *x > 0.0);
        let mut grid = Self {
            ladders,
            budgets,
            known,
            donors: BTreeMap::new(),
            is_log,
        };
        grid.find_donors();
        grid
    }

    fn find_donors(&mut self) {
        let num = self.budgets.len();
        for source in 0..num {
            for target in (0..num).filter(|target| *target != source) {
                let mut donors: Vec<Donor> = Vec::new();
                for (configuration, row) in self.known.iter().enumerate() {
                    if let (Some(from), Some(to)) = (row[source], row[target])
                        && from.is_finite()
                        && to.is_finite()
                    {
                        donors.push(Donor {
                            from,
                            to,
                            configuration,
                        });
                    }
                }
                if donors.len() >= FEWEST_PAIRS {
                    donors.sort_by(|a, b| a.from.total_cmp(&b.from));
                    self.donors.insert((source, target), donors);
                }
            }
        }
    }

    /// The budget from which a loss at `target` is filled in: the nearest that is known and has donors.
    fn source(&self, configuration: usize, target: usize) -> Option<usize> {
        let distance = |source: &usize| (self.budgets[*source] / self.budgets[target]).ln().abs();
        let row = &self.known[configuration];
        (0..row.len())
            .filter(|source| {
                row[*source].is_some_and(|x| {
                    x.is_infinite() || self.donors.contains_key(&(*source, target))
                })
            })
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    /// A budget of a ladder at which the loss of some configuration is neither known nor can be filled in.
    fn gap(&self, budgets: &[f64]) -> Option<usize> {
        let places = budgets
            .iter()
            .filter_map(|budget| position_of(&self.budgets, *budget));
        places.into_iter().find(|&target| {
            let is_missing = |configuration: usize| {
                self.known[configuration][target].is_none()
                    && self.source(configuration, target).is_none()
            };
            (0..self.known.len()).any(is_missing)
        })
    }

    fn sample(&self, seed: Seed) -> Sample {
        let num = self.known.len();
        let mut rng = seed.rng();
        let mut order: Vec<usize> = (0..num).map(|_| rng.random_range(0..num)).collect();
        order.sort_unstable();
        let mut is_drawn = vec![false; num];
        for &configuration in &order {
            is_drawn[configuration] = true;
        }
        let mut losses = vec![Vec::new(); num];
        for configuration in (0..num).filter(|configuration| is_drawn[*configuration]) {
            losses[configuration] = (0..self.budgets.len())
                .map(|target| {
                    let known = self.known[configuration][target];
                    known.unwrap_or_else(|| {
                        self.filled_in(configuration, target, &is_drawn, &mut rng)
                    })
                })
                .collect();
        }
        Sample { order, losses }
    }

    fn filled_in(
        &self,
        configuration: usize,
        target: usize,
        is_drawn: &[bool],
        rng: &mut impl Rng,
    ) -> f64 {
        let Some(source) = self.source(configuration, target) else {
            return f64::INFINITY; // ladders with such a gap are left out
        };
        let from = self.known[configuration][source].unwrap_or(f64::INFINITY);
        let Some(donors) = self
            .donors
            .get(&(source, target))
            .filter(|_| from.is_finite())
        else {
            return f64::INFINITY; // it failed
        };
        let near = nearest(donors, from, is_drawn);
        let donor = near[rng.random_range(0..near.len())];
        if self.is_log {
            from * (donor.to / donor.from)
        } else {
            from + (donor.to - donor.from)
        }
    }

    /// Brackets of successive halving over the configurations of a resample.
    fn run(&self, ladder: &Ladder, sample: &Sample, continues: bool) -> Run {
        let places: Vec<usize> = ladder
            .budgets
            .iter()
            .filter_map(|budget| position_of(&self.budgets, *budget))
            .collect();
        let rungs = i32::try_from(places.len()).unwrap_or(1);
        let size = whole(ladder.eta.powi((rungs - 1).max(0)));
        let (mut cost, mut best) = (0.0, f64::INFINITY);
        let mut steps = Vec::new();
        for bracket in sample.order.chunks(size) {
            let mut alive: Vec<usize> = bracket.to_vec();
            for (rung, &place) in places.iter().enumerate() {
                let before = if continues && rung > 0 {
                    self.budgets[places[rung - 1]]
                } else {
                    0.0
                };
                cost += alive.len() as f64 * (self.budgets[place] - before);
                let mut placed: Vec<(f64, usize)> = alive
                    .iter()
                    .map(|&configuration| (sample.losses[configuration][place], configuration))
                    .filter(|(loss, _)| loss.is_finite())
                    .collect();
                placed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                if rung + 1 == places.len() {
                    best = placed.first().map_or(best, |(loss, _)| loss.min(best));
                }
                placed.truncate(whole(alive.len() as f64 / ladder.eta));
                alive = placed
                    .into_iter()
                    .map(|(_, configuration)| configuration)
                    .collect();
            }
            steps.push((cost, best));
        }
        Run {
            cost,
            loss: best,
            steps,
        }
    }
}

/// The five nearest donors of those drawn, or of all where fewer were drawn.
fn nearest(donors: &[Donor], from: f64, is_drawn: &[bool]) -> Vec<Donor> {
    let middle = donors.partition_point(|donor| donor.from < from);
    let (mut below, mut above) = (middle, middle);
    let mut near = Vec::with_capacity(DONORS);
    while near.len() < DONORS && (below > 0 || above < donors.len()) {
        let gap_below = below
            .checked_sub(1)
            .map_or(f64::INFINITY, |i| from - donors[i].from);
        let gap_above = donors
            .get(above)
            .map_or(f64::INFINITY, |donor| donor.from - from);
        let next = if gap_below <= gap_above {
            below -= 1;
            donors[below]
        } else {
            above += 1;
            donors[above - 1]
        };
        if is_drawn[next.configuration] {
            near.push(next);
        }
    }
    if near.is_empty() {
        donors.to_vec()
    } else {
        near
    }
}

/// What the results of one configuration, the shortest first, say of its loss at a budget.
fn loss_at(history: &History, results: &[&Evaluation], budget: f64) -> Option<f64> {
    for result in results {
        let of_job = history.budgets[result.budget];
        let is_failed = result.outcome.is_failure();
        if position_of(&[of_job], budget).is_some() {
            return result.loss().or(is_failed.then_some(f64::INFINITY));
        }
        if of_job < budget {
            if is_failed {
                return Some(f64::INFINITY); // what fails early fails later
            }
            continue;
        }
        let points = || {
            result
                .curve
                .iter()
                .filter_map(|point| Some((point.spent, point.loss?)))
        };
        let below = points().rfind(|(spent, _)| *spent <= budget * (1.0 + 1e-9));
        let above = points().find(|(spent, _)| *spent >= budget * (1.0 - 1e-9));
        if let (Some((x, a)), Some((y, b))) = (below, above) {
            let share = if y > x { (budget - x) / (y - x) } else { 0.0 };
            return Some(a + (b - a) * share.clamp(0.0, 1.0));
        }
    }
    None
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

/// A ladder in words: `16 epochs as the lowest budget and eta 3 (3 rungs)`.
fn said(history: &History, ladder: &Ladder) -> String {
    let lowest = history.amount_phrase(ladder.budgets[0]);
    match ladder.budgets.len() {
        1 => format!("{lowest} alone, without smaller budgets,"),
        rungs => format!(
            "{lowest} as the lowest budget and eta {} ({rungs} rungs)",
            ladder.eta
        ),
    }
}

/// A share in per cent; `never` where it is infinite.
fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{} %", fixed(100.0 * share, 0))
    } else {
        "never".into()
    }
}

/// The answer in a sentence.
pub(crate) fn verdict(history: &History, forecasts: &[Forecast]) -> String {
    let reliable = forecasts
        .iter()
        .filter(|f| !f.is_own && f.as_good >= RELIABLE);
    let best = reliable.min_by(|a, b| a.until.median.total_cmp(&b.until.median));
    match best {
        Some(f) if f.until.median <= CHEAPER => format!(
            "With {} as good an incumbent after {} of the training ({} to {}); in {} of the resamples it is found at all.",
            said(history, &f.ladder),
            percent(f.until.median),
            percent(f.until.low),
            percent(f.until.high),
            percent(f.as_good)
        ),
        _ => {
            let own = forecasts.iter().find(|f| f.is_own);
            let own = own.map_or_else(String::new, |f| said(history, &f.ladder));
            format!(
                "No other ladder finds as good an incumbent with clearly less training than {own}."
            )
        }
    }
}

/// What the answer rests on, for people.
pub(crate) fn caveat(history: &History) -> String {
    let top = history.budget_phrase(history.budgets.len().saturating_sub(1));
    format!(
        "The configurations that were tried go through brackets of successive halving up to {top}. Losses at budgets at \
         which a configuration was not trained are read from its longer learning curve or filled in from configurations \
         like it; a shorter training of its own might end better than a longer one is at that point. until: training \
         until the incumbent is as good as that of the search's own ladder, whose training until then is 100 %; median and \
         95 % interval over resamples of configurations."
    )
}

/// For people: rounded, intervals in one column.
pub(crate) fn short_table(history: &History, forecasts: &[Forecast]) -> Table {
    let mut table = Table::new(&[
        "lowest",
        "eta",
        "rungs",
        "cost",
        "as good",
        "until",
        "95 % interval",
        "loss",
    ]);
    for f in forecasts {
        let own = if f.is_own { " (own)" } else { "" };
        table.push(vec![
            Cell::text(format!(
                "{}{own}",
                crate::wording::budget(f.ladder.budgets[0], history.unit)
            )),
            Cell::Number(f.ladder.eta),
            Cell::Count(f.ladder.budgets.len()),
            Cell::Rounded(percent(f.cost)),
            Cell::Rounded(percent(f.as_good)),
            Cell::Rounded(percent(f.until.median)),
            Cell::Rounded(format!(
                "{} to {}",
                percent(f.until.low),
                percent(f.until.high)
            )),
            Cell::Rounded(significant(f.loss.median, 4)),
        ]);
    }
    table
}

/// For programs: everything in full precision; a share that is infinite is missing.
pub(crate) fn full_table(forecasts: &[Forecast]) -> Table {
    let mut table = Table::new(&[
        "lowest",
        "eta",
        "rungs",
        "is_own",
        "cost",
        "as_good",
        "until",
        "until_low",
        "until_high",
        "loss",
        "loss_low",
        "loss_high",
    ]);
    for f in forecasts {
        table.push(vec![
            Cell::Number(f.ladder.budgets[0]),
            Cell::Number(f.ladder.eta),
            Cell::Count(f.ladder.budgets.len()),
            Cell::text(if f.is_own { "yes" } else { "no" }),
            Cell::Number(f.cost),
            Cell::Number(f.as_good),
            Cell::Number(f.until.median),
            Cell::Number(f.until.low),
            Cell::Number(f.until.high),
            Cell::Number(f.loss.median),
            Cell::Number(f.loss.low),
            Cell::Number(f.loss.high),
        ]);
    }
    table
}

#[cfg(test)]
mod tests;
