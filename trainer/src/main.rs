//! The program `trainer`; everything is in the library of the same name.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: trainer::allocator::Allocator = trainer::allocator::Allocator;

fn main() -> ExitCode {
    shared::cli::run(trainer::main)
}
