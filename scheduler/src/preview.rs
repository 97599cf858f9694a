//! `scheduler plan`: what a scheduler would do now.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use shared::cli::{DIRECTORY, print};
use shared::directory::Flags;
use shared::exit::Code;
use shared::{Directory, layout};

use crate::cost::{self, CostArgs};
use crate::plan::plan;
use crate::scan::Scanner;
use crate::status;

/// What `scheduler plan` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// The search directory
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    /// A forecast instead
    #[command(flatten)]
    cost: CostArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &PlanArgs) -> Result<Code> {
    print(&if args.cost.cost {
        cost::run(&args.directory, &args.cost)?
    } else {
        would_do(&args.directory)?
    })?;
    Ok(Code::Done)
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
    let actions = plan(&state, &directory.search().trainers);
    for action in &actions {
        writeln!(text, "{action}")?;
    }
    if actions.is_empty() && state.flags == Flags::default() {
        writeln!(
            text,
            "nothing now: everything waits for the sampler or for trainers"
        )?;
    }
    Ok(text)
}
