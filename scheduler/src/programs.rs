//! The programs that a search needs: Tandem's own, and the one that its objective names.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use shared::adapter::Adapter;
use shared::env;
use shared::exit::{Code, Failure};
use shared::fs::is_executable;

/// All programs of Tandem, which lie in one folder.
const ALL: [&str; 4] = ["scheduler", "sampler", "trainer", "analyzer"];
/// What scripts' names end with.
const SCRIPTS: [&str; 9] = ["py", "sh", "bash", "r", "jl", "pl", "rb", "lua", "js"];

/// Whether all four programs are in this folder and can be run.
///
/// # Errors
/// One is missing.
pub(crate) fn check_all(folder: &Path) -> Result<(), Failure> {
    for name in ALL {
        let path = folder.join(name);
        let how = match is_executable(&path) {
            Some(true) => continue,
            Some(false) => "cannot be run: it is no executable file",
            None => "is missing: build all programs (`cargo build --release --workspace`)",
        };
        let message = format!("`{}` {how}", path.display());
        return Err(Failure::new(Code::Unforeseen, message));
    }
    Ok(())
}

/// What makes it doubtful, from here, that a command can be run in this working directory.
///
/// On other machines it may be otherwise, so this is all that can be said: nothing is refused.
pub(crate) fn doubts(command: &[String], working_directory: &Path) -> Vec<String> {
    let path = env::program_folders();
    let Some((program, arguments)) = command.split_first() else {
        return Vec::new();
    };
    let mut doubts: Vec<String> = doubt_about_program(program, working_directory, &path)
        .into_iter()
        .collect();
    if let Some(Ok(adapter)) = Adapter::of(command) {
        doubts.extend(self::doubts(&adapter.command, working_directory));
        return doubts;
    }
    let is_script = |argument: &&String| {
        let extension = Path::new(argument.as_str()).extension();
        let extension = extension.and_then(|extension| extension.to_str());
        !argument.starts_with('-')
            && !argument.contains(['{', '=', '*', ' '])
            && extension.is_some_and(|e| SCRIPTS.contains(&e.to_ascii_lowercase().as_str()))
    };
    for script in arguments.iter().filter(is_script) {
        if !working_directory.join(script).is_file() {
            doubts.push(format!(
                "the script `{script}` of the command is not in `{}`, where trainers run it",
                working_directory.display()
            ));
        }
    }
    doubts
}

fn doubt_about_program(
    program: &str,
    working_directory: &Path,
    path: &[PathBuf],
) -> Option<String> {
    if !program.contains('/') {
        let is_there = path.iter().any(|folder| {
            is_executable(&working_directory.join(folder).join(program)) == Some(true)
        });
        return (!is_there).then(|| {
            format!("the program `{program}` of the command is in no folder of this machine's PATH")
        });
    }
    let file = working_directory.join(program);
    match is_executable(&file) {
        None => Some(format!(
            "the program `{}` of the command is not there",
            file.display()
        )),
        Some(false) => Some(format!(
            "the program `{}` of the command cannot be run: it is no executable file (`chmod +x` makes a script one)",
            file.display()
        )),
        Some(true) => missing_interpreter(&file).map(|interpreter| {
            format!(
                "the program `{}` of the command cannot be run: its interpreter `{interpreter}` is not there",
                file.display()
            )
        }),
    }
}

/// The interpreter in a script's first line, if it is not there.
fn missing_interpreter(script: &Path) -> Option<String> {
    let mut start = [0; 256];
    let mut file = std::fs::File::open(script).ok()?; // not ours to read
    let length = file.read(&mut start).ok()?;
    let line = start[..length].split(|byte| *byte == b'\n').next()?;
    let interpreter = line.strip_prefix(b"#!")?;
    let interpreter = String::from_utf8_lossy(interpreter);
    // A line that ends as on Windows is the classic: the carriage return is part of the name.
    let name = interpreter.trim_start().split([' ', '\t']).next()?;
    (!Path::new(name).exists()).then(|| name.escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use shared::fs;

    use super::*;

    fn put(folder: &Path, name: &str, text: &str, mode: u32) {
        let path = folder.join(name);
        fs::replace(&path, text.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn programs_and_scripts_that_are_missing_or_cannot_be_run_are_named() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "train.py", "print()", 0o644);
        put(folder.path(), "train.sh", "#!/bin/sh\n", 0o755);
        put(folder.path(), "windows.sh", "#!/bin/sh\r\n", 0o755);
        put(folder.path(), "old.py", "#!/opt/no/such/python -u\n", 0o755);
        std::fs::create_dir(folder.path().join("folder.py")).unwrap();
        let said = |words: &[&str]| {
            let command: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            doubts(&command, folder.path()).join("; ")
        };
        for words in [
            &["sh", "train.sh", "--epochs", "3"][..],
            &["./train.sh"],
            &["sh", "-c", "exec python train_it.py"],
            &["sh", "--script=none.py"],
            &["sh", "../x/{script}.py"],
        ] {
            assert_eq!(said(words), "", "{words:?}");
        }
        for (words, complaint) in [
            (
                &["no-such-program"][..],
                "in no folder of this machine's PATH",
            ),
            (&["sh", "-u", "missing.py", "x"], "script `missing.py`"),
            (&["sh", "folder.py"], "script `folder.py`"),
            (&["sh", "code/train.R"], "script `code/train.R`"),
            (&["./missing.sh"], "is not there"),
            (&["./train.py"], "chmod +x"),
            (&["./windows.sh"], "`/bin/sh\\r` is not there"),
            (&["./old.py"], "`/opt/no/such/python` is not there"),
        ] {
            assert!(
                said(words).contains(complaint),
                "{words:?}: {}",
                said(words)
            );
        }
    }

    #[test]
    fn all_four_programs_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["scheduler", "sampler", "trainer"] {
            put(folder.path(), name, "", 0o755);
        }
        let said = || check_all(folder.path()).unwrap_err().message;
        assert!(said().contains("analyzer` is missing"), "{}", said());
        put(folder.path(), "analyzer", "", 0o644);
        assert!(said().contains("analyzer` cannot be run"), "{}", said());
        put(folder.path(), "analyzer", "", 0o755);
        assert!(check_all(folder.path()).is_ok());
    }
}
