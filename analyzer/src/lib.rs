//! The analyzer: reads a search directory (running, finished, or a read-only copy) or another program's log, and tells
//! what was found. It writes only where it is told to, and changes nothing it reads.
//!
//! | module | what |
//! |---|---|
//! | [`load`] | a search's files → a [`load::History`] in memory |
//! | [`correlation`], [`statistics`] | how rankings at one budget predict another's |
//! | [`trajectory`] | the incumbent and how it came about |
//! | [`hpbandster`], [`configspace`] | other programs' formats |
//! | [`table`] | tables as text, CSV, JSON, Markdown, LaTeX |

pub mod arguments;
mod commands;
pub mod compare;
pub mod configspace;
pub mod correlation;
pub mod extra;
pub mod forest;
pub mod hpbandster;
pub mod importance;
mod json;
pub mod load;
pub mod plot;
pub mod png;
pub mod report;
pub mod rows;
pub mod statistics;
pub mod table;
#[cfg(test)]
mod testing;
pub mod trajectory;
pub mod wording;

pub use arguments::Args;
pub use commands::run;
