//! From an order to the script and the whole command: a pure function of what the user has said.

use std::path::{Path, PathBuf};

use super::args::SlurmArgs;
use super::options::Options;
use super::script::{self, Script};
use crate::batch::{Batch, Kind, Order};

/// What all scripts of a search have in common.
pub(super) struct Writer {
    pub(super) args: SlurmArgs,
    /// The search directory, absolute.
    pub(super) root: PathBuf,
    /// The folder of the programs, absolute.
    pub(super) programs: PathBuf,
    /// The folder in which the programs are started.
    pub(super) working_directory: PathBuf,
    /// The user's own lines of shell.
    pub(super) prelude: String,
}

impl Writer {
    /// The script of an order, and the command that submits it from `path`.
    pub(super) fn batch(&self, order: &Order, path: &Path) -> Batch {
        let args = &self.args;
        let script = Script {
            root: &self.root,
            programs: &self.programs,
            working_directory: &self.working_directory,
            name: &order.name,
            time: args.time.as_deref(),
            partition: args.partition.as_deref(),
            prelude: &self.prelude,
        };
        let (script, options) = match order.role.kind {
            Kind::Trainers => (
                script::trainers(&script, order.tasks, args.gpus()),
                args.options_of_trainers(order.role.group.as_deref()),
            ),
            Kind::Coordinator => {
                let keep = args
                    .keep
                    .map(|_| args.keep_command(&self.root, &self.programs));
                (
                    script::coordinator(&script, keep.as_deref()),
                    args.options_of_coordinator(),
                )
            }
        };
        Batch {
            script,
            command: command(order, &options, path),
        }
    }
}

fn command(order: &Order, options: &Options, path: &Path) -> Vec<String> {
    let mut words = vec!["sbatch".to_owned(), "--parsable".to_owned()];
    words.extend_from_slice(options.words());
    if !order.excluded.is_empty() {
        // The last one counts, so the user's own are in it.
        let mut nodes: Vec<&str> = options.value("exclude", Some('x')).into_iter().collect();
        nodes.extend(order.excluded.iter().map(String::as_str));
        words.push(format!("--exclude={}", nodes.join(",")));
    }
    // In the script too; here nothing that the user has said beats it.
    words.push(format!("--job-name={}", order.name));
    if order.role.kind == Kind::Trainers {
        words.push(script::array(order.tasks));
    }
    words.push(path.to_string_lossy().into_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Role;

    #[test]
    fn nodes_are_excluded_beside_those_of_the_user() {
        let order = |excluded: &[&str]| Order {
            role: Role::trainers(None),
            name: "tandem-x-trainers".into(),
            tasks: 3,
            excluded: excluded.iter().map(|&node| node.to_owned()).collect(),
        };
        let options = Options::parse("-xnode9 --mem=1").unwrap();
        let path = Path::new("/d/slurm/0002-trainers.sh");
        assert_eq!(
            command(&order(&["node1", "node2"]), &options, path).join(" "),
            "sbatch --parsable -xnode9 --mem=1 --exclude=node9,node1,node2 --job-name=tandem-x-trainers --array=0-2 \
             /d/slurm/0002-trainers.sh"
        );
        let plain = command(&order(&[]), &Options::default(), path).join(" ");
        assert!(!plain.contains("exclude"), "{plain}");
    }
}
