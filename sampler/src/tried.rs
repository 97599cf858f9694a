//! Which configurations have been asked for, so that none is tried twice while another one is left.

use std::collections::BTreeSet;

use rand_chacha::ChaCha12Rng;
use shared::{Configuration, SearchSpace};

/// Draws that are compared with what has been tried, before it is said that nothing else was found.
const MOST_DRAWS: usize = 1000;

/// The configurations that have been asked for.
#[derive(Debug, Default)]
pub struct Tried {
    /// As JSON, in which a value has one form.
    texts: BTreeSet<String>,
}

impl Tried {
    /// One more.
    pub fn add(&mut self, values: &Configuration) {
        self.texts.insert(text(values));
    }

    /// Whether it is one of them.
    pub fn has(&self, values: &Configuration) -> bool {
        self.texts.contains(&text(values))
    }

    /// A configuration that has not been asked for, each equally likely; `None` where there is none.
    pub fn other(&self, space: &SearchSpace, rng: &mut ChaCha12Rng) -> Option<Configuration> {
        use rand::RngExt as _;
        // As long as more than half are untried, a draw is soon one of those; after that they are few enough to be listed.
        let few = 2 * self.texts.len() as u64;
        if let Some(mut all) = space.configurations(few) {
            all.retain(|values| !self.has(values));
            return (!all.is_empty()).then(|| all.swap_remove(rng.random_range(0..all.len())));
        }
        let mut draws = (0..MOST_DRAWS).map(|_| space.decode(&space.sample_evenly(rng)));
        draws.find(|values| !self.has(values))
    }
}

fn text(values: &Configuration) -> String {
    serde_json::to_string(values).expect("values of a space are finite")
}

#[cfg(test)]
mod tests {
    use shared::Seed;

    use super::*;

    fn space(json: &str) -> SearchSpace {
        SearchSpace::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    /// Asks for untried configurations until there is none, 10,000 at most.
    fn exhaust(space: &SearchSpace, seed: u64) -> Vec<Configuration> {
        let mut tried = Tried::default();
        let mut rng = Seed::new(seed).rng();
        let mut all = Vec::new();
        while all.len() < 10_000
            && let Some(values) = tried.other(space, &mut rng)
        {
            assert!(!tried.has(&values), "{values:?}");
            assert_eq!(space.check_configuration(&values).as_ref(), Ok(&values));
            tried.add(&values);
            all.push(values);
        }
        all
    }

    #[test]
    fn every_configuration_comes_once_conditions_and_forbidden_ones_considered() {
        let nine = space(
            r#"{"hyperparameters":[{"name":"a","type":"categorical","choices":[1,2,3]},
                {"name":"b","type":"categorical","choices":["x","y","z"]}]}"#,
        );
        // 2 + 3 with a = 2, of which (2, 8) is forbidden where c is 1: 2 · (2 + 3) - 1.
        let conditional = space(
            r#"{"hyperparameters":[{"name":"a","type":"integer","lower":0,"upper":2},
                {"name":"b","type":"ordinal","sequence":[2,4,8],"active_when":{"hyperparameter":"a","in":[2]}},
                {"name":"c","type":"integer","lower":1,"upper":2,"log":true}],
                "forbidden":[{"b":8,"c":1}]}"#,
        );
        let wide = space(
            r#"{"hyperparameters":[{"name":"n","type":"integer","lower":1,"upper":1000,"log":true},
                {"name":"m","type":"integer","lower":1,"upper":2}]}"#,
        );
        for (space, count) in [(nine, 9), (conditional, 9), (wide, 2000)] {
            assert_eq!(space.num_configurations(), Some(count));
            for seed in 0..3 {
                assert_eq!(exhaust(&space, seed).len() as u64, count);
            }
        }
    }

    #[test]
    fn floats_are_never_exhausted_and_come_when_the_rest_is() {
        let space = space(
            r#"{"hyperparameters":[{"name":"k","type":"categorical","choices":["a","b","c"]},
                {"name":"x","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"k","in":["c"]}}]}"#,
        );
        assert_eq!(space.num_configurations(), None);
        let mut tried = Tried::default();
        let mut rng = Seed::new(1).rng();
        for k in ["a", "b"] {
            let json = format!(r#"{{"k":"{k}"}}"#);
            tried.add(&serde_json::from_str(&json).unwrap());
        }
        for _ in 0..100 {
            let other = tried.other(&space, &mut rng).unwrap();
            assert!(other.float("x").is_some());
            tried.add(&other);
        }
    }
}
