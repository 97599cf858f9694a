//! Which hyperparameters matter, and how: bars of importance and marginal curves.

use shared::Kind;

use super::{Facts, PANEL_HEIGHT, PANEL_WIDTH, Section};
use crate::importance::{self, Importance, Marginal, Of};
use crate::plot::{Anchor, Frame, Ink, Mark, Point, Scale, Scene, text_width};
use crate::wording::{fixed, shortened};

/// Bars in one drawing.
const MOST_BARS: usize = 12;
/// Hyperparameters whose marginals are drawn.
const MOST_MARGINALS: usize = 6;

pub(super) fn importance(facts: &Facts<'_>) -> Section {
    let mut section = Section::new("importance", "Which hyperparameters matter?");
    for importance in &facts.importances {
        section
            .text
            .push(importance::basis(facts.history, importance));
        section.figures.push(bars(facts, importance));
    }
    if facts.importances.is_empty() {
        section.text.extend(
            facts
                .no_importance
                .iter()
                .map(|reason| format!("No importance: {reason}.")),
        );
        if section.text.is_empty() {
            section.text.push("No job has finished yet.".into());
        }
        return section;
    }
    if facts.history.space_is_inferred {
        section.text.push(
            "The log has no search space: ranges and scales are guessed from the values that occur.".into(),
        );
    }
    section
}

fn bars(facts: &Facts<'_>, importance: &Importance) -> Scene {
    let names = &importance.names;
    let mut bars: Vec<(String, f64, Ink)> = importance
        .order()
        .into_iter()
        .map(|axis| (names[axis].clone(), importance.main[axis], Ink::Series(0)))
        .collect();
    let pairs = importance.pairs.iter().take(4);
    bars.extend(pairs.map(|(a, b, share)| {
        let name = format!(
            "{} × {}",
            shortened(&names[*a], 12),
            shortened(&names[*b], 12)
        );
        (name, *share, Ink::Series(1))
    }));
    bars.sort_by(|a, b| b.1.total_cmp(&a.1));
    bars.truncate(MOST_BARS);
    let labels: Vec<String> = bars.iter().map(|bar| shortened(&bar.0, 27)).collect();
    let widest = labels
        .iter()
        .map(|label| text_width(label))
        .fold(0.0, f64::max);
    let left = (widest + 10.0).min(190.0);
    let row = 18.0;
    let bottom = 48.0 + row * bars.len() as f64;
    let at = facts.history.budget_phrase(importance.budget);
    let mut scene = Scene::new(PANEL_WIDTH, bottom + 40.0, format!("Importance at {at}"));
    let n = crate::wording::thousands(importance.num_losses);
    scene.words(
        (10.0, 16.0),
        format!("at {at}, n {n}"),
        Ink::Text,
        Anchor::Start,
    );
    let entries = [
        (Ink::Series(0), "alone".into()),
        (Ink::Series(1), "two together".into()),
    ];
    scene.legend((10.0, 36.0), PANEL_WIDTH, &entries);
    let most = bars.first().map_or(1.0, |bar| bar.1).max(0.01);
    let frame = Frame {
        from: (left, 46.0),
        to: (PANEL_WIDTH - 46.0, bottom),
        x: Scale::linear(0.0, 100.0 * most),
        y: Scale::linear(0.0, 1.0),
    };
    frame.draw_x_axis(&mut scene, "share of the variance (%)");
    for (index, ((_, share, ink), label)) in bars.iter().zip(&labels).enumerate() {
        let y = 46.0 + row * index as f64;
        let end = frame.x_at(100.0 * share);
        scene.rectangle(
            (left, y + 3.0),
            (end.max(left + 0.5), y + row - 3.0),
            *ink,
            0.9,
            None,
        );
        scene.words((left - 5.0, y + 13.0), label, Ink::Text, Anchor::End);
        let number = format!("{} %", fixed(100.0 * share, 1));
        scene.words((end + 4.0, y + 13.0), number, Ink::Muted, Anchor::Start);
    }
    scene
}

pub(super) fn marginals(facts: &Facts<'_>) -> Section {
    let mut section = Section::new("marginals", "How do they matter?");
    let (Some(importance), Some(space)) = (facts.importances.first(), &facts.history.space) else {
        return section.say("There are no marginal curves without importance.");
    };
    let at = facts.history.budget_phrase(importance.budget);
    let what = match importance.of {
        Of::Losses => "loss",
        Of::Ranks => "rank",
    };
    section.text.push(format!(
        "Mean {what} at {at} by one hyperparameter, all others averaged over the whole space; the band is one \
         standard deviation over the trees. All drawings share the vertical axis."
    ));
    let kinds: Vec<(&str, &Kind)> = space
        .dimensions()
        .map(|h| (h.name.as_str(), &h.kind))
        .collect();
    let order: Vec<usize> = importance
        .order()
        .into_iter()
        .take(MOST_MARGINALS)
        .collect();
    let heights = order.iter().flat_map(|&axis| {
        let marginal = &importance.marginals[axis];
        let both = marginal.mean.iter().zip(&marginal.spread);
        both.flat_map(|(mean, spread)| [mean - spread, mean + spread])
    });
    let Some(y) = Scale::fitting(heights) else {
        return section;
    };
    for axis in order {
        let (name, kind) = kinds[axis];
        let share = importance.main[axis];
        let drawn = Drawn {
            name,
            kind,
            what: format!("mean {what}"),
            share,
        };
        let curve = &importance.marginals[axis];
        section.figures.push(marginal(&drawn, curve, y));
    }
    section
}

/// Whose marginal is drawn.
struct Drawn<'a> {
    name: &'a str,
    kind: &'a Kind,
    /// What is on the vertical axis.
    what: String,
    share: f64,
}

fn marginal(drawn: &Drawn<'_>, marginal: &Marginal, y: Scale) -> Scene {
    let Drawn {
        name,
        kind,
        what,
        share,
    } = drawn;
    let mut scene = Scene::new(PANEL_WIDTH, PANEL_HEIGHT, format!("Marginal of {name}"));
    let head = format!("{} ({} %)", shortened(name, 36), fixed(100.0 * share, 1));
    scene.words((62.0, 16.0), head, Ink::Text, Anchor::Start);
    let (from, to) = ((62.0, 26.0), (PANEL_WIDTH - 14.0, PANEL_HEIGHT - 40.0));
    let value = |place: f64| importance::value_at(kind, place);
    let levels = match kind {
        Kind::Categorical { choices: levels } | Kind::Ordinal { sequence: levels } => Some(levels),
        Kind::Float { .. } | Kind::Integer { .. } | Kind::Constant { .. } => None,
    };
    let mut numbers: Vec<(f64, f64, f64)> = Vec::new();
    let band = marginal.mean.iter().zip(&marginal.spread);
    for (place, (mean, spread)) in marginal.places.iter().zip(band) {
        let x = match levels {
            Some(levels) => levels
                .iter()
                .position(|level| level.same(&value(*place)))
                .unwrap_or(0) as f64,
            None => place_value(kind, *place),
        };
        numbers.push((x, *mean, *spread));
    }
    let x = value_scale(kind);
    let frame = Frame { from, to, x, y };
    if let Some(levels) = levels {
        draw_levels(&mut scene, &frame, levels, &numbers, what);
        return scene;
    }
    frame.draw_axes(&mut scene, name, what);
    let upper = numbers
        .iter()
        .map(|(x, mean, spread)| frame.at(*x, mean + spread));
    let lower = numbers
        .iter()
        .rev()
        .map(|(x, mean, spread)| frame.at(*x, mean - spread));
    scene.marks.push(Mark::Area {
        points: upper.chain(lower).collect(),
        ink: Ink::Series(0),
        opacity: 0.18,
        title: None,
    });
    let line: Vec<Point> = numbers
        .iter()
        .map(|(x, mean, _)| frame.at(*x, *mean))
        .collect();
    scene.line(line, Ink::Series(0), 2.0);
    scene
}

/// The horizontal scale for a hyperparameter's values; levels by their index.
fn value_scale(kind: &Kind) -> Scale {
    match kind {
        Kind::Categorical { choices: levels } | Kind::Ordinal { sequence: levels } => {
            Scale::linear(-0.5, levels.len() as f64 - 0.5)
        }
        Kind::Float { lower, upper, log } if *log => Scale::log(*lower, *upper),
        Kind::Float { lower, upper, .. } => Scale::linear(*lower, *upper),
        Kind::Integer { lower, upper, log } if *log => {
            Scale::log(*lower as f64 - 0.5, *upper as f64 + 0.5)
        }
        Kind::Integer { lower, upper, .. } => {
            Scale::linear(*lower as f64 - 0.5, *upper as f64 + 0.5)
        }
        Kind::Constant { .. } => Scale::linear(0.0, 1.0),
    }
}

/// The unrounded value at a place, so that curves over whole numbers have no steps.
fn place_value(kind: &Kind, place: f64) -> f64 {
    match kind {
        Kind::Integer { lower, upper, log } => {
            let (low, high) = (*lower as f64 - 0.49999, *upper as f64 + 0.49999);
            if *log {
                (low.ln() + place * (high / low).ln()).exp()
            } else {
                low + place * (high - low)
            }
        }
        _ => kind.decode(place).as_f64().unwrap_or(place),
    }
}

fn draw_levels(
    scene: &mut Scene,
    frame: &Frame,
    levels: &[shared::Value],
    numbers: &[(f64, f64, f64)],
    what: &str,
) {
    // The vertical axis and its grid only: levels are labelled by name.
    frame.draw_y_axis(scene, what);
    let each = (frame.to.0 - frame.from.0) / levels.len() as f64;
    for (index, level) in levels.iter().enumerate() {
        let x = frame.x_at(index as f64);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few"
        )]
        let room = (each / text_width("x")).max(0.0) as usize;
        if room >= 3 || index.is_multiple_of(levels.len().div_ceil(12)) {
            let label = shortened(&level.to_string(), room.max(3));
            scene.words((x, frame.to.1 + 15.0), label, Ink::Muted, Anchor::Middle);
        }
        // An ordinal's marginal has many places for one level: their mean.
        let here: Vec<&(f64, f64, f64)> = numbers
            .iter()
            .filter(|number| (number.0 - index as f64).abs() < 0.5)
            .collect();
        if here.is_empty() {
            continue;
        }
        let mean = here.iter().map(|n| n.1).sum::<f64>() / here.len() as f64;
        let spread = here.iter().map(|n| n.2).sum::<f64>() / here.len() as f64;
        let bar = vec![
            frame.at(index as f64, mean - spread),
            frame.at(index as f64, mean + spread),
        ];
        scene.line(bar, Ink::Series(0), 2.0);
        scene.dots([frame.at(index as f64, mean)], Ink::Series(0), 9.0, 1.0);
    }
}
