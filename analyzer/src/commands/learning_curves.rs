//! `analyzer learning-curves`

use anyhow::Result;
use shared::cli::print;

use super::{Input, opened};
use crate::load::Wanted;
use crate::rows;
use crate::table::Format;

/// Arguments of `learning-curves`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are
    #[command(flatten)]
    input: Input,
    /// How the table is written: one row for each point of each curve
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Jobs of this configuration only, such as c000012
    #[arg(long, value_name = "ID")]
    configuration: Option<shared::ConfigurationId>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = Wanted {
        curves: true,
        ..Wanted::default()
    };
    let history = opened(&args.input.dir, wanted)?;
    print(&rows::curves(&history, args.configuration).write(args.format)?)
}
