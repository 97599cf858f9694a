//! What the kernel says of the filesystem.

use std::path::Path;

use super::Finding;

/// A mounted filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    kind: String,
    options: String,
}

/// The filesystem's type, and what is known of it.
pub(super) fn describe(root: &Path) -> Finding {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default(); // then nothing is known
    match mount_of(&table, root) {
        Some(mount) => judge(&mount, shared::fs::is_network(root)),
        None => Finding::Note("the type of the filesystem cannot be found out".into()),
    }
}

/// The last of the mounts whose folder is the longest one above `path`.
fn mount_of(table: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_source, at, kind, options, ..] = fields[..] else {
            continue;
        };
        let at = at.replace("\\040", " ");
        let depth = Path::new(&at).components().count();
        if path.starts_with(&at) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            let mount = Mount {
                kind: kind.to_owned(),
                options: options.to_owned(),
            };
            best = Some((depth, mount));
        }
    }
    best.map(|(_, mount)| mount)
}

fn judge(mount: &Mount, is_network: bool) -> Finding {
    let Mount { kind, options } = mount;
    let has = |option: &str| options.split(',').any(|o| o == option);
    if has("ro") {
        return Finding::Bad(format!("the filesystem ({kind}) is mounted read-only"));
    }
    if !is_network {
        return Finding::Note(format!(
            "the filesystem ({kind}) is this host's own: no other host sees it, so only `scheduler local` works here"
        ));
    }
    if kind.starts_with("nfs") && has("soft") {
        return Finding::Note(format!(
            "the filesystem ({kind}) is mounted `soft`: a busy server gives I/O errors, which cost attempts; ask for `hard`"
        ));
    }
    if kind.starts_with("nfs") && (has("noac") || has("actimeo=0")) {
        return Finding::Note(format!(
            "the filesystem ({kind}) is mounted without caches, which is not needed and slow"
        ));
    }
    Finding::Good(format!(
        "the filesystem ({kind}) may be shared with other hosts"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
/dev/vda / ext4 rw,relatime 0 0
server:/home /home nfs4 rw,soft,timeo=600 0 0
server:/scratch /home/me/my\\040scratch nfs4 rw,hard 0 0
server:/scratch /home/me/my\\040scratch nfs4 ro,hard 0 0
";

    #[test]
    fn the_deepest_and_latest_mount_counts() {
        let of = |path: &str| mount_of(TABLE, Path::new(path)).unwrap();
        assert_eq!(of("/tmp").kind, "ext4");
        assert_eq!(of("/home/me").options, "rw,soft,timeo=600");
        assert_eq!(of("/homeless").kind, "ext4");
        assert_eq!(of("/home/me/my scratch/x").options, "ro,hard");
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn mounts_are_judged_by_what_they_do_to_a_search() {
        let judged =
            |path: &str, is_network| judge(&mount_of(TABLE, Path::new(path)).unwrap(), is_network);
        assert!(matches!(judged("/tmp", false), Finding::Note(text) if text.contains("local")));
        assert!(matches!(judged("/home/me", true), Finding::Note(text) if text.contains("soft")));
        assert!(matches!(
            judged("/home/me/my scratch", true),
            Finding::Bad(_)
        ));
    }
}
