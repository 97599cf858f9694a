//! Pools of real trainings: configurations that were trained once, with the loss after every recorded budget.
//!
//! ```text
//! row      the one nearest to a configuration: Σ_j Δ_j², Δ_j the difference of coordinates in [0, 1] for numbers, in
//!          levels for ordinals, 0 or 1 for categories
//! loss(b)  the loss at the recorded budget nearest to b; infinite: the training had diverged by then
//! regret   (final loss - best) / (median - best)                best, median: of all rows' final losses
//! ```
//! A pool is sparse, so that many configurations share a row; `without replacement` gives each its own, the nearest that
//! the run has not had yet.
//!
//! Range of validity: any number of rows with a finite final loss, at least one. Diverged rows count as infinite in the
//! median; the regret of a row that diverges is that of the worst one that does not.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use shared::SearchSpace;
use shared::exit::{Code, Failure};
use shared::space::SpaceFile;

use crate::bench::file::{coordinate, unpacked};
use crate::kde::Dimension;
use crate::learning_curve::Point;

/// What a pool's columns of losses start with; the recorded budget follows.
const LOSS_COLUMN: &str = "loss_";
/// A pool's column of times, which it may have: seconds of a training with the largest budget.
const SECONDS_COLUMN: &str = "seconds";

/// One pool.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    dimensions: Vec<Dimension>,
    /// Recorded budgets, ascending.
    budgets: Vec<f64>,
    rows: Vec<Row>,
    best: f64,
    median: f64,
    worst: f64,
    without_replacement: bool,
}

#[derive(Debug, Clone)]
struct Row {
    vector: Vec<f64>,
    /// By recorded budget; infinite from divergence on.
    losses: Vec<f64>,
    /// What a training with the largest budget costs, in means of all rows.
    price: f64,
}

impl Pool {
    /// Reads a pool, `.csv` or `.csv.gz`.
    pub(super) fn read(path: &Path, space: &SpaceFile, without_replacement: bool) -> Result<Self> {
        let pool = Self::parse(path, space, without_replacement);
        pool.map_err(|error| {
            let message = format!("cannot use the pool `{}`", path.display());
            Failure::because(Code::BadInput, message, error).into()
        })
    }

    fn parse(path: &Path, space: &SpaceFile, without_replacement: bool) -> Result<Self> {
        let space = SearchSpace::new(space)?;
        let text = unpacked(&shared::fs::read_named(path)?)?;
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let header = reader.headers()?.clone();
        let columns: Vec<usize> = space
            .dimensions()
            .map(|h| {
                let found = header.iter().position(|column| column == h.name);
                found.with_context(|| format!("it has no column `{}`", h.name))
            })
            .collect::<Result<_>>()?;
        let losses = loss_columns(&header)?;
        let seconds = header.iter().position(|column| column == SECONDS_COLUMN);
        let mut rows = Vec::new();
        for (record, line) in reader.records().zip(2..) {
            let record = record?;
            let at = |column: &str| format!("line {line}, column `{column}`");
            let vector: Vec<f64> = space
                .dimensions()
                .zip(&columns)
                .map(|(h, column)| {
                    let field = &record[*column];
                    let found = coordinate(&h.kind, field);
                    found.with_context(|| {
                        format!("{}: `{field}` is no value of the space", at(&h.name))
                    })
                })
                .collect::<Result<_>>()?;
            let mut row = Row {
                vector,
                losses: Vec::with_capacity(losses.len()),
                price: 1.0,
            };
            if let Some(column) = seconds {
                let found = &record[column];
                let time = found.parse::<f64>().ok(); // no number: refused below
                let Some(time) = time.filter(|time| time.is_finite() && *time > 0.0) else {
                    let place = at(SECONDS_COLUMN);
                    bail!("{place}: expected a positive number, found `{found}`");
                };
                row.price = time;
            }
            for (_, column) in &losses {
                let loss = record[*column].parse::<f64>().ok(); // no number: refused below
                let Some(loss) = loss.filter(|loss| *loss > f64::NEG_INFINITY) else {
                    let (place, found) = (at(&header[*column]), &record[*column]);
                    bail!("{place}: expected a number, or `inf` for diverged, found `{found}`");
                };
                let has_diverged = row.losses.last().is_some_and(|last| last.is_infinite());
                row.losses
                    .push(if has_diverged { f64::INFINITY } else { loss });
            }
            rows.push(row);
        }
        let budgets = losses.into_iter().map(|(budget, _)| budget).collect();
        Self::new(
            Dimension::of_space(&space),
            budgets,
            rows,
            without_replacement,
        )
    }

    fn new(
        dimensions: Vec<Dimension>,
        budgets: Vec<f64>,
        mut rows: Vec<Row>,
        without_replacement: bool,
    ) -> Result<Self> {
        let mut finals: Vec<f64> = rows.iter().map(Row::last).collect();
        finals.sort_unstable_by(f64::total_cmp);
        let finite = finals.partition_point(|loss| loss.is_finite());
        let Some(worst) = finite.checked_sub(1).map(|last| finals[last]) else {
            bail!("expected a row with a finite loss at the largest budget, found none");
        };
        let mean_price = rows.iter().map(|row| row.price).sum::<f64>() / rows.len() as f64;
        for row in &mut rows {
            row.price /= mean_price;
        }
        let median = f64::midpoint(finals[(finals.len() - 1) / 2], finals[finals.len() / 2]);
        Ok(Self {
            dimensions,
            budgets,
            rows,
            best: finals[0],
            median: median.min(worst),
            worst,
            without_replacement,
        })
    }

    /// The largest recorded budget.
    pub(super) fn max_budget(&self) -> f64 {
        self.budgets[self.budgets.len() - 1]
    }

    /// The row that stands for a vector of the space, the first of those equally near; where rows are not replaced, one
    /// that is not in `taken`, unless all are.
    pub(super) fn place(&self, vector: &[f64], taken: &mut BTreeSet<usize>) -> usize {
        if taken.len() == self.rows.len() {
            taken.clear();
        }
        let mut best = (f64::INFINITY, 0);
        for (index, row) in self.rows.iter().enumerate() {
            if self.without_replacement && taken.contains(&index) {
                continue;
            }
            let distance = self.squared_distance(vector, &row.vector);
            if distance < best.0 {
                best = (distance, index);
            }
        }
        taken.insert(best.1);
        best.1
    }

    /// The loss of a row at a budget; infinite where it had diverged.
    pub(super) fn loss(&self, row: usize, budget: f64) -> f64 {
        self.rows[row].losses[self.column(budget)]
    }

    /// What a row's training with the largest budget costs, in means of all rows.
    pub(super) fn price(&self, row: usize) -> f64 {
        self.rows[row].price
    }

    /// How many trainings there are.
    pub(super) fn num_rows(&self) -> usize {
        self.rows.len()
    }

    /// The learning curve of a row, up to its divergence.
    pub(super) fn curve(&self, row: usize) -> Vec<Point> {
        let points = self.budgets.iter().zip(&self.rows[row].losses);
        let mut curve: Vec<Point> = points
            .map(|(budget, loss)| Point {
                budget: *budget,
                loss: *loss,
            })
            .collect();
        let finite = curve.partition_point(|p| p.loss.is_finite());
        curve.truncate(finite + 1);
        curve
    }

    /// The learning curve of a row of which a training with a budget would have published the points, the last at its end.
    pub(super) fn curve_until(&self, row: usize, budget: f64) -> Vec<Point> {
        let mut curve = self.curve(row);
        let before = curve.partition_point(|p| p.budget < budget);
        curve.truncate(before);
        if curve.last().is_none_or(|p| p.loss.is_finite()) {
            let loss = self.loss(row, budget);
            curve.push(Point { budget, loss });
        }
        curve
    }

    /// The recorded budget nearest to one.
    pub(super) fn recorded(&self, budget: f64) -> f64 {
        self.budgets[self.column(budget)]
    }

    /// The regret of a row.
    pub(super) fn regret(&self, row: usize) -> f64 {
        let loss = self.rows[row].last().min(self.worst);
        if self.median > self.best {
            (loss - self.best) / (self.median - self.best)
        } else {
            0.0 // half of the rows are best
        }
    }

    fn squared_distance(&self, a: &[f64], b: &[f64]) -> f64 {
        let pairs = a.iter().zip(b).zip(&self.dimensions);
        pairs
            .map(|((a, b), dimension)| match dimension {
                _ if a.is_nan() && b.is_nan() => 0.0,
                _ if a.is_nan() || b.is_nan() => 1.0,
                Dimension::Continuous | Dimension::Ordered { .. } => (a - b) * (a - b),
                Dimension::Unordered { .. } => f64::from(u8::from((a - b).abs() > 0.5)),
            })
            .sum()
    }

    /// The recorded budget nearest to one, the smaller of two equally near.
    fn column(&self, budget: f64) -> usize {
        let above = self.budgets.partition_point(|recorded| *recorded < budget);
        let nearest = (above.saturating_sub(1)..=above)
            .filter(|i| *i < self.budgets.len())
            .min_by(|a, b| {
                let distance = |i: usize| (self.budgets[i] - budget).abs();
                distance(*a).total_cmp(&distance(*b))
            });
        nearest.expect("a pool has a recorded budget")
    }
}

impl Row {
    fn last(&self) -> f64 {
        self.losses[self.losses.len() - 1]
    }
}

/// The recorded budgets and their columns.
fn loss_columns(header: &csv::StringRecord) -> Result<Vec<(f64, usize)>> {
    let mut losses: Vec<(f64, usize)> = Vec::new();
    for (index, name) in header.iter().enumerate() {
        let Some(budget) = name.strip_prefix(LOSS_COLUMN) else {
            continue;
        };
        let parsed = budget.parse::<f64>().ok(); // no number: refused below
        let Some(parsed) = parsed.filter(|b| b.is_finite() && *b > 0.0) else {
            bail!(
                "column `{name}`: expected a budget behind `{LOSS_COLUMN}`, a positive number, found `{budget}`"
            );
        };
        losses.push((parsed, index));
    }
    losses.sort_by(|a, b| a.0.total_cmp(&b.0));
    if losses.is_empty() {
        bail!("it has no column whose name starts with `{LOSS_COLUMN}`");
    }
    Ok(losses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str, without_replacement: bool) -> Result<Pool> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool.csv");
        shared::fs::replace(&path, text.as_bytes()).unwrap();
        let space = r#"{"hyperparameters":[
            {"name":"x","type":"float","lower":0,"upper":2},
            {"name":"k","type":"categorical","choices":["a","b"]}]}"#;
        Pool::read(
            &path,
            &serde_json::from_str(space).unwrap(),
            without_replacement,
        )
    }

    const SMALL: &str =
        "x,k,loss_1,loss_3,loss_9\n0,a,5,4,1\n1,a,3,inf,inf\n2,a,4,3,2\n2,b,4,3,4\n";

    #[test]
    fn a_configuration_is_its_nearest_row() {
        let pool = pool(SMALL, false).unwrap();
        let mut taken = BTreeSet::new();
        for (vector, row) in [
            ([0.1, 0.0], 0),
            ([0.3, 0.0], 1),
            ([0.9, 0.0], 2),
            ([0.2, 1.0], 3),
        ] {
            assert_eq!(pool.place(&vector, &mut taken), row);
            assert_eq!(pool.place(&vector, &mut taken), row);
        }
        assert!((pool.loss(0, 2.9) - 4.0).abs() < 1e-12);
        assert!((pool.loss(0, 100.0) - 1.0).abs() < 1e-12);
        // It diverged, and is never finite again.
        assert!(pool.loss(1, 9.0).is_infinite());
        // Best 1; median of 1, 2, 4 and infinity: 3.
        assert!((pool.regret(2) - 0.5).abs() < 1e-12);
        assert!((pool.regret(1) - pool.regret(3)).abs() < 1e-12);
    }

    #[test]
    fn trainings_cost_their_seconds_where_there_are_any() {
        let timed = "x,k,loss_1,seconds\n0,a,5,30\n1,a,3,10\n";
        for (text, row, price) in [(timed, 0, 1.5), (timed, 1, 0.5), (SMALL, 1, 1.0)] {
            let found = pool(text, false).unwrap().price(row);
            assert!((found - price).abs() < 1e-12, "{text}: {found}");
        }
    }

    #[test]
    fn without_replacement_every_configuration_has_a_row_of_its_own() {
        let pool = pool(SMALL, true).unwrap();
        let mut taken = BTreeSet::new();
        let rows: Vec<usize> = (0..4)
            .map(|_| pool.place(&[0.0, 0.0], &mut taken))
            .collect();
        assert_eq!(rows, [0, 1, 2, 3]);
        // All are taken: from the beginning.
        assert_eq!(pool.place(&[0.0, 0.0], &mut taken), 0);
    }

    #[test]
    fn wrong_pools_are_refused_with_the_place() {
        for (text, part) in [
            ("x,loss_1\n0,1\n", "no column `k`"),
            ("x,k\n0,a\n", "starts with `loss_`"),
            ("x,k,loss_one\n0,a,1\n", "column `loss_one`"),
            ("x,k,loss_1\n0,a,1\n0,c,1\n", "line 3, column `k`: `c`"),
            (
                "x,k,loss_1\n0,a,nan\n",
                "line 2, column `loss_1`: expected a number",
            ),
            (
                "x,k,loss_1,seconds\n0,a,1,0\n",
                "line 2, column `seconds`: expected a positive number",
            ),
            ("x,k,loss_1\n0,a,inf\n", "finite loss at the largest budget"),
            ("x,k,loss_1\n", "finite loss at the largest budget"),
        ] {
            let error = format!("{:#}", pool(text, false).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
