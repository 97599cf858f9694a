//! What the protocol asks of the operating system, call by call: files, time, chance.
//!
//! [`crate::fs`] makes its guarantees out of these calls, [`crate::clock`] and [`crate::wait`] tell the time by them.
//! Programs have [`Real`], and nothing stands in between. With the feature `model`, which the model check in `tests/`
//! alone turns on, a thread can be given another system: a filesystem in memory that other processes change, delay and
//! break at every call.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::{Timestamp, Unit};
use notify::{Config, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::fs::{Advice, Dir, Mode, OFlags, fadvise};
use rustix::io::Errno;

use crate::fault;

/// Which file it is, whatever its names: device and number.
pub type Identity = (u64, u64);

/// What a name can be that of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A file or anything else.
    Other,
}

/// The calls.
pub trait System {
    /// Makes a new file with this content, and syncs it; leaves nothing behind if that fails.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Identity>;
    /// Gives a file a second name, only if that name is free.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name, whatever had it before.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and those above it.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all that is in it, following no links.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder last.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Opens a file that is no symbolic link: which one it is.
    fn open(&self, path: &Path) -> io::Result<Identity>;
    /// Opens a file that is no symbolic link and reads it; `None` if it is none.
    fn read(&self, path: &Path, largest: u64) -> io::Result<Option<Vec<u8>>>;
    /// What has this name.
    fn file_kind(&self, path: &Path) -> io::Result<FileKind>;
    /// All names in a folder that is no symbolic link, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// The size of a file in bytes.
    fn size(&self, path: &Path) -> io::Result<u64>;
    /// When a file was last written, in seconds since 1970 on the clock that stamps files there.
    fn written_s(&self, path: &Path) -> io::Result<f64>;
    /// Whether a path lies on a filesystem that other machines share.
    fn is_network(&self, path: &Path) -> bool;

    /// This process's stop-watch.
    fn instant(&self) -> Instant;
    /// The wall clock as RFC 3339 in UTC, to the millisecond, for people.
    fn stamp(&self) -> String;
    /// Waits.
    fn sleep(&self, duration: Duration);
    /// Calls for each event of these kinds in these folders, where the system tells.
    fn watch(
        &self,
        folders: &[PathBuf],
        kinds: EventKindMask,
        on_event: OnEvent,
    ) -> notify::Result<RecommendedWatcher>;
    /// Waits for such a word, at most so long.
    fn wait(&self, news: &Receiver<()>, limit: Duration) -> Result<(), RecvTimeoutError>;
    /// A number that no other process has, on this or any other host.
    fn number(&self) -> u64;
    /// How things are asked that may be asked at the same time.
    fn concurrency(&self) -> Concurrency {
        Concurrency::FirstToLast
    }
}

/// What is done about an event.
pub type OnEvent = Box<dyn FnMut(notify::Result<notify::Event>) + Send>;

/// Linux.
#[derive(Debug, Clone, Copy)]
pub struct Real;

/// Asks the system of this thread.
pub(crate) fn with_system<T>(question: impl FnOnce(&dyn System) -> T) -> T {
    #[cfg(feature = "model")]
    {
        // Not borrowed while it answers: another process may have its turn in between.
        let system = model::SYSTEM.with_borrow(Clone::clone);
        if let Some(system) = system {
            return question(&*system);
        }
    }
    question(&Real)
}

/// In which order things are asked that may be asked at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// By several threads.
    Threads,
    /// By one thread, as its system is not that of others.
    FirstToLast,
    /// As well, from the last to the first.
    LastToFirst,
}

/// Another system in place of the real one.
#[cfg(feature = "model")]
pub mod model {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::System;

    thread_local! {
        pub(super) static SYSTEM: RefCell<Option<Rc<dyn System>>> = const { RefCell::new(None) };
    }

    /// From now on this thread has that system; `None` for the real one. Returns what it had.
    pub fn set(system: Option<Rc<dyn System>>) -> Option<Rc<dyn System>> {
        SYSTEM.replace(system)
    }
}

impl System for Real {
    fn concurrency(&self) -> Concurrency {
        Concurrency::Threads
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Identity> {
        // 0o664 less the umask: never writable by everybody.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o664)
            .open(path)?;
        let mut write = || {
            file.write_all(bytes)?;
            fault::before()?;
            file.sync_all()?;
            let metadata = file.metadata()?;
            Ok((metadata.dev(), metadata.ino()))
        };
        write().inspect_err(|_error| {
            if fault::before().is_ok() {
                let _left_to_the_sweeper = self.remove(path);
            }
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that others are told to use"
    )]
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        match std::fs::hard_link(from, to) {
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK)
                ) =>
            {
                // A filesystem without hard links: the same guarantee from renameat2, where that is known.
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
            }
            other => other,
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that others are told to use"
    )]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that others are told to use"
    )]
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        // 0o775 less the umask: never writable by everybody.
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o775)
            .create(path);
        match made {
            // Another host has just made it, and this one still believes that there is no such name.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !path.is_file() => Ok(()),
            other => other,
        }
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        match File::open(path).and_then(|folder| folder.sync_all()) {
            // Some network filesystems cannot sync folders; their rename is synchronous at the server.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
            other => other,
        }
    }

    fn open(&self, path: &Path) -> io::Result<Identity> {
        let metadata = open(path)?.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    fn read(&self, path: &Path, largest: u64) -> io::Result<Option<Vec<u8>>> {
        let file = open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let length = metadata.len();
        if length > largest {
            let complaint = format!("{length} bytes, at most {largest} expected");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, complaint));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(length).unwrap_or(0))?; // only a hint
        file.take(largest).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn file_kind(&self, path: &Path) -> io::Result<FileKind> {
        let metadata = path.symlink_metadata()?;
        Ok(if metadata.is_symlink() {
            FileKind::Link
        } else if metadata.is_dir() {
            FileKind::Folder
        } else {
            FileKind::Other
        })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(folder, flags, Mode::empty())?;
        // What NFS 3 remembers of a folder is good until its time stamp changes. Of two changes within a tick of the
        // server's clock, a client that looks in between would not see the second one until a third is made.
        let _only_advice = fadvise(&opened, 0, None, Advice::DontNeed);
        let mut names = Vec::new();
        for entry in Dir::new(opened)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(path.symlink_metadata()?.len())
    }

    fn written_s(&self, path: &Path) -> io::Result<f64> {
        let metadata = open(path)?.metadata()?;
        Ok(metadata.mtime() as f64 + 1e-9 * metadata.mtime_nsec() as f64)
    }

    fn is_network(&self, path: &Path) -> bool {
        // Magic numbers of statfs(2): NFS, SMB, CIFS, SMB2, AFS, Ceph, Lustre, GPFS, BeeGFS, FUSE, Coda, OCFS2, PanFS.
        const MAGIC: [u64; 13] = [
            0x6969,
            0x517b,
            0xff53_4d42,
            0xfe53_4d42,
            0x5346_414f,
            0x00c3_6400,
            0x0bd0_0bd0,
            0x4750_4653,
            0x1983_0326,
            0x6573_5546,
            0x7375_7245,
            0x7461_636f,
            0xaad7_aaea,
        ];
        rustix::fs::statfs(path).is_ok_and(|stat| {
            #[expect(clippy::cast_sign_loss, reason = "a bit pattern")]
            let kind = stat.f_type as u64 & 0xffff_ffff;
            MAGIC.contains(&kind)
        })
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn stamp(&self) -> String {
        Timestamp::now()
            .round(Unit::Millisecond)
            .unwrap_or_default()
            .to_string()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn watch(
        &self,
        folders: &[PathBuf],
        kinds: EventKindMask,
        on_event: OnEvent,
    ) -> notify::Result<RecommendedWatcher> {
        let config = Config::default().with_event_kinds(kinds);
        let mut watcher = RecommendedWatcher::new(on_event, config)?;
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }

    fn wait(&self, news: &Receiver<()>, limit: Duration) -> Result<(), RecvTimeoutError> {
        news.recv_timeout(limit)
    }

    fn number(&self) -> u64 {
        use std::hash::{BuildHasher as _, RandomState};
        use std::sync::OnceLock;
        // RandomState is seeded by the operating system.
        static NUMBER: OnceLock<u64> = OnceLock::new();
        *NUMBER.get_or_init(|| RandomState::new().hash_one(std::process::id()))
    }
}

/// Opens for reading.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(plain_only())
        .open(path)
}

/// Flags for opening what should be a file: no link is followed, nobody waits for the other end of a pipe, and no terminal
/// becomes this process's.
pub(crate) fn plain_only() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY)
        .bits()
        .cast_signed()
}
