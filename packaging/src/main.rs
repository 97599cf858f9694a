//! Writes manual pages and shell completions of all four programs, made of what their `--help` says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _, Parser, ValueEnum as _};
use clap_complete::Shell;
use clap_mangen::Man;
use shared::exit::Code;
use shared::fs;

/// Write manual pages and shell completions of all four programs
#[derive(Debug, Parser)]
#[command(version, help_expected = true)]
struct Args {
    /// The folder that gets `man/man1` and `completions`
    folder: PathBuf,
}

fn main() -> ExitCode {
    shared::cli::run(|args: Args| {
        write_all(&args.folder)?;
        Ok(Code::Done)
    })
}

/// The command lines of all programs.
fn programs() -> [(&'static str, Command); 4] {
    [
        ("scheduler", scheduler::Args::command()),
        ("sampler", sampler::Args::command()),
        ("trainer", trainer::Args::command()),
        ("analyzer", analyzer::Args::command()),
    ]
}

fn write_all(folder: &Path) -> Result<()> {
    let pages = folder.join("man/man1");
    let completions = folder.join("completions");
    for made in [&pages, &completions] {
        std::fs::create_dir_all(made)
            .with_context(|| format!("cannot make `{}`", made.display()))?;
    }
    for (name, command) in programs() {
        for shell in Shell::value_variants() {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command.clone(), name, &mut text);
            fs::replace(&completions.join(file_name(*shell, name)), &text)?;
        }
        let mut command = command.name(name).bin_name(name);
        command.build();
        write_pages(&pages, &command)?;
    }
    Ok(())
}

/// As each shell looks for it.
fn file_name(shell: Shell, program: &str) -> OsString {
    use clap_complete::Generator as _;
    shell.file_name(program).into()
}

/// A page for a command and one for each of its subcommands: `scheduler-init.1`.
fn write_pages(folder: &Path, command: &Command) -> Result<()> {
    let page = Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::replace(&folder.join(page.get_filename()), &text)?;
    let subcommands = command.get_subcommands();
    for subcommand in subcommands.filter(|subcommand| subcommand.get_name() != "help") {
        write_pages(folder, subcommand)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_and_subcommand_has_a_page_and_is_completed_in_every_shell() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path()).unwrap();
        let read = |path: String| std::fs::read_to_string(folder.path().join(path)).unwrap();
        for (name, command) in programs() {
            assert!(read(format!("man/man1/{name}.1")).contains("SYNOPSIS"));
            let completions = [
                format!("{name}.bash"),
                format!("_{name}"),
                format!("{name}.fish"),
            ];
            let completions = completions.map(|file| read(format!("completions/{file}")));
            for subcommand in command.get_subcommands().map(Command::get_name) {
                let page = read(format!("man/man1/{name}-{subcommand}.1"));
                assert!(
                    page.contains(&format!("{name} {subcommand}").replace('-', "\\-")),
                    "{page}"
                );
                for completion in &completions {
                    assert!(completion.contains(subcommand), "{name} {subcommand}");
                }
            }
        }
        let page = read("man/man1/scheduler-slurm.1".to_owned());
        assert!(page.contains("\\-\\-dry\\-run"), "{page}");
    }
}
