//! What happened when: the best loss at each budget, and which trainer worked on what.

use std::collections::BTreeMap;

use super::{Facts, PANEL_HEIGHT, PANEL_WIDTH, Section, WIDE, sampled};
use crate::history::History;
use crate::plot::{Anchor, Frame, Ink, Mark, Point, SERIES, Scale, Scene, text_width};
use crate::trajectory::{self, At};
use crate::whatif::{self, Forecast};
use crate::wording::{count, duration, shortened, significant};

/// At most this many jobs are drawn in the timeline.
const MOST_JOBS: usize = 6000;
/// At most this many trainers.
const MOST_TRAINERS: usize = 40;

/// The colour of a budget: larger ones come first, so that the largest has the first colour.
pub(super) fn budget_ink(history: &History, budget: usize) -> Ink {
    Ink::Series(history.budgets.len() - 1 - budget)
}

/// The colours and names of budgets, for a legend.
pub(super) fn budget_legend(
    history: &History,
    budgets: impl IntoIterator<Item = usize>,
) -> Vec<(Ink, String)> {
    let entry = |budget| (budget_ink(history, budget), history.budget_phrase(budget));
    budgets.into_iter().map(entry).collect()
}

/// What the horizontal axis of a trajectory counts.
#[derive(Clone, Copy)]
enum Along {
    Jobs,
    Spent,
    Wall,
}

pub(super) fn trajectory(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let section = Section::new("trajectory", "How did the best loss fall?");
    let steps = trajectory::steps(history, At::Reached);
    let Some(last) = steps.last() else {
        return section.say("No job has a loss yet.");
    };
    let incumbent = &history.results[last.incumbent];
    let loss = incumbent
        .loss()
        .map_or_else(String::new, |loss| significant(loss, 5));
    let mut section = section.say(format!(
        "After {} and {} spent, the best loss at {} is {loss} ({}).",
        count(last.jobs, "job"),
        history.amount_phrase(last.spent),
        history.budget_phrase(incumbent.budget),
        history.configuration_name(incumbent.configuration),
    ));
    let budgets = budgets_with_losses(history);
    if budgets.len() < history.budgets.len() || history.budgets.len() > SERIES {
        section.text.push(format!(
            "One line for each budget that has a loss, of the {SERIES} largest; dashed: loss on the test set \
             of the incumbent, where it was measured."
        ));
    } else {
        section.text.push(
            "One line for each budget; dashed: loss on the test set of the incumbent, where it was measured."
                .into(),
        );
    }
    for along in [Along::Jobs, Along::Spent, Along::Wall] {
        section
            .figures
            .extend(trajectory_panel(history, &budgets, along));
    }
    section
}

fn budgets_with_losses(history: &History) -> Vec<usize> {
    let has_loss = |budget: &usize| history.best_at(*budget).is_some();
    let mut budgets: Vec<usize> = (0..history.budgets.len()).rev().filter(has_loss).collect();
    budgets.truncate(SERIES);
    budgets
}

fn trajectory_panel(history: &History, budgets: &[usize], along: Along) -> Option<Scene> {
    let start = history.start_s();
    let mut spent = 0.0;
    // (place, budget, loss, test loss) of every result in the order of time.
    let mut results = Vec::new();
    for (position, index) in history.by_time().into_iter().enumerate() {
        let result = &history.results[index];
        spent += result.spent;
        let place = match along {
            Along::Jobs => position as f64 + 1.0,
            Along::Spent => spent,
            Along::Wall => result.finished_s? - start?,
        };
        results.push((place, result.budget, result.loss(), result.test_loss));
    }
    let mut lines: Vec<(Ink, Vec<Point>, bool)> = Vec::new();
    let end = results.last()?.0;
    for &budget in budgets {
        let of_budget = results.iter().filter(|result| result.1 == budget);
        let line = best_so_far(of_budget.map(|r| (r.0, r.2, r.2)), end);
        lines.push((budget_ink(history, budget), line, false));
    }
    let top = *budgets.first()?;
    let of_top = results.iter().filter(|result| result.1 == top);
    let test = best_so_far(of_top.map(|r| (r.0, r.2, r.3)), end);
    lines.push((budget_ink(history, top), test, true));
    let points = || lines.iter().flat_map(|(_, line, _)| line);
    let name = match along {
        Along::Jobs => "jobs finished".to_owned(),
        Along::Spent => format!("spent ({})", history.unit_name()),
        Along::Wall => "wall time (s)".to_owned(),
    };
    let mut scene = Scene::new(
        PANEL_WIDTH,
        PANEL_HEIGHT + 20.0,
        format!("Best loss over {name}"),
    );
    let names = budget_legend(history, budgets.iter().copied());
    let legend = scene.legend((20.0, 14.0), PANEL_WIDTH - 30.0, &names);
    let frame = Frame {
        from: (62.0, 8.0 + legend),
        to: (PANEL_WIDTH - 12.0, PANEL_HEIGHT - 20.0),
        x: Scale::linear(0.0, end),
        y: Scale::fitting(points().map(|point| point.1))?,
    };
    frame.draw_axes(&mut scene, &name, "best loss so far");
    for (ink, line, is_dashed) in lines.into_iter().rev() {
        let points: Vec<Point> = line
            .iter()
            .map(|point| frame.at(point.0, point.1))
            .collect();
        if points.is_empty() {
            continue;
        }
        scene.marks.push(Mark::Line {
            points,
            ink,
            width: 1.8,
            opacity: 1.0,
            is_dashed,
        });
    }
    Some(scene)
}

/// Steps of what is shown of the best so far: (place, what decides, what is shown).
fn best_so_far(
    results: impl Iterator<Item = (f64, Option<f64>, Option<f64>)>,
    end: f64,
) -> Vec<Point> {
    let mut best = f64::INFINITY;
    let mut line: Vec<Point> = Vec::new();
    for (place, loss, shown) in results {
        let (Some(loss), Some(shown)) = (loss, shown) else {
            continue;
        };
        if loss < best {
            best = loss;
            if let Some(&(_, before)) = line.last() {
                line.push((place, before));
            }
            line.push((place, shown));
        }
    }
    if let Some(&(_, last)) = line.last() {
        line.push((end, last));
    }
    line
}

pub(super) fn whatif(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let mut section = Section::new("whatif", "What would other budgets have cost?");
    match whatif::forecasts(history, None, None, facts.seed) {
        Err(reason) => section.say(format!("No answer: {reason}.")),
        Ok((forecasts, _)) => {
            section.text.push(whatif::verdict(history, &forecasts));
            section.text.push(whatif::caveat(history));
            let table = whatif::short_table(history, &forecasts);
            section.table = Some(super::page::table(&table));
            section.figures.extend(until_drawing(history, &forecasts));
            section
        }
    }
}

/// For each ladder the training until as good an incumbent as that of the search's own.
fn until_drawing(history: &History, forecasts: &[Forecast]) -> Option<Scene> {
    const ROW: f64 = 18.0;
    const LEFT: f64 = 190.0;
    let shares = forecasts
        .iter()
        .flat_map(|f| [f.until.low, f.until.median, f.until.high]);
    let finite = shares.filter(|share| share.is_finite() && *share > 0.0);
    let scale = Scale::fitting(finite.map(|share| 100.0 * share).chain([100.0]))?;
    let height = 20.0 + ROW * forecasts.len() as f64;
    let mut scene = Scene::new(
        2.0 * PANEL_WIDTH,
        height + 40.0,
        "Training until as good an incumbent",
    );
    let frame = Frame {
        from: (LEFT, 8.0),
        to: (2.0 * PANEL_WIDTH - 14.0, height),
        x: scale,
        y: Scale::linear(0.0, 1.0),
    };
    frame.draw_x_axis(
        &mut scene,
        "training until as good an incumbent (% of the search's own ladder)",
    );
    let own = [(frame.x_at(100.0), 8.0), (frame.x_at(100.0), height)];
    scene.line(own.to_vec(), Ink::Muted, 1.0);
    for (row, forecast) in forecasts.iter().enumerate() {
        let y = 20.0 + ROW * row as f64;
        let lowest = crate::wording::budget(forecast.ladder.budgets[0], history.unit);
        let rungs = count(forecast.ladder.budgets.len(), "rung");
        let own = if forecast.is_own { " (own)" } else { "" };
        let name = format!("{lowest}, eta {}, {rungs}{own}", forecast.ladder.eta);
        scene.words((LEFT - 8.0, y + 4.0), name, Ink::Text, Anchor::End);
        let x = |share: f64| frame.x_at(100.0 * share.min(1e9));
        if forecast.until.low.is_finite() {
            let ends = [(x(forecast.until.low), y), (x(forecast.until.high), y)];
            scene.line(ends.to_vec(), Ink::Series(0), 2.0);
        }
        if forecast.until.median.is_finite() {
            scene.dots([(x(forecast.until.median), y)], Ink::Series(0), 7.0, 1.0);
        }
    }
    Some(scene)
}

pub(super) fn timeline(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let mut section = Section::new("timeline", "Who worked on what?");
    section.is_wide = true;
    let spans: Vec<Span> = history
        .results
        .iter()
        .filter_map(|result| {
            Some(Span {
                start: result.started_s?,
                end: result.finished_s?,
                budget: result.budget,
                is_failure: result.has_failed(),
                owner: result.owner,
            })
        })
        .filter(|span| span.end >= span.start)
        .collect();
    let Some(first) = spans.iter().map(|span| span.start).min_by(f64::total_cmp) else {
        return section.say("No result has a start and an end.");
    };
    let end = spans.iter().map(|span| span.end).fold(first, f64::max);
    let lanes = lanes(history, &spans);
    let used: f64 = spans.iter().map(|span| span.end - span.start).sum();
    let num_lanes = lanes.names.len();
    section.text.push(format!(
        "{} took {} of work in {} on {}: {} % busy with jobs that gave a result.",
        count(spans.len(), "job"),
        duration(used),
        duration(end - first),
        count(num_lanes, lanes.noun),
        crate::wording::fixed(
            100.0 * used / ((end - first) * num_lanes as f64).max(1e-9),
            0
        ),
    ));
    if history.owners.len() == 1 && num_lanes > 1 {
        section.text.push(
            "The log does not name its workers: jobs that ran at the same time are drawn in separate rows.".into(),
        );
    }
    if num_lanes > MOST_TRAINERS {
        section
            .text
            .push(format!("The first {MOST_TRAINERS} are drawn."));
    }
    let seed = facts.seed.child("timeline", "");
    let drawn = spans.into_iter().zip(lanes.of_span).collect();
    let (drawn, note) = sampled(drawn, MOST_JOBS, "jobs", seed);
    section.text.extend(note);
    section
        .figures
        .push(gantt(history, &drawn, &lanes.names, first, end));
    section
}

struct Span {
    start: f64,
    end: f64,
    budget: usize,
    is_failure: bool,
    owner: usize,
}

struct Lanes {
    names: Vec<String>,
    noun: &'static str,
    /// The lane of every span.
    of_span: Vec<usize>,
}

/// A lane for each trainer; where all results have one owner but overlap, the first lane that is free.
fn lanes(history: &History, spans: &[Span]) -> Lanes {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by(|&a, &b| spans[a].start.total_cmp(&spans[b].start).then(a.cmp(&b)));
    if history.owners.len() == 1 {
        let mut ends: Vec<f64> = Vec::new();
        let mut of_span = vec![0; spans.len()];
        for index in order {
            // Clocks of one machine are read one after the other: a millisecond is no overlap.
            let is_free = |end: &f64| *end <= spans[index].start + 0.002;
            let lane = ends.iter().position(is_free).unwrap_or(ends.len());
            if lane == ends.len() {
                ends.push(0.0);
            }
            ends[lane] = spans[index].end;
            of_span[index] = lane;
        }
        let is_one = ends.len() == 1;
        return Lanes {
            names: if is_one {
                history.owners.clone()
            } else {
                (1..=ends.len()).map(|n| n.to_string()).collect()
            },
            noun: if is_one { "trainer" } else { "row" },
            of_span,
        };
    }
    // In the order in which they began to work.
    let mut lane_of: BTreeMap<usize, usize> = BTreeMap::new();
    for index in order {
        let next = lane_of.len();
        lane_of.entry(spans[index].owner).or_insert(next);
    }
    let mut names = vec![String::new(); lane_of.len()];
    for (owner, lane) in &lane_of {
        names[*lane].clone_from(&history.owners[*owner]);
    }
    Lanes {
        names,
        noun: "trainer",
        of_span: spans.iter().map(|span| lane_of[&span.owner]).collect(),
    }
}

fn gantt(
    history: &History,
    spans: &[(Span, usize)],
    names: &[String],
    first: f64,
    end: f64,
) -> Scene {
    let names: Vec<String> = names
        .iter()
        .take(MOST_TRAINERS)
        .map(|name| shortened(name, 24))
        .collect();
    let widest = names
        .iter()
        .map(|name| text_width(name))
        .fold(0.0, f64::max);
    let row = 20.0;
    let mut budgets: Vec<usize> = spans.iter().map(|(span, _)| span.budget).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let mut scene = Scene::new(WIDE, 0.0, "Jobs by trainer over time");
    let mut entries = budget_legend(history, budgets.iter().rev().take(SERIES).copied());
    if spans.iter().any(|(span, _)| span.is_failure) {
        entries.push((Ink::Bad, "no loss".into()));
    }
    let legend = scene.legend((widest + 16.0, 14.0), WIDE - widest - 30.0, &entries);
    let top = legend + 8.0;
    let bottom = top + row * names.len() as f64;
    scene.height = bottom + 40.0;
    let frame = Frame {
        from: (widest + 16.0, top),
        to: (WIDE - 14.0, bottom),
        x: Scale::linear(0.0, (end - first).max(1e-3)),
        y: Scale::linear(0.0, 1.0),
    };
    frame.draw_x_axis(&mut scene, "seconds since the first job started");
    for (lane, name) in names.iter().enumerate() {
        let y = top + (lane as f64 + 0.5) * row + 4.0;
        scene.words((widest + 8.0, y), name, Ink::Muted, Anchor::End);
    }
    let mut strokes: BTreeMap<(bool, usize), Vec<(Point, Point)>> = BTreeMap::new();
    for (span, lane) in spans.iter().filter(|(_, lane)| *lane < names.len()) {
        let y = top + (*lane as f64 + 0.5) * row;
        let from = frame.x_at(span.start - first);
        let to = frame.x_at(span.end - first);
        // A gap shows where one job ends and the next begins.
        let to = (to - 0.6).max(from + 0.8);
        let key = (
            span.is_failure,
            if span.is_failure { 0 } else { span.budget },
        );
        strokes.entry(key).or_default().push(((from, y), (to, y)));
    }
    for ((is_failure, budget), strokes) in strokes {
        scene.marks.push(Mark::Strokes {
            strokes,
            ink: if is_failure {
                Ink::Bad
            } else {
                budget_ink(history, budget)
            },
            width: 13.0,
            opacity: 0.85,
            is_round: false,
        });
    }
    scene
}
