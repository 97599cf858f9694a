//! `analyzer importance`

use anyhow::Result;
use shared::Seed;
use shared::cli::{print, report};
use shared::exit::{Code, Failure};

use super::{Shown, WIDTH, opened};
use crate::history::{History, position_of};
use crate::importance::{self, Of};
use crate::load::Wanted;
use crate::table::Format;
use crate::wording::{put, wrapped};

/// Arguments of `importance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are, and how they are shown
    #[command(flatten)]
    shown: Shown,
    /// At this budget only, in the search's unit; default: every budget that has at least 10 losses
    #[arg(long, value_name = "AMOUNT")]
    budget: Option<f64>,
    /// What the importance is of
    #[arg(long, value_enum, default_value_t = Of::Losses)]
    of: Of,
    /// Write marginal curves instead of shares: mean loss by value of each hyperparameter
    #[arg(long)]
    marginals: bool,
    /// Trees in each stage of the forest
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(4..=1000))]
    trees: u32,
    /// Fit the forest to at most this many losses, drawn at random
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    most_losses: u32,
    /// Seed of the forest
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let history = opened(&args.shown.dir, Wanted::default())?;
    let budgets: Vec<usize> = match args.budget {
        None => (0..history.budgets.len()).collect(),
        Some(amount) => vec![budget_of(&history, amount)?],
    };
    let settings = importance::Settings {
        of: args.of,
        num_trees: args.trees,
        most_losses: args.most_losses as usize,
        seed: Seed::new(args.seed),
    };
    let mut all = Vec::new();
    for budget in budgets {
        match importance::importance(&history, budget, &settings) {
            Ok(importance) => all.push(importance),
            Err(reason) => report(&format!("no importance: {reason}")),
        }
    }
    if args.marginals {
        return print(&importance::marginal_table(&history, &all).write(args.shown.format)?);
    }
    if matches!(args.shown.format, Format::Csv | Format::Json) {
        return print(&importance::full_table(&history, &all).write(args.shown.format)?);
    }
    let mut text = String::new();
    for importance in &all {
        if args.shown.format == Format::Table {
            let basis = importance::basis(&history, importance);
            put(
                &mut text,
                format_args!("{}\n\n", wrapped(&basis, WIDTH, "")),
            );
        }
        text.push_str(&importance::short_table(importance).write(args.shown.format)?);
        text.push('\n');
    }
    print(&text)
}

fn budget_of(history: &History, amount: f64) -> Result<usize> {
    position_of(&history.budgets, amount).ok_or_else(|| {
        let names = (0..history.budgets.len()).map(|budget| history.budget_name(budget));
        let names = names.collect::<Vec<_>>().join(", ");
        let message = format!("there is no budget {amount}; there are: {names}");
        Failure::new(Code::Usage, message).into()
    })
}
