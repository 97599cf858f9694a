//! What SLURM's commands say, among what else their output holds: banners, warnings, colours of a site's wrappers.
//!
//! An answer is known by its form, on a line of its own. Everything else is passed over.

use crate::batch::Task;

use super::state::JobState;

/// What squeue is asked to say of each task: name, state, id of its job or array, reason, node.
pub(super) const TASK_FORMAT: &str = "%j|%T|%F|%r|%N";

/// The lines of an output as they can be read on a screen.
fn lines(output: &str) -> Vec<String> {
    let shown = anstream::adapter::strip_str(output).to_string();
    let lines = shown.split(['\n', '\r']).map(|line| line.trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// The id in what `sbatch --parsable` says: a number, with `;cluster` behind it where there are several clusters.
///
/// `None` where none or more than one is there: a line of a banner may be a number, too.
pub(super) fn job_id(output: &str) -> Option<String> {
    let mut ids = lines(output).into_iter().filter_map(|line| {
        let (id, cluster) = match line.split_once(';') {
            Some((id, cluster)) => (id, Some(cluster)),
            None => (line.as_str(), None),
        };
        let is_cluster = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
        (is_id(id) && cluster.is_none_or(is_cluster)).then(|| id.to_owned())
    });
    let id = ids.next()?;
    ids.all(|other| other == id).then_some(id)
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The tasks in what squeue says, as far as their jobs have one of these names.
pub(super) fn tasks(output: &str, names: &[String]) -> Vec<Task> {
    let tasks = lines(output).into_iter().filter_map(|line| {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [name, state, job, reason, ref node @ ..] = fields[..] else {
            return None;
        };
        let is_state =
            !state.is_empty() && state.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        if !(is_state && is_id(job) && names.iter().any(|known| known == name)) {
            return None;
        }
        let state = JobState::parse(state);
        Some(Task {
            name: name.to_owned(),
            job: job.to_owned(),
            state: state.name().to_owned(),
            meaning: state.meaning(),
            reason: reason.to_owned(),
            node: node
                .first()
                .filter(|node| !node.is_empty())
                .map(|&node| node.to_owned()),
        })
    });
    tasks.collect()
}

/// A whole number among the settings in what `scontrol show config` says.
pub(super) fn setting(output: &str, name: &str) -> Option<u32> {
    lines(output).into_iter().find_map(|line| {
        let (said, value) = line.split_once('=')?;
        let value = value.trim().parse().ok()?; // no number: not what is looked for
        (said.trim() == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Banners and warnings as sites print them, with digits, bars, colours, and lines that end in other ways.
    const NOISE: [&str; 7] = [
        "",
        "*** Maintenance on 2026-12-01, 8:00: jobs of more than 72 h will wait ***\n\n",
        "\u{1b}[1;31mwarning:\u{1b}[0m 3 of your jobs use no GPU\r\n",
        "quota | used | 100 | of 200 GB\r\n",
        "sbatch: lua: partition set to 'gpu'; 2 rules\n",
        "\u{1b}]0;login1\u{7}Welcome!\rWelcome to login1\r\n",
        "loading prolog 17 %\rloading prolog 100 %\n",
    ];

    #[test]
    fn an_id_is_found_among_noise_before_and_after_it() {
        for before in NOISE {
            for after in NOISE {
                for (answer, id) in [
                    ("4711\n", "4711"),
                    ("4711;cluster\r\n", "4711"),
                    ("\u{1b}[32m4711\u{1b}[0m\n", "4711"),
                    ("4711", "4711"),
                ] {
                    let separator = if answer.ends_with('\n') { "" } else { "\n" };
                    let output = format!("{before}{answer}{separator}{after}");
                    assert_eq!(job_id(&output).as_deref(), Some(id), "{output:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_id_or_more_than_one_is_none() {
        for output in [
            "",
            "Submitted batch job 7",
            ";cluster",
            "7x",
            "7;",
            "7 8",
            "0",
            "-7",
            "7.5",
            "2026\n4711\n",
            "4711;a b",
        ] {
            assert_eq!(job_id(output), None, "{output:?}");
        }
        assert_eq!(job_id("4711\n4711;cluster\n").as_deref(), Some("4711"));
    }

    #[test]
    fn tasks_are_found_among_noise() {
        let names = ["mine-trainers".to_owned(), "mine-coordinator".to_owned()];
        for noise in NOISE {
            let output = format!(
                "{noise}mine-trainers|PENDING|12|Priority|\r\n{noise}\n\u{1b}[33mmine-coordinator|FAILED|11|NonZeroExitCode|node7\u{1b}[0m\n\
                 other-trainers|RUNNING|1|None|node1\nmine-trainers|RUNNING|x|None|node1\nmine-trainers|now running|3|None|x\n\
                 mine-trainers|RUNNING|13|None\n{noise}"
            );
            let tasks = tasks(&output, &names);
            let seen: Vec<(&str, &str, &str, Option<&str>)> = tasks
                .iter()
                .map(|task| {
                    (
                        &*task.job,
                        &*task.state,
                        &*task.reason,
                        task.node.as_deref(),
                    )
                })
                .collect();
            assert_eq!(
                seen,
                [
                    ("12", "PENDING", "Priority", None),
                    ("11", "FAILED", "NonZeroExitCode", Some("node7")),
                    ("13", "RUNNING", "None", None)
                ],
                "{output:?}"
            );
        }
    }

    #[test]
    fn a_setting_is_found_among_noise() {
        for noise in NOISE {
            let output = format!(
                "{noise}Configuration data\nMaxArraySizes = 7\nMaxArraySize            = 1001\r\nx = y\n"
            );
            assert_eq!(setting(&output, "MaxArraySize"), Some(1001));
            assert_eq!(setting(&output, "MaxJobCount"), None);
        }
    }
}
