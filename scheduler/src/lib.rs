//! The scheduler decides which configuration gets which budget, offers jobs, and takes dead trainers' jobs back.
//!
//! ```text
//!   scan ──► State ──► plan ──► Vec<Action> ──► act      again and again, until nothing is left
//! ```
//! [`scan`] reads files into a [`state::State`]; [`plan::plan`] is a pure function of it; [`run`](mod@run) acts.
//! Promotion is in [`shared::hyperband`]. All it knows is in files, so it may be ended
//! at any instant and started again anywhere, also twice.

pub mod batch;
mod devices;
pub mod doctor;
pub mod doubts;
pub mod extend;
pub mod fault;
pub mod fix_from;
pub mod init;
pub mod learn_from;
pub mod local;
pub mod new;
pub mod plan;
mod programs;
mod progress;
pub mod propose;
pub mod retry;
pub mod run;
pub mod scan;
pub mod slurm;
pub mod state;
pub mod status;
pub mod vary;
mod working_directory;

#[cfg(test)]
mod test_search;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};
use shared::cli::print;
use shared::exit::Code;
use shared::fs::Published;
use shared::schema::schema;
use shared::space::SpaceFile;
use shared::wording::plain;
use shared::{Directory, SearchFile, layout};

use crate::scan::Scanner;

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
    Schema {
        /// Which format
        #[arg(value_enum)]
        format: SchemaOf,
    },
    /// Make a search directory from a search file
    ///
    /// Checks everything, and prints the rungs, the brackets, and how much will be spent. Safe to repeat.
    Init {
        /// The search file
        search: PathBuf,
        /// The search directory; made if it does not exist
        directory: PathBuf,
        #[command(flatten)]
        fixed: fix_from::FixArgs,
        #[command(flatten)]
        learn: learn_from::LearnArgs,
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
    /// Show what a scheduler would do now
    ///
    /// Changes nothing. How long trainers have been silent is known as far as an earlier scheduler on this machine saw it.
    Plan {
        /// The search directory
        directory: PathBuf,
    },
    /// Show what a search is waiting for
    ///
    /// Jobs by rung, trainers, SLURM's queue, the best configuration, what comes next, and when it may end. Writes
    /// nothing.
    Status {
        /// The search directory
        directory: PathBuf,
        /// Go on looking until the search is finished
        ///
        /// On a terminal it is a screen, new every two seconds; `q` leaves it, arrows scroll, and `NO_COLOR` takes its
        /// colours away. Elsewhere it is text every ten seconds, or JSON every two.
        #[arg(long)]
        watch: bool,
        /// How it is written
        #[arg(long, value_enum, default_value = "table")]
        format: status::Format,
    },
    /// Ask all programs of a search to leave
    ///
    /// Trainers save a checkpoint and give their job back. Nothing is lost.
    Stop {
        /// The search directory
        directory: PathBuf,
        /// Take the wish back, so that the search can go on
        #[arg(long)]
        undo: bool,
    },
    /// Let a search go on beyond its limit
    ///
    /// Also one that is finished: what there is keeps its place, and the models go on from it. May be said while the
    /// search runs, from any host.
    Extend(extend::ExtendArgs),
    /// Try configurations of your own
    ///
    /// Also in a search that is finished. They come next, beyond the limit and outside of brackets: each is trained once, with
    /// the largest budget unless said otherwise, and models learn from it.
    Propose(propose::ProposeArgs),
    /// Do jobs again that have failed
    ///
    /// Their outcomes stay in the directory and count no longer; the search goes on, also one that was finished.
    Retry(retry::RetryArgs),
    /// Run a whole search on this machine
    ///
    /// Starts the sampler and the trainers that were built with this program, shows the progress, and ends with the
    /// analyzer's tables. Ends with code 75 after Ctrl-C; the same command then goes on.
    Local(local::LocalArgs),
    /// Run a search on a SLURM cluster
    ///
    /// Submits an array of trainers and one coordinator job (scheduler and sampler), as far as they are not queued or
    /// running: repeating the command doubles nothing. Scripts, logs and what was submitted are in DIRECTORY/slurm.
    Slurm(slurm::SlurmArgs),
    /// Find out whether a filesystem does what a search needs
    ///
    /// Tries names, renames, races, syncing and free space out in DIRECTORY, and with --peer what two hosts see of each
    /// other. Recommends a lease. Ends with code 0 if searches may run there, else with 5.
    Doctor(doctor::DoctorArgs),
}

/// The formats that people write.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SchemaOf {
    /// Search files
    Search,
    /// Space files
    Space,
}

/// Runs the program.
pub fn run(args: Args) -> Result<Code> {
    match args.command {
        Command::New(args) => new::run(&args),
        Command::Schema { format } => {
            let schema = match format {
                SchemaOf::Search => schema::<SearchFile>(),
                SchemaOf::Space => schema::<SpaceFile>(),
            };
            print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
            Ok(Code::Done)
        }
        Command::Init {
            search,
            directory,
            fixed,
            learn,
        } => {
            let created = init::init(&search, &directory, &fixed, &learn)?;
            print(&plain(&init::describe(&created)?))?;
            Ok(Code::Done)
        }
        Command::Run {
            directory,
            once,
            poll_s,
        } => run::run(&directory, once, Duration::from_secs_f64(poll_s)),
        Command::Plan { directory } => {
            print(&would_do(&directory)?)?;
            Ok(Code::Done)
        }
        Command::Status {
            directory,
            watch,
            format,
        } => status::run(&directory, watch, format),
        Command::Stop { directory, undo } => {
            print(&stop(&directory, undo)?)?;
            Ok(Code::Done)
        }
        Command::Extend(args) => extend::run(&args),
        Command::Propose(args) => propose::run(&args),
        Command::Retry(args) => retry::run(&args),
        Command::Local(args) => local::run(&args),
        Command::Slurm(args) => slurm::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    }
}

/// What a scheduler would do now, and what that was read from.
fn would_do(root: &Path) -> Result<String> {
    let (mut scanner, mut state) = Scanner::load(Directory::observe(root)?)?;
    scanner.scan(&mut state, Instant::now())?;
    let directory = scanner.directory();
    state.num_trainers = status::num_heard(&scanner, &state, status::FileClock::ask(directory));
    let view = directory.jobs()?;
    let mut text = String::new();
    writeln!(
        text,
        "read: {} {}, {} {}, {} open and {} claimed jobs, {} {}",
        state.num_requested,
        layout::REQUESTS,
        state.results.len(),
        layout::RESULTS,
        view.open.len(),
        view.claimed.len(),
        scanner.trainers().len(),
        layout::TRAINERS
    )?;
    match (state.flags.is_finished, state.flags.is_stopped) {
        (true, _) => writeln!(text, "nothing: the search is finished")?,
        (false, true) => writeln!(text, "nothing: the search is stopped")?,
        (false, false) => {}
    }
    let actions = plan::plan(&state, &directory.search().trainers);
    for action in &actions {
        writeln!(text, "{action}")?;
    }
    if actions.is_empty() && state.flags == shared::directory::Flags::default() {
        writeln!(
            text,
            "nothing now: everything waits for the sampler or for trainers"
        )?;
    }
    Ok(text)
}

fn stop(root: &Path, undo: bool) -> Result<String> {
    let directory = Directory::open(root)?;
    let shown = root.display();
    if undo {
        let was_stopped = directory.unstop()?;
        return Ok(if was_stopped {
            format!("`{shown}` may go on: start its programs again\n")
        } else {
            format!("`{shown}` was not stopped\n")
        });
    }
    let reason = format!("asked for by `scheduler stop` at {}", shared::clock::now());
    Ok(match directory.stop(&reason)? {
        Published::New => {
            format!("`{shown}` is to stop: its programs leave as soon as they see it\n")
        }
        Published::AlreadyThere => format!("`{shown}` was to stop already\n"),
    })
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
