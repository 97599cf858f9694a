//! What can go wrong with the shared directory, always with the path it concerns.

use std::io;
use std::path::{Path, PathBuf};

use crate::exit::Code;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A value that a person or another program wrote and that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at `{at}`: expected {expected}, found {found}")]
pub struct Invalid {
    /// Where in the record: a JSON path such as `space.hyperparameters[2].lower`.
    pub at: String,
    /// What would have been right, in words.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl Invalid {
    /// Makes one from anything that can be shown.
    pub fn new(
        at: impl Into<String>,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self {
            at: at.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// The same complaint seen from a record that holds this one at `outer`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.at = if self.at.is_empty() {
            outer.to_owned()
        } else {
            format!("{outer}.{}", self.at)
        };
        self
    }
}

/// Everything that is wrong with a file; something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaints(Vec<Invalid>);

impl Complaints {
    /// `None` if nothing is wrong.
    pub fn new(all: impl IntoIterator<Item = Invalid>) -> Option<Self> {
        let all: Vec<Invalid> = all.into_iter().collect();
        (!all.is_empty()).then_some(Self(all))
    }

    /// The first one.
    pub(crate) fn into_first(mut self) -> Invalid {
        self.0.swap_remove(0) // there is one
    }

    /// The same seen from a record that holds this one at `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self(self.0.into_iter().map(|c| c.within(outer)).collect())
    }
}

impl From<Invalid> for Complaints {
    fn from(first: Invalid) -> Self {
        Self(vec![first])
    }
}

impl IntoIterator for Complaints {
    type Item = Invalid;
    type IntoIter = std::vec::IntoIter<Invalid>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl std::fmt::Display for Complaints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [only] = &self.0[..] {
            return only.fmt(f);
        }
        write!(f, "{} mistakes", self.0.len())?;
        self.0.iter().try_for_each(|one| write!(f, "\n  {one}"))
    }
}

impl std::error::Error for Complaints {}

/// An error of the shared directory or of a file given by the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was attempted: `read`, `publish`, …
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The operating system refused a file that somebody named.
    #[error("cannot read `{}`", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A link in a search directory: what is behind it is none of the search.
    #[error("`{}` is a symbolic link: a search's own folders must be folders, and nothing behind a link is read or written", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// More than any record can be.
    #[error("`{}` is too large", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How large it is, and how large it may be.
        source: io::Error,
    },
    /// Not JSON at all, most often a truncated file.
    #[error("`{}` is not JSON", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why, with line and column.
        source: serde_json::Error,
    },
    /// JSON of another shape than its format has, or with values that cannot be.
    #[error("`{}` is not a valid {format} file", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The format it should have.
        format: &'static str,
        /// Of each: JSON path, expected, found.
        source: Complaints,
    },
    /// A program was about to write what no program would read.
    #[error("a {format} record for `{}` is not written, because it could not be read again", path.display())]
    Unwritable {
        /// The file it was to be.
        path: PathBuf,
        /// Its format.
        format: &'static str,
        /// What is wrong with it.
        source: Complaints,
    },
    /// A folder, a pipe, a link: nothing that could hold a record.
    #[error("`{}` is not a file", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// Another kind of record.
    #[error("`{}` is not a {expected} file: its `format` is {found}", path.display())]
    WrongFormat {
        /// The file.
        path: PathBuf,
        /// The format that was looked for.
        expected: &'static str,
        /// What the file says.
        found: String,
    },
    /// A record of a later version of this program.
    #[error(
        "`{}` is a {format} file of version {found}; this program reads up to {supported}: use the newer program",
        path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: &'static str,
        /// Its version.
        found: String,
        /// The newest version understood.
        supported: String,
    },
    /// There is no search.
    #[error("`{}` is not a search directory: {why}", path.display())]
    NoSearch {
        /// What was taken for one.
        path: PathBuf,
        /// What it is, and how to make one.
        why: String,
    },
    /// The search is not the one that the directory was made for.
    #[error("`{}` was changed after `scheduler init`, and nothing is done with it: put it back, or make a new directory", path.display())]
    ChangedSearch {
        /// The search file.
        path: PathBuf,
    },
    /// A command that nobody has confirmed.
    #[error("`{}` names a command, and there is no `created.json` beside it that says so: repeat `scheduler init` with the search file", path.display())]
    UnknownCommand {
        /// The search file.
        path: PathBuf,
    },
    /// The folder already holds a different search.
    #[error("`{}` already holds another search (its `search.json` differs); use a new directory", path.display())]
    OtherSearch {
        /// The folder.
        path: PathBuf,
    },
}

impl Error {
    /// The documented exit code of a program that ends on this error.
    pub fn exit_code(&self) -> Code {
        match self {
            Self::Io { .. } | Self::Link { .. } => Code::Directory,
            Self::NewerVersion { .. } => Code::NewerVersion,
            Self::Unwritable { .. } => Code::Unforeseen,
            Self::Input { .. }
            | Self::TooLarge { .. }
            | Self::Syntax { .. }
            | Self::Value { .. }
            | Self::WrongFormat { .. }
            | Self::NotAFile { .. }
            | Self::NoSearch { .. }
            | Self::ChangedSearch { .. }
            | Self::UnknownCommand { .. }
            | Self::OtherSearch { .. } => Code::BadInput,
        }
    }

    /// Whether this is a bad file, to be set aside, rather than a bad disk.
    pub fn is_bad_file(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::Syntax { .. }
                | Self::Value { .. }
                | Self::WrongFormat { .. }
                | Self::NotAFile { .. }
        )
    }

    /// Whether the file just is not there, which is normal for a name that several programs compete for.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } | Self::Input { source, .. }
            if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the disk or quota is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Puts the path and the attempted action on an `io::Error`.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

/// An error and its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
