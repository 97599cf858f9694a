//! `sampler bench`: methods on functions and tables with known optima, without files between the programs.
//!
//! The brackets are Hyperband's, as the scheduler makes them. Costs count every rung in full.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use rayon::prelude::*;
use shared::cli;
use shared::exit::{Code, Failure};
use shared::search::MethodName;
use shared::space::Confidence;

use crate::bench::curve::{AtPoints, Mean, PARALLEL_POINTS, POINTS};
use crate::bench::problem::{PriorQuality, Problem};
use crate::bench::simulate::Row;

pub mod curve;
pub mod latency;
pub mod problem;
pub mod simulate;

/// A ratio of regrets counts as this at least: some runs end at a regret of exactly 0, which would make every
/// geometric mean 0.
const SMALLEST_RATIO: f64 = 0.01;

/// Arguments of `sampler bench`.
#[derive(Debug, clap::Args)]
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
    /// The space of the table
    #[arg(long, value_name = "SPACE.json", requires = "table")]
    space: Option<PathBuf>,
    /// The table's column of learning rates: gives low budgets a synthetic learning curve
    #[arg(long, value_name = "COLUMN", requires = "table")]
    curve: Option<String>,
    /// Methods, separated by commas, as in `search.json`; `bohb-faithful` is HpBandSter to the letter
    #[arg(long, value_name = "METHODS", value_delimiter = ',', required = true)]
    method: Vec<String>,
    /// Seeds, from..to, the last one not included
    #[arg(long, value_name = "A..B", default_value = "0..20", value_parser = seeds)]
    seeds: (u64, u64),
    /// What a run may spend, in largest budgets; with several workers, the time of so many
    #[arg(long, value_name = "N", default_value_t = 64.0)]
    total: f64,
    /// Simulated parallel workers; of more than one, durations are the budgets with log-normal spread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    workers: u32,
    /// What the user is to believe: `good`, the best of 25 draws, or `wrong`, the worst of them; drawn for each seed
    #[arg(long, value_name = "BELIEF")]
    belief: Option<PriorQuality>,
    /// How firmly: `low`, `medium`, `high` or a number
    #[arg(long, value_name = "CONFIDENCE", default_value = "medium", requires = "belief", value_parser = confidence)]
    confidence: Confidence,
    /// Folder for one `BENCHMARK__METHOD__SEED.csv` a run
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Folder with others' curves of the same form, to compare with
    #[arg(long, value_name = "FOLDER")]
    rivals: Option<PathBuf>,
    /// The benchmarks' names in the rivals' files, in the order of --benchmark (a table comes last)
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

fn confidence(text: &str) -> Result<Confidence, String> {
    let json = match text.parse::<f64>() {
        Ok(number) => number.into(),
        Err(_no_number) => text.into(),
    };
    serde_json::from_value(json).map_err(|error| error.to_string())
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Code> {
    let usage = |message: String| Failure::new(Code::Usage, message);
    let mut problems = Vec::new();
    for name in &args.benchmark {
        let problem = Problem::function(name, args.bias, args.noise);
        problems.push(problem.map_err(|error| usage(format!("{error:#}")))?);
    }
    if let (Some(table), Some(space)) = (&args.table, &args.space) {
        problems.push(Problem::table(table, space, args.curve.as_deref())?);
    }
    if problems.is_empty() {
        bail!(usage("expected --benchmark or --table".to_owned()));
    }
    let methods: Vec<(&str, MethodName, bool)> = args
        .method
        .iter()
        .map(|name| method(name))
        .collect::<Result<_>>()?;
    let mut text = String::new();
    let mut ratios: Vec<f64> = Vec::new();
    for (index, problem) in problems.iter().enumerate() {
        let rival_name = args.rival_names.get(index).map(String::as_str);
        ratios.extend(compare(args, problem, rival_name, &methods, &mut text)?);
    }
    if methods.len() == 1 && !ratios.is_empty() {
        let logs = ratios.iter().map(|r| libm::log(r.max(SMALLEST_RATIO)));
        let mean_ln = logs.sum::<f64>() / ratios.len() as f64;
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        let mean = libm::exp(mean_ln);
        writeln!(
            text,
            "geometric mean of the ratios, each at least {SMALLEST_RATIO}: {mean:.3}; the largest {worst:.2}"
        )?;
    }
    cli::print(&text)?;
    Ok(Code::Done)
}

/// Runs all methods on one problem and writes its table; returns every ratio to the best rival.
fn compare(
    args: &Args,
    problem: &Problem,
    rival_name: Option<&str>,
    methods: &[(&str, MethodName, bool)],
    text: &mut String,
) -> Result<Vec<f64>> {
    let points = if args.workers > 1 {
        &PARALLEL_POINTS
    } else {
        &POINTS
    };
    let rivals = match (&args.rivals, rival_name) {
        (Some(folder), Some(name)) => curve::read_folder(folder, name, points)?,
        _ => Vec::new(),
    };
    writeln!(
        text,
        "{}: mean true regret of the incumbent ± standard error (runs)",
        problem.name
    )?;
    writeln!(text, "{}", line("", &points.map(|p| format!("{p}"))))?;
    let mut best: AtPoints = [None; POINTS.len()];
    for (tool, runs) in &rivals {
        let means = curve::summary(runs);
        for (best, mean) in best.iter_mut().zip(means) {
            let mean = mean.map(|mean| mean.mean);
            *best = [*best, mean].into_iter().flatten().min_by(f64::total_cmp);
        }
        writeln!(text, "{}", line(tool, &means.map(cell)))?;
    }
    let mut ratios = Vec::new();
    for (name, method, faithful) in methods {
        let runs = runs(args, problem, name, *method, *faithful)?;
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
            let ratio: AtPoints = std::array::from_fn(|i| Some(means[i]?.mean / best[i]?));
            ratios.extend(ratio.iter().flatten());
            let cells = ratio.map(|r| r.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}")));
            writeln!(text, "{}", line(&format!("{name} / best rival"), &cells))?;
        }
    }
    text.push('\n');
    Ok(ratios)
}

/// One run a seed; in parallel, which changes nothing in any of them.
fn runs(
    args: &Args,
    problem: &Problem,
    name: &str,
    method: MethodName,
    faithful: bool,
) -> Result<Vec<Vec<Row>>> {
    let workers = usize::try_from(args.workers)?;
    (args.seeds.0..args.seeds.1)
        .into_par_iter()
        .map(|seed| {
            let believing = args
                .belief
                .map(|quality| problem.believing(quality, args.confidence, seed))
                .transpose()?;
            let problem = believing.as_ref().unwrap_or(problem);
            let search = simulate::search(problem, method, faithful, seed)?;
            let rows = simulate::run(problem, &search, args.total, workers)
                .with_context(|| format!("{name} on {}", problem.name))?;
            if let Some(folder) = &args.out {
                let file = format!("{}__{name}__{seed}.csv", problem.name);
                curve::write(&folder.join(file), &rows)?;
            }
            Ok(rows)
        })
        .collect()
}

/// A method by name, and whether it is to be faithful to HpBandSter.
fn method(name: &str) -> Result<(&str, MethodName, bool)> {
    let (base, faithful) = match name.strip_suffix("-faithful") {
        Some(base) => (base, true),
        None => (name, false),
    };
    let method: MethodName = serde_json::from_value(base.into()).map_err(|error| {
        Failure::because(Code::Usage, format!("unknown method `{name}`"), error)
    })?;
    Ok((name, method, faithful))
}

fn cell(mean: Option<Mean>) -> String {
    mean.map_or_else(
        || "-".to_owned(),
        |m| format!("{:.4} ± {:.4} ({})", m.mean, m.error, m.num_runs),
    )
}

fn line(head: &str, cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>22}")).collect();
    format!("{head:28} {}", cells.join(" "))
        .trim_end()
        .to_owned()
}
