//! The text of batch scripts: pure functions of what is submitted.
//!
//! `--signal=B:USR1@…` reaches the batch shell alone, so the scripts wait for their programs in the background and
//! hand the signal on. After a warning that the time is about to end, a script queues itself again: its programs go on
//! from their files. A cancelled job is not queued again.

use std::fmt::Write as _;
use std::path::Path;

/// Seconds before the end of the time limit at which the warning comes. A checkpoint takes 30 s at most, and SLURM may
/// be a minute early or late.
pub(super) const WARNING_S: u32 = 120;

/// What both kinds of scripts need to know.
#[derive(Debug, Clone)]
pub(super) struct Script<'a> {
    /// The search directory, absolute.
    pub(super) root: &'a Path,
    /// The folder of the programs, absolute.
    pub(super) programs: &'a Path,
    /// The folder in which the programs are started, absolute.
    pub(super) working_directory: &'a Path,
    /// The name of the SLURM job.
    pub(super) name: &'a str,
    /// `--time`, as SLURM reads it.
    pub(super) time: Option<&'a str>,
    /// `--partition`.
    pub(super) partition: Option<&'a str>,
    /// The user's own lines of shell, run before the programs.
    pub(super) prelude: &'a str,
}

/// The script of an array of `tasks` trainers with GPUs each, such as `1` or `a100:2`.
pub(super) fn trainers(script: &Script<'_>, tasks: u32, gpus: Option<&str>) -> String {
    let mut options = vec![array(tasks)];
    options.extend(gpus.map(|gpus| format!("--gres=gpu:{gpus}")));
    let mut text = head(script, &options, "trainer-%A_%a");
    text += "export TANDEM_WORKER=\"${SLURM_ARRAY_TASK_ID:-0}\"\n";
    let command = format!(
        "{} run {} --threads \"${{SLURM_CPUS_PER_TASK:-1}}\"",
        quote(&script.programs.join("trainer")),
        quote(script.root)
    );
    text += &wait_for(&[command]);
    text
}

/// The option for an array of `tasks` tasks.
pub(super) fn array(tasks: u32) -> String {
    format!("--array=0-{}", tasks - 1)
}

/// The script of the job that runs the scheduler and the sampler, and the command `keep` beside them.
pub(super) fn coordinator(script: &Script<'_>, keep: Option<&[String]>) -> String {
    let mut text = head(script, &[], "coordinator-%j");
    let command = |program: &str| {
        format!(
            "{} run {}",
            quote(&script.programs.join(program)),
            quote(script.root)
        )
    };
    let mut commands = vec![command("scheduler"), command("sampler")];
    if let Some(words) = keep {
        commands.push(in_shell(words));
    }
    text += &wait_for(&commands);
    text
}

fn head(script: &Script<'_>, options: &[String], log: &str) -> String {
    // `%` in a folder's name would be read as one of SLURM's patterns.
    let folder = script
        .root
        .join("slurm")
        .to_string_lossy()
        .replace('%', "%%");
    let mut lines = vec![
        format!("--job-name={}", script.name),
        "--requeue".to_owned(),
        "--open-mode=append".to_owned(),
        format!("--signal=B:USR1@{WARNING_S}"),
        format!("--output=\"{folder}/{log}.log\""),
    ];
    lines.extend(script.time.map(|time| format!("--time={time}")));
    lines.extend(
        script
            .partition
            .map(|partition| format!("--partition={partition}")),
    );
    lines.extend(options.iter().cloned());
    let mut text = "#!/bin/bash\n".to_owned();
    for line in lines {
        text += "#SBATCH ";
        text += &line;
        text.push('\n');
    }
    text + &start_in(script.working_directory, script.prelude)
}

/// Goes to the working directory and runs the user's own lines, which may use all of the shell: what they set up stays,
/// but not how the shell takes failures.
fn start_in(working_directory: &Path, prelude: &str) -> String {
    let folder = quote(working_directory);
    let mut text = format!(
        "
cd {folder} || {{ echo \"error: the working directory \"{folder}\" is missing on $(uname -n)\" >&2; exit 5; }}
"
    );
    if !prelude.trim().is_empty() {
        // Writing to a String cannot fail.
        let _infallible = write!(
            text,
            "# ---- prelude ----
{}
# ---- end of the prelude ----
set +eu +o pipefail; trap - ERR DEBUG; cd {folder}
",
            prelude.trim_end()
        );
    }
    text
}

/// Runs commands side by side until all have ended; the exit code is the largest of theirs.
fn wait_for(commands: &[String]) -> String {
    let mut text = "
children=()
is_warned=
forward() { kill -s \"$1\" \"${children[@]}\" 2>/dev/null; }
trap 'is_warned=yes; forward USR1' USR1
trap 'forward TERM' TERM
"
    .to_owned();
    for command in commands {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{command} &\nchildren+=($!)");
    }
    text += "
while [[ $(jobs -rp) ]]; do
  wait -n; status=$?
  # A program that failed ends the others, which are of no use without it. 138 and 143: a signal came, nothing ended.
  case $status in 0 | 75 | 138 | 143) ;; *) forward TERM ;; esac
done
code=0
for child in \"${children[@]}\"; do
  wait \"$child\"; status=$?
  (( status > code )) && code=$status
done
# 75: stopped by the warning, with work left. SLURM itself requeues after preemption and failed nodes.
if [[ $is_warned && $code == 75 ]]; then
  scontrol requeue \"$SLURM_JOB_ID\"
fi
exit \"$code\"
";
    text
}

/// A path as one word of the shell.
fn quote(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}

/// A command as a shell reads it.
pub(super) fn in_shell(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(Path::new(word))).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Script<'static> {
        Script {
            root: Path::new("/scratch/it's 5% done"),
            programs: Path::new("/opt/tandem/bin"),
            working_directory: Path::new("/home/me/it's my code"),
            name: "tandem-demo-0123456789-trainer",
            time: Some("4:00:00"),
            partition: None,
            prelude: "",
        }
    }

    #[test]
    fn an_array_of_trainers() {
        insta::assert_snapshot!(trainers(&script(), 64, Some("a100:1")));
    }

    #[test]
    fn a_coordinator() {
        insta::assert_snapshot!(coordinator(
            &Script {
                time: None,
                partition: Some("cpu"),
                prelude: "module load cuda\n\n",
                ..script()
            },
            None
        ));
    }

    #[test]
    fn a_coordinator_may_keep_trainers_in_the_queue() {
        let words = [
            "/opt/tandem/bin/scheduler",
            "slurm",
            "--",
            "--comment=it's mine",
        ];
        let text = coordinator(&script(), Some(&words.map(str::to_owned)));
        let line = "'/opt/tandem/bin/scheduler' 'slurm' '--' '--comment=it'\\''s mine' &\nchildren+=($!)\n";
        assert!(text.contains(line), "{text}");
    }
}
