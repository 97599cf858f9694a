//! `analyzer trajectory`

use anyhow::Result;
use shared::cli::print;

use super::{Shown, opened};
use crate::load::Wanted;
use crate::trajectory::{self, At};

/// Arguments of `trajectory`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are, and how they are shown
    #[command(flatten)]
    shown: Shown,
    /// Which results may become the incumbent
    #[arg(long, value_enum, default_value_t = At::Reached)]
    at: At,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let history = opened(&args.shown.dir, Wanted::default())?;
    print(&trajectory::table(&history, args.at).write(args.shown.format)?)
}
