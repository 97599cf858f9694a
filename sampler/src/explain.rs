//! `sampler explain`: one proposal in plain words, computed again from what it knew.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use shared::exit::{Code, Failure};
use shared::record::{Origin, Outcome, Proposal, Request};
use shared::wording::{count, one_line};
use shared::{Budget, Configuration, ConfigurationId, Directory, Search, cli};

use crate::follow::{Follower, Next};
use crate::history::History;
use crate::proposer::Proposer;

/// Arguments of `sampler explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The search directory
    #[arg(value_name = cli::DIRECTORY)]
    directory: PathBuf,
    /// The configuration, such as c000123
    #[arg(value_name = "ID")]
    configuration: ConfigurationId,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Code> {
    let directory = Directory::observe(&args.directory)?;
    cli::print(&explain(&directory, args.configuration)?)?;
    Ok(Code::Done)
}

/// The explanation of a proposal.
pub fn explain(directory: &Directory, id: ConfigurationId) -> Result<String> {
    let missing = |what: String| Failure::new(Code::BadInput, what);
    let mut follower = Follower::new(directory)?;
    let request = loop {
        let next = follower.next();
        match follower.look()? {
            Next::Answered(request) if next == id => break request,
            Next::Answered(_) => follower.advance(None),
            Next::Open(_) if next < id => follower.advance(None),
            Next::Open(_) => bail!(missing(format!("{id} is asked for, but not proposed yet"))),
            Next::NoRequest => {
                bail!(missing(format!(
                    "{id} is not asked for; the next request would be {next}"
                )));
            }
            Next::NoResult(job) => {
                bail!(missing(format!(
                    "request {next} names result {job}, which is not there"
                )));
            }
            Next::NoProposal(other) => bail!(missing(format!("proposal {other} is not there"))),
        }
    };
    if let Some(other) = follower.know_those_under_way(id)? {
        bail!(missing(format!(
            "{other} was under way, and its proposal is not there"
        )));
    }
    let Some(proposal) = follower.read_proposal(id)? else {
        bail!(missing(format!(
            "proposal {id} is corrupt and was set aside"
        )));
    };
    let again = follower.propose(&request);
    let history = follower.proposer().history();
    let mut text = String::new();
    write_what_it_knew(&mut text, directory, follower.proposer(), &request)?;
    write_how(&mut text, directory.search(), &proposal)?;
    write_values(&mut text, directory, history, &proposal.values)?;
    write_checks(&mut text, directory, &proposal, &request)?;
    let is_same = again.values == proposal.values
        && again.origin == proposal.origin
        && again.checks == proposal.checks;
    writeln!(
        text,
        "\nComputed again from the same results, it comes out {}.",
        if is_same {
            "the same, bit for bit"
        } else {
            "different: see `sampler replay`"
        }
    )?;
    Ok(text)
}

fn write_what_it_knew(
    text: &mut String,
    directory: &Directory,
    proposer: &Proposer,
    request: &Request,
) -> Result<()> {
    let history = proposer.history();
    let (id, ladder) = (request.configuration, &directory.search().ladder);
    let budget = ladder.budget(request.rung.min(ladder.top()));
    writeln!(
        text,
        "{id} was asked for to start bracket {} at {budget}.",
        request.bracket
    )?;
    writeln!(
        text,
        "Known were {}; under way were {}.",
        count(history.named().len(), "result"),
        count(proposer.num_under_way(id), "configuration")
    )?;
    for search in history.earlier() {
        let (number, source) = (search.results.len(), one_line(&search.source));
        writeln!(
            text,
            "It learnt from {}, of `{source}`.",
            count(number, "earlier result")
        )?;
    }
    for rung in 0..history.num_rungs().min(ladder.num_rungs()) {
        let results = history.rung(rung);
        let Some(best) = results.first() else {
            continue;
        };
        let best = match best.score.loss() {
            Some(loss) => format!("the best is {} with loss {loss}", best.job.configuration),
            None => "none of them has a loss".to_owned(),
        };
        writeln!(
            text,
            "  {} at {} (rung {rung}): {best}",
            results.len(),
            ladder.budget(rung)
        )?;
    }
    Ok(())
}

fn write_how(text: &mut String, search: &Search, proposal: &Proposal) -> Result<()> {
    let origin = &proposal.origin;
    let how = match origin.source.as_str() {
        "given" => "The user gave it",
        "prior" => "It is a draw from the prior",
        "belief" => "It follows what the user believes of good values",
        "earlier" => "It did well in an earlier search",
        "mutation" => "It is a mutation of an earlier configuration",
        "policy" => "It is a draw from a policy that was learnt",
        _ => "A model chose it",
    };
    writeln!(
        text,
        "\n{how} (method {}): {}.",
        one_line(&origin.method),
        one_line(&origin.reason)
    )?;
    if let Some(about) = about_model(search.is_cost_aware, origin) {
        writeln!(text, "{about}")?;
    }
    Ok(())
}

/// Where its training is stopped, and whether it was.
fn write_checks(
    text: &mut String,
    directory: &Directory,
    proposal: &Proposal,
    request: &Request,
) -> Result<()> {
    if proposal.checks.is_empty() {
        return Ok(());
    }
    let ladder = &directory.search().ladder;
    let limits = proposal.checks.iter().filter_map(|check| {
        let budget = ladder.budget(check.rung.min(ladder.top()));
        Some(format!("above {} at {budget}", check.loss?))
    });
    let limits: Vec<String> = limits.collect();
    if limits.is_empty() {
        writeln!(text, "\nNothing stops its training before its end.")?;
    } else {
        let limits = limits.join(", ");
        writeln!(
            text,
            "\nIts training is stopped where its loss is {limits}."
        )?;
    }
    let result = directory.last_result(proposal.configuration.job(request.rung))?;
    let Some(result) = result else { return Ok(()) };
    if let Outcome::Stopped { loss, limit, .. } = result.outcome {
        let at = result.checks.last().map_or(result.budget, |check| Budget {
            amount: check.spent,
            ..result.budget
        });
        writeln!(
            text,
            "It was stopped at {at}: its loss was {loss}, and {limit} would have been the most."
        )?;
    } else if result.outcome.loss().is_some() {
        let why = if !limits.is_empty() && result.checks.is_empty() {
            ": it told no loss on its way"
        } else {
            ""
        };
        writeln!(text, "It was not stopped{why}.")?;
    }
    Ok(())
}

/// What the model that chose it holds, and how it values it.
pub(crate) fn about_model(is_cost_aware: bool, origin: &Origin) -> Option<String> {
    let model = origin.model.as_ref()?;
    Some(if origin.method == "tandem" {
        format!(
            "The model rests on {} results. The logarithm of the expected improvement{} is {:.4}, in units of the scores, \
             the most among {} points compared.",
            model.num_good,
            if is_cost_aware {
                ", less that of what a training costs beside others,"
            } else {
                ""
            },
            model.log_acquisition,
            model.num_candidates
        )
    } else {
        format!(
            "The model of rung {} holds {} good and {} bad configurations. This one is {} under the good density \
             than under the bad one (ln l/g = {:.4}), the most among {} candidates.",
            model.rung,
            model.num_good,
            model.num_bad,
            times_as_likely(model.log_acquisition),
            model.log_acquisition,
            model.num_candidates
        )
    })
}

fn times_as_likely(log_ratio: f64) -> String {
    let ratio = libm::exp(log_ratio.abs());
    if log_ratio >= 0.0 {
        format!("{ratio:.3} times as likely")
    } else {
        format!("{ratio:.3} times less likely")
    }
}

/// Its values beside those of the best configuration known at the highest rung that has a loss.
fn write_values(
    text: &mut String,
    directory: &Directory,
    history: &History,
    values: &Configuration,
) -> Result<()> {
    let best = (0..history.num_rungs()).rev().find_map(|rung| {
        let best = history.rung(rung).first()?;
        best.score.loss()?;
        Some(best.job.configuration)
    });
    let best = best.map(|id| (id, directory.search().space.decode(history.vector(id))));
    let head = best
        .as_ref()
        .map_or_else(String::new, |(id, _)| format!("incumbent {id}"));
    let width = values.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    writeln!(text, "\n  {:width$}  {:24}  {head}", "", "this one")?;
    for (name, value) in values.iter() {
        let other = best.as_ref().and_then(|(_, best)| best.get(name));
        let other = other.map_or_else(String::new, |value| one_line(&value.to_string()));
        let (name, value) = (one_line(name), one_line(&value.to_string()));
        let line = format!("  {name:width$}  {value:24}  {other}");
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}
