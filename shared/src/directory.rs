//! The protocol: what may be done to a search directory, each act safe to be interrupted, repeated, or raced for.
//!
//! ```text
//!   request ──► proposal ──► open ──claim──► claimed ──finish──► result (claim removed)
//!                              ▲                │
//!                              └──release / take back (next attempt)
//! ```
//! A job's state is where its file is. Claiming, releasing and taking back are one rename each; a result is published
//! under a name that must be new, so the first one stays. Decisions are made elsewhere, from what
//! [`Directory::jobs`] and the results show.

mod checkpoints;
mod evidence;
mod jobs;
mod lifecycle;
mod proposals;
mod quarantine;
mod results;
mod trainers;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::error::{Error, Result};
use crate::format::{self, Record};
use crate::fs::{self, Published};
use crate::id::{AttemptId, Claim, ConfigurationId, JobId};
use crate::layout::{self, Layout};
use crate::objective::Objective;
use crate::record::{AttemptEnd, Created, Fate};
use crate::search::{REVISION, Search, SearchFile};
use crate::system::FileKind;

/// A search directory, opened.
#[derive(Debug, Clone)]
pub struct Directory {
    layout: Layout,
    search: Search,
    is_network: bool,
    is_observer: bool,
    /// Folders that were seen to be no links.
    folders: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// Where the jobs are, as far as one look at the two folders tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobsView {
    /// Free to claim.
    pub open: BTreeSet<AttemptId>,
    /// In somebody's hands.
    pub claimed: BTreeSet<Claim>,
}

impl JobsView {
    /// Every job that is open or claimed.
    pub fn jobs(&self) -> BTreeSet<JobId> {
        self.open
            .iter()
            .map(|attempt| attempt.job)
            .chain(self.claimed.iter().map(|c| c.attempt.job))
            .collect()
    }
}

/// How a claimed job was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishedAs {
    /// The result is the job's result.
    First,
    /// The job had one already; this one is kept aside and ignored.
    Late,
}

/// What the top folder of a search says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Somebody asked the search to stop.
    pub is_stopped: bool,
    /// The scheduler has nothing left to do.
    pub is_finished: bool,
}

impl Directory {
    /// Gives a search file without a revision the one of the search that is in the directory, or the newest where none is.
    pub fn choose_revision(root: &Path, file: &mut SearchFile) -> Result<(), Error> {
        let there = read_if_there(&Layout::new(root).path(layout::SEARCH))?;
        file.revision = revision(file, there.as_ref());
        Ok(())
    }

    /// Makes a directory for a search, or finds that it is this search's already.
    pub fn create(root: &Path, file: &SearchFile, given: &Path) -> Result<Self> {
        let layout = Layout::new(root);
        refuse_links(&layout)?;
        let there = read_if_there::<SearchFile>(&layout.path(layout::SEARCH))?;
        let mut file = file.clone();
        file.revision = revision(&file, there.as_ref());
        let file = &file;
        let search = Search::check(file).map_err(|source| Error::Value {
            path: given.to_path_buf(),
            format: SearchFile::FORMAT,
            source,
        })?;
        for folder in layout::FOLDERS {
            fs::make_folder(&layout.path(folder))?;
        }
        let other = || Error::OtherSearch {
            path: root.to_path_buf(),
        };
        // A directory of an older version, whose digest is not recorded yet.
        if let Some(there) = there
            && format::to_bytes(&there) != format::to_bytes(file)
        {
            return Err(other());
        }
        let created = Created {
            search: search.digest.clone(),
            at: clock::now(),
            program: concat!("scheduler ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let path = layout.path(layout::CREATED);
        if fs::publish_record(&path, &created)? == Published::AlreadyThere
            && fs::read_record::<Created>(&path)?.search != search.digest
        {
            return Err(other());
        }
        // Last, so that whoever finds a search finds the folders and its digest too.
        if fs::publish_record(&layout.path(layout::SEARCH), file)? == Published::AlreadyThere
            && read_search(root)?.digest != search.digest
        {
            return Err(other());
        }
        let is_network = fs::is_network(root);
        Ok(Self {
            layout,
            search,
            is_network,
            is_observer: false,
            folders: Arc::default(),
        })
    }

    /// Opens an existing search directory.
    pub fn open(root: &Path) -> Result<Self> {
        let search = read_search(root)?;
        let is_network = fs::is_network(root);
        Ok(Self {
            layout: Layout::new(root),
            search,
            is_network,
            is_observer: false,
            folders: Arc::default(),
        })
    }

    /// Opens an existing search directory only to look at it: corrupt and foreign files are reported and left where
    /// they are.
    pub fn observe(root: &Path) -> Result<Self> {
        Ok(Self {
            is_observer: true,
            ..Self::open(root)?
        })
    }

    /// Takes note of rungs that extensions have added since it was opened.
    pub fn see_extensions(&mut self) -> Result<()> {
        self.search.ladder = self.ladder()?;
        Ok(())
    }

    /// The search.
    pub fn search(&self) -> &Search {
        &self.search
    }

    /// The paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the directory is on a filesystem that other machines share.
    pub fn is_network(&self) -> bool {
        self.is_network
    }

    /// Whether it was opened only to be looked at.
    pub fn is_observer(&self) -> bool {
        self.is_observer
    }

    /// Silence after which a trainer's job is taken back.
    pub fn lease(&self) -> Duration {
        let settings = self.search.trainers;
        let ten_beats = 10.0 * settings.heartbeat_s;
        let default = if self.is_network {
            ten_beats.max(240.0)
        } else {
            ten_beats
        };
        Duration::from_secs_f64(settings.lease_s.unwrap_or(default))
    }

    /// Of how many heartbeats a trainer writes one while it waits for a job: one in a quarter of the lease, so that it
    /// counts as living although some of those are late. Nothing can be taken away from it meanwhile.
    pub fn waiting_writes_one_of(&self) -> u32 {
        let beats = self.lease().as_secs_f64() / (4.0 * self.search.trainers.heartbeat_s);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and saturating"
        )]
        let whole = beats as u32;
        whole.max(1)
    }

    /// The path of a file, after making sure that no folder between it and the search directory is a link. Each folder is
    /// looked at once: who may change folders later may change everything else as well.
    ///
    /// # Errors
    /// One is.
    pub fn inside(&self, path: PathBuf) -> Result<PathBuf> {
        let mut seen = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut between: Vec<&Path> = path.ancestors().skip(1).collect();
        between.retain(|folder| {
            folder.starts_with(self.layout.root()) && *folder != self.layout.root()
        });
        for folder in between.into_iter().rev() {
            if !seen.contains(folder) {
                match fs::file_kind(folder)? {
                    Some(FileKind::Link) => {
                        let path = folder.to_path_buf();
                        return Err(Error::Link { path });
                    }
                    Some(FileKind::Folder) => {
                        seen.insert(folder.to_path_buf());
                    }
                    // Not there yet, or nothing that anything can be in.
                    Some(FileKind::Other) | None => {}
                }
            }
        }
        drop(seen);
        Ok(path)
    }

    /// Ids of the records of one kind in one shard, ascending; foreign files are set aside.
    pub fn list_shard<T: std::str::FromStr + Ord>(&self, kind: &str, shard: u32) -> Result<Vec<T>> {
        self.list_ids(&self.layout.shard(kind, shard))
    }

    /// Numbers of the shards of one kind, ascending.
    pub fn shards(&self, kind: &str) -> Result<Vec<u32>> {
        let mut shards: Vec<u32> = fs::list(&self.layout.path(kind))?
            .iter()
            .filter_map(|name| layout::shard_in(name))
            .collect();
        shards.sort_unstable();
        Ok(shards)
    }

    pub(super) fn sync_shards(
        &self,
        kind: &str,
        ids: impl IntoIterator<Item = ConfigurationId>,
    ) -> Result<()> {
        let shards: BTreeSet<u32> = ids.into_iter().map(ConfigurationId::shard).collect();
        for shard in shards {
            fs::sync_folder(&self.layout.shard(kind, shard))?;
        }
        Ok(())
    }
}

/// The search of a directory, as `scheduler init` recorded it, with the rungs that extensions have added on top.
///
/// # Errors
/// There is none; it has been changed since; or it names a command, and nothing says that this is the recorded one.
pub fn read_search(root: &Path) -> Result<Search> {
    let layout = Layout::new(root);
    refuse_links(&layout)?;
    let path = layout.path(layout::SEARCH);
    let file: SearchFile = match fs::read_record(&path) {
        Err(error) if error.is_not_found() || root.is_file() => return Err(no_search(root)),
        other => other?,
    };
    let search = match Search::check(&file) {
        Ok(search) => search,
        Err(source) => {
            return Err(Error::Value {
                path,
                format: SearchFile::FORMAT,
                source,
            });
        }
    };
    match read_if_there::<Created>(&layout.path(layout::CREATED))? {
        Some(created) if created.search == search.digest => {}
        Some(_) => return Err(Error::ChangedSearch { path }),
        // Made by a version that did not record it.
        None if matches!(search.objective, Objective::Command(_)) => {
            return Err(Error::UnknownCommand { path });
        }
        None => {}
    }
    let mut observer = Directory {
        layout,
        search,
        is_network: false,
        is_observer: true,
        folders: Arc::default(),
    };
    observer.see_extensions()?;
    Ok(observer.search)
}

/// A link in place of one of a search's folders would lead its programs elsewhere.
fn refuse_links(layout: &Layout) -> Result<()> {
    for name in layout::FOLDERS.iter().chain(&layout::LATER_FOLDERS) {
        let path = layout.path(name);
        if fs::file_kind(&path)? == Some(FileKind::Link) {
            return Err(Error::Link { path });
        }
    }
    Ok(())
}

fn read_if_there<R: Record>(path: &Path) -> Result<Option<R>> {
    match fs::read_record(path) {
        Err(error) if error.is_not_found() => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// The revision that a search file names; else that of the search that is there already, or the newest.
fn revision(file: &SearchFile, there: Option<&SearchFile>) -> Option<u32> {
    file.revision
        .or_else(|| there.map_or(Some(REVISION), |there| there.revision))
}

/// What is there instead of a search.
fn no_search(root: &Path) -> Error {
    let shown = root.display();
    let why = if root.is_file() {
        format!(
            "it is a file (`scheduler init {shown} DIRECTORY` makes a directory from a search file)"
        )
    } else {
        let why = if root.exists() {
            "it has no `search.json`"
        } else {
            "there is no such folder"
        };
        format!("{why} (`scheduler init SEARCH.json {shown}` makes one)")
    };
    Error::NoSearch {
        path: root.to_path_buf(),
        why,
    }
}

/// An attempt that ends now.
pub fn attempt_end(
    claim: &Claim,
    fate: Fate,
    spent: f64,
    message: impl Into<String>,
) -> AttemptEnd {
    AttemptEnd {
        claim: claim.clone(),
        fate,
        spent,
        message: message.into(),
        at: clock::now(),
    }
}
