//! The records that actions ask for.

use shared::fs::{self, Published};
use shared::parallel::all_in_parallel;
use shared::record::{Check, Job, Proposal, Request};
use shared::search::Promotion;
use shared::{ConfigurationId, Directory, Error, JobId, ResultId, Search, layout};
use tracing::{info, warn};

use crate::plan::Action;
use crate::state::State;

/// What became of the record that an action makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// This scheduler's is there.
    Ours,
    /// Another scheduler's was there before.
    Another,
    /// None: the action makes none, or cannot yet.
    Nothing,
}

/// Makes the records that actions ask for, many at a time: on a network filesystem each takes several answers of the
/// server. There may be fewer answers than actions: after one that failed no request is made.
pub(super) fn make_records(
    directory: &Directory,
    state: &State,
    actions: &[Action],
) -> Vec<Result<Made, Error>> {
    let are_requests =
        |a: &Action, b: &Action| matches!((a, b), (Action::Request(_), Action::Request(_)));
    // Requests one after the other, so that their ids have no gaps.
    let rows: Vec<&[Action]> = actions.chunk_by(are_requests).collect();
    // A request that names jobs as offered comes after their files, and not without them.
    let names_offers = |row: &&[Action]| matches!(row, [Action::Request(request), ..] if !request.pending.is_empty());
    let (now, then) = match rows.split_last() {
        Some((last, others)) if names_offers(last) => (others, std::slice::from_ref(last)),
        _ => (&*rows, [].as_slice()),
    };
    let mut made = make_rows(directory, state, now);
    if made.iter().all(Result::is_ok) {
        made.extend(make_rows(directory, state, then));
    }
    made
}

/// Makes the records of each row one after the other, of all rows at the same time; a row ends with the first record that
/// is not this scheduler's.
fn make_rows(directory: &Directory, state: &State, rows: &[&[Action]]) -> Vec<Result<Made, Error>> {
    let rows = all_in_parallel(rows, |row| {
        let (mut answers, mut asked_for) = (Vec::new(), Vec::new());
        for action in *row {
            let made = match action {
                Action::Request(request) => make_request(directory, request),
                Action::Offer { job, attempt } => offer(directory, state, *job, *attempt),
                _ => Ok(Made::Nothing),
            };
            let goes_on = matches!(made, Ok(Made::Ours));
            // Another's as well: it may not have come to that.
            if let (true, Action::Request(request)) = (made.is_ok(), action) {
                asked_for.push(request.configuration);
            }
            answers.push(made);
            if !goes_on {
                break;
            }
        }
        // One sync for all requests of the row.
        if let Err(error) = directory.sync_requests(asked_for) {
            answers.pop();
            answers.push(Err(error));
        }
        answers
    });
    rows.into_iter().flatten().collect()
}

/// Makes a request, whose name does not last yet.
fn make_request(directory: &Directory, request: &Request) -> Result<Made, Error> {
    let id = request.configuration;
    make_shards(directory, id)?;
    let finished = request.finished.iter().map(|job| job.configuration);
    let superseding = configurations(&request.superseding);
    directory.sync_results(finished.chain(superseding))?;
    if directory.request(request)? == Published::AlreadyThere {
        return Ok(Made::Another);
    }
    info!(
        "requested configuration={id} bracket={} rung={} news={}",
        request.bracket,
        request.rung,
        request.finished.len()
    );
    Ok(Made::Ours)
}

fn offer(directory: &Directory, state: &State, job: JobId, attempt: u32) -> Result<Made, Error> {
    let id = job.configuration;
    let search = directory.search();
    // With its checks, where trainings are stopped.
    let known = state.proposed.get(&id).filter(|_| !search.is_stopping());
    let read = || {
        let proposal = directory.read_proposal(id)?;
        let of = |proposal: Proposal| (checks(search, &proposal, job), proposal.values);
        Ok::<_, Error>(proposal.map(of))
    };
    let known = known.cloned().map(|values| (Vec::new(), values));
    let Some((checks, values)) = known.map_or_else(read, |known| Ok(Some(known)))? else {
        warn!("cannot offer {job}: its configuration is gone; waiting for the sampler");
        return Ok(Made::Nothing);
    };
    let place = state.table().place(id);
    let continues = match search.promotion_to(job.rung) {
        Promotion::Continue if job.rung > place.rung => Some(id.job(job.rung - 1)),
        Promotion::Continue | Promotion::Scratch | Promotion::Stopping => None,
    };
    let restrictions = state.faults.restrictions(job);
    let (avoid_hosts, memory_mib) = restrictions.map_or((Vec::new(), None), |restrictions| {
        (restrictions.avoid_hosts, restrictions.memory_mib)
    });
    let record = Job {
        job,
        bracket: place.bracket,
        budget: search.ladder.budget(job.rung),
        configuration: values,
        continues,
        search: search.digest.clone(),
        supersedes: state.faults.superseded(job),
        avoid_hosts,
        memory_mib,
        seed: Some(search.training_seed(job)),
        first_rung: state
            .table()
            .is_beyond_the_file(place.bracket, job.rung)
            .then_some(place.rung),
        checks,
    };
    if directory.offer(&record, attempt)? == Published::AlreadyThere {
        return Ok(Made::Another);
    }
    info!(
        "offered job={job} attempt={attempt} budget={}",
        record.budget
    );
    Ok(Made::Ours)
}

/// The budgets at which the loss of a job is looked at; none of a repetition.
fn checks(search: &Search, proposal: &Proposal, job: JobId) -> Vec<Check> {
    if !search.is_stopping() || job.rung > search.ladder.top() {
        return Vec::new();
    }
    let below = proposal.checks.iter().filter(|check| check.rung < job.rung);
    below
        .map(|check| Check {
            spent: search.ladder.budget(check.rung).amount,
            loss: check.loss,
        })
        .collect()
}

/// The configurations of results.
pub(super) fn configurations<'a>(
    results: impl IntoIterator<Item = &'a ResultId>,
) -> impl Iterator<Item = ConfigurationId> {
    results.into_iter().map(|result| result.job.configuration)
}

/// Makes the folders of the shard that begins with `id`, before anybody can look for them: a network filesystem would
/// go on believing for a while that they are not there.
fn make_shards(directory: &Directory, id: ConfigurationId) -> Result<(), Error> {
    if id.0.is_multiple_of(ConfigurationId::SHARD) {
        for kind in [
            layout::RESULTS,
            layout::ATTEMPTS,
            layout::CHECKPOINTS,
            layout::CONFIGURATIONS,
        ] {
            fs::make_folder(&directory.layout().shard(kind, id.shard()))?;
        }
    }
    Ok(())
}
