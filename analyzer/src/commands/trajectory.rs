//! `analyzer trajectory`

use anyhow::Result;
use shared::cli::print;

use super::{Input, opened};
use crate::load::Wanted;
use crate::table::Format;
use crate::trajectory::{self, At};

/// Arguments of `trajectory`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are
    #[command(flatten)]
    input: Input,
    /// How it is written; one row for each change of the incumbent, and one for the last result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Which results may become the incumbent
    #[arg(long, value_enum, default_value_t = At::Reached)]
    at: At,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::default())?;
    print(&trajectory::table(&history, args.at).write(args.format)?)
}
