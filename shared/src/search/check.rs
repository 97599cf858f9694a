//! From what a person has written to a [`Search`], or to everything that is wrong with it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::default_first_rungs;
use super::{
    LEAVES_OUT_RUNGS, Limit, MethodName, Promotion, REVISION, Scheduling, Search, SearchFile,
};
use crate::budget::{BudgetUnit, Ladder};
use crate::constraint;
use crate::error::{Complaints, Invalid};
use crate::format;
use crate::objective::Objective;
use crate::pareto;
use crate::seed::Seed;
use crate::space::SearchSpace;
use crate::value::Configuration;

/// The most repetitions: rungs are counted in a byte.
const MOST_REPETITIONS: u32 = 100;

impl Search {
    /// Checks a search whose space is in place; everything that is wrong.
    pub fn check(file: &SearchFile) -> Result<Self, Complaints> {
        let mut wrong: Vec<Invalid> = Vec::new();
        let revision = noted(&mut wrong, check_revision(file.revision));
        let space = file.checked_space(&mut wrong);
        let ladder = noted(&mut wrong, file.ladder(revision));
        let objective = Objective::new(&file.objective).map_err(|e| e.within("objective"));
        let objective = noted(&mut wrong, objective);
        let working_directory = noted(&mut wrong, working_directory(file));
        noted(&mut wrong, file.bohb.check().map_err(|e| e.within("bohb")));
        let trainers = file.trainers.check().map_err(|e| e.within("trainers"));
        noted(&mut wrong, trainers);
        noted(&mut wrong, file.check_limit());
        wrong.extend(file.check_learn_from());
        wrong.extend(file.check_constraints(objective.as_ref()));
        wrong.extend(file.check_objectives(objective.as_ref()));
        wrong.extend(file.check_repetitions());
        wrong.extend(file.check_stopping(ladder.as_ref()));
        wrong.extend(file.check_cost_aware());
        let first_rungs = ladder.and_then(|ladder| {
            let first_rungs = first_rungs(file, revision?, ladder.top());
            noted(&mut wrong, first_rungs)
        });
        let start_with: Vec<Configuration> = file
            .start_with
            .iter()
            .enumerate()
            .filter_map(|(index, start)| {
                let checked = start.within(space.as_ref()?);
                let checked = checked.map_err(|e| e.within(&format!("start_with[{index}]")));
                noted(&mut wrong, checked)
            })
            .collect();
        if let Some(complaints) = Complaints::new(wrong) {
            return Err(complaints);
        }
        let (Some(revision), Some(space), Some(ladder)) = (revision, space, ladder) else {
            unreachable!("what is missing was complained about");
        };
        let (Some(objective), Some(first_rungs)) = (objective, first_rungs) else {
            unreachable!("what is missing was complained about");
        };
        let is_exact = revision >= 2 && !file.is_faithful();
        Ok(Self {
            name: file.name.clone(),
            revision,
            start_with,
            learn_from: file.learn_from.clone(),
            space: if is_exact {
                space
            } else {
                space.without_exact_draws()
            },
            objective,
            working_directory: working_directory.flatten(),
            // What is wrong with it was complained about.
            ladder: ladder.with_repetitions(u8::try_from(file.repetitions).unwrap_or(1)),
            limit: file.limit,
            objectives: file.objectives.clone(),
            constraints: file.constraints.clone(),
            method: file.method,
            bohb: file.bohb,
            is_cost_aware: file.cost_aware,
            scheduling: file.scheduling,
            bracket_sizes: file.bracket_sizes,
            first_rungs,
            names_first_rungs: file.first_rungs.is_some() || file.is_stopping(),
            promotion: file.promotion,
            seed: Seed::new(file.seed),
            trainers: file.trainers,
            digest: format::digest(&format::to_bytes_of(file, [1, 0])),
        })
    }
}

impl SearchFile {
    /// The rungs, as far as the search uses them; of an unknown revision those of the first.
    fn ladder(&self, revision: Option<u32>) -> Result<Ladder, Invalid> {
        let revision = revision.unwrap_or(1);
        let wants_whole = revision >= 2 && !self.is_faithful();
        let ladder = Ladder::new(self.budget, wants_whole).map_err(|e| e.within("budget"))?;
        let is_open = self.first_rungs.is_none() && !self.is_stopping();
        if self.method == MethodName::Tandem && is_open && revision >= LEAVES_OUT_RUNGS {
            return Ok(ladder.with_every_second_rung());
        }
        Ok(ladder)
    }

    /// The space with what is fixed, if nothing is wrong with it.
    fn checked_space(&self, wrong: &mut Vec<Invalid>) -> Option<SearchSpace> {
        let Some(file) = &self.space else {
            let expected = "a search space (or `space_file`)";
            wrong.push(Invalid::new("space", expected, "nothing"));
            return None;
        };
        if self.space_file.is_some() {
            let expected = "either `space` or `space_file`";
            wrong.push(Invalid::new("space_file", expected, "both"));
        }
        match SearchSpace::check(file) {
            Err(complaints) => {
                wrong.extend(complaints.within("space"));
                None
            }
            Ok(space) if self.fix.is_empty() => Some(space),
            Ok(space) => noted(wrong, space.fix(&self.fix).map_err(|e| e.within("fix"))),
        }
    }

    fn check_limit(&self) -> Result<(), Invalid> {
        match (self.limit, self.scheduling) {
            (Limit::Brackets(0) | Limit::Configurations(0), _) => {
                Err(Invalid::new("limit", "at least 1", 0))
            }
            (Limit::Configurations(n), Scheduling::Synchronous) => {
                let expected = "`brackets`, because `scheduling` is synchronous";
                let found = format!("configurations: {n}");
                Err(Invalid::new("limit", expected, found))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with its limits of measures.
    fn check_constraints(&self, objective: Option<&Objective>) -> Vec<Invalid> {
        let mut wrong = constraint::check_all(&self.constraints, objective);
        if !self.constraints.is_empty() && self.is_faithful() {
            let expected =
                "nothing, because HpBandSter, which `bohb.faithful` reproduces, has none";
            wrong.push(Invalid::new("constraints", expected, "a list"));
        }
        wrong
    }

    fn check_repetitions(&self) -> Vec<Invalid> {
        let mut wrong = Vec::new();
        if !(1..=MOST_REPETITIONS).contains(&self.repetitions) {
            let expected = format!("1 to {MOST_REPETITIONS}");
            wrong.push(Invalid::new("repetitions", expected, self.repetitions));
        }
        let others = [
            (
                "HpBandSter, which `bohb.faithful` reproduces, has none",
                self.is_faithful(),
            ),
            (
                "with several `objectives` there is no one mean to compare",
                !self.objectives.is_empty(),
            ),
        ];
        if self.repetitions > 1 {
            wrong.extend(refused("repetitions", "1", self.repetitions, &others));
        }
        wrong
    }

    /// What does not go with stopping.
    fn check_stopping(&self, ladder: Option<&Ladder>) -> Vec<Invalid> {
        if !self.is_stopping() {
            return Vec::new();
        }
        let method = self.method.as_str();
        let one_budget = format!("method `{method}` trains on the largest budget only");
        let others = [
            (one_budget.as_str(), self.method.has_one_budget()),
            (
                "HpBandSter, which `bohb.faithful` reproduces, has no such thing",
                self.is_faithful(),
            ),
            (
                "with several `objectives` there is no one loss to compare",
                !self.objectives.is_empty(),
            ),
            (
                "from `budget.min` to `budget.max` there is one rung, and none below it to be stopped at",
                ladder.is_some_and(|ladder| ladder.num_rungs() == 1)
                    && !self.method.has_one_budget(),
            ),
        ];
        let expected = "\"scratch\" or \"continue\"";
        let mut wrong = refused("promotion", expected, "\"stopping\"", &others);
        if self.first_rungs.is_some() {
            let expected = "nothing, because with `\"promotion\": \"stopping\"` every training is towards the largest budget";
            wrong.push(Invalid::new("first_rungs", expected, "a list"));
        }
        wrong
    }

    /// What does not go with counting costs.
    fn check_cost_aware(&self) -> Vec<Invalid> {
        if !self.cost_aware {
            return Vec::new();
        }
        let other_method = format!("method `{}` does not count costs", self.method.as_str());
        let others = [
            (other_method.as_str(), self.method != MethodName::Tandem),
            (
                "trainings whose budget is a time all take as long",
                matches!(
                    self.budget.unit,
                    BudgetUnit::Seconds | BudgetUnit::CpuSeconds
                ),
            ),
        ];
        refused("cost_aware", "false", true, &others)
    }

    /// Whether trainings are stopped in place of promotions.
    fn is_stopping(&self) -> bool {
        self.promotion == Promotion::Stopping
    }

    /// What is wrong with its objectives.
    fn check_objectives(&self, objective: Option<&Objective>) -> Vec<Invalid> {
        let Some((first, others)) = self.objectives.split_first() else {
            return Vec::new();
        };
        let mut wrong = Vec::new();
        if first != "loss" {
            let found = format!("\"{first}\"");
            wrong.push(Invalid::new("objectives[0]", "\"loss\"", found));
        }
        let most = pareto::MOST;
        if !(2..=most).contains(&self.objectives.len()) {
            let expected = format!("`loss` and one to {} measures", most - 1);
            let found = format!("{} in all", self.objectives.len());
            wrong.push(Invalid::new("objectives", expected, found));
        }
        for (index, measure) in (1..).zip(others) {
            let at = format!("objectives[{index}]");
            if self.objectives[..index].contains(measure) {
                let found = format!("\"{measure}\" again");
                wrong.push(Invalid::new(at, "another measure", found));
            } else if let Err(e) = constraint::check_measure(measure, objective) {
                wrong.push(e.within(&at));
            }
        }
        if self.is_faithful() {
            let expected = "nothing, because HpBandSter, which `bohb.faithful` reproduces, has one";
            wrong.push(Invalid::new("objectives", expected, "a list"));
        }
        if !self.learn_from.is_empty() {
            let expected =
                "nothing, because what other searches have found is known by its loss alone";
            wrong.push(Invalid::new(
                "learn_from",
                expected,
                "a list beside `objectives`",
            ));
        }
        wrong
    }

    /// What is wrong with what it learns from.
    fn check_learn_from(&self) -> Vec<Invalid> {
        let entries = self.learn_from.iter().enumerate();
        let mut wrong: Vec<Invalid> = entries
            .filter_map(|(index, entry)| {
                let wrong = entry.check().err()?;
                Some(wrong.within(&format!("learn_from[{index}]")))
            })
            .collect();
        if !self.learn_from.is_empty() && self.method != MethodName::Tandem {
            let expected = "nothing, because only method `tandem` learns from other searches";
            let found = format!("method `{}`", self.method.as_str());
            wrong.push(Invalid::new("learn_from", expected, found));
        }
        wrong
    }

    /// Whether it is to do what `HpBandSter` does, faults included.
    fn is_faithful(&self) -> bool {
        self.method == MethodName::Bohb && self.bohb.faithful
    }
}

/// A complaint for each reason that holds: what is expected in place of what was found, because of it.
fn refused(
    at: &str,
    expected: &str,
    found: impl Display + Copy,
    reasons: &[(&str, bool)],
) -> Vec<Invalid> {
    let holding = reasons.iter().filter(|(_, is_so)| *is_so);
    holding
        .map(|(why, _)| Invalid::new(at, format!("{expected}, because {why}"), found))
        .collect()
}

/// The value, or `None` and a complaint more.
fn noted<T>(wrong: &mut Vec<Invalid>, result: Result<T, Invalid>) -> Option<T> {
    result.map_err(|invalid| wrong.push(invalid)).ok()
}

fn check_revision(revision: Option<u32>) -> Result<u32, Invalid> {
    let revision = revision.unwrap_or(1);
    if (1..=REVISION).contains(&revision) {
        return Ok(revision);
    }
    let expected = format!("1 to {REVISION}, or a newer program");
    Err(Invalid::new("revision", expected, revision))
}

fn working_directory(file: &SearchFile) -> Result<Option<PathBuf>, Invalid> {
    match file.working_directory.as_deref().map(Path::new) {
        Some(folder) if !folder.is_absolute() => {
            let expected = "an absolute path, as `scheduler init` writes it";
            Err(Invalid::new(
                "working_directory",
                expected,
                folder.display(),
            ))
        }
        folder => Ok(folder.map(Path::to_path_buf)),
    }
}

fn first_rungs(file: &SearchFile, revision: u32, top: u8) -> Result<Vec<u8>, Invalid> {
    if file.is_stopping() {
        return Ok(vec![top]);
    }
    let Some(first_rungs) = &file.first_rungs else {
        return Ok(default_first_rungs(file.method, revision, top));
    };
    let method = file.method.as_str();
    if file.method.has_one_budget() {
        let expected =
            format!("nothing, because method `{method}` trains on the largest budget only");
        return Err(Invalid::new("first_rungs", expected, "a list"));
    }
    if first_rungs.is_empty() {
        return Err(Invalid::new("first_rungs", "at least one rung", "none"));
    }
    match first_rungs.iter().position(|rung| *rung > top) {
        None => Ok(first_rungs.clone()),
        Some(index) => Err(Invalid::new(
            format!("first_rungs[{index}]"),
            format!("a rung from 0 to {top}"),
            first_rungs[index],
        )),
    }
}
