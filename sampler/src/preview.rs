//! `sampler propose`: what would be proposed next, printed and not written.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;
use shared::cli::Format;
use shared::exit::{Code, Failure};
use shared::record::{Proposal, Request};
use shared::wording::{plain, plain_json};
use shared::{ConfigurationId, Directory, JobId, Search, cli, layout};

use crate::explain;
use crate::follow::{Follower, Next};
use crate::proposer::Proposer;

/// Arguments of `sampler propose`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The search directory
    #[arg(value_name = cli::DIRECTORY)]
    directory: PathBuf,
    /// How many proposals, each counting those before it as under way
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// What was read, and what would be proposed on it.
#[derive(Debug, Serialize)]
pub struct Preview {
    /// The file of the search.
    pub search: PathBuf,
    /// Requests read.
    pub num_requests: u64,
    /// Those of them that have no answer yet.
    pub unanswered: Vec<ConfigurationId>,
    /// Results read; all there are.
    pub num_results: u64,
    /// Jobs open or in a trainer's hands.
    pub pending: Vec<JobId>,
    /// The proposals.
    pub proposals: Vec<Proposal>,
    /// Whether what trainings cost counts in them.
    #[serde(skip)]
    pub is_cost_aware: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Code> {
    let directory = Directory::observe(&args.directory)?;
    let preview = preview(&directory, args.count)?;
    match args.format {
        Format::Table => cli::print(&plain(&table(&preview)))?,
        Format::Json => {
            let text = serde_json::to_string_pretty(&preview)?;
            cli::print(&format!("{}\n", plain_json(&text)))?;
        }
    }
    Ok(Code::Done)
}

/// Answers open requests as they stand, and then requests as a scheduler would make them now: naming every result there
/// is, for the first rung of the bracket.
pub fn preview(directory: &Directory, count: u32) -> Result<Preview> {
    let mut proposals = Vec::new();
    let mut unanswered = Vec::new();
    let mut follower = Follower::new(directory)?;
    let mut bracket = 0;
    let count = usize::try_from(count)?;
    while proposals.len() < count {
        match follower.look()? {
            Next::NoRequest => break,
            Next::NoResult(job) => {
                let id = follower.next();
                bail!(Failure::new(
                    Code::BadInput,
                    format!("request {id} names result {job}, which is not in the directory"),
                ));
            }
            Next::NoProposal(id) => bail!(Failure::new(
                Code::BadInput,
                format!("proposal {id} is not in the directory, but a later one is"),
            )),
            Next::Answered(request) => {
                bracket = request.bracket;
                follower.advance(None);
            }
            Next::Open(request) => {
                bracket = request.bracket;
                let proposal = follower.propose(&request);
                unanswered.push(request.configuration);
                follower.advance(Some(&proposal));
                proposals.push(proposal);
            }
        }
    }
    let mut id = follower.next();
    let num_requests = u64::from(id.0);
    let pending: BTreeSet<JobId> = directory.jobs()?.jobs();
    if proposals.len() < count {
        follower.know_those_under_way(id)?;
        let mut proposer = follower.into_proposer();
        let mut request = news(directory, &mut proposer, id, bracket)?;
        request.pending.extend(&pending);
        while proposals.len() < count {
            request.configuration = id;
            let proposal = proposer.propose(&request);
            proposer.ask(id.job(request.rung));
            proposer.know(id, &proposal.values);
            proposals.push(proposal);
            request.finished.clear();
            id = ConfigurationId(id.0 + 1);
        }
    }
    Ok(Preview {
        search: directory.layout().path(layout::SEARCH),
        num_requests,
        unanswered,
        num_results: proposals.last().map_or(0, |p| p.origin.num_results),
        pending: pending.into_iter().collect(),
        proposals,
        is_cost_aware: directory.search().is_cost_aware,
    })
}

/// A request that names all results that none has named, which are learnt.
fn news(
    directory: &Directory,
    proposer: &mut Proposer,
    configuration: ConfigurationId,
    bracket: u32,
) -> Result<Request> {
    let mut new = directory.all_results()?;
    new.retain(|result| !proposer.history().named().contains(&result.job()));
    proposer.learn(&new);
    Ok(Request {
        configuration,
        bracket,
        rung: first_rung(directory.search(), bracket),
        finished: new.iter().map(shared::JobResult::job).collect(),
        pending: Vec::new(),
        superseding: Vec::new(),
        given: None,
        top: directory
            .search()
            .ladder
            .is_raised()
            .then_some(directory.search().ladder.top()),
    })
}

/// The rung in which a bracket's configurations start.
fn first_rung(search: &Search, bracket: u32) -> u8 {
    let num_rungs = u8::try_from(search.bracket_sizes(bracket).len()).unwrap_or(u8::MAX); // a ladder has at most 54
    let file = search.ladder.original();
    file.num_levels().saturating_sub(num_rungs)
}

fn table(preview: &Preview) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        text,
        "read `{}`, {} requests ({} open), {} results, {} pending jobs",
        preview.search.display(),
        preview.num_requests,
        preview.unanswered.len(),
        preview.num_results,
        preview.pending.len()
    );
    for proposal in &preview.proposals {
        let origin = &proposal.origin;
        let _infallible = writeln!(
            text,
            "\n{} {}: {}",
            proposal.configuration, origin.source, origin.reason
        );
        if let Some(about) = explain::about_model(preview.is_cost_aware, origin) {
            let _infallible = writeln!(text, "  {about}");
        }
        let width = proposal
            .values
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0);
        for (name, value) in proposal.values.iter() {
            let _infallible = writeln!(text, "  {name:width$}  {value}");
        }
    }
    text
}
