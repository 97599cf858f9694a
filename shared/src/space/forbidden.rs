//! Forbidden combinations of a space: checked, and left by the shortest way.
//!
//! A clause holds where every hyperparameter it names is active and has one of its values. A configuration in which a
//! clause holds is never proposed: what a method suggests there is repaired ([`repair`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SearchSpace;
use super::clause::{Clause, Term};
use super::diagram::Diagram;
use super::encode::MOST_DRAWS;
use super::values::Values;
use crate::error::Invalid;
use crate::seed::Seed;
use crate::value::{Configuration, Value};

mod repair;

use repair::NoneAllowed;

/// A combination that must not occur, as a person writes it: the values of two or more hyperparameters, or of one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ForbiddenFile(pub BTreeMap<String, Values>);

impl SearchSpace {
    /// Whether a configuration is free of forbidden combinations.
    pub fn allows(&self, configuration: &Configuration) -> bool {
        self.violated(configuration).is_none()
    }

    /// Checks the combinations of a space whose hyperparameters are in place, but for those of `unknown` range.
    pub(super) fn forbid(
        &mut self,
        files: &[ForbiddenFile],
        unknown: &BTreeSet<&str>,
        wrong: &mut Vec<Invalid>,
    ) {
        let is_known = |file: &ForbiddenFile| {
            let mut names = file.0.keys();
            !names.any(|name| unknown.contains(name.as_str()))
        };
        for (index, file) in files.iter().enumerate().filter(|(_, file)| is_known(file)) {
            match self.check_clause(file) {
                Ok(clause) => self.forbidden.push(clause),
                Err(error) => wrong.push(error.within(&format!("forbidden[{index}]"))),
            }
        }
    }

    /// Makes sure that something is allowed, and remembers it.
    pub(super) fn find_allowed(&mut self) -> Result<(), Invalid> {
        self.diagram = Diagram::new(self).map(Arc::new);
        if self.forbidden.is_empty() {
            return Ok(());
        }
        let middle = self.assignment(&self.middle());
        let found = match repair::nearest_allowed(self, &middle) {
            Err(NoneAllowed::GivenUp) => self.draw_allowed().ok_or(NoneAllowed::GivenUp),
            found => found,
        };
        self.allowed = found.map_err(|none| {
            let found = match none {
                NoneAllowed::Nowhere => "none: everything is forbidden",
                NoneAllowed::GivenUp => "too many combinations to find one",
            };
            Invalid::new("forbidden", "a space with an allowed configuration", found)
        })?;
        Ok(())
    }

    /// An allowed assignment, always the same, where the diagram leads to one.
    fn draw_allowed(&self) -> Option<Vec<Value>> {
        let mut rng = Seed::new(0).rng();
        (0..MOST_DRAWS).find_map(|_| {
            let values = self.assignment(&self.sample(&mut rng));
            self.allows_assignment(&values).then_some(values)
        })
    }

    /// The combinations as a person would write them.
    pub(super) fn forbidden_file(&self) -> Vec<ForbiddenFile> {
        let file = |clause: &Clause| {
            let terms = clause.terms.iter();
            let pair = |t: &Term| {
                (
                    self.hyperparameters[t.index].name.clone(),
                    t.written.clone(),
                )
            };
            ForbiddenFile(terms.map(pair).collect())
        };
        self.forbidden.iter().map(file).collect()
    }

    /// What is wrong with a configuration that a person wrote, if a combination in it is forbidden.
    pub(super) fn refuse_forbidden(&self, configuration: &Configuration) -> Result<(), Invalid> {
        let Some((index, clause)) = self.violated(configuration) else {
            return Ok(());
        };
        let names = clause
            .terms
            .iter()
            .map(|t| self.hyperparameters[t.index].name.as_str());
        let pair = |name| {
            configuration
                .get(name)
                .map(|value| format!("{name} = {}", value.quoted()))
        };
        let found: Vec<String> = names.filter_map(pair).collect();
        Err(Invalid::new(
            self.hyperparameters[clause.terms[0].index].name.as_str(),
            format!("no combination that is forbidden (`forbidden[{index}]` of the space)"),
            found.join(", "),
        ))
    }

    /// Whether no clause holds in an assignment.
    pub(super) fn allows_assignment(&self, values: &[Value]) -> bool {
        let is_active = self.activity(values);
        repair::holding(self, values, &is_active).next().is_none()
    }

    /// The nearest allowed configuration, where this one is not.
    pub(super) fn repair(&self, vector: &[f64]) -> Configuration {
        let nearest = repair::nearest_allowed(self, &self.assignment(vector));
        self.configuration(nearest.as_ref().unwrap_or(&self.allowed))
    }

    fn violated(&self, configuration: &Configuration) -> Option<(usize, &Clause)> {
        let holds = |term: &Term| {
            let value = configuration.get(&self.hyperparameters[term.index].name);
            value.is_some_and(|value| term.contains(value))
        };
        self.forbidden
            .iter()
            .enumerate()
            .find(|(_, clause)| clause.terms.iter().all(holds))
    }

    fn check_clause(&self, file: &ForbiddenFile) -> Result<Clause, Invalid> {
        if file.0.is_empty() {
            return Err(Invalid::new("", "at least one hyperparameter", "none"));
        }
        let mut terms = Vec::new();
        for (name, written) in &file.0 {
            let index = self.hyperparameters.iter().position(|h| h.name == *name);
            let index = index.ok_or_else(|| {
                let expected = format!("names among {}", self.names().join(", "));
                Invalid::new(name, expected, format!("`{name}`"))
            })?;
            let kind = &self.hyperparameters[index].kind;
            let set = written.check(name, kind)?;
            terms.push(Term {
                index,
                written: written.clone(),
                kind: kind.clone(),
                set,
            });
        }
        terms.sort_by_key(|term| term.index);
        Ok(Clause { terms })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Kind, SpaceFile};
    use super::*;
    use crate::seed::Seed;

    const SMALL: &str = r#"{"name":"kind","type":"categorical","choices":["a","b","c"]},
        {"name":"depth","type":"integer","lower":1,"upper":4,"active_when":{"hyperparameter":"kind","in":["b","c"]}},
        {"name":"size","type":"ordinal","sequence":[8,16,32],"active_when":{"hyperparameter":"depth","in":[1,2,3]}},
        {"name":"version","type":"constant","value":3},
        {"name":"flag","type":"categorical","choices":[true,false]},
        {"name":"mode","type":"categorical","choices":[1,2],"active_when":{"any":[{"hyperparameter":"size","in":[8]},
            {"all":[{"hyperparameter":"kind","in":["c"]},{"hyperparameter":"flag","in":[true]}]}]}}"#;

    fn space(hyperparameters: &str, forbidden: &str) -> Result<SearchSpace, Invalid> {
        let json =
            format!(r#"{{"hyperparameters":[{hyperparameters}],"forbidden":[{forbidden}]}}"#);
        SearchSpace::new(&serde_json::from_str::<SpaceFile>(&json).unwrap())
    }

    /// Every assignment of the small space.
    fn all(space: &SearchSpace) -> Vec<Vec<Value>> {
        let mut all: Vec<Vec<Value>> = vec![Vec::new()];
        for h in space.hyperparameters() {
            let values = match &h.kind {
                Kind::Integer { lower, upper, .. } => {
                    (*lower..=*upper).map(Value::Integer).collect()
                }
                Kind::Ordinal { sequence: values } | Kind::Categorical { choices: values } => {
                    values.clone()
                }
                Kind::Constant { value } => vec![value.clone()],
                Kind::Float { .. } => panic!("the small space has no floats"),
            };
            let with = |start: &Vec<Value>| -> Vec<Vec<Value>> {
                let one = |v: &Value| start.iter().chain([v]).cloned().collect();
                values.iter().map(one).collect()
            };
            all = all.iter().flat_map(with).collect();
        }
        all
    }

    #[test]
    fn complaints_name_place_expectation_and_finding() {
        let refused = |forbidden: &str| space(SMALL, forbidden).unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                refused("{}"),
                refused(r#"{"kind":"a"},{"kinds":"a","flag":true}"#),
                refused(r#"{"kind":"d"}"#),
                refused(r#"{"kind":["a","d"]}"#),
                refused(r#"{"kind":[]}"#),
                refused(r#"{"depth":5}"#),
                refused(r#"{"depth":{"min":2,"max":1}}"#),
                refused(r#"{"depth":{"min":0.5}}"#),
                refused(r#"{"depth":{}}"#),
                refused(r#"{"size":{"min":8}}"#),
                refused(r#"{"version":4}"#),
                refused(r#"{"flag":true},{"flag":false,"kind":["a","b"]},{"kind":"c"}"#),
                space(SMALL, r#"{"flag":true,"kind":["a","b"],"depth":{"min":2}}"#)
                    .unwrap()
                    .check_configuration(
                        &serde_json::from_str(r#"{"kind":"b","depth":4,"flag":true}"#).unwrap()
                    )
                    .unwrap_err()
                    .to_string(),
            ]
            .join("\n")
        );
        let wrong = serde_json::from_str::<ForbiddenFile>(r#"{"a":{"min":1,"most":2}}"#);
        assert!(
            wrong
                .unwrap_err()
                .to_string()
                .contains("unknown field `most`")
        );
    }

    #[test]
    fn clauses_hold_only_where_all_they_name_is_active() {
        let space = space(
            SMALL,
            r#"{"depth":[1,2],"version":3},{"flag":true,"size":{}}"#,
        );
        assert!(space.is_err(), "an ordinal has no range");
        let space = self::space(
            SMALL,
            r#"{"depth":[1,2],"version":3},{"flag":true,"size":8}"#,
        )
        .unwrap();
        let allows = |json: &str| space.allows(&serde_json::from_str(json).unwrap());
        assert!(allows(r#"{"kind":"a","version":3,"flag":true}"#));
        assert!(!allows(
            r#"{"kind":"b","depth":2,"size":16,"version":3,"flag":false}"#
        ));
        assert!(!allows(
            r#"{"kind":"b","depth":3,"size":8,"version":3,"flag":true,"mode":1}"#
        ));
        assert!(allows(r#"{"kind":"b","depth":4,"version":3,"flag":true}"#));
        let again = SearchSpace::new(&space.to_file()).unwrap();
        assert_eq!(again, space);
    }

    #[test]
    fn numbers_go_to_the_nearest_value_beyond_those_forbidden() {
        let space = space(
            r#"{"name":"x","type":"float","lower":0,"upper":1},{"name":"n","type":"integer","lower":1,"upper":9}"#,
            r#"{"x":{"min":0.2,"max":0.6},"n":{"min":4}},{"x":{"min":0.5,"max":0.7}},{"x":0.2}"#,
        )
        .unwrap();
        let at = |x: f64, n: i64| {
            let (hx, hn) = (
                &space.hyperparameters()[0].kind,
                &space.hyperparameters()[1].kind,
            );
            let vector = [
                hx.encode(&Value::Float(x)).unwrap(),
                hn.encode(&Value::Integer(n)).unwrap(),
            ];
            let found = space.decode(&vector);
            assert!(space.check_configuration(&found).is_ok());
            (found.float("x").unwrap(), found.integer("n").unwrap())
        };
        let equal =
            |(x, n): (f64, i64), (y, m): (f64, i64)| (x - y).abs() < f64::MIN_POSITIVE && n == m;
        assert!(equal(at(0.3, 3), (0.3, 3)));
        assert!(equal(at(0.22, 9), (0.2_f64.next_down(), 9)));
        assert!(equal(at(0.65, 9), (0.7_f64.next_up(), 9)));
        assert!(equal(at(0.55, 2), (0.5_f64.next_down(), 2)));
        // One step of n is an eighth of its range, nearer than either end of x.
        assert!(equal(at(0.4, 4), (0.4, 3)));
        assert!(
            equal(at(0.2, 1), (0.2_f64.next_up(), 1))
                || equal(at(0.2, 1), (0.2_f64.next_down(), 1))
        );
    }

    proptest! {
        #[test]
        fn repairs_are_allowed_nearest_and_the_same_again(seed: u64, num_clauses in 1_usize..12) {
            let mut rng = Seed::new(seed).rng();
            let plain = space(SMALL, "").unwrap();
            // Clauses made of parts of random configurations: some leave nothing.
            let clauses: Vec<ForbiddenFile> = (0..num_clauses)
                .map(|_| {
                    let drawn = plain.decode(&plain.sample(&mut rng));
                    let parts = drawn.iter().filter(|_| rng.random::<f64>() < 0.5);
                    ForbiddenFile(parts.map(|(n, v)| (n.to_owned(), Values::One(v.clone()))).collect())
                })
                .filter(|clause| !clause.0.is_empty())
                .collect();
            let mut file = plain.to_file();
            file.forbidden = clauses;
            let judged = |assignment: &Vec<Value>, space: &SearchSpace| space.allows(&space.configuration(assignment));
            let mut unchecked = plain.clone();
            unchecked.forbidden = file.forbidden.iter().map(|c| plain.check_clause(c).unwrap()).collect();
            let allowed: Vec<Vec<Value>> = all(&plain).into_iter().filter(|a| judged(a, &unchecked)).collect();
            let Ok(space) = SearchSpace::new(&file) else {
                prop_assert!(allowed.is_empty());
                return Ok(());
            };
            prop_assert!(!allowed.is_empty());
            let far = |a: &[Value], b: &[Value]| -> f64 {
                let pairs = space.hyperparameters.iter().zip(a.iter().zip(b));
                pairs.map(|(h, (a, b))| repair::distance(h, a, b)).sum()
            };
            for from in all(&space) {
                let found = repair::nearest_allowed(&space, &from).unwrap();
                prop_assert!(judged(&found, &space));
                let nearest = allowed.iter().map(|a| far(&from, a)).fold(f64::INFINITY, f64::min);
                prop_assert!((far(&from, &found) - nearest).abs() < 1e-12);
            }
            for _ in 0..20 {
                let vector = space.sample(&mut rng);
                let configuration = space.decode(&vector);
                prop_assert_eq!(space.check_configuration(&configuration).unwrap(), configuration.clone());
                prop_assert_eq!(space.decode(&vector), configuration);
            }
        }
    }

    #[test]
    fn two_hundred_dimensions_and_as_many_clauses_are_repaired() {
        let hyperparameters: Vec<String> = (0..200)
            .map(|i| format!(r#"{{"name":"h{i}","type":"integer","lower":0,"upper":9}}"#))
            .collect();
        // Neighbours must not both be above 6.
        let clauses: Vec<String> = (0..199)
            .map(|i| format!(r#"{{"h{i}":{{"min":7}},"h{}":{{"min":7}}}}"#, i + 1))
            .collect();
        let space = space(&hyperparameters.join(","), &clauses.join(",")).unwrap();
        let mut rng = Seed::new(3).rng();
        for _ in 0..3 {
            assert!(space.allows(&space.decode(&space.sample(&mut rng))));
        }
        assert!(space.allows(&space.decode(&[1.0; 200])));
    }
}
