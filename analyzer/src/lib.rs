//! The analyzer: reads a search directory (running, finished, or a read-only copy) or another program's log, and tells
//! what was found. It writes only where it is told to, and changes nothing it reads.
//!
//! | module | what |
//! |---|---|
//! | `commands` | the command line, one file for each subcommand: read, compute, print |
//! | [`load`] | a search's files → a [`history::History`] in memory |
//! | [`correlation`], `statistics` | how rankings at one budget predict another's |
//! | [`trajectory`], [`compare`] | the incumbent and how it came about; several searches |
//! | `whatif` | what another ladder of budgets would have cost and found |
//! | [`importance`], `forest` | which hyperparameters matter |
//! | [`report`], [`plot`], `picture` | one page of all of it; drawings as SVG and PNG |
//! | `projection` | configurations on a plane |
//! | [`hpbandster`], [`configspace`], `optuna`, `tensorboard` | other programs' formats |
//! | `extra`, `retrain` | jobs for more trainings |
//! | [`rows`], [`table`] | the flat table of results; tables as text, CSV, JSON, Markdown, LaTeX |

mod commands;
pub mod compare;
pub mod configspace;
pub mod correlation;
mod extra;
mod forest;
mod front;
pub mod history;
pub mod hpbandster;
pub mod importance;
mod infer;
pub mod load;
mod optuna;
mod paired;
mod picture;
pub mod plot;
mod projection;
pub mod report;
mod retrain;
pub mod rows;
mod statistics;
pub mod table;
mod tensorboard;
#[cfg(test)]
mod testing;
pub mod trajectory;
mod whatif;
mod wording;

pub use commands::{Args, run};
