//! What is on disk in a search directory, and who may write it.
//!
//! No network, no SLURM, and of algorithms only the one that all must agree on, [`hyperband`]. Every program of Tandem is
//! understood from the records here:
//!
//! ```text
//! DIR/
//!   search.json                              the question          scheduler init -> all    search::SearchFile
//!   created.json                             what init made        scheduler init -> all    record::Created
//!   requests/000/c000123.json                a configuration, please   scheduler -> sampler record::Request
//!   configurations/000/c000123.json          the answer              sampler -> all         record::Proposal
//!   jobs/open/c000123-r2-a1.json             free to claim           scheduler -> trainers  record::Job
//!   jobs/claimed/c000123-r2-a1.OWNER.json    in OWNER's hands        trainer (by rename)    record::Job
//!   evidence/DIGEST.json                     results of earlier searches   scheduler -> sampler   evidence::Evidence
//!   results/000/c000123-r2.json              the outcome             trainer -> all         record::JobResult
//!   attempts/000/c000123-r2-a1.OWNER.json    ended without a result  trainer or scheduler   record::AttemptEnd
//!   late/c000123-r2-a1.OWNER.json            a second result, ignored   trainer             record::JobResult
//!   trainers/OWNER.json                      heartbeat               trainer -> scheduler   record::Heartbeat
//!   observations/HOST.json                   how long trainers were silent   scheduler -> scheduler  record::Observation
//!   checkpoints/000/c000123/CLAIM.checkpoint weights, optimizer, spent budget   trainer     (trainer's own)
//!   models/OWNER.json                        what was fitted last, for people   sampler     (sampler's own)
//!   aside/                                   corrupt and foreign files, never deleted   all
//!   logs/, slurm/                            one writer a file
//!   stop                                     its presence: leave     anybody
//!   given/0001.json                          somebody's own configuration   scheduler -> scheduler  record::Given
//!   finished.json                            nothing left to do      scheduler -> all       record::Finished
//! ```
//!
//! A directory with another program's results has `imported.json` (`record::Imported`) in place of `search.json`.
//!
//! Ids are deterministic, so two schedulers or two samplers that run by accident write the same thing or lose a race
//! harmlessly. Nothing listens on a port, nobody waits for a lock, and no two machines' clocks are compared.
//!
//! | module | what |
//! |--|--|
//! | [`directory`], [`layout`], [`record`], [`format`](mod@format), [`id`] | a search directory: who may do what, where, with which records |
//! | [`search`], [`space`], [`objective`], [`budget`], [`constraint`], [`dataset`], [`known`], [`schema`] | what people write, checked |
//! | [`hyperband`], [`score`], [`pareto`], [`ranks`], [`value`], [`seed`] | what is promoted, what is better, what is drawn |
//! | [`fs`], [`system`], [`fault`], [`parallel`], [`wait`], [`sweeper`], [`clock`], [`owner`] | files, made so that a crash leaves them whole; pauses, clocks, names |
//! | [`cli`], [`env`](mod@env), [`exit`], [`signal`], [`error`], [`wording`] | what all command lines share |
//! | [`adapter`], [`hpbandster`], [`python_json`], [`evidence`] | other programs: scripts, logs, results of earlier searches |

pub mod adapter;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod constraint;
pub mod dataset;
pub mod directory;
pub mod env;
pub mod error;
pub mod evidence;
pub mod exit;
pub mod fault;
pub mod format;
pub mod fs;
pub mod hpbandster;
pub mod hyperband;
pub mod id;
pub mod known;
pub mod layout;
mod number;
pub mod objective;
pub mod owner;
pub mod parallel;
pub mod pareto;
pub mod python_json;
pub mod ranks;
pub mod record;
pub mod schema;
pub mod score;
pub mod search;
pub mod seed;
mod shape;
pub mod signal;
pub mod space;
pub mod sweeper;
pub mod system;
pub mod value;
pub mod wait;
pub mod wording;

pub use budget::{Budget, BudgetUnit, Ladder};
pub use directory::Directory;
pub use error::{Error, Invalid, Result};
pub use id::{AttemptId, Claim, ConfigurationId, JobId, OwnerId, ResultId};
pub use record::{CurvePoint, Fate, JobResult, Outcome};
pub use score::{Ranked, Score};
pub use search::{Search, SearchFile};
pub use seed::Seed;
pub use space::{Hyperparameter, Kind, SearchSpace};
pub use value::{Configuration, Value};
