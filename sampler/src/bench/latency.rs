//! `sampler latency`: how long one proposal takes with so many results known.
//!
//! The results are draws from the prior on the rungs that the method uses of four, as many as successive halving leaves on
//! each, with a loss that depends on the configuration. Each repetition learns one more result and then proposes, so whatever
//! has to be fitted again is included. Times are this thread's on the processor, so a busy machine changes them little.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use shared::exit::Code;
use shared::space::SpaceFile;
use shared::{ConfigurationId, Score, Search, cli};

use crate::bench::problem::Problem;
use crate::bench::{Named, method, simulate};
use crate::history::History;
use crate::method::{self as methods, Ask};

/// Arguments of `sampler latency`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The search space
    #[arg(long, value_name = "SPACE.json")]
    space: PathBuf,
    /// Methods, separated by commas, as in `search.json`
    #[arg(
        long,
        value_name = "METHODS",
        value_delimiter = ',',
        default_value = "tandem,bohb"
    )]
    method: Vec<String>,
    /// Numbers of results known, separated by commas
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        default_value = "100,1000,10000,100000"
    )]
    results: Vec<u32>,
    /// Proposals timed for each
    #[arg(long, value_name = "N", default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeats: u32,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Code> {
    let space: SpaceFile = shared::fs::read_named_record(&args.space)?;
    let problem = Problem::unposed(space);
    let mut text = format!(
        "{:16} {:>9} {:>12} {:>12} {:>12}\n",
        "method", "results", "median ms", "mean ms", "largest ms"
    );
    for name in &args.method {
        let Named {
            name,
            method,
            is_faithful,
        } = method(name)?;
        let search = simulate::search(&problem, method, is_faithful, 0)?;
        for &num_results in &args.results {
            let mut times = times(&search, num_results, args.repeats);
            times.sort_unstable_by(f64::total_cmp);
            let mean = times.iter().sum::<f64>() / times.len() as f64;
            let (median, largest) = (times[times.len() / 2], times[times.len() - 1]);
            writeln!(
                text,
                "{name:16} {num_results:>9} {:>12.3} {:>12.3} {:>12.3}",
                1e3 * median,
                1e3 * mean,
                1e3 * largest
            )?;
        }
    }
    cli::print(&text)?;
    Ok(Code::Done)
}

/// Seconds for each of some proposals, the first of them after `num_results` results.
fn times(search: &Search, num_results: u32, repeats: u32) -> Vec<f64> {
    let mut history = History::new(&search.space);
    let mut method = methods::of_search(search);
    let mut rng = search.seed.child("latency", num_results).rng();
    let sizes = search.ladder.bracket_sizes(0, search.bracket_sizes);
    let bracket = sizes
        .iter()
        .zip(0..)
        .flat_map(|(size, rung)| std::iter::repeat_n(rung, *size as usize));
    let rungs: Vec<u8> = bracket.collect();
    let mut learn = |history: &mut History, number: u32| {
        let values = search.space.decode(&search.space.sample(&mut rng));
        let vector = search.space.encode(&values);
        let known = vector.iter().filter(|x| !x.is_nan());
        let loss = known.map(|x| (x - 0.4) * (x - 0.4)).sum::<f64>();
        // Of all four rungs 27, 9, 3 and 1 of 40; of every second one 9 and 1 of 10.
        let rung = rungs[number as usize % rungs.len()];
        let id = ConfigurationId(number);
        history.learn(id.job(rung), Some(Score::Loss(loss)), vector);
    };
    for number in 0..num_results {
        learn(&mut history, number);
    }
    let ask = |number: u32| Ask {
        configuration: ConfigurationId(number),
        rung: 0,
        pending: &[],
        seed: search.seed.child("proposal", number),
    };
    // What is fitted now and then is there already, as in a search that runs.
    for number in 0..3 {
        method.propose(&history, &ask(u32::MAX - number));
    }
    let mut times = Vec::new();
    let mut number = num_results;
    while times.len() < repeats as usize {
        learn(&mut history, number);
        number += 1;
        let start = processor_seconds();
        let suggestion = method.propose(&history, &ask(number));
        let seconds = processor_seconds() - start;
        // Draws from the prior cost nothing and say nothing.
        if suggestion.source == "model" || number > num_results + 3 * repeats {
            times.push(seconds);
        }
    }
    times
}

/// Seconds that this thread has spent on a processor.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}
