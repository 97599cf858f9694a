//! `scheduler extend`: a search goes on beyond its limit, or its largest budget.
//!
//! Each extension is a record of its own, so that several may be made at the same time, and the search file stays as it is.
//! A scheduler sees the records, also while it runs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use shared::cli::{DIRECTORY, print};
use shared::error::{Error, Invalid};
use shared::exit::{Code, Failure};
use shared::format::Record as _;
use shared::hyperband::Table;
use shared::record::Extension;
use shared::search::{Limit, SearchFile};
use shared::wording::count;
use shared::{Directory, clock, layout};

/// What `scheduler extend` is told.
#[derive(Debug, clap::Args)]
pub struct ExtendArgs {
    /// The search directory
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    #[command(flatten)]
    more: More,
}

/// How much more there is to be.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct More {
    /// More brackets, where the search's limit counts these
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "configurations")]
    brackets: Option<u32>,
    /// More configurations, where the search's limit counts these
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    configurations: Option<u32>,
    /// A larger largest budget: the present one times a power of eta. When all brackets that there are have ended, the best
    /// of all go on to it; those that are added have it from the start
    #[arg(long, value_name = "AMOUNT")]
    max_budget: Option<f64>,
}

/// Runs the subcommand.
pub fn run(args: &ExtendArgs) -> Result<Code> {
    let directory = Directory::open(&args.directory)?;
    let limit = args.more.brackets.map(Limit::Brackets);
    let limit = limit.or(args.more.configurations.map(Limit::Configurations));
    let before = table(&directory)?;
    let max_budget = larger_budget(&directory, &args.more)?;
    if limit.is_none() && max_budget.is_none() {
        let ladder = directory.search().ladder;
        let largest = ladder.budget(ladder.top());
        print(&format!("the largest budget is {largest} already\n"))?;
        return Ok(Code::Done);
    }
    let extension = Extension {
        limit,
        max_budget,
        at: clock::now(),
        program: concat!("scheduler ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let mut table = before.clone();
    table
        .extend(directory.search(), &extension)
        .map_err(|source| wrong(&directory, source))?;
    directory.extend(&extension)?;
    // After the record: a scheduler that finishes the search meanwhile looks for it once more.
    let was_finished = directory.reopen(total(&directory, &table)?)?;
    let (added, all) = (table.total() - before.total(), total(&directory, &table)?);
    let mut lines = Vec::new();
    if extension.limit.is_some() {
        lines.push(format!("{added} more configurations: {all} in all"));
    }
    if let Some(max_budget) = extension.max_budget {
        let ladder = directory.search().ladder_to(max_budget);
        let ladder = ladder.map_err(|source| wrong(&directory, source))?;
        let jobs = (0..).zip(table.expected_jobs());
        for (rung, number) in jobs.skip(usize::from(before.num_rungs())) {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            lines.push(format!(
                "{} with {}",
                count(number, "job"),
                ladder.budget(rung)
            ));
        }
    }
    if was_finished {
        lines.push("the search was finished: start its programs again".to_owned());
    }
    lines.push(String::new());
    print(&lines.join("\n"))?;
    Ok(Code::Done)
}

/// The budget that is asked for, as its rung has it; `None` where that is the largest already.
///
/// # Errors
/// It is smaller, or there can be no rung with it.
fn larger_budget(directory: &Directory, more: &More) -> Result<Option<f64>> {
    let Some(max_budget) = more.max_budget else {
        return Ok(None);
    };
    let search = directory.search();
    let refused = |invalid: Invalid| {
        let Invalid {
            expected, found, ..
        } = invalid;
        let message = format!("--max-budget: expected {expected}, found {found}");
        Failure::new(Code::Usage, message)
    };
    let ladder = search.ladder_to(max_budget).map_err(refused)?;
    let (asked, largest) = (ladder.top(), search.ladder.top());
    if asked < largest {
        let largest = search.ladder.budget(largest);
        let expected = format!("more than the largest budget, which is {largest}");
        bail!(refused(Invalid::new("max_budget", expected, max_budget)));
    }
    Ok((asked > largest).then(|| ladder.budget(asked).amount))
}

/// The configurations of the brackets that a search is to have, extensions included.
///
/// # Errors
/// An extension cannot be read, or does not fit the search.
pub fn table(directory: &Directory) -> Result<Table> {
    let refused = |source| wrong(directory, source);
    let mut table = Table::new(directory.search()).map_err(refused)?;
    for extension in directory.extensions()?.into_values() {
        table
            .extend(directory.search(), &extension)
            .map_err(refused)?;
    }
    Ok(table)
}

/// How many configurations a search is to have, with those that somebody gave.
pub(crate) fn total(directory: &Directory, table: &Table) -> Result<u32> {
    let given = u32::try_from(directory.given()?.len())?;
    Ok(table.total().saturating_add(given))
}

fn wrong(directory: &Directory, source: Invalid) -> Error {
    Error::Value {
        path: directory.layout().path(layout::SEARCH),
        format: SearchFile::FORMAT,
        source: source.into(),
    }
}
