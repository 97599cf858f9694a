//! The text of batch scripts: pure functions of what is submitted.
//!
//! `--signal=B:USR1@…` reaches the batch shell alone, so the scripts wait for their programs in the background and
//! hand the signal on. After a warning that the time is about to end, a script queues itself again: its programs go on
//! from their files. A cancelled job is not queued again.

use std::fmt::Write as _;
use std::path::Path;

/// Seconds before the end of the time limit at which the warning comes. A checkpoint takes 30 s at most, and SLURM may
/// be a minute early or late.
pub const WARNING_S: u32 = 120;

/// What both kinds of scripts need to know.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    /// The search directory, absolute.
    pub root: &'a Path,
    /// The folder of the programs, absolute.
    pub programs: &'a Path,
    /// The name of the SLURM job.
    pub name: &'a str,
    /// `--time`, as SLURM reads it.
    pub time: Option<&'a str>,
    /// `--partition`.
    pub partition: Option<&'a str>,
}

/// The script of an array of `tasks` trainers.
pub fn trainers(batch: &Batch<'_>, tasks: u32, gpus: u32) -> String {
    let mut options = vec![array(tasks)];
    if gpus > 0 {
        options.push(format!("--gres=gpu:{gpus}"));
    }
    let mut text = head(batch, &options, "trainer-%A_%a");
    let command = format!(
        "{} run {} --threads \"${{SLURM_CPUS_PER_TASK:-1}}\"",
        quote(&batch.programs.join("trainer")),
        quote(batch.root)
    );
    text += &wait_for(&[command]);
    text
}

/// The option for an array of `tasks` tasks.
pub fn array(tasks: u32) -> String {
    format!("--array=0-{}", tasks - 1)
}

/// The script of the job that runs the scheduler and the sampler, and the command `keep` beside them.
pub fn coordinator(batch: &Batch<'_>, keep: Option<&[String]>) -> String {
    let mut text = head(batch, &[], "coordinator-%j");
    let command = |program: &str| {
        format!(
            "{} run {}",
            quote(&batch.programs.join(program)),
            quote(batch.root)
        )
    };
    let mut commands = vec![command("scheduler"), command("sampler")];
    if let Some(words) = keep {
        let words: Vec<String> = words
            .iter()
            .map(|word| quote(Path::new(word.as_str())))
            .collect();
        commands.push(words.join(" "));
    }
    text += &wait_for(&commands);
    text
}

fn head(batch: &Batch<'_>, options: &[String], log: &str) -> String {
    // `%` in a folder's name would be read as one of SLURM's patterns.
    let folder = batch
        .root
        .join("slurm")
        .to_string_lossy()
        .replace('%', "%%");
    let mut lines = vec![
        format!("--job-name={}", batch.name),
        "--requeue".to_owned(),
        "--open-mode=append".to_owned(),
        format!("--signal=B:USR1@{WARNING_S}"),
        format!("--output=\"{folder}/{log}.log\""),
    ];
    lines.extend(batch.time.map(|time| format!("--time={time}")));
    lines.extend(
        batch
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

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch<'static> {
        Batch {
            root: Path::new("/scratch/it's 5% done"),
            programs: Path::new("/opt/tandem/bin"),
            name: "tandem-demo-0123456789-trainer",
            time: Some("4:00:00"),
            partition: None,
        }
    }

    #[test]
    fn an_array_of_trainers() {
        insta::assert_snapshot!(trainers(&batch(), 64, 1));
    }

    #[test]
    fn a_coordinator() {
        insta::assert_snapshot!(coordinator(
            &Batch {
                time: None,
                partition: Some("cpu"),
                ..batch()
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
        let text = coordinator(&batch(), Some(&words.map(str::to_owned)));
        let line = "'/opt/tandem/bin/scheduler' 'slurm' '--' '--comment=it'\\''s mine' &\nchildren+=($!)\n";
        assert!(text.contains(line), "{text}");
    }
}
