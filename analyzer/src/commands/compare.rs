//! `analyzer compare`

use std::path::PathBuf;

use anyhow::Result;
use shared::cli::{print, report};
use shared::exit::{Code, Failure};
use shared::fs;

use super::opened;
use crate::compare::{self, Along, GroupBy};
use crate::load::Wanted;
use crate::paired::{self, Found};
use crate::plot::Theme;
use crate::table::Format;
use crate::trajectory::At;

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Search directories, imported directories, or HpBandSter logs
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// What searches share that count as repetitions of each other
    #[arg(long, value_enum, default_value_t = GroupBy::Method)]
    by: GroupBy,
    /// What the searches are compared along
    #[arg(long, value_enum, default_value_t = Along::Spent)]
    along: Along,
    /// Which results may become the incumbent
    #[arg(long, value_enum, default_value_t = At::Reached)]
    at: At,
    /// Places at which they are compared, evenly spaced up to where the shortest search ends
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    points: u32,
    /// Instead, compare groups by the final losses of searches with the same seed
    ///
    /// Mean, 95 % interval and p of a paired Student test, for each two groups. Seeds often differ more than groups do.
    #[arg(long, conflicts_with_all = ["along", "points", "svg"])]
    paired: bool,
    /// How the table is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Also draw the curves into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let is_rounded = !matches!(args.format, Format::Csv | Format::Json);
    let mut curves = Vec::new();
    let mut found = Vec::new();
    for dir in &args.dirs {
        let history = opened(dir, Wanted::default())?;
        let curve = compare::curve(dir, &history, args.by, args.along, args.at);
        if curve.steps.is_empty() {
            report(&format!("`{}` has no incumbent yet", dir.display()));
        }
        let seed = history.search.as_ref().map(|search| search.seed.number());
        if let (Some(seed), Some((_, loss))) = (seed, curve.steps.last()) {
            found.push(Found {
                group: curve.group.clone(),
                seed,
                loss: *loss,
            });
        }
        curves.push(curve);
    }
    if args.paired {
        let differences = paired::differences(&found);
        if differences.is_empty() {
            report("nothing to compare: no two groups have searches with the same seed");
        }
        return print(&paired::table(&differences, is_rounded).write(args.format)?);
    }
    let unit = curves[0].unit;
    if args.along == Along::Spent && curves.iter().any(|curve| curve.unit != unit) {
        let message =
            "the searches' budgets have different units: compare them --along jobs or wall";
        return Err(Failure::new(Code::Usage, message).into());
    }
    let summaries = compare::summaries(&curves, args.points);
    if let Some(path) = &args.svg {
        match compare::drawing(&summaries, args.along, unit) {
            Some(scene) => fs::replace(path, scene.svg(Theme::Light).as_bytes())?,
            None => report("nothing to draw: no search has an incumbent"),
        }
    }
    print(&compare::table(&summaries, args.along, is_rounded).write(args.format)?)
}
