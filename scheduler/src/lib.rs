//! The scheduler decides which configuration gets which budget, offers jobs, and takes dead trainers' jobs back.
//!
//! ```text
//!   scan ──► State ──► plan ──► Vec<Action> ──► act      again and again, until nothing is left
//! ```
//! [`scan`] reads files into a [`state::State`]; [`plan::plan`] is a pure function of it; [`run`](mod@run) acts.
//! Promotion is in [`bracket`] (with a barrier) and [`asha`] (without). All it knows is in files, so it may be ended
//! at any instant and started again anywhere, also twice.

pub mod asha;
pub mod bracket;
pub mod init;
pub mod plan;
pub mod run;
pub mod scan;
pub mod state;

#[cfg(test)]
mod test_search;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use shared::cli::print;
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
    /// Make a search directory from a search file
    ///
    /// Checks everything, and prints the rungs, the brackets, and how much will be spent. Safe to repeat.
    Init {
        /// The search file
        search: PathBuf,
        /// The search directory; made if it does not exist
        directory: PathBuf,
    },
    /// Schedule a search until it is finished
    ///
    /// Ends with code 0 when the search is finished or stopped, and with 75 after a warning signal.
    Run {
        /// The search directory
        directory: PathBuf,
        /// Do all that can be done now, then exit
        #[arg(long)]
        once: bool,
        /// Longest pause between two looks at the directory, in seconds
        #[arg(long, default_value_t = 5.0, value_name = "S", value_parser = seconds)]
        poll_s: f64,
    },
}

/// Runs the program.
pub fn run(args: Args) -> Result<Code> {
    match args.command {
        Command::Init { search, directory } => {
            let created = init::init(&search, &directory)?;
            print(&init::describe(&created)?)?;
            Ok(Code::Done)
        }
        Command::Run {
            directory,
            once,
            poll_s,
        } => run::run(&directory, once, Duration::from_secs_f64(poll_s)),
    }
}

/// A number of seconds that can be waited.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("not a number of seconds above 0 and up to 86400".to_owned()),
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
