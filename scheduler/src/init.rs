//! `scheduler init`: from the search file a person wrote to a search directory, with everything checked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::adapter::Adapter;
use shared::budget::short;
use shared::cli::{DIRECTORY, print};
use shared::error::{Complaints, Error, Invalid};
use shared::exit::{Code, Failure};
use shared::format::Record as _;
use shared::hyperband::Table;
use shared::objective::Objective;
use shared::search::{Limit, REVISION, Scheduling, SearchFile};
use shared::wording::{count, plain, significant, thousands};
use shared::{Directory, Search, fs, layout};
use tracing::warn;

use crate::doubts::doubts;
use crate::fix_from::FixArgs;
use crate::learn_from::LearnArgs;
use crate::{programs, working_directory};

/// What `scheduler init` is told.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The search file
    search: PathBuf,
    /// The search directory; made if it does not exist
    #[arg(value_name = DIRECTORY)]
    directory: PathBuf,
    #[command(flatten)]
    fixed: FixArgs,
    #[command(flatten)]
    learn: LearnArgs,
}

/// Runs the subcommand.
pub fn run(args: &InitArgs) -> Result<Code> {
    let created = init(&args.search, &args.directory, &args.fixed, &args.learn)?;
    print(&plain(&describe(&created)?))?;
    Ok(Code::Done)
}

/// Makes a search directory, or finds that it is this search's already.
pub fn init(path: &Path, root: &Path, fixed: &FixArgs, learn: &LearnArgs) -> Result<Directory> {
    let mut file = read_named(path)?;
    fixed.apply(&mut file)?;
    working_directory::record(&mut file, path, root)?;
    // Which rungs there are depends on it.
    Directory::choose_revision(root, &mut file)?;
    let wrong = |source| Error::Value {
        path: path.to_path_buf(),
        format: SearchFile::FORMAT,
        source,
    };
    let search = Search::check(&file).map_err(wrong)?;
    let others = [Table::new(&search).err(), check_data(&search).err()];
    let others = others.into_iter().flatten().chain(check_command(&search));
    if let Some(complaints) = Complaints::new(others) {
        return Err(wrong(complaints).into());
    }
    let mut all = doubts(&file, &search);
    if let (Objective::Command(command), Some(folder)) =
        (&search.objective, &search.working_directory)
    {
        all.extend(programs::doubts(&command.command, folder));
        if let Some(Ok(adapter)) = Adapter::of(&command.command) {
            let unused = adapter.unused(&search.space).into_iter();
            all.extend(unused.map(|name| {
                format!(
                    "`{name}` stands nowhere in the command: write {{{name}}} where its value goes"
                )
            }));
        }
    }
    for doubt in all {
        warn!("{doubt}");
    }
    learn.apply(&mut file, root)?;
    Ok(Directory::create(root, &file, path)?)
}

/// A search file as it would begin today; data and programs need not be there.
pub(crate) fn check(path: &Path) -> Result<Search> {
    let mut file = read_named(path)?;
    file.working_directory = None; // for trainers alone
    file.revision.get_or_insert(REVISION);
    let search = Search::check(&file).map_err(|source| Error::Value {
        path: path.to_path_buf(),
        format: SearchFile::FORMAT,
        source,
    })?;
    Ok(search)
}

/// Reads a search file that a user names.
fn read_named(path: &Path) -> Result<SearchFile> {
    SearchFile::read(path).map_err(|error| {
        if error.is_not_found() {
            // What the user names and is not there is a wrong input, not a broken disk.
            let message = format!("there is no search file `{}`", path.display());
            Failure::new(Code::BadInput, message).into()
        } else {
            error.into()
        }
    })
}

/// Places without a value would, too.
fn check_command(search: &Search) -> Vec<Invalid> {
    let Objective::Command(command) = &search.objective else {
        return Vec::new();
    };
    let complaints = Adapter::complaints(command, &search.space);
    complaints
        .into_iter()
        .map(|wrong| wrong.within("objective"))
        .collect()
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

/// How much there is to be searched, in a sentence or two; empty where there is nothing to say.
fn extent(space: &shared::SearchSpace, total: u32) -> String {
    let (share, is_exact) = space.allowed_share();
    let about = if is_exact { "" } else { "about " };
    let percent = significant(100.0 * share, 3);
    // Shares are sums, and so a little less than 1 where everything is allowed.
    let allowed = (share < 1.0 - 1e-9)
        .then(|| format!("forbidden combinations leave {about}{percent} % of the space\n"));
    let counted = space.num_configurations().map(|number| {
        let count = thousands(usize::try_from(number).unwrap_or(usize::MAX));
        let end = if u64::from(total) == number {
            ": each is tried once, and then the search ends"
        } else {
            ""
        };
        format!("the space has {count} configurations{end}\n")
    });
    let said: String = allowed.into_iter().chain(counted).collect();
    if said.is_empty() { said } else { said + "\n" }
}

/// What the rungs are otherwise than written.
fn notes(ladder: &shared::Ladder) -> String {
    let eta = ladder.eta();
    let differs = if ladder.leaves_out_rungs() {
        Some(format!(
            "note: method `tandem` uses every second rung, each with {eta} times the budget of the one below; \
             `first_rungs` in the search file keeps all\n\n"
        ))
    } else {
        ladder.raised_min().map(|budget| {
            format!("note: the smallest budget is {budget}, because max/min is no power of eta ({eta})\n\n")
        })
    };
    let unit = ladder.unit().symbol();
    let rounded = ladder
        .is_rounded()
        .then(|| format!("note: budgets are rounded to whole {unit}\n\n"));
    differs.into_iter().chain(rounded).collect()
}

/// The rungs, the brackets, and how much will be spent by the search file, for people.
pub fn describe(directory: &Directory) -> Result<String> {
    let search = directory.search();
    let table = Table::new(search)?;
    let jobs = table.expected_jobs();
    let ladder = search.ladder.original();
    let mut text = String::new();
    writeln!(
        text,
        "search `{}` in `{}`: method {}, {} dimensions\n",
        search.name,
        directory.layout().root().display(),
        search.method.as_str(),
        search.space.num_dimensions()
    )?;
    text += &extent(&search.space, table.total());
    if let Some(file) = fixed(directory)? {
        writeln!(text, "{file}\n")?;
    }
    if let Some(folder) = &search.working_directory {
        writeln!(text, "trainers work in `{}`\n", folder.display())?;
    }
    for evidence in &search.learn_from {
        let results = usize::try_from(evidence.results).unwrap_or(usize::MAX);
        let results = count(results, "result");
        writeln!(text, "learns from {results} of `{}`\n", evidence.source)?;
    }
    text += &notes(&ladder);
    writeln!(text, "{:>4}  {:>16}  {:>8}", "rung", "budget", "jobs")?;
    for rung in 0..ladder.num_levels() {
        let budget = ladder.budget(rung).to_string();
        writeln!(
            text,
            "{rung:>4}  {budget:>16}  {:>8}",
            jobs[usize::from(rung)]
        )?;
    }
    writeln!(text, "\nbracket  first rung  sizes")?;
    let shown = u32::from(ladder.num_rungs());
    for bracket in 0..table.num_brackets().unwrap_or(shown).min(shown) {
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
        Limit::Brackets(_) if table.num_brackets().is_some() => "until all is tried".to_owned(),
        Limit::Brackets(1) => "1 bracket".to_owned(),
        Limit::Brackets(number) => format!("{number} brackets"),
        Limit::Configurations(number) => format!("{number} configurations"),
    };
    let spent: f64 = (0..ladder.num_levels())
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
    Ok(text + of_stopping(search))
}

/// That less may be spent than planned.
fn of_stopping(search: &Search) -> &'static str {
    if search.is_stopping() {
        "this is the most that it can be: trainings are stopped at lower rungs' budgets\n"
    } else {
        ""
    }
}
