//! Configuration ↔ vector: the only numeric encoding of the project, the one of ConfigSpace 0.7 that HpBandSter uses.
//!
//! Floats lie in `[0, 1]` (the logarithm, where log). Integers are embedded as floats on
//! `[lower - 0.49999, upper + 0.49999]` (the logarithm of those bounds, where log) and rounded when decoded. Ordinal
//! and categorical dimensions are the index of the level: 0, 1, …. An inactive dimension is NaN.

use rand::RngExt as _;

use super::{Kind, SearchSpace};
use crate::value::{Configuration, Value};

/// Half a step less a little, so that rounding never leaves the range.
const MARGIN: f64 = 0.49999;
/// Draws that are thrown away as forbidden before one is made by construction, or repaired.
pub(super) const MOST_DRAWS: usize = 100;
/// Allowed draws of which the one nearest to a forbidden suggestion is taken in its place.
const NUM_NEAR: usize = 64;

impl SearchSpace {
    /// The vector of a configuration of this space.
    ///
    /// # Shapes
    /// `[d]`, in the order of [`dimensions`](Self::dimensions).
    pub fn encode(&self, configuration: &Configuration) -> Vec<f64> {
        self.dimensions()
            .map(|h| {
                configuration
                    .get(&h.name)
                    .and_then(|v| h.kind.encode(v))
                    .unwrap_or(f64::NAN)
            })
            .collect()
    }

    /// The configuration nearest to a vector that is not forbidden; coordinates of dimensions that turn out inactive are
    /// ignored.
    ///
    /// # Shapes
    /// `[d]`; coordinates outside their range (and NaN) are moved to the nearest point inside (the lower end).
    ///
    /// # Panics
    /// If the vector has another length.
    pub fn decode(&self, vector: &[f64]) -> Configuration {
        let configuration = self.configuration(&self.assignment(vector));
        if self.allows(&configuration) {
            configuration
        } else {
            self.repair(vector)
        }
    }

    /// The middle of every range on its scale, and of levels the one in the middle.
    ///
    /// # Shapes
    /// `[d]`, in the order of [`dimensions`](Self::dimensions).
    pub fn middle(&self) -> Vec<f64> {
        let middle = |kind: &Kind| kind.num_levels().map_or(0.5, |levels| (levels / 2) as f64);
        self.dimensions().map(|h| middle(&h.kind)).collect()
    }

    /// The value that a vector gives every hyperparameter, active or not.
    pub(super) fn assignment(&self, vector: &[f64]) -> Vec<Value> {
        assert_eq!(
            vector.len(),
            self.num_dimensions(),
            "one coordinate for each dimension"
        );
        let mut coordinates = vector.iter();
        let value = |kind: &Kind| match kind {
            Kind::Constant { value } => value.clone(),
            kind => kind.decode(*coordinates.next().expect("counted above")),
        };
        let kinds = self.hyperparameters().iter().map(|h| &h.kind);
        kinds.map(value).collect()
    }

    /// Which hyperparameters of an assignment are active.
    pub(super) fn activity(&self, values: &[Value]) -> Vec<bool> {
        let mut is_active: Vec<bool> = Vec::with_capacity(values.len());
        for hyperparameter in self.hyperparameters() {
            let condition = hyperparameter.condition.as_ref();
            let value = |index: usize| is_active[index].then_some(&values[index]);
            let is_met = condition.is_none_or(|condition| condition.is_met(&value));
            is_active.push(is_met);
        }
        is_active
    }

    /// The values that a vector gives all hyperparameters, active or not, allowed or not.
    ///
    /// # Panics
    /// If the vector has another length.
    pub fn values_of(&self, vector: &[f64]) -> Configuration {
        let names = self.hyperparameters().iter().map(|h| h.name.clone());
        Configuration(names.zip(self.assignment(vector)).collect())
    }

    /// The active ones among the values of all hyperparameters; `None` where one that is active has none.
    pub fn active_among(&self, values: &Configuration) -> Option<Configuration> {
        let mut active = Configuration::default();
        for hyperparameter in self.hyperparameters() {
            if self.is_active(hyperparameter, &active) {
                let name = hyperparameter.name.as_str();
                active.set(name, values.get(name)?.clone());
            }
        }
        Some(active)
    }

    /// The active ones of an assignment.
    pub(super) fn configuration(&self, values: &[Value]) -> Configuration {
        let mut configuration = Configuration::default();
        let pairs = self.hyperparameters().iter().zip(values);
        for ((hyperparameter, value), is_active) in pairs.zip(self.activity(values)) {
            if is_active {
                configuration.set(hyperparameter.name.as_str(), value.clone());
            }
        }
        configuration
    }

    /// Whether the configuration of a vector needs no repair.
    ///
    /// # Panics
    /// If the vector has another length.
    pub fn allows_vector(&self, vector: &[f64]) -> bool {
        self.forbidden.is_empty() || self.allows_assignment(&self.assignment(vector))
    }

    /// A uniform draw from the prior: uniform in the encoding, each level equally likely, forbidden combinations drawn
    /// again, however many that takes.
    ///
    /// Where counting what is allowed takes too long, the last of [`MOST_DRAWS`] is returned as it is, and
    /// [`decode`](Self::decode) repairs it; so it is for searches of the first revision.
    ///
    /// # Shapes
    /// `[d]`; also the dimensions that will be inactive are drawn, so that every draw uses the same amount of chance
    /// where nothing is forbidden.
    pub fn sample(&self, rng: &mut impl rand::Rng) -> Vec<f64> {
        let mut vector = self.draw(rng);
        if self.forbidden.is_empty() {
            return vector;
        }
        for _ in 1..MOST_DRAWS {
            if self.allows_vector(&vector) {
                return vector;
            }
            vector = self.draw(rng);
        }
        let Some(diagram) = self.diagram.as_deref().filter(|d| d.mass() > 0.0) else {
            return vector;
        };
        // By rounding, a draw may be at the very end of a forbidden range.
        for _ in 0..MOST_DRAWS {
            diagram.draw(self, &mut vector, false, rng);
            if self.allows_vector(&vector) {
                break;
            }
        }
        vector
    }

    /// The first of [`MOST_DRAWS`] suggestions that is allowed, else the nearest of [`NUM_NEAR`] allowed draws to the
    /// last one: a repair that does not pile up. (For searches of the first revision the last one as it is.)
    pub fn first_allowed<R: rand::Rng>(
        &self,
        rng: &mut R,
        mut suggest: impl FnMut(&mut R) -> Vec<f64>,
    ) -> Vec<f64> {
        let mut vector = suggest(rng);
        for _ in 1..MOST_DRAWS {
            if self.allows_vector(&vector) {
                return vector;
            }
            vector = suggest(rng);
        }
        if self.diagram.is_none() || self.allows_vector(&vector) {
            return vector;
        }
        let draws = (0..NUM_NEAR).map(|_| self.sample(rng));
        let nearest = draws.min_by(|a, b| {
            let far = |drawn: &Vec<f64>| self.distance(&vector, drawn);
            far(a).total_cmp(&far(b))
        });
        nearest.unwrap_or(vector)
    }

    /// How far two vectors are apart, in ranges: categories 1 where they differ.
    fn distance(&self, a: &[f64], b: &[f64]) -> f64 {
        let dimensions = self.dimensions().zip(a.iter().zip(b));
        dimensions
            .map(|(h, (a, b))| {
                let difference = (a - b).abs();
                match &h.kind {
                    Kind::Ordinal { sequence } => difference / (sequence.len() - 1).max(1) as f64,
                    Kind::Categorical { .. } | Kind::Constant { .. } => f64::min(difference, 1.0),
                    Kind::Float { .. } | Kind::Integer { .. } => difference,
                }
            })
            .sum()
    }

    /// The share of draws from the whole range that is allowed, and whether it is exact or estimated.
    pub fn allowed_share(&self) -> (f64, bool) {
        const DRAWS: u32 = 10_000;
        if let Some(diagram) = &self.diagram {
            return (diagram.mass(), true);
        }
        let mut rng = crate::seed::Seed::new(0).rng();
        let drawn = (0..DRAWS).filter(|_| self.allows_vector(&self.draw(&mut rng)));
        (drawn.count() as f64 / f64::from(DRAWS), false)
    }

    /// How many configurations there are; `None` where a float makes them infinitely many, or there are too many to be
    /// counted.
    pub fn num_configurations(&self) -> Option<u64> {
        const MOST: f64 = 9_007_199_254_740_992.0; // 2^53, up to which counts are exact
        let count = self.diagram.as_ref()?.count();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number that was checked"
        )]
        (count < MOST).then_some(count as u64)
    }

    /// All configurations, of a space that has so many at most.
    pub fn configurations(&self, most: u64) -> Option<Vec<Configuration>> {
        let number = self.num_configurations()?;
        let diagram = self.diagram.as_ref()?;
        (number <= most).then(|| diagram.all(self))
    }

    /// A draw in which every configuration is equally likely, where they are finitely many; where floats vary in some of
    /// them, one of those.
    ///
    /// # Shapes
    /// `[d]`
    pub fn sample_evenly(&self, rng: &mut impl rand::Rng) -> Vec<f64> {
        let mut vector = self.sample(rng);
        if let Some(diagram) = &self.diagram {
            diagram.draw(self, &mut vector, true, rng);
        }
        vector
    }

    pub(super) fn draw(&self, rng: &mut impl rand::Rng) -> Vec<f64> {
        self.dimensions()
            .map(|h| match h.kind.num_levels() {
                Some(levels) => rng.random_range(0..levels) as f64,
                None => rng.random::<f64>(),
            })
            .collect()
    }
}

impl Kind {
    /// The coordinate of a value; `None` if it is no value of this kind.
    pub fn encode(&self, value: &Value) -> Option<f64> {
        match self {
            Self::Ordinal { sequence: levels } | Self::Categorical { choices: levels } => levels
                .iter()
                .position(|level| level.same(value))
                .map(|index| index as f64),
            Self::Constant { .. } => None,
            Self::Float { .. } | Self::Integer { .. } => {
                Some(self.coordinate(value.as_f64()?).clamp(0.0, 1.0))
            }
        }
    }

    /// The coordinate of a number, below 0 or above 1 where it is outside the range.
    pub(super) fn coordinate(&self, x: f64) -> f64 {
        let (lower, upper) = self.bounds();
        let scale = |x: f64| match self {
            Self::Float { log: true, .. } | Self::Integer { log: true, .. } => libm::log(x),
            _ => x,
        };
        let (lower, upper, x) = (scale(lower), scale(upper), scale(x));
        if (upper - lower).is_finite() {
            (x - lower) / (upper - lower)
        } else {
            // A range that is wider than the largest number: in halves it is not.
            (0.5 * x - 0.5 * lower) / (0.5 * upper - 0.5 * lower)
        }
    }

    /// A level by its number; a constant has one.
    ///
    /// # Panics
    /// For numbers, and where there is no such level.
    pub(super) fn level(&self, number: usize) -> Value {
        match self {
            Self::Ordinal { sequence: levels } | Self::Categorical { choices: levels } => {
                levels[number].clone()
            }
            Self::Constant { value } => value.clone(),
            Self::Float { .. } | Self::Integer { .. } => panic!("a number has no levels"),
        }
    }

    /// The value at a coordinate.
    ///
    /// # Panics
    /// For a constant, which has no coordinate.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "clamped to the range, which is within ±2^52"
    )]
    #[expect(clippy::cast_sign_loss, reason = "clamped to be at least 0")]
    pub fn decode(&self, coordinate: f64) -> Value {
        match self {
            Self::Float { lower, upper, .. } => {
                Value::Float(self.unscale(coordinate).clamp(*lower, *upper))
            }
            Self::Integer { lower, upper, .. } => {
                let x = self
                    .unscale(coordinate)
                    .round()
                    .clamp(*lower as f64, *upper as f64);
                Value::Integer(x as i64)
            }
            Self::Ordinal { sequence: levels } | Self::Categorical { choices: levels } => {
                let index = coordinate.round().clamp(0.0, (levels.len() - 1) as f64);
                levels[index as usize].clone()
            }
            Self::Constant { .. } => panic!("a constant has no coordinate"),
        }
    }

    /// The interval that the coordinate interval `[0, 1]` stands for.
    fn bounds(&self) -> (f64, f64) {
        match self {
            Self::Float { lower, upper, .. } => (*lower, *upper),
            Self::Integer { lower, upper, .. } => (*lower as f64 - MARGIN, *upper as f64 + MARGIN),
            Self::Ordinal { .. } | Self::Categorical { .. } | Self::Constant { .. } => (0.0, 0.0),
        }
    }

    fn unscale(&self, coordinate: f64) -> f64 {
        let (lower, upper) = self.bounds();
        let t = if coordinate.is_nan() {
            0.0
        } else {
            coordinate.clamp(0.0, 1.0)
        };
        match self {
            Self::Float { log: true, .. } | Self::Integer { log: true, .. } => {
                libm::exp(libm::log(lower) + t * (libm::log(upper) - libm::log(lower)))
            }
            _ if (upper - lower).is_finite() => lower + t * (upper - lower),
            _ => (1.0 - t) * lower + t * upper,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SpaceFile;
    use super::*;
    use crate::seed::Seed;

    fn space() -> SearchSpace {
        let file: SpaceFile = serde_json::from_str(
            r#"{"hyperparameters":[
                {"name":"rate","type":"float","lower":1e-3,"upper":1,"log":true},
                {"name":"blocks","type":"integer","lower":1,"upper":16,"log":true},
                {"name":"branches","type":"integer","lower":1,"upper":5},
                {"name":"one","type":"integer","lower":7,"upper":7},
                {"name":"kind","type":"categorical","choices":["a","b","c"]},
                {"name":"fixed","type":"constant","value":"x"},
                {"name":"size","type":"ordinal","sequence":[8,16,32],"active_when":{"hyperparameter":"kind","in":["b"]}},
                {"name":"death","type":"float","lower":-1,"upper":1}]}"#,
        )
        .unwrap();
        SearchSpace::new(&file).unwrap()
    }

    #[test]
    fn a_space_comes_back_from_its_file() {
        assert_eq!(SearchSpace::new(&space().to_file()).unwrap(), space());
    }

    #[test]
    fn coordinates_are_configspaces() {
        // ConfigSpace 0.7.1: UniformIntegerHyperparameter('b', 1, 16, log=True)._inverse_transform(4), and 1..5 -> 2.
        let space = space();
        let vector = space.encode(
            &space
                .check_configuration(
                    &serde_json::from_str(
                        r#"{"rate":0.1,"blocks":4,"branches":2,"one":7,"kind":"c","death":0}"#,
                    )
                    .unwrap(),
                )
                .unwrap(),
        );
        let blocks = (4.0_f64 / 0.50001).ln() / (16.49999_f64 / 0.50001).ln();
        let expected = [
            2.0 / 3.0,
            blocks,
            1.49999 / 4.99998,
            0.5,
            2.0,
            f64::NAN,
            0.5,
        ];
        for (found, expected) in vector.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-12 || (found.is_nan() && expected.is_nan()),
                "{vector:?}"
            );
        }
    }

    proptest! {
            #[test]
            fn every_point_of_the_cube_is_a_valid_configuration_that_round_trips(
                seed: u64, outside in -2.0..3.0_f64
            ) {
                let space = space();
                let mut vector = space.sample(&mut Seed::new(seed).rng());
                let configuration = space.decode(&vector);
                prop_assert_eq!(&space.check_configuration(&configuration).unwrap(), &configuration);
                let again = space.decode(&space.encode(&configuration));
                for (name, value) in configuration.iter() {
                    let other = again.get(name).unwrap();
                    if let Value::Float(x) = value {
     prop_assert!((x - other.as_f64().unwrap()).abs() < 1e-12);
    } else {
     prop_assert_eq!(value, other);
    }
                }
                vector[0] = outside;
                vector[4] = f64::NAN;
                let configuration = space.decode(&vector);
                prop_assert!(space.check_configuration(&configuration).is_ok());
            }
        }

    #[test]
    fn integers_on_a_log_scale_are_not_starved_at_the_ends() {
        let space = space();
        let mut counts = [0u32; 17];
        let mut rng = Seed::new(1).rng();
        for _ in 0..20_000 {
            let configuration = space.decode(&space.sample(&mut rng));
            counts[usize::try_from(configuration.integer("blocks").unwrap()).unwrap()] += 1;
        }
        // Share of 1: log(1.5 / 0.50001) / log(16.49999 / 0.50001) = 0.314.
        let share = f64::from(counts[1]) / 20_000.0;
        assert!((share - 0.3142).abs() < 0.015, "{share}");
        assert!(counts[16] > 200);
    }
}
