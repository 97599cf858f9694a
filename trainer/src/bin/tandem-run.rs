//! The program `tandem-run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    trainer::adapt::main()
}
