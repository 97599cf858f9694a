//! Configurations in two dimensions.
//!
//! Classical multidimensional scaling of the distances between encoded configurations. These are Euclidean: a number
//! counts by its place in its range, an ordinal by its level's, a category by whether it is the same, a hyperparameter
//! that may be inactive by whether it is, too. Then the scaling is the projection on the two principal axes (Gower 1966),
//! which needs no table of distances and no sample.

use shared::{Configuration, Kind, SearchSpace};

/// Steps of the power iteration; what two axes of nearly equal length have not settled by then does not matter.
const STEPS: usize = 300;

/// Where configurations lie on the two principal axes.
pub(crate) struct Projection {
    /// `[n]`
    pub(crate) points: Vec<(f64, f64)>,
    /// Share of all variance along the two axes, 0 to 1.
    pub(crate) share: f64,
}

impl Projection {
    /// Projects configurations of a space; `None` where nothing varies.
    pub(crate) fn new<'a>(
        space: &SearchSpace,
        configurations: impl Iterator<Item = &'a Configuration>,
    ) -> Option<Self> {
        let mut rows: Vec<Vec<f64>> = configurations
            .map(|configuration| features(space, configuration))
            .collect();
        let num_features = rows.first()?.len();
        let n = rows.len() as f64;
        for feature in 0..num_features {
            let mean = rows.iter().map(|row| row[feature]).sum::<f64>() / n;
            for row in &mut rows {
                row[feature] -= mean;
            }
        }
        let mut covariance = vec![vec![0.0; num_features]; num_features];
        for row in &rows {
            for (line, a) in covariance.iter_mut().zip(row) {
                for (cell, b) in line.iter_mut().zip(row) {
                    *cell += a * b / n;
                }
            }
        }
        let total: f64 = (0..num_features).map(|f| covariance[f][f]).sum();
        if total <= 1e-12 {
            return None;
        }
        let (first, first_length) = principal(&covariance);
        for (line, a) in covariance.iter_mut().zip(&first) {
            for (cell, b) in line.iter_mut().zip(&first) {
                *cell -= first_length * a * b;
            }
        }
        let (second, second_length) = principal(&covariance);
        let along =
            |row: &[f64], axis: &[f64]| -> f64 { row.iter().zip(axis).map(|(a, b)| a * b).sum() };
        Some(Self {
            points: rows
                .iter()
                .map(|row| (along(row, &first), along(row, &second)))
                .collect(),
            share: ((first_length + second_length) / total).clamp(0.0, 1.0),
        })
    }
}

/// The direction of largest variance, of length 1 with its largest part positive, and that variance.
fn principal(covariance: &[Vec<f64>]) -> (Vec<f64>, f64) {
    let times = |vector: &[f64]| -> Vec<f64> {
        let line = |line: &Vec<f64>| line.iter().zip(vector).map(|(a, b)| a * b).sum();
        covariance.iter().map(line).collect()
    };
    let length = |vector: &[f64]| vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    // No direction that a feature could be orthogonal to by its form.
    let mut axis: Vec<f64> = (0..covariance.len())
        .map(|i| 1.0 + ((i * i + 1) as f64).sin() / 2.0)
        .collect();
    let mut variance = 0.0;
    for _ in 0..STEPS {
        let next = times(&axis);
        variance = length(&next) / length(&axis).max(f64::MIN_POSITIVE);
        let scale = length(&next);
        if scale < 1e-150 {
            return (vec![0.0; axis.len()], 0.0); // no variance is left
        }
        axis = next.into_iter().map(|x| x / scale).collect();
    }
    let largest = axis
        .iter()
        .copied()
        .max_by(|a, b| a.abs().total_cmp(&b.abs()));
    if largest.is_some_and(|x| x < 0.0) {
        for x in &mut axis {
            *x = -*x;
        }
    }
    (axis, variance)
}

/// Coordinates whose Euclidean distance is that of configurations.
fn features(space: &SearchSpace, configuration: &Configuration) -> Vec<f64> {
    let encoded = space.encode(configuration);
    let mut features = Vec::new();
    for (hyperparameter, x) in space.dimensions().zip(encoded) {
        if hyperparameter.condition.is_some() {
            features.push(if x.is_nan() { 0.0 } else { 1.0 });
        }
        match &hyperparameter.kind {
            Kind::Categorical { choices } => {
                // Two different choices are at distance 1.
                let is = |level: usize| (x - level as f64).abs() < 0.5;
                let choice = |level| if is(level) { 0.5_f64.sqrt() } else { 0.0 };
                features.extend((0..choices.len()).map(choice));
            }
            Kind::Ordinal { sequence } => {
                let last = sequence.len().saturating_sub(1).max(1) as f64;
                features.push(if x.is_nan() { 0.5 } else { x / last });
            }
            Kind::Float { .. } | Kind::Integer { .. } | Kind::Constant { .. } => {
                features.push(if x.is_nan() { 0.5 } else { x });
            }
        }
    }
    features
}

/// The corners of the smallest convex region that holds all points, in their order around it (Andrew's monotone chain).
pub(crate) fn hull(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let turns_left = |a: (f64, f64), b: (f64, f64), c: (f64, f64)| {
        (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0) > 0.0
    };
    let half = |points: &mut dyn Iterator<Item = (f64, f64)>| {
        let mut chain: Vec<(f64, f64)> = Vec::new();
        for point in points {
            while let [.., a, b] = chain.as_slice()
                && !turns_left(*a, *b, point)
            {
                chain.pop();
            }
            chain.push(point);
        }
        chain.pop(); // the other half begins with it
        chain
    };
    let mut hull = half(&mut sorted.iter().copied());
    hull.extend(half(&mut sorted.iter().rev().copied()));
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> SearchSpace {
        let json = r#"{"hyperparameters": [
            {"name": "x", "type": "float", "lower": 0, "upper": 10},
            {"name": "y", "type": "float", "lower": 0, "upper": 1},
            {"name": "kind", "type": "categorical", "choices": ["a", "b", "c"]},
            {"name": "z", "type": "integer", "lower": 0, "upper": 4,
             "active_when": {"hyperparameter": "kind", "in": ["b"]}}]}"#;
        SearchSpace::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f64>()
            .sqrt()
    }

    #[test]
    fn distances_count_each_hyperparameter_by_its_range() {
        let space = space();
        let of = |json: &str| features(&space, &serde_json::from_str(json).unwrap());
        let a = of(r#"{"x": 0.0, "y": 0.5, "kind": "a"}"#);
        assert!((distance(&a, &of(r#"{"x": 10.0, "y": 0.5, "kind": "a"}"#)) - 1.0).abs() < 1e-9);
        assert!((distance(&a, &of(r#"{"x": 0.0, "y": 0.5, "kind": "c"}"#)) - 1.0).abs() < 1e-9);
        // Another kind, and one more hyperparameter that is active.
        let other = distance(&a, &of(r#"{"x": 0.0, "y": 0.5, "kind": "b", "z": 2}"#));
        assert!((other - 2_f64.sqrt()).abs() < 1e-9, "{other}");
    }

    #[test]
    fn what_lies_in_a_plane_keeps_its_distances() {
        let space = space();
        let configurations: Vec<Configuration> = (0..30)
            .map(|i| {
                let (x, y) = (f64::from(i * 7 % 30) / 3.0, f64::from(i * 11 % 30) / 60.0);
                serde_json::from_value(serde_json::json!({"x": x, "y": y, "kind": "a"})).unwrap()
            })
            .collect();
        let projection = Projection::new(&space, configurations.iter()).unwrap();
        assert!(
            (projection.share - 1.0).abs() < 1e-9,
            "{}",
            projection.share
        );
        let rows: Vec<Vec<f64>> = configurations.iter().map(|c| features(&space, c)).collect();
        for (row, at) in rows.iter().zip(&projection.points) {
            for (other, there) in rows.iter().zip(&projection.points) {
                let drawn = (at.0 - there.0).hypot(at.1 - there.1);
                assert!((drawn - distance(row, other)).abs() < 1e-6);
            }
        }
        assert!(Projection::new(&space, [configurations[0].clone(); 1].iter()).is_none());
    }

    #[test]
    fn a_hull_has_the_outer_points_alone() {
        let points = [
            (0.0, 0.0),
            (2.0, 0.0),
            (1.0, 1.0),
            (2.0, 2.0),
            (0.0, 2.0),
            (1.0, 0.0),
        ];
        assert_eq!(
            hull(&points),
            [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]
        );
    }
}
