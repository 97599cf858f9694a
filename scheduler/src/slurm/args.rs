//! What `scheduler slurm` is told.

use shared::cli::DIRECTORY;
use std::path::{Path, PathBuf};

use super::options::Options;
use super::time;
use crate::batch::Group;

/// What `scheduler slurm` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SlurmArgs {
    /// The search directory, on a filesystem that all nodes share
    #[arg(value_name = DIRECTORY)]
    pub(super) directory: PathBuf,
    /// Number of trainers to keep queued or running
    ///
    /// Needed, unless `--keep=N` says it. Given several times, these are groups of trainers with names and sbatch options of
    /// their own: `--trainers 'large=4 --partition=a100 --gres=gpu:a100:1' --trainers 'small=16 --mem=8G'`.
    #[arg(
        long,
        value_name = "[NAME=]N [SBATCH OPTIONS]",
        value_parser = TrainerGroup::parse,
        required_unless_present_any = ["keep", "cancel"]
    )]
    trainers: Vec<TrainerGroup>,
    /// Time limit of each SLURM job, such as 4:00:00; default: the partition's
    ///
    /// In one of sbatch's forms, and 5 minutes at least. Two minutes before its end a trainer saves a checkpoint and is
    /// queued again.
    #[arg(long, value_name = "T", value_parser = time::parse)]
    pub(super) time: Option<String>,
    /// Partition; default: the cluster's
    #[arg(long, value_name = "P", value_parser = word)]
    pub(super) partition: Option<String>,
    /// GPUs of each trainer, such as 1 or a100:1
    #[arg(long, value_name = "[TYPE:]G", default_value = "0", value_parser = gpus)]
    gpus_per_trainer: String,
    /// More options for sbatch, for trainers only, such as `--trainer-args='--mem=64G --constraint=a100'`
    #[arg(long, value_name = "SBATCH OPTIONS", allow_hyphen_values = true, value_parser = Options::parse)]
    trainer_args: Vec<Options>,
    /// More options for sbatch, for the coordinator only, such as `--coordinator-args=--partition=cpu`
    #[arg(long, value_name = "SBATCH OPTIONS", allow_hyphen_values = true, value_parser = Options::parse)]
    coordinator_args: Vec<Options>,
    /// Lines of bash that each SLURM job runs before its programs, such as `module load`
    ///
    /// They are kept in DIR/slurm for all that is submitted later; an empty file takes them back.
    #[arg(long, value_name = "FILE")]
    pub(super) prelude: Option<PathBuf>,
    /// Go on until the search is finished: submit trainers in place of those that have ended
    ///
    /// The coordinator job does so too. Nodes on which trainers fail while others run are left out. After three arrays that
    /// ended before a trainer had run for some time, no more are submitted until somebody has looked and submits by hand.
    /// `--keep=N` stands for `--keep --trainers N`.
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = AS_TRAINERS,
        value_parser = Keep::parse
    )]
    pub(super) keep: Option<Keep>,
    /// Seconds between two looks at SLURM's queue, with --keep
    #[arg(long, default_value_t = 60.0, value_name = "S", value_parser = shared::cli::seconds)]
    pub(super) poll_s: f64,
    /// Print scripts and commands, and submit nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Submit also where the time limit is too short for all budgets, or programs are missing
    #[arg(long)]
    pub(super) force: bool,
    /// Take all SLURM jobs of this search out of the queue; trainers save what they have
    #[arg(long, conflicts_with_all = ["trainers", "keep", "dry_run"])]
    pub(super) cancel: bool,
    /// More options for sbatch, such as `--account=…`; they come after the script's own
    ///
    /// Account, partition and time options apply to trainers and coordinator; resource options (`--gres`, `--mem`,
    /// `--constraint` and the like) to trainers only. Options that would hide what was submitted are refused, such as
    /// `--job-name`. Of sbatch's environment variables only `SBATCH_ACCOUNT`, `_CONSTRAINT`, `_QOS` and `_RESERVATION`
    /// take effect.
    #[arg(last = true, value_name = "SBATCH OPTIONS")]
    sbatch: Vec<String>,
}

/// Stands for `--keep` without a number.
const AS_TRAINERS: &str = "as --trainers says";

/// How many trainers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
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

/// Trainers that are asked for with the same options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TrainerGroup {
    name: Option<String>,
    number: u32,
    options: Options,
    /// As it was given.
    text: String,
}

impl TrainerGroup {
    fn of(number: u32) -> Self {
        Self {
            name: None,
            number,
            options: Options::default(),
            text: number.to_string(),
        }
    }

    /// Reads `16`, `16 --mem=8G` or `small=16 --mem=8G`.
    fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let (number, options) = trimmed
            .split_once(char::is_whitespace)
            .unwrap_or((trimmed, ""));
        let (name, number) = match number.split_once('=') {
            Some((name, number)) => (Some(group_name(name)?), number),
            None => (None, number),
        };
        Ok(Self {
            name,
            number: num_trainers(number)?,
            options: Options::parse(options)?,
            text: trimmed.to_owned(),
        })
    }

    /// What the queue needs to know of it.
    pub(super) fn group(&self) -> Group {
        Group {
            name: self.name.clone(),
            number: self.number,
        }
    }
}

impl SlurmArgs {
    /// The trainers that are asked for.
    ///
    /// # Errors
    /// Nobody says how many, or it is said in two ways, or two groups have one name.
    pub(super) fn groups(&self) -> Result<Vec<TrainerGroup>, String> {
        let mut names: Vec<_> = self.trainers.iter().map(|group| &group.name).collect();
        names.sort_unstable();
        if let Some([first, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(first.as_ref().map_or_else(
                || "several groups of trainers need names: --trainers 'NAME=N …'".to_owned(),
                |name| format!("two groups of trainers have the name `{name}`"),
            ));
        }
        // What goes to sbatch twice must be right together, too.
        Options::new(self.sbatch.iter().cloned())?;
        match (&self.trainers[..], self.keep) {
            ([], Some(Keep::Number(number))) => Ok(vec![TrainerGroup::of(number)]),
            ([], _) => Err("how many trainers? --trainers N or --keep=N says it".to_owned()),
            (groups, None | Some(Keep::AsTrainers)) => Ok(groups.to_vec()),
            ([group], Some(Keep::Number(kept))) if group.number == kept => Ok(vec![group.clone()]),
            (groups, Some(Keep::Number(kept))) => {
                let number: u32 = groups.iter().map(|group| group.number).sum();
                Err(format!(
                    "--trainers {number} and --keep={kept} are different numbers of trainers"
                ))
            }
        }
    }

    /// `--gres`'s number of GPUs, if trainers need any.
    pub(super) fn gpus(&self) -> Option<&str> {
        (self.gpus_per_trainer != "0").then_some(&self.gpus_per_trainer)
    }

    /// What is said after `--`.
    fn shared_options(&self) -> Options {
        // Checked by `groups`.
        Options::new(self.sbatch.iter().cloned()).unwrap_or_default()
    }

    /// All options for trainers of one group.
    pub(super) fn options_of_trainers(&self, group: Option<&str>) -> Options {
        let mut options = self.shared_options();
        for more in &self.trainer_args {
            options = options.and(more);
        }
        let mut groups = self.trainers.iter();
        match groups.find(|known| known.name.as_deref() == group) {
            Some(own) => options.and(&own.options),
            None => options,
        }
    }

    /// All options for the coordinator.
    pub(super) fn options_of_coordinator(&self) -> Options {
        let options = self.shared_options().for_both();
        self.coordinator_args
            .iter()
            .fold(options, |options, more| options.and(more))
    }

    /// The time limits of the groups of trainers, in seconds, as short as they may be; `None`: the partition's.
    pub(super) fn time_limits_s(&self) -> Vec<Option<u64>> {
        let limit_s = |group: Option<&str>| {
            let options = self.options_of_trainers(group);
            let text = options.value("time", Some('t')).or(self.time.as_deref());
            // SLURM may make it as short as the shortest that is asked for.
            let shortest = options.value("time-min", None).and_then(time::limit_s);
            shortest.or_else(|| text.and_then(time::limit_s))
        };
        if self.trainers.is_empty() {
            return vec![limit_s(None)];
        }
        let groups = self.trainers.iter();
        groups.map(|group| limit_s(group.name.as_deref())).collect()
    }

    /// The command that keeps trainers in the queue, for the coordinator's script.
    pub(super) fn keep_command(&self, root: &Path, programs: &Path) -> Vec<String> {
        let mut words = vec![
            programs.join("scheduler").to_string_lossy().into_owned(),
            "slurm".into(),
            root.to_string_lossy().into_owned(),
            "--keep".into(),
        ];
        let groups = self.groups().unwrap_or_default(); // checked before anything is submitted
        words.extend(
            groups
                .iter()
                .map(|group| format!("--trainers={}", group.text)),
        );
        words.push(format!("--gpus-per-trainer={}", self.gpus_per_trainer));
        words.push(format!("--poll-s={}", self.poll_s));
        let optional = [("time", &self.time), ("partition", &self.partition)];
        for (name, value) in optional {
            words.extend(value.iter().map(|value| format!("--{name}={value}")));
        }
        let of_one = [
            ("trainer-args", &self.trainer_args),
            ("coordinator-args", &self.coordinator_args),
        ];
        for (name, all) in of_one {
            let texts = all.iter().filter_map(Options::text);
            words.extend(texts.map(|text| format!("--{name}={text}")));
        }
        // Whoever submitted the coordinator has been warned.
        words.push("--force".into());
        if !self.sbatch.is_empty() {
            words.push("--".into());
            words.extend(self.sbatch.iter().cloned());
        }
        words
    }
}

/// A number of trainers.
fn num_trainers(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err(format!("`{text}` is not a number from 1 to 100000")),
    }
}

/// A name of a group, which becomes part of a SLURM job's.
fn group_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=30).contains(&text.len()) && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "a group's name has 1 to 30 letters, digits and any of - _ . only, not `{text}`"
        ))
    }
}

/// A number of GPUs, and their type before it if it matters.
fn gpus(text: &str) -> Result<String, String> {
    let (kind, number) = match text.rsplit_once(':') {
        Some((kind, number)) => (Some(kind), number),
        None => (None, text),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_kind = kind.is_none_or(|kind| !kind.is_empty() && kind.chars().all(is_plain));
    match number.parse::<u16>() {
        Ok(0) => Ok("0".to_owned()),
        Ok(number) if is_kind => {
            Ok(kind.map_or_else(|| number.to_string(), |kind| format!("{kind}:{number}")))
        }
        _ => Err("a number of GPUs, such as 1, or type and number, such as a100:1".to_owned()),
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Wrapped {
        #[command(flatten)]
        args: SlurmArgs,
    }

    fn args(words: &[&str]) -> SlurmArgs {
        let words = ["slurm", "/dir"].iter().chain(words);
        Wrapped::try_parse_from(words).unwrap().args
    }

    #[test]
    fn what_keeps_trainers_is_told_all_that_the_first_command_was_told() {
        let said = [
            "--trainers=large=4 --partition=a100 --comment='it is mine'",
            "--trainers=small=16 --mem=8G",
            "--keep",
            "--gpus-per-trainer=a100:2",
            "--time=4:00:00",
            "--partition=gpu",
            "--trainer-args=--mem=64G --tmp=1T",
            "--coordinator-args=--partition=cpu",
            "--poll-s=7",
            "--",
            "--account=me",
            "-q",
            "high",
        ];
        let first = args(&said);
        let words = first.keep_command(Path::new("/dir"), Path::new("/bin"));
        assert_eq!(words[..3], ["/bin/scheduler", "slurm", "/dir"]);
        let words: Vec<&str> = words[3..].iter().map(String::as_str).collect();
        let again = args(&words);
        assert_eq!(again.groups(), first.groups());
        assert_eq!(
            again.options_of_coordinator(),
            first.options_of_coordinator()
        );
        for group in ["large", "small"] {
            let options = first.options_of_trainers(Some(group));
            assert_eq!(again.options_of_trainers(Some(group)), options);
        }
        assert_eq!(again.gpus(), Some("a100:2"));
        assert_eq!((again.time, again.partition), (first.time, first.partition));
        assert_eq!(again.poll_s.to_string(), "7");
        assert!(again.force);
    }

    #[test]
    fn groups_have_what_is_said_of_all_and_then_their_own() {
        let groups = args(&[
            "--trainers=large=4 --mem=99G -t 2-0",
            "--trainers=8",
            "--time=30",
            "--trainer-args=--mem=64G",
            "--trainer-args=--tmp=1",
            "--coordinator-args=--mem=1G",
            "--",
            "--mem=32G",
            "-Ame",
        ]);
        let words = |options: Options| options.words().join(" ");
        assert_eq!(
            words(groups.options_of_trainers(Some("large"))),
            "--mem=32G -Ame --mem=64G --tmp=1 --mem=99G -t2-0"
        );
        assert_eq!(
            words(groups.options_of_trainers(None)),
            "--mem=32G -Ame --mem=64G --tmp=1"
        );
        assert_eq!(words(groups.options_of_coordinator()), "-Ame --mem=1G");
        assert_eq!(groups.time_limits_s(), [Some(2 * 86_400), Some(1800)]);
        let shortened = args(&["--trainers=1", "--time=60", "--", "--time-min=30"]);
        assert_eq!(shortened.time_limits_s(), [Some(1800)]);
        let partitions = args(&["--keep=3"]);
        assert_eq!(partitions.time_limits_s(), [None]);
    }

    #[test]
    fn numbers_of_trainers_and_names_of_groups_are_checked() {
        for (text, complaint) in [
            ("0", "from 1 to 100000"),
            ("x", "from 1 to 100000"),
            ("", "from 1 to 100000"),
            ("=4", "a group's name"),
            ("a b=4", "from 1 to 100000"),
            ("a/b=4", "a group's name"),
            ("4 mine.sh", "in place of the script"),
            ("4 --array=0-1", "--trainers says how many"),
            ("4 --comment='x", "has no end"),
        ] {
            let said = TrainerGroup::parse(text).unwrap_err();
            assert!(said.contains(complaint), "{text}: {said}");
        }
        for (words, complaint) in [
            (&["--trainers=2", "--trainers=3"][..], "need names"),
            (&["--trainers=a=2", "--trainers=a=3"], "the name `a`"),
            (
                &["--trainers=a=2", "--trainers=3", "--keep=5"],
                "different numbers",
            ),
            (&["--trainers=2", "--", "-Jx"], "-J (--job-name)"),
        ] {
            let said = args(words).groups().unwrap_err();
            assert!(said.contains(complaint), "{words:?}: {said}");
        }
    }

    #[test]
    fn gpus_have_a_number_and_may_have_a_type() {
        for (text, gres) in [
            ("0", "0"),
            ("a100:0", "0"),
            ("2", "2"),
            ("a100:1", "a100:1"),
            ("nvidia_a100_1g.5gb:1", "nvidia_a100_1g.5gb:1"),
        ] {
            assert_eq!(gpus(text).as_deref(), Ok(gres));
        }
        for text in ["", "a100", ":1", "a100:", "a b:1", "-1", "1.5", "a:b:1"] {
            assert!(gpus(text).is_err(), "{text}");
        }
    }
}
