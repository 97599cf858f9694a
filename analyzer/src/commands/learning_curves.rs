//! `analyzer learning-curves`

use anyhow::Result;
use shared::cli::print;

use super::{Shown, opened};
use crate::load::Wanted;
use crate::rows;

/// Arguments of `learning-curves`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are, and how they are shown
    #[command(flatten)]
    shown: Shown,
    /// Jobs of this configuration only, such as c000012
    #[arg(long, value_name = "ID")]
    configuration: Option<shared::ConfigurationId>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = Wanted {
        curves: true,
        ..Wanted::default()
    };
    let history = opened(&args.shown.dir, wanted)?;
    print(&rows::curves(&history, args.configuration).write(args.shown.format)?)
}
