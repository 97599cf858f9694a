//! The folder in which the trainers of a search work, wherever its programs are started.

use std::path::Path;

use anyhow::{Context as _, Result};
use shared::error::{Error, Invalid};
use shared::exit::{Code, Failure};
use shared::format::Record as _;
use shared::objective::ObjectiveFile;
use shared::{Search, SearchFile, fs, layout};

/// Puts the working directory into a search file that depends on it: the one that it names, relative to the file; else the
/// one that a directory already has, so that repeating the command elsewhere changes nothing; else this process's.
///
/// # Errors
/// It is not there, or cannot be written down.
pub(crate) fn record(file: &mut SearchFile, path: &Path, root: &Path) -> Result<()> {
    let wrong = |expected: &str, found: &dyn std::fmt::Display| Error::Value {
        path: path.to_path_buf(),
        format: SearchFile::FORMAT,
        source: Invalid::new("working_directory", expected, found).into(),
    };
    let folder = match &file.working_directory {
        Some(named) => {
            let folder = path.parent().unwrap_or(Path::new("")).join(named);
            match fs_err::canonicalize(&folder) {
                // As it is named: on other machines other links may lead there.
                Ok(_) if Path::new(named).is_absolute() => folder,
                Ok(found) => found,
                Err(_) => {
                    std::path::absolute(folder).context("cannot find the working directory")?
                }
            }
        }
        None if !depends_on_it(&file.objective) => return Ok(()),
        None => match fs::read_record::<SearchFile>(&root.join(layout::SEARCH)) {
            Ok(there) => {
                file.working_directory = there.working_directory;
                return Ok(());
            }
            // There is no search yet, or one that is complained of later.
            Err(_) => std::env::current_dir().context("cannot find the working directory")?,
        },
    };
    if !folder.is_dir() {
        return Err(wrong("an existing folder", &format!("`{}`", folder.display())).into());
    }
    let Some(text) = folder.to_str() else {
        return Err(wrong("a path in UTF-8", &folder.display()).into());
    };
    file.working_directory = Some(text.to_owned());
    Ok(())
}

/// Whether anything begins in the working directory.
fn depends_on_it(objective: &ObjectiveFile) -> bool {
    let data = objective.network.as_ref().map(|network| &network.data);
    let mut paths = data.into_iter().flat_map(|data| [&data.path, &data.cache]);
    objective.command.is_some() || paths.any(|path| path.as_ref().is_some_and(|p| p.is_relative()))
}

/// The working directory of a search, if it has one.
///
/// # Errors
/// It is not there.
pub(crate) fn of(search: &Search) -> Result<Option<&Path>, Failure> {
    let Some(folder) = &search.working_directory else {
        return Ok(None);
    };
    if !folder.is_dir() {
        let message = format!(
            "`{}`, in which this search was made and its trainers work, is no folder on this machine",
            folder.display()
        );
        return Err(Failure::new(Code::BadInput, message));
    }
    Ok(Some(folder))
}
