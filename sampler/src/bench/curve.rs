//! Regret curves: reading and writing them, and what they come to at a few points.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::bench::file::unpacked;
use crate::bench::simulate::Row;

/// Where curves are compared: largest budgets spent.
pub const POINTS: [f64; 5] = [8.0, 16.0, 32.0, 64.0, 128.0];
/// Where those of many workers are compared: the time that so many largest budgets take.
pub const PARALLEL_POINTS: [f64; POINTS.len()] = [1.0, 2.0, 4.0, 8.0, 16.0];

/// A run at each of [`POINTS`] or [`PARALLEL_POINTS`].
pub type AtPoints = [Option<f64>; POINTS.len()];

/// The true regret of the incumbent at each point; `None` beyond the end of the run.
///
/// Incumbent: the smallest finite loss seen at the largest budget evaluated so far, as HpBandSter has it.
pub fn at_points(rows: &[Row], points: &[f64; POINTS.len()]) -> AtPoints {
    let time = |row: &Row| row.ended_at.unwrap_or(row.cum_restart);
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| time(a).total_cmp(&time(b)));
    let mut found = [None; POINTS.len()];
    for (found, point) in found.iter_mut().zip(points) {
        let last = rows.last().map_or(0.0, |row| time(row));
        // A run ends with the evaluation that would go beyond its total.
        if last < 0.985 * point {
            continue;
        }
        let mut incumbent: Option<&Row> = None;
        for row in rows
            .iter()
            .take_while(|row| time(row) <= point * 1.001 + 1e-9)
            .filter(|row| row.loss.is_finite())
        {
            let is_better = incumbent.is_none_or(|best| {
                row.budget > best.budget * 1.001
                    || (row.budget > best.budget * 0.999 && row.loss < best.loss)
            });
            if is_better {
                incumbent = Some(row);
            }
        }
        *found = incumbent.map(|row| row.true_regret);
    }
    found
}

/// Mean and its standard error over runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error, of two runs or more.
    pub error: Option<f64>,
    /// How many runs there are.
    pub num_runs: usize,
}

impl Mean {
    /// `mean ± standard error`, with so many digits; of one run the mean alone.
    pub fn to_text(self, digits: usize) -> String {
        let mean = format!("{:.digits$}", self.mean);
        match self.error {
            Some(error) => format!("{mean} ± {error:.digits$}"),
            None => mean,
        }
    }
}

/// The mean of the runs that reach a point.
pub fn mean(values: &[f64]) -> Option<Mean> {
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    let error = (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
    Some(Mean {
        mean,
        error,
        num_runs: values.len(),
    })
}

/// The means at each point.
pub fn summary(runs: &[AtPoints]) -> [Option<Mean>; POINTS.len()] {
    std::array::from_fn(|i| mean(&runs.iter().filter_map(|run| run[i]).collect::<Vec<f64>>()))
}

/// Reads a curve, `.csv` or `.csv.gz`.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let text = unpacked(&shared::fs::read_named(path)?)?;
    let rows: Result<Vec<Row>, _> = csv::Reader::from_reader(text.as_slice())
        .deserialize()
        .collect();
    rows.with_context(|| format!("`{}` is not a regret curve", path.display()))
}

/// Writes a curve.
pub fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(shared::fs::replace(path, &writer.into_inner()?)?)
}

/// A tool's name, and its runs at points.
pub type Tool = (String, Vec<AtPoints>);

/// The runs of each tool on a benchmark in a folder of `BENCHMARK__TOOL__SEED.csv[.gz]`, by tool.
///
/// Other files are not looked at.
pub fn read_folder(
    folder: &Path,
    benchmark: &str,
    points: &[f64; POINTS.len()],
) -> Result<Vec<Tool>> {
    let mut tools: Vec<Tool> = Vec::new();
    for name in shared::fs::list_named(folder)? {
        let stem = name.trim_end_matches(".gz").trim_end_matches(".csv");
        let parts: Vec<&str> = stem.split("__").collect();
        let [found, tool, _seed] = parts.as_slice() else {
            continue;
        };
        if *found != benchmark {
            continue;
        }
        let run = at_points(&read(&folder.join(&name))?, points);
        match tools.iter_mut().find(|(known, _)| known == tool) {
            Some((_, runs)) => runs.push(run),
            None => tools.push(((*tool).to_owned(), vec![run])),
        }
    }
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_has_a_mean_and_no_standard_error() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[0.5]).unwrap().to_text(2), "0.50");
        // The variance is 7, of three.
        assert_eq!(mean(&[1.0, 2.0, 6.0]).unwrap().to_text(3), "3.000 ± 1.528");
    }
}
