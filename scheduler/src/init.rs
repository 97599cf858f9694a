//! `scheduler init`: from the search file a person wrote to a search directory, with everything checked.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use shared::budget::short;
use shared::error::{Error, Invalid};
use shared::exit::{Code, Failure};
use shared::format::Record as _;
use shared::objective::Objective;
use shared::search::{Limit, Scheduling, SearchFile};
use shared::space::SpaceFile;
use shared::{Directory, Search, fs, layout};
use tracing::warn;

use crate::bracket::Table;
use crate::fix_from::FixArgs;
use crate::{programs, working_directory};

/// Makes a search directory, or finds that it is this search's already.
pub fn init(path: &Path, root: &Path, fixed: &FixArgs) -> Result<Directory> {
    let mut file = read(path).map_err(|error| {
        if error.is_not_found() {
            // What the user names and is not there is a wrong input, not a broken disk.
            let message = format!("there is no search file `{}`", path.display());
            anyhow::Error::from(Failure::new(Code::BadInput, message))
        } else {
            error.into()
        }
    })?;
    fixed.apply(&mut file)?;
    working_directory::record(&mut file, path, root)?;
    let wrong = |source| Error::Value {
        path: path.to_path_buf(),
        format: SearchFile::FORMAT,
        source,
    };
    let search = Search::new(&file).map_err(wrong)?;
    Table::new(&search).map_err(wrong)?;
    check_data(&search).map_err(wrong)?;
    if let (Objective::Command(command), Some(folder)) =
        (&search.objective, &search.working_directory)
    {
        for doubt in programs::doubts(&command.command, folder) {
            warn!("{doubt}");
        }
    }
    Ok(Directory::create(root, &file, path)?)
}

/// Reads a search file and puts its space in.
fn read(path: &Path) -> Result<SearchFile, Error> {
    let mut file: SearchFile = fs::read_named_record(path)?;
    if file.space.is_none()
        && let Some(name) = file.space_file.take()
    {
        let folder = path.parent().unwrap_or(Path::new(""));
        let space_path = folder.join(&name);
        let space: SpaceFile = match fs::read_named_record(&space_path) {
            Err(error) if error.is_not_found() => {
                let expected = format!("a space file at `{}`", space_path.display());
                return Err(Error::Value {
                    path: path.to_path_buf(),
                    format: SearchFile::FORMAT,
                    source: Invalid::new("space_file", expected, format!("`{name}`: no such file")),
                });
            }
            other => other?,
        };
        // Complaints about the space name the file it is in.
        shared::SearchSpace::new(&space).map_err(|source| Error::Value {
            path: space_path,
            format: SpaceFile::FORMAT,
            source,
        })?;
        file.space = Some(space);
    }
    Ok(file)
}

/// Data that are not there would make every single job crash.
fn check_data(search: &Search) -> Result<(), Invalid> {
    let Objective::Network(network) = &search.objective else {
        return Ok(());
    };
    let data = &network.data;
    let working_directory = search.working_directory.clone().unwrap_or_default();
    let at = "objective.network.data.path";
    match &data.path {
        None if data.name.is_built_in() => Ok(()),
        None => {
            let expected = format!("a path, because `{}` is not built in", data.name);
            Err(Invalid::new(at, expected, "nothing"))
        }
        Some(path) if working_directory.join(path).exists() => Ok(()),
        Some(path) => {
            let expected =
                "an existing file or folder (relative paths start at the working directory)";
            Err(Invalid::new(at, expected, format!("`{}`", path.display())))
        }
    }
}

/// What is fixed, and where from.
fn fixed(directory: &Directory) -> Result<Option<String>> {
    let file: SearchFile = fs::read_record(&directory.layout().path(layout::SEARCH))?;
    if file.fix.is_empty() {
        return Ok(None);
    }
    let values: Vec<String> = file
        .fix
        .iter()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let from = file
        .fixed_from
        .map_or_else(String::new, |from| format!(" ({from})"));
    Ok(Some(format!("fixed{from}: {}", values.join(", "))))
}

/// The rungs, the brackets, and how much will be spent, for people.
pub fn describe(directory: &Directory) -> Result<String> {
    let search = directory.search();
    let table = Table::new(search)?;
    let jobs = table.expected_jobs();
    let ladder = search.ladder;
    let mut text = String::new();
    writeln!(
        text,
        "search `{}` in `{}`: method {}, {} dimensions\n",
        search.name,
        directory.layout().root().display(),
        search.method.as_str(),
        search.space.num_dimensions()
    )?;
    if let Some(file) = fixed(directory)? {
        writeln!(text, "{file}\n")?;
    }
    if let Some(folder) = &search.working_directory {
        writeln!(text, "trainers work in `{}`\n", folder.display())?;
    }
    if let Some(budget) = ladder.raised_min() {
        writeln!(
            text,
            "note: the smallest budget is {budget}, because max/min is no power of eta ({})\n",
            ladder.eta()
        )?;
    }
    writeln!(text, "{:>4}  {:>16}  {:>8}", "rung", "budget", "jobs")?;
    for rung in 0..ladder.num_rungs() {
        let budget = ladder.budget(rung).to_string();
        writeln!(
            text,
            "{rung:>4}  {budget:>16}  {:>8}",
            jobs[usize::from(rung)]
        )?;
    }
    writeln!(text, "\nbracket  first rung  sizes")?;
    for bracket in 0..u32::from(ladder.num_rungs()) {
        let sizes: Vec<String> = table
            .sizes(bracket)
            .iter()
            .map(ToString::to_string)
            .collect();
        let first = table.first_rung(bracket);
        writeln!(text, "{bracket:>7}  {first:>10}  {}", sizes.join(" "))?;
    }
    let about = match search.scheduling {
        Scheduling::Synchronous => "",
        Scheduling::Asynchronous => "about ",
    };
    let limit = match search.limit {
        Limit::Brackets(1) => "1 bracket".to_owned(),
        Limit::Brackets(number) => format!("{number} brackets"),
        Limit::Configurations(number) => format!("{number} configurations"),
    };
    let spent: f64 = (0..ladder.num_rungs())
        .map(|rung| ladder.budget(rung).amount * jobs[usize::from(rung)] as f64)
        .sum();
    writeln!(
        text,
        "\n{limit}: {} configurations, {about}{} jobs, {about}{} {} in all",
        table.total(),
        jobs.iter().sum::<u64>(),
        short(spent),
        ladder.unit().symbol()
    )?;
    Ok(text)
}
