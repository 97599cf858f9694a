//! Several searches against each other: the mean of their incumbents' losses and its interval, by group.
//!
//! Searches of one group (the same method with several seeds, say) are repetitions. All are compared at the same places,
//! up to where the shortest of all searches ends. The interval is Student's: mean ± t·s/√n, at 95 %; with one search
//! there is none.

use std::collections::BTreeMap;
use std::path::Path;

use shared::BudgetUnit;

use crate::history::History;
use crate::plot::{Frame, Ink, Mark, Point, Scale, Scene};
use crate::statistics::student_quantile;
use crate::table::{Cell, Table};
use crate::trajectory::{self, At};
use crate::wording::significant;

/// What makes searches repetitions of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupBy {
    /// The search method: bohb, hyperband, random (a log of another program: its folder's name)
    Method,
    /// The search's name
    Name,
    /// Nothing: every search stands for itself
    Dir,
}

/// What searches are compared along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Along {
    /// Number of jobs that have a result
    Jobs,
    /// Budget spent by all jobs together
    Spent,
    /// Seconds since the first job started
    Wall,
}

/// One search as a curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What it is a repetition of.
    pub group: String,
    /// The unit of its budgets.
    pub unit: Option<BudgetUnit>,
    /// Place and loss of the incumbent from there on; ascending in place.
    pub steps: Vec<(f64, f64)>,
}

/// A group's searches at one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The group.
    pub group: String,
    /// Where on the axis.
    pub place: f64,
    /// Searches that have an incumbent there.
    pub n: usize,
    /// Mean loss of their incumbents.
    pub mean: f64,
    /// 95 % interval of the mean; `None` for one search.
    pub interval: Option<(f64, f64)>,
}

/// The curve of a search; its last step is its last result.
pub fn curve(path: &Path, history: &History, by: GroupBy, along: Along, at: At) -> Curve {
    let folder = path.file_name().unwrap_or(path.as_os_str());
    let folder = folder.to_string_lossy().into_owned();
    let group = match (by, &history.search) {
        (GroupBy::Method, Some(search)) => search.method.as_str().to_owned(),
        (GroupBy::Method, None) | (GroupBy::Dir, _) => folder,
        (GroupBy::Name, _) => history.name.clone(),
    };
    let steps = trajectory::steps(history, at);
    let place = |step: &trajectory::Step| match along {
        Along::Jobs => Some(step.jobs as f64),
        Along::Spent => Some(step.spent),
        Along::Wall => step.wall_s,
    };
    let point =
        |step: &trajectory::Step| Some((place(step)?, history.results[step.incumbent].loss()?));
    Curve {
        group,
        unit: history.unit,
        steps: steps.iter().filter_map(point).collect(),
    }
}

/// Summaries by group, then place; `num` places, the last where the shortest search ends.
pub fn summaries(curves: &[Curve], num: u32) -> Vec<Summary> {
    let ends = curves
        .iter()
        .filter_map(|curve| Some(curve.steps.last()?.0));
    let Some(end) = ends.min_by(f64::total_cmp) else {
        return Vec::new();
    };
    let mut groups: BTreeMap<&str, Vec<&Curve>> = BTreeMap::new();
    for curve in curves {
        groups.entry(&curve.group).or_default().push(curve);
    }
    let mut summaries = Vec::new();
    for (group, curves) in groups {
        for number in 1..=num {
            let place = end * f64::from(number) / f64::from(num);
            let losses: Vec<f64> = curves.iter().filter_map(|c| loss_at(c, place)).collect();
            if losses.is_empty() {
                continue;
            }
            let (mean, interval) = mean_interval(&losses);
            summaries.push(Summary {
                group: group.to_owned(),
                place,
                n: losses.len(),
                mean,
                interval,
            });
        }
    }
    summaries
}

fn loss_at(curve: &Curve, place: f64) -> Option<f64> {
    // Places are computed, so the last one may miss the end by rounding.
    let place = place * (1.0 + 1e-12);
    let before = curve.steps.iter().take_while(|step| step.0 <= place);
    before.last().map(|step| step.1)
}

fn mean_interval(losses: &[f64]) -> (f64, Option<(f64, f64)>) {
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n;
    if losses.len() < 2 {
        return (mean, None);
    }
    let variance = losses.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = student_quantile(0.05, n - 1.0) * (variance / n).sqrt();
    (mean, Some((mean - half, mean + half)))
}

/// One row a summary. Columns: `group`, the name of the axis (`jobs`, `spent`, `wall_s`), `n`, `loss` (mean), `low`,
/// `high` (95 % interval of the mean).
pub fn table(summaries: &[Summary], along: Along, is_rounded: bool) -> Table {
    let mut table = Table::new(&["group", axis(along), "n", "loss", "low", "high"]);
    for summary in summaries {
        let number = |number: Option<f64>| {
            if is_rounded {
                Cell::rounded(number, |x| significant(x, 4))
            } else {
                Cell::number(number)
            }
        };
        table.push(vec![
            Cell::text(&summary.group),
            number(Some(summary.place)),
            Cell::Count(summary.n),
            number(Some(summary.mean)),
            number(summary.interval.map(|interval| interval.0)),
            number(summary.interval.map(|interval| interval.1)),
        ]);
    }
    table
}

fn axis(along: Along) -> &'static str {
    match along {
        Along::Jobs => "jobs",
        Along::Spent => "spent",
        Along::Wall => "wall_s",
    }
}

/// The curves as a drawing; `None` without any.
pub fn drawing(summaries: &[Summary], along: Along, unit: Option<BudgetUnit>) -> Option<Scene> {
    let (width, height) = (640.0, 400.0);
    let ends = summaries.iter().flat_map(|summary| {
        let (low, high) = summary.interval.unwrap_or((summary.mean, summary.mean));
        [low, high]
    });
    let y = Scale::fitting(ends)?;
    let end = summaries
        .iter()
        .map(|summary| summary.place)
        .fold(0.0, f64::max);
    let mut groups: BTreeMap<&str, Vec<&Summary>> = BTreeMap::new();
    for summary in summaries {
        groups.entry(&summary.group).or_default().push(summary);
    }
    let mut scene = Scene::new(width, height, "Mean loss of the incumbent by group");
    let entries: Vec<(Ink, String)> = groups
        .iter()
        .enumerate()
        .map(|(index, (group, summaries))| {
            let n = summaries.iter().map(|summary| summary.n).max().unwrap_or(0);
            (Ink::Series(index), format!("{group} (n {n})"))
        })
        .collect();
    let legend = scene.legend((66.0, 16.0), width - 80.0, &entries);
    let frame = Frame {
        from: (66.0, 10.0 + legend),
        to: (width - 16.0, height - 42.0),
        x: Scale::linear(0.0, end),
        y,
    };
    let name = match (along, unit) {
        (Along::Jobs, _) => "jobs finished".to_owned(),
        (Along::Spent, Some(unit)) => format!("spent ({})", unit.symbol()),
        (Along::Spent, None) => "spent (budget)".to_owned(),
        (Along::Wall, _) => "wall time (s)".to_owned(),
    };
    frame.draw_axes(&mut scene, &name, "loss of the incumbent (mean, 95 %)");
    for (index, summaries) in groups.values().enumerate() {
        let ink = Ink::Series(index);
        let band: Vec<&&Summary> = summaries.iter().filter(|s| s.interval.is_some()).collect();
        let edge = |pick: fn((f64, f64)) -> f64| {
            let at = move |s: &&&Summary| Some(frame.at(s.place, pick(s.interval?)));
            band.iter().filter_map(at).collect::<Vec<Point>>()
        };
        let mut points = edge(|interval| interval.1);
        points.extend(edge(|interval| interval.0).into_iter().rev());
        if points.len() > 3 {
            scene.marks.push(Mark::Area {
                points,
                ink,
                opacity: 0.15,
                title: None,
            });
        }
        let line: Vec<Point> = summaries
            .iter()
            .map(|s| frame.at(s.place, s.mean))
            .collect();
        scene.dots(line.iter().copied(), ink, 5.0, 1.0);
        scene.line(line, ink, 1.8);
    }
    Some(scene)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(group: &str, steps: &[(f64, f64)]) -> Curve {
        Curve {
            group: group.into(),
            unit: None,
            steps: steps.to_vec(),
        }
    }

    #[test]
    fn means_and_intervals_are_taken_over_a_groups_searches() {
        let curves = [
            curve("b", &[(1.0, 0.5), (10.0, 0.1)]),
            curve("a", &[(2.0, 0.9), (8.0, 0.3), (20.0, 0.3)]),
            curve("a", &[(4.0, 0.7), (12.0, 0.5)]),
            curve("a", &[(3.0, 0.8), (9.0, 0.4), (11.0, 0.4)]),
        ];
        let summaries = summaries(&curves, 2);
        let rows: Vec<_> = summaries
            .iter()
            .map(|s| (s.group.as_str(), s.place, s.n))
            .collect();
        assert_eq!(
            rows,
            [("a", 5.0, 3), ("a", 10.0, 3), ("b", 5.0, 1), ("b", 10.0, 1)]
        );
        assert!((summaries[0].mean - 0.8).abs() < 1e-12);
        // scipy.stats.t.interval(0.95, 2, 0.8, scipy.stats.sem([0.9, 0.7, 0.8]))
        let (low, high) = summaries[0].interval.unwrap();
        assert!((low - 0.551_586_229).abs() < 1e-8 && (high - 1.048_413_771).abs() < 1e-8);
        assert_eq!((summaries[3].mean, summaries[3].interval), (0.1, None));
    }

    #[test]
    fn searches_without_a_loss_are_no_curves() {
        assert_eq!(summaries(&[curve("a", &[])], 3), []);
        let one = summaries(&[curve("a", &[]), curve("a", &[(1.0, 0.2)])], 1);
        assert_eq!(one[0].n, 1);
        assert!(drawing(&one, Along::Jobs, None).is_some());
        assert!(drawing(&[], Along::Jobs, None).is_none());
    }
}
