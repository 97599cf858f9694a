//! What a benchmark run minimises: a function with a known optimum, or a table of real trainings.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr as _;

use anyhow::{Context as _, Result, bail};
use data::benchmark::{Benchmark, Function};
use rand::RngExt as _;
use shared::budget::BudgetSettings;
use shared::exit::{Code, Failure};
use shared::search::Scheduling;
use shared::space::{Confidence, HyperparameterFile, KindName, SpaceFile};
use shared::{BudgetUnit, Configuration, Hyperparameter, Ladder, SearchSpace, Seed, Value};

use crate::bench::file::{coordinate, unpacked};
use crate::bench::pool::Pool;

/// Draws of which a user believes in one.
const NUM_BELIEVED: u32 = 25;

/// A problem to be solved, with the budgets it is posed at.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Its name, as part of file names.
    pub name: String,
    /// What may vary.
    pub space: SpaceFile,
    /// Smallest budget wanted.
    pub min_budget: u64,
    /// Largest budget.
    pub max_budget: u64,
    /// How much more each rung has than the one below.
    pub eta: u64,
    /// The rungs at which brackets start, in turn; `None`: as the method has it.
    pub first_rungs: Option<Vec<u8>>,
    /// When configurations are promoted, for methods that promote.
    pub scheduling: Scheduling,
    /// Whether all jobs are for the largest budget and are stopped at a lower rung's where others were better.
    pub stopping: bool,
    /// Whether method `tandem` counts costs.
    pub cost_aware: bool,
    /// A training is ended on its way where it reaches what it is for with less than this probability; `None`: never.
    pub hopeless: Option<f64>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Function(Benchmark),
    Table(Table),
    Pool(Pool),
    /// Nothing is evaluated.
    Nothing,
}

impl Problem {
    fn posed(name: String, space: SpaceFile, budgets: RangeInclusive<u64>, source: Source) -> Self {
        Self {
            name,
            space,
            min_budget: *budgets.start(),
            max_budget: *budgets.end(),
            eta: 3,
            first_rungs: None,
            scheduling: Scheduling::default(),
            stopping: false,
            cost_aware: false,
            hopeless: None,
            source,
        }
    }

    /// A space without a question, four rungs.
    pub(super) fn unposed(space: SpaceFile) -> Self {
        Self::posed("none".to_owned(), space, 1..=27, Source::Nothing)
    }

    /// The same problem for a user who believes in the best, or the worst, of [`NUM_BELIEVED`] draws.
    ///
    /// # Errors
    /// For a problem without a known optimum.
    pub(super) fn believing(
        &self,
        quality: PriorQuality,
        confidence: Confidence,
        seed: u64,
    ) -> Result<Self> {
        let space = SearchSpace::new(&self.space)?;
        let mut rng = Seed::new(seed).child("belief", &self.name).rng();
        let mut believed: Option<(f64, Configuration)> = None;
        for _ in 0..NUM_BELIEVED {
            let values = space.decode(&space.sample(&mut rng));
            let regret = self.regret(&values)?;
            let is_wanted = |other: f64| match quality {
                PriorQuality::Good => regret < other,
                PriorQuality::Wrong => regret > other,
            };
            if believed.as_ref().is_none_or(|(other, _)| is_wanted(*other)) {
                believed = Some((regret, values));
            }
        }
        let (_, values) = believed.context("no draw")?;
        let mut problem = self.clone();
        for hyperparameter in &mut problem.space.hyperparameters {
            if hyperparameter.kind != KindName::Constant {
                hyperparameter.prior = values.get(&hyperparameter.name).cloned();
                hyperparameter.confidence = hyperparameter.prior.as_ref().map(|_| confidence);
            }
        }
        Ok(problem)
    }

    /// A benchmark function by name: `branin`, `counting-ones-N`, `joint-resnet`, `mf-hartmann3-good`, …
    ///
    /// The levels of the Hartmann functions are `good` (bias 0.5, noise 0.1: mf-prior-bench's default, what the rivals were
    /// measured on; its own `good` is another one), `moderate` (3, 3), `bad` (3.5, 4) and `terrible` (4, 5); without a level
    /// it is `good`.
    pub fn function(name: &str, bias: Option<f64>, noise: Option<f64>) -> Result<Self> {
        let unknown = || {
            format!(
                "unknown benchmark `{name}`; known are branin, counting-ones-N, joint-resnet, and mf-hartmann3 and \
                 mf-hartmann6 with -good, -moderate, -bad or -terrible"
            )
        };
        let mut space = SpaceFile::default();
        let mut benchmark;
        let (min_budget, max_budget);
        if let Some(count) = name.strip_prefix("counting-ones-") {
            let count: usize = count.parse().with_context(unknown)?;
            if count == 0 || count > 10_000 {
                bail!(unknown());
            }
            benchmark = Benchmark::new(Function::CountingOnes);
            for i in 0..count {
                let mut category =
                    HyperparameterFile::new(format!("cat_{i}"), KindName::Categorical);
                category.choices = Some(vec![Value::Integer(0), Value::Integer(1)]);
                space.hyperparameters.push(category);
            }
            space
                .hyperparameters
                .extend((0..count).map(|i| float(format!("cont_{i}"), 0.0, 1.0)));
            (min_budget, max_budget) = (9, 729);
        } else if name == "branin" {
            benchmark = Benchmark::new(Function::Branin);
            space.hyperparameters = vec![
                float("x1".into(), -5.0, 10.0),
                float("x2".into(), 0.0, 15.0),
            ];
            (min_budget, max_budget) = (3, 100);
        } else if name == "joint-resnet" {
            benchmark = Benchmark::new(Function::JointResnet);
            space = Benchmark::joint_space();
            (min_budget, max_budget) = (1, 27);
        } else {
            let Some((function, level)) = name.split_at_checked("mf-hartmannN".len()) else {
                bail!(unknown());
            };
            let function = Function::from_str(function).with_context(unknown)?;
            benchmark = Benchmark::new(function);
            (benchmark.bias, benchmark.noise) = match level {
                "" | "-good" => (benchmark.bias, benchmark.noise),
                "-moderate" => (3.0, 3.0),
                "-bad" => (3.5, 4.0),
                "-terrible" => (4.0, 5.0),
                _ => bail!(unknown()),
            };
            let count = if function == Function::MfHartmann3 {
                3
            } else {
                6
            };
            space.hyperparameters = (0..count)
                .map(|i| float(format!("x_{i}"), 0.0, 1.0))
                .collect();
            // 100/27 to 100: four rungs.
            (min_budget, max_budget) = (3, 100);
        }
        benchmark.bias = bias.unwrap_or(benchmark.bias);
        benchmark.noise = noise.unwrap_or(benchmark.noise);
        let source = Source::Function(benchmark);
        Ok(Self::posed(
            name.to_owned(),
            space,
            min_budget..=max_budget,
            source,
        ))
    }

    /// A table: one column for each hyperparameter, then one or more whose names start with `loss`.
    ///
    /// With `curve`, the name of a column of learning rates, budgets below the largest see a synthetic learning curve.
    pub fn table(path: &Path, space: &Path, curve: Option<&str>) -> Result<Self> {
        let space: SpaceFile = shared::fs::read_named_record(space)?;
        let table = Table::read(path, &space, curve).map_err(|error| {
            let message = format!("cannot use the table `{}`", path.display());
            Failure::because(Code::BadInput, message, error)
        })?;
        Ok(Self::posed(
            stem(path),
            space,
            3..=100,
            Source::Table(table),
        ))
    }

    /// A pool of real trainings, posed at budgets up to the largest recorded one, from 1/27 of it and half of the smallest on.
    pub(super) fn pool(path: &Path, space: &Path, without_replacement: bool) -> Result<Self> {
        let space: SpaceFile = shared::fs::read_named_record(space)?;
        let pool = Pool::read(path, &space, without_replacement)?;
        let max_budget = pool.max_budget();
        let budgets = pool.min_budget(max_budget)..=max_budget;
        Ok(Self::posed(stem(path), space, budgets, Source::Pool(pool)))
    }

    /// The pool, if it is one.
    pub(super) fn as_pool(&self) -> Option<&Pool> {
        match &self.source {
            Source::Pool(pool) => Some(pool),
            Source::Function(_) | Source::Table(_) | Source::Nothing => None,
        }
    }

    /// What it is called in messages: a pool by its file.
    pub(super) fn title(&self) -> &str {
        self.as_pool().map_or(self.name.as_str(), Pool::file)
    }

    /// Whether it says what trainings cost.
    pub(super) fn is_timed(&self) -> bool {
        self.as_pool().is_some_and(Pool::is_timed)
    }

    /// Poses it at other budgets, as far as they are asked for.
    ///
    /// # Errors
    /// They make no ladder, or one on which a pool has no losses.
    pub(super) fn set_budgets(
        &mut self,
        min: Option<u64>,
        max: Option<u64>,
        eta: u64,
    ) -> Result<(), Failure> {
        let max = max.unwrap_or(self.max_budget);
        let least = self.as_pool().map(|pool| pool.min_budget(max));
        let min = min.or(least).unwrap_or(self.min_budget);
        if min > max {
            let message = format!(
                "the smallest budget of `{}` is {min} and the largest {max}: expected no smallest above the largest; write \
                 `--min-budget {max}` or less, or a larger `--max-budget`",
                self.title()
            );
            return Err(Failure::new(Code::Usage, message));
        }
        (self.min_budget, self.max_budget, self.eta) = (min, max, eta);
        let ladder = Ladder::new(self.budget(), true).map_err(|wrong| {
            let message = format!("no ladder of budgets for `{}`", self.title());
            Failure::because(Code::Usage, message, wrong)
        })?;
        let checked = self.as_pool().map_or(Ok(()), |pool| {
            pool.check_budgets(ladder.budget(0).amount, max)
        });
        checked.map_err(|message| Failure::new(Code::Usage, message))
    }

    /// The budgets of a search on it.
    pub(super) fn budget(&self) -> BudgetSettings {
        BudgetSettings {
            unit: BudgetUnit::Steps,
            min: self.min_budget as f64,
            max: self.max_budget as f64,
            eta: self.eta as f64,
        }
    }

    /// Where its hyperparameters differ from another problem's, in words; `None` where they are the same, so that vectors
    /// mean the same.
    pub(super) fn difference(&self, other: &Self) -> Result<Option<String>> {
        let (own, others) = (
            SearchSpace::new(&self.space)?,
            SearchSpace::new(&other.space)?,
        );
        Ok(difference(own.hyperparameters(), others.hyperparameters()))
    }

    /// What a job of this configuration and budget sees.
    pub fn evaluate(&self, values: &Configuration, budget: f64, seed: Seed) -> Result<f64> {
        let max_budget = self.max_budget as f64;
        match &self.source {
            Source::Function(benchmark) => {
                let loss = benchmark.evaluate(values, budget, max_budget, seed)?;
                Ok(match benchmark.function {
                    // Per dimension, as its regret is.
                    Function::CountingOnes => loss / values.0.len() as f64,
                    _ => loss,
                })
            }
            Source::Table(table) => table.evaluate(values, budget / max_budget, seed),
            Source::Pool(pool) => Ok(pool.loss(self.row(pool, values)?, budget)),
            Source::Nothing => bail!("this problem has no losses"),
        }
    }

    /// How far the noiseless loss at the largest budget is above the optimum.
    pub fn regret(&self, values: &Configuration) -> Result<f64> {
        match &self.source {
            Source::Function(benchmark) => Ok(benchmark.regret(values)?),
            Source::Table(table) => table.regret(values),
            Source::Pool(pool) => Ok(pool.regret(self.row(pool, values)?)),
            Source::Nothing => bail!("this problem has no optimum"),
        }
    }

    fn row(&self, pool: &Pool, values: &Configuration) -> Result<usize> {
        let vector = SearchSpace::new(&self.space)?.encode(values);
        Ok(pool.place(&vector, &mut BTreeSet::new()))
    }
}

/// What the user of a benchmark run believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PriorQuality {
    /// The best of some draws.
    Good,
    /// The worst of them.
    Wrong,
}

fn difference(own: &[Hyperparameter], others: &[Hyperparameter]) -> Option<String> {
    let is_same = |a: &Hyperparameter, b: &Hyperparameter| {
        a.name == b.name && a.kind == b.kind && a.condition == b.condition
    };
    let differs = |i: &usize| {
        let pair = own.get(*i).zip(others.get(*i));
        pair.is_none_or(|(a, b)| !is_same(a, b))
    };
    let index = (0..own.len().max(others.len())).find(differs)?;
    let words = |hyperparameter: Option<&Hyperparameter>| {
        hyperparameter.map_or_else(
            || "nothing".to_owned(),
            |h| format!("`{}` ({})", h.name, h.kind.describe()),
        )
    };
    let (own, others) = (words(own.get(index)), words(others.get(index)));
    Some(format!(
        "hyperparameter {} is {others} there and {own} here",
        index + 1
    ))
}

/// A file's name without `.csv` and `.csv.gz`.
pub(super) fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".gz")
        .trim_end_matches(".csv")
        .to_owned()
}

fn float(name: String, lower: f64, upper: f64) -> HyperparameterFile {
    HyperparameterFile {
        lower: Some(Value::Float(lower)),
        upper: Some(Value::Float(upper)),
        ..HyperparameterFile::new(name, KindName::Float)
    }
}

/// Real losses of every configuration of a grid.
///
/// ```text
/// regret = (mean loss - best) / (median - best)        best, median: of all rows' mean losses
/// curve:  loss(b) = final + max(0, median - final) exp(-k b)      b: share of the largest budget, below 1
///         k = 4 (rate / 0.01)^0.35, within 1.5..12
/// ```
#[derive(Debug, Clone)]
struct Table {
    space: SearchSpace,
    /// The levels of each dimension that stand in the table, as coordinates, ascending.
    levels: Vec<Vec<f64>>,
    /// Replicates of the loss, and the learning rate, by the levels' numbers.
    rows: BTreeMap<Vec<usize>, (Vec<f64>, f64)>,
    best: f64,
    median: f64,
    has_curve: bool,
}

impl Table {
    fn read(path: &Path, space: &SpaceFile, curve: Option<&str>) -> Result<Self> {
        let space = SearchSpace::new(space)?;
        let text = unpacked(&shared::fs::read_named(path)?)?;
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let header = reader.headers()?.clone();
        let column = |name: &str| {
            let found = header.iter().position(|column| column == name);
            found.with_context(|| format!("it has no column `{name}`"))
        };
        let columns: Vec<usize> = space
            .dimensions()
            .map(|h| column(&h.name))
            .collect::<Result<_>>()?;
        let losses: Vec<usize> = (0..header.len())
            .filter(|i| header[*i].starts_with("loss"))
            .collect();
        if losses.is_empty() {
            bail!("it has no column whose name starts with `loss`");
        }
        let rate = curve.map(column).transpose()?;
        let mut raw: Vec<(Vec<f64>, Vec<f64>, f64)> = Vec::new();
        for record in reader.records() {
            let record = record?;
            let number = |i: usize| {
                let field = &record[i];
                field
                    .parse::<f64>()
                    .with_context(|| format!("`{field}` is not a number"))
            };
            let mut coordinates = Vec::new();
            for (hyperparameter, column) in space.dimensions().zip(&columns) {
                let field = &record[*column];
                let value = coordinate(&hyperparameter.kind, field)
                    .with_context(|| format!("`{field}` is no `{}`", hyperparameter.name))?;
                coordinates.push(value);
            }
            let losses = losses.iter().map(|i| number(*i)).collect::<Result<_>>()?;
            raw.push((
                coordinates,
                losses,
                rate.map(number).transpose()?.unwrap_or(0.0),
            ));
        }
        Self::new(space, raw, rate.is_some())
    }

    /// # Shapes
    /// `raw`: coordinates `[d]`, losses, learning rate.
    fn new(
        space: SearchSpace,
        raw: Vec<(Vec<f64>, Vec<f64>, f64)>,
        has_curve: bool,
    ) -> Result<Self> {
        let levels: Vec<Vec<f64>> = (0..space.num_dimensions())
            .map(|j| {
                let mut levels: Vec<f64> = raw.iter().map(|row| row.0[j]).collect();
                levels.sort_unstable_by(f64::total_cmp);
                levels.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
                levels
            })
            .collect();
        let mut means: Vec<f64> = raw.iter().map(|row| mean(&row.1)).collect();
        means.sort_unstable_by(f64::total_cmp);
        let (best, median) = match means.as_slice() {
            [] => bail!("it has no rows"),
            // As Python's numpy.median: the mean of the two in the middle, where there are two.
            means => (
                means[0],
                f64::midpoint(means[(means.len() - 1) / 2], means[means.len() / 2]),
            ),
        };
        let key = |x: &[f64]| x.iter().zip(&levels).map(|(x, l)| nearest(l, *x)).collect();
        let rows = raw
            .into_iter()
            .map(|(x, losses, rate)| (key(&x), (losses, rate)))
            .collect();
        Ok(Self {
            space,
            levels,
            rows,
            best,
            median,
            has_curve,
        })
    }

    fn row(&self, values: &Configuration) -> Result<&(Vec<f64>, f64)> {
        let vector = self.space.encode(values);
        let key: Vec<usize> = vector
            .iter()
            .zip(&self.levels)
            .map(|(x, levels)| nearest(levels, *x))
            .collect();
        self.rows
            .get(&key)
            .context("the table has no row for a configuration of its space")
    }

    fn evaluate(&self, values: &Configuration, share: f64, seed: Seed) -> Result<f64> {
        let (losses, rate) = self.row(values)?;
        let id = format!("{values:?} {share}");
        let drawn = seed
            .child("replicate", id)
            .rng()
            .random_range(0..losses.len());
        let last = losses[drawn];
        if !self.has_curve || share >= 1.0 {
            return Ok(last);
        }
        let k = (4.0 * libm::pow(rate / 0.01, 0.35)).clamp(1.5, 12.0);
        Ok(last + (self.median - last).max(0.0) * libm::exp(-k * share))
    }

    fn regret(&self, values: &Configuration) -> Result<f64> {
        Ok((mean(&self.row(values)?.0) - self.best) / (self.median - self.best))
    }
}

/// The number of the level nearest to a coordinate, the lower of two equally near.
fn nearest(levels: &[f64], x: f64) -> usize {
    let above = levels.partition_point(|level| *level < x);
    match (above.checked_sub(1).map(|i| levels[i]), levels.get(above)) {
        (Some(lower), Some(upper)) if *upper - x < x - lower => above,
        (Some(_), _) => above - 1,
        (None, _) => 0,
    }
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}
