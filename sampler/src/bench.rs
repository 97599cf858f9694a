//! `sampler bench`: methods on functions, tables and pools with known optima, without files between the programs.
//!
//! The brackets are Hyperband's, as the scheduler makes them. Costs count every rung in full.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use rayon::prelude::*;
use shared::cli;
use shared::exit::{Code, Failure};
use shared::search::{MethodName, Scheduling};
use shared::space::Confidence;

use crate::bench::curve::{AtPoints, Mean, PARALLEL_POINTS, POINTS, Tool};
use crate::bench::problem::{PriorQuality, Problem};
use crate::bench::simulate::Row;
use crate::bench::summary::{Compared, LARGEST_RATIO, SMALLEST_RATIO};
use crate::history::EarlierSearch;

mod columns;
mod coverage;
pub mod curve;
mod file;
pub mod latency;
mod pool;
mod posed;
pub mod problem;
pub mod simulate;
mod summary;

/// Arguments of `sampler bench`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Args {
    /// Benchmark functions, separated by commas: branin, counting-ones-N, joint-resnet, mf-hartmann3-good, …
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    benchmark: Vec<String>,
    /// Bias of the benchmark functions at low budgets; default: that of the name
    #[arg(long, value_name = "X")]
    bias: Option<f64>,
    /// Noise of the benchmark functions at low budgets; default: that of the name
    #[arg(long, value_name = "X")]
    noise: Option<f64>,
    /// A table of real losses: one column for each hyperparameter, then one or more that start with `loss`
    #[arg(long, value_name = "FILE.csv", requires = "space")]
    table: Option<PathBuf>,
    /// Pools of real learning curves, separated by commas: one column for each hyperparameter, empty where it is inactive,
    /// then `loss_<budget>`, `inf` where the training had diverged, for good whatever follows; where there is a column
    /// `seconds`, how long each took with the largest budget, that is paid
    #[arg(long, value_name = "FILE.csv[.gz]", value_delimiter = ',')]
    pool: Vec<PathBuf>,
    /// The space of the table, or of each pool; default for pools: `NAME.space.json` beside `NAME.csv[.gz]`
    #[arg(long, value_name = "SPACE.json", value_delimiter = ',')]
    space: Vec<PathBuf>,
    /// Method `tandem`: the largest expected improvement by the second, as `cost_aware` in `search.json`
    #[arg(long, requires = "pool")]
    cost_aware: bool,
    /// Give every configuration a row of its own: the nearest that the run has not had yet
    #[arg(long, requires = "pool")]
    without_replacement: bool,
    /// Smallest budget; default: for pools 1/27 of the largest, and half of the smallest recorded one at least; else that of
    /// the benchmark
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    min_budget: Option<u64>,
    /// Largest budget; default: the largest recorded one for pools, that of the benchmark else
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_budget: Option<u64>,
    /// How much more budget each rung has than the one below
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..))]
    eta: u64,
    /// The rungs at which brackets start, in turn, as in `search.json`
    #[arg(long, value_name = "RUNGS", value_delimiter = ',')]
    first_rungs: Option<Vec<u8>>,
    /// When configurations are promoted, as in `search.json`: `synchronous` or `asynchronous`
    #[arg(long, value_name = "WHEN", default_value = "synchronous", value_parser = scheduling)]
    scheduling: Scheduling,
    /// Train all configurations on the largest budget, and stop those that are not among the best 1/eta at a lower rung's
    #[arg(long, conflicts_with_all = ["first_rungs", "scheduling"])]
    stopping: bool,
    /// End a training on its way where, by the curves seen so far, it is promoted, or becomes the best at the top rung, with
    /// less than this probability
    #[arg(long, value_name = "SHARE", conflicts_with = "stopping", value_parser = share)]
    hopeless: Option<f64>,
    /// The table's column of learning rates: gives low budgets a synthetic learning curve
    #[arg(long, value_name = "COLUMN", requires = "table")]
    curve: Option<String>,
    /// Compare no methods: how often the ends of curves lie in the intervals that hold this share by forecast
    #[arg(long, value_name = "SHARE", requires = "pool", conflicts_with_all = ["method", "benchmark", "table"], value_parser = share)]
    coverage: Option<f64>,
    /// The share of each curve that is known when its end is predicted
    #[arg(long, value_name = "SHARE", requires = "coverage", default_value = "0.3333333333333333", value_parser = share)]
    known: f64,
    /// Numbers of curves that have ended by then, separated by commas
    #[arg(
        long,
        value_name = "NUMBERS",
        requires = "coverage",
        value_delimiter = ',',
        default_value = "0,4,16,64"
    )]
    ended: Vec<usize>,
    /// Methods, separated by commas, as in `search.json`; `bohb-faithful` reproduces HpBandSter, faults included
    #[arg(
        long,
        value_name = "METHODS",
        value_delimiter = ',',
        required_unless_present = "coverage"
    )]
    method: Vec<String>,
    /// Seeds, from..to, the last one not included
    #[arg(long, value_name = "A..B", default_value = "0..20", value_parser = seeds)]
    seeds: (u64, u64),
    /// What a run may spend, in largest budgets; with several workers, the time of so many
    #[arg(long, value_name = "N", default_value_t = 64.0, value_parser = amount)]
    total: f64,
    /// Simulated parallel workers; of more than one, durations are the budgets with log-normal spread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    workers: u32,
    /// Prior belief of the simulated user: `good`, the best of 25 draws, or `wrong`, the worst of them; drawn for each seed
    #[arg(long, value_name = "BELIEF")]
    belief: Option<PriorQuality>,
    /// How firmly: `low`, `medium`, `high` or a number
    #[arg(long, value_name = "CONFIDENCE", default_value = "medium", requires = "belief", value_parser = confidence)]
    confidence: Confidence,
    /// The benchmark function or pool, with the same space, of an earlier search that each run learns from
    #[arg(long, value_name = "NAME or FILE.csv[.gz]")]
    learn_from: Option<String>,
    /// What the earlier search has spent, in largest budgets
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16.0,
        requires = "learn_from",
        value_parser = amount
    )]
    learn_total: f64,
    /// Reverse the losses of the earlier search, so that it misleads as much as possible
    #[arg(long, requires = "learn_from")]
    learn_reversed: bool,
    /// Folder for one `BENCHMARK__METHOD__SEED.csv` a run
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Folder with others' curves of the same form, to compare with
    #[arg(long, value_name = "FOLDER")]
    rivals: Option<PathBuf>,
    /// The names of functions, table and pools in the rivals' files, in this order; default: their own
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "rivals")]
    rival_names: Vec<String>,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let parse = || {
        let (from, to) = text.split_once("..")?;
        Some((from.parse().ok()?, to.parse().ok()?)) // no number: no range
    };
    match parse() {
        Some((from, to)) if from < to => Ok((from, to)),
        _ => Err("expected two numbers such as 0..20".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected a number between 0 and 1 such as 0.8".to_owned()),
    }
}

fn amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(amount) if amount > 0.0 && amount.is_finite() => Ok(amount),
        _ => Err("expected a number above 0 such as 64".to_owned()),
    }
}

fn scheduling(text: &str) -> Result<Scheduling, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn confidence(text: &str) -> Result<Confidence, String> {
    let json = match text.parse::<f64>() {
        Ok(number) => number.into(),
        Err(_no_number) => text.into(),
    };
    serde_json::from_value(json).map_err(|error| error.to_string())
}

/// A method to be compared.
struct Named<'a> {
    name: &'a str,
    method: MethodName,
    is_faithful: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Code> {
    let problems = posed::problems(args)?;
    if let Some(coverage) = args.coverage {
        let asked = coverage::Asked {
            coverage,
            known: args.known,
            seeds: args.seeds,
        };
        cli::print(&coverage::table(&problems, &args.ended, asked)?)?;
        return Ok(Code::Done);
    }
    let methods: Vec<Named<'_>> = args
        .method
        .iter()
        .map(|name| method(name))
        .collect::<Result<_>>()?;
    posed::check(args, &problems, &methods)?;
    let rivals = posed::rivals(args, &problems, points(args))?;
    let runs = all_runs(args, &problems, &methods)?;
    let mut text = String::new();
    let mut ratios: Vec<f64> = Vec::new();
    let mut compared = Vec::new();
    let points = points(args);
    let mut runs = runs.chunks(methods.len());
    for (problem, rivals) in problems.iter().zip(&rivals) {
        let runs = runs.next().unwrap_or(&[]); // as many as problems
        ratios.extend(compare(args, problem, rivals, &methods, runs, &mut text)?);
        let at = |runs: &Vec<Vec<Row>>| runs.iter().map(|r| curve::at_points(r, points)).collect();
        compared.push(Compared {
            name: problem.name.clone(),
            runs: runs.iter().map(at).collect(),
        });
    }
    if methods.len() == 1 && !ratios.is_empty() {
        let logs = ratios.iter().map(|r| libm::log(*r));
        let mean_ln = logs.sum::<f64>() / ratios.len() as f64;
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        let mean = libm::exp(mean_ln);
        writeln!(
            text,
            "geometric mean of the ratios, each from {SMALLEST_RATIO} to {LARGEST_RATIO}: {mean:.3}; the largest {worst:.2}"
        )?;
    }
    if methods.len() > 1 && problems.len() > 1 {
        let names: Vec<&str> = methods.iter().map(|method| method.name).collect();
        summary::write(&mut text, &names, &compared, points)?;
    }
    cli::print(&text)?;
    Ok(Code::Done)
}

fn points(args: &Args) -> &'static [f64; POINTS.len()] {
    if args.workers > 1 {
        &PARALLEL_POINTS
    } else {
        &POINTS
    }
}

/// Writes one problem's table; returns every ratio to the best rival.
///
/// # Shapes
/// `runs`: by method, by seed.
fn compare(
    args: &Args,
    problem: &Problem,
    rivals: &[Tool],
    methods: &[Named<'_>],
    runs: &[Vec<Vec<Row>>],
    text: &mut String,
) -> Result<Vec<f64>> {
    let points = points(args);
    writeln!(
        text,
        "{}: mean true regret of the incumbent ± standard error (runs)",
        problem.name
    )?;
    writeln!(text, "{}", line("", &points.map(|p| format!("{p}"))))?;
    let mut best: AtPoints = [None; POINTS.len()];
    for (tool, runs) in rivals {
        let means = curve::summary(runs);
        for (best, mean) in best.iter_mut().zip(means) {
            let mean = mean.map(|mean| mean.mean);
            *best = [*best, mean].into_iter().flatten().min_by(f64::total_cmp);
        }
        writeln!(text, "{}", line(tool, &means.map(cell)))?;
    }
    let mut ratios = Vec::new();
    for (Named { name, .. }, runs) in methods.iter().zip(runs) {
        let curves = runs.iter().map(|rows| curve::at_points(rows, points));
        let means = curve::summary(&curves.collect::<Vec<AtPoints>>());
        writeln!(text, "{}", line(name, &means.map(cell)))?;
        if args.workers > 1 {
            let workers = usize::try_from(args.workers)?;
            let shares = runs
                .iter()
                .filter_map(|rows| simulate::utilisation(rows, workers, args.total));
            let share = curve::mean(&shares.collect::<Vec<f64>>());
            let head = format!("{name}, workers' time used");
            writeln!(text, "{}", line(&head, &[cell(share)]))?;
        }
        if !rivals.is_empty() {
            let ratio: AtPoints =
                std::array::from_fn(|i| Some(summary::ratio(means[i]?.mean, best[i]?)));
            ratios.extend(ratio.iter().flatten());
            let cells = ratio.map(|r| r.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}")));
            writeln!(text, "{}", line(&format!("{name} / best rival"), &cells))?;
        }
    }
    text.push('\n');
    Ok(ratios)
}

/// One run for each problem, method and seed, all in parallel, which changes nothing in any of them.
///
/// # Shapes
/// Problems one after the other, each with all methods, each with all seeds.
fn all_runs(
    args: &Args,
    problems: &[Problem],
    methods: &[Named<'_>],
) -> Result<Vec<Vec<Vec<Row>>>> {
    let pairs = problems
        .iter()
        .flat_map(|problem| methods.iter().map(move |method| (problem, method)));
    let pairs: Vec<(&Problem, &Named<'_>)> = pairs.collect();
    let (from, to) = args.seeds;
    let earlier = posed::earlier(args, problems)?;
    let learnt = |seed| earlier.as_ref().map(|problem| learn(args, problem, seed));
    let earlier: Vec<(u64, Option<EarlierSearch>)> = (from..to)
        .into_par_iter()
        .map(|seed| Ok((seed, learnt(seed).transpose()?)))
        .collect::<Result<_>>()?;
    pairs
        .into_par_iter()
        .map(|(problem, method)| {
            let seeds = earlier.par_iter();
            seeds
                .map(|(seed, earlier)| one_run(args, problem, method, *seed, earlier.as_ref()))
                .collect()
        })
        .collect()
}

fn one_run(
    args: &Args,
    problem: &Problem,
    method: &Named<'_>,
    seed: u64,
    earlier: Option<&EarlierSearch>,
) -> Result<Vec<Row>> {
    let believing = args
        .belief
        .map(|quality| problem.believing(quality, args.confidence, seed))
        .transpose()?;
    let problem = believing.as_ref().unwrap_or(problem);
    let name = method.name;
    let search = simulate::search(problem, method.method, method.is_faithful, seed)?;
    let workers = usize::try_from(args.workers)?;
    let rows = match earlier {
        None => simulate::run(problem, &search, args.total, workers),
        Some(earlier) => {
            simulate::run_after(problem, &search, args.total, workers, earlier.clone())
        }
    };
    let rows = rows.with_context(|| format!("{name} on {}", problem.name))?;
    if let Some(folder) = &args.out {
        let file = format!("{}__{name}__{seed}.csv", problem.name);
        curve::write(&folder.join(file), &rows)?;
    }
    Ok(rows)
}

/// What the runs with a seed learn from: a search by `tandem` with another seed.
fn learn(args: &Args, problem: &Problem, seed: u64) -> Result<EarlierSearch> {
    let seed = seed.wrapping_add(1_000_003);
    let search = simulate::search(problem, MethodName::Tandem, false, seed)?;
    let factor = if args.learn_reversed { -1.0 } else { 1.0 };
    simulate::earlier(problem, &search, args.learn_total, factor)
}

/// A method by name, and whether it is to be faithful to HpBandSter.
fn method(name: &str) -> Result<Named<'_>> {
    let (base, is_faithful) = match name.strip_suffix("-faithful") {
        Some(base) => (base, true),
        None => (name, false),
    };
    let method: MethodName = serde_json::from_value(base.into()).map_err(|error| {
        Failure::because(Code::Usage, format!("unknown method `{name}`"), error)
    })?;
    if is_faithful && method != MethodName::Bohb {
        let message = format!(
            "unknown method `{name}`: expected `{base}` or `bohb-faithful`, the only one that reproduces another program"
        );
        bail!(Failure::new(Code::Usage, message));
    }
    Ok(Named {
        name,
        method,
        is_faithful,
    })
}

fn cell(mean: Option<Mean>) -> String {
    mean.map_or_else(
        || "-".to_owned(),
        |m| format!("{} ({})", m.to_text(4), m.num_runs),
    )
}

fn line(head: &str, cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>22}")).collect();
    format!("{head:28} {}", cells.join(" "))
        .trim_end()
        .to_owned()
}
