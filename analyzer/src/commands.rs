//! What each command does: read, compute, print.

use anyhow::Result;
use shared::cli::{print, report};
use shared::exit::{Code, Failure};
use shared::space::SpaceFile;
use shared::{Seed, fs};

use crate::arguments::{
    Args, Command, ConfigspaceArgs, CorrelationArgs, ExportCommand, ExportCsvArgs,
    ExportHpbandsterArgs, ImportCommand, ImportHpbandsterArgs, IncumbentArgs, TrajectoryArgs,
};
use crate::correlation::{self, Settings};
use crate::load::{History, Wanted};
use crate::table::Format;
use crate::wording::{count, wrapped};
use crate::{configspace, extra, hpbandster, rows, trajectory};

/// Width of remarks below tables.
const WIDTH: usize = 80;

/// Runs the program.
pub fn run(args: Args) -> Result<Code> {
    match args.command {
        Command::Correlation(args) => correlation(&args)?,
        Command::Incumbent(args) => incumbent(&args)?,
        Command::Trajectory(args) => trajectory(&args)?,
        Command::Import(ImportCommand::Hpbandster(args)) => import_hpbandster(&args)?,
        Command::Import(ImportCommand::Configspace(args)) => import_configspace(&args)?,
        Command::Export(ExportCommand::Hpbandster(args)) => export_hpbandster(&args)?,
        Command::Export(ExportCommand::Csv(args)) => export_csv(&args)?,
        Command::Export(ExportCommand::Configspace(args)) => export_configspace(&args)?,
    }
    Ok(Code::Done)
}

fn correlation(args: &CorrelationArgs) -> Result<()> {
    let history = History::open(&args.input.dir, Wanted::default())?;
    let seed = Seed::new(args.seed);
    if let (Some(num), Some(out)) = (args.extra, &args.extra_out) {
        let extra = extra::draw(&history, num as usize, seed)?;
        extra::write(&extra, out)?;
        report(&format!(
            "wrote {} and a sample of {} to `{}`",
            count(extra.jobs.len(), "job"),
            count(extra.sample.len(), "configuration"),
            out.display()
        ));
        return Ok(());
    }
    let among = args.among.as_deref().map(extra::read_sample).transpose()?;
    let settings = Settings {
        resamples: args.resamples,
        seed,
        among: among.as_ref(),
    };
    let pairs = correlation::pairs(&history, &settings);
    if history.budgets.len() > correlation::MOST_BUDGETS {
        report(&format!(
            "{} budgets: only the {} with most losses are compared",
            history.budgets.len(),
            correlation::MOST_BUDGETS
        ));
    }
    let table = match args.format {
        Format::Csv | Format::Json => {
            return print(&correlation::full_table(&history, &pairs).write(args.format)?);
        }
        Format::Table | Format::Markdown | Format::Latex => {
            correlation::short_table(&history, &pairs).write(args.format)?
        }
    };
    if args.format != Format::Table {
        return print(&table);
    }
    let mut text = format!(
        "{}\n\n",
        wrapped(&correlation::summary(&history), WIDTH, "")
    );
    if pairs.is_empty() {
        text.push_str(match history.budgets.len() {
            0 => "No results yet.\n",
            _ => "There is one budget only: nothing to compare.\n",
        });
        return print(&text);
    }
    text.push_str(&table);
    text.push('\n');
    for pair in &pairs {
        let verdict = correlation::verdict(&history, pair);
        text.push_str(&format!("{}\n", wrapped(&verdict, WIDTH, "  ")));
    }
    let caveat = correlation::caveat(&pairs, &settings);
    text.push_str(&format!("\n{}\n", wrapped(&caveat, WIDTH, "")));
    print(&text)
}

fn incumbent(args: &IncumbentArgs) -> Result<()> {
    let history = History::open(
        &args.input.dir,
        Wanted {
            origins: true,
            measures: true,
            ..Wanted::default()
        },
    )?;
    let incumbent = history.incumbent();
    let text = match (args.format, incumbent) {
        (Format::Json, _) => {
            let json = trajectory::incumbent_json(&history, incumbent);
            format!("{json:#}\n")
        }
        (Format::Table, Some(incumbent)) => trajectory::incumbent_text(&history, incumbent),
        (Format::Table, None) => format!(
            "No incumbent yet: none of {} has a loss.\n",
            count(history.results.len(), "result")
        ),
        (format, _) => trajectory::incumbent_table(&history, incumbent).write(format)?,
    };
    print(&text)
}

fn trajectory(args: &TrajectoryArgs) -> Result<()> {
    let history = History::open(&args.input.dir, Wanted::default())?;
    print(&trajectory::table(&history, args.at).write(args.format)?)
}

fn import_hpbandster(args: &ImportHpbandsterArgs) -> Result<()> {
    let history = hpbandster::read(&args.log, args.unit.map(Into::into))?;
    for problem in history.problems.lines() {
        tracing::warn!("{problem}");
    }
    hpbandster::import(&history, &args.out)?;
    report(&format!(
        "imported {} of {} into `{}`",
        count(history.results.len(), "result"),
        count(history.configurations.len(), "configuration"),
        args.out.display()
    ));
    Ok(())
}

fn import_configspace(args: &ConfigspaceArgs) -> Result<()> {
    let read = configspace::from_json(&args.file, &fs::read(&args.file)?)?;
    for note in &read.notes {
        tracing::warn!("`{}`: {note}", args.file.display());
    }
    fs::replace_record(&args.out, &read.space)?;
    Ok(())
}

fn export_hpbandster(args: &ExportHpbandsterArgs) -> Result<()> {
    let history = History::open(&args.input.dir, Wanted::ALL)?;
    hpbandster::export(&history, &args.out)
}

fn export_csv(args: &ExportCsvArgs) -> Result<()> {
    let history = History::open(&args.input.dir, Wanted::ALL)?;
    let text = rows::csv(&history)?;
    match &args.out {
        Some(path) => Ok(fs::replace(path, text.as_bytes())?),
        None => print(&text),
    }
}

fn export_configspace(args: &ConfigspaceArgs) -> Result<()> {
    let bytes = fs::read(&args.file)?;
    let space: Result<SpaceFile, _> = shared::format::from_bytes(&args.file, &bytes);
    let space = match space {
        Ok(space) => space,
        // Not a space: perhaps a search that holds one.
        Err(error @ shared::Error::WrongFormat { .. }) => {
            let search: shared::SearchFile =
                shared::format::from_bytes(&args.file, &bytes).map_err(|_as_search| error)?;
            search.space.ok_or_else(|| {
                let message = format!("`{}` holds no space", args.file.display());
                Failure::new(Code::BadInput, message)
            })?
        }
        Err(error) => return Err(error.into()),
    };
    let space = shared::SearchSpace::new(&space).map_err(|source| shared::Error::Value {
        path: args.file.clone(),
        format: "space",
        source,
    })?;
    let name = args.file.file_stem().unwrap_or_default().to_string_lossy();
    let json = configspace::to_json(&space, &name);
    fs::replace(&args.out, format!("{json:#}\n").as_bytes())?;
    Ok(())
}
