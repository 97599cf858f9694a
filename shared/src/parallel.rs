//! Asking for many files at a time, because a disk and a file server answer many questions as fast as one.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::directory::Directory;
use crate::error::Result;
use crate::fs;
use crate::system::{self, Concurrency};

/// Threads that ask.
const ASKERS: usize = 16;

/// Asks the same of several things with several threads, this one among them; the answers are in the order of `things`.
///
/// # Errors
/// The first one, in that order.
///
/// # Panics
/// If asking for one panics.
pub fn in_parallel<S: Sync, T: Send>(
    things: &[S],
    question: impl Fn(&S) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    all_in_parallel(things, question).into_iter().collect()
}

/// As [`in_parallel`], with every answer, also where some are errors.
///
/// # Panics
/// If asking for one panics.
pub fn all_in_parallel<S: Sync, T: Send>(
    things: &[S],
    question: impl Fn(&S) -> T + Sync,
) -> Vec<T> {
    match system::with_system(|system| system.concurrency()) {
        Concurrency::Threads if things.len() > 1 => {}
        Concurrency::LastToFirst => {
            let mut answers: Vec<T> = things.iter().rev().map(question).collect();
            answers.reverse();
            return answers;
        }
        Concurrency::FirstToLast | Concurrency::Threads => {
            return things.iter().map(question).collect();
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut answers = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(thing) = things.get(index) else {
                return answers;
            };
            answers.push((index, question(thing)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..ASKERS.min(things.len()))
            // Where no more threads can be had, those that are there do it all.
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut all = work();
        for other in others {
            match other.join() {
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
