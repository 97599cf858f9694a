//! `analyzer report`

use std::path::PathBuf;

use anyhow::Result;
use shared::Seed;

use super::{Input, opened};
use crate::load::Wanted;
use crate::plot::Theme;
use crate::{picture, report};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("output").required(true).multiple(true))]
pub(crate) struct Args {
    /// Where the results are
    #[command(flatten)]
    input: Input,
    /// HTML file to write; it needs no network and opens from disk
    #[arg(long, value_name = "FILE", group = "output")]
    out: Option<PathBuf>,
    /// Folder for every drawing as an SVG file
    #[arg(long, value_name = "FOLDER", group = "output")]
    svg: Option<PathBuf>,
    /// Folder for every drawing as a PNG file of twice the size
    #[arg(long, value_name = "FOLDER", group = "output")]
    png: Option<PathBuf>,
    /// Seed of samples, intervals and forests
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    let seed = Seed::new(args.seed);
    let sections = report::sections(&history, seed);
    if let Some(path) = &args.out {
        report::write(&history, &sections, path)?;
    }
    if let Some(folder) = &args.svg {
        report::write_drawings(&sections, folder, "svg", |scene| {
            Ok(scene.svg(Theme::Light).into_bytes())
        })?;
    }
    if let Some(folder) = &args.png {
        report::write_drawings(&sections, folder, "png", picture::png)?;
    }
    Ok(())
}
