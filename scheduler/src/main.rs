//! The program `scheduler`; everything is in the library of the same name.
use std::process::ExitCode;
fn main() -> ExitCode {
    shared::cli::run(scheduler::run)
}
