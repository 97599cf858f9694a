//! Exit codes, the same for all four programs.

use std::process::ExitCode;

/// What an exit code tells the shell, SLURM, or a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// 0: all that was asked is done.
    Done = 0,
    /// 1: a bug, or something unforeseen.
    Unforeseen = 1,
    /// 2: the command line is wrong (clap's code too).
    Usage = 2,
    /// 3: an input file is wrong or missing: search, space, job, data set.
    BadInput = 3,
    /// 4: the directory was written by a newer version of Tandem.
    NewerVersion = 4,
    /// 5: the shared directory cannot be used: permissions, full disk, I/O errors.
    Directory = 5,
    /// 75: stopped by a warning signal after saving what there was to save; run me again (`EX_TEMPFAIL`).
    Again = 75,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Ends the process without another word, whatever its other threads are doing.
pub fn at_once(code: Code) -> ! {
    signal_hook::low_level::exit(code as i32)
}

/// An error of another crate, with the exit code it deserves.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What happened, for a person.
    pub message: String,
    /// The cause, if there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure that is its own explanation.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            source: None,
        }
    }

    /// A failure on top of a cause.
    pub fn because(
        code: Code,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            code,
            message: message.into(),
            source: Some(source.into()),
        }
    }
}

/// The exit code that an error chain deserves: that of the first error in it which has one.
pub fn code_of(error: &anyhow::Error) -> Code {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.code;
        }
        if let Some(error) = cause.downcast_ref::<crate::Error>() {
            return error.exit_code();
        }
    }
    Code::Unforeseen
}
