//! Reading many files at the start of a program.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::fs;
use crate::store::Directory;

/// Threads that read.
const READERS: usize = 16;

/// Reads shards with several threads, because a disk and a file server answer many questions as fast as one; the
/// answers are in the order of `shards`.
///
/// # Errors
/// The first one, in that order.
///
/// # Panics
/// If reading one panics.
pub fn in_parallel<S: Sync, T: Send>(
    shards: &[S],
    read: impl Fn(&S) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if let [shard] = shards {
        return Ok(vec![read(shard)?]);
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut answers = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(shard) = shards.get(index) else {
                return answers;
            };
            answers.push((index, read(shard)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS.min(shards.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut all = Vec::new();
        for reader in readers {
            match reader.join() {
                Ok(answers) => all.extend(answers),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, answer)| answer).collect()
}

/// Reads all records of some kinds and forgets them, so that reading them one after the other finds them in this
/// host's memory.
///
/// # Errors
/// A folder cannot be listed. What cannot be read is left to who needs it.
pub fn read_ahead(directory: &Directory, kinds: &[&str]) -> Result<()> {
    let mut folders = Vec::new();
    for kind in kinds {
        for shard in directory.shards(kind)? {
            folders.push(directory.layout().shard(kind, shard));
        }
    }
    in_parallel(&folders, |folder| {
        for name in fs::list(folder)? {
            let _read_again_later = fs::read(&folder.join(name));
        }
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_in_order_and_the_first_error_counts() {
        let shards: Vec<u32> = (0..100).collect();
        let squares = in_parallel(&shards, |shard| Ok(shard * shard)).unwrap();
        assert_eq!(squares[99], 9801);
        let failing = in_parallel(&shards, |shard| {
            fs::read(std::path::Path::new(&format!("/nonexistent/{shard}"))).map(|_| ())
        });
        assert!(failing.unwrap_err().to_string().contains("/nonexistent/0"));
    }
}
