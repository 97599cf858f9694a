//! The protocol, checked as a model: the programs' own code on a file server in memory, with every order of their calls
//! that a bound allows, every place for a fault, and chance beyond.
//!
//! | file | what it is |
//! |--|--|
//! | `tree` | the server: folders, names, contents |
//! | `world` | hosts with what they believe, processes that stop at each call, the clock |
//! | `programs` | scheduler, sampler and trainer as processes |
//! | `run` | one run, and what must be true of it |
//! | `explore` | which runs |
//! | `checks` | the checks, and the bugs that they must find |

mod checks;
mod explore;
mod programs;
mod run;
mod tree;
mod world;
