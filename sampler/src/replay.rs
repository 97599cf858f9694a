//! `sampler replay`: every proposal computed again from the files, and compared bit for bit.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value as Json;
use shared::exit::Code;
use shared::record::Proposal;
use shared::{ConfigurationId, Directory, cli};

use crate::follow::{Follower, Next};

/// Arguments of `sampler replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The search directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// How to print: `table` for people, `json` for programs
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What a replay found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Requests looked at.
    pub num_requests: u64,
    /// Proposals that came out the same, bit for bit.
    pub num_equal: u64,
    /// Requests that have no proposal yet.
    pub unanswered: Vec<ConfigurationId>,
    /// What is not as it was.
    pub differences: Vec<Difference>,
    /// Why the replay ended before the last request, if it did.
    pub ended: Option<String>,
}

/// A proposal that came out otherwise.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Which.
    pub configuration: ConfigurationId,
    /// The field, as a path.
    pub field: String,
    /// What the file says.
    pub file: Json,
    /// What came out now.
    pub replay: Json,
}

/// Runs the subcommand: exit 0 if every proposal is equal, else 1.
pub fn run(args: &Args) -> Result<Code> {
    let directory = Directory::open(&args.directory)?;
    let report = replay(&directory)?;
    match args.format {
        Format::Table => cli::print(&table(&report))?,
        Format::Json => cli::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    let is_same = report.differences.is_empty() && report.ended.is_none();
    Ok(if is_same {
        Code::Done
    } else {
        Code::Unforeseen
    })
}

/// Replays a directory.
pub fn replay(directory: &Directory) -> Result<Report> {
    let mut follower = Follower::new(directory);
    let mut report = Report::default();
    loop {
        let id = follower.next();
        let request = match follower.look()? {
            Next::NoRequest => break,
            Next::NoResult(job) => {
                report.ended = Some(format!(
                    "request {id} names result {job}, which is not there"
                ));
                break;
            }
            Next::NoProposal(other) => {
                report.ended = Some(format!(
                    "request {id} needs proposal {other}, which is not there"
                ));
                break;
            }
            Next::Open(_) => {
                report.num_requests += 1;
                report.unanswered.push(id);
                follower.advance(None);
                continue;
            }
            Next::Answered(request) => request,
        };
        report.num_requests += 1;
        if let Some(unknown) = follower.know_those_under_way(id)? {
            report.ended = Some(format!(
                "request {id} needs proposal {unknown}, which is not there"
            ));
            break;
        }
        let Some(filed) = follower.read_proposal(id)? else {
            report.ended = Some(format!("proposal {id} is corrupt and was set aside"));
            break;
        };
        let again = follower.propose(&request);
        let differences = differences(&filed, &again)?;
        if differences.is_empty() {
            report.num_equal += 1;
        }
        report.differences.extend(differences);
        follower.advance(Some(&filed));
    }
    Ok(report)
}

/// Fields that differ; `program` may, since a newer version that proposes the same is no difference.
fn differences(filed: &Proposal, again: &Proposal) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    let (file, replay) = (serde_json::to_value(filed)?, serde_json::to_value(again)?);
    for field in ["values", "origin"] {
        compare(
            field,
            &file[field],
            &replay[field],
            &mut |field, file, replay| {
                found.push(Difference {
                    configuration: filed.configuration,
                    field,
                    file: file.clone(),
                    replay: replay.clone(),
                });
            },
        );
    }
    Ok(found)
}

/// Numbers are equal only if their bits are: they are printed so that they read back exactly.
fn compare(at: &str, a: &Json, b: &Json, differ: &mut dyn FnMut(String, &Json, &Json)) {
    if let (Json::Object(a), Json::Object(b)) = (a, b) {
        let missing = Json::Null;
        let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let (a, b) = (
                a.get(key).unwrap_or(&missing),
                b.get(key).unwrap_or(&missing),
            );
            compare(&format!("{at}.{key}"), a, b, differ);
        }
    } else {
        let (file, replay) = (a.to_string(), b.to_string());
        if file != replay {
            differ(at.to_owned(), a, b);
        }
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    for d in &report.differences {
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "{} {}: the file has {}, the replay {}",
            d.configuration, d.field, d.file, d.replay
        );
    }
    if let Some(ended) = &report.ended {
        let _infallible = writeln!(text, "ended early: {ended}");
    }
    let _infallible = writeln!(
        text,
        "{} of {} proposals are equal bit for bit; {} requests have no proposal",
        report.num_equal,
        report.num_requests - report.unanswered.len() as u64,
        report.unanswered.len()
    );
    text
}
