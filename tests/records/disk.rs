//! A filesystem in memory, with a clock of its own: programs run on it in microseconds, sleep in none, and cannot leave
//! the search directory without a panic.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use shared::clock;
use shared::system::{FileKind, Identity, OnEvent, System, model};

/// Where the search is.
pub(crate) const ROOT: &str = "/search";

/// No program waits longer.
const CENTURY: Duration = Duration::from_hours(24 * 36_525);

/// The filesystem.
pub(crate) struct Disk {
    // By their paths as text, which compares faster than part by part.
    files: RefCell<BTreeMap<OsString, File>>,
    folders: RefCell<BTreeSet<OsString>>,
    numbers: Cell<u64>,
    start: Instant,
    now: Cell<Duration>,
}

#[derive(Clone)]
struct File {
    number: u64,
    bytes: Rc<[u8]>,
}

impl Disk {
    /// A search directory with these files, by their paths in it.
    pub(crate) fn new(files: impl IntoIterator<Item = (String, Rc<[u8]>)>) -> Rc<Self> {
        let disk = Self {
            files: RefCell::default(),
            folders: RefCell::default(),
            numbers: Cell::new(0),
            start: Instant::now(),
            now: Cell::new(Duration::ZERO),
        };
        disk.add_folder(Path::new(ROOT));
        for (path, bytes) in files {
            disk.put(&path, bytes);
        }
        Rc::new(disk)
    }

    /// Puts a file where nobody asks how it came there.
    pub(crate) fn put(&self, path: &str, bytes: Rc<[u8]>) {
        let path = Path::new(ROOT).join(path);
        self.add_folder(parent(&path));
        let number = self.next();
        let file = File { number, bytes };
        self.files.borrow_mut().insert(path.into(), file);
    }

    /// Runs something on this system.
    pub(crate) fn with<T>(self: &Rc<Self>, act: impl FnOnce() -> T) -> T {
        let before = model::set(Some(Rc::clone(self) as Rc<dyn System>));
        let answer = act();
        model::set(before);
        answer
    }

    /// Lets time pass, up to a century in all.
    pub(crate) fn pass(&self, time: Duration) {
        let now = self.now.get().saturating_add(time);
        self.now.set(now.min(CENTURY));
    }

    /// All files, by their paths in the search directory.
    pub(crate) fn files(&self) -> BTreeMap<String, Rc<[u8]>> {
        let files = self.files.borrow();
        let relative = |path: &OsString| {
            let path = Path::new(path);
            let inside = path.strip_prefix(ROOT).unwrap_or(path);
            inside.to_string_lossy().into_owned()
        };
        let pairs = files
            .iter()
            .map(|(path, file)| (relative(path), Rc::clone(&file.bytes)));
        pairs.collect()
    }

    fn next(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    fn add_folder(&self, path: &Path) {
        let mut folders = self.folders.borrow_mut();
        for folder in path.ancestors() {
            if !folders.contains(folder.as_os_str()) {
                folders.insert(folder.into());
            }
        }
    }

    fn file(&self, path: &Path) -> io::Result<File> {
        check(path);
        let file = self.files.borrow().get(path.as_os_str()).cloned();
        file.ok_or_else(|| Errno::NOENT.into())
    }

    fn needs_folder_of(&self, path: &Path) -> io::Result<()> {
        check(path);
        if self.folders.borrow().contains(parent(path).as_os_str()) {
            Ok(())
        } else {
            Err(Errno::NOENT.into())
        }
    }
}

/// Whatever a record says, nothing outside the search directory is looked at or changed.
fn check(path: &Path) {
    let inside = path
        .as_os_str()
        .as_encoded_bytes()
        .strip_prefix(ROOT.as_bytes());
    let is_plain = |part: &[u8]| {
        !part.is_empty() && part != b"." && part != b".." && !part.contains(&0) && part.len() <= 255
    };
    // The first part, which is before the first slash, is empty.
    let is_inside = inside.is_some_and(|inside| {
        let mut parts = inside.split(|byte| *byte == b'/');
        parts.next() == Some(b"") && parts.all(is_plain)
    });
    assert!(
        is_inside,
        "`{}` is not in the search directory",
        path.display()
    );
}

/// A folder by its plain path: `x/.` is what is behind `x` where that is a link, and there are none here.
fn plain(folder: &Path) -> &Path {
    let bytes = folder.as_os_str().as_bytes();
    let plain = bytes.strip_suffix(b"/.").unwrap_or(bytes);
    Path::new(OsStr::from_bytes(plain))
}

/// The rest of a path behind the folder with this start; no name here is anything but Unicode.
fn inside<'a>(path: &'a OsStr, start: &OsStr) -> Option<&'a str> {
    path.to_str()?.strip_prefix(start.to_str()?)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

impl System for Disk {
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Identity> {
        self.needs_folder_of(path)?;
        if self.files.borrow().contains_key(path.as_os_str()) {
            return Err(Errno::EXIST.into());
        }
        let file = File {
            number: self.next(),
            bytes: bytes.into(),
        };
        let identity = (0, file.number);
        self.files.borrow_mut().insert(path.into(), file);
        Ok(identity)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from)?;
        self.needs_folder_of(to)?;
        if self.files.borrow().contains_key(to.as_os_str()) {
            return Err(Errno::EXIST.into());
        }
        self.files.borrow_mut().insert(to.into(), file);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from)?;
        self.needs_folder_of(to)?;
        let mut files = self.files.borrow_mut();
        files.remove(from.as_os_str());
        files.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.files.borrow_mut().remove(path.as_os_str());
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        check(path);
        self.add_folder(path);
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        check(path);
        let is_in_it = |other: &OsString| Path::new(other).starts_with(path);
        self.folders.borrow_mut().retain(|other| !is_in_it(other));
        self.files.borrow_mut().retain(|other, _| !is_in_it(other));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        check(path);
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Identity> {
        Ok((0, self.file(path)?.number))
    }

    fn read(&self, path: &Path, largest: u64) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.file(path)?.bytes;
        if bytes.len() as u64 > largest {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes.to_vec()))
    }

    fn file_kind(&self, _path: &Path) -> io::Result<FileKind> {
        Ok(FileKind::Folder) // nobody here plants links
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let folder = plain(folder);
        check(folder);
        let folders = self.folders.borrow();
        if !folders.contains(folder.as_os_str()) {
            return Err(Errno::NOENT.into());
        }
        let mut start = folder.as_os_str().to_owned();
        start.push("/");
        let from = (Bound::Included(start.as_os_str()), Bound::Unbounded);
        let files = self.files.borrow();
        let files = files.range::<OsStr, _>(from).map(|(path, _)| path);
        let files = files.map_while(|path| inside(path, &start));
        let folders = folders.range::<OsStr, _>(from);
        let folders = folders.map_while(|path| inside(path, &start));
        let is_name = |rest: &&str| !rest.contains('/');
        Ok(files
            .chain(folders)
            .filter(is_name)
            .map(OsString::from)
            .collect())
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(self.file(path)?.bytes.len() as u64)
    }

    fn written_s(&self, path: &Path) -> io::Result<f64> {
        self.file(path)?;
        Ok(START_S)
    }

    fn is_network(&self, _path: &Path) -> bool {
        false
    }

    fn instant(&self) -> Instant {
        self.start + self.now.get()
    }

    fn stamp(&self) -> String {
        let stamp = clock::stamp(START_S + self.now.get().as_secs_f64());
        stamp.expect("the end of the century can be written")
    }

    fn sleep(&self, duration: Duration) {
        self.pass(duration);
    }

    fn watch(
        &self,
        _folders: &[PathBuf],
        _kinds: notify::EventKindMask,
        _on_event: OnEvent,
    ) -> notify::Result<notify::RecommendedWatcher> {
        Err(notify::Error::generic("nobody else is here"))
    }

    fn wait(&self, _news: &Receiver<()>, limit: Duration) -> Result<(), RecvTimeoutError> {
        self.pass(limit);
        Err(RecvTimeoutError::Timeout)
    }

    fn number(&self) -> u64 {
        self.next()
    }
}

/// Seconds since 1970 when the clock is at its start.
const START_S: f64 = 1_800_000_000.0;
