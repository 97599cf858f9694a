//! A batch system as a search sees it: what it is asked for, and what a search has in its queue.
//!
//! [`System`] is all that is asked of one; [`crate::slurm`] is one, another would be one more folder like that. Nothing
//! here knows which it is.
//! What is missing in the queue is submitted by [`fill`], and kept there by [`keep`].

pub(crate) mod fill;
pub(crate) mod keep;
pub mod submission;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::format::digest;
use shared::{Directory, Fate};

/// A batch system.
pub(crate) trait System {
    /// Its name, for people.
    fn name(&self) -> &'static str;
    /// The command that people give to submit to it.
    fn command(&self) -> &'static str;
    /// The folder of a search directory with scripts and records of what was submitted to it.
    fn folder(&self) -> &'static str;
    /// The id of the job that this process runs in, if it is in one.
    fn own_job(&self) -> Option<String>;
    /// The id of the array that the job with this id is a task of; the same id if it is of none.
    fn array_of<'a>(&self, job: &'a str) -> &'a str;
    /// Runs the command that submits a batch.
    fn submit(&self, command: &[String]) -> Answer;
    /// All tasks of jobs with one of these names, those that have just ended too.
    ///
    /// # Errors
    /// The batch system cannot be asked.
    fn tasks(&self, names: &[String]) -> Result<Vec<Task>>;
    /// Ends these jobs, or takes them out of the queue.
    ///
    /// # Errors
    /// The batch system refuses.
    fn cancel(&self, jobs: &[String]) -> Result<()>;
    /// The most tasks that one array may have.
    fn largest_array(&self) -> u32;
}

/// What is handed over to a batch system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The text of the script.
    pub(crate) script: String,
    /// The program that submits it, and its arguments.
    pub(crate) command: Vec<String>,
}

/// What a batch system says to a submission.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is this job.
    Job(String),
    /// It says no, as far as can be seen.
    Refused(anyhow::Error),
    /// It has ended well and has named no job: what it said.
    Unclear(String),
}

/// A job to be submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// What it is for.
    pub(crate) role: Role,
    /// The name that the batch system will know it by.
    pub(crate) name: String,
    /// Tasks in the array; 1 for a coordinator.
    pub(crate) tasks: u32,
    /// Nodes on which it shall not run.
    pub(crate) excluded: Vec<String>,
}

/// A number of trainers that are asked for in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its name; `None` where there is one group only.
    pub(crate) name: Option<String>,
    /// How many trainers shall be queued or running.
    pub(crate) number: u32,
}

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An array of trainers.
    Trainers,
    /// Scheduler and sampler.
    Coordinator,
}

impl Kind {
    /// Its name in files and names of jobs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Trainers => "trainers",
            Self::Coordinator => "coordinator",
        }
    }

    /// The name of one of them.
    pub(crate) fn one(self) -> &'static str {
        match self {
            Self::Trainers => "trainer",
            Self::Coordinator => "coordinator",
        }
    }
}

/// What a job is for, and for trainers in which group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Role {
    pub(crate) kind: Kind,
    pub(crate) group: Option<String>,
}

impl Role {
    /// The coordinator's.
    pub(crate) const COORDINATOR: Self = Self {
        kind: Kind::Coordinator,
        group: None,
    };

    /// That of trainers.
    pub(crate) fn trainers(group: Option<String>) -> Self {
        Self {
            kind: Kind::Trainers,
            group,
        }
    }

    /// The name of its jobs of this directory: no other directory has it.
    pub(crate) fn name(&self, root: &Path) -> String {
        let group = self.group.as_ref();
        let group = group.map_or_else(String::new, |group| format!("-{group}"));
        format!("{}{}{group}", name_start(root), self.kind.as_str())
    }

    /// The role that has this name; `None` for names of other directories' jobs.
    pub(crate) fn named(root: &Path, name: &str) -> Option<Self> {
        let rest = name.strip_prefix(&name_start(root))?;
        if rest == Kind::Coordinator.as_str() {
            return Some(Self::COORDINATOR);
        }
        match rest.strip_prefix(Kind::Trainers.as_str())? {
            "" => Some(Self::trainers(None)),
            group => Some(Self::trainers(Some(group.strip_prefix('-')?.to_owned()))),
        }
    }
}

/// What the names of all jobs of one directory begin with.
fn name_start(root: &Path) -> String {
    let folder: String = root
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(30)
        .collect();
    let path = digest(root.to_string_lossy().as_bytes());
    format!("tandem-{folder}-{}-", &path[..10])
}

/// What the state of a task means for the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Queued, about to run, or about to be queued again.
    Waiting,
    /// A program may be at work in it.
    Living,
    /// Over because the program ended by itself.
    Done,
    /// Over because the program failed or could not be started.
    Failed,
    /// Over, or about to be, for a reason that says nothing about the configuration; an attempt in it ended so.
    Ended(Fate),
}

impl Meaning {
    /// Whether the task still is, or will again be, a place where a program runs.
    pub(crate) fn is_live(self) -> bool {
        match self {
            Self::Waiting | Self::Living => true,
            Self::Done | Self::Failed | Self::Ended(_) => false,
        }
    }
}

/// A task that a batch system knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    /// The name of its job.
    pub(crate) name: String,
    /// The id of its job, or of its whole array.
    pub(crate) job: String,
    /// The batch system's name of its state.
    pub(crate) state: String,
    /// What that means.
    pub(crate) meaning: Meaning,
    /// Why it waits or has ended, in the batch system's words.
    pub(crate) reason: String,
    /// Where it runs or ran, if that is known.
    pub(crate) node: Option<String>,
}

/// Tasks of one role in one state, as the queue shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queued {
    /// What they are for.
    pub kind: Kind,
    /// The group that these trainers belong to, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The batch system's name of the state.
    pub state: String,
    /// What it means.
    #[serde(skip)]
    pub meaning: Meaning,
    /// The batch system's reason, such as `Priority` or `Resources`.
    pub reason: String,
    /// How many.
    pub tasks: u32,
}

impl Queued {
    /// The reason, where there is one.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self.reason.as_str() {
            "" | "None" => None,
            reason => Some(reason),
        }
    }
}

/// A line about tasks in one state.
pub(crate) fn describe(queued: &Queued) -> String {
    let meaning = match (queued.meaning, queued.kind) {
        (Meaning::Waiting | Meaning::Living, _) => String::new(),
        (Meaning::Done | Meaning::Failed, _) | (Meaning::Ended(_), Kind::Coordinator) => {
            "; over".into()
        }
        (Meaning::Ended(fate), Kind::Trainers) => {
            format!("; over ({}): jobs in hand are tried again", fate.as_str())
        }
    };
    let reason = queued.reason();
    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    let number = number_of(queued.kind, queued.group.as_deref(), queued.tasks);
    format!("{number} {}{reason}{meaning}", queued.state)
}

/// `1 trainer`, `64 trainers`, `4 trainers of group large`, `1 coordinator`.
pub(crate) fn number_of(kind: Kind, group: Option<&str>, tasks: u32) -> String {
    let name = if tasks == 1 {
        kind.one()
    } else {
        kind.as_str()
    };
    let group = group.map_or_else(String::new, |group| format!(" of group {group}"));
    format!("{tasks} {name}{group}")
}

/// Tasks by role, state and reason.
pub(crate) fn count(root: &Path, tasks: &[Task]) -> Vec<Queued> {
    let mut counts: BTreeMap<(Role, &str, &str), (Meaning, u32)> = BTreeMap::new();
    for task in tasks {
        let Some(role) = Role::named(root, &task.name) else {
            continue;
        };
        let counted = counts.entry((role, &task.state, &task.reason));
        counted.or_insert((task.meaning, 0)).1 += 1;
    }
    let queued = counts
        .into_iter()
        .map(|((role, state, reason), (meaning, tasks))| Queued {
            kind: role.kind,
            group: role.group,
            state: state.to_owned(),
            meaning,
            reason: reason.to_owned(),
            tasks,
        });
    queued.collect()
}

/// What of this search is in the queue; `None` if nothing was ever submitted.
pub(crate) fn queue_if_any(
    system: &dyn System,
    directory: &Directory,
) -> Result<Option<Vec<Queued>>> {
    if !submission::was_any(system, directory)? {
        return Ok(None);
    }
    let root = fs_err::canonicalize(directory.layout().root())?;
    let names = submission::names(system, directory, &root)?;
    Ok(Some(count(&root, &system.tasks(&names)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_a_job_is_for_and_is_of_one_directory_only() {
        let (root, other) = (Path::new("/scratch/mine"), Path::new("/home/mine"));
        for role in [
            Role::COORDINATOR,
            Role::trainers(None),
            Role::trainers(Some("large-2".into())),
        ] {
            let name = role.name(root);
            assert_eq!(Role::named(root, &name), Some(role));
            assert_eq!(Role::named(other, &name), None);
            assert_eq!(Role::named(root, &format!("{name}x-")), {
                let group = name.strip_suffix("-large-2").map(|_| "large-2x-");
                group.map(|group| Role::trainers(Some(group.into())))
            });
        }
        let name = Role::trainers(None).name(root);
        assert!(name.starts_with("tandem-mine-") && name.ends_with("-trainers"));
    }
}
