//! What the command line poses: problems on their ladders, the earlier one that runs learn from, and what it refuses.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use shared::exit::{Code, Failure};
use shared::search::MethodName;

use crate::bench::curve::{self, POINTS, Tool};
use crate::bench::problem::{Problem, stem};
use crate::bench::{Args, Named};

/// The problems, in the order of functions, table, pools.
pub(super) fn problems(args: &Args) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for name in &args.benchmark {
        problems.push(function(args, name)?);
    }
    let mut spaces = args.space.iter();
    if let Some(table) = &args.table {
        let Some(space) = spaces.next() else {
            bail!(usage("expected --space SPACE.json with --table"));
        };
        problems.push(Problem::table(table, space, args.curve.as_deref())?);
    }
    if !args.space.is_empty() && spaces.len() != 0 && spaces.len() != args.pool.len() {
        bail!(usage(
            "expected one --space for each --pool and --table, or none for pools"
        ));
    }
    for pool in &args.pool {
        let space = spaces.next().cloned();
        let space = space.unwrap_or_else(|| space_beside(pool));
        problems.push(Problem::pool(pool, &space, args.without_replacement)?);
    }
    if problems.is_empty() {
        bail!(usage("expected --benchmark, --table or --pool"));
    }
    for problem in &mut problems {
        set_ladder(args, problem)?;
        problem.scheduling = args.scheduling;
        problem.cost_aware = args.cost_aware;
        problem.hopeless = args.hopeless;
    }
    Ok(problems)
}

/// What the earlier search was on that runs on all of the problems learn from.
pub(super) fn earlier(args: &Args, problems: &[Problem]) -> Result<Option<Problem>> {
    let Some(name) = &args.learn_from else {
        return Ok(None);
    };
    let path = Path::new(name);
    let mut earlier = if path.exists() {
        Problem::pool(path, &space_beside(path), args.without_replacement)?
    } else {
        function(args, name)?
    };
    for problem in problems {
        if let Some(difference) = problem.difference(&earlier)? {
            bail!(usage(format!(
                "`--learn-from {name}` has another space than `{}`: {difference}; expected the same hyperparameters in the \
                 same order, with the same types, ranges, scales and conditions",
                problem.title()
            )));
        }
    }
    set_ladder(args, &mut earlier)?;
    Ok(Some(earlier))
}

/// Refuses what the methods and problems cannot be run with.
pub(super) fn check(args: &Args, problems: &[Problem], methods: &[Named<'_>]) -> Result<()> {
    if args.out.is_some() {
        check_names(problems)?;
    }
    if args.cost_aware {
        check_costs(problems, methods)?;
    }
    Ok(())
}

/// Others' runs on each problem; of none where no folder is given.
pub(super) fn rivals(
    args: &Args,
    problems: &[Problem],
    points: &[f64; POINTS.len()],
) -> Result<Vec<Vec<Tool>>> {
    let Some(folder) = &args.rivals else {
        return Ok(vec![Vec::new(); problems.len()]);
    };
    let of_problem = |(index, problem): (usize, &Problem)| {
        let name = args.rival_names.get(index).unwrap_or(&problem.name);
        let found = if folder.is_dir() {
            curve::read_folder(folder, name, points)?
        } else {
            Vec::new()
        };
        if found.is_empty() {
            let message = format!(
                "`--rivals`: expected a folder with runs on `{name}`, {name}__TOOL__SEED.csv[.gz], found none in `{}`; \
                 --rival-names gives other names",
                folder.display()
            );
            bail!(Failure::new(Code::BadInput, message));
        }
        Ok(found)
    };
    problems.iter().enumerate().map(of_problem).collect()
}

/// Refuses two problems whose curves would be the same files.
fn check_names(problems: &[Problem]) -> Result<(), Failure> {
    for (index, problem) in problems.iter().enumerate() {
        let mut before = problems[..index].iter();
        if let Some(other) = before.find(|other| other.name == problem.name) {
            return Err(usage(format!(
                "`--out`: the curves of `{}` and `{}` would be the same files, `{}__METHOD__SEED.csv`: expected other names; \
                 rename one, or run them one after the other with other folders",
                other.title(),
                problem.title(),
                problem.name
            )));
        }
    }
    Ok(())
}

/// Refuses to count costs where nobody would, or where all are the same.
fn check_costs(problems: &[Problem], methods: &[Named<'_>]) -> Result<(), Failure> {
    if !methods.iter().any(|m| m.method == MethodName::Tandem) {
        let names: Vec<&str> = methods.iter().map(|m| m.name).collect();
        return Err(usage(format!(
            "`--cost-aware` is for method `tandem`: expected it in `--method`, found `{}`; add it, or leave `--cost-aware` \
             out",
            names.join(",")
        )));
    }
    if let Some(problem) = problems.iter().find(|problem| !problem.is_timed()) {
        return Err(usage(format!(
            "`--cost-aware`: expected pools with a column `seconds`, found none in `{}`, whose trainings all cost the same; \
             leave it out, or `--cost-aware`",
            problem.title()
        )));
    }
    Ok(())
}

fn function(args: &Args, name: &str) -> Result<Problem> {
    let problem = Problem::function(name, args.bias, args.noise);
    problem.map_err(|error| usage(format!("{error:#}")).into())
}

/// Poses a problem on the rungs that are asked for.
fn set_ladder(args: &Args, problem: &mut Problem) -> Result<(), Failure> {
    problem.first_rungs.clone_from(&args.first_rungs);
    problem.stopping = args.stopping;
    problem.set_budgets(args.min_budget, args.max_budget, args.eta)
}

fn space_beside(pool: &Path) -> PathBuf {
    pool.with_file_name(format!("{}.space.json", stem(pool)))
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, message)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn the_earlier_search_has_the_same_ladder() {
        let line = "sampler bench --benchmark mf-hartmann3-good --method tandem --learn-from mf-hartmann3-bad \
                    --min-budget 5 --max-budget 80 --eta 2 --first-rungs 1";
        let parsed = crate::Args::parse_from(line.split_whitespace());
        let crate::Command::Bench(args) = parsed.command else {
            panic!("another command");
        };
        let posed = problems(&args).unwrap();
        let before = earlier(&args, &posed).unwrap().unwrap();
        assert_eq!(before.budget(), posed[0].budget());
        assert_eq!(before.first_rungs, posed[0].first_rungs);
        let budget = before.budget();
        assert!((budget.min - 5.0).abs() < 1e-12 && (budget.eta - 2.0).abs() < 1e-12);
    }
}
