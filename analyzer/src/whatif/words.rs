//! The answer in words and as tables.

use super::{Forecast, Ladder};
use crate::history::History;
use crate::table::{Cell, Table};
use crate::wording::{fixed, significant};

/// A ladder finds as good an incumbent where it does in at least this share of the resamples.
const RELIABLE: f64 = 0.8;

/// A ladder is cheaper where it needs at most this share of the training.
const CHEAPER: f64 = 0.9;

/// A ladder in words: `16 epochs as the lowest budget and eta 3 (3 rungs)`.
fn said(history: &History, ladder: &Ladder) -> String {
    let lowest = history.amount_phrase(ladder.budgets[0]);
    match ladder.budgets.len() {
        1 => format!("{lowest} alone, without smaller budgets,"),
        rungs => format!(
            "{lowest} as the lowest budget and eta {} ({rungs} rungs)",
            ladder.eta
        ),
    }
}

/// A share in per cent; `never` where it is infinite.
fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{} %", fixed(100.0 * share, 0))
    } else {
        "never".into()
    }
}

/// The answer in a sentence.
pub(crate) fn verdict(history: &History, forecasts: &[Forecast]) -> String {
    let reliable = forecasts
        .iter()
        .filter(|f| !f.is_own && f.as_good >= RELIABLE);
    let best = reliable.min_by(|a, b| a.until.median.total_cmp(&b.until.median));
    match best {
        Some(f) if f.until.median <= CHEAPER => format!(
            "With {} as good an incumbent after {} of the training ({} to {}); in {} of the resamples it is found at all.",
            said(history, &f.ladder),
            percent(f.until.median),
            percent(f.until.low),
            percent(f.until.high),
            percent(f.as_good)
        ),
        _ => {
            let own = forecasts.iter().find(|f| f.is_own);
            let own = own.map_or_else(String::new, |f| said(history, &f.ladder));
            format!(
                "No other ladder finds as good an incumbent with clearly less training than {own}."
            )
        }
    }
}

/// What the answer rests on, for people.
pub(crate) fn caveat(history: &History) -> String {
    let top = history.budget_phrase(history.budgets.len().saturating_sub(1));
    format!(
        "The configurations that were tried go through brackets of successive halving up to {top}. Losses at budgets at \
         which a configuration was not trained are read from its longer learning curve or filled in from configurations \
         like it; a shorter training of its own might end better than a longer one is at that point. until: training \
         until the incumbent is as good as that of the search's own ladder, whose training until then is 100 %; median and \
         95 % interval over resamples of configurations."
    )
}

/// For people: rounded, intervals in one column.
pub(crate) fn short_table(history: &History, forecasts: &[Forecast]) -> Table {
    let mut table = Table::new(&[
        "lowest",
        "eta",
        "rungs",
        "cost",
        "as good",
        "until",
        "95 % interval",
        "loss",
    ]);
    for f in forecasts {
        let own = if f.is_own { " (own)" } else { "" };
        table.push(vec![
            Cell::text(format!(
                "{}{own}",
                crate::wording::budget(f.ladder.budgets[0], history.unit)
            )),
            Cell::Number(f.ladder.eta),
            Cell::Count(f.ladder.budgets.len()),
            Cell::Rounded(percent(f.cost)),
            Cell::Rounded(percent(f.as_good)),
            Cell::Rounded(percent(f.until.median)),
            Cell::Rounded(format!(
                "{} to {}",
                percent(f.until.low),
                percent(f.until.high)
            )),
            Cell::Rounded(significant(f.loss.median, 4)),
        ]);
    }
    table
}

/// For programs: everything in full precision; a share that is infinite is missing.
pub(crate) fn full_table(forecasts: &[Forecast]) -> Table {
    let mut table = Table::new(&[
        "lowest",
        "eta",
        "rungs",
        "is_own",
        "cost",
        "as_good",
        "until",
        "until_low",
        "until_high",
        "loss",
        "loss_low",
        "loss_high",
    ]);
    for f in forecasts {
        table.push(vec![
            Cell::Number(f.ladder.budgets[0]),
            Cell::Number(f.ladder.eta),
            Cell::Count(f.ladder.budgets.len()),
            Cell::text(if f.is_own { "yes" } else { "no" }),
            Cell::Number(f.cost),
            Cell::Number(f.as_good),
            Cell::Number(f.until.median),
            Cell::Number(f.until.low),
            Cell::Number(f.until.high),
            Cell::Number(f.loss.median),
            Cell::Number(f.loss.low),
            Cell::Number(f.loss.high),
        ]);
    }
    table
}
