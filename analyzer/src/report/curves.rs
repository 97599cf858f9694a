//! Learning curves within jobs, and losses of the same configuration across budgets.

use std::collections::BTreeSet;

use shared::Seed;

use super::{PANEL_HEIGHT, PANEL_WIDTH, Section, sampled};
use crate::history::{Evaluation, History};
use crate::plot::{Anchor, Frame, Ink, Mark, Point, Scale, Scene};
use crate::wording::count;

/// At most this many curves in one drawing.
const MOST_CURVES: usize = 150;
/// At most this many points of a curve.
const MOST_POINTS: usize = 60;

pub(crate) fn section(history: &History, seed: Seed) -> Section {
    let mut section = Section::new("learning-curves", "How do losses develop with the budget?");
    let with_curve = |result: &&Evaluation| result.curve.iter().any(|point| point.loss.is_some());
    let curves: Vec<&Evaluation> = history.results.iter().filter(with_curve).collect();
    if curves.is_empty() {
        section
            .text
            .push("No result holds a learning curve with losses.".into());
    } else {
        section.text.push(format!(
            "{} have a learning curve.",
            count(curves.len(), "result")
        ));
        let (drawn, note) = sampled(
            curves,
            MOST_CURVES,
            "learning curves",
            seed.child("curves", ""),
        );
        section.text.extend(note);
        let budgets: BTreeSet<usize> = drawn.iter().map(|result| result.budget).collect();
        let legend = super::progress::budget_legend(history, budgets.into_iter().rev());
        let lines: Vec<(Ink, Vec<Point>)> = drawn
            .into_iter()
            .map(|result| {
                let points = result.curve.iter().filter_map(|p| Some((p.spent, p.loss?)));
                let ink = super::progress::budget_ink(history, result.budget);
                (ink, thinned(points.collect()))
            })
            .collect();
        section
            .figures
            .extend(drawing(history, "Learning curves", &lines, Some(&legend)));
    }
    let losses = history.losses();
    let across: Vec<Vec<Point>> = losses
        .iter()
        .map(|row| {
            let budgets = history.budgets.iter().zip(row);
            budgets
                .filter_map(|(budget, loss)| Some((*budget, (*loss)?)))
                .collect()
        })
        .filter(|line: &Vec<Point>| line.len() >= 2)
        .collect();
    if across.is_empty() {
        section
            .text
            .push("No configuration has losses at two budgets.".into());
    } else {
        section.text.push(format!(
            "{} have losses at two budgets or more.",
            count(across.len(), "configuration")
        ));
        let seed = seed.child("across", "");
        let (drawn, note) = sampled(across, MOST_CURVES, "configurations", seed);
        section.text.extend(note);
        let lines: Vec<(Ink, Vec<Point>)> =
            drawn.into_iter().map(|l| (Ink::Series(0), l)).collect();
        section
            .figures
            .extend(drawing(history, "Losses across budgets", &lines, None));
    }
    section
}

/// At most so many points, the first and the last among them.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    if points.len() <= MOST_POINTS {
        return points;
    }
    let last = points.len() - 1;
    (0..MOST_POINTS)
        .map(|i| points[i * last / (MOST_POINTS - 1)])
        .collect()
}

/// Learning curves, with the legend of their colours; without one, losses across budgets.
fn drawing(
    history: &History,
    title: &str,
    lines: &[(Ink, Vec<Point>)],
    legend: Option<&[(Ink, String)]>,
) -> Option<Scene> {
    let is_across = legend.is_none();
    let points = || lines.iter().flat_map(|(_, line)| line);
    let mut scene = Scene::new(PANEL_WIDTH, PANEL_HEIGHT, title);
    let head = format!("{title} ({})", lines.len());
    scene.words((66.0, 16.0), head, Ink::Text, Anchor::Start);
    let top = legend.map_or(12.0, |legend| {
        16.0 + scene.legend((66.0, 34.0), PANEL_WIDTH - 80.0, legend)
    });
    let x = if is_across {
        // Budgets are a geometric series.
        let (low, high) = (history.budgets.first()?, history.budgets.last()?);
        Scale::log_with_room(*low, *high)
    } else {
        Scale::linear(0.0, points().map(|point| point.0).fold(0.0, f64::max))
    };
    let frame = Frame {
        from: (66.0, 16.0 + top),
        to: (PANEL_WIDTH - 14.0, PANEL_HEIGHT - 40.0),
        x,
        y: Scale::fitting(points().map(|point| point.1))?,
    };
    let name = match (is_across, history.unit) {
        (_, None) => "budget".to_owned(),
        (true, Some(unit)) => format!("budget ({})", unit.symbol()),
        (false, Some(unit)) => format!("spent in the job ({})", unit.symbol()),
    };
    if is_across {
        frame.draw_x_ticks(&mut scene, &history.budgets, &name);
        frame.draw_y_axis(&mut scene, "loss");
    } else {
        frame.draw_axes(&mut scene, &name, "loss");
    }
    let opacity = if lines.len() > 40 { 0.35 } else { 0.7 };
    for (ink, line) in lines {
        let points: Vec<Point> = line.iter().map(|(x, y)| frame.at(*x, *y)).collect();
        if is_across || points.len() == 1 {
            scene.dots(points.iter().copied(), *ink, 4.0, opacity);
        }
        scene.marks.push(Mark::Line {
            points,
            ink: *ink,
            width: 1.2,
            opacity,
            is_dashed: false,
        });
    }
    Some(scene)
}
