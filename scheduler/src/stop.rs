//! `scheduler stop`: asks all programs of a search to exit.

use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::cli::{DIRECTORY, print};
use shared::exit::Code;
use shared::fs::Published;
use shared::{Directory, clock};

/// What `scheduler stop` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// The search directory
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    /// Withdraw the request to stop, so that the search can resume
    #[arg(long)]
    undo: bool,
}

/// Runs the subcommand.
pub(crate) fn run(args: &StopArgs) -> Result<Code> {
    print(&stop(&args.directory, args.undo)?)?;
    Ok(Code::Done)
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
    let reason = format!("asked for by `scheduler stop` at {}", clock::now());
    Ok(match directory.stop(&reason)? {
        Published::New => {
            format!("`{shown}` is to stop: its programs leave as soon as they see it\n")
        }
        Published::AlreadyThere => format!("`{shown}` was to stop already\n"),
    })
}
