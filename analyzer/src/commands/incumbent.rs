//! `analyzer incumbent`

use anyhow::Result;
use shared::cli::print;

use super::{Input, opened};
use crate::load::Wanted;
use crate::table::Format;
use crate::trajectory::{self, At};

/// Arguments of `incumbent`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are
    #[command(flatten)]
    input: Input,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Which results may become the incumbent
    #[arg(long, value_enum, default_value_t = At::Reached)]
    at: At,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let history = opened(
        &args.input.dir,
        Wanted {
            origins: true,
            measures: true,
            ..Wanted::default()
        },
    )?;
    let incumbent = trajectory::incumbent(&history, args.at);
    let text = match (args.format, incumbent) {
        (Format::Json, _) => {
            let json = trajectory::incumbent_json(&history, incumbent);
            format!("{json:#}\n")
        }
        (Format::Table, Some(incumbent)) => {
            trajectory::incumbent_text(&history, incumbent, args.at)
        }
        (Format::Table, None) => trajectory::no_incumbent(&history, args.at),
        (format, _) => trajectory::incumbent_table(&history, incumbent).write(format)?,
    };
    print(&text)
}
