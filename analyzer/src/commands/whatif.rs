//! `analyzer whatif`

use anyhow::Result;
use shared::Seed;
use shared::cli::{print, report};
use shared::exit::{Code, Failure};

use super::{Shown, WIDTH, opened};
use crate::load::Wanted;
use crate::table::Format;
use crate::whatif;
use crate::wording::wrapped;

/// Arguments of `whatif`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are, and how they are shown
    #[command(flatten)]
    shown: Shown,
    /// Try ladders with this factor between budgets only; default: 2, 3, 4 and the search's own
    #[arg(long, value_name = "NUMBER", value_parser = factor)]
    eta: Option<f64>,
    /// Resamples of the configurations, for the intervals; default: 400, and down to 40 for more than 1,250 configurations
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(40..=100_000))]
    resamples: Option<u32>,
    /// Seed of the resamples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = Wanted {
        curves: true,
        ..Wanted::default()
    };
    let history = opened(&args.shown.dir, wanted)?;
    let seed = Seed::new(args.seed);
    let (forecasts, missing) = whatif::forecasts(&history, args.eta, args.resamples, seed)
        .map_err(|reason| Failure::new(Code::BadInput, format!("no answer: {reason}")))?;
    if let Some(reason) = missing {
        report(&reason);
    }
    if matches!(args.shown.format, Format::Csv | Format::Json) {
        return print(&whatif::full_table(&forecasts).write(args.shown.format)?);
    }
    let table = whatif::short_table(&history, &forecasts).write(args.shown.format)?;
    if args.shown.format != Format::Table {
        return print(&table);
    }
    let verdict = wrapped(&whatif::verdict(&history, &forecasts), WIDTH, "");
    let caveat = wrapped(&whatif::caveat(&history), WIDTH, "");
    print(&format!("{table}\n{verdict}\n\n{caveat}\n"))
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(eta) if eta > 1.0 && eta <= 1000.0 => Ok(eta),
        _ => Err("expected a number above 1 and up to 1000".to_owned()),
    }
}
