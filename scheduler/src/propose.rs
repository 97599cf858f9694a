//! `scheduler propose`: configurations of one's own, at any time.
//!
//! Each is a record of its own, so that several may be made at the same time. A scheduler sees the records, also while it
//! runs, and makes each the next request.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use shared::cli::DIRECTORY;
use shared::cli::print;
use shared::error::{Complaints, Error, Invalid};
use shared::exit::{Code, Failure};
use shared::record::Given;
use shared::wording::count;
use shared::{Configuration, Directory, Ladder, SearchSpace, clock, format, fs};

use crate::extend;

/// What `scheduler propose` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct ProposeArgs {
    /// The search directory
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    /// A JSON file with a configuration, such as {"lr": 0.01, "layers": 3}, or a list of them
    file: PathBuf,
    /// The rung they are trained at, 0 for the smallest budget; default: the one with the largest
    #[arg(long, value_name = "N", conflicts_with = "budget")]
    rung: Option<u8>,
    /// The budget they are trained with, one of the search's
    #[arg(long, value_name = "AMOUNT")]
    budget: Option<f64>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &ProposeArgs) -> Result<Code> {
    let directory = Directory::open(&args.directory)?;
    let ladder = directory.search().ladder;
    let rung = rung(&ladder, args.rung, args.budget)?;
    let configurations = read(&args.file, &directory.search().space)?;
    let number = configurations.len();
    for configuration in configurations {
        directory.give(&Given {
            configuration,
            rung,
            at: clock::now(),
            program: concat!("scheduler ", env!("CARGO_PKG_VERSION")).to_owned(),
        })?;
    }
    // After the records: a scheduler that finishes the search meanwhile looks for them once more.
    let table = extend::table(&directory)?;
    let was_finished = directory.reopen(extend::total(&directory, &table)?)?;
    let what = count(number, "configuration");
    let mut text = format!("{what} will be tried with {}\n", ladder.budget(rung));
    if was_finished {
        text.push_str("the search was finished: start its programs again\n");
    }
    print(&text)?;
    Ok(Code::Done)
}

/// The rung that is meant.
fn rung(ladder: &Ladder, rung: Option<u8>, budget: Option<f64>) -> Result<u8> {
    let found = match (rung, budget) {
        (None, None) => return Ok(ladder.top()),
        (Some(rung), _) => Some(rung).filter(|rung| *rung <= ladder.top()),
        (None, Some(amount)) => (0..ladder.num_rungs()).find(|rung| {
            let there = ladder.budget(*rung).amount;
            (there - amount).abs() <= 1e-3 * there
        }),
    };
    let Some(found) = found else {
        let rungs = (0..ladder.num_rungs()).map(|rung| format!("{rung}: {}", ladder.budget(rung)));
        let rungs: Vec<String> = rungs.collect();
        let message = format!("expected one of the search's rungs ({})", rungs.join(", "));
        bail!(Failure::new(Code::Usage, message));
    };
    Ok(found)
}

/// The configurations in a file, all of the space.
fn read(path: &Path, space: &SearchSpace) -> Result<Vec<Configuration>> {
    let bytes = fs::read_named(path)?;
    let json: serde_json::Value = format::parse(&bytes).map_err(|source| Error::Syntax {
        path: path.to_path_buf(),
        source,
    })?;
    let (list, is_one) = match json {
        serde_json::Value::Array(list) => (list, false),
        other => (vec![other], true),
    };
    let mut wrong: Vec<Invalid> = Vec::new();
    let mut configurations = Vec::new();
    for (index, json) in list.into_iter().enumerate() {
        let found = json.to_string();
        let parsed = serde_json::from_value::<Configuration>(json).map_err(|_no_object| {
            let expected = "an object of hyperparameters, name and value";
            Invalid::new("", expected, found)
        });
        match parsed.and_then(|values| space.check_configuration(&values)) {
            Ok(configuration) => configurations.push(configuration),
            Err(invalid) if is_one => wrong.push(invalid),
            Err(invalid) => wrong.push(invalid.within(&format!("[{index}]"))),
        }
    }
    if configurations.is_empty() && wrong.is_empty() {
        wrong.push(Invalid::new(
            "",
            "at least one configuration",
            "an empty list",
        ));
    }
    match Complaints::new(wrong) {
        None => Ok(configurations),
        Some(source) => Err(Error::Value {
            path: path.to_path_buf(),
            format: "configuration",
            source,
        }
        .into()),
    }
}
