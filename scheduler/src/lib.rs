//! The scheduler decides which configuration gets which budget, offers jobs, and takes dead trainers' jobs back.
//!
//! ```text
//!   scan ──► State ──► plan ──► Vec<Action> ──► act      again and again, until nothing is left
//! ```
//! [`scan`] reads files into a [`state::State`]; [`plan::plan`] is a pure function of it; [`run`](mod@run) acts.
//! Promotion is in [`shared::hyperband`]. All it knows is in files, so it may be ended
//! at any instant and started again anywhere, also twice.
//!
//! | module | what |
//! |--|--|
//! | [`scan`], [`state`], [`plan`], [`run`](mod@run) | the loop |
//! | [`blame`] | whether a failure counts against its configuration |
//! | [`init`], `new`, `vary`, `schema`, `doubts`, [`fix_from`], [`learn_from`], `programs`, `working_directory` | making a search |
//! | [`extend`], `propose`, `retry`, `stop`, `sample` | what people ask of a search |
//! | [`status`], `preview`, `cost`, `progress` | looking |
//! | [`batch`], `slurm`, `local`, `devices` | where programs run |
//! | `doctor` | what a filesystem does |

pub mod batch;
pub mod blame;
mod cost;
mod devices;
mod doctor;
mod doubts;
pub mod extend;
pub mod fix_from;
pub mod init;
pub mod learn_from;
mod local;
mod new;
pub mod plan;
mod preview;
mod programs;
mod progress;
mod propose;
mod retry;
pub mod run;
mod sample;
pub mod scan;
mod schema;
mod slurm;
pub mod state;
pub mod status;
mod stop;
mod vary;
mod working_directory;

#[cfg(test)]
mod test_search;

use anyhow::Result;
use clap::{Parser, Subcommand};
use shared::exit::Code;

/// Decide which configuration gets which budget, and offer jobs to trainers
#[derive(Debug, Parser)]
#[command(version, help_expected = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first search file and a first space, with comments
    ///
    /// For a program (behind `--`) or, with --data, for the built-in network. Without either it asks, on a terminal. The
    /// files name their JSON Schemas, which are written beside them.
    New(new::NewArgs),
    /// Print the JSON Schema of the files that people write
    Schema(schema::SchemaArgs),
    /// Make a search directory from a search file
    ///
    /// Checks everything, and prints the rungs, the brackets, and how much will be spent. Safe to repeat.
    Init(init::InitArgs),
    /// Schedule a search until it is finished
    ///
    /// Ends with code 0 when the search is finished or stopped, and with 75 after a warning signal.
    Run(run::RunArgs),
    /// Show what a scheduler would do now
    ///
    /// Changes nothing. How long trainers have been silent is known as far as an earlier scheduler on this machine saw it.
    Plan(preview::PlanArgs),
    /// Show what a search is waiting for
    ///
    /// Jobs by rung, trainers, SLURM's queue, the best configuration, what comes next, and when it may end. Writes
    /// nothing.
    Status(status::StatusArgs),
    /// Ask all programs of a search to exit
    ///
    /// Trainers save a checkpoint and give their job back. Nothing is lost.
    Stop(stop::StopArgs),
    /// Extend a search beyond its limit
    ///
    /// Works on finished searches, too: existing results stay, and models continue from them. Can be used while the
    /// search runs, from any host.
    Extend(extend::ExtendArgs),
    /// Try configurations of your own
    ///
    /// In a finished search, too. They are tried next, beyond the limit and outside of brackets: each is trained once, with
    /// the largest budget unless said otherwise, and models learn from it.
    Propose(propose::ProposeArgs),
    /// Repeat failed jobs
    ///
    /// Their outcomes are kept but no longer count; a finished search resumes.
    Retry(retry::RetryArgs),
    /// Run a whole search on this machine
    ///
    /// Starts the sampler and the trainers that were built with this program, shows the progress, and ends with the
    /// analyzer's tables. Ends with code 75 after Ctrl-C; the same command then goes on.
    Local(local::LocalArgs),
    /// Run a search on a SLURM cluster
    ///
    /// Submits an array of trainers and one coordinator job (scheduler and sampler), unless they are queued or
    /// running already: the command can be repeated safely. Scripts, logs and what was submitted are in DIR/slurm.
    Slurm(slurm::SlurmArgs),
    /// Find out whether a filesystem does what a search needs
    ///
    /// Tries names, renames, races, syncing and free space out in DIR, and with --peer what two hosts see of each
    /// other. Recommends a lease. Ends with code 0 if searches may run there, else with 5.
    Doctor(doctor::DoctorArgs),
}

/// Runs the program.
pub fn run(args: Args) -> Result<Code> {
    match args.command {
        Command::New(args) => new::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Plan(args) => preview::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Stop(args) => stop::run(&args),
        Command::Extend(args) => extend::run(&args),
        Command::Propose(args) => propose::run(&args),
        Command::Retry(args) => retry::run(&args),
        Command::Local(args) => local::run(&args),
        Command::Slurm(args) => slurm::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    }
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
