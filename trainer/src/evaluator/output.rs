//! What a worker prints: kept in the attempt's log, up to a limit from its beginning and as much from its end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tracing::warn;

/// The log of one attempt.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    /// Whether a fault has been told of already.
    has_failed: bool,
    /// Bytes that are kept from the beginning, and as many from the end.
    limit: usize,
    num_printed: u64,
    /// Bytes of the beginning that have been handled.
    num_first: usize,
    /// The newest bytes behind those.
    last: VecDeque<u8>,
}

impl Log {
    /// A log that begins with what is printed first; `is_eager`: the file is there even if nothing is.
    pub(crate) fn new(path: &Path, limit: usize, is_eager: bool) -> Self {
        let mut log = Self {
            path: path.to_path_buf(),
            file: None,
            has_failed: false,
            limit,
            num_printed: 0,
            num_first: 0,
            last: VecDeque::new(),
        };
        if is_eager {
            log.write(b"");
        }
        log
    }

    /// Adds what a worker has printed.
    pub(crate) fn print(&mut self, bytes: &[u8]) {
        self.num_printed += bytes.len() as u64;
        let (first, rest) = bytes.split_at(bytes.len().min(self.limit - self.num_first));
        if !first.is_empty() {
            self.num_first += first.len();
            self.write(first);
        }
        self.last
            .extend(&rest[rest.len().saturating_sub(self.limit)..]);
        let excess = self.last.len().saturating_sub(self.limit);
        self.last.drain(..excess);
    }

    /// Writes the end of what was printed, with a word about what is missing before it.
    pub(crate) fn finish(&mut self) {
        let num_kept = (self.num_first + self.last.len()) as u64;
        let num_missing = self.num_printed - num_kept;
        if num_missing > 0 {
            let words = format!("\n[… {num_missing} bytes are left out here …]\n");
            self.write(words.as_bytes());
        }
        let last = std::mem::take(&mut self.last);
        let (one, two) = last.as_slices();
        if !last.is_empty() {
            self.write(one);
            self.write(two);
        }
    }

    /// Whether there is a file.
    pub(crate) fn is_there(&self) -> bool {
        self.file.is_some()
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.file.is_none() && !self.has_failed {
            match shared::fs::open_log(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) => self.complain(&error),
            }
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(bytes)
        {
            self.complain(&error);
        }
    }

    /// A log is for people: a full disk must not end a training.
    fn complain(&mut self, error: &dyn std::fmt::Display) {
        if !self.has_failed {
            warn!("cannot write the log `{}`: {error}", self.path.display());
        }
        self.has_failed = true;
    }
}

/// The newest bytes that were printed, as text: where words about a failure are.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<u8>);

impl Recent {
    /// Bytes that are remembered.
    const MOST: usize = 16 << 10;

    pub(crate) fn print(&mut self, bytes: &[u8]) {
        self.0
            .extend(&bytes[bytes.len().saturating_sub(Self::MOST)..]);
        let excess = self.0.len().saturating_sub(Self::MOST);
        self.0.drain(..excess);
    }

    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What a program says of its failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastWords {
    /// In a line or a few.
    pub(crate) text: String,
    /// Whether it is an exception that nobody caught, or another way in which a runtime tells why a program ends; else it
    /// is only a line that the program printed.
    pub(crate) is_exception: bool,
}

/// The lines in which a program says why it failed: an exception with its message, not what was printed behind it.
///
/// Of Python that is what follows the last traceback that was not logged, of Rust what follows `panicked at`, of C++ what an
/// uncaught exception says of itself; else the last line that speaks of an error, or the last line of all.
pub(crate) fn last_words(text: &str) -> Option<LastWords> {
    let text = without_control_sequences(text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let exception = traceback(&lines)
        .or_else(|| panic(&lines))
        .or_else(|| uncaught(&lines));
    let is_exception = exception.is_some();
    let text = exception.or_else(|| line_of_error(&lines)).or_else(|| {
        let line = lines.iter().rfind(|line| !line.trim().is_empty())?;
        Some(line.trim().to_owned())
    })?;
    Some(LastWords { text, is_exception })
}

/// The most lines of a message.
const MAX_LINES: usize = 5;
/// The most lines that may be printed behind an exception that ends a program.
const MAX_BEHIND: usize = 20;

fn traceback(lines: &[&str]) -> Option<String> {
    const TITLE: &str = "Traceback (most recent call last)";
    let start = lines.iter().rposition(|line| line.contains(TITLE))?;
    if start > 0 && is_log(lines[start - 1]) {
        return None;
    }
    // Programs that print for several processes put a name in front of each line.
    let indent = lines[start].find(|c: char| !c.is_whitespace()).unwrap_or(0);
    let mut words: Vec<&str> = Vec::new();
    let mut rest = lines[start + 1..]
        .iter()
        .map(|line| line.get(indent..).unwrap_or(""));
    for line in rest.by_ref() {
        let plain = line.trim_start_matches(['|', ' ', '\t']);
        let is_frame = line.starts_with([' ', '\t']);
        match words.last() {
            None if is_frame || plain.is_empty() => {}
            None => words.push(plain),
            // A message of several lines goes on indented, or begins in the line behind its name.
            Some(_) if is_frame && words.len() < MAX_LINES => words.push(plain),
            Some(last) if last.ends_with(':') && words.len() < MAX_LINES => words.push(plain),
            Some(_) => break,
        }
    }
    let num_behind = rest.filter(|line| !line.trim().is_empty()).count();
    words.retain(|word| !word.is_empty());
    (!words.is_empty() && num_behind <= MAX_BEHIND).then(|| words.join(" "))
}

/// Whether a line is one of a log, so that a traceback behind it belongs to an exception that was caught.
fn is_log(line: &str) -> bool {
    const LEVELS: [&str; 5] = ["ERROR", "WARNING", "INFO", "CRITICAL", "DEBUG"];
    LEVELS.iter().any(|level| line.contains(level))
}

fn panic(lines: &[&str]) -> Option<String> {
    let start = lines
        .iter()
        .rposition(|line| line.contains("panicked at"))?;
    let message: Vec<&str> = lines[start + 1..]
        .iter()
        .take_while(|line| !line.starts_with("note: ") && !line.starts_with("stack backtrace:"))
        .take(MAX_LINES)
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .collect();
    Some(if message.is_empty() {
        lines[start].trim().to_owned()
    } else {
        format!("panicked: {}", message.join(" "))
    })
}

fn uncaught(lines: &[&str]) -> Option<String> {
    let start = lines
        .iter()
        .rposition(|line| line.starts_with("terminate called after throwing"))?;
    let words: Vec<&str> = lines[start..]
        .iter()
        .take(2)
        .map(|line| line.trim())
        .collect();
    Some(words.join(" "))
}

fn line_of_error(lines: &[&str]) -> Option<String> {
    /// How far from the end such a line may be.
    const LAST: usize = 20;
    const WORDS: [&str; 8] = [
        "error",
        "fatal",
        "exception",
        "cannot",
        "can't",
        "not found",
        "no such",
        "failed",
    ];
    let last = &lines[lines.len().saturating_sub(LAST)..];
    let line = last.iter().rfind(|line| {
        let line = line.to_lowercase();
        WORDS.iter().any(|word| line.contains(word))
    })?;
    Some(line.trim().to_owned())
}

/// Text as it reads without colours; of a line that was written over (progress bars) the last form.
fn without_control_sequences(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' => {
                if characters.next_if_eq(&'[').is_some() {
                    while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
            }
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => {
                let line = plain.rfind('\n').map_or(0, |end| end + 1);
                plain.truncate(line);
            }
            c if c.is_control() && c != '\n' && c != '\t' => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(limit: usize, pieces: &[&[u8]]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::new(&path, limit, false);
        for piece in pieces {
            log.print(piece);
        }
        log.finish();
        String::from_utf8(fs_err::read(&path).unwrap_or_default()).unwrap()
    }

    #[test]
    fn beginning_and_end_are_kept_and_the_middle_is_counted() {
        assert_eq!(logged(4, &[b"ab", b"cd"]), "abcd");
        assert_eq!(logged(4, &[b"abcdefgh"]), "abcdefgh");
        let expected = "abcd\n[… 3 bytes are left out here …]\nhijk";
        assert_eq!(logged(4, &[b"abcdefghijk"]), expected);
        assert_eq!(logged(4, &[b"abc", b"defgh", b"i", b"jk"]), expected);
        assert_eq!(logged(4, &[]), "");
    }

    #[test]
    fn a_failure_is_told_in_its_own_words() {
        let traceback = "epoch 1\nTraceback (most recent call last):\n  File \"train.py\", line 3, in <module>\n    \
                         main()\nValueError: the learning rate is 0\n";
        let chained = format!(
            "{traceback}\nDuring handling of the above exception, another exception occurred:\n\n\
             Traceback (most recent call last):\n  File \"train.py\", line 9\nRuntimeError: Error(s) in loading:\n\
             \tMissing key: \"a\"\n\nsrun: error: node1: task 0: Exited with exit code 1\n"
        );
        let panic = "thread 'main' panicked at src/main.rs:3:5:\nno such layer\nnote: run with `RUST_BACKTRACE=1`\n";
        for (text, expected) in [
            (traceback, "ValueError: the learning rate is 0"),
            (
                &format!("{traceback}wandb: run finished\nBye.\n"),
                "ValueError: the learning rate is 0",
            ),
            (
                &chained,
                "RuntimeError: Error(s) in loading: Missing key: \"a\"",
            ),
            (panic, "panicked: no such layer"),
            (
                "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\nAborted\n",
                "terminate called after throwing an instance of 'std::bad_alloc' what():  std::bad_alloc",
            ),
            (
                "\u{1b}[31mError: no GPU\u{1b}[0m\ncleaning up\n\n",
                "Error: no GPU",
            ),
            ("10 %\r50 %\r100 %\r\nout of luck\n", "out of luck"),
            (
                "python3: can't open file 'train.py'\n",
                "python3: can't open file 'train.py'",
            ),
        ] {
            assert_eq!(last_words(text).unwrap().text, expected);
        }
        assert_eq!(last_words("\n \n"), None);
        for (text, expected) in [
            (
                "ValueError: \nTraceback (most recent call last):\n  File \"a\"\nValueError:\nAll the 5 fits failed.\n",
                "ValueError: All the 5 fits failed.",
            ),
            (
                "Traceback (most recent call last):\n  File \"a\"\nKeyError: Caught KeyError in worker 0.\nOriginal Traceback (most recent call last):\n  File \"b\"\nKeyError: 'label'\n",
                "KeyError: 'label'",
            ),
            (
                "ERROR:root:halving the batch\nTraceback (most recent call last):\n  File \"a\"\nMemoryError\nfatal: configuration is wrong\n",
                "fatal: configuration is wrong",
            ),
        ] {
            assert_eq!(last_words(text).unwrap().text, expected);
        }
    }
}
