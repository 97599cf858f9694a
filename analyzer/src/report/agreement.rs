//! How rankings agree between budgets: a heat map of rho, and the losses of every pair of budgets against each other.

use super::{Facts, PANEL_HEIGHT, PANEL_WIDTH, Section, sampled};
use crate::correlation::{self, Pair};
use crate::history::History;
use crate::plot::{Anchor, Frame, Ink, Point, Scale, Scene, text_width};
use crate::wording::fixed;

/// At most this many pairs of budgets are drawn.
const MOST_SCATTERS: usize = 15;
/// At most this many dots in one of them.
const MOST_DOTS: usize = 1000;

pub(super) fn section(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let mut section = Section::new("correlation", "Do rankings agree between budgets?");
    if history.results.is_empty() {
        return section.say("No job has finished yet.");
    }
    if facts.pairs.is_empty() {
        return section.say("There is one budget only, so there is nothing to compare.");
    }
    for pair in facts
        .pairs
        .iter()
        .filter(|pair| pair.agreement.is_some())
        .take(MOST_SCATTERS)
    {
        section
            .text
            .push(capitalised(&correlation::verdict(history, pair)));
    }
    if section.text.is_empty() {
        section.text.push(
            "No two budgets have three configurations with different losses in common.".into(),
        );
        return section;
    }
    section.text.push(correlation::caveat(
        history,
        &facts.pairs,
        &facts.pair_settings,
    ));
    section.figures.push(heat_map(history, &facts.pairs));
    let drawn: Vec<&Pair> = facts.pairs.iter().filter(|pair| pair.n() >= 2).collect();
    if drawn.len() > MOST_SCATTERS {
        section.text.push(format!(
            "The first {MOST_SCATTERS} of {} pairs of budgets are drawn.",
            drawn.len()
        ));
    }
    for pair in drawn.into_iter().take(MOST_SCATTERS) {
        section.figures.extend(scatter(facts, pair));
    }
    section.table = Some(super::page::table(&correlation::short_table(
        history,
        &facts.pairs,
    )));
    section
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(char::to_uppercase)
        .into_iter()
        .flatten();
    first.chain(characters).collect()
}

fn heat_map(history: &History, pairs: &[Pair]) -> Scene {
    let mut budgets: Vec<usize> = pairs.iter().flat_map(|p| [p.lower, p.upper]).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let names: Vec<String> = budgets.iter().map(|b| history.budget_name(*b)).collect();
    let widest = names
        .iter()
        .map(|name| text_width(name))
        .fold(0.0, f64::max);
    let left = widest + 32.0; // names of budgets, and of the axis
    let num = budgets.len() as f64 - 1.0;
    let cell = ((PANEL_WIDTH - left - 10.0) / num).clamp(20.0, 88.0);
    let width = (left + num * cell + 10.0).max(PANEL_WIDTH);
    let top = 30.0;
    let bottom = top + num * cell;
    let fits = widest < cell - 4.0;
    let below = bottom + if fits { 32.0 } else { widest + 26.0 };
    let title = "Spearman's rho of every pair of budgets";
    let mut scene = Scene::new(width, below + 8.0, title);
    scene.words((left, 16.0), "Spearman's rho (n)", Ink::Text, Anchor::Start);
    let at = |budget: usize| budgets.iter().position(|b| *b == budget).unwrap_or(0) as f64;
    for pair in pairs {
        let (x, y) = (left + at(pair.lower) * cell, bottom - at(pair.upper) * cell);
        let names = (
            history.budget_name(pair.lower),
            history.budget_name(pair.upper),
        );
        let (ink, opacity, text) = match pair.agreement {
            Some(a) if a.rho < 0.0 => (Ink::Series(1), -a.rho, fixed(a.rho, 2)),
            Some(a) => (Ink::Series(0), a.rho, fixed(a.rho, 2)),
            None => (Ink::Grid, 0.4, "-".into()),
        };
        let title = format!("{} to {}: rho {text}, n {}", names.0, names.1, pair.n());
        let to = (x + cell - 2.0, y + cell - 2.0);
        scene.rectangle((x, y), to, ink, 0.1 + 0.42 * opacity, Some(title));
        let middle = (x + cell / 2.0 - 1.0, y + cell / 2.0);
        if cell >= 44.0 {
            scene.words((middle.0, middle.1), text, Ink::Text, Anchor::Middle);
            let n = format!("({})", pair.n());
            scene.words((middle.0, middle.1 + 14.0), n, Ink::Muted, Anchor::Middle);
        } else if cell >= 30.0 {
            scene.words((middle.0, middle.1 + 4.0), text, Ink::Text, Anchor::Middle);
        }
    }
    let corner = (left, bottom);
    label_heat_map(&mut scene, &names, corner, cell, fits, below);
    scene
}

/// Writes the names of the budgets and of the axes; `fits` says whether the names fit below the cells, `below` where
/// the horizontal axis has its name.
fn label_heat_map(
    scene: &mut Scene,
    names: &[String],
    (left, bottom): Point,
    cell: f64,
    fits: bool,
    below: f64,
) {
    for (index, name) in names.iter().enumerate() {
        let place = index as f64;
        if index > 0 {
            let y = bottom - (place - 0.5) * cell + 4.0;
            scene.words((left - 6.0, y), name, Ink::Muted, Anchor::End);
        }
        let x = left + (place + 0.5) * cell;
        if index + 1 == names.len() {
            // The largest budget is the smaller one of no pair.
        } else if fits {
            scene.words((x, bottom + 14.0), name, Ink::Muted, Anchor::Middle);
        } else {
            let at = (x + 4.0, bottom + 8.0);
            scene.turned_words(at, name, Ink::Muted, Anchor::End, -90.0);
        }
    }
    let middle = (names.len() as f64 - 1.0) * cell / 2.0;
    let (x_name, y_name) = ((left + middle, below), (12.0, bottom - middle));
    scene.words(x_name, "smaller budget", Ink::Text, Anchor::Middle);
    scene.turned_words(y_name, "larger budget", Ink::Text, Anchor::Middle, -90.0);
}

fn scatter(facts: &Facts<'_>, pair: &Pair) -> Option<Scene> {
    let history = facts.history;
    let names = (
        history.budget_name(pair.lower),
        history.budget_name(pair.upper),
    );
    let x = Scale::fitting(pair.losses.iter().map(|p| p.0))?;
    let y = Scale::fitting(pair.losses.iter().map(|p| p.1))?;
    let title = format!("Losses at {} and at {}", names.0, names.1);
    let mut scene = Scene::new(PANEL_WIDTH, PANEL_HEIGHT, title);
    let frame = Frame {
        from: (62.0, 26.0),
        to: (PANEL_WIDTH - 12.0, PANEL_HEIGHT - 40.0),
        x,
        y,
    };
    frame.draw_axes(
        &mut scene,
        &format!("loss at {}", history.budget_phrase(pair.lower)),
        &format!("loss at {}", history.budget_phrase(pair.upper)),
    );
    let rho = pair
        .agreement
        .map_or("rho -".into(), |a| format!("rho {}", fixed(a.rho, 2)));
    let seed = facts
        .seed
        .child("scatter", format!("{}-{}", pair.lower, pair.upper));
    let (losses, note) = sampled(pair.losses.clone(), MOST_DOTS, "losses", seed);
    let drawn = note.map_or_else(String::new, |_| format!(", {MOST_DOTS} drawn"));
    let head = format!("{rho}, n {}{drawn}", crate::wording::thousands(pair.n()));
    scene.words((62.0, 16.0), head, Ink::Text, Anchor::Start);
    let (size, opacity) = if losses.len() > 200 {
        (3.5, 0.45)
    } else {
        (5.5, 0.7)
    };
    let dots = losses.iter().map(|(x, y)| frame.at(*x, *y));
    scene.dots(dots, Ink::Series(0), size, opacity);
    Some(scene)
}
