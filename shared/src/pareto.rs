//! Several objectives: which configurations are beaten by none, and in which order the others follow.
//!
//! A point dominates another one that is worse in some objective and better in none. The front is what nothing dominates;
//! the second front is what nothing dominates when the first is taken away, and so on. Within a front those come first that
//! are far from their neighbours, so that what is promoted covers the whole of it; then the smaller loss, then the lower id.
//!
//! All objectives are minimised. Every function is deterministic and does not depend on the order of what it is given.
//!
//! # Source
//! Non-dominated sorting and crowding distance: Deb et al. 2002 (NSGA-II). Hypervolume by slices: While et al. 2006.

use std::cmp::Ordering;

use crate::score::{Ranked, Score};

/// The most objectives that a search may have: with more, nearly nothing dominates anything.
pub const MOST: usize = 4;

/// The values of several objectives, of which the first is the loss; all finite.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    values: [f64; MOST],
    number: u8,
}

impl Point {
    /// A point of two to [`MOST`] finite values; `None` for others.
    pub fn new(of: &[f64]) -> Option<Self> {
        let is_right = (2..=MOST).contains(&of.len()) && of.iter().all(|x| x.is_finite());
        is_right.then(|| {
            let mut values = [0.0; MOST];
            for (to, from) in values.iter_mut().zip(of) {
                *to = from + 0.0; // -0.0 is 0.0
            }
            Self {
                values,
                number: u8::try_from(of.len()).unwrap_or_default(), // at most MOST
            }
        })
    }

    /// The values, as the search names its objectives.
    pub fn values(&self) -> &[f64] {
        &self.values[..usize::from(self.number)]
    }

    /// By the first objective, then the next.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let (a, b) = (self.values(), other.values());
        let pairs = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
        pairs
            .fold(Ordering::Equal, Ordering::then)
            .then(a.len().cmp(&b.len()))
    }
}

impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other).is_eq()
    }
}

/// Whether `a` is worse than `b` in nothing and better in something.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    let mut is_better = false;
    for (a, b) in a.iter().zip(b) {
        if a > b {
            return false;
        }
        is_better |= a < b;
    }
    is_better
}

/// The front of each point, counted from 0.
pub fn fronts(points: &[&[f64]]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    // What dominates a point comes before it in this order.
    order.sort_by(|a, b| lexicographic(points[*a], points[*b]));
    let mut front_of = vec![0; points.len()];
    let mut members: Vec<Vec<usize>> = Vec::new();
    for index in order {
        let is_free = |front: &Vec<usize>| {
            let mut rivals = front.iter().rev();
            !rivals.any(|rival| dominates(points[*rival], points[index]))
        };
        // A front that has nothing to say against it: those below have neither.
        let front = members.partition_point(|front| !is_free(front));
        if front == members.len() {
            members.push(Vec::new());
        }
        members[front].push(index);
        front_of[index] = front;
    }
    front_of
}

fn lexicographic(a: &[f64], b: &[f64]) -> Ordering {
    let pairs = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
    pairs.fold(Ordering::Equal, Ordering::then)
}

/// The distance of each point of a front from its neighbours: the sum over the objectives of the share of the front's
/// range between them; infinite at the ends.
fn crowding(front: &[&[f64]]) -> Vec<f64> {
    let mut distances = vec![0.0; front.len()];
    let number = front.first().map_or(0, |point| point.len());
    for objective in 0..number {
        let mut order: Vec<usize> = (0..front.len()).collect();
        let value = |index: usize| front[index][objective];
        order.sort_by(|a, b| {
            value(*a)
                .total_cmp(&value(*b))
                .then_with(|| lexicographic(front[*a], front[*b]))
        });
        let (first, last) = (order[0], order[order.len() - 1]);
        // In halves, so that the range of the largest numbers is finite.
        let range = 0.5 * value(last) - 0.5 * value(first);
        distances[first] = f64::INFINITY;
        distances[last] = f64::INFINITY;
        for place in 1..order.len().saturating_sub(1) {
            if range > 0.0 {
                let gap = 0.5 * value(order[place + 1]) - 0.5 * value(order[place - 1]);
                distances[order[place]] += gap / range;
            }
        }
    }
    distances
}

/// Results with values of several objectives, best first; others as their order is, behind these.
pub fn order(results: &[Ranked]) -> Vec<Ranked> {
    let mut sorted = results.to_vec();
    sorted.sort_unstable();
    let (of_points, others): (Vec<Ranked>, Vec<Ranked>) = sorted
        .into_iter()
        .partition(|ranked| matches!(ranked.score, Score::Point(_)));
    let points: Vec<Point> = of_points
        .iter()
        .filter_map(|ranked| ranked.score.point())
        .collect();
    let values: Vec<&[f64]> = points.iter().map(Point::values).collect();
    let front_of = fronts(&values);
    let mut ordered = Vec::with_capacity(results.len());
    for front in 0..front_of.iter().max().map_or(0, |last| last + 1) {
        let members: Vec<usize> = (0..values.len())
            .filter(|i| front_of[*i] == front)
            .collect();
        let of_front: Vec<&[f64]> = members.iter().map(|i| values[*i]).collect();
        let distances = crowding(&of_front);
        let mut places: Vec<usize> = (0..members.len()).collect();
        // A stable sort of what is ordered by loss and id.
        places.sort_by(|a, b| distances[*b].total_cmp(&distances[*a]));
        ordered.extend(places.into_iter().map(|place| of_points[members[place]]));
    }
    ordered.extend(others);
    ordered
}

/// The volume that points dominate, up to a reference point; what is not better than that in all objectives adds nothing.
pub fn hypervolume(points: &[&[f64]], reference: &[f64]) -> f64 {
    let counts = |point: &&&[f64]| point.iter().zip(reference).all(|(x, r)| x < r);
    let points: Vec<&[f64]> = points.iter().filter(counts).copied().collect();
    volume(points, reference)
}

fn volume(mut points: Vec<&[f64]>, reference: &[f64]) -> f64 {
    let last = reference.len() - 1;
    points.sort_by(|a, b| a[last].total_cmp(&b[last]));
    if last == 0 {
        return points.first().map_or(0.0, |point| reference[0] - point[0]);
    }
    let mut sum = 0.0;
    for (place, point) in points.iter().enumerate() {
        let next = points
            .get(place + 1)
            .map_or(reference[last], |next| next[last]);
        let height = next - point[last];
        if height > 0.0 {
            let slice = points[..=place]
                .iter()
                .map(|point| &point[..last])
                .collect();
            sum += height * volume(slice, &reference[..last]);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::ConfigurationId;

    fn ranked(points: &[[f64; 2]]) -> Vec<Ranked> {
        let of = |(number, point): (u32, &[f64; 2])| Ranked {
            score: Score::Point(Point::new(point).unwrap()),
            job: ConfigurationId(number).job(0),
        };
        (0..).zip(points).map(of).collect()
    }

    fn ids(results: &[Ranked]) -> Vec<u32> {
        results.iter().map(|r| r.job.configuration.0).collect()
    }

    #[test]
    fn fronts_come_one_after_the_other_and_their_ends_first() {
        let results = ranked(&[
            [0.5, 0.5],
            [0.1, 0.9],
            [0.95, 0.05],
            [0.15, 0.85],
            [0.6, 0.6],
            [0.75, 0.25],
        ]);
        // The ends by loss, then those between them, the loneliest first, then what is dominated.
        assert_eq!(ids(&order(&results)), [1, 2, 0, 5, 3, 4]);
        let failed = Ranked {
            score: Score::Failed,
            job: ConfigurationId(9).job(0),
        };
        let with = [&[failed], &results[..]].concat();
        assert_eq!(ids(&order(&with)).last(), Some(&9));
    }

    #[test]
    fn volumes_are_those_of_boxes() {
        let of = |points: &[&[f64]], reference: &[f64]| hypervolume(points, reference);
        assert!((of(&[&[0.0, 0.0]], &[2.0, 3.0]) - 6.0).abs() < 1e-12);
        // A staircase: 1×3 + 1×1, and what is outside or dominated adds nothing.
        let stairs: [&[f64]; 4] = [&[0.0, 2.0], &[1.0, 0.0], &[5.0, -1.0], &[1.5, 0.5]];
        assert!((of(&stairs, &[2.0, 3.0]) - 4.0).abs() < 1e-12);
        // Three boxes of 1×1×2 in the corners of a cube of 2³ share 1×1×1: by inclusion and exclusion 3·2 - 3·1 + 1.
        let cube: [&[f64]; 3] = [&[1.0, 1.0, 0.0], &[1.0, 0.0, 1.0], &[0.0, 1.0, 1.0]];
        assert!((of(&cube, &[2.0, 2.0, 2.0]) - 4.0).abs() < 1e-12);
        assert!(of(&[], &[1.0, 1.0]).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn the_order_of_results_changes_nothing_and_nothing_comes_before_what_dominates_it(
            points in prop::collection::vec(prop::array::uniform2(0u8..6), 1..30), seed: u64,
        ) {
            let points: Vec<[f64; 2]> = points.iter().map(|p| p.map(f64::from)).collect();
            let results = ranked(&points);
            let ordered = order(&results);
            let mut turned = results.clone();
            turned.rotate_left(usize::try_from(seed % 7).unwrap() % results.len());
            prop_assert_eq!(&order(&turned), &ordered);
            let of = |r: &Ranked| points[r.job.configuration.0 as usize];
            for (place, later) in ordered.iter().enumerate() {
                for earlier in &ordered[..place] {
                    prop_assert!(!dominates(&of(later), &of(earlier)));
                }
            }
            let values: Vec<&[f64]> = points.iter().map(|p| &p[..]).collect();
            let front_of = fronts(&values);
            for (a, first) in values.iter().zip(&front_of) {
                let dominated = values.iter().any(|b| dominates(b, a));
                prop_assert_eq!(dominated, *first > 0);
            }
        }
    }
}
