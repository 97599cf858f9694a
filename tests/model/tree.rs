//! The file server's side: folders, names and contents, in memory, and a watch over what must never change.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

/// Which file.
pub(crate) type Number = u64;

/// A bug to be put into the filesystem or, by that, into the protocol: the check must find each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Publishing replaces what is there.
    PublishOverwrites,
    /// Claiming copies the open job's file and leaves it where it was.
    ClaimCopies,
    /// Nobody looks whether a job has its result before taking it back or on.
    ResultsUnseen,
    /// The scheduler never sees a second heartbeat.
    HeartbeatsUnseen,
}

/// What the server holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    folders: BTreeMap<PathBuf, BTreeMap<String, Entry>>,
    contents: BTreeMap<Number, Arc<[u8]>>,
    next: Number,
    digest: u64,
    pub(crate) mutant: Option<Mutant>,
    /// What happened that must never happen.
    pub(crate) violations: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    File(Number),
}

impl Tree {
    /// A digest of all that decisions depend on: drafts, heartbeats and what is written for people are left out.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn lookup(&self, path: &Path) -> Option<Number> {
        match self.folders.get(parent(path))?.get(name(path))? {
            Entry::File(number) => Some(*number),
            Entry::Folder => None,
        }
    }

    pub(crate) fn content(&self, number: Number) -> Arc<[u8]> {
        Arc::clone(&self.contents[&number])
    }

    pub(crate) fn list(&self, folder: &Path) -> Option<Vec<String>> {
        Some(self.folders.get(folder)?.keys().cloned().collect())
    }

    pub(crate) fn make_folder(&mut self, path: &Path) {
        if self.folders.contains_key(path) {
            return;
        }
        if let Some(above) = path.parent() {
            self.make_folder(above);
            if let Some(names) = self.folders.get_mut(above)
                && path != above
            {
                names.insert(name(path).to_owned(), Entry::Folder);
            }
        }
        self.folders.insert(path.to_owned(), BTreeMap::new());
    }

    pub(crate) fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<Number> {
        if self.lookup(path).is_some() {
            return Err(Errno::EXIST.into());
        }
        if !self.folders.contains_key(parent(path)) {
            return Err(Errno::NOENT.into());
        }
        self.next += 1;
        self.contents.insert(self.next, bytes.into());
        self.put(path, self.next);
        Ok(self.next)
    }

    pub(crate) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let number = self.lookup(from).ok_or(Errno::NOENT)?;
        if !self.folders.contains_key(parent(to)) {
            return Err(Errno::NOENT.into());
        }
        if self.lookup(to).is_some() && self.mutant != Some(Mutant::PublishOverwrites) {
            return Err(Errno::EXIST.into());
        }
        self.put(to, number);
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let number = self.lookup(from).ok_or(Errno::NOENT)?;
        if !self.folders.contains_key(parent(to)) {
            return Err(Errno::NOENT.into());
        }
        let is_claim = parent(to).ends_with("claimed");
        if !(is_claim && self.mutant == Some(Mutant::ClaimCopies)) {
            self.take(from);
        }
        self.put(to, number);
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.lookup(path).ok_or(Errno::NOENT)?;
        self.take(path);
        Ok(())
    }

    pub(crate) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        if !self.folders.contains_key(path) {
            return Err(Errno::NOENT.into());
        }
        let inside: Vec<PathBuf> = self
            .folders
            .range(path.to_owned()..)
            .map(|(folder, _)| folder.clone())
            .take_while(|folder| folder.starts_with(path))
            .collect();
        for folder in inside.into_iter().rev() {
            for name in self.list(&folder).unwrap_or_default() {
                if self.lookup(&folder.join(&name)).is_some() {
                    self.take(&folder.join(&name));
                }
            }
            self.folders.remove(&folder);
            if let Some(names) = self.folders.get_mut(parent(&folder)) {
                names.remove(name(&folder));
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &Path, number: Number) {
        if let Some(old) = self.lookup(path) {
            if old == number {
                return;
            }
            if is_for_ever(path) && self.contents[&old] != self.contents[&number] {
                let violation = format!("`{}` was published and then changed", path.display());
                self.violations.push(violation);
            }
            self.mix(path, old);
        }
        self.mix(path, number);
        if let Some(names) = self.folders.get_mut(parent(path)) {
            names.insert(name(path).to_owned(), Entry::File(number));
        }
    }

    fn take(&mut self, path: &Path) {
        if let Some(number) = self.lookup(path) {
            if is_for_ever(path) {
                let violation = format!("`{}` was published and then removed", path.display());
                self.violations.push(violation);
            }
            self.mix(path, number);
        }
        if let Some(names) = self.folders.get_mut(parent(path)) {
            names.remove(name(path));
        }
    }

    fn mix(&mut self, path: &Path, number: Number) {
        if is_draft(path) || parent(path).ends_with("trainers") || parent(path).ends_with("models")
        {
            return;
        }
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        self.contents[&number].hash(&mut hasher);
        self.digest ^= hasher.finish();
    }
}

/// Whether what has this name must never change.
fn is_for_ever(path: &Path) -> bool {
    let mut kinds = path.components().filter_map(|c| c.as_os_str().to_str());
    !is_draft(path)
        && kinds.any(|kind| matches!(kind, "results" | "requests" | "configurations" | "late"))
}

/// Whether it is the name of a draft.
pub(crate) fn is_draft(path: &Path) -> bool {
    name(path).starts_with(".draft-")
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("")
}
