//! `pages FOLDER`: manual pages and shell completions of all programs, made of what their `--help` says, for
//! `docs/install/build`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::{Generator as _, Shell};
use clap_mangen::Man;
use shared::adapter::Adapter;
use shared::fs;

/// The shells, and the folders of their completions.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "completions/bash"),
    (Shell::Fish, "completions/fish"),
    (Shell::Zsh, "completions/zsh"),
];
const PAGES: &str = "man/man1";

fn main() -> ExitCode {
    let written = std::env::args_os()
        .nth(1)
        .context("say into which folder: pages FOLDER")
        .and_then(|folder| write_all(Path::new(&folder)));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shared::cli::report(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The command lines of all programs.
fn programs() -> [(&'static str, Command); 5] {
    [
        ("scheduler", scheduler::Args::command()),
        ("sampler", sampler::Args::command()),
        ("trainer", trainer::Args::command()),
        ("analyzer", analyzer::Args::command()),
        (shared::adapter::PROGRAM, Adapter::command()),
    ]
}

fn write_all(folder: &Path) -> Result<()> {
    for (name, command) in programs() {
        for (shell, place) in SHELLS {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), name, &mut text);
            // bash looks for a completion by the bare name.
            let file = match shell {
                Shell::Bash => name.to_owned(),
                shell => shell.file_name(name),
            };
            write(&folder.join(place), &file, &text)?;
        }
        let mut command = command.name(name).bin_name(name);
        command.build();
        write_pages(&folder.join(PAGES), &command)?;
    }
    Ok(())
}

/// A page for a command and one for each of its subcommands: `scheduler-init.1`.
fn write_pages(folder: &Path, command: &Command) -> Result<()> {
    let page = Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    write(folder, &page.get_filename(), &text)?;
    let subcommands = command
        .get_subcommands()
        .filter(|subcommand| subcommand.get_name() != "help" && !subcommand.is_hide_set());
    for subcommand in subcommands {
        write_pages(folder, subcommand)?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &[u8]) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make `{}`", folder.display()))?;
    fs::replace(&folder.join(name), text)?;
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
            assert!(read(format!("{PAGES}/{name}.1")).contains("SYNOPSIS"));
            let completions = [
                format!("bash/{name}"),
                format!("zsh/_{name}"),
                format!("fish/{name}.fish"),
            ]
            .map(|file| read(format!("completions/{file}")));
            let shown = command.get_subcommands().filter(|s| !s.is_hide_set());
            for subcommand in shown.map(Command::get_name) {
                let page = read(format!("{PAGES}/{name}-{subcommand}.1"));
                let title = format!("{name} {subcommand}").replace('-', "\\-");
                assert!(page.contains(&title), "{page}");
                for completion in &completions {
                    assert!(completion.contains(subcommand), "{name} {subcommand}");
                }
            }
        }
        let page = read(format!("{PAGES}/scheduler-slurm.1"));
        assert!(page.contains("\\-\\-dry\\-run"), "{page}");
        assert!(read("completions/bash/tandem-run".to_owned()).contains("--maximise"));
    }
}
