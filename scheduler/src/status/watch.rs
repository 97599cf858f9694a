//! Looking once, or again and again: on a terminal as a screen, elsewhere as text now and then.

use std::io::{IsTerminal as _, stdin, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use shared::cli::{DIRECTORY, Format, print};
use shared::env;
use shared::exit::Code;
use shared::wording::plain_json;
use tracing::warn;

use super::looker::{INTERVAL, Looker, listen};
use super::terminal;

/// Between two texts that nobody may be reading.
const PRINT_INTERVAL: Duration = Duration::from_secs(10);

/// What `scheduler status` is told.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The search directory
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    /// Go on looking until the search is finished
    ///
    /// On a terminal it is a screen, new every two seconds; `q` leaves it, arrows scroll, and `NO_COLOR` takes its
    /// colours away. Elsewhere it is text every ten seconds, or JSON every two.
    #[arg(long)]
    watch: bool,
    /// Output format; `json` with --watch is one object on each line
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Shows the status once, or again and again.
pub fn run(args: &StatusArgs) -> Result<Code> {
    let format = args.format;
    let mut looker = Looker::new(&args.directory)?;
    if !args.watch {
        let status = looker.look_once()?;
        if let Some(error) = &status.slurm_error {
            warn!("{error}");
        }
        print(&status.text(format)?)?;
        return Ok(Code::Done);
    }
    let is_dumb = env::TERM.get().is_none_or(|term| term == "dumb");
    if format == Format::Table && stdout().is_terminal() && stdin().is_terminal() && !is_dumb {
        terminal::run(looker)
    } else {
        print_on(&mut looker, format)
    }
}

/// Prints until the search is finished or a signal comes.
fn print_on(looker: &mut Looker, format: Format) -> Result<Code> {
    let warning = listen()?;
    loop {
        let status = looker.look_again()?;
        let text = match format {
            Format::Table => format!("---- {} ----\n{}\n", status.at, status.text(format)?),
            Format::Json => format!("{}\n", plain_json(&serde_json::to_string(&status)?)),
        };
        print(&text)?;
        if status.phase == "finished" {
            return Ok(Code::Done);
        }
        let interval = match format {
            Format::Table => PRINT_INTERVAL,
            Format::Json => INTERVAL,
        };
        let start = Instant::now();
        while start.elapsed() < interval {
            if warning.received().is_some() {
                return Ok(Code::Done);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
