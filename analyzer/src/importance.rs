//! Which hyperparameters matter: the functional analysis of variance of a random forest that was fitted to the losses
//! at one budget; marginal curves; and importance around one configuration.
//!
//! A function on the unit cube is a sum of its mean `f₀`, functions `f_j` of one hyperparameter, `f_jk` of two, and so on,
//! each with mean 0 along every one of its arguments; their variances sum to the function's. The share of a variance
//! is the importance. With `a_j(x)` the mean of the function where hyperparameter j is x,
//! `f_j = a_j − f₀` and `f_jk = a_jk − a_j − a_k + f₀`.
//!
//! The function here is the forest's prediction. The marginals `a_j` and `a_jk` are exact (from the leaves' boxes),
//! taken at the middles of a grid; the forest's whole variance is had from a Latin hypercube. All hyperparameters are
//! uniform on the encoding's scale, so a logarithmic one is uniform in its logarithm. An inactive hyperparameter
//! counts as being in the middle of its range, or at its first level.
//!
//! # Source
//! Hutter, Hoos, Leyton-Brown 2014 (fANOVA), which decomposes every tree by itself and averages the shares; here the
//! prediction of the whole (boosted) forest is decomposed, since single trees have interactions that it has not. Local importance:
//! Biedenkapp et al. 2018.

mod decomposition;
mod tables;

pub use tables::{basis, full_table, marginal_table, short_table};

use rand::seq::SliceRandom as _;
use shared::{Kind, SearchSpace, Seed};

use crate::forest::{self, Axis, Forest};
use crate::history::History;
use crate::statistics::average_ranks;
use crate::wording::count;

use decomposition::{Decomposition, local};

/// Fewer losses than this say nothing about importance.
pub(crate) const LEAST_LOSSES: usize = 10;
/// The most hyperparameters that are decomposed.
const MOST_HYPERPARAMETERS: usize = 500;
/// The importance is of ranks where a loss is larger than this: squares of such losses would overflow.
const LARGEST_LOSS: f64 = 1e100;

/// What the importance is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Of {
    /// The losses themselves
    #[default]
    Losses,
    /// Their ranks among all losses at the budget, from 0 (best) to 1: for losses over many orders of magnitude, whose
    /// variance is that of the few worst; always where a loss is above 1e100
    Ranks,
}

/// How importance is computed.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Of what.
    pub of: Of,
    /// Trees of each of the forest's stages.
    pub num_trees: u32,
    /// The forest is fitted to at most this many losses, drawn at random.
    pub most_losses: usize,
    /// Drives the forest and every draw.
    pub seed: Seed,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            of: Of::Losses,
            num_trees: 16,
            most_losses: 10_000,
            seed: Seed::new(0),
        }
    }
}

/// Importance at one budget.
#[derive(Debug, Clone)]
pub struct Importance {
    /// Of what.
    pub of: Of,
    /// Index of the budget.
    pub budget: usize,
    /// Losses there are at this budget.
    pub num_losses: usize,
    /// Losses the forest was fitted to.
    pub num_used: usize,
    /// Number of trees, of all stages.
    pub num_trees: usize,
    /// Root mean squared error out of the bag.
    pub error: f64,
    /// Share of the losses' variance that the forest explains out of the bag.
    pub explained: f64,
    /// Names of the hyperparameters, in the space's order.
    pub names: Vec<String>,
    /// Share of the forest's variance by hyperparameter, alone.
    pub main: Vec<f64>,
    /// Share of the variance by two hyperparameters beyond their main effects, largest first.
    pub pairs: Vec<(usize, usize, f64)>,
    /// Marginal curves, in the space's order.
    pub marginals: Vec<Marginal>,
    /// Local importance around the best configuration at this budget.
    pub local: Vec<f64>,
    /// That configuration, by index.
    pub around: usize,
}

impl Importance {
    /// The share of what is neither in main effects nor in pairs.
    pub fn higher(&self) -> f64 {
        let pairs: f64 = self.pairs.iter().map(|pair| pair.2).sum();
        (1.0 - self.main.iter().sum::<f64>() - pairs).max(0.0)
    }

    /// Hyperparameters by main effect, largest first.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.main.len()).collect();
        order.sort_by(|&a, &b| self.main[b].total_cmp(&self.main[a]));
        order
    }
}

/// The mean loss as a function of one hyperparameter, all others averaged out.
#[derive(Debug, Clone)]
pub struct Marginal {
    /// Coordinates in the encoding: middles of a grid, or the levels.
    pub places: Vec<f64>,
    /// Mean over the trees of their marginal.
    pub mean: Vec<f64>,
    /// Standard deviation over the trees of their marginal.
    pub spread: Vec<f64>,
}

/// Computes importance at one budget; or says why there is none.
///
/// # Panics
/// Never: a budget with enough losses has a best one.
pub fn importance(
    history: &History,
    budget: usize,
    settings: &Settings,
) -> Result<Importance, String> {
    let at = history.budget_phrase(budget);
    let space = history
        .space
        .as_ref()
        .ok_or("there is no search space, so no importance")?;
    if space.num_dimensions() == 0 {
        return Err("nothing varies in this search space".into());
    }
    if space.num_dimensions() > MOST_HYPERPARAMETERS {
        let dimensions = space.num_dimensions();
        return Err(format!(
            "importance of {dimensions} hyperparameters is not computed (at most {MOST_HYPERPARAMETERS})"
        ));
    }
    let mut rows: Vec<(usize, f64)> = history
        .results
        .iter()
        .flat_map(|result| {
            let here = result.all_losses().filter(|(there, _)| *there == budget);
            here.map(|(_, loss)| (result.configuration, loss))
        })
        .collect();
    let num_losses = rows.len();
    if num_losses < LEAST_LOSSES {
        let losses = count(num_losses, "loss").replace("losss", "losses");
        return Err(format!(
            "only {losses} at {at}: importance needs at least {LEAST_LOSSES}"
        ));
    }
    let seed = settings.seed.child("importance", budget);
    if num_losses > settings.most_losses {
        rows.shuffle(&mut seed.child("draw", "").rng());
        rows.truncate(settings.most_losses);
    }
    let points: Vec<Vec<f64>> = rows
        .iter()
        .map(|(configuration, _)| point(space, history, *configuration))
        .collect();
    let losses: Vec<f64> = rows.iter().map(|(_, loss)| *loss).collect();
    let (of, values) = explained_values(losses, settings.of);
    let forest_settings = forest::Settings {
        num_trees: settings.num_trees,
        seed: seed.child("forest", ""),
    };
    let forest = Forest::fit(axes(space), &points, &values, &forest_settings);
    let constant = || format!("all losses at {at} are equal: nothing matters");
    let (error, explained) = forest.error(&values).ok_or_else(constant)?;
    let parts = Decomposition::new(&forest, seed).ok_or_else(constant)?;
    let around = best_at(history, budget, &rows).expect("there are losses");
    Ok(Importance {
        of,
        budget,
        num_losses,
        num_used: rows.len(),
        num_trees: forest.num_trees() * forest.num_stages(),
        error,
        explained,
        names: space.dimensions().map(|h| h.name.clone()).collect(),
        main: parts.main,
        pairs: parts.pairs,
        marginals: parts.marginals,
        local: local(&forest, &point(space, history, around)),
        around,
    })
}

/// The best configuration at a budget, whose losses are these: by a result there or, where trainings are stopped, by the loss of
/// one that went on.
fn best_at(history: &History, budget: usize, losses: &[(usize, f64)]) -> Option<usize> {
    let of_losses = || {
        let order = |a: &&(usize, f64), b: &&(usize, f64)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0));
        let best = losses.iter().min_by(order);
        best.map(|(configuration, _)| *configuration)
    };
    let best = history.best_at(budget).map(|best| best.configuration);
    best.or_else(of_losses)
}

/// What the forest learns: the losses, or their ranks from 0 to 1.
fn explained_values(losses: Vec<f64>, of: Of) -> (Of, Vec<f64>) {
    if of == Of::Losses && losses.iter().all(|loss| loss.abs() <= LARGEST_LOSS) {
        return (Of::Losses, losses);
    }
    let most = (losses.len() - 1) as f64;
    let ranks = average_ranks(&losses);
    let values = ranks.iter().map(|rank| (rank - 1.0) / most);
    (Of::Ranks, values.collect())
}

/// What the forest's axes are: unordered levels keep to themselves, everything else lies on an interval.
fn axes(space: &SearchSpace) -> Vec<Axis> {
    let axis = |kind: &Kind| match kind {
        Kind::Categorical { choices } => Axis::of_levels(choices.len()),
        Kind::Float { .. }
        | Kind::Integer { .. }
        | Kind::Ordinal { .. }
        | Kind::Constant { .. } => Axis::Interval,
    };
    space.dimensions().map(|h| axis(&h.kind)).collect()
}

/// A configuration as a point of the forest's space.
fn point(space: &SearchSpace, history: &History, configuration: usize) -> Vec<f64> {
    let encoded = space.encode(&history.configurations[configuration].values);
    let coordinates = space.dimensions().zip(encoded);
    coordinates.map(|(h, x)| coordinate(&h.kind, x)).collect()
}

/// The forest's coordinate for one of the encoding, which may be missing.
fn coordinate(kind: &Kind, encoded: f64) -> f64 {
    match kind.num_levels() {
        Some(levels) => {
            let is_ordered = matches!(kind, Kind::Ordinal { .. });
            match Axis::of_levels(levels) {
                Axis::Levels(_) if !is_ordered => encoded.max(0.0), // missing: the first level
                _ if encoded.is_nan() => 0.5,
                _ => (encoded + 0.5) / levels as f64,
            }
        }
        None if encoded.is_nan() => 0.5,
        None => encoded,
    }
}

/// What a value of a hyperparameter is at a coordinate of a marginal.
pub(crate) fn value_at(kind: &Kind, axis_place: f64) -> shared::Value {
    match kind {
        Kind::Ordinal { sequence } => kind.decode(axis_place * sequence.len() as f64 - 0.5),
        _ => kind.decode(axis_place),
    }
}

#[cfg(test)]
mod tests;
