//! The command line: what there is to do, each subcommand in a file of its own.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};
use shared::exit::Code;

use crate::history::History;
use crate::load::{self, Wanted};
use crate::table::Format;

mod compare;
mod correlation;
mod export;
mod import;
mod importance;
mod incumbent;
mod learning_curves;
mod pareto;
mod report;
mod trajectory;
mod whatif;

/// Width of remarks below tables.
const WIDTH: usize = 80;

/// Turn a search, or an HpBandSter log, into tables, plots and a report
///
/// Every command reads a search directory (also a running one, or a read-only copy), a directory made by `import`, or
/// an HpBandSter log as it is. Nothing that is read is changed. Data goes to stdout, remarks on unusable files to
/// stderr.
#[derive(Debug, Parser)]
#[command(version, help_expected = true, max_term_width = 100)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show how rankings at each budget predict those at larger ones
    ///
    /// Columns of csv begin lower,upper,n,rho; missing values are `-` there, and null in json.
    Correlation(correlation::Args),
    /// Show the best configuration at the largest budget
    Incumbent(incumbent::Args),
    /// Show the Pareto front: configurations that no other dominates
    ///
    /// One row for each configuration of the front.
    Pareto(pareto::Args),
    /// Show how the incumbent's loss fell with jobs, spent budget and time
    ///
    /// One row for each change of the incumbent, and one for the last result.
    Trajectory(trajectory::Args),
    /// Show which hyperparameters matter, at each budget and around the best configuration
    Importance(importance::Args),
    /// Show how losses develop while a job is trained
    ///
    /// One row for each point of each curve.
    LearningCurves(learning_curves::Args),
    /// Show what other budgets would have cost and found: another lowest one, eta or number of rungs
    ///
    /// One row for each ladder of budgets, the search's own first; shares are of its training.
    Whatif(whatif::Args),
    /// Compare several searches, grouped by method or by name
    Compare(compare::Args),
    /// Write a report as one HTML file, or its plots as separate files
    Report(report::Args),
    /// Read another program's log or space
    #[command(subcommand)]
    Import(import::Command),
    /// Write results in another program's format
    #[command(subcommand)]
    Export(export::Command),
}

/// What commands that write files need.
#[derive(Debug, clap::Args)]
pub(crate) struct Input {
    /// Search directory, imported directory, or HpBandSter log
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// What commands that print a table need.
#[derive(Debug, clap::Args)]
pub(crate) struct Shown {
    /// Search directory, imported directory, or HpBandSter log
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Runs the program.
pub fn run(args: Args) -> Result<Code> {
    match args.command {
        Command::Correlation(args) => correlation::run(&args)?,
        Command::Incumbent(args) => incumbent::run(&args)?,
        Command::Pareto(args) => pareto::run(&args)?,
        Command::Trajectory(args) => trajectory::run(&args)?,
        Command::Importance(args) => importance::run(&args)?,
        Command::LearningCurves(args) => learning_curves::run(&args)?,
        Command::Whatif(args) => whatif::run(&args)?,
        Command::Compare(args) => compare::run(&args)?,
        Command::Report(args) => report::run(&args)?,
        Command::Import(command) => import::run(&command)?,
        Command::Export(command) => export::run(&command)?,
    }
    Ok(Code::Done)
}

/// What is at `path`, kept until the program ends: to free the small pieces of a large search one by one takes longer.
fn opened(path: &Path, wanted: Wanted) -> Result<ManuallyDrop<History>> {
    load::open(path, wanted).map(ManuallyDrop::new)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
