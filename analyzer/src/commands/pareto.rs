//! `analyzer pareto`

use anyhow::Result;
use shared::cli::print;
use shared::exit::{Code, Failure};

use super::{Shown, opened};
use crate::front::Front;
use crate::history::History;
use crate::load::Wanted;
use crate::table::Format;
use crate::trajectory::At;

/// Arguments of `pareto`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are, and how they are shown
    #[command(flatten)]
    shown: Shown,
    /// Which results count
    #[arg(long, value_enum, default_value_t = At::Reached)]
    at: At,
    /// What is minimised: `loss` or measures, separated by commas; default: the search's own objectives
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    objectives: Vec<String>,
    /// Where the hypervolume ends, a number for each objective, separated by commas; default: their worst values
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    reference: Option<Vec<f64>>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = Wanted {
        measures: true,
        ..Wanted::default()
    };
    let history = opened(&args.shown.dir, wanted)?;
    let objectives = objectives(args, &history)?;
    if let Some(reference) = &args.reference
        && (reference.len() != objectives.len() || !reference.iter().all(|x| x.is_finite()))
    {
        let message = format!(
            "--reference: expected a finite number for each of {}, found {} numbers",
            objectives.join(", "),
            reference.len()
        );
        return Err(Failure::new(Code::BadInput, message).into());
    }
    let front = Front::new(&history, &objectives, args.at, args.reference.clone());
    print(&match args.shown.format {
        Format::Table => front.text(&history),
        Format::Json => format!("{:#}\n", front.json(&history)),
        format => front.table(&history, true).write(format)?,
    })
}

fn objectives(args: &Args, history: &History) -> Result<Vec<String>> {
    let wrong = |message: String| Err(Failure::new(Code::BadInput, message).into());
    let own = history
        .search
        .as_ref()
        .map(|search| search.objectives.clone());
    let objectives = match own {
        Some(own) if args.objectives.is_empty() => own,
        _ => args.objectives.clone(),
    };
    if objectives.is_empty() {
        return wrong(
            "this search has one objective, the loss: `--objectives loss,MEASURE` names others"
                .into(),
        );
    }
    let unknown = objectives
        .iter()
        .find(|name| *name != "loss" && !history.measures.contains(name));
    if let Some(unknown) = unknown.filter(|_| history.reached().is_some()) {
        let known = history.measures.join(", ");
        return wrong(format!(
            "--objectives: no result has the measure `{unknown}`; there are loss, {known}"
        ));
    }
    let most = shared::pareto::MOST;
    if !(2..=most).contains(&objectives.len()) {
        return wrong(format!(
            "--objectives: expected two to {most} names, found {}",
            objectives.len()
        ));
    }
    Ok(objectives)
}
