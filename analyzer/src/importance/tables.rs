//! Importance as tables and in words.

use super::{Importance, Of, value_at};
use crate::history::History;
use crate::table::{Cell, Table};
use crate::wording::{fixed, significant};

/// The table for programs: one row an effect, most important first within its kind. Columns: `budget`, `n` (losses),
/// `effect` (`main`, `pair`, `higher`, `local`), `hyperparameter`, `with` (the second of a pair), `share` (of the
/// forest's variance; of the summed variances for `local`), `explained` (share of the losses' variance that the forest
/// explains out of the bag), `error` (root mean squared, out of the bag).
pub fn full_table(history: &History, all: &[Importance]) -> Table {
    let mut table = Table::new(&[
        "budget",
        "n",
        "effect",
        "hyperparameter",
        "with",
        "share",
        "explained",
        "error",
    ]);
    for importance in all {
        let mut push = |effect: &str, name: Option<&str>, with: Option<&str>, share: f64| {
            let word = |word: Option<&str>| word.map_or(Cell::Missing, Cell::text);
            table.push(vec![
                Cell::Number(history.budgets[importance.budget]),
                Cell::Count(importance.num_losses),
                Cell::text(effect),
                word(name),
                word(with),
                Cell::Number(share),
                Cell::Number(importance.explained),
                Cell::Number(importance.error),
            ]);
        };
        let names = &importance.names;
        for axis in importance.order() {
            push("main", Some(&names[axis]), None, importance.main[axis]);
        }
        for (a, b, share) in &importance.pairs {
            push("pair", Some(&names[*a]), Some(&names[*b]), *share);
        }
        push("higher", None, None, importance.higher());
        let mut local: Vec<usize> = (0..names.len()).collect();
        local.sort_by(|&a, &b| importance.local[b].total_cmp(&importance.local[a]));
        for axis in local {
            push("local", Some(&names[axis]), None, importance.local[axis]);
        }
    }
    table
}

/// The table for people: main effects and local importance, then the largest pairs.
pub fn short_table(importance: &Importance) -> Table {
    const MOST_PAIRS: usize = 5;
    let percent = |share: f64| Cell::Rounded(format!("{} %", fixed(100.0 * share, 1)));
    let mut table = Table::new(&["hyperparameter", "share", "local"]);
    for axis in importance.order() {
        table.push(vec![
            Cell::text(&importance.names[axis]),
            percent(importance.main[axis]),
            percent(importance.local[axis]),
        ]);
    }
    for (a, b, share) in importance.pairs.iter().take(MOST_PAIRS) {
        let names = format!("{} × {}", importance.names[*a], importance.names[*b]);
        table.push(vec![Cell::text(names), percent(*share), Cell::Missing]);
    }
    let rest: f64 = importance.pairs.iter().skip(MOST_PAIRS).map(|p| p.2).sum();
    table.push(vec![
        Cell::text("other pairs"),
        percent(rest),
        Cell::Missing,
    ]);
    table.push(vec![
        Cell::text("three and more together"),
        percent(importance.higher()),
        Cell::Missing,
    ]);
    table
}

/// What the numbers rest on, in words.
pub fn basis(history: &History, importance: &Importance) -> String {
    let used = if importance.num_used < importance.num_losses {
        format!(
            "{} of {} losses, drawn at random,",
            crate::wording::thousands(importance.num_used),
            crate::wording::thousands(importance.num_losses)
        )
    } else {
        format!(
            "{} losses",
            crate::wording::thousands(importance.num_losses)
        )
    };
    let of = match importance.of {
        Of::Losses => "",
        Of::Ranks => "of their ranks ",
    };
    let trust = if importance.explained < 0.3 {
        ": too little to trust the shares"
    } else {
        ""
    };
    format!(
        "At {}: {used} and {} trees explain {} % of the variance {of}out of the bag (error {}){trust}. \
         Shares are of the forest's variance over the whole space; local ones hold around {}.",
        history.budget_phrase(importance.budget),
        importance.num_trees,
        fixed(100.0 * importance.explained, 0),
        significant(importance.error, 3),
        history.configuration_name(importance.around),
    )
}

/// Marginal curves for programs. Columns: `budget`, `hyperparameter`, `value`, `mean` (loss or rank), `spread` (standard
/// deviation over the trees).
pub fn marginal_table(history: &History, all: &[Importance]) -> Table {
    let mut table = Table::new(&["budget", "hyperparameter", "value", "mean", "spread"]);
    let Some(space) = &history.space else {
        return table;
    };
    for importance in all {
        for (h, marginal) in space.dimensions().zip(&importance.marginals) {
            let points = marginal.places.iter().zip(&marginal.mean);
            for ((place, mean), spread) in points.zip(&marginal.spread) {
                table.push(vec![
                    Cell::Number(history.budgets[importance.budget]),
                    Cell::text(&h.name),
                    Cell::text(value_at(&h.kind, *place).to_string()),
                    Cell::Number(*mean),
                    Cell::Number(*spread),
                ]);
            }
        }
    }
    table
}
