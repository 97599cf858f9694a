//! One run: processes have their turns until the search is finished, and then it is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shared::{AttemptId, Directory, JobId, Outcome, fs, layout};

use crate::programs::{ALL, ROOT, Role, start};
use crate::tree::Tree;
use crate::world::{Call, Coroutine, Ended, Order, Setting, World};

/// How long a frozen host stands still: longer than the lease and all belief.
const FREEZE: Duration = Duration::from_secs(10);
/// How long a program that gave up is not started again.
const PAUSE: Duration = Duration::from_secs(1);
/// More calls than any search here needs, whatever happens.
const MOST_CALLS: u64 = 400_000;

/// Who chooses what happens.
pub(crate) trait Chooser {
    /// One of the alternatives; the first is that nothing happens.
    fn choose(&mut self, alternatives: &[Order], key: &dyn Fn() -> u64) -> Order;
    /// What is chosen among when every order of calls is to be had; `None`: calls are disturbed one by one.
    fn interleaving(&self) -> Option<Interleaving> {
        None
    }
}

/// What may happen at a call beside another process going first. No program is started again.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) struct Interleaving {
    /// How often one that could go on is made to wait.
    pub(crate) preemptions: u32,
    /// How many crashes, and errors of calls that are done or not.
    pub(crate) faults: u32,
}

impl Interleaving {
    /// No bound.
    pub(crate) const ANY: u32 = u32::MAX;
}

/// Nothing happens.
pub(crate) struct Calm;

impl Chooser for Calm {
    fn choose(&mut self, alternatives: &[Order], _key: &dyn Fn() -> u64) -> Order {
        alternatives[0]
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) calls: u64,
    pub(crate) losses: BTreeMap<JobId, Option<f64>>,
    pub(crate) num_late: usize,
    pub(crate) num_infeasible: usize,
    pub(crate) num_stopped: usize,
    pub(crate) num_attempts: usize,
    pub(crate) has_retried: bool,
    pub(crate) trace: Vec<String>,
}

/// A world with its processes.
pub(crate) struct Run {
    pub(crate) world: Arc<World>,
    processes: Vec<(Role, Coroutine)>,
    frozen: BTreeMap<usize, Duration>,
    /// Calls that were disturbed once in this state, by role.
    offered: BTreeSet<(u8, u64, Call)>,
    violations: Vec<String>,
    is_disturbed: bool,
    restarts: bool,
    /// What is left of an interleaving's bounds.
    left: Interleaving,
    /// Who had the last turn.
    last: Option<usize>,
}

impl Run {
    pub(crate) fn new(tree: Tree, setting: Setting, roles: &[Role], traced: bool) -> Self {
        let world = World::new(tree, setting, traced);
        let mut this = Self {
            world,
            processes: Vec::new(),
            frozen: BTreeMap::new(),
            offered: BTreeSet::new(),
            violations: Vec::new(),
            is_disturbed: false,
            restarts: !roles.iter().any(|role| role.is_short()),
            left: Interleaving {
                preemptions: 0,
                faults: 0,
            },
            last: None,
        };
        for role in roles {
            this.start(*role, Duration::ZERO);
        }
        this
    }

    fn start(&mut self, role: Role, delay: Duration) {
        for mut thread in start(&self.world, role) {
            thread.wake += delay;
            self.processes.push((role, thread));
        }
    }

    /// Gives turns until all programs have ended.
    pub(crate) fn go(&mut self, chooser: &mut dyn Chooser) {
        if let Some(interleaving) = chooser.interleaving() {
            self.left = interleaving;
        }
        let mut current = 0;
        let mut behind = Vec::new();
        loop {
            if self.world.calls() > MOST_CALLS {
                self.violations.push("the search does not end".to_owned());
                break;
            }
            let ready = self.ready();
            let next = [current]
                .into_iter()
                .chain(
                    (0..self.processes.len()).map(|step| (current + step) % self.processes.len()),
                )
                .find(|index| ready.contains(index) && !behind.contains(index));
            let Some(next) = next.or_else(|| ready.first().copied()) else {
                if self.is_deserted() || !self.advance(false) {
                    break;
                }
                continue;
            };
            if behind.contains(&next) {
                behind.clear();
            }
            current = next;
            let order = self.choose(current, &ready, chooser);
            match order {
                Order::Abandon => break,
                Order::Behind => behind.push(current),
                Order::Switch(other) => {
                    current = other;
                    self.resume(other, Order::Go);
                }
                Order::Freeze => {
                    let until = self.world.now() + FREEZE;
                    self.frozen.insert(self.processes[current].1.host, until);
                }
                Order::Time => {
                    self.advance(true);
                }
                Order::Crash if chooser.interleaving().is_some() => {
                    self.kill(self.processes[current].1.host);
                }
                Order::Crash => self.crash(current),
                Order::Go | Order::Fail | Order::Lie | Order::Stale => self.resume(current, order),
            }
        }
        for host in 0..self.processes.len() {
            self.kill(self.processes[host].1.host);
        }
        self.violations.extend(self.world.violations());
    }

    /// Whether some program has left for good while others wait for it: the search was finished, and reopened too late for
    /// all to hear of it. Somebody will start the programs again, as he was told.
    fn is_deserted(&mut self) -> bool {
        let mut wishes = self.processes.iter().filter(|(role, _)| role.is_wish());
        let has_wished = wishes
            .next()
            .is_some_and(|(_, thread)| thread.ended.is_some())
            && wishes.all(|(_, thread)| thread.ended.is_some());
        let has_left = |role: &Role| {
            let mut of_role = self.processes.iter().filter(|(other, _)| other == role);
            of_role.all(|(_, thread)| thread.ended.is_some())
        };
        let is_deserted = has_wished && ALL.iter().any(has_left) && !self.is_finished();
        // Those who wait are stopped.
        self.is_disturbed |= is_deserted;
        is_deserted
    }

    fn is_finished(&self) -> bool {
        let flags = self
            .world
            .quietly(|| Directory::open(Path::new(ROOT)).and_then(|directory| directory.flags()));
        flags.is_ok_and(|flags| flags.is_finished)
    }

    fn ready(&self) -> Vec<usize> {
        let now = self.world.now();
        let is_ready = |(_, thread): &(Role, Coroutine)| {
            thread.ended.is_none()
                && thread.wake <= now
                && self
                    .frozen
                    .get(&thread.host)
                    .is_none_or(|until| *until <= now)
        };
        (0..self.processes.len())
            .filter(|index| is_ready(&self.processes[*index]))
            .collect()
    }

    /// Lets the time go on to the next process that wakes, of those that sleep `only`; false if there is none.
    fn advance(&mut self, only: bool) -> bool {
        let now = self.world.now();
        let wakes = self
            .processes
            .iter()
            .filter(|(_, thread)| thread.ended.is_none() && !(only && thread.wake <= now));
        let next = wakes
            .map(|(_, thread)| {
                let until = self.frozen.get(&thread.host).copied().unwrap_or_default();
                thread.wake.max(until)
            })
            .min();
        if let Some(next) = next {
            self.world.set_now(next.max(self.world.now()));
        }
        next.is_some()
    }

    fn choose(&mut self, index: usize, ready: &[usize], chooser: &mut dyn Chooser) -> Order {
        let (role, thread) = &self.processes[index];
        let Some(call) = thread.call.clone() else {
            return Order::Go;
        };
        if chooser.interleaving().is_some() {
            if call.is_private {
                return Order::Go;
            }
            let others = ready.iter().filter(|other| **other != index);
            let mut alternatives = vec![Order::Go];
            if self.left.preemptions > 0 || self.last != Some(index) {
                alternatives.extend(others.map(|other| Order::Switch(*other)));
            }
            if self.left.preemptions > 0 && self.sleeps() {
                alternatives.push(Order::Time);
            }
            if self.left.faults > 0 {
                if call.is_act || thread.has_acted {
                    alternatives.push(Order::Crash);
                }
                if call.is_act {
                    alternatives.extend([Order::Fail, Order::Lie]);
                }
            }
            if call.is_stale {
                alternatives.push(Order::Stale);
            }
            return self.told(index, chooser, &alternatives);
        }
        if call.is_private {
            // Nobody sees a draft come or go; that it cannot be written is one case.
            let folder = call.path.parent().map(Path::to_owned).unwrap_or_default();
            let key = (
                *role as u8,
                self.world.digest(),
                Call {
                    path: folder,
                    ..call
                },
            );
            if key.2.kind != "create" || !self.offered.insert(key) {
                return Order::Go;
            }
            return self.told(index, chooser, &[Order::Go, Order::Fail]);
        }
        // The same call in the same state of the directory is disturbed once.
        if !self
            .offered
            .insert((*role as u8, self.world.digest(), call.clone()))
        {
            return Order::Go;
        }
        let mut alternatives = vec![Order::Go, Order::Freeze, Order::Fail];
        if ready.len() > 1 {
            alternatives.push(Order::Behind);
        }
        if call.is_act {
            alternatives.push(Order::Lie);
        }
        if call.is_act || thread.has_acted {
            alternatives.push(Order::Crash);
        }
        if call.is_stale {
            alternatives.push(Order::Stale);
        }
        self.told(index, chooser, &alternatives)
    }

    fn sleeps(&self) -> bool {
        let now = self.world.now();
        self.processes
            .iter()
            .any(|(_, thread)| thread.ended.is_none() && thread.wake > now)
    }

    fn told(&mut self, index: usize, chooser: &mut dyn Chooser, alternatives: &[Order]) -> Order {
        if alternatives.len() == 1 {
            return Order::Go;
        }
        let key = || {
            let threads: Vec<(usize, Duration, Option<Call>)> = self
                .processes
                .iter()
                .enumerate()
                .filter(|(_, (_, thread))| thread.ended.is_none())
                .map(|(index, (_, thread))| (index, thread.wake, thread.call.clone()))
                .collect();
            self.world.key(&threads, (self.left, self.last))
        };
        let order = chooser.choose(alternatives, &key);
        let is_preempted =
            order == Order::Time || matches!(order, Order::Switch(_)) && self.last == Some(index);
        if is_preempted && self.left.preemptions != Interleaving::ANY {
            self.left.preemptions -= 1;
        }
        if matches!(order, Order::Crash | Order::Fail | Order::Lie) {
            self.left.faults = self.left.faults.saturating_sub(1);
        }
        if matches!(
            order,
            Order::Freeze | Order::Crash | Order::Fail | Order::Lie | Order::Time
        ) {
            self.is_disturbed = true;
        }
        if order != Order::Go && order != Order::Abandon {
            let thread = &self.processes[index].1;
            self.world.note(|| format!("{}: {order:?}", thread.name));
        }
        order
    }

    fn resume(&mut self, index: usize, order: Order) {
        self.last = Some(index);
        let (role, thread) = &mut self.processes[index];
        if let Some(call) = &thread.call {
            let name = &thread.name;
            self.world
                .note(|| format!("{name}: {} {}", call.kind, call.path.display()));
        }
        thread.resume(order);
        let role = *role;
        match &thread.ended {
            None | Some(Ended::Well | Ended::Crashed) => {}
            Some(Ended::Failed(complaint)) => {
                let (name, host) = (thread.name.clone(), thread.host);
                self.world.note(|| format!("{name} gives up: {complaint}"));
                if !self.is_disturbed {
                    self.violations.push(format!("{name} gave up: {complaint}"));
                }
                // As SLURM does; a trainer's other thread goes with it.
                self.kill(host);
                if self.restarts {
                    self.start(role, PAUSE);
                }
            }
            Some(Ended::Panicked(message)) => {
                let violation = format!("{} panicked: {message}", thread.name);
                self.violations.push(violation);
            }
        }
    }

    fn crash(&mut self, index: usize) {
        let (role, host) = (self.processes[index].0, self.processes[index].1.host);
        self.kill(host);
        self.start(role, Duration::ZERO);
    }

    fn kill(&mut self, host: usize) {
        self.world.kill(host);
        for (_, thread) in &mut self.processes {
            if thread.host == host && thread.ended.is_none() {
                thread.resume(Order::Go);
            }
        }
    }

    /// What happened that must never happen.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }

    /// What came of it, if the search is to be finished.
    pub(crate) fn judge(mut self, expected: Option<&BTreeMap<JobId, Option<f64>>>) -> Report {
        let mut report = Report {
            calls: self.world.calls(),
            trace: self.world.trace(),
            ..Report::default()
        };
        let world = Arc::clone(&self.world);
        let looked = world.quietly(|| self.look(&mut report));
        if let Err(error) = looked {
            self.violations.push(error.to_string());
        }
        if let Some(expected) = expected
            && *expected != report.losses
        {
            self.violations
                .push("the results are not those of an undisturbed search".to_owned());
        }
        if !self.is_disturbed && report.num_late + report.num_attempts > 0 {
            self.violations.push(format!(
                "{} late results and {} ended attempts, although nobody stood still or died",
                report.num_late, report.num_attempts
            ));
        }
        report.violations = self.violations;
        report
    }

    fn look(&mut self, report: &mut Report) -> shared::Result<()> {
        let directory = Directory::open(Path::new(ROOT))?;
        if !directory.flags()?.is_finished {
            self.violations
                .push("the search is not finished".to_owned());
        }
        let view = directory.jobs()?;
        if !view.open.is_empty() || !view.claimed.is_empty() {
            self.violations.push(format!("left behind: {view:?}"));
        }
        let is_stopping = directory.search().is_stopping();
        for result in directory.all_results()? {
            if matches!(result.outcome, Outcome::Lost { .. }) {
                self.violations.push(format!("{} was lost", result.job()));
            }
            if matches!(result.outcome, Outcome::Infeasible { .. }) {
                let next = JobId {
                    rung: result.job().rung + 1,
                    ..result.job()
                };
                if directory.has_result(next)? {
                    self.violations
                        .push(format!("{} was promoted", result.job()));
                }
                report.num_infeasible += 1;
            }
            // Which results a training is compared with depends on who was first.
            let loss = result.outcome.loss().filter(|_| !is_stopping);
            report.losses.insert(result.job(), loss);
            if let Outcome::Stopped { limit, .. } = result.outcome {
                report.num_stopped += 1;
                let proposal = directory.read_proposal(result.job().configuration)?;
                let checks = proposal.map_or_else(Vec::new, |proposal| proposal.checks);
                if checks.iter().all(|check| check.loss != Some(limit)) {
                    self.violations
                        .push(format!("{} was stopped by another limit", result.job()));
                }
            }
        }
        for shard in directory.shards(layout::RETRIES)? {
            for superseded in directory.list_shard::<AttemptId>(layout::RETRIES, shard)? {
                report.has_retried = true;
                let first = directory.read_result(superseded.job)?;
                if first.is_none_or(|first| first.attempt != superseded) {
                    self.violations
                        .push(format!("the first result of {} is gone", superseded.job));
                }
                let last = directory.last_result(superseded.job)?;
                if last.is_none_or(|last| last.supersedes != Some(superseded)) {
                    self.violations
                        .push(format!("{} was not done again", superseded.job));
                }
            }
        }
        let paths = directory.layout();
        if !fs::list(&paths.path(layout::ASIDE))?.is_empty() {
            self.violations.push("files were set aside".to_owned());
        }
        report.num_late = fs::list(&paths.path(layout::LATE))?.len();
        for shard in directory.shards(layout::ATTEMPTS)? {
            report.num_attempts += fs::list(&paths.shard(layout::ATTEMPTS, shard))?.len();
        }
        Ok(())
    }
}

/// A directory in which a search begins.
pub(crate) fn fresh(file: &shared::SearchFile) -> Tree {
    let world = World::new(Tree::default(), Setting::default(), false);
    world.quietly(|| {
        fs::make_folder(Path::new(ROOT)).expect("a folder can be made");
        Directory::create(Path::new(ROOT), file, Path::new("search.json"))
            .expect("a directory can be made");
    });
    world.tree()
}

/// A whole search by all programs, and by somebody who wishes something beyond it.
pub(crate) fn whole(
    tree: &Tree,
    setting: Setting,
    chooser: &mut dyn Chooser,
    expected: Option<&BTreeMap<JobId, Option<f64>>>,
    is_traced: bool,
    wish: Option<Role>,
) -> Report {
    let Some(wish) = wish else {
        let mut run = Run::new(tree.clone(), setting, &ALL, is_traced);
        run.go(chooser);
        return run.judge(expected);
    };
    let roles = [&ALL[..], &[wish]].concat();
    let mut run = Run::new(tree.clone(), setting, &roles, is_traced);
    run.go(chooser);
    // Where it came after the last word, the programs have left and are started again.
    let mut rest = Run::new(run.world.tree(), setting, &ALL, is_traced);
    rest.go(&mut Calm);
    rest.violations.extend(run.violations());
    rest.is_disturbed |= run.is_disturbed;
    let mut report = rest.judge(expected);
    report.calls += run.world.calls();
    report.trace = [run.world.trace(), report.trace].concat();
    if wish == Role::Retry && !report.has_retried {
        let complaint = "nobody was heard who asked for a retry";
        report.violations.push(complaint.to_owned());
    }
    report
}
