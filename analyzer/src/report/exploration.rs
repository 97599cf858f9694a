//! Which parts of the search space were tried: a map of all configurations, and each hyperparameter's range.

use shared::{Hyperparameter, Kind, SearchSpace, Value};

use super::configurations::ends;
use super::{Facts, PANEL_WIDTH, Section, WIDE};
use crate::history::{Evaluation, History};
use crate::plot::{Anchor, Frame, Ink, Point, SHADES, Scale, Scene};
use crate::projection::{Projection, hull};
use crate::wording::{count, fixed, shortened};

/// At most this many configurations are drawn.
const MOST_DOTS: usize = 4000;
/// At most this many hyperparameters.
const MOST_RANGES: usize = 24;
/// Parts of a range of numbers.
const PARTS: usize = 20;
/// Whole numbers of a range that are looked at one by one.
const MOST_LOOKED_AT: u64 = 100_000;
/// The best region is that of so large a share of the configurations, without the outer fifth of them.
const BEST: f64 = 0.1;
/// Groups of configurations, in their order, whose middles are joined.
const STAGES: usize = 6;

/// A configuration on the map.
struct Spot {
    at: Point,
    /// Index of its largest budget.
    budget: usize,
    /// 0 for the best to 1; `None` where it has no loss.
    rank: Option<f64>,
    /// 0 for the first to 1.
    time: f64,
}

pub(super) fn map(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let section = Section::new("map", "Which regions were explored?");
    let Some(space) = &history.space else {
        return section.say("The search space is not known.");
    };
    let values = history.configurations.iter().map(|tried| &tried.values);
    let Some(projection) = Projection::new(space, values) else {
        return section.say("No two different configurations were tried yet.");
    };
    let spots = spots(history, &projection);
    let mut section = section.say(format!(
        "{} on a plane, so that those that are alike are near each other: multidimensional scaling of the distances \
         between them, of whose variance the plane shows {} %. Larger dots were trained with larger budgets. Better is \
         who reached a larger budget, and there has the lower loss; the dashed line is around the region of the best \
         tenth.",
        count(spots.len(), "configuration"),
        fixed(100.0 * projection.share, 0)
    ));
    let (spots, note) = super::sampled(
        spots,
        MOST_DOTS,
        "configurations",
        facts.seed.child("map", ""),
    );
    section.text.extend(note);
    section.figures.extend(by_loss(history, &spots));
    section.figures.extend(by_time(history, &spots));
    section
}

fn spots(history: &History, projection: &Projection) -> Vec<Spot> {
    let num = history.configurations.len();
    let mut largest: Vec<Option<&Evaluation>> = vec![None; num];
    for result in &history.results {
        let known = &mut largest[result.configuration];
        let is_more = |known: &Evaluation| {
            (result.loss().is_some(), result.budget) > (known.loss().is_some(), known.budget)
        };
        if known.is_none_or(is_more) {
            *known = Some(result);
        }
    }
    let mut order: Vec<(usize, f64, usize)> = largest
        .iter()
        .enumerate()
        .filter_map(|(index, result)| {
            Some((result.as_ref()?.budget, result.as_ref()?.loss()?, index))
        })
        .collect();
    order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut ranks = vec![None; num];
    for (rank, (_, _, index)) in order.iter().enumerate() {
        ranks[*index] = Some(rank as f64 / order.len() as f64);
    }
    (0..num)
        .map(|index| Spot {
            at: projection.points[index],
            budget: largest[index].map_or(0, |result| result.budget),
            rank: ranks[index],
            time: index as f64 / num as f64,
        })
        .collect()
}

/// A map without its dots.
fn empty_map(spots: &[Spot], title: &str, legend: &[(Ink, String)]) -> Option<(Scene, Frame)> {
    let (width, height) = (1.5 * PANEL_WIDTH, 1.2 * PANEL_WIDTH);
    let mut scene = Scene::new(width, height, title);
    scene.words((14.0, 16.0), title, Ink::Text, Anchor::Start);
    let top = 26.0 + scene.legend((14.0, 34.0), width - 28.0, legend);
    let mut frame = Frame {
        from: (14.0, top),
        to: (width - 14.0, height - 14.0),
        x: Scale::linear(0.0, 1.0),
        y: Scale::linear(0.0, 1.0),
    };
    // One unit is as long across as up, or distances would not be those of the configurations.
    let range = |of: fn(&Spot) -> f64| {
        let all = spots.iter().map(of);
        (all.clone().reduce(f64::min), all.reduce(f64::max))
    };
    let ((Some(left), Some(right)), (Some(low), Some(high))) =
        (range(|spot| spot.at.0), range(|spot| spot.at.1))
    else {
        return None;
    };
    let pixels = (frame.to.0 - frame.from.0, frame.to.1 - frame.from.1);
    let unit = ((right - left) / pixels.0)
        .max((high - low) / pixels.1)
        .max(1e-9)
        * 1.06;
    let (x, y) = (f64::midpoint(left, right), f64::midpoint(low, high));
    frame.x = Scale::linear(x - unit * pixels.0 / 2.0, x + unit * pixels.0 / 2.0);
    frame.y = Scale::linear(y - unit * pixels.1 / 2.0, y + unit * pixels.1 / 2.0);
    let corners = [
        frame.from,
        (frame.to.0, frame.from.1),
        frame.to,
        (frame.from.0, frame.to.1),
        frame.from,
    ];
    scene.line(corners.to_vec(), Ink::Grid, 1.0);
    Some((scene, frame))
}

/// The diameter of a dot.
fn size(history: &History, budget: usize) -> f64 {
    let last = history.budgets.len().saturating_sub(1).max(1);
    4.0 + 6.0 * budget as f64 / last as f64
}

fn by_loss(history: &History, spots: &[Spot]) -> Option<Scene> {
    let shade = |rank: f64| match rank {
        rank if rank < BEST => 0,
        rank if rank < 1.0 / 3.0 => 1,
        rank if rank < 2.0 / 3.0 => 2,
        _ => SHADES - 1,
    };
    let mut legend: Vec<(Ink, String)> = ["best tenth", "best third", "middle third", "last third"]
        .into_iter()
        .enumerate()
        .map(|(shade, name)| (Ink::Shade(shade), name.to_owned()))
        .collect();
    if spots.iter().any(|spot| spot.rank.is_none()) {
        legend.push((Ink::Bad, "no loss".into()));
    }
    let (mut scene, frame) = empty_map(spots, "Configurations by loss", &legend)?;
    let mut order: Vec<&Spot> = spots.iter().collect();
    // The best at the front.
    let key = |spot: &Spot| spot.rank.unwrap_or(2.0);
    order.sort_by(|a, b| key(b).total_cmp(&key(a)));
    for spot in &order {
        let ink = spot.rank.map_or(Ink::Bad, |rank| Ink::Shade(shade(rank)));
        let at = frame.at(spot.at.0, spot.at.1);
        scene.dots([at], ink, size(history, spot.budget), 0.8);
    }
    let best: Vec<Point> = order
        .iter()
        .filter(|spot| spot.rank.is_some_and(|rank| rank < BEST))
        .map(|spot| spot.at)
        .collect();
    let region: Vec<Point> = hull(&inner(&best))
        .into_iter()
        .map(|(x, y)| frame.at(x, y))
        .collect();
    let region = widened(&region);
    if region.len() > 2 {
        let closed = region.iter().chain(&region[..1]).copied().collect();
        scene.dashed_line(closed, Ink::Text, 1.2);
    }
    if let Some(best) = order.last().filter(|spot| spot.rank.is_some()) {
        let at = frame.at(best.at.0, best.at.1);
        scene.words((at.0, at.1 - 8.0), "best", Ink::Text, Anchor::Middle);
    }
    Some(scene)
}

/// A convex region with room for the dots on its border.
fn widened(region: &[Point]) -> Vec<Point> {
    const ROOM: f64 = 10.0;
    let around = |corner: &Point| {
        let offset = |part: u32| {
            let angle = std::f64::consts::TAU * f64::from(part) / 16.0;
            (corner.0 + ROOM * angle.cos(), corner.1 + ROOM * angle.sin())
        };
        (0..16).map(offset).collect::<Vec<_>>()
    };
    hull(&region.iter().flat_map(around).collect::<Vec<_>>())
}

/// Four fifths of the points, those nearest to their middle.
fn inner(points: &[Point]) -> Vec<Point> {
    let middle = |of: fn(&Point) -> f64| {
        let mut all: Vec<f64> = points.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let (x, y) = (middle(|p| p.0), middle(|p| p.1));
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| {
        (a.0 - x)
            .hypot(a.1 - y)
            .total_cmp(&(b.0 - x).hypot(b.1 - y))
    });
    sorted.truncate((points.len() * 4).div_ceil(5));
    sorted
}

fn by_time(history: &History, spots: &[Spot]) -> Option<Scene> {
    let shade = |time: f64| {
        (0..SHADES)
            .rfind(|s| time * SHADES as f64 >= *s as f64)
            .unwrap_or(0)
    };
    let legend: Vec<(Ink, String)> = ["first quarter", "second", "third", "last"]
        .into_iter()
        .enumerate()
        .map(|(quarter, name)| (Ink::Shade(SHADES - 1 - quarter), name.to_owned()))
        .collect();
    let title = "Configurations by their order";
    let (mut scene, frame) = empty_map(spots, title, &legend)?;
    for spot in spots {
        let at = frame.at(spot.at.0, spot.at.1);
        let ink = Ink::Shade(SHADES - 1 - shade(spot.time));
        scene.dots([at], ink, size(history, spot.budget), 0.7);
    }
    let stage = spots.len().div_ceil(STAGES).max(1);
    let middles: Vec<Point> = spots
        .chunks(stage)
        .map(|spots| {
            let n = spots.len() as f64;
            let sum = spots.iter().fold((0.0, 0.0), |sum, spot| {
                (sum.0 + spot.at.0, sum.1 + spot.at.1)
            });
            frame.at(sum.0 / n, sum.1 / n)
        })
        .collect();
    scene.line(middles.clone(), Ink::Text, 1.5);
    for (number, at) in middles.iter().enumerate() {
        scene.dots([*at], Ink::Text, 5.0, 1.0);
        scene.words(
            (at.0 + 5.0, at.1 - 4.0),
            (number + 1).to_string(),
            Ink::Text,
            Anchor::Start,
        );
    }
    Some(scene)
}

pub(super) fn coverage(facts: &Facts<'_>) -> Section {
    let history = facts.history;
    let section = Section::new("coverage", "How much of each range was tried?");
    let Some(space) = &history.space else {
        return section.say("The search space is not known.");
    };
    if history.configurations.is_empty() || space.num_dimensions() == 0 {
        return section.say("Nothing was tried yet.");
    }
    let ranges = ranges(history, space);
    let least = ranges
        .iter()
        .min_by(|a, b| a.covered().total_cmp(&b.covered()));
    let mut section = section.say(format!(
        "How often each twentieth of a range, or each level, was tried: by all configurations (bars), and by the last \
         third of them (line). The hyperparameter of which least was tried is {}.",
        least.map_or_else(String::new, |range| format!(
            "{} ({} %)",
            range.hyperparameter.name,
            fixed(100.0 * range.covered(), 0)
        ))
    ));
    if ranges.len() > MOST_RANGES {
        section.text.push(format!(
            "The first {MOST_RANGES} of {} hyperparameters are drawn.",
            ranges.len()
        ));
    }
    section.is_wide = true;
    section.figures.push(coverage_drawing(&ranges));
    section
}

/// How often the parts of a hyperparameter's range were tried.
struct Range<'a> {
    hyperparameter: &'a Hyperparameter,
    all: Vec<usize>,
    late: Vec<usize>,
    /// Whether there are values in a part: few whole numbers leave gaps on a logarithmic scale.
    is_possible: Vec<bool>,
}

impl Range<'_> {
    fn covered(&self) -> f64 {
        let possible = self.is_possible.iter().filter(|is| **is).count();
        let tried = self.all.iter().filter(|n| **n > 0).count();
        tried as f64 / possible.max(1) as f64
    }
}

/// For each part of a range, whether there are values in it.
fn parts(kind: &Kind) -> Vec<bool> {
    if let Some(levels) = kind.num_levels() {
        return vec![true; levels];
    }
    let Kind::Integer { lower, upper, .. } = kind else {
        return vec![true; PARTS];
    };
    match upper.abs_diff(*lower) {
        few if few < PARTS as u64 => (0..=few).map(|_| true).collect(),
        more if more < MOST_LOOKED_AT => {
            let mut is_possible = vec![false; PARTS];
            for value in *lower..=*upper {
                if let Some(x) = kind.encode(&Value::Integer(value)) {
                    is_possible[part_of(x, PARTS)] = true;
                }
            }
            is_possible
        }
        _ => vec![true; PARTS],
    }
}

/// The part of a range in which a value lies.
fn part(kind: &Kind, value: &Value, num_parts: usize) -> Option<usize> {
    if let Kind::Integer { lower, upper, .. } = kind
        && upper.abs_diff(*lower) < PARTS as u64
    {
        let part = usize::try_from(value.as_i64()?.checked_sub(*lower)?).ok()?;
        return Some(part).filter(|part| *part < num_parts); // a log may have values beyond the range
    }
    let x = kind.encode(value)?;
    Some(match kind.num_levels() {
        Some(levels) => part_of((x + 0.5) / levels as f64, num_parts),
        None => part_of(x, num_parts),
    })
}

fn part_of(share: f64, num_parts: usize) -> usize {
    (0..num_parts)
        .rfind(|part| share * num_parts as f64 >= *part as f64)
        .unwrap_or(0)
}

fn ranges<'a>(history: &History, space: &'a SearchSpace) -> Vec<Range<'a>> {
    let mut ranges: Vec<Range<'_>> = space
        .dimensions()
        .map(|hyperparameter| {
            let is_possible = parts(&hyperparameter.kind);
            Range {
                hyperparameter,
                all: vec![0; is_possible.len()],
                late: vec![0; is_possible.len()],
                is_possible,
            }
        })
        .collect();
    let num = history.configurations.len();
    for (index, tried) in history.configurations.iter().enumerate() {
        for range in &mut ranges {
            let Hyperparameter { name, kind, .. } = range.hyperparameter;
            let value = tried.values.get(name);
            if let Some(part) = value.and_then(|value| part(kind, value, range.all.len())) {
                range.all[part] += 1;
                range.late[part] += usize::from(index * 3 >= num * 2);
            }
        }
    }
    ranges
}

fn coverage_drawing(ranges: &[Range<'_>]) -> Scene {
    const COLUMNS: usize = 4;
    const HEIGHT: f64 = 110.0;
    let width = WIDE / COLUMNS as f64;
    let ranges = &ranges[..ranges.len().min(MOST_RANGES)];
    let rows = ranges.len().div_ceil(COLUMNS);
    let mut scene = Scene::new(
        WIDE,
        HEIGHT * rows as f64 + 4.0,
        "Coverage of each hyperparameter",
    );
    for (index, range) in ranges.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        let (left, top) = (column as f64 * width + 8.0, row as f64 * HEIGHT + 16.0);
        let (right, bottom) = (left + width - 24.0, top + HEIGHT - 40.0);
        scene.words(
            (left, top),
            shortened(&range.hyperparameter.name, 24),
            Ink::Text,
            Anchor::Start,
        );
        let covered = format!("{} %", fixed(100.0 * range.covered(), 0));
        scene.words((right, top), covered, Ink::Muted, Anchor::End);
        let num_parts = range.all.len() as f64;
        let share = |counts: &[usize], part: usize| {
            let sum: usize = counts.iter().sum();
            counts[part] as f64 / sum.max(1) as f64
        };
        let parts = 0..range.all.len();
        let highest = parts
            .clone()
            .map(|p| share(&range.all, p).max(share(&range.late, p)));
        let highest = highest.fold(1e-9, f64::max);
        let x = |part: f64| left + (right - left) * part / num_parts;
        let y = |share: f64| bottom - (bottom - top - 8.0) * share / highest;
        let mut line = Vec::new();
        for part in parts {
            let (from, to) = (x(part as f64), x(part as f64 + 1.0));
            let bar = y(share(&range.all, part));
            if range.all[part] > 0 {
                scene.rectangle(
                    (from + 0.5, bar),
                    (to - 0.5, bottom),
                    Ink::Muted,
                    0.45,
                    None,
                );
            }
            let late = y(share(&range.late, part));
            line.extend([(from, late), (to, late)]);
        }
        scene.line(line, Ink::Series(0), 1.5);
        scene.line(vec![(left, bottom), (right, bottom)], Ink::Muted, 1.0);
        let (low, high) = ends(&range.hyperparameter.kind);
        scene.words(
            (left, bottom + 13.0),
            shortened(&low, 12),
            Ink::Muted,
            Anchor::Start,
        );
        scene.words(
            (right, bottom + 13.0),
            shortened(&high, 12),
            Ink::Muted,
            Anchor::End,
        );
    }
    scene
}
