//! Refits the model from result files, and answers requests with configurations.
//!
//! ```text
//! requests/ ──► follow ──► proposer ──► configurations/     follow, run, preview, replay: files
//! results/  ──►               │                             proposer, history, method, kde, normal: no files, no clock
//!                          method: bohb, tandem, hyperband, random, tpe, …
//! ```
//! A proposal is a function of the search, the requests up to its own, the results they name, and the seed. Two
//! samplers on one directory write the same proposals, and `replay` computes each of them again.
//!
//! | module | what |
//! |--|--|
//! | [`run`](mod@run), [`follow`] | the loop, and requests one after the other |
//! | [`proposer`], [`history`], [`tried`] | the pure core: what is known, what was asked for, what is proposed |
//! | [`method`], [`kde`], `surrogate`, [`learning_curve`], [`user_prior`], `scalarise` | the methods and their models |
//! | [`draw`], [`normal`] | distributions |
//! | [`explain`], [`preview`], [`replay`] | proposals for people, and computed again |
//! | [`bench`](mod@bench) | methods on functions, tables and pools |

use anyhow::Result;
use clap::{Parser, Subcommand};
use shared::exit::Code;

pub mod bench;
pub mod draw;
pub mod explain;
pub mod follow;
pub mod history;
pub mod kde;
pub mod learning_curve;
pub mod method;
pub mod normal;
pub mod preview;
pub mod proposer;
pub mod replay;
pub mod run;
mod scalarise;
mod stopping;
mod surrogate;
pub mod tried;
pub mod user_prior;

/// Answer requests for configurations from what is known so far
#[derive(Debug, Parser)]
#[command(name = "sampler", version, help_expected = true, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer the requests in a search directory until the search is finished or stopped
    Run(run::Args),
    /// Print what would be proposed next, and write nothing
    Propose(preview::Args),
    /// Compute every proposal of a search directory again, and compare
    Replay(replay::Args),
    /// Say in plain words how a configuration was found
    Explain(explain::Args),
    /// Run methods on functions and tables with known optima, and compare
    Bench(Box<bench::Args>),
    /// Measure how long a proposal takes, by number of known results
    Latency(bench::latency::Args),
}

/// Runs the program.
pub fn run(args: Args) -> Result<Code> {
    match args.command {
        Command::Run(args) => run::run(&args),
        Command::Propose(args) => preview::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Latency(args) => bench::latency::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
