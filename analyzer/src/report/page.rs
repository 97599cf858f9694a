//! The report as one HTML file: styles inside, no scripts, and a policy that forbids every request.

use shared::BudgetUnit;

use crate::history::History;
use crate::plot::{Ink, Theme, escaped};
use crate::table::{Cell, Table};
use crate::wording::{count, duration, put, significant};

use super::Section;

const STYLE: &str = "\
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main,header{max-width:1160px;margin:0 auto;padding:0 16px}
h1{font-size:26px;line-height:1.25;margin:28px 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:40px 0 6px;padding-top:12px;border-top:1px solid var(--grid)}
p{margin:6px 0;max-width:78ch;overflow-wrap:anywhere}
a{color:var(--s0)}
nav{margin:14px 0;display:flex;flex-wrap:wrap;gap:4px 16px;font-size:14px}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(125px,1fr));gap:12px;margin:16px 0;padding:0}
.facts div{border:1px solid var(--grid);border-radius:8px;padding:8px 12px}
.facts dt{font-size:12px;color:var(--muted)}
.facts dd{margin:0;font-size:18px;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));gap:14px;margin:14px 0}
svg{max-width:100%;height:auto;display:block}
.scroll{overflow-x:auto;margin:14px 0}
.scroll svg{max-width:none}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px 4px 0;text-align:right;white-space:nowrap;border-bottom:1px solid var(--grid)}
th{color:var(--muted);font-weight:600}
th.words,td.words{text-align:left}
td.words{white-space:normal;min-width:112px;max-width:420px;overflow-wrap:anywhere}
.problems{border-left:3px solid var(--bad);padding:2px 12px;margin:14px 0}
footer{max-width:1160px;margin:44px auto 24px;padding:0 16px;color:var(--muted);font-size:13px}
@media print{nav{display:none}.scroll{overflow:visible}.scroll svg{max-width:100%}figure,table,svg{break-inside:avoid}
h2{break-after:avoid}table{font-size:9px}td,th{padding-right:5px;white-space:normal}}
";

/// The page.
pub(super) fn html(history: &History, sections: &[Section]) -> String {
    let title = escaped(&history.name);
    let mut page = String::with_capacity(1 << 20);
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         img-src data:\">\n",
    );
    page.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
    page.push_str("<link rel=\"icon\" href=\"data:,\">\n");
    put(
        &mut page,
        format_args!(
            "<title>{title}: report</title>\n<style>\n{}{STYLE}</style>\n",
            colours()
        ),
    );
    put(
        &mut page,
        format_args!("</head>\n<body>\n<header>\n<h1>{title}</h1>\n"),
    );
    page.push_str(&facts(history));
    page.push_str("<nav>");
    for section in sections {
        let title = escaped(&section.title);
        put(
            &mut page,
            format_args!("<a href=\"#{}\">{title}</a>\n", section.id),
        );
    }
    page.push_str("</nav>\n</header>\n<main>\n");
    for section in sections {
        write_section(&mut page, section);
    }
    put(
        &mut page,
        format_args!(
            "</main>\n<footer>Made by analyzer {} from {}. Losses are minimised. Times are by the clocks of the \
             machines that worked.</footer>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION"),
            escaped(&history.path.display().to_string())
        ),
    );
    page
}

/// The palette, for light and for dark.
fn colours() -> String {
    let variables = |pick: fn(&(&str, &'static str, &'static str)) -> &'static str| {
        let one = |ink: &(&'static str, &'static str, &'static str)| {
            format!("--{}:{};", ink.0, pick(ink))
        };
        Ink::ALL.iter().map(one).collect::<String>()
    };
    let (light, dark) = (variables(|ink| ink.1), variables(|ink| ink.2));
    format!(":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n")
}

fn write_section(page: &mut String, section: &Section) {
    let (id, title) = (section.id, escaped(&section.title));
    put(
        page,
        format_args!("<section id=\"{id}\">\n<h2>{title}</h2>\n"),
    );
    for text in &section.text {
        put(page, format_args!("<p>{}</p>\n", escaped(text)));
    }
    if !section.figures.is_empty() {
        if !section.is_wide {
            page.push_str("<div class=\"panels\">\n");
        }
        for scene in &section.figures {
            let svg = scene.svg(Theme::Page);
            if section.is_wide {
                // Reachable by keyboard, so that it can be scrolled without a mouse.
                put(
                    page,
                    format_args!("<div class=\"scroll\" tabindex=\"0\">{svg}</div>\n"),
                );
            } else {
                page.push_str(&svg);
            }
        }
        if !section.is_wide {
            page.push_str("</div>\n");
        }
    }
    if let Some(table) = &section.table {
        put(
            page,
            format_args!("<div class=\"scroll\" tabindex=\"0\">{table}</div>\n"),
        );
    }
    page.push_str("</section>\n");
}

/// The numbers at the top, and what was left out.
fn facts(history: &History) -> String {
    let mut html = String::from("<dl class=\"facts\">\n");
    let mut fact = |name: &str, value: String| {
        let (name, value) = (escaped(name), escaped(&value));
        put(
            &mut html,
            format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"),
        );
    };
    let state = history.state;
    let state = match (state.is_finished, state.is_stopped) {
        (true, _) => "finished".to_owned(),
        (false, true) => "stopped".to_owned(),
        (false, false) => format!(
            "running: {} in work, {} open",
            state.num_claimed, state.num_open
        ),
    };
    fact("state", state);
    fact(
        "configurations",
        crate::wording::thousands(history.configurations.len()),
    );
    fact(
        "finished jobs",
        crate::wording::thousands(history.results.len()),
    );
    let failed = history.results.iter().filter(|result| result.has_failed());
    fact("without a loss", crate::wording::thousands(failed.count()));
    let outcomes = history.outcomes();
    if let Some(number) = outcomes.get("stopped") {
        fact("stopped on their way", crate::wording::thousands(*number));
    }
    fact("budgets", budgets(history));
    if let Some(incumbent) = history.incumbent() {
        let loss = incumbent
            .loss()
            .map_or_else(String::new, |loss| significant(loss, 5));
        fact(
            "best loss",
            format!("{loss} at {}", history.budget_phrase(incumbent.budget)),
        );
    }
    let ends = history
        .results
        .iter()
        .filter_map(|result| result.finished_s);
    if let (Some(start), Some(end)) = (history.start_s(), ends.max_by(f64::total_cmp)) {
        fact("wall time", duration(end - start));
    }
    if let Some(space) = &history.space {
        fact("hyperparameters", space.num_dimensions().to_string());
    }
    html.push_str("</dl>\n");
    html.push_str(&remarks(history));
    html
}

/// The budgets, those in epochs or steps with one unit for all.
fn budgets(history: &History) -> String {
    let unit = history.unit.filter(|unit| *unit != BudgetUnit::Seconds);
    let name = |budget: usize| match unit {
        Some(_) => significant(history.budgets[budget], 4),
        None => history.budget_name(budget),
    };
    let names: Vec<String> = (0..history.budgets.len()).map(name).collect();
    let unit = unit.map_or_else(String::new, |unit| format!(" {}", unit.symbol()));
    match names.as_slice() {
        [first, .., last] if names.len() > 8 => {
            format!("{} from {first} to {last}{unit}", names.len())
        }
        names => format!("{}{unit}", names.join(", ")),
    }
}

/// What is to be said of the input.
fn remarks(history: &History) -> String {
    let mut html = String::new();
    if history.problems.num() > 0 {
        let heading = count(history.problems.num(), "remark");
        put(
            &mut html,
            format_args!("<div class=\"problems\"><p>{heading} on the input:</p>\n"),
        );
        for problem in history.problems.lines() {
            put(&mut html, format_args!("<p>{}</p>\n", escaped(&problem)));
        }
        html.push_str("</div>\n");
    }
    html
}

/// Escaped text that may go on in the next line behind an underscore, so that names break between words.
pub(super) fn breakable(text: &str) -> String {
    escaped(text).replace('_', "_<wbr>")
}

/// A table in HTML, escaped.
pub(super) fn table(table: &Table) -> String {
    let class = |column: usize| {
        let is_words = table
            .rows
            .iter()
            .any(|row| matches!(row[column], Cell::Text(_)));
        if is_words { " class=\"words\"" } else { "" }
    };
    let mut html = String::from("<table>\n<thead><tr>");
    for (column, name) in table.columns.iter().enumerate() {
        put(
            &mut html,
            format_args!("<th{}>{}</th>", class(column), escaped(name)),
        );
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            put(
                &mut html,
                format_args!("<td{}>{}</td>", class(column), breakable(&cell.plain())),
            );
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>");
    html
}
