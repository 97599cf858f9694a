//! Submits what is missing in the queue.
//!
//! What is there is asked of the batch system, by names that belong to one directory alone, so repeating it never doubles
//! an array. Each submission leaves its script and a record in the system's [folder](System::folder).
//!
//! Two commands at the same time do not double it either: each takes the next number first, then looks at the queue, and
//! submits under numbers that must be new. Either they want the same number, and one stops; or one has seen the other's
//! script, and looked at the queue when the other's record told that the batch system had it.
//!
//! A submission may have come about although its command says no or nothing that is understood (the controller was slow,
//! the site's scripts print something): then the queue is asked before anybody is told.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use shared::cli::print;
use shared::exit::{Code, Failure};
use shared::fs::{self, Published};
use shared::{Directory, clock};
use tracing::{info, warn};

use super::submission::{self, Submission, UNKNOWN};
use super::{Answer, Batch, Group, Kind, Order, Role, System, Task, number_of};

/// Pauses before the looks whether the queue has what may have been submitted.
const LOOKS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// The queue of one search.
pub(crate) struct Queue<'a> {
    pub(crate) system: &'a dyn System,
    /// Opened by its absolute path.
    pub(crate) directory: &'a Directory,
    /// The trainers that are asked for.
    pub(crate) groups: &'a [Group],
    /// The batch of an order whose script will be at this path.
    pub(crate) write: &'a dyn Fn(&Order, &Path) -> Batch,
}

impl Queue<'_> {
    pub(crate) fn root(&self) -> &Path {
        self.directory.layout().root()
    }

    /// All tasks of this search that the batch system knows.
    pub(crate) fn tasks(&self) -> Result<Vec<Task>> {
        let mut names = submission::names(self.system, self.directory, self.root())?;
        for group in self.groups {
            let name = Role::trainers(group.name.clone()).name(self.root());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        self.system.tasks(&names)
    }

    /// What is missing among these tasks.
    pub(crate) fn missing(&self, tasks: &[Task], excluded: &[String]) -> Vec<Order> {
        let live: Vec<&str> = tasks
            .iter()
            .filter(|task| task.meaning.is_live())
            .map(|task| task.name.as_str())
            .collect();
        // Who misses nothing need not ask.
        let mut largest_array = None;
        missing(self.root(), self.groups, &live, &mut || {
            *largest_array.get_or_insert_with(|| self.system.largest_array())
        })
        .into_iter()
        .map(|(role, tasks)| Order {
            name: role.name(self.root()),
            excluded: match role.kind {
                Kind::Coordinator => Vec::new(),
                Kind::Trainers => excluded.to_vec(),
            },
            role,
            tasks,
        })
        .collect()
    }

    /// Submits orders under the numbers after `last`, given the tasks that were known before.
    pub(crate) fn submit(&self, orders: &[Order], tasks: &[Task], last: u32) -> Result<()> {
        let mut known: BTreeSet<String> = tasks.iter().map(|task| task.job.clone()).collect();
        for (number, order) in (last + 1..).zip(orders) {
            known.insert(self.submit_one(order, number, &known)?);
        }
        Ok(())
    }

    /// Submits one order: the id of its job.
    fn submit_one(&self, order: &Order, number: u32, known: &BTreeSet<String>) -> Result<String> {
        let path = self.script_path(order, number);
        let batch = (self.write)(order, &path);
        if fs::publish_new(&path, batch.script.as_bytes())? == Published::AlreadyThere {
            let message = format!(
                "another `{}` is submitting at this moment (`{}`): see what it did, then run this again",
                self.system.command(),
                path.display()
            );
            return Err(Failure::new(Code::Unforeseen, message).into());
        }
        let system = self.system.name();
        let job = match self.system.submit(&batch.command) {
            Answer::Job(job) => job,
            Answer::Refused(error) => {
                // A job that was refused may be shown as failed. Nobody knows: as if it had been found nowhere, because the
                // next command asks the queue first.
                let found = self.find(order, known, &LOOKS[..1], &|task| task.meaning.is_live());
                let Some(job) = found.unwrap_or_default() else {
                    // Nobody shall wait for its record.
                    fs::remove(&path)?;
                    return Err(error);
                };
                warn!("{error:#}; but it was submitted: the queue has {system} job {job}");
                job
            }
            Answer::Unclear(said) => match self.find(order, known, &LOOKS, &|_task| true) {
                Ok(Some(job)) => job,
                not_found => {
                    record(order, UNKNOWN.to_owned(), &path)?;
                    let what = format!("said `{}`, which is no id of a {system} job", said.trim());
                    return Err(unclear(&path, &batch.command[0], &what, not_found.err()));
                }
            },
        };
        record(order, job.clone(), &path)?;
        let number = number_of(order.role.kind, order.role.group.as_deref(), order.tasks);
        info!(
            "submitted {} job={job} tasks={} script={}",
            order.role.kind.as_str(),
            order.tasks,
            path.display()
        );
        print(&format!("submitted: {number} as {system} job {job}\n"))?;
        Ok(job)
    }

    /// The job of an order that was not in the queue before.
    fn find(
        &self,
        order: &Order,
        known: &BTreeSet<String>,
        looks: &[Duration],
        counts: &dyn Fn(&Task) -> bool,
    ) -> Result<Option<String>> {
        for pause in looks {
            std::thread::sleep(*pause);
            let tasks = self.system.tasks(std::slice::from_ref(&order.name))?;
            let mut jobs = tasks.into_iter().filter(counts).map(|task| task.job);
            if let Some(job) = jobs.find(|job| !known.contains(job)) {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    /// Where the script of an order is.
    pub(crate) fn script_path(&self, order: &Order, number: u32) -> std::path::PathBuf {
        let name = format!("{number:04}-{}.sh", order.role.kind.as_str());
        submission::folder(self.system, self.directory).join(name)
    }
}

/// Records that an order was submitted.
fn record(order: &Order, job: String, script: &Path) -> Result<()> {
    let name = script.file_name().unwrap_or_default();
    let submission = Submission {
        kind: order.role.kind,
        job,
        name: order.name.clone(),
        group: order.role.group.clone(),
        tasks: order.tasks,
        script: name.to_string_lossy().into_owned(),
        excluded: order.excluded.clone(),
        at: clock::now(),
    };
    fs::publish_record(&script.with_extension("json"), &submission)?;
    Ok(())
}

/// The failure of a submission that may have come about.
fn unclear(
    path: &Path,
    command: &str,
    what: &str,
    no_queue: Option<anyhow::Error>,
) -> anyhow::Error {
    let queue = no_queue.map_or_else(
        || "the queue shows no new one".to_owned(),
        |error| format!("the queue cannot be seen ({error:#})"),
    );
    let message = format!(
        "it is not known whether `{}` was submitted: `{command}` {what}, and {queue}; run this again: it submits \
         what the queue lacks",
        path.display()
    );
    Failure::new(Code::Unforeseen, message).into()
}

/// Roles and numbers of tasks to submit, given the names of all live tasks.
fn missing(
    root: &Path,
    groups: &[Group],
    live: &[&str],
    largest_array: &mut dyn FnMut() -> u32,
) -> Vec<(Role, u32)> {
    let num_live = |role: &Role| {
        let name = role.name(root);
        let num_live = live.iter().filter(|live| **live == name).count();
        u32::try_from(num_live).unwrap_or(u32::MAX)
    };
    let mut missing = Vec::new();
    if num_live(&Role::COORDINATOR) == 0 {
        missing.push((Role::COORDINATOR, 1));
    }
    for group in groups {
        let role = Role::trainers(group.name.clone());
        let mut left = group.number.saturating_sub(num_live(&role));
        while left > 0 {
            let tasks = left.min(largest_array().max(1));
            missing.push((role.clone(), tasks));
            left -= tasks;
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_gets_what_it_lacks_in_arrays_as_large_as_they_may_be() {
        let root = Path::new("/scratch/search");
        let group = |name: Option<&str>, number| Group {
            name: name.map(str::to_owned),
            number,
        };
        let role = |name: Option<&str>| Role::trainers(name.map(str::to_owned));
        let groups = [group(None, 3), group(Some("large"), 9)];
        assert_eq!(
            missing(root, &groups, &[], &mut || 4),
            [
                (Role::COORDINATOR, 1),
                (role(None), 3),
                (role(Some("large")), 4),
                (role(Some("large")), 4),
                (role(Some("large")), 1)
            ]
        );
        let names = [
            Role::COORDINATOR.name(root),
            role(None).name(root),
            role(Some("large")).name(root),
            role(Some("other")).name(root),
        ];
        let live: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(
            missing(root, &groups, &live, &mut || 100),
            [(role(None), 2), (role(Some("large")), 8)]
        );
        let live = [vec![live[0]], vec![live[1]; 5]].concat();
        let nobody_asks = &mut || -> u32 { panic!("nothing is missing") };
        assert_eq!(missing(root, &groups[..1], &live, nobody_asks), []);
    }
}
