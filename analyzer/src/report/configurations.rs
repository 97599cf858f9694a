//! The configurations themselves: the best ten, all of them side by side, where they came from, and why some failed.

use std::collections::BTreeMap;

use shared::{Kind, SearchSpace};

use super::{Facts, PANEL_HEIGHT, Section, WIDE, page, sampled};
use crate::load::{Evaluation, History, Source};
use crate::plot::{Anchor, Frame, Ink, Mark, Point, Scale, Scene};
use crate::rows::message;
use crate::statistics::average_ranks;
use crate::table::{Cell, Table};
use crate::wording::{count, fixed, shortened, significant};

/// Rows of the table of the best.
const MOST_BEST: usize = 10;
/// Columns of hyperparameters in the table of the best.
const MOST_COLUMNS: usize = 40;
/// Lines in parallel coordinates.
const MOST_LINES: usize = 300;
/// Axes in parallel coordinates.
const MOST_AXES: usize = 20;
/// Dots in the drawing of origins.
const MOST_DOTS: usize = 1500;
/// Kinds of failures told.
const MOST_FAILURES: usize = 10;

pub(super) fn best(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let section = Section::new("best", "Which configurations are best?");
    let Some(incumbent) = history.incumbent() else {
        return section.say("No job has a loss yet, so there is no best configuration.");
    };
    let mut ranked: Vec<&Evaluation> = history
        .results
        .iter()
        .filter(|result| result.budget == incumbent.budget && result.loss().is_some())
        .collect();
    let loss = |result: &Evaluation| result.loss().unwrap_or(f64::INFINITY);
    ranked.sort_by(|a, b| loss(a).total_cmp(&loss(b)).then(a.job.cmp(&b.job)));
    let num = ranked.len();
    ranked.truncate(MOST_BEST);
    let mut names: Vec<&str> = match &history.space {
        Some(space) => space.dimensions().map(|h| h.name.as_str()).collect(),
        None => values_of(history, incumbent)
            .map(|(name, _)| name)
            .collect(),
    };
    let num_names = names.len();
    names.truncate(MOST_COLUMNS);
    let has_test = ranked.iter().any(|result| result.test_loss.is_some());
    let mut columns = vec!["", "configuration", "loss"];
    columns.extend(has_test.then_some("test loss"));
    columns.extend(["elapsed (s)", "found by"]);
    columns.extend(&names);
    let mut table = Table::new(&columns);
    for (index, result) in ranked.iter().enumerate() {
        let tried = &history.configurations[result.configuration];
        let rounded = |x: Option<f64>| Cell::rounded(x, |x| significant(x, 5));
        let mut row = vec![
            Cell::Count(index + 1),
            Cell::text(history.configuration_name(result.configuration)),
            rounded(result.loss()),
        ];
        row.extend(has_test.then(|| rounded(result.test_loss)));
        row.push(rounded(Some(result.elapsed_s)));
        row.push(
            tried
                .origin
                .map_or(Cell::Missing, |o| Cell::text(o.as_str())),
        );
        row.extend(names.iter().map(|name| match tried.values.get(name) {
            Some(value) => match value.as_f64() {
                Some(x) => Cell::Rounded(significant(x, 4)),
                None => Cell::Text(shortened(&value.to_string(), 40)),
            },
            None => Cell::Missing,
        }));
        table.push(row);
    }
    let mut section = section.say(format!(
        "The best {} of {} at {}, the largest budget that has a loss. A dash: the hyperparameter is inactive.",
        ranked.len(),
        count(num, "configuration"),
        history.budget_name(incumbent.budget)
    ));
    if num_names > names.len() {
        section.text.push(format!(
            "The first {MOST_COLUMNS} of {num_names} hyperparameters are shown."
        ));
    }
    section.table = Some(page::table(&table));
    section
}

fn values_of<'a>(
    history: &'a History,
    result: &Evaluation,
) -> impl Iterator<Item = (&'a str, &'a shared::Value)> {
    history.configurations[result.configuration].values.iter()
}

pub(super) fn parallel(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let mut section = Section::new("parallel", "What do good configurations have in common?");
    section.is_wide = true;
    let Some(space) = &history.space else {
        return section.say("There is no search space to draw.");
    };
    // The largest budget with enough losses to see a pattern, else the one with most.
    let mut num_losses = vec![0_usize; history.budgets.len()];
    for result in &history.results {
        num_losses[result.budget] += usize::from(result.loss().is_some());
    }
    let enough = (0..num_losses.len())
        .rev()
        .find(|&budget| num_losses[budget] >= 20);
    let most = (0..num_losses.len()).max_by_key(|&budget| num_losses[budget]);
    let Some(budget) = enough.or(most).filter(|&budget| num_losses[budget] >= 2) else {
        return section.say("Fewer than two configurations have a loss.");
    };
    let of_budget: Vec<&Evaluation> = history
        .results
        .iter()
        .filter(|result| result.budget == budget && result.loss().is_some())
        .collect();
    let num = of_budget.len();
    let losses: Vec<f64> = of_budget
        .iter()
        .filter_map(|result| result.loss())
        .collect();
    let ranks = average_ranks(&losses);
    // Share of the configurations that are better: 0 for the best.
    let placed: Vec<(&Evaluation, f64)> = of_budget
        .into_iter()
        .zip(ranks)
        .map(|(result, rank)| (result, (rank - 1.0) / num as f64))
        .collect();
    let seed = facts.seed.child("parallel", "");
    let (mut placed, note) = sampled(placed, MOST_LINES, "configurations", seed);
    placed.sort_by(|a, b| b.1.total_cmp(&a.1));
    section.text.push(format!(
        "{} with a loss at {}; the best tenth stand out. Every axis has the search space's range and scale; a line \
         that touches no axis there has the hyperparameter inactive.",
        count(num, "configuration"),
        history.budget_name(budget)
    ));
    section.text.extend(note);
    let mut dimensions: Vec<usize> = (0..space.num_dimensions()).collect();
    if dimensions.len() > MOST_AXES {
        if let Some(importance) = facts.importances.first() {
            dimensions = importance.order();
        }
        dimensions.truncate(MOST_AXES);
        section.text.push(format!(
            "{MOST_AXES} of {} hyperparameters are drawn, the most important ones where that is known.",
            space.num_dimensions()
        ));
    }
    if dimensions.is_empty() {
        return section.say("Nothing varies in this search space.");
    }
    section
        .figures
        .push(coordinates(history, space, &dimensions, &placed));
    section
}

fn coordinates(
    history: &History,
    space: &SearchSpace,
    dimensions: &[usize],
    placed: &[(&Evaluation, f64)],
) -> Scene {
    let (top, bottom) = (120.0, 360.0);
    let mut scene = Scene::new(
        WIDE,
        bottom + 40.0,
        "Parallel coordinates of configurations",
    );
    let num_axes = dimensions.len() + 1;
    let (left, right) = (50.0, WIDE - 60.0);
    let x_of = |axis: usize| left + (right - left) * axis as f64 / (num_axes - 1) as f64;
    let losses = placed.iter().filter_map(|(result, _)| result.loss());
    let Some(scale) = Scale::fitting(losses) else {
        return scene;
    };
    let hyperparameters: Vec<_> = space.dimensions().collect();
    for (result, worse) in placed {
        let encoded = space.encode(&history.configurations[result.configuration].values);
        let mut pieces: Vec<Vec<Point>> = vec![Vec::new()];
        for (axis, &dimension) in dimensions.iter().enumerate() {
            let place = match hyperparameters[dimension].kind.num_levels() {
                Some(levels) => (encoded[dimension] + 0.5) / levels as f64,
                None => encoded[dimension],
            };
            if place.is_nan() {
                pieces.push(Vec::new());
            } else if let Some(piece) = pieces.last_mut() {
                piece.push((x_of(axis), bottom - place * (bottom - top)));
            }
        }
        let loss = result.loss().unwrap_or(f64::INFINITY);
        let end = (
            x_of(num_axes - 1),
            bottom - scale.place(loss) * (bottom - top),
        );
        if let Some(piece) = pieces.last_mut() {
            piece.push(end);
        }
        let is_good = *worse < 0.1;
        for points in pieces.into_iter().filter(|piece| piece.len() > 1) {
            scene.marks.push(Mark::Line {
                points,
                ink: if is_good { Ink::Series(1) } else { Ink::Muted },
                width: if is_good { 1.6 } else { 1.0 },
                opacity: if is_good { 0.85 } else { 0.22 },
                is_dashed: false,
            });
        }
    }
    for axis in 0..num_axes {
        let x = x_of(axis);
        scene.line(vec![(x, top), (x, bottom)], Ink::Muted, 1.0);
        let (name, low, high) = match dimensions.get(axis) {
            Some(&dimension) => {
                let hyperparameter = hyperparameters[dimension];
                let (low, high) = ends(&hyperparameter.kind);
                (hyperparameter.name.clone(), low, high)
            }
            None => {
                let ticks = scale.ticks(4);
                for &tick in &ticks {
                    let y = bottom - scale.place(tick) * (bottom - top);
                    scene.words(
                        (x + 5.0, y + 4.0),
                        significant(tick, 3),
                        Ink::Muted,
                        Anchor::Start,
                    );
                }
                let name = format!("loss at {}", history.budget_name(placed[0].0.budget));
                (name, String::new(), String::new())
            }
        };
        let name = shortened(&name, 24);
        scene.turned_words((x + 3.0, top - 18.0), name, Ink::Text, Anchor::Start, -38.0);
        // Neighbours would run into each other on one line.
        let y = bottom + if axis % 2 == 0 { 14.0 } else { 28.0 };
        scene.words((x, y), shortened(&low, 12), Ink::Muted, Anchor::Middle);
        scene.words(
            (x, top - 5.0),
            shortened(&high, 9),
            Ink::Muted,
            Anchor::Middle,
        );
    }
    scene
}

fn ends(kind: &Kind) -> (String, String) {
    match kind {
        Kind::Float { lower, upper, .. } => (significant(*lower, 3), significant(*upper, 3)),
        Kind::Integer { lower, upper, .. } => (lower.to_string(), upper.to_string()),
        Kind::Ordinal { sequence: levels } | Kind::Categorical { choices: levels } => {
            let text = |level: Option<&shared::Value>| {
                level.map_or_else(String::new, ToString::to_string) // never empty: checked with the space
            };
            (text(levels.first()), text(levels.last()))
        }
        Kind::Constant { value } => (value.to_string(), String::new()),
    }
}

pub(super) fn origins(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let section = Section::new(
        "origins",
        "Are the model's proposals better than random ones?",
    );
    let has_origin = |source| {
        history
            .configurations
            .iter()
            .any(|t| t.origin == Some(source))
    };
    if !has_origin(Source::Model) || !has_origin(Source::Prior) {
        return section.say(
            "Nothing to compare: there are no proposals of both kinds, by a model and drawn from the prior.",
        );
    }
    // At the smallest budget: what is at larger ones was selected.
    let mut losses: BTreeMap<Source, Vec<(f64, f64)>> = BTreeMap::new();
    let Some(budget) = history
        .results
        .iter()
        .filter(|r| r.loss().is_some())
        .map(|r| r.budget)
        .min()
    else {
        return section.say("No job has a loss yet.");
    };
    for result in history
        .results
        .iter()
        .filter(|result| result.budget == budget)
    {
        let tried = &history.configurations[result.configuration];
        if let (Some(source), Some(loss)) = (tried.origin, result.loss()) {
            losses
                .entry(source)
                .or_default()
                .push((f64::from(tried.id.0), loss));
        }
    }
    let at = history.budget_name(budget);
    let mut text = Vec::new();
    for (source, losses) in &losses {
        let mut sorted: Vec<f64> = losses.iter().map(|(_, loss)| *loss).collect();
        sorted.sort_by(f64::total_cmp);
        let median = crate::statistics::quantile(&sorted, 0.5);
        text.push(format!(
            "{}: median {} (n {})",
            source.as_str(),
            significant(median, 4),
            sorted.len()
        ));
    }
    let mut section = section.say(format!(
        "Losses at {at}, the smallest budget that has any, where nothing was selected yet. {}.",
        text.join("; ")
    ));
    if let Some(chance) = superiority(&losses) {
        section.text.push(format!(
            "A proposal by the model beats one drawn from the prior with probability {} (half if there is no \
             difference; ties count half).",
            fixed(chance, 2)
        ));
    }
    let seed = facts.seed.child("origins", "");
    section
        .figures
        .extend(origin_drawings(&at, losses, seed, &mut section.text));
    section
}

/// Probability that a loss by the model is below one from the prior, ties half (Mann and Whitney's U, scaled).
fn superiority(losses: &BTreeMap<Source, Vec<(f64, f64)>>) -> Option<f64> {
    let (model, prior) = (losses.get(&Source::Model)?, losses.get(&Source::Prior)?);
    let all: Vec<f64> = model.iter().chain(prior).map(|(_, loss)| *loss).collect();
    let ranks = average_ranks(&all);
    let (n, m) = (model.len() as f64, prior.len() as f64);
    let sum: f64 = ranks[..model.len()].iter().sum();
    let above = sum - n * (n + 1.0) / 2.0;
    Some(1.0 - above / (n * m))
}

fn origin_drawings(
    at: &str,
    losses: BTreeMap<Source, Vec<(f64, f64)>>,
    seed: shared::Seed,
    text: &mut Vec<String>,
) -> Vec<Scene> {
    let ink = |source: Source| match source {
        Source::Model => Ink::Series(0),
        Source::Prior => Ink::Series(1),
        Source::Other => Ink::Series(2),
    };
    let (width, height) = (530.0, PANEL_HEIGHT + 50.0);
    let all = || losses.values().flatten();
    let Some(loss_scale) = Scale::fitting(all().map(|(_, loss)| *loss)) else {
        return Vec::new();
    };
    let entries: Vec<(Ink, String)> = losses
        .iter()
        .map(|(source, losses)| {
            (
                ink(*source),
                format!("{} (n {})", source.as_str(), losses.len()),
            )
        })
        .collect();
    let frame = |scene: &mut Scene, x: Scale, y: Scale| {
        let legend = scene.legend((66.0, 14.0), width - 80.0, &entries);
        Frame {
            from: (66.0, 8.0 + legend),
            to: (width - 14.0, height - 40.0),
            x,
            y,
        }
    };
    let mut shares = Scene::new(width, height, "Share of losses below, by origin");
    let share_frame = frame(&mut shares, loss_scale, Scale::linear(0.0, 100.0));
    share_frame.draw_axes(
        &mut shares,
        &format!("loss at {at}"),
        "share at or below (%)",
    );
    let last = all().map(|(number, _)| *number).fold(1.0, f64::max);
    let mut order = Scene::new(width, height, "Losses in the order of proposals");
    let order_frame = frame(&mut order, Scale::linear(0.0, last), loss_scale);
    order_frame.draw_axes(
        &mut order,
        "number of the configuration",
        &format!("loss at {at}"),
    );
    let dots: Vec<(Source, f64, f64)> = losses
        .iter()
        .flat_map(|(source, losses)| {
            losses
                .iter()
                .map(|(number, loss)| (*source, *number, *loss))
        })
        .collect();
    let (dots, note) = sampled(dots, MOST_DOTS, "losses", seed);
    text.extend(note);
    for (source, losses) in &losses {
        let mut sorted: Vec<f64> = losses.iter().map(|(_, loss)| *loss).collect();
        sorted.sort_by(f64::total_cmp);
        shares.line(share_line(&sorted, &share_frame), ink(*source), 2.0);
        let own = dots.iter().filter(|dot| dot.0 == *source);
        let own = own.map(|(_, number, loss)| order_frame.at(*number, *loss));
        order.dots(own, ink(*source), 4.0, 0.55);
    }
    vec![shares, order]
}

/// The empirical distribution function as a line of at most some hundred steps.
fn share_line(sorted: &[f64], frame: &Frame) -> Vec<Point> {
    const MOST_STEPS: usize = 300;
    let n = sorted.len();
    let step = n.div_ceil(MOST_STEPS).max(1);
    let mut line = vec![frame.at(sorted[0], 0.0)];
    for index in (0..n).step_by(step).chain([n - 1]) {
        let share = 100.0 * (index + 1) as f64 / n as f64;
        let x = frame.x_at(sorted[index]);
        if let Some(&(_, before)) = line.last() {
            line.push((x, before));
        }
        line.push((x, frame.y_at(share)));
    }
    line
}

pub(super) fn failures(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let mut section = Section::new("failures", "What failed?");
    let mut kinds: BTreeMap<(&str, String), (usize, String)> = BTreeMap::new();
    for result in history
        .results
        .iter()
        .filter(|result| result.loss().is_none())
    {
        let key = (
            result.outcome.as_str(),
            shortened(&message(&result.outcome), 200),
        );
        let entry = kinds
            .entry(key)
            .or_insert_with(|| (0, result.job.to_string()));
        entry.0 += 1;
    }
    let num: usize = kinds.values().map(|(number, _)| number).sum();
    if num == 0 {
        return section.say("Nothing: every finished job has a loss.");
    }
    let at_budgets: Vec<String> = (0..history.budgets.len())
        .filter_map(|budget| {
            let of_budget = history
                .results
                .iter()
                .filter(|result| result.budget == budget);
            let (mut all, mut bad) = (0, 0);
            for result in of_budget {
                all += 1;
                bad += usize::from(result.loss().is_none());
            }
            (bad > 0).then(|| format!("{bad} of {all} at {}", history.budget_name(budget)))
        })
        .collect();
    section.text.push(format!(
        "{} gave no loss: {}.",
        count(num, "job"),
        at_budgets.join(", ")
    ));
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.1.0));
    if kinds.len() > MOST_FAILURES {
        section.text.push(format!(
            "The {MOST_FAILURES} most frequent of {} kinds:",
            kinds.len()
        ));
    }
    let mut table = Table::new(&["jobs", "outcome", "message", "first"]);
    for ((outcome, message), (number, first)) in kinds.into_iter().take(MOST_FAILURES) {
        table.push(vec![
            Cell::Count(number),
            Cell::text(outcome.replace('_', " ")),
            Cell::text(message),
            Cell::text(first),
        ]);
    }
    section.table = Some(page::table(&table));
    section
}
