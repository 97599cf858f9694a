//! `scheduler slurm`: fills SLURM's queue with trainers and one coordinator.
//!
//! What is in the queue is asked of SLURM, by names that belong to one directory alone; the command submits what is
//! missing, so repeating it never doubles the array. Each submission leaves its script and a record in `slurm/`.
//!
//! Two commands at the same time do not double it either: each takes the next number first, then looks at the queue, and
//! submits under numbers that must be new. Either they want the same number, and one stops; or one has seen the other's
//! script, and looked at the queue when the other's record told that SLURM had it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use shared::cli::{print, report};
use shared::exit::{Code, Failure};
use shared::format::Record;
use shared::fs::{self, Published};
use shared::search::digest;
use shared::{Directory, clock, env, layout, store};
use tracing::{info, warn};

use crate::job_state::{JobState, Meaning};
use crate::keep;
use crate::sbatch;
use crate::script::{self, Batch};

/// What `scheduler slurm` is told.
#[derive(Debug, clap::Args)]
pub struct SlurmArgs {
    /// The search directory, on a filesystem that all nodes share
    directory: PathBuf,
    /// How many trainers shall be queued or running
    ///
    /// Needed, unless `--keep=N` says it.
    #[arg(long, value_name = "N", value_parser = num_trainers, required_unless_present = "keep")]
    trainers: Option<u32>,
    /// What `--trainers` and `--keep` come to.
    #[arg(skip)]
    pub(crate) num_trainers: u32,
    /// Time limit of each SLURM job, such as 4:00:00; default: the partition's
    ///
    /// In one of sbatch's forms, and 5 minutes at least. Two minutes before its end a trainer saves a checkpoint and is
    /// queued again.
    #[arg(long, value_name = "T", value_parser = sbatch::time)]
    pub(crate) time: Option<String>,
    /// Partition; default: the cluster's
    #[arg(long, value_name = "P", value_parser = word)]
    pub(crate) partition: Option<String>,
    /// GPUs of each trainer
    #[arg(long, value_name = "G", default_value_t = 0)]
    pub(crate) gpus_per_trainer: u32,
    /// Go on until the search is finished: submit trainers in place of those that have ended
    ///
    /// The coordinator job does so too. After three arrays that ended before a trainer had run for some time, no more
    /// are submitted until somebody has looked and submits by hand. `--keep=N` stands for `--keep --trainers N`.
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = AS_TRAINERS,
        value_parser = Keep::parse
    )]
    pub(crate) keep: Option<Keep>,
    /// Seconds between two looks at SLURM's queue, with --keep
    #[arg(long, default_value_t = 60.0, value_name = "S", value_parser = crate::seconds)]
    pub(crate) poll_s: f64,
    /// Print the scripts and submit nothing
    #[arg(long)]
    dry_run: bool,
    /// More arguments for sbatch, for trainers and coordinator, such as `--account=…`; they come after the script's own
    ///
    /// Those that would hide what was submitted are refused, such as `--job-name`. Of the variables for sbatch only
    /// `SBATCH_ACCOUNT`, `_CONSTRAINT`, `_QOS` and `_RESERVATION` are heard.
    #[arg(last = true, value_name = "SBATCH ARGUMENTS")]
    pub(crate) sbatch: Vec<String>,
}

/// Stands for `--keep` without a number.
const AS_TRAINERS: &str = "as --trainers says";

/// How many trainers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// As `--trainers` says.
    AsTrainers,
    /// So many.
    Number(u32),
}

impl Keep {
    fn parse(text: &str) -> Result<Self, String> {
        if text == AS_TRAINERS {
            return Ok(Self::AsTrainers);
        }
        num_trainers(text).map(Self::Number)
    }
}

/// SLURM's own default, for clusters that do not say.
const DEFAULT_MAX_ARRAY_SIZE: u32 = 1001;

/// How long a submission by another command may take: the controller may be busy. One that takes longer was killed.
const LONGEST_SUBMISSION: Duration = Duration::from_secs(30);
/// More submissions than any search makes.
const LARGEST_NUMBER: u32 = 1_000_000;
/// Between two looks whether it is done.
const SUBMISSION_LOOK: Duration = Duration::from_millis(200);

/// What was submitted: `slurm/0001-trainers.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Trainers or the coordinator.
    pub kind: Kind,
    /// The id SLURM gave it.
    pub slurm_job: String,
    /// The name SLURM knows it by.
    pub name: String,
    /// Tasks in the array; 1 for the coordinator.
    pub tasks: u32,
    /// The script, beside this file.
    pub script: String,
    /// When, RFC 3339 in UTC, for people.
    pub at: String,
}

impl Record for Submission {
    const FORMAT: &'static str = "submission";
    /// 1.0: first.
    const VERSION: [u32; 2] = [1, 0];
}

/// What a SLURM job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An array of trainers.
    Trainers,
    /// Scheduler and sampler.
    Coordinator,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Coordinator, Self::Trainers];

    fn as_str(self) -> &'static str {
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

/// SLURM jobs of one kind in one state, as the queue shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queued {
    /// What they are for.
    pub kind: Kind,
    /// SLURM's name of the state.
    pub state: String,
    /// SLURM's reason, such as `Priority` or `Resources`.
    pub reason: String,
    /// How many.
    pub tasks: u32,
}

impl Queued {
    /// SLURM's reason, where it gives one.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self.reason.as_str() {
            "" | "None" => None,
            reason => Some(reason),
        }
    }
}

/// Submits what is missing.
pub fn run(mut args: SlurmArgs) -> Result<Code> {
    args.num_trainers = how_many(args.trainers, args.keep).map_err(usage)?;
    sbatch::check(&args.sbatch).map_err(usage)?;
    let args = &args;
    // With the name that the user gave, if it is none.
    Directory::open(&args.directory)?;
    let root = fs_err::canonicalize(&args.directory)?;
    check_path(&root).map_err(usage)?;
    let directory = Directory::open(&root)?;
    if directory.signs()?.is_finished {
        report("the search is finished: nothing to submit");
        return Ok(Code::Done);
    }
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    let programs = this.parent().unwrap_or(Path::new("")).to_path_buf();
    if args.dry_run {
        let mut text = String::new();
        for (kind, tasks) in missing(args, 0, 0, max_array_size()) {
            let script = text_of(args, &root, &programs, kind, tasks);
            let more = if args.sbatch.is_empty() {
                String::new()
            } else {
                format!(", submitted with {}", args.sbatch.join(" "))
            };
            writeln!(text, "# ---- {}{more} ----\n{script}", kind.as_str())?;
        }
        print(&text)?;
        return Ok(Code::Done);
    }
    if directory.signs()?.is_stopped {
        warn!(
            "the search is stopped: programs that start will leave at once (`scheduler stop --undo`)"
        );
    }
    if store::slurm_job().is_none() {
        let unheard = env::unheard_by_sbatch();
        if !unheard.is_empty() {
            warn!(
                "{} not heard by sbatch: give arguments after `--`",
                unheard.join(", ")
            );
        }
    }
    let_nobody_write();
    if args.keep.is_some() {
        return keep::keep(args, &Directory::open(&root)?, &programs);
    }
    let last = last_submission(&directory)?;
    let queue = count(&tasks(&root)?);
    for queued in &queue {
        print(&format!("in the queue: {}\n", describe(queued)))?;
    }
    submit_missing(args, &directory, &programs, &queue, last)?;
    Ok(Code::Done)
}

fn usage(message: String) -> Failure {
    Failure::new(Code::Usage, message)
}

/// How many trainers are asked for.
fn how_many(trainers: Option<u32>, keep: Option<Keep>) -> Result<u32, String> {
    match (trainers, keep) {
        (Some(number), None | Some(Keep::AsTrainers)) | (None, Some(Keep::Number(number))) => {
            Ok(number)
        }
        (Some(number), Some(Keep::Number(kept))) if number == kept => Ok(number),
        (Some(number), Some(Keep::Number(kept))) => Err(format!(
            "--trainers {number} and --keep={kept} are different numbers of trainers"
        )),
        (None, _) => Err("how many trainers? --trainers N or --keep=N says it".to_owned()),
    }
}

/// Whether a batch script and SLURM can name this directory. SLURM knows no way to write these characters in an
/// `#SBATCH` line.
fn check_path(root: &Path) -> Result<(), String> {
    let is_bad = |c: char| c == '"' || c == '\\' || c.is_control();
    match root.to_str() {
        Some(text) if !text.contains(is_bad) => Ok(()),
        _ => Err(format!(
            "the search directory `{}` cannot be used with SLURM: no double quote, backslash or control character \
             may be in its path, nor what is not UTF-8",
            root.to_string_lossy().escape_debug()
        )),
    }
}

/// sbatch takes the umask along, with which SLURM makes the logs.
fn let_nobody_write() {
    let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
    // It can only be read by being set.
    let umask = rustix::process::umask(all);
    rustix::process::umask(umask | Mode::WOTH);
}

/// The number of the last submission, by whomever; 0 if there is none. To be asked before SLURM's queue is: what had this
/// number or an earlier one is in it.
pub(crate) fn last_submission(directory: &Directory) -> Result<u32> {
    let folder = directory.layout().path(layout::SLURM);
    let start = Instant::now();
    loop {
        let names = fs::list(&folder)?;
        let last_with = |end: &str| -> u32 {
            let of_kind = names.iter().filter(|name| name.ends_with(end));
            let numbers = of_kind.filter_map(|name| name.split_once('-')?.0.parse().ok());
            // Foreign names have none, or one that no search gets to.
            numbers
                .filter(|&number| number < LARGEST_NUMBER)
                .max()
                .unwrap_or(0)
        };
        let (script, record) = (last_with(".sh"), last_with(".json"));
        if script <= record || start.elapsed() > LONGEST_SUBMISSION {
            return Ok(script.max(record));
        }
        if start.elapsed() < SUBMISSION_LOOK {
            info!("waiting for another `scheduler slurm`, which is about to submit {script:04}");
        }
        std::thread::sleep(SUBMISSION_LOOK);
    }
}

/// Submits what of `args` was not in the queue, under the numbers after `last`.
pub(crate) fn submit_missing(
    args: &SlurmArgs,
    directory: &Directory,
    programs: &Path,
    queue: &[Queued],
    last: u32,
) -> Result<()> {
    let live = |kind: Kind| -> u32 {
        let of_kind = queue.iter().filter(|queued| queued.kind == kind);
        of_kind
            .filter(|queued| JobState::parse(&queued.state).is_live())
            .map(|queued| queued.tasks)
            .sum()
    };
    let (trainers, coordinators) = (live(Kind::Trainers), live(Kind::Coordinator));
    if coordinators > 0 && trainers >= args.num_trainers {
        return if args.keep.is_some() {
            Ok(())
        } else {
            print("nothing to submit: all that was asked for is queued or running\n")
        };
    }
    let missing = missing(args, trainers, coordinators, max_array_size());
    for (number, (kind, tasks)) in (last + 1..).zip(missing) {
        submit(args, directory, programs, kind, tasks, number)?;
    }
    Ok(())
}

/// What of this search is in SLURM's queue; `None` if nothing was ever submitted.
pub fn queue_if_any(directory: &Directory) -> Result<Option<Vec<Queued>>> {
    let names = fs::list(&directory.layout().path(layout::SLURM))?;
    let is_record = |name: &String| Path::new(name).extension() == Some("json".as_ref());
    let was_submitted = names.iter().any(is_record);
    if !was_submitted {
        return Ok(None);
    }
    let root = fs_err::canonicalize(directory.layout().root())?;
    Ok(Some(count(&tasks(&root)?)))
}

/// The jobs to submit, given how many are queued or running.
fn missing(
    args: &SlurmArgs,
    trainers: u32,
    coordinators: u32,
    max_array_size: u32,
) -> Vec<(Kind, u32)> {
    let mut missing = Vec::new();
    if coordinators == 0 {
        missing.push((Kind::Coordinator, 1));
    }
    let mut left = args.num_trainers.saturating_sub(trainers);
    while left > 0 {
        // Task numbers go from 0 to MaxArraySize - 1.
        let tasks = left.min(max_array_size.max(1));
        missing.push((Kind::Trainers, tasks));
        left -= tasks;
    }
    missing
}

fn text_of(args: &SlurmArgs, root: &Path, programs: &Path, kind: Kind, tasks: u32) -> String {
    let name = job_name(root, kind);
    let batch = Batch {
        root,
        programs,
        name: &name,
        time: args.time.as_deref(),
        partition: args.partition.as_deref(),
    };
    match kind {
        Kind::Trainers => script::trainers(&batch, tasks, args.gpus_per_trainer),
        Kind::Coordinator => {
            let keep = args.keep.map(|_keep| keep::command(args, root, programs));
            script::coordinator(&batch, keep.as_deref())
        }
    }
}

/// The name of the SLURM jobs of one kind of one directory: of no other directory's.
fn job_name(root: &Path, kind: Kind) -> String {
    let folder: String = root
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(30)
        .collect();
    let path = digest(root.to_string_lossy().as_bytes());
    format!("tandem-{folder}-{}-{}", &path[..10], kind.as_str())
}

/// A task of this search that SLURM knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    kind: Kind,
    state: String,
    reason: String,
    /// The id of its job, or of its whole array.
    pub(crate) slurm_job: String,
}

impl Task {
    /// Whether it is queued or running.
    pub(crate) fn is_live(&self) -> bool {
        JobState::parse(&self.state).is_live()
    }
}

/// Asks SLURM once for all jobs of this directory.
pub(crate) fn tasks(root: &Path) -> Result<Vec<Task>> {
    let names: BTreeMap<String, Kind> = Kind::ALL.map(|kind| (job_name(root, kind), kind)).into();
    let list: Vec<&str> = names.keys().map(String::as_str).collect();
    // `-a`: in hidden partitions too; `-r`: one line for each task of an array; `-t all`: those that have just ended too.
    let name = format!("--name={}", list.join(","));
    let text = ask(
        "squeue",
        &["-h", "-a", "-r", "-t", "all", &name, "-o", "%j|%T|%F|%r"],
    )?;
    let mut tasks = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.trim().splitn(4, '|').collect();
        let [name, state, slurm_job, reason] = fields[..] else {
            warn!("squeue says `{line}`, which is not understood");
            continue;
        };
        let Some(kind) = names.get(name) else {
            continue;
        };
        tasks.push(Task {
            kind: *kind,
            state: state.to_owned(),
            reason: reason.to_owned(),
            slurm_job: slurm_job.to_owned(),
        });
    }
    Ok(tasks)
}

/// Tasks by kind, state and reason.
pub(crate) fn count(tasks: &[Task]) -> Vec<Queued> {
    let mut counts: BTreeMap<(Kind, &str, &str), u32> = BTreeMap::new();
    for task in tasks {
        *counts
            .entry((task.kind, &task.state, &task.reason))
            .or_default() += 1;
    }
    let queued = counts
        .into_iter()
        .map(|((kind, state, reason), tasks)| Queued {
            kind,
            state: state.to_owned(),
            reason: reason.to_owned(),
            tasks,
        });
    queued.collect()
}

/// A line about jobs in one state.
pub fn describe(queued: &Queued) -> String {
    let state = JobState::parse(&queued.state);
    let meaning = match (state.meaning(), queued.kind) {
        (Meaning::Waiting | Meaning::Living, _) => String::new(),
        (Meaning::Done, _) | (Meaning::Ended(_), Kind::Coordinator) => "; over".into(),
        (Meaning::Ended(fate), Kind::Trainers) => {
            format!("; over ({}): jobs in hand are tried again", fate.as_str())
        }
    };
    let reason = queued.reason();
    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    let number = number_of(queued.kind, queued.tasks);
    format!("{number} {}{reason}{meaning}", queued.state)
}

/// `1 trainer`, `64 trainers`, `1 coordinator`.
pub(crate) fn number_of(kind: Kind, tasks: u32) -> String {
    let name = if tasks == 1 {
        kind.one()
    } else {
        kind.as_str()
    };
    format!("{tasks} {name}")
}

/// `MaxArraySize` of this cluster.
fn max_array_size() -> u32 {
    let asked = ask("scontrol", &["show", "config"]);
    let found = asked.ok().and_then(|text| {
        // as if it had not said
        let line = text.lines().find(|line| line.starts_with("MaxArraySize"))?;
        line.split_once('=')?.1.trim().parse::<u32>().ok() // not a number: as if it had not said
    });
    found.unwrap_or(DEFAULT_MAX_ARRAY_SIZE)
}

fn submit(
    args: &SlurmArgs,
    directory: &Directory,
    programs: &Path,
    kind: Kind,
    tasks: u32,
    number: u32,
) -> Result<()> {
    let folder = directory.layout().path(layout::SLURM);
    let root = directory.layout().root();
    let script = format!("{number:04}-{}.sh", kind.as_str());
    let path = folder.join(&script);
    let text = text_of(args, root, programs, kind, tasks);
    if fs::publish_new(&path, text.as_bytes())? == Published::AlreadyThere {
        let message = format!(
            "another `scheduler slurm` is submitting at this moment (`{}`): see what it did, then run this again",
            path.display()
        );
        return Err(Failure::new(Code::Unforeseen, message).into());
    }
    let name = job_name(root, kind);
    let mut arguments = vec!["--parsable".to_owned()];
    arguments.extend(args.sbatch.iter().cloned());
    // In the script too; here nothing that the user has said beats it.
    arguments.push(format!("--job-name={name}"));
    if kind == Kind::Trainers {
        arguments.push(script::array(tasks));
    }
    arguments.push(path.to_string_lossy().into_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let slurm_job = match ask("sbatch", &arguments).and_then(|said| job_id(&said)) {
        Ok(slurm_job) => slurm_job,
        Err(error) => {
            // Nobody shall wait for its record.
            fs::remove(&path)?;
            return Err(error);
        }
    };
    let submission = Submission {
        kind,
        slurm_job,
        name,
        tasks,
        script,
        at: clock::now(),
    };
    fs::publish_record(&path.with_extension("json"), &submission)?;
    info!(
        "submitted {} slurm_job={} tasks={tasks} script={}",
        kind.as_str(),
        submission.slurm_job,
        path.display()
    );
    print(&format!(
        "submitted: {} as SLURM job {}\n",
        number_of(kind, tasks),
        submission.slurm_job
    ))
}

/// The id in sbatch's answer: with `--parsable` the id, and `;cluster` in a federation.
fn job_id(said: &str) -> Result<String> {
    let id = said.trim().split(';').next().unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!(
            "`sbatch` said `{}`, which is no id of a SLURM job: see in `squeue --me` whether it was submitted",
            said.trim()
        );
        return Err(Failure::new(Code::Unforeseen, message).into());
    }
    Ok(id.to_owned())
}

/// Runs one of SLURM's commands and returns what it prints.
fn ask(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = env::slurm_command(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        let message = format!("cannot run `{program}`: is this a machine of a SLURM cluster?");
        Failure::because(Code::Unforeseen, message, error)
    })?;
    if !output.status.success() {
        let message = format!(
            "`{program}` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        return Err(Failure::new(Code::Unforeseen, message).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A number of trainers.
fn num_trainers(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err("not a number from 1 to 100000".to_owned()),
    }
}

/// A value that stands in a batch script: one word without special characters.
fn word(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | ',');
    if !text.is_empty() && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("letters, digits and any of - _ . : , only".to_owned())
    }
}
