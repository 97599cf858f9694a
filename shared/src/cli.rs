//! What the command lines of all programs share: arguments, logs, printing, and how errors end a program.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use tracing_subscriber::EnvFilter;

use crate::env;
use crate::exit::{self, Code};
use crate::wording::plain;

/// What helps call the argument that is a search directory.
pub const DIRECTORY: &str = "DIR";

/// How output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Reads an argument that is a number of seconds to wait: above 0, and up to a day.
///
/// # Errors
/// What was expected.
pub fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("expected a number of seconds above 0 and up to 86400".to_owned()),
    }
}

/// Parses the command line, runs the program, and reports its error, if any, as one line on stderr.
pub fn run<A: clap::Parser>(program: fn(A) -> Result<Code>) -> ExitCode {
    let arguments = A::parse();
    start_logs();
    match program(arguments) {
        Ok(code) => code.into(),
        Err(error) => {
            let code = exit::code_of(&error);
            report(&format!("error: {error:#}"));
            code.into()
        }
    }
}

/// Logs go to stderr: one line an act, with the id it concerns.
fn start_logs() {
    let filter = env::LOG.get().unwrap_or_else(|| "info".to_owned());
    let is_terminal = io::stderr().is_terminal() && env::NO_COLOR.get().is_none();
    let built = tracing_subscriber::fmt()
        .with_writer(|| Logs)
        .with_ansi(is_terminal)
        .with_target(false)
        .with_env_filter(EnvFilter::new(filter))
        .try_init();
    if let Err(error) = built {
        report(&format!("warning: no logs: {error}"));
    }
}

/// Where log lines go instead of to stderr.
type Sink = Box<dyn Fn(&str) + Send>;
static SINK: Mutex<Option<Sink>> = Mutex::new(None);

/// Sends all later log lines to `sink`, without colours, for a program that draws on the terminal itself.
pub fn redirect_logs(sink: impl Fn(&str) + Send + 'static) {
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(sink));
}

/// One log line on its way: `tracing` writes each of them in one piece.
struct Logs;

impl Write for Logs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &*SINK.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(sink) => sink(&without_colours(&String::from_utf8_lossy(line))),
            None => io::stderr().write_all(without_returns(line).as_bytes())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log line whose colours are `tracing`'s own, which escapes all others, without what else could move a cursor.
fn without_returns(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let shown = |c: char| {
        if c == '\u{1b}' || !c.is_control() || matches!(c, '\n' | '\t') {
            c
        } else {
            char::REPLACEMENT_CHARACTER
        }
    };
    text.chars().map(shown).collect()
}

/// A line as it stands where there are no colours.
pub fn without_colours(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        text += before;
        rest = after.split_once('m').map_or("", |(_colour, after)| after);
    }
    text + rest
}

/// Writes data to stdout; on a terminal without control characters. A reader that has gone (`| head`) is no error.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let text = if stdout.is_terminal() {
        Cow::Owned(plain(text))
    } else {
        Cow::Borrowed(text)
    };
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a line for a person to stderr, without control characters.
pub fn report(line: &str) {
    let line = plain(line);
    // In one piece, for logs that several programs write to. Nothing is left to complain to.
    let _unseen = io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out_of_files() {
        assert_eq!(
            without_colours("\x1b[2mnow\x1b[0m \x1b[33m WARN\x1b[0m x\n"),
            "now  WARN x\n"
        );
        assert_eq!(without_colours("plain m\n"), "plain m\n");
    }
}
