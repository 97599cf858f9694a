//! `sampler replay`: every proposal computed again from the files, and compared bit for bit.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value as Json;
use shared::exit::Code;
use shared::record::Proposal;
use shared::wording::{plain, plain_json};
use shared::{ConfigurationId, Directory, ResultId, cli};

use crate::follow::{Follower, Next};

/// Arguments of `sampler replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The search directory
    #[arg(value_name = cli::DIRECTORY)]
    directory: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: cli::Format,
}

/// What a replay found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Requests looked at.
    pub num_requests: u64,
    /// Proposals that came out the same, bit for bit.
    pub num_equal: u64,
    /// Requests at the end that have no proposal yet.
    pub unanswered: Vec<ConfigurationId>,
    /// Proposals that are not there, or corrupt, although a later one is there.
    pub missing_proposals: Vec<ConfigurationId>,
    /// Results that are not there, although a request names them.
    pub missing_results: Vec<ResultId>,
    /// What is not as it was.
    pub differences: Vec<Difference>,
    /// Proposals that came out otherwise, which says nothing because results before them are missing.
    pub not_comparable: Vec<ConfigurationId>,
}

impl Report {
    /// Whether all is there and as it was.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
            && self.missing_proposals.is_empty()
            && self.missing_results.is_empty()
    }
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

/// Runs the subcommand: exit 0 if every proposal is there and equal, else 1.
pub fn run(args: &Args) -> Result<Code> {
    let directory = Directory::observe(&args.directory)?;
    let report = replay(&directory)?;
    match args.format {
        cli::Format::Table => cli::print(&plain(&table(&report)))?,
        cli::Format::Json => {
            let text = serde_json::to_string_pretty(&report)?;
            cli::print(&format!("{}\n", plain_json(&text)))?;
        }
    }
    Ok(if report.is_same() {
        Code::Done
    } else {
        Code::Unforeseen
    })
}

/// Replays a directory to its end. A proposal that is missing counts as what comes out now.
pub fn replay(directory: &Directory) -> Result<Report> {
    let mut follower = Follower::new(directory)?;
    let mut report = Report::default();
    loop {
        let id = follower.next();
        let (request, is_answered) = match follower.look()? {
            Next::NoRequest => break,
            Next::NoResult(job) => {
                report.missing_results.push(job);
                follower.go_on_without(job);
                continue;
            }
            // All before this one are known: from their files, or as they came out now.
            Next::NoProposal(other) => unreachable!("{id} needs {other}, which was proposed again"),
            Next::Open(request) => (request, false),
            Next::Answered(request) => (request, true),
        };
        report.num_requests += 1;
        let again = follower.propose(&request);
        if !is_answered {
            report.unanswered.push(id);
            follower.advance(Some(&again));
            continue;
        }
        // Those without proposal so far are no longer the last ones.
        report.missing_proposals.append(&mut report.unanswered);
        let Some(filed) = follower.read_proposal(id)? else {
            // It was corrupt, and is aside now.
            report.missing_proposals.push(id);
            follower.advance(Some(&again));
            continue;
        };
        let differences = differences(&filed, &again)?;
        if differences.is_empty() {
            report.num_equal += 1;
        } else if report.missing_results.is_empty() {
            report.differences.extend(differences);
        } else {
            report.not_comparable.push(id);
        }
        follower.advance(Some(&filed));
    }
    Ok(report)
}

/// Fields that differ; `program` may, since a newer version that proposes the same is no difference.
fn differences(filed: &Proposal, again: &Proposal) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    let (file, replay) = (serde_json::to_value(filed)?, serde_json::to_value(again)?);
    for field in ["values", "origin", "checks"] {
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
    for id in &report.missing_proposals {
        let _infallible = writeln!(text, "{id}: the proposal is not there");
    }
    for job in &report.missing_results {
        let _infallible = writeln!(
            text,
            "{job}: the result is not there, and a request names it"
        );
    }
    if !report.not_comparable.is_empty() {
        let ids: Vec<String> = report
            .not_comparable
            .iter()
            .map(ToString::to_string)
            .collect();
        let _infallible = writeln!(
            text,
            "without those results, these cannot be compared: {}",
            ids.join(" ")
        );
    }
    let without = report.unanswered.len() + report.missing_proposals.len();
    let _infallible = writeln!(
        text,
        "{} of {} proposals are equal bit for bit; {without} requests have no proposal",
        report.num_equal,
        report.num_requests - without as u64,
    );
    text
}
