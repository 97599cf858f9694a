//! Options for sbatch that users give, and for whom they are.
//!
//! sbatch itself reads them; here it is only seen to that none keeps the next command from recognising what this one has
//! submitted, and that the coordinator does not get what trainers need.

use super::time;

/// Options that are not handed on: their names, their letters, and why.
const REFUSED: [(&str, Option<char>, &str); 12] = [
    (
        "job-name",
        Some('J'),
        "SLURM jobs are recognised by their names",
    ),
    ("array", Some('a'), "--trainers says how many there are"),
    (
        "test-only",
        None,
        "nothing would be submitted; --dry-run shows the scripts",
    ),
    ("wrap", None, "it would take the place of the script"),
    (
        "clusters",
        Some('M'),
        "only the queue of this cluster is looked at",
    ),
    (
        "cluster",
        None,
        "only the queue of this cluster is looked at",
    ),
    (
        "wait",
        Some('W'),
        "the coordinator would be waited for before there are trainers",
    ),
    ("parsable", None, "it is given already"),
    ("quiet", Some('Q'), "the id of the SLURM job would be lost"),
    ("help", Some('h'), "nothing would be submitted"),
    ("usage", None, "nothing would be submitted"),
    ("version", Some('V'), "nothing would be submitted"),
];
/// Options that say who asks, where, when, and what is told to whom: they are for the coordinator, too. All others say what
/// trainers need.
const FOR_BOTH: [(&str, Option<char>); 31] = [
    ("account", Some('A')),
    ("begin", Some('b')),
    ("chdir", Some('D')),
    ("comment", None),
    ("deadline", None),
    ("dependency", Some('d')),
    ("error", Some('e')),
    ("exclude", Some('x')),
    ("export", None),
    ("export-file", None),
    ("get-user-env", None),
    ("gid", None),
    ("hold", Some('H')),
    ("kill-on-invalid-dep", None),
    ("mail-type", None),
    ("mail-user", None),
    ("mcs-label", None),
    ("nice", None),
    ("no-requeue", None),
    ("open-mode", None),
    ("output", Some('o')),
    ("partition", Some('p')),
    ("priority", None),
    ("qos", Some('q')),
    ("requeue", None),
    ("reservation", None),
    ("signal", None),
    ("time", Some('t')),
    ("time-min", None),
    ("uid", None),
    ("wckey", None),
];
/// Letters without a value, which others may follow in the same word.
const FLAG_LETTERS: &str = "HOsv";

/// Options for sbatch, one a word: `--name`, `--name=value`, `-l`, `-lvalue`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options(Vec<String>);

impl Options {
    /// Checks words; takes letters that stand together apart, and joins options with values in the next word.
    ///
    /// # Errors
    /// The word that cannot be handed on, and why.
    pub(super) fn new(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options: Vec<String> = Vec::new();
        for word in words {
            if word.starts_with('-') && !["-", "--"].contains(&word.as_str()) {
                let flags = word.chars().skip(1);
                let flags = flags.take_while(|letter| FLAG_LETTERS.contains(*letter));
                let flags: Vec<char> = flags.collect();
                options.extend(flags.iter().map(|letter| format!("-{letter}")));
                if flags.len() + 1 < word.len() {
                    options.push(format!("-{}", &word[flags.len() + 1..]));
                }
                continue;
            }
            match options.last_mut().filter(|option| lacks_value(option)) {
                Some(option) if option.starts_with("--") => *option = format!("{option}={word}"),
                Some(option) => option.push_str(&word),
                None => {
                    return Err(format!(
                        "`{word}` cannot be handed to sbatch: it is no option, so it would be submitted in place of the \
                         script"
                    ));
                }
            }
        }
        options.iter().try_for_each(|option| refuse(option))?;
        let options = Self(options);
        for (name, letter) in [("time", Some('t')), ("time-min", None)] {
            if let Some(limit) = options.value(name, letter) {
                time::parse(limit)?;
            }
        }
        Ok(options)
    }

    /// Reads them from text with the shell's quotes.
    ///
    /// # Errors
    /// As [`new`](Self::new), or a quote has no end.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::new(shlex::split(text).ok_or_else(|| format!("a quote in `{text}` has no end"))?)
    }

    /// These, and after them others, which beat them.
    pub(super) fn and(&self, others: &Self) -> Self {
        Self([&self.0[..], &others.0[..]].concat())
    }

    /// Those that are for the coordinator as well as for trainers.
    pub(super) fn for_both(&self) -> Self {
        let is_for_both = |option: &&String| {
            FOR_BOTH
                .iter()
                .any(|(name, letter)| is(option, name, *letter))
        };
        Self(self.0.iter().filter(is_for_both).cloned().collect())
    }

    /// The value of the last option of this name.
    pub(super) fn value(&self, name: &str, letter: Option<char>) -> Option<&str> {
        let option = self.0.iter().rfind(|option| is(option, name, letter))?;
        match option.strip_prefix("--") {
            Some(long) => long.split_once('=').map(|(_name, value)| value),
            None => option.get(2..),
        }
    }

    /// As text that [`parse`](Self::parse) reads; `None` where there is none.
    pub(super) fn text(&self) -> Option<String> {
        let words = self.0.iter().map(String::as_str);
        // No argument of a program has a zero byte.
        shlex::try_join(words).ok().filter(|text| !text.is_empty())
    }

    /// As words.
    pub(super) fn words(&self) -> &[String] {
        &self.0
    }
}

/// Whether the next word is its value, if that is no option.
fn lacks_value(option: &str) -> bool {
    match option.strip_prefix("--") {
        Some(long) => !long.contains('='),
        None => option.chars().count() == 2 && !option.ends_with(|c| FLAG_LETTERS.contains(c)),
    }
}

/// Whether an option is this one; abbreviations are heard, too.
fn is(option: &str, name: &str, letter: Option<char>) -> bool {
    match option.strip_prefix("--") {
        Some(long) => {
            let said = long.split('=').next().unwrap_or(long);
            // The whole name of another option is no abbreviation of this one.
            name == said
                || (name.starts_with(said) && !FOR_BOTH.iter().any(|(other, _)| *other == said))
        }
        None => letter.is_some() && option.chars().nth(1) == letter,
    }
}

fn refuse(option: &str) -> Result<(), String> {
    let Some((name, letter, why)) = REFUSED
        .iter()
        .find(|(name, letter, _)| is(option, name, *letter))
    else {
        return Ok(());
    };
    let meant = match letter {
        _ if option.split('=').next() == Some(&format!("--{name}")) => String::new(),
        Some(letter) if !option.starts_with("--") => format!(", which means -{letter} (--{name}),"),
        _ => format!(", which means --{name},"),
    };
    Err(format!(
        "`{option}`{meant} cannot be handed to sbatch: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Options, String> {
        Options::new(words.iter().map(|&word| word.to_owned()))
    }

    #[test]
    fn options_that_hide_what_was_submitted_are_refused_in_all_their_forms() {
        for (words, option) in [
            (&["--job-name=mine"][..], "--job-name=mine"),
            (&["--job-name", "mine"], "--job-name=mine"),
            (&["-J", "mine"], "-Jmine"),
            (&["-Jmine"], "-Jmine"),
            (&["-HJmine"], "-Jmine"),
            (&["-sHOvJ", "mine"], "-Jmine"),
            (&["--job-n=mine"], "--job-n=mine"),
            (&["--j", "mine"], "--j=mine"),
            (&["--array=0-1"], "--array=0-1"),
            (&["--arr=0-1"], "--arr=0-1"),
            (&["-a0-1"], "-a0-1"),
            (&["--test-only"], "--test-only"),
            (&["--te"], "--te"),
            (&["--wrap=true"], "--wrap=true"),
            (&["--wr", "true"], "--wr=true"),
            (&["-M", "other"], "-Mother"),
            (&["--clusters=other"], "--clusters=other"),
            (&["--cluster=other"], "--cluster=other"),
            (&["-W"], "-W"),
            (&["--wait"], "--wait"),
            (&["--parsable"], "--parsable"),
            (&["-vQ"], "-Q"),
            (&["--quiet"], "--quiet"),
            (&["-h"], "-h"),
            (&["--help"], "--help"),
            (&["--usage"], "--usage"),
            (&["-V"], "-V"),
            (&["--vers"], "--vers"),
            // After values of other options.
            (&["--comment", "x", "-Jmine"], "-Jmine"),
            (&["-A", "me", "-Jmine"], "-Jmine"),
            (&["-k", "-Jmine"], "-Jmine"),
            (&["--exclusive", "-Jmine"], "-Jmine"),
        ] {
            let said = read(words).unwrap_err();
            assert!(
                said.starts_with(&format!("`{option}`")),
                "{words:?}: {said}"
            );
            assert!(said.contains("cannot be handed to sbatch: "), "{said}");
        }
        assert_eq!(
            read(&["--array=0-1"]).unwrap_err(),
            "`--array=0-1` cannot be handed to sbatch: --trainers says how many there are"
        );
        assert_eq!(
            read(&["-HJmine"]).unwrap_err(),
            "`-Jmine`, which means -J (--job-name), cannot be handed to sbatch: SLURM jobs are recognised by their names"
        );
    }

    #[test]
    fn words_that_would_be_taken_for_the_script_are_refused() {
        for words in [
            &["mine.sh"][..],
            &["-"],
            &["--"],
            &[""],
            &["-H", "x"],
            &["-A", "me", "x"],
            &["--account=me", "x"],
            &["-Ame", "x"],
        ] {
            let said = read(words).unwrap_err();
            assert!(said.contains("in place of the script"), "{words:?}: {said}");
        }
        // What cannot have a value is sbatch's to refuse.
        let joined = read(&["--exclusive", "mine.sh"]).unwrap();
        assert_eq!(joined.words(), ["--exclusive=mine.sh"]);
    }

    #[test]
    fn other_options_are_handed_on_one_a_word() {
        for (words, options) in [
            (&[][..], &[][..]),
            (&["--wait-all-nodes", "1"], &["--wait-all-nodes=1"]),
            (&["--cluster-constraint=a"], &["--cluster-constraint=a"]),
            (
                &["--account=me", "--acc", "me", "-A", "me", "-Ame"],
                &["--account=me", "--acc=me", "-Ame", "-Ame"],
            ),
            (&["--comment=--job-name=x"], &["--comment=--job-name=x"]),
            (&["-AJ", "-kJ"], &["-AJ", "-kJ"]),
            (
                &["--exclusive", "--mem=200", "--nice", "-Hv", "-vvc8"],
                &[
                    "--exclusive",
                    "--mem=200",
                    "--nice",
                    "-H",
                    "-v",
                    "-v",
                    "-v",
                    "-c8",
                ],
            ),
            (&["--qos", "high", "--hold"], &["--qos=high", "--hold"]),
        ] {
            assert_eq!(read(words).unwrap().words(), options, "{words:?}");
        }
        assert_eq!(
            Options::parse("--mem=64G --comment 'it is mine'")
                .unwrap()
                .words(),
            ["--mem=64G", "--comment=it is mine"]
        );
        assert!(Options::parse("--comment='mine").is_err());
    }

    #[test]
    fn the_coordinator_gets_what_says_who_asks_and_not_what_trainers_need() {
        let shared = [
            "--account=me",
            "--acc=me",
            "-Ame",
            "--qos=high",
            "-qhigh",
            "--mail-type=END",
            "-pgpu",
            "--partition=gpu",
            "--time=30",
            "-t30",
            "--reservation=r",
            "--comment=x",
            "-xnode1",
            "--exclude=node1",
            "-H",
            "--hold",
            "--nice",
            "--begin=now",
            "--export=ALL",
        ];
        let needed = [
            "--gres=gpu:a100:1",
            "-Ggpu:1",
            "--gpus=1",
            "--gpus-per-node=a100:2",
            "--mem=64G",
            "--mem-per-gpu=1G",
            "-c8",
            "--cpus-per-task=8",
            "-n2",
            "--ntasks=2",
            "-N1",
            "--exclusive",
            "-Ca100",
            "--constraint=a100",
            "-wnode7",
            "--nodelist=node7",
            "--tmp=1T",
            "-Lx",
            "--licenses=x",
            "-s",
            "--gpu-bind=none",
            "--tres-per-task=gres/gpu:1",
        ];
        for option in shared {
            assert_eq!(read(&[option]).unwrap().for_both().words(), [option]);
        }
        for option in needed {
            assert_eq!(
                read(&[option]).unwrap().for_both().words(),
                [""; 0],
                "{option}"
            );
        }
    }

    #[test]
    fn the_last_value_of_an_option_counts() {
        let options = read(&["--time=30", "-t", "1:00:00", "--mem=1", "-pgpu"]).unwrap();
        assert_eq!(options.value("time", Some('t')), Some("1:00:00"));
        assert_eq!(options.value("partition", Some('p')), Some("gpu"));
        assert_eq!(options.value("exclude", Some('x')), None);
        let more = read(&["--ti=2-0"]).unwrap();
        assert_eq!(options.and(&more).value("time", Some('t')), Some("2-0"));
    }

    #[test]
    fn time_limits_within_which_nothing_is_done_are_refused() {
        for words in [
            &["--time=2"][..],
            &["--time", "2"],
            &["-t2"],
            &["-t", "2"],
            &["-Ht2"],
            &["--time-min=2"],
            &["--time-m", "2"],
        ] {
            assert!(read(words).unwrap_err().contains("too short"), "{words:?}");
        }
    }
}
