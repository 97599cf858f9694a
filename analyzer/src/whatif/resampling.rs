//! What is known of losses at the budgets of all ladders, and what a ladder comes to in one resample of configurations.

use std::collections::BTreeMap;

use rand::{Rng, RngExt as _};
use shared::Seed;
use shared::budget::is_same_budget;

use super::{Ladder, whole};
use crate::history::{Evaluation, History, position_of};

/// Configurations that must have losses at two budgets for one to be filled in from the other.
pub(super) const FEWEST_PAIRS: usize = 3;

/// Of so many configurations with the nearest losses there, one lends its change.
const DONORS: usize = 5;

/// What is known of every configuration at every budget of some ladder.
pub(super) struct Grid {
    pub(super) ladders: Vec<Ladder>,
    /// Ascending.
    pub(super) budgets: Vec<f64>,
    /// Infinite for a failure; `None` where it is not known. `[configurations][budgets]`
    pub(super) known: Vec<Vec<Option<f64>>>,
    /// For each pair of budgets, source and target, the configurations with a finite loss at both, by the loss at the
    /// source.
    donors: BTreeMap<(usize, usize), Vec<Donor>>,
    /// Which of the plans says how a configuration's losses are filled in. `[configurations]`
    plan_of: Vec<usize>,
    /// The losses to be filled in that can be, in this order.
    plans: Vec<Vec<Step>>,
    is_log: bool,
}

/// How a configuration's loss changed from one budget to another.
#[derive(Clone, Copy)]
struct Donor {
    from: f64,
    to: f64,
    configuration: usize,
}

/// A loss that is filled in: at which budget, from the loss at which.
#[derive(Clone, Copy)]
struct Step {
    source: usize,
    target: usize,
}

/// What one resample is about.
pub(super) struct Sample {
    /// The configurations, ascending, some of them more than once.
    order: Vec<usize>,
    /// Their losses, those that are not known filled in. `[configurations][budgets]`; empty where not drawn.
    losses: Vec<Vec<f64>>,
}

/// A ladder in one resample.
pub(super) struct Run {
    pub(super) cost: f64,
    pub(super) loss: f64,
    /// Budget spent and lowest loss after each bracket.
    pub(super) steps: Vec<(f64, f64)>,
}

impl Grid {
    pub(super) fn new(history: &History, ladders: Vec<Ladder>) -> Self {
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
            plan_of: Vec::new(),
            plans: Vec::new(),
            is_log,
        };
        grid.find_donors();
        grid.make_plans();
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
                if !donors.is_empty() {
                    donors.sort_by(|a, b| a.from.total_cmp(&b.from));
                    self.donors.insert((source, target), donors);
                }
            }
        }
    }

    /// One plan for all configurations of which the same is known.
    fn make_plans(&mut self) {
        let mut numbers: BTreeMap<Vec<Option<bool>>, usize> = BTreeMap::new();
        for row in &self.known {
            let pattern = row.iter().map(|loss| loss.map(f64::is_infinite)).collect();
            let next = self.plans.len();
            let number = *numbers.entry(pattern).or_insert(next);
            if number == next {
                let plan = self.plan(row);
                self.plans.push(plan);
            }
            self.plan_of.push(number);
        }
    }

    /// How many configurations have a finite loss at a budget and at another one, whichever has the most.
    pub(super) fn most_pairs(&self, target: usize) -> usize {
        let there = self.donors.iter().filter(|((_, to), _)| *to == target);
        there.map(|(_, donors)| donors.len()).max().unwrap_or(0)
    }

    /// How the losses of a configuration are filled in: from the nearest budget with enough donors where it is known; then,
    /// nearest first, from those that have been filled in.
    fn plan(&self, row: &[Option<f64>]) -> Vec<Step> {
        let has_failed = |source: usize| row[source].is_some_and(f64::is_infinite);
        let leads = |source: usize, target: usize| {
            let donors = self.donors.get(&(source, target));
            has_failed(source) || donors.is_some_and(|donors| donors.len() >= FEWEST_PAIRS)
        };
        let distance = |step: &Step| {
            (self.budgets[step.source] / self.budgets[step.target])
                .ln()
                .abs()
        };
        let nearest = |sources: &[usize], targets: &[usize]| {
            let pairs = targets
                .iter()
                .flat_map(|&target| sources.iter().map(move |&source| Step { source, target }));
            pairs
                .filter(|step| leads(step.source, step.target))
                .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        };
        let (mut sources, targets): (Vec<usize>, Vec<usize>) =
            (0..row.len()).partition(|budget| row[*budget].is_some());
        let direct = targets
            .iter()
            .filter_map(|target| nearest(&sources, &[*target]));
        let mut steps: Vec<Step> = direct.collect();
        sources.extend(steps.iter().map(|step| step.target));
        loop {
            let left: Vec<usize> = (0..row.len()).filter(|b| !sources.contains(b)).collect();
            let Some(step) = nearest(&sources, &left) else {
                return steps;
            };
            sources.push(step.target);
            steps.push(step);
        }
    }

    /// A budget of a ladder at which the loss of some configuration is neither known nor can be filled in.
    pub(super) fn gap(&self, budgets: &[f64]) -> Option<usize> {
        let places = budgets
            .iter()
            .filter_map(|budget| position_of(&self.budgets, *budget));
        places.into_iter().find(|&target| {
            let mut rows = self.known.iter().zip(&self.plan_of);
            rows.any(|(row, plan)| {
                let mut steps = self.plans[*plan].iter();
                row[target].is_none() && steps.all(|step| step.target != target)
            })
        })
    }

    pub(super) fn sample(&self, seed: Seed) -> Sample {
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
            // What stays unknown is of no ladder that is asked about.
            let known = self.known[configuration].iter();
            let mut row: Vec<f64> = known.map(|loss| loss.unwrap_or(f64::INFINITY)).collect();
            for step in &self.plans[self.plan_of[configuration]] {
                row[step.target] = self.filled_in(row[step.source], *step, &is_drawn, &mut rng);
            }
            losses[configuration] = row;
        }
        Sample { order, losses }
    }

    fn filled_in(&self, from: f64, step: Step, is_drawn: &[bool], rng: &mut impl Rng) -> f64 {
        let donors = self.donors.get(&(step.source, step.target));
        let Some(donors) = donors.filter(|_| from.is_finite()) else {
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
    pub(super) fn run(&self, ladder: &Ladder, sample: &Sample, continues: bool) -> Run {
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
pub(super) fn loss_at(history: &History, results: &[&Evaluation], budget: f64) -> Option<f64> {
    for result in results {
        let of_job = history.budgets[result.budget];
        let is_failed = result.outcome.is_failure();
        if is_same_budget(of_job, budget) {
            return result.loss().or(is_failed.then_some(f64::INFINITY));
        }
        let mut checks = result.checks.iter();
        let is_there = |(at, _): &&(usize, f64)| is_same_budget(history.budgets[*at], budget);
        if let Some((_, loss)) = checks.find(is_there) {
            return Some(*loss);
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
