//! A space in which some hyperparameters have one value only, for searches in two steps.

use super::clause::{Clause, Term};
use super::condition::Remaining;
use super::{Kind, SearchSpace};
use crate::error::Invalid;
use crate::value::Configuration;

impl SearchSpace {
    /// The space with these values fixed: what is fixed is a constant, what can then never be active is gone, and
    /// forbidden combinations are about the rest.
    ///
    /// # Errors
    /// For a name or value that is none of the space, a hyperparameter that the other values make inactive for good,
    /// and values that forbid everything.
    pub fn fix(&self, values: &Configuration) -> Result<Self, Invalid> {
        if let Some((name, value)) = values.iter().find(|(name, _)| self.find(name).is_none()) {
            let expected = format!("names among {}", self.names().join(", "));
            return Err(Invalid::new(name, expected, value.quoted()));
        }
        let mut fixed = Self {
            hyperparameters: Vec::new(),
            dimensions: Vec::new(),
            forbidden: Vec::new(),
            allowed: Vec::new(),
            diagram: None,
        };
        // Where each hyperparameter is now, if it is.
        let mut places: Vec<Option<usize>> = Vec::new();
        for hyperparameter in &self.hyperparameters {
            let name = hyperparameter.name.as_str();
            let value = values.get(name);
            let condition = hyperparameter.condition.as_ref();
            let condition = condition.map_or(Remaining::Always, |condition| {
                condition.remaining(&places, &fixed.hyperparameters)
            });
            let condition = match condition {
                Remaining::Always => None,
                Remaining::Condition(condition) => Some(condition),
                Remaining::Never => {
                    if let Some(value) = value {
                        let expected = "nothing, since the other values make it inactive";
                        return Err(Invalid::new(name, expected, value.quoted()));
                    }
                    places.push(None);
                    continue;
                }
            };
            let mut hyperparameter = hyperparameter.clone();
            hyperparameter.condition = condition;
            if let Some(value) = value {
                let typed = hyperparameter.kind.typed(value);
                let expected = || hyperparameter.kind.describe();
                let value = typed.ok_or_else(|| Invalid::new(name, expected(), value.quoted()))?;
                hyperparameter.kind = Kind::Constant { value };
                hyperparameter.user_prior = None;
            }
            if !matches!(hyperparameter.kind, Kind::Constant { .. }) {
                fixed.dimensions.push(fixed.hyperparameters.len());
            }
            places.push(Some(fixed.hyperparameters.len()));
            fixed.hyperparameters.push(hyperparameter);
        }
        for (number, clause) in self.forbidden.iter().enumerate() {
            match fixed.remaining(clause, &places) {
                None => {}
                Some(rest) if rest.is_empty() => {
                    let found = format!("`forbidden[{number}]` of the space, which they make true");
                    return Err(Invalid::new("", "values that are not forbidden", found));
                }
                Some(rest) => fixed.forbidden.push(rest),
            }
        }
        fixed.find_allowed()?;
        Ok(fixed)
    }

    /// The clause without what always holds; `None` if it never holds.
    fn remaining(&self, clause: &Clause, places: &[Option<usize>]) -> Option<Clause> {
        let mut rest = Clause::default();
        for term in clause.terms() {
            let place = places[term.index()]?;
            let hyperparameter = &self.hyperparameters[place];
            match &hyperparameter.kind {
                Kind::Constant { value } => {
                    if !term.contains(value) {
                        return None;
                    }
                    if hyperparameter.condition.is_some() {
                        rest.push(Term::of_constant(place, value));
                    }
                }
                _ => rest.push(term.at(place)),
            }
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SpaceFile;
    use super::*;
    use crate::Value;
    use crate::seed::Seed;

    const SPACE: &str = r#"{"hyperparameters":[
        {"name":"optimizer","type":"categorical","choices":["sgd","adam"],"prior":"sgd"},
        {"name":"rate","type":"float","lower":0,"upper":1},
        {"name":"momentum","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"optimizer","in":["sgd"]}},
        {"name":"nesterov","type":"categorical","choices":[true,false],"active_when":{"hyperparameter":"momentum","in":[0.5,1]}},
        {"name":"decay","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"optimizer","in":["adam"]}},
        {"name":"blocks","type":"integer","lower":1,"upper":4}],
        "forbidden":[{"optimizer":"adam","rate":{"min":0.5}},{"momentum":{"min":0.9},"blocks":[3,4]},{"nesterov":true,"rate":{"max":0.1}}]}"#;

    fn space() -> SearchSpace {
        SearchSpace::new(&serde_json::from_str::<SpaceFile>(SPACE).unwrap()).unwrap()
    }

    fn fix(json: &str) -> Result<SearchSpace, Invalid> {
        space().fix(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_is_left_is_what_the_whole_space_has_with_these_values() {
        let whole = space();
        for (json, num_dimensions) in [
            ("{}", 6),
            (r#"{"optimizer":"adam"}"#, 3),
            (r#"{"optimizer":"sgd"}"#, 4),
            (r#"{"blocks":4,"rate":0.05}"#, 4),
            (r#"{"momentum":0.5}"#, 5),
            (r#"{"momentum":0.3,"rate":0.7}"#, 3),
            (r#"{"optimizer":"sgd","momentum":1.0,"blocks":2}"#, 2),
        ] {
            let values: Configuration = serde_json::from_str(json).unwrap();
            let fixed = whole.fix(&values).unwrap();
            assert_eq!(fixed.num_dimensions(), num_dimensions, "{json}");
            assert_eq!(SearchSpace::new(&fixed.to_file()).unwrap(), fixed, "{json}");
            let mut rng = Seed::new(2).rng();
            for _ in 0..200 {
                let drawn = fixed.decode(&fixed.sample(&mut rng));
                assert_eq!(whole.check_configuration(&drawn).as_ref(), Ok(&drawn));
                let is_kept = |(name, value): (&str, &Value)| {
                    drawn.get(name).is_none_or(|drawn| drawn == value)
                };
                assert!(values.iter().all(is_kept));
                // And the other way round: what the whole space has with these values is in here.
                let other = whole.decode(&whole.sample(&mut rng));
                let has_them = values
                    .iter()
                    .all(|(name, value)| other.get(name) == Some(value));
                if has_them {
                    assert_eq!(fixed.check_configuration(&other).as_ref(), Ok(&other));
                }
            }
        }
    }

    #[test]
    fn complaints_name_place_expectation_and_finding() {
        let refused = |json: &str| fix(json).unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                refused(r#"{"optimiser":"sgd"}"#),
                refused(r#"{"rate":2}"#),
                refused(r#"{"optimizer":"adam","momentum":0.5}"#),
                refused(r#"{"momentum":0.4,"nesterov":true}"#),
                refused(r#"{"optimizer":"adam","rate":0.5}"#),
            ]
            .join("\n")
        );
        let start = space();
        let fixed = start
            .fix(&serde_json::from_str(r#"{"rate":0.2}"#).unwrap())
            .unwrap();
        let other =
            serde_json::from_str(r#"{"rate":0.3,"optimizer":"adam","decay":0.1,"blocks":1}"#);
        let error = fixed.check_configuration(&other.unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "at `rate`: expected 0.2, found 0.3");
    }
}
