//! What to do next: a pure function of what is known.
//!
//! Two schedulers that know the same plan the same, so running two by accident is harmless. When a plan is applied,
//! planning again gives what that made possible, and soon nothing; stopping between any two actions is harmless.

use std::fmt;

use shared::record::{Finished, Gift, Request};
use shared::search::TrainerSettings;
use shared::{AttemptId, Claim, ConfigurationId, Fate, JobId, ResultId};

use crate::blame::{Again, Known};
use crate::state::State;

/// One change of the search directory.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask the sampler for a configuration.
    Request(Request),
    /// Offer a job to the trainers.
    Offer {
        /// Which.
        job: JobId,
        /// The number of the attempt, 1 unless its file was lost.
        attempt: u32,
    },
    /// End the attempt of a trainer that is gone, and offer the next one.
    TakeBack {
        /// Whose.
        claim: Claim,
        /// Budget that its newest checkpoint has spent, as far as known.
        spent: f64,
    },
    /// End a job that attempt after attempt does not get on with: its outcome is `lost`.
    GiveUp {
        /// The last attempt.
        attempt: AttemptId,
        /// Its claim, if it is claimed.
        claim: Option<Claim>,
        /// How many attempts there were in a row without progress.
        without_progress: u32,
        /// How the last one ended.
        fate: Fate,
    },
    /// Count a failure, which nobody else could do better.
    Accept(JobId),
    /// Do a job again, whose failure may be the machine's fault.
    Retry(Again),
    /// Remove an open job, to offer the job differently or later.
    Withdraw(AttemptId),
    /// Remove a claim of a job that has its result.
    DropClaim(Claim),
    /// Remove an open job that has its result.
    DropOpen(AttemptId),
    /// Remove checkpoints that nobody needs.
    DropCheckpoints {
        /// Whose.
        configuration: ConfigurationId,
        /// Those of lower rungs than this; `None` for all.
        below: Option<u8>,
    },
    /// Say that nothing is left to do.
    Finish(Finished),
}

impl Action {
    /// Whether it makes a new record and does nothing else, so that several such actions may be taken at the same time.
    pub fn makes_a_record(&self) -> bool {
        match self {
            Self::Request(_) | Self::Offer { .. } => true,
            Self::TakeBack { .. }
            | Self::GiveUp { .. }
            | Self::Accept(_)
            | Self::Retry(_)
            | Self::Withdraw(_)
            | Self::DropClaim(_)
            | Self::DropOpen(_)
            | Self::DropCheckpoints { .. }
            | Self::Finish(_) => false,
        }
    }
}

impl Action {
    /// Makes the effect of this action, when it was taken, known.
    pub fn apply(&self, state: &mut State) {
        match self {
            Self::Request(request) => state.see_request(request),
            Self::Offer { job, attempt } => {
                let offered = job.attempt(*attempt);
                state.see_attempt(offered);
                state.open.insert(offered);
                let restrictions = state.faults.restrictions(*job);
                state.left_to.insert(offered, restrictions);
            }
            Self::TakeBack { claim, .. } => {
                state.over.remove(&claim.attempt);
                state.see_attempt(claim.attempt.next());
            }
            Self::GiveUp {
                attempt,
                without_progress,
                ..
            } => {
                state.over.remove(attempt);
                state.see_result(Known {
                    id: state.next_result(attempt.job),
                    fruitless: *without_progress,
                    ..Known::certain(*attempt, None)
                });
            }
            Self::Accept(job) => {
                if let Some(known) = state.doubtful.get(job).cloned() {
                    state.accept(&known);
                }
            }
            Self::Retry(again) => state.see_retry(again.clone()),
            Self::Withdraw(attempt) => state.offer_again(*attempt),
            Self::DropClaim(claim) => {
                state.spent_claims.remove(claim);
            }
            Self::DropOpen(attempt) => {
                state.spent_open.remove(attempt);
            }
            Self::DropCheckpoints { configuration, .. } => {
                state.spent_checkpoints.remove(configuration);
            }
            Self::Finish(_) => state.flags.is_finished = true,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(request) => write!(
                f,
                "request configuration {} for bracket {}, rung {}, with {} new results",
                request.configuration,
                request.bracket,
                request.rung,
                request.finished.len()
            ),
            Self::Offer { job, attempt } => write!(f, "offer {}", job.attempt(*attempt)),
            Self::TakeBack { claim, .. } => write!(f, "take back {claim}"),
            Self::GiveUp {
                attempt,
                without_progress,
                ..
            } => write!(
                f,
                "give up {attempt} after {without_progress} attempts without progress"
            ),
            Self::Accept(job) => write!(f, "count the failure of {job}"),
            Self::Retry(again) => match (&*again.avoid_hosts, again.memory_mib) {
                (_, Some(mib)) => write!(
                    f,
                    "repeat {} where there are {mib:.0} MiB of memory",
                    again.supersedes
                ),
                (hosts, None) => write!(
                    f,
                    "repeat {} on another host than {}",
                    again.supersedes,
                    hosts.join(", ")
                ),
            },
            Self::Withdraw(attempt) => write!(f, "withdraw the open job {attempt}"),
            Self::DropClaim(claim) => write!(f, "remove the claim {claim}, which has its result"),
            Self::DropOpen(attempt) => {
                write!(f, "remove the open job {attempt}, which nobody needs")
            }
            Self::DropCheckpoints {
                configuration,
                below: None,
            } => write!(f, "remove the checkpoints of {configuration}"),
            Self::DropCheckpoints {
                configuration,
                below: Some(rung),
            } => write!(
                f,
                "remove the checkpoints of {configuration} below rung {rung}"
            ),
            Self::Finish(finished) => write!(
                f,
                "finish with {} configurations and {} jobs",
                finished.configurations, finished.jobs
            ),
        }
    }
}

/// Plans all that can be done now, in the order in which it should be done.
pub fn plan(state: &State, settings: &TrainerSettings) -> Vec<Action> {
    if state.flags.is_stopped || state.flags.is_finished {
        return Vec::new();
    }
    let mut actions = tidy(state, settings);
    if !state.over.is_empty() {
        // What is given up makes room for other jobs: plan those when it is done.
        return actions;
    }
    if state.faults.pause(settings.pause_after()).is_some() {
        actions.extend(state.open.iter().copied().map(Action::Withdraw));
        return actions;
    }
    if !state.doubtful.is_empty() {
        // So does a failure that counts.
        actions.extend(decide(state));
        return actions;
    }
    actions.extend(reconsider(state));
    for (job, pending) in &state.pending {
        if pending.is_missing {
            actions.push(Action::Offer {
                job: *job,
                attempt: pending.attempt.saturating_add(1),
            });
        }
    }
    let wanted = (state.num_trainers.max(1) + settings.ahead) as usize;
    let slots = wanted.saturating_sub(state.pending.len());
    // What was asked for has its trainer already, unless it is in store.
    let reserved = if state.learns() {
        state.num_in_store()
    } else {
        0
    };
    // What the sampler waits for comes first, whoever has no trainer then.
    let is_awaited = |job: &JobId| state.missing_results.contains(job);
    let mut promoted: Vec<JobId> = Vec::new();
    if !state.missing_results.is_empty() {
        promoted.extend(state.promotions().filter(is_awaited));
    }
    // Promotions before new configurations: they belong to earlier brackets, or to higher rungs.
    let others = state.promotions().filter(|job| !is_awaited(job));
    promoted.extend(others.take(slots.saturating_sub(reserved + promoted.len())));
    let free = slots.saturating_sub(promoted.len());
    let first = state.proposed.keys().take(free);
    let mut offered: Vec<JobId> = first
        .map(|id| id.job(state.table().place(*id).rung))
        .collect();
    let free = free - offered.len();
    let in_store = state.num_in_store() - offered.len();
    offered.extend(promoted);
    actions.extend(offered.iter().map(|job| Action::Offer {
        job: *job,
        attempt: state.next_attempt(*job),
    }));
    // The store is filled when every trainer has a job.
    let missing = if free > 0 {
        free.saturating_sub(in_store)
    } else if in_store < *state.store_size().start() {
        state.store_size().end() - in_store
    } else {
        0
    };
    actions.extend(requests(state, &offered, missing).map(Action::Request));
    if is_over(state) {
        actions.push(Action::Finish(Finished {
            configurations: u64::from(state.num_requested),
            jobs: state.results.len() as u64,
            retries: state.num_retries,
            top: state.table().raised_top(),
        }));
    }
    actions
}

/// What is done with jobs that trainers leave behind.
fn tidy(state: &State, settings: &TrainerSettings) -> Vec<Action> {
    let mut actions = Vec::new();
    actions.extend(state.spent_claims.iter().cloned().map(Action::DropClaim));
    actions.extend(state.spent_open.iter().copied().map(Action::DropOpen));
    for (attempt, over) in &state.over {
        match &over.claim {
            Some(claim) if over.without_progress < settings.max_attempts => {
                actions.push(Action::TakeBack {
                    claim: claim.clone(),
                    spent: over.spent,
                });
            }
            claim => actions.push(Action::GiveUp {
                attempt: *attempt,
                claim: claim.clone(),
                without_progress: over.without_progress,
                fate: over.fate,
            }),
        }
    }
    for (configuration, below) in &state.spent_checkpoints {
        actions.push(Action::DropCheckpoints {
            configuration: *configuration,
            below: *below,
        });
    }
    actions
}

/// The next `number` requests; the first of them carries the results and the promotions that are news.
fn requests<'a>(
    state: &'a State,
    offered: &'a [JobId],
    number: usize,
) -> impl Iterator<Item = Request> + 'a {
    let from = state.num_requested;
    // What somebody gave comes first, and one at a time: it moves all that come after it.
    let gift = state.waiting.first_key_value();
    let number = if gift.is_some() {
        number.min(1)
    } else {
        number
    };
    let to = state
        .total()
        .min(from.saturating_add(u32::try_from(number).unwrap_or(u32::MAX))); // capped by the total
    (from..to).map(ConfigurationId).map(move |configuration| {
        let place = state.table().place(configuration);
        let (mut finished, mut superseding) = (Vec::new(), Vec::new());
        let mut pending = Vec::new();
        if configuration.0 == from {
            let (first, later): (Vec<ResultId>, Vec<ResultId>) = state
                .unrecorded
                .iter()
                .partition(|result| result.from.is_none());
            finished.extend(first.into_iter().map(|result| result.job));
            superseding = later;
            pending.extend(&state.unreported);
            let is_promoted = |job: &&JobId| job.rung > state.table().place(job.configuration).rung;
            pending.extend(offered.iter().filter(is_promoted));
            pending.sort_unstable();
        }
        Request {
            configuration,
            bracket: place.bracket,
            rung: gift.map_or(place.rung, |(_, (rung, _))| *rung),
            finished,
            pending,
            superseding,
            given: gift.map(|(number, (_, values))| Gift {
                number: *number,
                values: values.clone(),
            }),
            top: state.table().raised_top(),
        }
    })
}

/// Which failures count, and which jobs are done again.
fn decide(state: &State) -> impl Iterator<Item = Action> + '_ {
    state.doubtful.values().map(|known| {
        let again = state.faults.decide(known);
        again.map_or(Action::Accept(known.id.job), Action::Retry)
    })
}

/// What those who live now change: crashes that counted, and open jobs that are for trainers of which none is left.
fn reconsider(state: &State) -> impl Iterator<Item = Action> + '_ {
    let counted = state.counted.values();
    let again = counted.filter_map(|known| state.faults.reconsider(known));
    let open = reserved_for_nobody(state).map(Action::Withdraw);
    again.map(Action::Retry).chain(open)
}

/// Open jobs that are for trainers of which none lives any more.
fn reserved_for_nobody(state: &State) -> impl Iterator<Item = AttemptId> + '_ {
    state.open.iter().copied().filter(|attempt| {
        // What a scheduler before this one has offered may be left to the fewest.
        let left_to = state.left_to.get(attempt).cloned();
        let left_to = left_to.unwrap_or_else(|| state.faults.wanted(attempt.job));
        left_to.is_some_and(|restrictions| !state.faults.lives_any(&restrictions))
    })
}

/// Whether nothing is left to do.
pub(crate) fn is_over(state: &State) -> bool {
    state.num_requested == state.total()
        && state.pending.is_empty()
        && state.doubtful.is_empty()
        && state.num_in_store() == 0
        && state.promotions().next().is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use shared::search::{Limit, MethodName, Scheduling};
    use shared::{Configuration, Score, Search};

    use super::*;
    use crate::state::Over;
    use crate::test_search::{of_whole_numbers, search, search_with};

    /// A search without files: plans are applied, and chance decides what ends next, and how.
    struct Simulation {
        search: Search,
        state: State,
        offered: Vec<(JobId, u32)>,
        requests: Vec<Request>,
        scores: BTreeMap<JobId, Option<Score>>,
        finished: Option<Finished>,
        most_pending: usize,
        most_outstanding: usize,
    }

    impl Simulation {
        fn new(mut search: Search) -> Self {
            // One that begins with failures alone would wait for somebody.
            search.trainers.pause_after = Some(u32::MAX);
            Self {
                state: State::new(&search).unwrap(),
                search,
                offered: Vec::new(),
                requests: Vec::new(),
                scores: BTreeMap::new(),
                finished: None,
                most_pending: 0,
                most_outstanding: 0,
            }
        }

        /// Plans and acts until there is nothing to do.
        fn act(&mut self) {
            for _ in 0..10 {
                let actions = plan(&self.state, &self.search.trainers);
                assert_eq!(
                    actions,
                    plan(&self.state, &self.search.trainers),
                    "plans are deterministic"
                );
                if actions.is_empty() {
                    self.most_pending = self.most_pending.max(self.state.pending.len());
                    let outstanding = self.state.pending.len() + self.state.num_in_store();
                    self.most_outstanding = self.most_outstanding.max(outstanding);
                    return;
                }
                for action in actions {
                    action.apply(&mut self.state);
                    match action {
                        Action::Request(request) => self.requests.push(request),
                        Action::Offer { job, attempt } => self.offered.push((job, attempt)),
                        Action::Finish(finished) => self.finished = Some(finished),
                        Action::GiveUp { attempt, .. } => {
                            self.scores.insert(attempt.job, None);
                        }
                        Action::TakeBack { .. }
                        | Action::Accept(_)
                        | Action::Retry(_)
                        | Action::Withdraw(_)
                        | Action::DropClaim(_)
                        | Action::DropOpen(_)
                        | Action::DropCheckpoints { .. } => {}
                    }
                }
            }
            panic!(
                "plans never end: {:?}",
                plan(&self.state, &self.search.trainers)
            );
        }

        fn finish(&mut self, job: JobId, score: Option<Score>) {
            self.scores.insert(job, score);
            self.state.see_result(Known::certain(job.attempt(1), score));
        }

        /// One event that others cause; false if there can be none.
        fn step(&mut self, choice: usize, kind: u8, loss: u8) -> bool {
            let awaited: Vec<ConfigurationId> = self.state.awaited.iter().copied().collect();
            let pending: Vec<JobId> = self.state.pending.keys().copied().collect();
            let number = awaited.len() + pending.len();
            if number == 0 {
                return false;
            }
            let choice = choice % number;
            if let Some(id) = awaited.get(choice) {
                self.state.see_proposal(*id, Configuration::default());
                return true;
            }
            let job = pending[choice - awaited.len()];
            let attempt = job.attempt(self.state.pending[&job].attempt);
            match kind {
                0 => self.finish(job, Some(Score::Failed)),
                1 => self.finish(job, None),
                5 => self.finish(job, Some(Score::Infeasible(f64::from(loss)))),
                2 => self.state.miss(job),
                3 | 4 => {
                    let over = Over {
                        claim: Some(format!("{attempt}.h").parse().unwrap()),
                        spent: 0.0,
                        without_progress: u32::from(kind - 3) * 9 + 1,
                        fate: Fate::NodeLost,
                    };
                    self.state.over.insert(attempt, over);
                }
                _ => self.finish(job, Some(Score::Loss(f64::from(loss)))),
            }
            true
        }

        fn run(&mut self, events: &[(usize, u8, u8)]) {
            self.act();
            for round in 0..100_000 {
                let (choice, kind, loss) = events[round % events.len()];
                // The same few events over and over would take some jobs back for ever.
                let kind = if round > 50 * events.len() { 9 } else { kind };
                if !self.step(choice.wrapping_add(round), kind, loss) {
                    return;
                }
                self.act();
            }
            panic!("the search does not end");
        }

        fn evaluated(&self, rung: u8) -> Vec<(JobId, f64)> {
            let of_rung = self.scores.iter().filter(|(job, _)| job.rung == rung);
            of_rung
                .filter_map(|(job, score)| Some((*job, (*score)?.loss()?)))
                .collect()
        }
    }

    fn method(learns: bool) -> MethodName {
        if learns {
            MethodName::Bohb
        } else {
            MethodName::Hyperband
        }
    }

    fn events() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
        // Kinds: see `Simulation::step`; most jobs end well.
        proptest::collection::vec((any::<usize>(), 0u8..30, 0u8..20), 1..200)
    }

    /// What holds for every search that has ended.
    fn check(simulation: &Simulation) {
        let finished = simulation.finished.as_ref().expect("it is finished");
        assert_eq!(finished.jobs, simulation.scores.len() as u64);
        assert_eq!(finished.configurations, simulation.requests.len() as u64);
        let mut attempts = BTreeSet::new();
        for offer in &simulation.offered {
            assert!(attempts.insert(*offer), "{offer:?} is offered twice");
        }
        let jobs: BTreeSet<JobId> = simulation.offered.iter().map(|(job, _)| *job).collect();
        assert_eq!(jobs, simulation.scores.keys().copied().collect());
        // Every result is named once at most, after it was offered and never while it is pending, and so is every
        // promoted job.
        let mut named = BTreeSet::new();
        let mut announced = BTreeSet::new();
        for (index, request) in simulation.requests.iter().enumerate() {
            assert_eq!(request.configuration.0 as usize, index);
            for job in &request.finished {
                assert!(named.insert(*job), "{job} is named twice");
            }
            assert!(request.pending.is_sorted());
            for job in &request.pending {
                assert!(!named.contains(job) && announced.insert(*job), "{job}");
                assert!(job.rung > simulation.state.table().place(job.configuration).rung);
            }
        }
        let wanted = simulation.state.num_trainers.max(1) + simulation.search.trainers.ahead;
        assert!(simulation.most_pending <= wanted as usize);
        // Promotions may have taken the places of what is in store.
        let in_store = if simulation.state.learns() {
            0
        } else {
            (*simulation.state.store_size().end()).max(wanted as usize)
        };
        assert!(simulation.most_outstanding <= wanted as usize + in_store);
    }

    #[test]
    fn one_trainer_sees_one_job_at_a_time_and_every_result_is_known_to_the_next_proposal() {
        let mut simulation = Simulation::new(search(1, 9, 3));
        simulation.run(&[(0, 9, 3), (1, 9, 1), (2, 9, 2)]);
        check(&simulation);
        for request in &simulation.requests {
            assert_eq!(request.pending, []);
        }
        let known: usize = simulation.requests.iter().map(|r| r.finished.len()).sum();
        // All results but those after the last request.
        assert!(known > simulation.scores.len() - 5, "{known}");
    }

    #[test]
    fn nothing_is_planned_for_a_stopped_search() {
        let mut state = State::new(&search(1, 9, 3)).unwrap();
        state.flags.is_stopped = true;
        assert_eq!(plan(&state, &search(1, 9, 3).trainers), []);
    }

    #[test]
    fn a_scheduler_that_is_behind_looks_for_what_a_job_was_promoted_from() {
        let mut simulation = Simulation::new(search(1, 9, 3));
        simulation.act();
        let id = ConfigurationId(0);
        simulation.state.see_attempt(id.job(1).attempt(1));
        let pending: Vec<JobId> = simulation.state.pending.keys().copied().collect();
        assert_eq!(pending, [id.job(0), id.job(1)]);
    }

    #[test]
    fn promotions_come_before_new_configurations() {
        let search = search_with(1, 9, 3, |file| file.method = MethodName::Bohb);
        let mut simulation = Simulation::new(search);
        simulation.state.num_trainers = 2;
        simulation.act();
        while simulation.offered.len() < 10 {
            assert!(simulation.step(0, 9, 1));
            simulation.act();
        }
        let order: Vec<String> = simulation
            .offered
            .iter()
            .map(|(job, _)| job.to_string())
            .collect();
        // While the last job of the rung runs, the next bracket begins; then the promotions.
        assert_eq!(&order[8..10], ["c000008-r0", "c000009-r1"]);
    }

    #[test]
    fn a_lost_result_that_a_request_names_is_done_again_although_its_trainer_waits_for_the_answer()
    {
        let search = search_with(1, 9, 3, |file| file.method = MethodName::Bohb);
        let mut simulation = Simulation::new(search.clone());
        simulation.act();
        // Until a request names the result of a promoted job.
        let named = loop {
            assert!(simulation.step(0, 9, 1));
            simulation.act();
            let last = simulation.requests.last().unwrap();
            if let Some(job) = last.finished.iter().find(|job| job.rung > 0) {
                break *job;
            }
        };
        // Another scheduler finds all but that result.
        let mut state = State::new(&search).unwrap();
        for request in &simulation.requests {
            state.see_request(request);
        }
        for (job, score) in simulation.scores.iter().filter(|(job, _)| **job != named) {
            state.see_result(Known::certain(job.attempt(1), *score));
        }
        let offers = |actions: Vec<Action>| {
            actions
                .iter()
                .any(|action| matches!(action, Action::Offer { job, .. } if *job == named))
        };
        assert!(offers(plan(&state, &search.trainers)));
    }

    #[test]
    fn where_nothing_is_learnt_the_store_has_a_configuration_for_each_of_several_trainers() {
        for (learns, num_trainers, least, most) in [
            (false, 1, 0, 0),
            (false, 3, 3, 11),
            (false, 20, 20, 40),
            (true, 3, 0, 0),
        ] {
            let search = search_with(1, 9, 3, |file| {
                file.method = method(learns);
                file.limit = Limit::Configurations(1000);
                file.scheduling = Scheduling::Asynchronous;
            });
            let mut simulation = Simulation::new(search);
            simulation.state.num_trainers = num_trainers;
            simulation.act();
            let mut sizes = BTreeSet::new();
            for _ in 0..300 {
                assert!(simulation.step(0, 9, 1));
                simulation.act();
                let state = &simulation.state;
                if state.awaited.is_empty() {
                    sizes.insert(state.num_in_store());
                    assert_eq!(state.pending.len(), num_trainers as usize);
                }
            }
            assert!(
                sizes.iter().all(|size| (least..=most).contains(size)),
                "{sizes:?}"
            );
            assert!(
                learns || num_trainers == 1 || sizes.contains(&most),
                "{sizes:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_bracket_ends_with_the_sizes_it_must_have(
            events in events(), trainers in 1u32..20, ahead in 0u32..3, brackets in 1u32..8,
            learns in any::<bool>(), small in proptest::option::of(1i64..40),
        ) {
            let mut simulation = Simulation::new(search_with(1, 9, 3, |file| {
                file.method = method(learns);
                file.limit = Limit::Brackets(brackets);
                file.trainers.ahead = ahead;
                if let Some(number) = small {
                    of_whole_numbers(file, number);
                }
            }));
            simulation.state.num_trainers = trainers;
            simulation.run(&events);
            check(&simulation);
            let table = simulation.state.table();
            let wanted: u32 = (0..brackets).map(|bracket| [9, 3, 3][bracket as usize % 3]).sum();
            let total = small.map_or(wanted, |number| wanted.min(u32::try_from(number).unwrap()));
            prop_assert_eq!(table.total(), total);
            prop_assert!(table.expected_jobs().iter().all(|jobs| *jobs <= u64::from(total)));
            let mut first = 0;
            for bracket in 0..table.num_brackets().unwrap_or(brackets) {
                let sizes = table.sizes(bracket).to_vec();
                let mut members: Vec<ConfigurationId> =
                    (first..first + sizes[0]).map(ConfigurationId).collect();
                first += sizes[0];
                for (stage, _) in sizes.iter().enumerate() {
                    let rung = table.first_rung(bracket) + u8::try_from(stage).unwrap();
                    // The jobs of this bracket and rung are exactly the members'.
                    let jobs: Vec<ConfigurationId> = simulation.scores.keys()
                        .filter(|job| job.rung == rung && table.place(job.configuration).bracket == bracket)
                        .map(|job| job.configuration).collect();
                    prop_assert_eq!(&jobs, &members);
                    let mut ranked: Vec<(JobId, f64)> = simulation.evaluated(rung).into_iter()
                        .filter(|(job, _)| members.contains(&job.configuration)).collect();
                    ranked.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
                    let size = sizes.get(stage + 1).map_or(0, |size| *size as usize);
                    members = ranked.iter().take(size).map(|(job, _)| job.configuration).collect();
                    members.sort_unstable();
                }
            }
        }

        #[test]
        fn without_barrier_each_rung_promotes_at_most_its_best_part_and_nothing_is_left(
            events in events(), trainers in 1u32..20, configurations in 1u32..60,
            learns in any::<bool>(),
        ) {
            let mut simulation = Simulation::new(search_with(1, 27, 3, |file| {
                file.method = method(learns);
                file.limit = Limit::Configurations(configurations);
                file.scheduling = Scheduling::Asynchronous;
            }));
            simulation.state.num_trainers = trainers;
            simulation.run(&events);
            check(&simulation);
            prop_assert_eq!(simulation.requests.len(), configurations as usize);
            for rung in 0..3u8 {
                let mut ranked = simulation.evaluated(rung);
                ranked.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
                let count = simulation.scores.iter()
                    .filter(|(job, score)| {
                        let counts = !matches!(score, None | Some(Score::Infeasible(_)));
                        job.rung == rung && counts
                    })
                    .count();
                // Whoever is in the best third at the end was promoted, whatever was promoted before.
                for (job, _) in ranked.iter().take(count / 3) {
                    prop_assert!(simulation.scores.contains_key(&job.configuration.job(rung + 1)));
                }
                // Nobody was promoted who had no loss here.
                for job in simulation.scores.keys().filter(|job| job.rung == rung + 1) {
                    let is_new = simulation.state.table().place(job.configuration).rung == rung + 1;
                    let below = simulation.scores.get(&job.configuration.job(rung));
                    prop_assert!(is_new || matches!(below, Some(Some(Score::Loss(_)))));
                }
            }
        }
    }
}
