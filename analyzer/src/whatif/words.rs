//! The answer in words and as tables.

use shared::Search;

use super::{Forecast, Ladder};
use crate::history::{Evaluation, History};
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

/// What a search file says to have a ladder.
fn to_write(history: &History, ladder: &Ladder) -> String {
    let budget = format!("`\"min\": {}`, `\"eta\": {}`", ladder.min, ladder.eta);
    let search = history.search.as_ref();
    let rest = match search {
        Some(search) if search.method.has_one_budget() => " and a method that uses several budgets",
        Some(search) if search.is_stopping() => "",
        _ => " and `\"first_rungs\": [0]`",
    };
    format!("In a search file: {budget}{rest}.")
}

/// The answer in a sentence or two.
pub(crate) fn verdict(history: &History, forecasts: &[Forecast]) -> String {
    let needed = |f: &Forecast| {
        format!(
            "{} of the training ({} to {})",
            percent(f.until.median),
            percent(f.until.low),
            percent(f.until.high)
        )
    };
    let cheaper = forecasts
        .iter()
        .filter(|f| !f.is_own && f.as_good >= RELIABLE && f.until.median <= CHEAPER);
    let by_median = |a: &&Forecast, b: &&Forecast| a.until.median.total_cmp(&b.until.median);
    let is_sure = |f: &&Forecast| f.until.high <= 1.0;
    if let Some(f) = cheaper.clone().filter(is_sure).min_by(by_median) {
        return format!(
            "With {} as good an incumbent after {}; in {} of the resamples it is found at all. {}",
            said(history, &f.ladder),
            needed(f),
            percent(f.as_good),
            to_write(history, &f.ladder)
        );
    }
    let own = forecasts.iter().find(|f| f.is_own);
    let own = own.map_or_else(String::new, |f| said(history, &f.ladder));
    let sentence = format!(
        "No other ladder finds as good an incumbent with clearly less training than {own}."
    );
    match cheaper.min_by(by_median) {
        Some(f) => format!(
            "{sentence} The most promising one has {} and needs {}.",
            said(history, &f.ladder),
            needed(f)
        ),
        None => sentence,
    }
}

/// What the answer rests on, for people.
pub(crate) fn caveat(history: &History) -> String {
    let top = history.budget_phrase(history.budgets.len().saturating_sub(1));
    let spent = history.results.iter().map(|result| result.spent).sum();
    let found = history.incumbent().and_then(Evaluation::standing);
    let found = found.map_or_else(String::new, |loss| {
        format!(" and found a loss of {}", significant(loss, 4))
    });
    let stopped = if history.search.as_ref().is_some_and(Search::is_stopping) {
        ", stopping trainings on their way, which no ladder does here"
    } else {
        ""
    };
    format!(
        "The configurations that were tried go through brackets of successive halving up to {top}, on the search's own ladder as \
         well; the search itself spent {}{found}{stopped}. Losses at budgets at \
         which a configuration was not trained are read from its longer learning curve or filled in from configurations \
         like it; a shorter training of its own might end better than a longer one is at that point. until: training \
         until the incumbent is as good as that of the search's own ladder, whose training until then is 100 %; median and \
         95 % interval over resamples of configurations.",
        history.amount_phrase(spent)
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
