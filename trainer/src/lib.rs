//! The trainer: claims a job, evaluates it to its budget, publishes the result.
//!
//! | module | what it is for |
//! |--|--|
//! | [`run`](mod@run), [`claims`], `control`, [`heartbeat`], [`watchdog`], [`time_limit`] | the supervisor: claims, warnings, heartbeats |
//! | [`evaluator`], [`assignment`], [`resume`], [`outcome`] | has a worker process do a job, and judges how that ended |
//! | [`adapt`] | `tandem-run`: an unchanged script as a worker |
//! | `job`, [`describe`] | one job by hand; what a configuration is before it is trained |
//! | `worker`, [`objective`] | the process that trains; what this program evaluates by itself |
//! | [`hyperparameters`], [`network`], `memory` | configuration → network, its size, its memory |
//! | [`train`], [`schedule`], [`augment`], [`minibatch`], [`checkpoint`] | the training |
//! | [`trained`], `finished`, `export`, `predict` | a trained network: its scores, its weights for PyTorch |
//! | [`relax`] | the architecture by gradients, as first step of two |
//! | [`operators`] | convolution and batch norm for the CPU |
//! | [`device`], [`self_test`] | CPU or GPU, chosen when the program runs, and whether it computes right |

use clap::{Parser, Subcommand};
use shared::exit::Code;

pub use crate::evaluator::Compute;

pub mod adapt;
mod assignment;
pub mod augment;
pub mod checkpoint;
pub mod checks;
mod claims;
mod control;
pub mod describe;
pub mod device;
pub mod evaluator;
mod export;
mod finished;
pub mod heartbeat;
pub mod hyperparameters;
mod job;
mod memory;
pub mod minibatch;
pub mod network;
pub mod objective;
pub mod operators;
pub mod outcome;
mod predict;
pub mod relax;
mod resume;
pub mod run;
pub mod schedule;
pub mod self_test;
pub mod time_limit;
pub mod train;
pub mod trained;
mod watchdog;
mod worker;

/// Train networks: claim jobs of a search, evaluate them to their budget, publish the results
#[derive(Debug, Parser)]
#[command(name = "trainer", version, help_expected = true)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Claim and evaluate jobs until the search is finished
    ///
    /// Exits with code 0 when the search is finished or stopped, and with 75 after SIGUSR1, SIGUSR2, SIGTERM or
    /// SIGINT, or when the SLURM job is about to end: the job in hand is then saved and given back.
    Run(run::Args),
    /// Evaluate one job file by hand: nothing is claimed, the outcome is printed as JSON
    Job(job::Args),
    /// Train networks, one job file after the other as named on standard input: what `run` starts
    #[command(hide = true)]
    Worker(worker::Args),
    /// Compare what the device computes with what the CPU computes: convolutions, norms, a training of two steps
    ///
    /// `run` does the same once for each device, driver and program before its first job. Exits with code 3 and the
    /// name of the operation where a result is wrong.
    SelfTest(self_test::Args),
    /// Show the network of a configuration layer by layer: shapes, parameters, multiply-adds, memory
    ///
    /// Nothing is trained. Says so where the training would not fit into this machine's free memory.
    Describe(describe::Args),
    /// Find an architecture by gradients, before a search for the rest
    ///
    /// One network holds all others of the space: its filters, widening factors, blocks, branches and kernels are each there
    /// to some degree, and these degrees are learnt on the validation images while the weights are learnt on the training
    /// images (DARTS, Liu et al. 2018). What is most probable in the end is written. All other hyperparameters have the
    /// middle of their ranges meanwhile; a search for them begins with `scheduler init SEARCH.json DIR --fix-from FILE`.
    Relax(relax::Args),
    /// Write the weights of a finished training as a safetensors file that PyTorch loads
    ///
    /// Those of the configuration's highest rung, which must be the full budget: other trainings do not keep theirs.
    /// docs/export.md has the few lines of PyTorch.
    Export(export::Args),
    /// Classify images with a trained network
    ///
    /// Each image is brought to the size and the colours of the data set that was trained on, and normalised as in
    /// training. The scores are the network's output; their softmax are probabilities.
    Predict(predict::Args),
}

/// Runs the program.
///
/// # Errors
/// With the exit code of [`shared::exit`].
pub fn run(args: Args) -> anyhow::Result<Code> {
    match args.command {
        Command::Run(args) => run::run(&args),
        Command::Job(args) => job::run(&args),
        Command::Worker(args) => worker::run(&args),
        Command::SelfTest(args) => self_test::run(&args),
        Command::Describe(args) => describe::run(&args),
        Command::Relax(args) => relax::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Predict(args) => predict::run(&args),
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
