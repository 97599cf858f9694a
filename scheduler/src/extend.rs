//! `scheduler extend`: a search goes on beyond its limit.
//!
//! Each extension is a record of its own, so that several may be made at the same time, and the search file stays as it is.
//! A scheduler sees the records, also while it runs.

use std::path::PathBuf;

use anyhow::Result;
use shared::cli::{DIRECTORY, print};
use shared::error::Error;
use shared::exit::Code;
use shared::format::Record as _;
use shared::hyperband::Table;
use shared::record::Extension;
use shared::search::{Limit, SearchFile};
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
#[group(required = true, multiple = false)]
struct More {
    /// More brackets, where the search's limit counts these
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    brackets: Option<u32>,
    /// More configurations, where the search's limit counts these
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    configurations: Option<u32>,
}

/// Runs the subcommand.
pub fn run(args: &ExtendArgs) -> Result<Code> {
    let directory = Directory::open(&args.directory)?;
    let more = args.more.brackets.map(Limit::Brackets);
    let more = more.or(args.more.configurations.map(Limit::Configurations));
    let Some(more) = more else {
        unreachable!("one of the options is required");
    };
    let mut table = table(&directory)?;
    let before = table.total();
    table
        .extend(more)
        .map_err(|source| wrong(&directory, source))?;
    directory.extend(&Extension {
        limit: more,
        at: clock::now(),
        program: concat!("scheduler ", env!("CARGO_PKG_VERSION")).to_owned(),
    })?;
    // After the record: a scheduler that finishes the search meanwhile looks for it once more.
    let was_finished = directory.reopen(total(&directory, &table)?)?;
    let (added, all) = (table.total() - before, total(&directory, &table)?);
    let mut text = format!("{added} more configurations: {all} in all\n");
    if was_finished {
        text.push_str("the search was finished: start its programs again\n");
    }
    print(&text)?;
    Ok(Code::Done)
}

/// The configurations of the brackets that a search is to have, extensions included.
pub(crate) fn table(directory: &Directory) -> Result<Table> {
    let refused = |source| wrong(directory, source);
    let mut table = Table::new(directory.search()).map_err(refused)?;
    for extension in directory.extensions()?.into_values() {
        table.extend(extension.limit).map_err(refused)?;
    }
    Ok(table)
}

/// How many configurations a search is to have, with those that somebody gave.
pub(crate) fn total(directory: &Directory, table: &Table) -> Result<u32> {
    let given = u32::try_from(directory.given()?.len())?;
    Ok(table.total().saturating_add(given))
}

fn wrong(directory: &Directory, source: shared::Invalid) -> Error {
    Error::Value {
        path: directory.layout().path(layout::SEARCH),
        format: SearchFile::FORMAT,
        source: source.into(),
    }
}
