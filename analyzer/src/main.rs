//! The program `analyzer`; everything is in the library of the same name.

fn main() -> std::process::ExitCode {
    shared::cli::run(analyzer::run)
}
