//! Where a GPU's compiled kernels are kept, so that only a node's first trainer waits for the compiler.
//!
//! cubecl tells kernels apart by their names and settings, not by their sources, nor by who compiled them for what: so
//! these have a folder each. All trainers of a node append to the same files, which needs the node's own disk; and cubecl
//! panics where it cannot, so that owner, room and files are looked at beforehand.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Bytes that must be free; all kernels of a program take a few megabytes.
const ROOM: u64 = 256 << 20;

/// The folder for kernels of an architecture, made by `what_compiles`: driver, compiler and program.
///
/// `None`, with a line in the log, where there is no safe place, or the user wants none.
#[cfg(any(feature = "cuda", feature = "rocm"))]
pub(super) fn folder(architecture: &str, what_compiles: &str) -> Option<PathBuf> {
    let place = place(
        shared::env::KERNEL_CACHE.raw().as_deref(),
        shared::env::cache_folder(),
        &std::env::temp_dir(),
        user(),
        |folder| {
            // It may not be there yet.
            let existing = folder.ancestors().find(|path| path.is_dir());
            existing.is_none_or(shared::fs::is_network)
        },
    )?;
    let folder = place.folder(architecture, what_compiles);
    match place.make().and_then(|()| check(&folder)) {
        Ok(()) => Some(folder),
        Err(error) => {
            tracing::warn!(
                "kernels are compiled anew, and not kept in `{}`: {error}",
                folder.display()
            );
            None
        }
    }
}

/// Where kernels are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Where the user says, or in the user's cache folder.
    Own(PathBuf),
    /// In this folder among those of others, who can write beside it.
    AmongOthers(PathBuf),
}

/// The first place that is on the node's own disk.
fn place(
    chosen: Option<&str>,
    cache: Option<PathBuf>,
    temporary: &Path,
    user: u32,
    is_network: impl Fn(&Path) -> bool,
) -> Option<Place> {
    match chosen {
        Some("") => None,
        Some(folder) => Some(Place::Own(folder.into())),
        None => {
            let cache = cache.map(|cache| Place::Own(cache.join("kernels")));
            let here = temporary.join(format!("tandem-{user}"));
            let mut places = cache.into_iter().chain([Place::AmongOthers(here)]);
            places.find(|place| !is_network(place.path()))
        }
    }
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Own(folder) | Self::AmongOthers(folder) => folder,
        }
    }

    fn folder(&self, architecture: &str, what_compiles: &str) -> PathBuf {
        let digest = shared::Seed::new(0).child("kernels", what_compiles);
        let name = format!("{architecture}-{:016x}", digest.number());
        self.path().join(name)
    }

    /// Makes it; among others', for this user alone.
    fn make(&self) -> io::Result<()> {
        let Self::AmongOthers(folder) = self else {
            return Ok(());
        };
        match std::fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let found = std::fs::symlink_metadata(folder)?;
        if found.is_dir() && found.uid() == user() && found.mode() & 0o777 == 0o700 {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "others can write to `{}`",
                folder.display()
            )))
        }
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Makes the folder, and makes sure that all its files can be added to.
fn check(folder: &Path) -> io::Result<()> {
    shared::fs::make_folder(folder).map_err(io::Error::other)?;
    let disk = rustix::fs::statvfs(folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < ROOM {
        return Err(io::Error::other(format!(
            "only {} MiB are free, of {} that must be",
            free >> 20,
            ROOM >> 20
        )));
    }
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(b"?")?;
    can_be_added_to(folder)
}

fn can_be_added_to(folder: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            can_be_added_to(&path)?;
        } else if let Err(error) = OpenOptions::new().append(true).open(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error); // not found: another trainer's lock
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(path: &str) -> Place {
        Place::Own(path.into())
    }

    fn default_place(on_the_network: &[&str]) -> Option<Place> {
        let cache = Some(PathBuf::from("/home/me/.cache/tandem"));
        place(None, cache, Path::new("/tmp"), 1000, |path| {
            on_the_network
                .iter()
                .any(|network| path.starts_with(network))
        })
    }

    #[test]
    fn kernels_are_kept_on_the_node_s_own_disk() {
        let beside_images = own("/home/me/.cache/tandem/kernels");
        assert_eq!(default_place(&[]), Some(beside_images));
        let beside_others = Some(Place::AmongOthers("/tmp/tandem-1000".into()));
        assert_eq!(default_place(&["/home"]), beside_others);
        assert_eq!(default_place(&["/home", "/tmp"]), None);
        let temporary = Path::new("/tmp");
        assert_eq!(place(None, None, temporary, 1000, |_| false), beside_others);
    }

    #[test]
    fn or_where_the_user_says_or_nowhere() {
        let chosen = |chosen| place(Some(chosen), None, Path::new("/tmp"), 1000, |_| true);
        assert_eq!(chosen("/scratch/kernels"), Some(own("/scratch/kernels")));
        assert_eq!(chosen(""), None);
    }

    #[test]
    fn what_a_kernel_depends_on_is_kept_apart() {
        let place = Place::Own("/k".into());
        let names = [
            place.folder("sm_90", "driver 13000, trainer 0.1.0 (1)"),
            place.folder("sm_80", "driver 13000, trainer 0.1.0 (1)"),
            place.folder("sm_90", "driver 13000, trainer 0.1.0 (2)"),
        ];
        assert!(names[0].starts_with("/k") && names[0].to_str().unwrap().contains("sm_90-"));
        assert!(names[0] != names[1] && names[0] != names[2]);
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_used() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("tandem-0");
        let place = Place::AmongOthers(folder.clone());
        place.make().unwrap();
        place.make().unwrap();
        check(&place.folder("sm_90", "")).unwrap();
        fs_err::set_permissions(&folder, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(place.make().is_err());
        let link = temporary.path().join("link");
        symlink(temporary.path(), &link).unwrap();
        assert!(Place::AmongOthers(link).make().is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(check(&file.path().join("kernels")).is_err());
        assert!(check(Path::new("/proc/kernels")).is_err());
    }
}
