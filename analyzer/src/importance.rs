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

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use shared::{Kind, SearchSpace, Seed};

use crate::forest::{self, Axis, Forest, Side};
use crate::history::History;
use crate::statistics::average_ranks;
use crate::table::{Cell, Table};
use crate::wording::{count, fixed, significant};

/// Places along an interval at which marginals are taken.
const PLACES: usize = 128;
/// Places along each interval at which marginals of two are taken.
const PAIR_PLACES: usize = 32;
/// Points at which the forest's variance is taken.
const VARIANCE_POINTS: usize = 1 << 15;
/// Fewer losses than this say nothing about importance.
pub const LEAST_LOSSES: usize = 10;
/// The most hyperparameters that are decomposed.
const MOST_HYPERPARAMETERS: usize = 500;
/// Pairs are formed among this many hyperparameters: those with the largest main effects.
const MOST_IN_PAIRS: usize = 40;

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
        .filter(|result| result.budget == budget)
        .filter_map(|result| Some((result.configuration, result.loss()?)))
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
    let best = history.best_at(budget).expect("there are losses");
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
        local: local(&forest, &point(space, history, best.configuration)),
        around: best.configuration,
    })
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

/// The parts of a forest's variance.
#[derive(Debug)]
pub struct Decomposition {
    /// Share of each axis alone.
    pub main: Vec<f64>,
    /// Share of two axes beyond their own, largest first.
    pub pairs: Vec<(usize, usize, f64)>,
    /// Marginal of each axis.
    pub marginals: Vec<Marginal>,
}

/// A leaf as ranges of places on the grids, with what it adds to marginals.
struct Leaf {
    value: f64,
    shares: Vec<f64>,
    sides: Vec<Side>,
}

impl Decomposition {
    /// Decomposes the mean of the trees; `None` for a constant one.
    pub(crate) fn new(forest: &Forest, seed: Seed) -> Option<Self> {
        let axes = forest.axes();
        let leaves: Vec<Vec<Leaf>> = (0..forest.num_trees())
            .into_par_iter()
            .map(|number| {
                forest
                    .members(number)
                    .flat_map(|tree| leaves(tree, axes))
                    .collect()
            })
            .collect();
        let variance = variance(forest, seed);
        if variance <= 0.0 {
            return None;
        }
        let marginals: Vec<Marginal> = (0..axes.len())
            .into_par_iter()
            .map(|axis| marginal(&leaves, axes, axis, forest.base()))
            .collect();
        let main: Vec<f64> = marginals
            .iter()
            .map(|marginal| spread_of(&marginal.mean) / variance)
            .collect();
        let mut order: Vec<usize> = (0..axes.len()).collect();
        order.sort_by(|&a, &b| main[b].total_cmp(&main[a]));
        order.truncate(MOST_IN_PAIRS);
        order.sort_unstable();
        let of_two: Vec<(usize, usize)> = order
            .iter()
            .flat_map(|&a| order.iter().map(move |&b| (a, b)))
            .filter(|(a, b)| a < b)
            .collect();
        let mut pairs: Vec<(usize, usize, f64)> = of_two
            .into_par_iter()
            .map(|(a, b)| (a, b, interaction(&leaves, axes, a, b) / variance))
            .collect();
        pairs.sort_by(|x, y| y.2.total_cmp(&x.2));
        Some(Self {
            main,
            pairs,
            marginals,
        })
    }
}

fn leaves(tree: &forest::Tree, axes: &[Axis]) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    tree.for_each_leaf(axes, |value, sides| {
        let shares = sides.iter().zip(axes).map(|(side, axis)| side.share(*axis));
        leaves.push(Leaf {
            value,
            shares: shares.collect(),
            sides: sides.to_vec(),
        });
    });
    leaves
}

/// Variance of the mean of the trees, at the points of a Latin hypercube.
fn variance(forest: &Forest, seed: Seed) -> f64 {
    let axes = forest.axes();
    let columns: Vec<Vec<f64>> = axes
        .par_iter()
        .enumerate()
        .map(|(number, axis)| {
            let mut rng = seed.child("hypercube", number).rng();
            let mut column: Vec<f64> = (0..VARIANCE_POINTS)
                .map(|i| (i as f64 + rng.random::<f64>()) / VARIANCE_POINTS as f64)
                .collect();
            column.shuffle(&mut rng);
            if let Axis::Levels(levels) = axis {
                for x in &mut column {
                    *x = (*x * *levels as f64).floor();
                }
            }
            column
        })
        .collect();
    let predictions: Vec<f64> = (0..VARIANCE_POINTS)
        .into_par_iter()
        .map(|i| {
            let point: Vec<f64> = columns.iter().map(|column| column[i]).collect();
            forest.predict(&point)
        })
        .collect();
    spread_of(&predictions)
}

/// Mean squared distance from the mean.
fn spread_of(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n
}

fn num_places(axis: Axis, places: usize) -> usize {
    match axis {
        Axis::Interval => places,
        Axis::Levels(levels) => levels,
    }
}

/// The ranges of places on an axis's grid that a side covers, as pairs of first and behind-last.
fn ranges(side: Side, places: usize) -> impl Iterator<Item = (usize, usize)> {
    // The middle of cell i is (i + 1/2)/places.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the grid"
    )]
    let first_at =
        move |x: f64| (x * places as f64 - 0.5).ceil().clamp(0.0, places as f64) as usize;
    let (interval, bits) = match side {
        Side::Interval(from, to) => (Some((first_at(from), first_at(to))), 0),
        Side::Levels(bits) => (None, bits),
    };
    let levels = (0..64).filter(move |level| bits >> level & 1 == 1);
    interval
        .into_iter()
        .chain(levels.map(|level| (level, level + 1)))
}

fn marginal(leaves: &[Vec<Leaf>], axes: &[Axis], axis: usize, base: f64) -> Marginal {
    let places = num_places(axes[axis], PLACES);
    let (mut sum, mut squares) = (vec![0.0; places], vec![0.0; places]);
    let mut steps = vec![0.0; places + 1];
    for tree in leaves {
        steps.fill(0.0);
        for leaf in tree {
            let others = leaf.shares.iter().enumerate().filter(|(a, _)| *a != axis);
            let weight = leaf.value * others.map(|(_, share)| share).product::<f64>();
            for (from, to) in ranges(leaf.sides[axis], places) {
                steps[from] += weight;
                steps[to] -= weight;
            }
        }
        let mut height = base;
        for place in 0..places {
            height += steps[place];
            sum[place] += height;
            squares[place] += height * height;
        }
    }
    let n = leaves.len() as f64;
    let mean: Vec<f64> = sum.iter().map(|sum| sum / n).collect();
    let spread = squares.iter().zip(&mean);
    Marginal {
        places: match axes[axis] {
            Axis::Interval => (0..places)
                .map(|i| (i as f64 + 0.5) / places as f64)
                .collect(),
            Axis::Levels(_) => (0..places).map(|i| i as f64).collect(),
        },
        spread: spread
            .map(|(s, m)| (s / n - m * m).max(0.0).sqrt())
            .collect(),
        mean,
    }
}

/// Variance of what two axes do together beyond what each does alone.
fn interaction(leaves: &[Vec<Leaf>], axes: &[Axis], a: usize, b: usize) -> f64 {
    let (rows, columns) = (
        num_places(axes[a], PAIR_PLACES),
        num_places(axes[b], PAIR_PLACES),
    );
    let width = columns + 1;
    let mut steps = vec![0.0; (rows + 1) * width];
    for leaf in leaves.iter().flatten() {
        let others = leaf.shares.iter().enumerate();
        let others = others.filter(|(axis, _)| *axis != a && *axis != b);
        let weight = leaf.value * others.map(|(_, share)| share).product::<f64>();
        for (top, bottom) in ranges(leaf.sides[a], rows) {
            for (left, right) in ranges(leaf.sides[b], columns) {
                steps[top * width + left] += weight;
                steps[top * width + right] -= weight;
                steps[bottom * width + left] -= weight;
                steps[bottom * width + right] += weight;
            }
        }
    }
    for row in 0..rows {
        for column in 0..columns {
            let left = if column > 0 {
                steps[row * width + column - 1]
            } else {
                0.0
            };
            let above = if row > 0 {
                steps[(row - 1) * width + column]
            } else {
                0.0
            };
            let corner = if row > 0 && column > 0 {
                steps[(row - 1) * width + column - 1]
            } else {
                0.0
            };
            steps[row * width + column] += left + above - corner;
        }
    }
    let n = leaves.len() as f64;
    let at = |row: usize, column: usize| steps[row * width + column] / n;
    let row_means: Vec<f64> = (0..rows)
        .map(|row| (0..columns).map(|column| at(row, column)).sum::<f64>() / columns as f64)
        .collect();
    let column_means: Vec<f64> = (0..columns)
        .map(|column| (0..rows).map(|row| at(row, column)).sum::<f64>() / rows as f64)
        .collect();
    let mean = row_means.iter().sum::<f64>() / rows as f64;
    let mut variance = 0.0;
    for (row, row_mean) in row_means.iter().enumerate() {
        for (column, column_mean) in column_means.iter().enumerate() {
            variance += (at(row, column) - row_mean - column_mean + mean).powi(2);
        }
    }
    variance / (rows * columns) as f64
}

/// Shares of the variances of the forest along each axis through one point, all other coordinates kept.
fn local(forest: &Forest, around: &[f64]) -> Vec<f64> {
    let along = |axis: usize| {
        let places = num_places(forest.axes()[axis], PLACES);
        let mut point = around.to_vec();
        let predictions: Vec<f64> = (0..places)
            .map(|place| {
                point[axis] = match forest.axes()[axis] {
                    Axis::Interval => (place as f64 + 0.5) / places as f64,
                    Axis::Levels(_) => place as f64,
                };
                forest.predict(&point)
            })
            .collect();
        spread_of(&predictions)
    };
    let variances: Vec<f64> = (0..around.len()).into_par_iter().map(along).collect();
    let whole: f64 = variances.iter().sum();
    let share = |v: &f64| if whole > 0.0 { v / whole } else { 0.0 };
    variances.iter().map(share).collect()
}

/// What a value of a hyperparameter is at a coordinate of a marginal.
pub fn value_at(kind: &Kind, axis_place: f64) -> shared::Value {
    match kind {
        Kind::Ordinal { sequence } => kind.decode(axis_place * sequence.len() as f64 - 0.5),
        _ => kind.decode(axis_place),
    }
}

/// The table for programs: one row an effect, most important first within its kind. Columns: `budget`, `n` (losses),
/// `effect` (`main`, `pair`, `higher`, `local`), `hyperparameter`, `with` (the second of a pair), `share` (of the
/// forest's variance; of the summed variances for `local`), `explained` (share of the losses' variance that the forest
/// explains out of the bag), `error` (root mean squared, out of the bag).
pub fn full_table(history: &History, all: &[Importance]) -> Table {
    let mut table = Table::new(&[
        "budget",
        "n",
        "effect",
        "hyperparameter",
        "with",
        "share",
        "explained",
        "error",
    ]);
    for importance in all {
        let mut push = |effect: &str, name: Option<&str>, with: Option<&str>, share: f64| {
            let word = |word: Option<&str>| word.map_or(Cell::Missing, Cell::text);
            table.push(vec![
                Cell::Number(history.budgets[importance.budget]),
                Cell::Count(importance.num_losses),
                Cell::text(effect),
                word(name),
                word(with),
                Cell::Number(share),
                Cell::Number(importance.explained),
                Cell::Number(importance.error),
            ]);
        };
        let names = &importance.names;
        for axis in importance.order() {
            push("main", Some(&names[axis]), None, importance.main[axis]);
        }
        for (a, b, share) in &importance.pairs {
            push("pair", Some(&names[*a]), Some(&names[*b]), *share);
        }
        push("higher", None, None, importance.higher());
        let mut local: Vec<usize> = (0..names.len()).collect();
        local.sort_by(|&a, &b| importance.local[b].total_cmp(&importance.local[a]));
        for axis in local {
            push("local", Some(&names[axis]), None, importance.local[axis]);
        }
    }
    table
}

/// The table for people: main effects and local importance, then the largest pairs.
pub fn short_table(importance: &Importance) -> Table {
    const MOST_PAIRS: usize = 5;
    let percent = |share: f64| Cell::Rounded(format!("{} %", fixed(100.0 * share, 1)));
    let mut table = Table::new(&["hyperparameter", "share", "local"]);
    for axis in importance.order() {
        table.push(vec![
            Cell::text(&importance.names[axis]),
            percent(importance.main[axis]),
            percent(importance.local[axis]),
        ]);
    }
    for (a, b, share) in importance.pairs.iter().take(MOST_PAIRS) {
        let names = format!("{} × {}", importance.names[*a], importance.names[*b]);
        table.push(vec![Cell::text(names), percent(*share), Cell::Missing]);
    }
    let rest: f64 = importance.pairs.iter().skip(MOST_PAIRS).map(|p| p.2).sum();
    table.push(vec![
        Cell::text("other pairs"),
        percent(rest),
        Cell::Missing,
    ]);
    table.push(vec![
        Cell::text("three and more together"),
        percent(importance.higher()),
        Cell::Missing,
    ]);
    table
}

/// What the numbers rest on, in words.
pub fn basis(history: &History, importance: &Importance) -> String {
    let used = if importance.num_used < importance.num_losses {
        format!(
            "{} of {} losses, drawn at random,",
            crate::wording::thousands(importance.num_used),
            crate::wording::thousands(importance.num_losses)
        )
    } else {
        format!(
            "{} losses",
            crate::wording::thousands(importance.num_losses)
        )
    };
    let of = match importance.of {
        Of::Losses => "",
        Of::Ranks => "of their ranks ",
    };
    let trust = if importance.explained < 0.3 {
        ": too little to trust the shares"
    } else {
        ""
    };
    format!(
        "At {}: {used} and {} trees explain {} % of the variance {of}out of the bag (error {}){trust}. \
         Shares are of the forest's variance over the whole space; local ones hold around {}.",
        history.budget_phrase(importance.budget),
        importance.num_trees,
        fixed(100.0 * importance.explained, 0),
        significant(importance.error, 3),
        history.configuration_name(importance.around),
    )
}

/// Marginal curves for programs. Columns: `budget`, `hyperparameter`, `value`, `mean` (loss or rank), `spread` (standard
/// deviation over the trees).
pub fn marginal_table(history: &History, all: &[Importance]) -> Table {
    let mut table = Table::new(&["budget", "hyperparameter", "value", "mean", "spread"]);
    let Some(space) = &history.space else {
        return table;
    };
    for importance in all {
        for (h, marginal) in space.dimensions().zip(&importance.marginals) {
            let points = marginal.places.iter().zip(&marginal.mean);
            for ((place, mean), spread) in points.zip(&marginal.spread) {
                table.push(vec![
                    Cell::Number(history.budgets[importance.budget]),
                    Cell::text(&h.name),
                    Cell::text(value_at(&h.kind, *place).to_string()),
                    Cell::Number(*mean),
                    Cell::Number(*spread),
                ]);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests;
