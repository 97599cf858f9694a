//! Several programs on one directory: what holds while they run, are killed, race and come back.

mod bad_input;
mod by_hand;
mod clocks;
mod constraints;
mod determinism;
mod early;
mod faults;
mod given;
mod launchers;
mod learning;
mod nfs;
mod objectives;
mod python;
mod raised;
mod repetitions;
mod security;
mod slurm;
mod steps;
mod stopping;
