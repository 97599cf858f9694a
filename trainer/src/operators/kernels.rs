//! The inner loops of convolutions, for every set of vector instructions.
//!
//! This is the one module with code that the compiler cannot check; each block says what it relies on, and the
//! functions that other modules call check it.

pub(super) mod correlate;
pub(super) mod multiply;
pub(super) mod transpose;
