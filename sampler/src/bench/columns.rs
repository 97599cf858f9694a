//! A pool's columns: which there are, and what a row of the file says in them.

use anyhow::{Context as _, Result, bail};
use csv::StringRecord;
use shared::{Configuration, Hyperparameter, Kind, SearchSpace, Value};

use crate::bench::file;

/// What a pool's columns of losses start with; the recorded budget follows.
const LOSS_COLUMN: &str = "loss_";
/// A pool's column of times, which it may have: seconds of a training with the largest budget.
const SECONDS_COLUMN: &str = "seconds";

/// Where a pool's columns stand.
#[derive(Debug)]
pub(super) struct Columns {
    header: StringRecord,
    /// Of the hyperparameters, in the order of the encoding.
    values: Vec<usize>,
    /// Recorded budgets with their columns, ascending.
    losses: Vec<(f64, usize)>,
    seconds: Option<usize>,
}

/// A training of a pool.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Its configuration; NaN where that is inactive.
    pub(super) vector: Vec<f64>,
    /// By recorded budget; infinite from divergence on.
    pub(super) losses: Vec<f64>,
    /// What it costs with the largest budget: seconds, or 1 in a pool without times.
    pub(super) price: f64,
}

impl Row {
    /// The loss at the largest recorded budget.
    pub(super) fn last(&self) -> f64 {
        self.losses[self.losses.len() - 1]
    }
}

impl Columns {
    /// The columns of a pool on a space.
    pub(super) fn find(header: &StringRecord, space: &SearchSpace) -> Result<Self> {
        let value = |h: &Hyperparameter| -> Result<usize> {
            only(header, &h.name)?.with_context(|| missing(header, &h.name))
        };
        Ok(Self {
            header: header.clone(),
            values: space.dimensions().map(value).collect::<Result<_>>()?,
            losses: loss_columns(header)?,
            seconds: only(header, SECONDS_COLUMN)?,
        })
    }

    /// The recorded budgets, ascending; at least one.
    pub(super) fn budgets(&self) -> Vec<f64> {
        self.losses.iter().map(|(budget, _)| *budget).collect()
    }

    /// Whether it says how long trainings took.
    pub(super) fn have_seconds(&self) -> bool {
        self.seconds.is_some()
    }

    /// What a row says.
    pub(super) fn row(&self, record: &StringRecord, line: u64, space: &SearchSpace) -> Result<Row> {
        let at = |column: usize| format!("line {line}, column `{}`", &self.header[column]);
        let vector = self.vector(record, space, &at)?;
        let mut price = 1.0;
        if let Some(column) = self.seconds {
            let found = &record[column];
            let time = found.parse::<f64>().ok(); // no number: refused below
            let Some(time) = time.filter(|time| time.is_finite() && *time > 0.0) else {
                let place = at(column);
                bail!("{place}: expected a positive number, found `{found}`");
            };
            price = time;
        }
        let mut losses: Vec<f64> = Vec::with_capacity(self.losses.len());
        for (_, column) in &self.losses {
            let found = &record[*column];
            let loss = found.parse::<f64>().ok(); // no number: refused below
            let Some(loss) = loss.filter(|loss| *loss > f64::NEG_INFINITY) else {
                let place = at(*column);
                bail!("{place}: expected a number, or `inf` for diverged, found `{found}`");
            };
            let has_diverged = losses.last().is_some_and(|last| last.is_infinite());
            losses.push(if has_diverged { f64::INFINITY } else { loss });
        }
        Ok(Row {
            vector,
            losses,
            price,
        })
    }

    /// The vector of a row's configuration; where a hyperparameter is inactive, nothing is read.
    fn vector(
        &self,
        record: &StringRecord,
        space: &SearchSpace,
        at: &impl Fn(usize) -> String,
    ) -> Result<Vec<f64>> {
        let mut configuration = Configuration::default();
        let mut columns = self.values.iter().copied();
        for hyperparameter in space.hyperparameters() {
            let name = hyperparameter.name.as_str();
            let is_active = space.is_active(hyperparameter, &configuration);
            if let Kind::Constant { value } = &hyperparameter.kind {
                if is_active {
                    configuration.set(name, value.clone());
                }
                continue;
            }
            let column = columns.next().context("a dimension has a column")?;
            if is_active {
                let value = active(&hyperparameter.kind, &record[column]);
                configuration.set(name, value.with_context(|| at(column))?);
            }
        }
        Ok(space.encode(&configuration))
    }
}

/// The value of an active hyperparameter.
fn active(kind: &Kind, field: &str) -> Result<Value> {
    if let Some(value) = file::value(kind, field) {
        return Ok(value);
    }
    let expected = kind.describe();
    if field.is_empty() {
        bail!(
            "expected {expected}, found nothing: only where it is inactive may the field be empty"
        );
    }
    bail!("expected {expected}, as the space has it, found `{field}`: mend the row or the space");
}

/// The column of a name, if there is one.
fn only(header: &StringRecord, name: &str) -> Result<Option<usize>> {
    let columns = header.iter().enumerate();
    let mut found = columns
        .filter(|(_, column)| *column == name)
        .map(|(index, _)| index);
    let (first, second) = (found.next(), found.next());
    if let (Some(first), Some(second)) = (first, second) {
        let (first, second) = (first + 1, second + 1);
        bail!("columns {first} and {second} are both called `{name}`: expected one, remove one");
    }
    Ok(first)
}

/// What is said of a hyperparameter without a column.
fn missing(header: &StringRecord, name: &str) -> String {
    format!(
        "it has no column `{name}`: expected one for each hyperparameter of the space, found {}; add it, or give another \
         --space",
        beside_losses(header)
    )
}

/// The columns that are none of losses, for people.
fn beside_losses(header: &StringRecord) -> String {
    let others = header
        .iter()
        .filter(|column| !column.starts_with(LOSS_COLUMN));
    let others: Vec<String> = others.map(|column| format!("`{column}`")).collect();
    if others.is_empty() {
        "none".to_owned()
    } else {
        others.join(", ")
    }
}

/// The recorded budgets and their columns.
fn loss_columns(header: &StringRecord) -> Result<Vec<(f64, usize)>> {
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
        bail!(
            "it has no column whose name starts with `{LOSS_COLUMN}`: expected one for each recorded budget, such as \
             `{LOSS_COLUMN}27`, found {}",
            beside_losses(header)
        );
    }
    let mut pairs = losses.windows(2);
    if let Some(pair) = pairs.find(|pair| pair[0].0.total_cmp(&pair[1].0).is_eq()) {
        let (first, second) = (&header[pair[0].1], &header[pair[1].1]);
        bail!(
            "columns `{first}` and `{second}` are of the same budget: expected one for each, remove one"
        );
    }
    Ok(losses)
}
