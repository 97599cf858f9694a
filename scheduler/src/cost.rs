//! `scheduler plan --cost`: what a search will cost, played through before it starts.
//!
//! Jobs take their budgets and are promoted as in the search; which configuration is better than which is left to chance,
//! and none fails. Trainers may die and be preempted at given
//! rates: a death loses what was trained since the last checkpoint, and the lease passes before another trainer goes
//! on; a preemption loses nothing but the time until the trainer is back.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::exit::{Code, Failure};
use shared::hyperband::{Schedule, Table};
use shared::search::Promotion;
use shared::wording::{duration, significant, thousands};
use shared::{BudgetUnit, ConfigurationId, Directory, Invalid, JobId, Score, Search, Seed};

use crate::init;

/// Arguments of a forecast.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CostArgs {
    /// Say instead what the search will cost: jobs by rung, GPU-hours, wall time, checkpoints; takes a search file, too
    #[arg(long)]
    pub(crate) cost: bool,
    /// Trainers at work at the same time
    #[arg(long, value_name = "N", default_value_t = 1, requires = "cost", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    trainers: u32,
    /// Seconds that an epoch or a step takes; budgets in seconds need none
    #[arg(long, value_name = "S", requires = "cost", value_parser = positive)]
    unit_s: Option<f64>,
    /// Seconds a job takes in addition to its budget: loading data, validation, test
    #[arg(long, value_name = "S", default_value_t = 0.0, requires = "cost", value_parser = not_negative)]
    beside_s: f64,
    /// How often a day each trainer dies without warning
    #[arg(long, value_name = "N", default_value_t = 0.0, requires = "cost", value_parser = not_negative)]
    deaths: f64,
    /// How often a day each trainer is preempted or reaches its time limit
    #[arg(long, value_name = "N", default_value_t = 0.0, requires = "cost", value_parser = not_negative)]
    preemptions: f64,
    /// Seconds until a trainer that died or was preempted is replaced
    #[arg(long, value_name = "S", default_value_t = 600.0, requires = "cost", value_parser = not_negative)]
    back_s: f64,
    /// Size of a checkpoint in MiB: about three times the weights
    #[arg(long, value_name = "MIB", requires = "cost", value_parser = positive)]
    checkpoint_mib: Option<f64>,
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number: Result<f64, _> = text.parse();
    let number = number
        .ok()
        .filter(|number| *number >= 0.0 && number.is_finite()); // said below
    number.ok_or_else(|| "a number of at least 0 is needed".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    let number = not_negative(text).ok().filter(|number| *number > 0.0); // said below
    number.ok_or_else(|| "a number above 0 is needed".to_owned())
}

/// The forecast for a search file or a search directory, for people.
///
/// # Errors
/// The search is wrong, or its budgets are in epochs or steps and nobody says how long those take.
pub(crate) fn run(target: &Path, args: &CostArgs) -> Result<String> {
    let search = if target.is_dir() {
        Directory::observe(target)?.search().clone()
    } else {
        init::check(target)?
    };
    let unit_s = match (search.ladder.unit(), args.unit_s) {
        (BudgetUnit::Seconds | BudgetUnit::CpuSeconds, None) => 1.0,
        (BudgetUnit::Epochs | BudgetUnit::Steps, Some(seconds)) => seconds,
        (unit @ (BudgetUnit::Epochs | BudgetUnit::Steps), None) => {
            let message = format!(
                "the budgets are {}: say with --unit-s how many seconds one takes",
                unit.symbol()
            );
            return Err(Failure::new(Code::Usage, message).into());
        }
        (BudgetUnit::Seconds | BudgetUnit::CpuSeconds, Some(_)) => {
            let message = "the budgets are seconds already: --unit-s is for epochs and steps";
            return Err(Failure::new(Code::Usage, message).into());
        }
    };
    let conditions = Conditions::new(&search, args, unit_s);
    let played = play(&search, &conditions)?;
    Ok(text(&search, args, &conditions, &played))
}

/// Under what a search is played.
#[derive(Debug, Clone, PartialEq)]
struct Conditions {
    num_trainers: usize,
    /// Seconds that a job of each rung takes.
    job_s: Vec<f64>,
    deaths_a_second: f64,
    preemptions_a_second: f64,
    back_s: f64,
    checkpoint_s: f64,
    lease_s: f64,
}

impl Conditions {
    fn new(search: &Search, args: &CostArgs, unit_s: f64) -> Self {
        const DAY_S: f64 = 86_400.0;
        let ladder = &search.ladder;
        let amount = |rung: u8| ladder.budget(rung).amount;
        let job_s = (0..ladder.num_levels()).map(|rung| {
            let before = match (search.promotion, rung.checked_sub(1)) {
                (Promotion::Continue, Some(below)) => amount(below),
                _ => 0.0,
            };
            (amount(rung) - before) * unit_s + args.beside_s
        });
        Self {
            num_trainers: usize::try_from(args.trainers).unwrap_or(usize::MAX),
            job_s: job_s.collect(),
            deaths_a_second: args.deaths / DAY_S,
            preemptions_a_second: args.preemptions / DAY_S,
            back_s: args.back_s,
            checkpoint_s: search.trainers.checkpoint_s,
            lease_s: search
                .trainers
                .lease_s
                .unwrap_or(10.0 * search.trainers.heartbeat_s),
        }
    }
}

/// What became of a search.
#[derive(Debug, Clone, PartialEq, Default)]
struct Played {
    /// Jobs done on each rung.
    jobs: Vec<u64>,
    /// Seconds until the last one.
    wall_s: f64,
    /// Seconds in which trainers trained, what was lost included.
    busy_s: f64,
    /// Of these, seconds that were lost.
    lost_s: f64,
    deaths: u64,
    preemptions: u64,
}

/// A job, or what is left of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    job: JobId,
    left_s: f64,
}

/// Something that happens at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    /// A trainer looks for a job.
    Free,
    /// A job has its result.
    Done(JobId),
    /// What an interrupted trainer left can be taken by another one.
    Open(Part),
}

/// Plays a search in which no configuration fails, and which is as good as which is left to chance.
fn play(search: &Search, conditions: &Conditions) -> Result<Played, Invalid> {
    let table = Table::new(search)?;
    let mut rng = Seed::new(0).child("cost", "").rng();
    let mut played = Played {
        jobs: vec![0; usize::from(table.num_rungs())],
        ..Played::default()
    };
    let mut game = Game {
        schedule: Schedule::new(&table),
        table,
        next: 0,
        open: Vec::new(),
    };
    let mut events: Vec<(f64, Event)> = vec![(0.0, Event::Free); conditions.num_trainers];
    let mut num_idle = 0;
    while let Some((now, event)) = next(&mut events) {
        match event {
            Event::Free => {}
            Event::Done(job) => {
                played.jobs[usize::from(job.rung)] += 1;
                played.wall_s = now;
                game.schedule.record(job, Some(Score::Loss(rng.random())));
            }
            Event::Open(part) => game.open.push(part),
        }
        // Whoever found nothing looks again; the one that is free now as well.
        num_idle += usize::from(event == Event::Free);
        while num_idle > 0
            && let Some(part) = game.take(conditions)
        {
            num_idle -= 1;
            events.extend(work(part, now, conditions, &mut rng, &mut played));
        }
    }
    Ok(played)
}

/// The earliest event; of several the one that was added first, so that results count before anybody looks for a job.
fn next(events: &mut Vec<(f64, Event)>) -> Option<(f64, Event)> {
    let order = |(index, (at, _)): &(usize, &(f64, Event))| (*at, *index);
    let earliest = events.iter().enumerate().min_by(|a, b| {
        let ((at, index), (other_at, other_index)) = (order(a), order(b));
        at.total_cmp(&other_at).then(index.cmp(&other_index))
    });
    let index = earliest.map(|(index, _)| index)?;
    Some(events.remove(index))
}

/// A search under way.
struct Game {
    table: Table,
    schedule: Schedule,
    /// Configurations begun.
    next: u32,
    /// Given back, or taken back from the dead.
    open: Vec<Part>,
}

impl Game {
    /// The next job for a trainer, as the scheduler would offer it.
    fn take(&mut self, conditions: &Conditions) -> Option<Part> {
        let part = |job: JobId| Part {
            job,
            left_s: conditions.job_s[usize::from(job.rung)],
        };
        if !self.open.is_empty() {
            return Some(self.open.remove(0));
        }
        let promoted = self.schedule.promotions().next();
        let new = || {
            let id = ConfigurationId(self.next);
            (self.next < self.table.total()).then(|| id.job(self.table.place(id).rung))
        };
        let job = promoted.or_else(new)?;
        if promoted.is_some() {
            self.schedule.offered(job);
        } else {
            self.next += 1;
        }
        Some(part(job))
    }
}

/// What comes of a trainer's work on a job from now on.
fn work(
    part: Part,
    now: f64,
    conditions: &Conditions,
    rng: &mut ChaCha12Rng,
    played: &mut Played,
) -> [(f64, Event); 2] {
    let Some((after_s, is_death)) =
        interruption(conditions, rng).filter(|(after_s, _)| *after_s < part.left_s)
    else {
        played.busy_s += part.left_s;
        let end_s = now + part.left_s;
        return [(end_s, Event::Done(part.job)), (end_s, Event::Free)];
    };
    let (lost_s, lease_s) = if is_death {
        played.deaths += 1;
        (after_s % conditions.checkpoint_s, conditions.lease_s)
    } else {
        played.preemptions += 1;
        (0.0, 0.0)
    };
    played.busy_s += after_s;
    played.lost_s += lost_s;
    let left = Part {
        left_s: part.left_s - after_s + lost_s,
        ..part
    };
    let at = now + after_s;
    [
        (at + lease_s, Event::Open(left)),
        (at + conditions.back_s, Event::Free),
    ]
}

/// When a trainer is interrupted, from now on, and whether it dies; `None`: never.
fn interruption(conditions: &Conditions, rng: &mut ChaCha12Rng) -> Option<(f64, bool)> {
    let rate = conditions.deaths_a_second + conditions.preemptions_a_second;
    let (after, kind): (f64, f64) = (rng.random(), rng.random());
    (rate > 0.0).then(|| {
        (
            -(1.0 - after).ln() / rate,
            kind * rate < conditions.deaths_a_second,
        )
    })
}

fn text(search: &Search, args: &CostArgs, conditions: &Conditions, played: &Played) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes everything");
    let (hours, ladder) = (|s: f64| significant(s / 3600.0, 3), &search.ladder);
    line(format!(
        "{:>4}  {:>16}  {:>8}  {:>10}",
        "rung", "budget", "jobs", "hours"
    ));
    for (rung, jobs) in (0..ladder.num_levels()).zip(&played.jobs) {
        let spent_s = conditions.job_s[usize::from(rung)] * *jobs as f64;
        let budget = ladder.budget(rung).to_string();
        line(format!(
            "{rung:>4}  {budget:>16}  {jobs:>8}  {:>10}",
            hours(spent_s)
        ));
    }
    let jobs: u64 = played.jobs.iter().sum();
    let all = thousands(usize::try_from(jobs).unwrap_or(usize::MAX));
    let what = format!(
        "{:>4}  {:>16}  {all:>8}  {:>10}",
        "all",
        "",
        hours(played.busy_s)
    );
    line(format!(
        "{what}  of one trainer: {} days\n",
        significant(played.busy_s / 86_400.0, 3)
    ));
    let share = played.busy_s / (conditions.num_trainers as f64 * played.wall_s);
    line(format!(
        "with {} trainers: {}, of which they train {} %",
        conditions.num_trainers,
        duration(played.wall_s),
        significant(100.0 * share, 3)
    ));
    if played.deaths + played.preemptions > 0 {
        line(format!(
            "{} deaths and {} preemptions lose {} h of training",
            played.deaths,
            played.preemptions,
            hours(played.lost_s)
        ));
    }
    if search.is_stopping() {
        line(
            "this is the most that it can be: trainings are stopped at lower rungs' budgets, about one in eta goes on at each, \
             and all of them are counted in full here"
                .to_owned(),
        );
    }
    let (kept, under_way) = (
        played.jobs.last().copied().unwrap_or(0),
        conditions.num_trainers,
    );
    let size = args.checkpoint_mib.map_or_else(String::new, |mib| {
        let gib = (kept + under_way as u64) as f64 * mib / 1024.0;
        format!(": {} GiB", significant(gib, 3))
    });
    line(format!(
        "checkpoints: {kept} of full budgets stay, and up to {under_way} of jobs under way{size}"
    ));
    text
}

#[cfg(test)]
mod tests {
    use shared::search::{Limit, MethodName};

    use super::*;
    use crate::test_search::search_with;

    /// The budgets of the poster, in minutes.
    fn poster(brackets: u32, change: impl FnOnce(&mut shared::SearchFile)) -> Search {
        search_with(400, 10_800, 3, |file| {
            file.method = MethodName::Bohb;
            file.limit = Limit::Brackets(brackets);
            change(file);
        })
    }

    fn conditions(search: &Search, num_trainers: usize) -> Conditions {
        let rungs = 0..search.ladder.num_levels();
        Conditions {
            num_trainers,
            job_s: rungs
                .map(|rung| search.ladder.budget(rung).amount)
                .collect(),
            deaths_a_second: 0.0,
            preemptions_a_second: 0.0,
            back_s: 600.0,
            checkpoint_s: 300.0,
            lease_s: 240.0,
        }
    }

    #[test]
    fn jobs_are_those_of_hpbandsters_brackets() {
        let search = poster(32, |_| {});
        let played = play(&search, &conditions(&search, 10)).unwrap();
        // 27, 18, 12 and 8 in a cycle of four brackets: 520 in all.
        assert_eq!(played.jobs, [216, 144, 96, 64]);
        assert_eq!(played.jobs, Table::new(&search).unwrap().expected_jobs());
        let spent: f64 = [
            216.0 * 400.0,
            144.0 * 1200.0,
            96.0 * 3600.0,
            64.0 * 10_800.0,
        ]
        .iter()
        .sum();
        assert!((played.busy_s - spent).abs() < 1e-3, "{}", played.busy_s);
    }

    #[test]
    fn one_trainer_never_waits_and_many_do_at_the_end() {
        let search = poster(8, |_| {});
        let wall_s = |num_trainers| {
            let played = play(&search, &conditions(&search, num_trainers)).unwrap();
            let share = played.busy_s / (num_trainers as f64 * played.wall_s);
            (played.wall_s, share)
        };
        assert!((wall_s(1).1 - 1.0).abs() < 1e-9);
        let (few, many) = (wall_s(10), wall_s(1000));
        assert!(few.0 < wall_s(1).0 / 5.0 && few.1 > 0.5, "{few:?}");
        // A configuration that goes all the way up takes all four budgets one after the other.
        assert!(
            (many.0 - 16_000.0).abs() < 1e-6 && many.1 < 0.05,
            "{many:?}"
        );
    }

    #[test]
    fn the_dead_lose_what_they_had_not_saved_and_the_preempted_nothing() {
        let search = poster(8, |_| {});
        let calm = play(&search, &conditions(&search, 4)).unwrap();
        let played = |deaths: f64, preemptions: f64| {
            let mut conditions = conditions(&search, 4);
            conditions.deaths_a_second = deaths / 86_400.0;
            conditions.preemptions_a_second = preemptions / 86_400.0;
            play(&search, &conditions).unwrap()
        };
        let (dying, preempted) = (played(8.0, 0.0), played(0.0, 8.0));
        for disturbed in [&dying, &preempted] {
            assert_eq!(disturbed.jobs, calm.jobs);
            assert!((disturbed.busy_s - disturbed.lost_s - calm.busy_s).abs() < 1e-3);
            assert!(disturbed.wall_s > calm.wall_s);
        }
        assert!(dying.deaths > 20 && dying.preemptions == 0);
        // Half of the time between checkpoints, on average.
        let lost_s = dying.lost_s / dying.deaths as f64;
        assert!((100.0..200.0).contains(&lost_s), "{lost_s}");
        assert!(preempted.preemptions > 20 && preempted.lost_s < 1e-9);
    }

    #[test]
    fn promotions_without_barrier_wait_for_nobody() {
        let with = poster(8, |_| {});
        let without = poster(8, |file| {
            file.scheduling = shared::search::Scheduling::Asynchronous;
        });
        let wall_s = |search: &Search| play(search, &conditions(search, 40)).unwrap().wall_s;
        assert!(wall_s(&without) < wall_s(&with));
    }

    #[test]
    fn what_goes_on_from_its_checkpoint_costs_the_difference() {
        let search = poster(1, |file| file.promotion = Promotion::Continue);
        let args = CostArgs {
            cost: true,
            trainers: 1,
            unit_s: None,
            beside_s: 10.0,
            deaths: 0.0,
            preemptions: 0.0,
            back_s: 0.0,
            checkpoint_mib: None,
        };
        let conditions = Conditions::new(&search, &args, 1.0);
        assert_eq!(conditions.job_s, [410.0, 810.0, 2410.0, 7210.0]);
    }
}
