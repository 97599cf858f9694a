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
fn a_lost_result_that_a_request_names_is_done_again_although_its_trainer_waits_for_the_answer() {
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
