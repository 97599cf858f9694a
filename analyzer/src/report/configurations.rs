//! The configurations themselves: the best ten, all of them side by side, where they came from, and why some failed.

use std::collections::BTreeMap;

use shared::constraint::Violation;
use shared::{Hyperparameter, Kind, Outcome, SearchSpace};

use super::{Facts, PANEL_HEIGHT, PANEL_WIDTH, Section, WIDE, page, sampled};
use crate::history::{Evaluation, History, Source};
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
    let table = best_table(history, &ranked, &names);
    let mut section = section.say(format!(
        "The best {} of {} at {}, the largest budget that has a loss. A dash: the hyperparameter is inactive.",
        ranked.len(),
        count(num, "configuration"),
        history.budget_phrase(incumbent.budget)
    ));
    if num_names > names.len() {
        section.text.push(format!(
            "The first {MOST_COLUMNS} of {num_names} hyperparameters are shown."
        ));
    }
    section.table = Some(page::table(&table));
    section
}

/// One column a configuration: what it is and its values, a row each.
fn best_table(history: &History, ranked: &[&Evaluation], names: &[&str]) -> Table {
    let tried = |result: &Evaluation| &history.configurations[result.configuration];
    let mut columns = vec![String::new()];
    columns.extend(ranked.iter().map(|result| tried(result).id.to_string()));
    let mut table = Table {
        columns,
        rows: Vec::new(),
    };
    let mut push = |name: &str, cell: &dyn Fn(&Evaluation) -> Cell| {
        let mut row = vec![Cell::text(name)];
        row.extend(ranked.iter().map(|result| cell(result)));
        table.push(row);
    };
    let rounded = |x: Option<f64>| Cell::rounded(x, |x| significant(x, 5));
    if ranked
        .iter()
        .any(|result| tried(result).foreign_id.is_some())
    {
        push("id in the log", &|result| {
            let id = tried(result).foreign_id.clone();
            id.map_or(Cell::Missing, Cell::Rounded)
        });
    }
    push("loss", &|result| rounded(result.loss()));
    if ranked.iter().any(|result| result.test_loss.is_some()) {
        push("test loss", &|result| rounded(result.test_loss));
    }
    push("elapsed (s)", &|result| {
        Cell::Rounded(significant(result.elapsed_s, 3))
    });
    push("found by", &|result| {
        let origin = tried(result).origin;
        origin.map_or(Cell::Missing, |o| Cell::Rounded(o.as_str().into()))
    });
    for name in names {
        push(name, &|result| match tried(result).values.get(name) {
            Some(value) => Cell::Rounded(match value.as_f64() {
                Some(x) => significant(x, 4),
                None => shortened(&value.to_string(), 24),
            }),
            None => Cell::Missing,
        });
    }
    table
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
        history.budget_phrase(budget)
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
    let scene = coordinates(history, space, &dimensions, &placed);
    section.figures.extend(scene);
    section
}

/// Where things are in parallel coordinates: an axis for each hyperparameter drawn, and one for the loss.
struct Coordinates<'a> {
    /// The hyperparameters drawn, each with its place in the encoding.
    axes: Vec<(usize, &'a Hyperparameter)>,
    losses: Scale,
}

impl Coordinates<'_> {
    const TOP: f64 = 120.0;
    const BOTTOM: f64 = 360.0;
    const LEFT: f64 = 50.0;
    const RIGHT: f64 = WIDE - 120.0;

    fn x(&self, axis: usize) -> f64 {
        Self::LEFT + (Self::RIGHT - Self::LEFT) * axis as f64 / self.axes.len() as f64
    }

    fn y(place: f64) -> f64 {
        Self::BOTTOM - place * (Self::BOTTOM - Self::TOP)
    }

    /// The line of a configuration, in pieces where a hyperparameter is inactive.
    fn pieces(&self, encoded: &[f64], loss: f64) -> Vec<Vec<Point>> {
        let mut pieces: Vec<Vec<Point>> = Vec::new();
        let mut piece = Vec::new();
        for (axis, (dimension, hyperparameter)) in self.axes.iter().enumerate() {
            let place = match hyperparameter.kind.num_levels() {
                Some(levels) => (encoded[*dimension] + 0.5) / levels as f64,
                None => encoded[*dimension],
            };
            if place.is_nan() {
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece.push((self.x(axis), Self::y(place)));
            }
        }
        piece.push((self.x(self.axes.len()), Self::y(self.losses.place(loss))));
        pieces.push(piece);
        pieces.retain(|piece| piece.len() > 1);
        pieces
    }

    fn draw_axis(&self, scene: &mut Scene, axis: usize, name: &str) {
        let x = self.x(axis);
        let ends = [(x, Self::TOP), (x, Self::BOTTOM)];
        scene.line(ends.to_vec(), Ink::Muted, 1.0);
        let at = (x + 3.0, Self::TOP - 18.0);
        let name = shortened(name, 24);
        scene.turned_words(at, name, Ink::Text, Anchor::Start, -38.0);
    }

    fn draw_axes(&self, scene: &mut Scene, loss_name: &str) {
        for (axis, (_, hyperparameter)) in self.axes.iter().enumerate() {
            self.draw_axis(scene, axis, &hyperparameter.name);
            let (low, high) = ends(&hyperparameter.kind);
            let (low, high) = (shortened(&low, 12), shortened(&high, 9));
            // Neighbours would run into each other on one line.
            let is_crowded = self.x(1) - self.x(0) < 80.0;
            let down = if is_crowded && axis % 2 == 1 {
                28.0
            } else {
                14.0
            };
            let x = self.x(axis);
            scene.words((x, Self::BOTTOM + down), low, Ink::Muted, Anchor::Middle);
            scene.words((x, Self::TOP - 5.0), high, Ink::Muted, Anchor::Middle);
        }
        self.draw_axis(scene, self.axes.len(), loss_name);
        let x = self.x(self.axes.len()) + 5.0;
        for tick in self.losses.ticks(4) {
            let y = Self::y(self.losses.place(tick)) + 4.0;
            scene.words((x, y), significant(tick, 3), Ink::Muted, Anchor::Start);
        }
    }
}

fn coordinates(
    history: &History,
    space: &SearchSpace,
    dimensions: &[usize],
    placed: &[(&Evaluation, f64)],
) -> Option<Scene> {
    let all: Vec<&Hyperparameter> = space.dimensions().collect();
    let coordinates = Coordinates {
        axes: dimensions.iter().map(|&d| (d, all[d])).collect(),
        losses: Scale::fitting(placed.iter().filter_map(|(result, _)| result.loss()))?,
    };
    let title = "Parallel coordinates of configurations";
    let mut scene = Scene::new(WIDE, Coordinates::BOTTOM + 40.0, title);
    for (result, worse) in placed {
        let encoded = space.encode(&history.configurations[result.configuration].values);
        let is_good = *worse < 0.1;
        for points in coordinates.pieces(&encoded, result.loss()?) {
            scene.marks.push(Mark::Line {
                points,
                ink: if is_good { Ink::Series(1) } else { Ink::Muted },
                width: if is_good { 1.6 } else { 1.0 },
                opacity: if is_good { 0.85 } else { 0.22 },
                is_dashed: false,
            });
        }
    }
    let budget = history.budget_phrase(placed.first()?.0.budget);
    coordinates.draw_axes(&mut scene, &format!("loss at {budget}"));
    Some(scene)
}

pub(super) fn ends(kind: &Kind) -> (String, String) {
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
    let all_losses = history.results.iter().flat_map(Evaluation::all_losses);
    let Some(budget) = all_losses.map(|(budget, _)| budget).min() else {
        return section.say("No job has a loss yet.");
    };
    for result in &history.results {
        let tried = &history.configurations[result.configuration];
        let here = result.all_losses().find(|(there, _)| *there == budget);
        if let (Some(source), Some((_, loss))) = (tried.origin, here) {
            losses
                .entry(source)
                .or_default()
                .push((f64::from(tried.id.0), loss));
        }
    }
    let at = history.budget_phrase(budget);
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
        .extend(origin_drawings(&at, &losses, seed, &mut section.text));
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
    losses: &BTreeMap<Source, Vec<(f64, f64)>>,
    seed: shared::Seed,
    text: &mut Vec<String>,
) -> Vec<Scene> {
    let ink = |source: Source| match source {
        Source::Model => Ink::Series(0),
        Source::Prior => Ink::Series(1),
        Source::Other => Ink::Series(2),
    };
    let (width, height) = (PANEL_WIDTH, PANEL_HEIGHT + 20.0);
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
    for (source, losses) in losses {
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

/// What failures of a kind have in common.
fn kind_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Infeasible { violations, .. } => {
            let limits: Vec<String> = violations.iter().map(Violation::limit).collect();
            limits.join("; ")
        }
        other => message(other),
    }
}

pub(super) fn failures(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let mut section = Section::new("failures", "What failed?");
    let mut kinds: BTreeMap<(&str, String), (usize, String)> = BTreeMap::new();
    for result in history.results.iter().filter(|result| result.has_failed()) {
        let key = (
            result.outcome.as_str(),
            shortened(&kind_of(&result.outcome), 200),
        );
        let entry = kinds
            .entry(key)
            .or_insert_with(|| (0, result.job.to_string()));
        entry.0 += 1;
    }
    let num: usize = kinds.values().map(|(number, _)| number).sum();
    if num == 0 {
        let has_stopped = history.results.iter().any(|result| result.loss().is_none());
        return section.say(if has_stopped {
            "Nothing: every finished job has a loss or was stopped."
        } else {
            "Nothing: every finished job has a loss."
        });
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
                bad += usize::from(result.has_failed());
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
