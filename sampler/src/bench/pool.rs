//! Pools of real trainings: configurations that were trained once, with the loss after every recorded budget.
//!
//! ```text
//! row      the one nearest to a configuration: Σ_j Δ_j², Δ_j the difference of coordinates in [0, 1] for numbers, in
//!          levels for ordinals, 0 or 1 for categories, and for what is inactive in one of the two
//! loss(b)  the loss at the recorded budget nearest to b; infinite: the training had diverged by then, for good
//! regret   (final loss - best) / (median - best)                best, median: of all rows' final losses
//! ```
//! A pool is sparse, so that many configurations share a row; `without replacement` gives each its own, the nearest that
//! the run has not had yet.
//!
//! Range of validity: any number of rows with a finite final loss, at least one; budgets from half of the smallest recorded
//! one to the largest. Diverged rows count as infinite in the median; the regret of a row that diverges is that of the worst
//! one that does not.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use shared::budget::short;
use shared::exit::{Code, Failure};
use shared::space::SpaceFile;
use shared::{SearchSpace, Value};

use crate::bench::columns::{Columns, Row};
use crate::bench::file::unpacked;
use crate::kde::Dimension;
use crate::learning_curve::Point;

/// One pool.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    /// Its path, for people.
    file: String,
    dimensions: Vec<Dimension>,
    /// Recorded budgets, ascending.
    budgets: Vec<f64>,
    /// The last of them.
    max_budget: u64,
    /// Their prices are in means of all.
    rows: Vec<Row>,
    best: f64,
    median: f64,
    worst: f64,
    is_timed: bool,
    without_replacement: bool,
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
        let columns = Columns::find(reader.headers()?, &space)?;
        let mut rows = Vec::new();
        for (record, line) in reader.records().zip(2..) {
            rows.push(columns.row(&record?, line, &space)?);
        }
        Self::new(path, &space, &columns, rows, without_replacement)
    }

    fn new(
        path: &Path,
        space: &SearchSpace,
        columns: &Columns,
        mut rows: Vec<Row>,
        without_replacement: bool,
    ) -> Result<Self> {
        let budgets = columns.budgets();
        let largest = budgets[budgets.len() - 1];
        let max_budget = whole(largest).with_context(|| {
            format!(
                "the largest budget is {largest}: expected a whole number of at most 9e15; budgets are whole numbers of \
                 steps: multiply them all, as in `loss_0.5` -> `loss_5`"
            )
        })?;
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
            file: path.display().to_string(),
            dimensions: Dimension::of_space(space),
            budgets,
            max_budget,
            rows,
            best: finals[0],
            median: median.min(worst),
            worst,
            is_timed: columns.have_seconds(),
            without_replacement,
        })
    }

    /// The file it was read from.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Whether it says how long trainings took.
    pub(super) fn is_timed(&self) -> bool {
        self.is_timed
    }

    /// The largest recorded budget.
    pub(super) fn max_budget(&self) -> u64 {
        self.max_budget
    }

    /// The smallest budget of a search up to `max_budget` that names none: 1/27 of that, rounded up, and half of the smallest
    /// recorded one at least.
    pub(super) fn min_budget(&self, max_budget: u64) -> u64 {
        let least = max_budget.div_ceil(27).max(self.least_budget());
        least.min(max_budget)
    }

    /// The smallest budget that the smallest recorded one answers for: half of it, rounded up.
    fn least_budget(&self) -> u64 {
        whole((0.5 * self.budgets[0]).ceil()).unwrap_or(1) // no larger than the largest, which is whole
    }

    /// Whether there are losses for budgets from that of the lowest rung to the largest.
    ///
    /// # Errors
    /// Which there are, and what to write.
    pub(super) fn check_budgets(&self, lowest: f64, max_budget: u64) -> Result<(), String> {
        let Self {
            file,
            max_budget: largest,
            ..
        } = self;
        if max_budget > *largest {
            return Err(format!(
                "`--max-budget {max_budget}`: the largest budget recorded in `{file}` is {largest}; expected at most that"
            ));
        }
        let least = self.least_budget();
        if lowest >= least as f64 {
            return Ok(());
        }
        let (lowest, smallest) = (short(lowest), self.budgets[0]);
        let option = if max_budget < least { "max" } else { "min" };
        Err(format!(
            "the lowest rung has a budget of {lowest}, and the smallest budget recorded in `{file}` is {smallest}, whose loss \
             would stand for it: expected at least half of that; write `--{option}-budget {least}` or more"
        ))
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

/// The whole number that a budget is, if it is one.
fn whole(budget: f64) -> Option<u64> {
    u64::try_from(Value::Float(budget).as_i64()?).ok() // budgets are positive
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: &str = r#"{"hyperparameters":[
        {"name":"x","type":"float","lower":0,"upper":2},
        {"name":"k","type":"categorical","choices":["a","b"]}]}"#;
    /// `x` is active where `k` is b and the constant is there.
    const CONDITIONAL: &str = r#"{"hyperparameters":[
        {"name":"k","type":"categorical","choices":["a","b"]},
        {"name":"one","type":"constant","value":1,"active_when":{"hyperparameter":"k","in":["b"]}},
        {"name":"x","type":"integer","lower":1,"upper":9,"active_when":{"hyperparameter":"one","in":[1]}}]}"#;

    fn pool_on(space: &str, text: &str, without_replacement: bool) -> Result<Pool> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool.csv");
        shared::fs::replace(&path, text.as_bytes()).unwrap();
        let space = serde_json::from_str(space).unwrap();
        Pool::read(&path, &space, without_replacement)
    }

    fn pool(text: &str, without_replacement: bool) -> Result<Pool> {
        pool_on(SPACE, text, without_replacement)
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
    fn what_has_diverged_stays_so_whatever_follows() {
        let text = "x,k,loss_1,loss_3,loss_9\n0,a,5,inf,1\n1,a,3,2,1\n";
        assert!(pool(text, false).unwrap().loss(0, 9.0).is_infinite());
    }

    #[test]
    fn what_is_inactive_is_empty_or_not_read() {
        let text = "k,x,loss_1\na,,1\nb,5,2\na,77,3\n";
        let pool = pool_on(CONDITIONAL, text, false).unwrap();
        for row in [0, 2] {
            assert!(pool.rows[row].vector[1].is_nan(), "{row}");
        }
        let mut taken = BTreeSet::new();
        for (vector, row) in [([0.0, f64::NAN], 0), ([1.0, 0.9], 1)] {
            assert_eq!(pool.place(&vector, &mut taken), row);
        }
        let wrong = pool_on(CONDITIONAL, "k,x,loss_1\na,,1\nb,,2\n", false).unwrap_err();
        let error = format!("{wrong:#}");
        let part = "line 3, column `x`: expected a whole number from 1 to 9, found nothing";
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn numbers_that_a_rounding_took_out_of_their_range_are_its_ends() {
        let pool = pool("x,k,loss_1\n2.000001,a,1\n-1e-7,b,2\n", false).unwrap();
        for (row, end) in [(0, 1.0), (1, 0.0)] {
            let found = pool.rows[row].vector[0];
            assert!((found - end).abs() < 1e-12, "{found}");
        }
    }

    #[test]
    fn budgets_are_those_that_losses_were_recorded_for() {
        let small = pool(SMALL, false).unwrap();
        assert_eq!((small.max_budget(), small.min_budget(9)), (9, 1));
        assert_eq!(small.check_budgets(1.0, 9), Ok(()));
        let error = small.check_budgets(1.0, 10).unwrap_err();
        assert!(error.contains("`--max-budget 10`") && error.contains("is 9;"));
        // Half of the smallest recorded one, where 1/27 of the largest is less.
        let late = pool("x,k,loss_11,loss_30,loss_90\n0,a,3,2,1\n", false).unwrap();
        assert_eq!((late.max_budget(), late.min_budget(90)), (90, 6));
        assert_eq!(late.check_budgets(10.0, 90), Ok(()));
        let error = late.check_budgets(3.0, 90).unwrap_err();
        assert!(error.contains("`--min-budget 6` or more"), "{error}");
        let error = late.check_budgets(4.0, 4).unwrap_err();
        assert!(error.contains("`--max-budget 6` or more"), "{error}");
        // One recorded budget is the only rung.
        let one = pool("x,k,loss_27\n0,a,3\n", false).unwrap();
        assert_eq!((one.max_budget(), one.min_budget(27)), (27, 14));
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
            ("x,loss_1\n0,1\n", "found `x`; add it"),
            (
                "x,k,x,loss_1\n0,a,0,1\n",
                "columns 1 and 3 are both called `x`",
            ),
            ("x,k,loss_1,loss_1\n0,a,1,1\n", "of the same budget"),
            (
                "x,k,loss_1.0,loss_1\n0,a,1,1\n",
                "columns `loss_1.0` and `loss_1`",
            ),
            (
                "x,k,loss_0.5\n0,a,1\n",
                "the largest budget is 0.5: expected a whole",
            ),
            (
                "x,k,loss_1\n0,a,1\n0,c,1\n",
                "line 3, column `k`: expected one of \"a\", \"b\", as the space has it, found `c`",
            ),
            (
                "x,k,loss_1\n7,a,1\n",
                "line 2, column `x`: expected a number from 0 to 2, as the space has it, found `7`",
            ),
            (
                "x,k,loss_1\n,a,1\n",
                "line 2, column `x`: expected a number from 0 to 2, found nothing",
            ),
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
