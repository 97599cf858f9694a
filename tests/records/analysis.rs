//! What the analyzer makes of a directory on a real disk, since it reads with several threads.

use std::path::Path;

use analyzer::compare::{Along, GroupBy};
use analyzer::history::History;
use analyzer::load::{self, Wanted};
use analyzer::plot::Theme;
use analyzer::table::{Format, Table};
use analyzer::trajectory::At;
use analyzer::{compare, correlation, hpbandster, importance, report, rows, trajectory};
use shared::Seed;

use super::is_chosen;

const FORMATS: [Format; 5] = [
    Format::Table,
    Format::Csv,
    Format::Json,
    Format::Markdown,
    Format::Latex,
];

/// Some of what it can say of a history, whose files are in this folder, with this input among them.
type Command = fn(&History, &Path, &[u8]);

/// Everything that the analyzer can say of a directory with an input in it; nothing, if it cannot be read.
pub(crate) fn analyse(folder: &Path, input: &[u8]) {
    for (number, wanted) in [Wanted::default(), Wanted::ALL].into_iter().enumerate() {
        if is_chosen(input, "wanted", number, 2)
            && let Ok(history) = load::open(folder, wanted)
        {
            tell(&history, folder, input);
        }
    }
}

/// The same of another program's log, and of what becomes of it by way of this program's own files.
pub(crate) fn analyse_log(folder: &Path, input: &[u8]) {
    let Ok(history) = hpbandster::read(folder, None) else {
        return;
    };
    tell(&history, folder, input);
    let Ok(place) = tempfile::tempdir_in(folder) else {
        return;
    };
    let (imported, exported) = (place.path().join("imported"), place.path().join("exported"));
    if hpbandster::import(&history, &imported).is_ok() {
        let again = load::open(&imported, Wanted::ALL).expect("what was imported can be read");
        let _refused = hpbandster::export(&again, &exported);
    }
}

fn tell(history: &History, folder: &Path, input: &[u8]) {
    let commands: [(&[usize], Command); 5] = [
        (&[0, 1], tell_of_budgets),
        (&[2, 3], tell_of_results),
        (&[4, 5], draw),
        // These two take longest.
        (&[6], weigh),
        (&[7], report),
    ];
    for (numbers, command) in commands {
        if numbers
            .iter()
            .any(|number| is_chosen(input, "command", *number, 8))
        {
            command(history, folder, input);
        }
    }
}

fn tell_of_budgets(history: &History, _folder: &Path, input: &[u8]) {
    let settings = correlation::Settings {
        resamples: 100,
        ..correlation::Settings::default()
    };
    let pairs = correlation::pairs(history, &settings);
    written(&correlation::full_table(history, &pairs), input);
    written(&correlation::short_table(history, &pairs), input);
    for pair in &pairs {
        shown(&correlation::verdict(history, pair));
    }
    shown(&correlation::caveat(history, &pairs, &settings));
    shown(&correlation::summary(history));
}

fn tell_of_results(history: &History, _folder: &Path, input: &[u8]) {
    for at in [At::Reached, At::Top, At::Any] {
        written(&trajectory::table(history, at), input);
        match trajectory::incumbent(history, at) {
            Some(incumbent) => shown(&trajectory::incumbent_text(history, incumbent, at)),
            None => shown(&trajectory::no_incumbent(history, at)),
        }
    }
    let incumbent = history.incumbent();
    written(&trajectory::incumbent_table(history, incumbent), input);
    let _json = trajectory::incumbent_json(history, incumbent).to_string();
    let _csv = rows::csv(history);
    rows::parquet(history).expect("every history is a table");
    written(&rows::curves(history, None), input);
}

fn draw(history: &History, folder: &Path, input: &[u8]) {
    for along in [Along::Jobs, Along::Spent, Along::Wall] {
        let curve = compare::curve(folder, history, GroupBy::Dir, along, At::Reached);
        let summaries = compare::summaries(&[curve.clone(), curve], 5);
        written(&compare::table(&summaries, along, true), input);
        let _svg =
            compare::drawing(&summaries, along, history.unit).map(|scene| scene.svg(Theme::Light));
    }
}

fn weigh(history: &History, _folder: &Path, input: &[u8]) {
    let settings = importance::Settings {
        num_trees: 4,
        most_losses: 100,
        ..importance::Settings::default()
    };
    let budgets = 0..history.budgets.len().min(3);
    let all: Vec<_> = budgets
        .filter(|budget| is_chosen(input, "budget", *budget, 3))
        .filter_map(|budget| importance::importance(history, budget, &settings).ok()) // too little to say
        .collect();
    for importance in &all {
        shown(&importance::basis(history, importance));
        written(&importance::short_table(importance), input);
    }
    written(&importance::full_table(history, &all), input);
    written(&importance::marginal_table(history, &all), input);
}

fn report(history: &History, folder: &Path, _input: &[u8]) {
    let sections = report::sections(history, Seed::new(0));
    let page = folder.join("report.html");
    report::write(history, &sections, &page).expect("a report can be written beside the results");
    let html = shared::fs::read(&page).expect("it was written a moment ago");
    let html = String::from_utf8_lossy(&html).to_lowercase();
    assert!(!html.contains("<script"), "a script in the report");
    shared::fs::remove(&page).expect("it was written a moment ago");
}

fn written(table: &Table, input: &[u8]) {
    for (number, format) in FORMATS.into_iter().enumerate() {
        if !is_chosen(input, "format", number, FORMATS.len()) {
            continue;
        }
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
