//! Faults for tests: every file operation of [`crate::fs`] asks here first, and again when it is done. In programs that
//! are used nothing ever happens: only test builds have the feature `faults`.

#[cfg(feature = "faults")]
mod injected;

#[cfg(feature = "faults")]
pub(crate) use self::injected::{after, before};

/// Before an operation that changes something.
#[cfg(not(feature = "faults"))]
#[expect(clippy::unnecessary_wraps, reason = "it fails in test builds")]
pub(crate) fn before() -> std::io::Result<()> {
    Ok(())
}

/// After an operation that succeeded.
#[cfg(not(feature = "faults"))]
pub(crate) use before as after;
