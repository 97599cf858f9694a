//! `analyzer correlation`

use std::path::PathBuf;

use anyhow::Result;
use shared::Seed;
use shared::cli::{print, report};

use super::{Shown, WIDTH, opened};
use crate::correlation::{self, RESAMPLES, Settings};
use crate::extra;
use crate::load::Wanted;
use crate::table::Format;
use crate::wording::{count, put, wrapped};

/// Arguments of `correlation`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are, and how they are shown
    #[command(flatten)]
    shown: Shown,
    /// Resamples of the bootstrap interval
    #[arg(long, value_name = "N", default_value_t = RESAMPLES, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    resamples: u32,
    /// Seed of the bootstrap and of --extra
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Compare only the configurations listed in this file (ids separated by white space)
    #[arg(long, value_name = "FILE")]
    among: Option<PathBuf>,
    /// Instead of a table, make a search directory of configurations drawn at random, N of them not promoted to the
    /// largest budget, with the jobs that evaluate all of them at all budgets; needs --extra-out
    ///
    /// `trainer run FOLDER --once` then does the jobs, no scheduler is needed, and `analyzer correlation FOLDER` shows a
    /// table without the selection effect.
    #[arg(long, value_name = "N", requires = "extra_out", value_parser = clap::value_parser!(u32).range(1..))]
    extra: Option<u32>,
    /// New directory for --extra
    #[arg(long, value_name = "FOLDER", requires = "extra")]
    extra_out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let history = opened(&args.shown.dir, Wanted::default())?;
    let seed = Seed::new(args.seed);
    if let (Some(num), Some(out)) = (args.extra, &args.extra_out) {
        let extra = extra::draw(&history, num as usize, seed)?;
        extra::write(&history, &extra, out)?;
        report(&format!(
            "`{out}` has {} and {} to do; next: `trainer run {out} --once`, then `analyzer correlation {out}`",
            count(extra.sample.len(), "configuration"),
            count(extra.jobs.len(), "job"),
            out = out.display()
        ));
        return Ok(());
    }
    let among = args.among.as_deref().map(extra::read_sample).transpose()?;
    let settings = Settings {
        resamples: args.resamples,
        seed,
        among: among.as_ref(),
    };
    let pairs = correlation::pairs(&history, &settings);
    if history.budgets.len() > correlation::MOST_BUDGETS {
        report(&format!(
            "{} budgets: only the {} with most losses are compared",
            history.budgets.len(),
            correlation::MOST_BUDGETS
        ));
    }
    let table = match args.shown.format {
        Format::Csv | Format::Json => {
            return print(&correlation::full_table(&history, &pairs).write(args.shown.format)?);
        }
        Format::Table | Format::Markdown | Format::Latex => {
            correlation::short_table(&history, &pairs).write(args.shown.format)?
        }
    };
    if args.shown.format != Format::Table {
        return print(&table);
    }
    let mut text = format!(
        "{}\n\n",
        wrapped(&correlation::summary(&history), WIDTH, "")
    );
    if pairs.is_empty() {
        text.push_str(match history.budgets.len() {
            0 => "No results yet.\n",
            _ => "There is one budget only: nothing to compare.\n",
        });
        return print(&text);
    }
    text.push_str(&table);
    text.push('\n');
    for pair in &pairs {
        let verdict = correlation::verdict(&history, pair);
        put(
            &mut text,
            format_args!("{}\n", wrapped(&verdict, WIDTH, "  ")),
        );
    }
    let caveat = correlation::caveat(&history, &pairs, &settings);
    put(
        &mut text,
        format_args!("\n{}\n", wrapped(&caveat, WIDTH, "")),
    );
    print(&text)
}
