//! `analyzer incumbent`

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value as Json, json};
use shared::cli::print;
use shared::fs;

use super::{Shown, opened};
use crate::history::{Evaluation, History};
use crate::load::Wanted;
use crate::retrain;
use crate::table::Format;
use crate::trajectory::{self, At};

/// Arguments of `incumbent`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the results are, and how they are shown
    #[command(flatten)]
    shown: Shown,
    /// Which results may become the incumbent
    #[arg(long, value_enum, default_value_t = At::Reached)]
    at: At,
    /// Also write its job into this file; `trainer job FILE --directory DIR` then trains it again
    #[arg(long, value_name = "FILE")]
    job: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = Wanted {
        origins: true,
        measures: true,
        ..Wanted::default()
    };
    let history = opened(&args.shown.dir, wanted)?;
    let incumbent = trajectory::incumbent(&history, args.at);
    if let (Some(path), Some(incumbent)) = (&args.job, incumbent) {
        fs::replace_record(path, &retrain::job(&history, incumbent)?)?;
    }
    let text = match (args.shown.format, incumbent) {
        (Format::Json, _) => {
            let mut json = trajectory::incumbent_json(&history, incumbent);
            if let Some(incumbent) = incumbent {
                json["checkpoint"] = json!(retrain::checkpoint(&history, incumbent)?);
                json["train_again"] = commands(args, &history).map_or(Json::Null, Json::from);
            }
            format!("{json:#}\n")
        }
        (Format::Table, Some(incumbent)) => {
            one_of_several(&history)
                + &trajectory::incumbent_text(&history, incumbent, args.at)
                + &again(args, &history, incumbent)?
        }
        (Format::Table, None) => trajectory::no_incumbent(&history, args.at),
        (format, _) => trajectory::incumbent_table(&history, incumbent).write(format)?,
    };
    print(&text)
}

/// That the smallest loss is one of several things that are wanted.
fn one_of_several(history: &History) -> String {
    let objectives = history.search.as_ref().map(|search| &search.objectives);
    match objectives {
        Some(objectives) if !objectives.is_empty() => format!(
            "The smallest loss of a search by {}; `analyzer pareto` shows the whole front.\n\n",
            objectives.join(", ")
        ),
        _ => String::new(),
    }
}

/// What there is of its training, for people.
fn again(args: &Args, history: &History, incumbent: &Evaluation) -> Result<String> {
    let Some(commands) = commands(args, history) else {
        return Ok(String::new());
    };
    let checkpoint = match retrain::checkpoint(history, incumbent)? {
        Some(path) => path.display().to_string(),
        None => "none is kept".into(),
    };
    Ok(format!(
        "\ncheckpoint: {checkpoint}\ntrain it again: {}\n",
        commands.join("\n                ")
    ))
}

/// The commands that train the incumbent again; `None` for another program's log.
fn commands(args: &Args, history: &History) -> Option<Vec<String>> {
    history.search.as_ref()?;
    let dir = shell_word(&args.shown.dir.display().to_string());
    let file = args.job.clone().unwrap_or_else(|| "incumbent.json".into());
    let file = shell_word(&file.display().to_string());
    let train = format!("trainer job {file} --directory {dir}");
    if args.job.is_some() {
        return Some(vec![train]);
    }
    let at = match args.at {
        At::Reached => "",
        At::Top => " --at top",
        At::Any => " --at any",
    };
    Some(vec![
        format!("analyzer incumbent {dir}{at} --job {file}"),
        train,
    ])
}

/// A word as a shell reads it back.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("/a/b-c_1.2"), "/a/b-c_1.2");
        assert_eq!(shell_word("my search"), "'my search'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
