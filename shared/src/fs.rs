//! The only module that changes files. What it guarantees:
//!
//! - **Atomic**: a record is drafted beside its target (`.draft-…`), synced, and linked or renamed into place. A reader
//!   sees the old state or the new one, never a part. A crash leaves at most a draft, which no reader looks at.
//! - **Durable**: what is published is synced before it gets its name, and the folder after. A move is not, nor is the
//!   name of a heartbeat, which the next one replaces, nor that of what can be derived again: where the disk's own machine
//!   loses power, all programs on that disk end with it, a claim that is open again is taken again, and what is missing is
//!   written again.
//! - **NFS**: a call that reports an error may have worked (the reply was lost and the call repeated), so after every
//!   error the own target is looked at. ESTALE is retried. A file that is gone is a normal answer.
//! - **Modest**: files get the user's umask and are never writable by everybody. No symbolic link is followed to what is
//!   read, written or listed in a search directory; only what a person names may be one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use crate::error::{Error, Result, io_error};
use crate::format::{self, Record};
use crate::system::{self, FileKind, Identity, with_system};
use crate::{clock, fault};

/// How names of drafts start.
const DRAFT: &str = ".draft-";
/// How long a network filesystem may believe that a name is free which is not: NFS's `acdirmax`, and some more.
const LONGEST_BELIEF: Duration = Duration::from_secs(70);
/// How long a stale handle may still become a good one; over a quarter of a second was seen on a busy client of NFS 4.2.
const LONGEST_STALENESS: Duration = Duration::from_secs(10);
/// Files larger than this are no records, and are not read into memory: the result of a program is of 4 MiB at most, and a
/// request that names 100,000 results is of 2 MiB.
pub(crate) const LARGEST_RECORD: u64 = 32 << 20;
/// Files larger than this are nothing that a person would write or another program log.
const LARGEST_INPUT: u64 = 256 << 20;

/// Whether a publication was the first of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The file is this process's.
    New,
    /// Somebody published that name before; nothing was changed.
    AlreadyThere,
}

/// Whether a file was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It now has the new name.
    Done,
    /// It was gone: somebody else moved or removed it.
    Gone,
}

/// Publishes a record under a name that must be new; of several writers exactly one gets [`Published::New`].
pub fn publish_record<R: Record>(path: &Path, record: &R) -> Result<Published> {
    publish_new(path, &format::to_publish(path, record)?)
}

/// Replaces a record that has one writer.
pub fn replace_record<R: Record>(path: &Path, record: &R) -> Result<()> {
    replace(path, &format::to_publish(path, record)?)
}

/// Replaces a record that has one writer and need not last, since the next one comes by itself: where the disk's own
/// machine loses power, the old one may be back.
pub(crate) fn show_record<R: Record>(path: &Path, record: &R) -> Result<()> {
    put(path, &format::to_publish(path, record)?)
}

/// Reads a record.
pub fn read_record<R: Record>(path: &Path) -> Result<R> {
    format::from_bytes(path, &read(path)?)
}

/// Reads a record at a path that somebody named, which may be a link.
pub fn read_named_record<R: Record>(path: &Path) -> Result<R> {
    format::from_bytes(path, &read_named(path)?)
}

/// As [`publish_record`], but that the name is not synced: a loss of power may take it, until somebody calls
/// [`sync_folder`].
pub(crate) fn show_new_record<R: Record>(path: &Path, record: &R) -> Result<Published> {
    publish_unsynced(path, &format::to_publish(path, record)?)
}

/// Publishes bytes under a name that must be new. The folder is made if need be.
pub fn publish_new(path: &Path, bytes: &[u8]) -> Result<Published> {
    let published = publish_unsynced(path, bytes)?;
    sync_folder_of(path)?;
    Ok(published)
}

/// Makes the names in a folder last, whoever gave them.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let synced = retried(folder, || {
        fault::before()?;
        with_system(|system| system.sync_folder(folder))
    });
    match synced {
        // A folder removed behind our back holds nothing to keep.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(io_error("sync", folder)),
    }
}

/// All of a publication but that the name lasts.
fn publish_unsynced(path: &Path, bytes: &[u8]) -> Result<Published> {
    let draft = Draft::write(path, bytes)?;
    let linked = retried(path, || {
        fault::before()?;
        with_system(|system| system.link(&draft.path, path))?;
        fault::after()
    });
    // Whatever was reported: the name is ours exactly if it leads to our draft.
    let published = match linked {
        Ok(()) => Published::New,
        Err(_) if draft.is_at(path) => Published::New,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Published::AlreadyThere,
        Err(error) => return Err(io_error("publish", path)(error)),
    };
    drop(draft);
    Ok(published)
}

/// Replaces the content of a file that has one writer (or makes the file). The folder is made if need be.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    put(path, bytes)?;
    sync_folder_of(path)
}

/// As [`replace`], without making it last.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = Draft::write(path, bytes)?;
    let renamed = retried(path, || {
        fault::before()?;
        with_system(|system| system.rename(&draft.path, path))?;
        fault::after()
    });
    match renamed {
        Ok(()) => {}
        Err(_) if draft.is_at(path) => {}
        Err(error) => return Err(io_error("replace", path)(error)),
    }
    draft.forget();
    Ok(())
}

/// Hands a file to another process of this machine, in a folder that is this process's own: in one piece, but not synced,
/// since neither process outlives the machine.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the module that others are told to use"
)]
pub fn hand_over(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(io_error("write", path))
}

/// Gives a file a new name that nobody else uses; of several movers exactly one gets [`Moved::Done`].
pub fn move_to(from: &Path, to: &Path) -> Result<Moved> {
    let renamed = retried(from, || {
        fault::before()?;
        with_system(|system| system.rename(from, to))?;
        fault::after()
    });
    match renamed {
        Ok(()) => {}
        Err(error) => {
            // The first try may have worked although it, or the one after it, reported an error.
            match open(to) {
                Ok(_ours) => {}
                Err(_) if error.kind() == io::ErrorKind::NotFound => return Ok(Moved::Gone),
                Err(_) => return Err(io_error("rename", from)(error)),
            }
        }
    }
    Ok(Moved::Done)
}

/// Removes a file; whether it was there. For claims whose result is published, drafts, and spent checkpoints only.
pub fn remove(path: &Path) -> Result<bool> {
    let removed = retried(path, || {
        fault::before()?;
        with_system(|system| system.remove(path))?;
        fault::after()
    });
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(_) if matches!(open(path), Err(e) if e.kind() == io::ErrorKind::NotFound) => Ok(true),
        Err(error) => Err(io_error("remove", path)(error)),
    }
}

/// Removes an empty folder; a folder that is not empty, or gone, is left as it is.
pub fn remove_empty_folder(path: &Path) {
    let _kept_if_in_use = std::fs::remove_dir(path);
}

/// Removes a folder with all that is in it, following no links; for the checkpoints of a dropped configuration only.
pub fn remove_folder(path: &Path) -> Result<()> {
    match with_system(|system| system.remove_folder(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(io_error("remove", path)),
    }
}

/// Reads a whole record, opened anew, so that a network filesystem asks its server.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    read_up_to(path, LARGEST_RECORD)
}

/// Reads a file that somebody named, which may be a link; what cannot be read is wrong input, not a bad directory.
pub fn read_named(path: &Path) -> Result<Vec<u8>> {
    let named = path.to_path_buf();
    let input = |source| Error::Input {
        path: named.clone(),
        source,
    };
    // A link is followed once, to what is none.
    let read = if path.is_symlink() {
        let real = std::fs::canonicalize(path).map_err(input)?;
        read_up_to(&real, LARGEST_INPUT)
    } else {
        read_up_to(path, LARGEST_INPUT)
    };
    read.map_err(|error| match error {
        Error::Io { source, .. } => input(source),
        other => other,
    })
}

/// Reads a file of a search directory, or what a link there was resolved to.
fn read_up_to(path: &Path, largest: u64) -> Result<Vec<u8>> {
    let read = retried(path, || with_system(|system| system.read(path, largest)));
    match read {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Error::NotAFile {
            path: path.to_path_buf(),
        }),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => Err(Error::NotAFile {
            path: path.to_path_buf(),
        }),
        Err(source) if source.kind() == io::ErrorKind::FileTooLarge => Err(Error::TooLarge {
            path: path.to_path_buf(),
            source,
        }),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// Reads a record that may be gone or not there yet.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    if_there(read(path))
}

/// Reads a file of up to so many bytes that may be gone or not there yet, such as a checkpoint.
pub(crate) fn read_large_if_there(path: &Path, largest: u64) -> Result<Option<Vec<u8>>> {
    if_there(read_up_to(path, largest))
}

fn if_there<T>(asked: Result<T>) -> Result<Option<T>> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// When a file was last written, in seconds since 1970 on the clock of the file server or, on a local disk, of this
/// machine; `None` if it is gone.
pub fn written_s(path: &Path) -> Result<Option<f64>> {
    if_there(
        retried(path, || with_system(|system| system.written_s(path)))
            .map_err(io_error("look at", path)),
    )
}

/// When a file was last written, renamed or otherwise changed, by the same clock as [`written_s`]; `None` if that cannot be
/// seen. For people.
pub fn changed_s(path: &Path) -> Option<f64> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::symlink_metadata(path).ok()?; // gone, or not to be seen
    Some(metadata.ctime() as f64 + metadata.ctime_nsec() as f64 * 1e-9)
}

/// The time by which new files in a folder are stamped, as [`written_s`] tells it: found out by a draft, which is removed
/// at once.
pub fn now_s(folder: &Path) -> Result<f64> {
    let asked = || {
        let draft = Draft::try_write(&folder.join("time"), b"")?;
        with_system(|system| system.written_s(&draft.path))
    };
    asked().map_err(io_error("write to", folder))
}

/// Whether a file is there, asked by opening it, so that a network filesystem asks its server.
pub fn is_there(path: &Path) -> Result<bool> {
    match open(path) {
        Ok(_identity) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // Something is there; reading it tells that it is no file.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => Ok(true),
        Err(error) => Err(io_error("look for", path)(error)),
    }
}

/// What is at `path`, asked by opening it.
fn open(path: &Path) -> io::Result<Identity> {
    retried(path, || with_system(|system| system.open(path)))
}

/// Opens a log to be added to by this process alone; never writable by everybody, whatever the umask, and never what a
/// link leads to.
pub fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o664)
        .custom_flags(system::plain_only())
        .open(path)
        .and_then(|file| Ok((file.metadata()?.is_file(), file)));
    match opened {
        Ok((true, file)) => Ok(file),
        Ok((false, _)) => Err(Error::NotAFile {
            path: path.to_path_buf(),
        }),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => Err(Error::NotAFile {
            path: path.to_path_buf(),
        }),
        Err(error) => Err(io_error("open the log", path)(error)),
    }
}

/// The end of a log, from the byte `start` on and at most `most` bytes of it; `None` where there is nothing to read.
pub fn end_of_log(path: &Path, start: u64, most: u64) -> Option<Vec<u8>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    // A log is for people: whatever is wrong with it, it is as if it were not there.
    let flags = system::plain_only();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut file = opened.ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        return None;
    }
    let from = start.max(metadata.len().saturating_sub(most));
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether a path that a person names leads to a program that somebody may run; `None` if nothing is there.
pub fn is_executable(path: &Path) -> Option<bool> {
    let metadata = std::fs::metadata(path).ok()?; // not there, or not to be seen
    Some(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What has this name, if anything; a link is not followed.
pub fn file_kind(path: &Path) -> Result<Option<FileKind>> {
    match retried(path, || with_system(|system| system.file_kind(path))) {
        Ok(what) => Ok(Some(what)),
        // Where a file is in place of a folder above, nothing is below.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(io_error("look at", path)(error)),
    }
}

/// The names in a folder that somebody named, which may be a link; as [`list`].
pub fn list_named(folder: &Path) -> Result<Vec<String>> {
    // Behind the link, if it is one.
    list(&folder.join("."))
}

/// The names in a folder, sorted, without drafts and other names that start with `.`; empty if there is no folder.
pub fn list(folder: &Path) -> Result<Vec<String>> {
    match retried(folder, || with_system(|system| system.list(folder))) {
        Ok(names) => {
            let mut names: Vec<String> = names
                .into_iter()
                // A name that is not Unicode is none of ours and cannot be one by mistake.
                .filter_map(|name| name.into_string().ok())
                .filter(|name| !name.starts_with('.'))
                .collect();
            names.sort_unstable();
            Ok(names)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error)
            if error.kind() == io::ErrorKind::NotADirectory
                && file_kind(folder)? == Some(FileKind::Link) =>
        {
            Err(Error::Link {
                path: folder.to_path_buf(),
            })
        }
        Err(error) => Err(io_error("list", folder)(error)),
    }
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<()> {
    with_system(|system| system.make_folder(path)).map_err(io_error("make folder", path))
}

/// Bytes of all files below a folder, drafts included. What goes in the meantime does not count; links are not followed.
pub(crate) fn tree_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io_error("list", &folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(io_error("list", &folder))?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("look at", &entry.path())(error)),
            }
        }
    }
    Ok(bytes)
}

/// Drafts in a folder, with what identifies an unchanged one: its size.
pub fn drafts(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let names = match with_system(|system| system.list(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io_error("list", folder))?,
    };
    let drafts = names
        .into_iter()
        .filter(|name| name.to_string_lossy().starts_with(DRAFT))
        .filter_map(|name| {
            let path = folder.join(name);
            let size = with_system(|system| system.size(&path)).ok()?; // gone meanwhile
            Some((path, size))
        });
    Ok(drafts.collect())
}

/// Whether a path lies on a filesystem that other machines share, or one that may (FUSE).
pub fn is_network(path: &Path) -> bool {
    with_system(|system| system.is_network(path))
}

/// A file that is not yet published; removed when dropped.
struct Draft {
    path: PathBuf,
    identity: Identity,
}

impl Draft {
    fn write(target: &Path, bytes: &[u8]) -> Result<Self> {
        match Self::try_write(target, bytes) {
            // Folders of shards come with their first file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = target.parent() {
                    make_folder(folder)?;
                }
                Self::write_into_new_folder(target, bytes).map_err(io_error("write", target))
            }
            other => other.map_err(io_error("write", target)),
        }
    }

    /// Writes into a folder that is there, although this host may believe for a while that it is not, because it has
    /// looked for it before another host made it.
    fn write_into_new_folder(target: &Path, bytes: &[u8]) -> io::Result<Self> {
        let start = clock::instant();
        loop {
            match Self::try_write(target, bytes) {
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && clock::since(start) < LONGEST_BELIEF =>
                {
                    // Reading the folder above makes NFS ask its server again.
                    if let Some(above) = target.parent().and_then(Path::parent) {
                        let _only_looked_at = with_system(|system| system.list(above));
                    }
                    clock::sleep(Duration::from_millis(50));
                }
                other => return other,
            }
        }
    }

    fn try_write(target: &Path, bytes: &[u8]) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().take(100).collect();
        fault::before()?;
        loop {
            // Process ids repeat on other hosts, and two drafts of one name may come from one process.
            let unique = format!(
                "{:x}-{:x}",
                with_system(|system| system.number()),
                COUNT.fetch_add(1, Ordering::Relaxed)
            );
            let path = target.with_file_name(format!("{DRAFT}{name}-{unique}"));
            match retried(&path, || with_system(|system| system.create(&path, bytes))) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => {
                    let identity = created?;
                    return Ok(Self { path, identity });
                }
            }
        }
    }

    /// Whether `path` leads to this very file.
    fn is_at(&self, path: &Path) -> bool {
        open(path).is_ok_and(|identity| identity == self.identity)
    }

    /// The draft's name is gone: it became the target.
    fn forget(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() && fault::before().is_ok() {
            let _left_to_the_sweeper = with_system(|system| system.remove(&self.path));
        }
    }
}

/// Hexadecimal text that no other process has.
pub(crate) fn unique_text() -> String {
    format!(
        "{:012x}",
        with_system(|system| system.number()) & 0xffff_ffff_ffff
    )
}

fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    sync_folder(folder)
}

/// Repeats an operation on `path` that a stale handle or a signal interrupted.
fn retried<T>(path: &Path, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let start = clock::instant();
    loop {
        let error = match operation() {
            Err(error) => error,
            done => return done,
        };
        let Some(pause) = pause_before_retry(&error, clock::since(start)) else {
            return Err(error);
        };
        clock::sleep(pause);
        // A client of NFS may go on with a file that another host has replaced, until it reads the folder anew.
        if let Some(folder) = path.parent() {
            let _only_looked_at = with_system(|system| system.list(folder));
        }
    }
}

/// How long to wait before an operation that failed is tried again, which has been tried for `waited`; `None` if that is
/// of no use.
fn pause_before_retry(error: &io::Error, waited: Duration) -> Option<Duration> {
    let is_passing = matches!(
        Errno::from_io_error(error),
        Some(Errno::STALE | Errno::INTR)
    );
    (is_passing && waited < LONGEST_STALENESS)
        .then(|| waited.clamp(Duration::from_millis(1), Duration::from_millis(250)))
}

#[cfg(test)]
mod tests;
