//! What each command does: read, compute, print.

use std::mem::ManuallyDrop;
use std::path::Path;

use anyhow::Result;
use shared::cli::{print, report as tell};
use shared::exit::{Code, Failure};
use shared::space::SpaceFile;
use shared::{Configuration, Seed, fs};

use crate::arguments::{
    Along, Args, Command, CompareArgs, ConfigspaceArgs, CorrelationArgs, ExportCommand,
    ExportCsvArgs, ExportHpbandsterArgs, ExportParquetArgs, ImportCommand, ImportHpbandsterArgs,
    ImportanceArgs, IncumbentArgs, LearningCurvesArgs, ReportArgs, TrajectoryArgs,
};
use crate::correlation::{self, Settings};
use crate::load::{History, Wanted};
use crate::table::Format;
use crate::wording::{count, put, wrapped};
use crate::{compare, configspace, extra, hpbandster, importance, png, report, rows, trajectory};

/// Width of remarks below tables.
const WIDTH: usize = 80;

/// Runs the program.
pub fn run(args: Args) -> Result<Code> {
    match args.command {
        Command::Correlation(args) => correlation(&args)?,
        Command::Incumbent(args) => incumbent(&args)?,
        Command::Trajectory(args) => trajectory(&args)?,
        Command::Importance(args) => importance(&args)?,
        Command::LearningCurves(args) => learning_curves(&args)?,
        Command::Compare(args) => compare(&args)?,
        Command::Report(args) => report_file(&args)?,
        Command::Import(ImportCommand::Hpbandster(args)) => import_hpbandster(&args)?,
        Command::Import(ImportCommand::Configspace(args)) => import_configspace(&args)?,
        Command::Export(ExportCommand::Hpbandster(args)) => export_hpbandster(&args)?,
        Command::Export(ExportCommand::Csv(args)) => export_csv(&args)?,
        Command::Export(ExportCommand::Parquet(args)) => export_parquet(&args)?,
        Command::Export(ExportCommand::Configspace(args)) => export_configspace(&args)?,
    }
    Ok(Code::Done)
}

/// What is at `path`, kept until the program ends: to free the small pieces of a large search one by one takes longer.
fn opened(path: &Path, wanted: Wanted) -> Result<ManuallyDrop<History>> {
    History::open(path, wanted).map(ManuallyDrop::new)
}

fn correlation(args: &CorrelationArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::default())?;
    let seed = Seed::new(args.seed);
    if let (Some(num), Some(out)) = (args.extra, &args.extra_out) {
        let extra = extra::draw(&history, num as usize, seed)?;
        extra::write(&history, &extra, out)?;
        tell(&format!(
            "`{out}` has {} and {} to do; next: `trainer run {out} --once`, then `analyzer correlation {out}`",
            count(extra.sample.len(), "configuration"),
            count(extra.jobs.len(), "job"),
            out = out.display()
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
        tell(&format!(
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
        put(
            &mut text,
            format_args!("{}\n", wrapped(&verdict, WIDTH, "  ")),
        );
    }
    let caveat = correlation::caveat(&history, &pairs, &settings);
    put(
        &mut text,
        format_args!("\n{}\n", wrapped(&caveat, WIDTH, "")),
    );
    print(&text)
}

fn incumbent(args: &IncumbentArgs) -> Result<()> {
    let history = opened(
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
    let history = opened(&args.input.dir, Wanted::default())?;
    print(&trajectory::table(&history, args.at).write(args.format)?)
}

fn importance(args: &ImportanceArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::default())?;
    let budgets: Vec<usize> = match args.budget {
        None => (0..history.budgets.len()).collect(),
        Some(amount) => vec![budget_of(&history, amount)?],
    };
    let settings = importance::Settings {
        of: args.of,
        num_trees: args.trees,
        most_losses: args.most_losses as usize,
        seed: Seed::new(args.seed),
    };
    let mut all = Vec::new();
    for budget in budgets {
        match importance::importance(&history, budget, &settings) {
            Ok(importance) => all.push(importance),
            Err(reason) => tell(&format!("no importance: {reason}")),
        }
    }
    if args.marginals {
        return print(&importance::marginal_table(&history, &all).write(args.format)?);
    }
    if matches!(args.format, Format::Csv | Format::Json) {
        return print(&importance::full_table(&history, &all).write(args.format)?);
    }
    let mut text = String::new();
    for importance in &all {
        if args.format == Format::Table {
            let basis = importance::basis(&history, importance);
            put(
                &mut text,
                format_args!("{}\n\n", wrapped(&basis, WIDTH, "")),
            );
        }
        text.push_str(&importance::short_table(importance).write(args.format)?);
        text.push('\n');
    }
    print(&text)
}

fn budget_of(history: &History, amount: f64) -> Result<usize> {
    crate::load::position_of(&history.budgets, amount).ok_or_else(|| {
        let names = (0..history.budgets.len()).map(|budget| history.budget_name(budget));
        let names = names.collect::<Vec<_>>().join(", ");
        let message = format!("there is no budget {amount}; there are: {names}");
        Failure::new(Code::Usage, message).into()
    })
}

fn learning_curves(args: &LearningCurvesArgs) -> Result<()> {
    let wanted = Wanted {
        curves: true,
        ..Wanted::default()
    };
    let history = opened(&args.input.dir, wanted)?;
    print(&rows::curves(&history, args.configuration).write(args.format)?)
}

fn compare(args: &CompareArgs) -> Result<()> {
    let mut curves = Vec::new();
    for dir in &args.dirs {
        let history = opened(dir, Wanted::default())?;
        let curve = compare::curve(dir, &history, args.by, args.along, args.at);
        if curve.steps.is_empty() {
            tell(&format!("`{}` has no incumbent yet", dir.display()));
        }
        curves.push(curve);
    }
    let unit = curves[0].unit;
    if args.along == Along::Spent && curves.iter().any(|curve| curve.unit != unit) {
        let message =
            "the searches' budgets have different units: compare them --along jobs or wall";
        return Err(Failure::new(Code::Usage, message).into());
    }
    let summaries = compare::summaries(&curves, args.points);
    if let Some(path) = &args.svg {
        match compare::drawing(&summaries, args.along, unit) {
            Some(scene) => fs::replace(path, &report::svg_file(&scene))?,
            None => tell("nothing to draw: no search has an incumbent"),
        }
    }
    let is_rounded = !matches!(args.format, Format::Csv | Format::Json);
    print(&compare::table(&summaries, args.along, is_rounded).write(args.format)?)
}

fn report_file(args: &ReportArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    let seed = Seed::new(args.seed);
    let sections = report::sections(&history, seed);
    if let Some(path) = &args.out {
        report::write(&history, &sections, path)?;
    }
    if let Some(folder) = &args.svg {
        report::write_drawings(&sections, folder, "svg", |scene| {
            Ok(report::svg_file(scene))
        })?;
    }
    if let Some(folder) = &args.png {
        report::write_drawings(&sections, folder, "png", png::encode)?;
    }
    Ok(())
}

fn import_hpbandster(args: &ImportHpbandsterArgs) -> Result<()> {
    let history = hpbandster::read(&args.log, args.unit.map(Into::into))?;
    for problem in history.problems.lines() {
        tracing::warn!("{problem}");
    }
    hpbandster::import(&history, &args.out)?;
    tell(&format!(
        "imported {} of {} into `{}`",
        count(history.results.len(), "result"),
        count(history.configurations.len(), "configuration"),
        args.out.display()
    ));
    Ok(())
}

fn import_configspace(args: &ConfigspaceArgs) -> Result<()> {
    let read = configspace::from_json(&args.file, &fs::read_named(&args.file)?)?;
    for note in &read.notes {
        tracing::warn!("`{}`: {note}", args.file.display());
    }
    fs::replace_record(&args.out, &read.space)?;
    Ok(())
}

fn export_hpbandster(args: &ExportHpbandsterArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    hpbandster::export(&history, &args.out)
}

fn export_csv(args: &ExportCsvArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    let text = rows::csv(&history)?;
    match &args.out {
        Some(path) => Ok(fs::replace(path, text.as_bytes())?),
        None => print(&text),
    }
}

fn export_parquet(args: &ExportParquetArgs) -> Result<()> {
    let history = opened(&args.input.dir, Wanted::ALL)?;
    Ok(fs::replace(&args.out, &rows::parquet(&history)?)?)
}

fn export_configspace(args: &ConfigspaceArgs) -> Result<()> {
    let bytes = fs::read_named(&args.file)?;
    let space: Result<SpaceFile, _> = shared::format::from_bytes(&args.file, &bytes);
    let (space, fix) = match space {
        Ok(space) => (space, Configuration::default()),
        // Not a space: perhaps a search that holds one.
        Err(error @ shared::Error::WrongFormat { .. }) => {
            let search: shared::SearchFile =
                shared::format::from_bytes(&args.file, &bytes).map_err(|_as_search| error)?;
            let space = search.space.ok_or_else(|| {
                let message = format!("`{}` holds no space", args.file.display());
                Failure::new(Code::BadInput, message)
            })?;
            (space, search.fix)
        }
        Err(error) => return Err(error.into()),
    };
    // What a search fixes is constant in its space.
    let checked = shared::SearchSpace::new(&space).and_then(|space| space.fix(&fix));
    let space = checked.map_err(|source| shared::Error::Value {
        path: args.file.clone(),
        format: "space",
        source: source.into(),
    })?;
    let name = args.file.file_stem().unwrap_or_default().to_string_lossy();
    let json = configspace::to_json(&space, &name)?;
    fs::replace(&args.out, format!("{json:#}\n").as_bytes())?;
    Ok(())
}
