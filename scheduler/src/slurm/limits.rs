//! Whether jobs fit into the time limits that are asked for.

use std::time::Duration;

use shared::Search;
use shared::objective::Objective;
use shared::wording::duration;

/// What a trainer keeps of its SLURM job for the end, with half a minute and more to start and to claim the job.
const NEEDED_BESIDE: Duration = Duration::from_secs(60 + 40);

/// How many rungs can be trained.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// All, as far as is known.
    All,
    /// Not all: a warning.
    Some(String),
    /// None: a complaint.
    None(String),
}

/// Whether jobs of each rung fit into one of the time limits, in seconds, `None` being a limit that is not known.
///
/// A program whose budget is in seconds needs that long in one go, since only it knows whether it could go on later: trainers
/// leave jobs that do not fit to others. All else goes on in the next SLURM job, or takes nobody knows how long.
pub(super) fn check(search: &Search, limits_s: &[Option<u64>]) -> Fit {
    let ladder = &search.ladder;
    let is_known = ladder.unit().is_time() && matches!(search.objective, Objective::Command(_));
    let longest_s = limits_s.iter().copied().collect::<Option<Vec<u64>>>();
    let Some(longest_s) = longest_s.and_then(|limits| limits.into_iter().max()) else {
        return Fit::All;
    };
    let needed_s = |rung: u8| ladder.budget(rung).amount + NEEDED_BESIDE.as_secs_f64();
    let too_long: Vec<u8> = (0..ladder.num_rungs())
        .filter(|&rung| is_known && needed_s(rung) > longest_s as f64)
        .collect();
    let (Some(first), top) = (too_long.first(), ladder.top()) else {
        return Fit::All;
    };
    let limit = duration(longest_s as f64);
    let longer = format!(
        "jobs of a program are trained in one go: the largest budget needs --time={} or more",
        (needed_s(top) / 60.0).ceil()
    );
    if *first == 0 {
        let smallest = ladder.budget(0);
        return Fit::None(format!(
            "no job can be trained in the time limit of {limit}: the smallest budget is {smallest}, and {longer}"
        ));
    }
    let rungs: Vec<String> = too_long
        .iter()
        .map(|&rung| format!("{rung} ({})", ladder.budget(rung)))
        .collect();
    let rungs = match &rungs[..] {
        [rung] => format!("rung {rung}"),
        rungs => format!("rungs {}", rungs.join(", ")),
    };
    Fit::Some(format!(
        "jobs of {rungs} cannot be trained in the time limit of {limit}, and the search will wait for trainers with more \
         time: {longer}"
    ))
}

#[cfg(test)]
mod tests {
    use shared::BudgetUnit;
    use shared::objective::ObjectiveFile;

    use super::*;
    use crate::test_search::search_with;

    fn search(unit: BudgetUnit, command: bool) -> Search {
        search_with(1200, 10_800, 3, |file| {
            file.budget.unit = unit;
            if command {
                file.objective = ObjectiveFile {
                    command: Some(vec!["train".into()]),
                    ..ObjectiveFile::default()
                };
            }
        })
    }

    #[test]
    fn rungs_of_programs_that_are_longer_than_the_time_limit_are_named() {
        let search = search(BudgetUnit::Seconds, true);
        let said = |limits: &[Option<u64>]| match check(&search, limits) {
            Fit::All => "all".to_owned(),
            Fit::Some(message) => format!("some: {message}"),
            Fit::None(message) => format!("none: {message}"),
        };
        assert_eq!(said(&[Some(11_000)]), "all");
        assert_eq!(said(&[None]), "all");
        // Some trainers have the time.
        assert_eq!(said(&[Some(1800), Some(86_400)]), "all");
        assert_eq!(said(&[Some(1800), None]), "all");
        let some = said(&[Some(1800)]);
        assert!(
            some.starts_with("some: jobs of rungs 1 (3600 s), 2 (10800 s) cannot"),
            "{some}"
        );
        assert!(some.ends_with("--time=182 or more"), "{some}");
        let some = said(&[Some(7200), Some(1800)]);
        assert!(
            some.starts_with("some: jobs of rung 2 (10800 s) cannot"),
            "{some}"
        );
        // As long as the budget is too short: a trainer needs a minute for the end.
        let none = said(&[Some(1200)]);
        assert!(
            none.starts_with("none: no job can be trained in the time limit of 20 min"),
            "{none}"
        );
    }

    #[test]
    fn nothing_is_said_of_what_can_go_on_later_or_takes_nobody_knows_how_long() {
        for search in [
            search(BudgetUnit::Seconds, false),
            search(BudgetUnit::Epochs, true),
        ] {
            assert_eq!(check(&search, &[Some(300)]), Fit::All);
        }
    }
}
