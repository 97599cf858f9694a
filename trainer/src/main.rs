//! The program `trainer`; everything is in the library of the same name.

use std::process::ExitCode;

/// Every step of a training asks for the same large blocks again; the C library's allocator hands them back to the kernel
/// in between, which then has to fill them with zeros. mimalloc keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    shared::cli::run(trainer::run)
}
