//! What the analyzer makes of a directory on a real disk, since it reads with several threads.

use std::path::Path;

use analyzer::arguments::{Along, GroupBy};
use analyzer::load::{History, Wanted};
use analyzer::table::{Format, Table};
use analyzer::trajectory::At;
use analyzer::{compare, correlation, hpbandster, importance, report, rows, trajectory};
use shared::Seed;

const FORMATS: [Format; 5] = [
    Format::Table,
    Format::Csv,
    Format::Json,
    Format::Markdown,
    Format::Latex,
];

/// Everything that the analyzer can say of a directory; nothing, if it cannot be read.
pub(crate) fn analyse(folder: &Path) {
    for wanted in [Wanted::default(), Wanted::ALL] {
        if let Ok(history) = History::open(folder, wanted) {
            tell(&history, folder);
        }
    }
}

/// The same of another program's log, and of what becomes of it by way of this program's own files.
pub(crate) fn analyse_log(folder: &Path) {
    let Ok(history) = hpbandster::read(folder, None) else {
        return;
    };
    tell(&history, folder);
    let Ok(place) = tempfile::tempdir_in(folder) else {
        return;
    };
    let (imported, exported) = (place.path().join("imported"), place.path().join("exported"));
    if hpbandster::import(&history, &imported).is_ok() {
        let again = History::open(&imported, Wanted::ALL).expect("what was imported can be read");
        let _refused = hpbandster::export(&again, &exported);
    }
}

fn tell(history: &History, folder: &Path) {
    let settings = correlation::Settings {
        resamples: 100,
        ..correlation::Settings::default()
    };
    let pairs = correlation::pairs(history, &settings);
    written(&correlation::full_table(history, &pairs));
    written(&correlation::short_table(history, &pairs));
    for pair in &pairs {
        shown(&correlation::verdict(history, pair));
    }
    shown(&correlation::caveat(history, &pairs, &settings));
    shown(&correlation::summary(history));
    for at in [At::Reached, At::Top, At::Any] {
        written(&trajectory::table(history, at));
    }
    let incumbent = history.incumbent();
    if let Some(incumbent) = incumbent {
        shown(&trajectory::incumbent_text(history, incumbent));
    }
    written(&trajectory::incumbent_table(history, incumbent));
    let _json = trajectory::incumbent_json(history, incumbent).to_string();
    let _csv = rows::csv(history);
    rows::parquet(history).expect("every history is a table");
    written(&rows::curves(history, None));
    weigh(history);
    for along in [Along::Jobs, Along::Spent, Along::Wall] {
        let curve = compare::curve(folder, history, GroupBy::Dir, along, At::Reached);
        let summaries = compare::summaries(&[curve.clone(), curve], 5);
        written(&compare::table(&summaries, along, true));
        let _svg =
            compare::drawing(&summaries, along, history.unit).map(|scene| report::svg_file(&scene));
    }
    let sections = report::sections(history, Seed::new(0));
    let page = folder.join("report.html");
    report::write(history, &sections, &page).expect("a report can be written beside the results");
    let html = shared::fs::read(&page).expect("it was written a moment ago");
    let html = String::from_utf8_lossy(&html).to_lowercase();
    assert!(!html.contains("<script"), "a script in the report");
    shared::fs::remove(&page).expect("it was written a moment ago");
}

fn weigh(history: &History) {
    let settings = importance::Settings {
        num_trees: 4,
        most_losses: 100,
        ..importance::Settings::default()
    };
    let budgets = 0..history.budgets.len().min(3);
    let all: Vec<_> = budgets
        .filter_map(|budget| importance::importance(history, budget, &settings).ok()) // too little to say
        .collect();
    for importance in &all {
        shown(&importance::basis(history, importance));
        written(&importance::short_table(importance));
    }
    written(&importance::full_table(history, &all));
    written(&importance::marginal_table(history, &all));
}

fn written(table: &Table) {
    for format in FORMATS {
        let text = table.write(format).expect("every table can be written");
        if matches!(format, Format::Table | Format::Markdown | Format::Latex) {
            shown(&text);
        }
    }
}

/// What people read on a terminal moves no cursor.
fn shown(text: &str) {
    let is_plain = |c: char| c == '\n' || !c.is_control();
    assert!(text.chars().all(is_plain), "raw on a terminal: {text:?}");
}
