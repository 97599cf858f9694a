//! What `tandem-run` is told: a program that knows nothing of jobs, where a job's values stand among its arguments, and
//! which of the lines it prints say how good it is.
//!
//! All of it stands in the `command` of a search file, so `scheduler init` checks it, and `tandem-run` does it.

use std::collections::BTreeSet;

use clap::{CommandFactory as _, Parser, ValueEnum};
use regex_lite::Regex;

use crate::budget::{Budget, BudgetUnit};
use crate::error::Invalid;
use crate::objective::CommandObjective;
use crate::shape::with_hint;
use crate::space::SearchSpace;

/// The name by which commands call it.
pub const PROGRAM: &str = "tandem-run";
/// What a pattern calls the group that says how far the training is.
const SPENT: &str = "spent";

/// Run an unchanged training script as a job: its values become arguments, a printed number becomes the loss
///
/// Stands in a search file before the script's own command line:
///
/// `"command": ["tandem-run", "--metric", "accuracy: ([0-9.]+)", "--maximise", "python3", "train.py", "--epochs", "{budget}",
/// "--lr", "{lr}"]`
///
/// In the script's arguments `{NAME}` stands for the value of that hyperparameter; `{budget}` for the epochs, steps (whole
/// numbers, at least 1) or seconds to train; `{seed}` for a number below 2^32; `{checkpoints}` for a folder that is kept from
/// attempt to attempt; `{job}` for the job's id. A hyperparameter goes first where it has one of these names. `{{` and `}}` are
/// braces. An argument with a hyperparameter that is not active is left out, and so is the option before it.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, help_expected = true)]
pub struct Adapter {
    /// Which lines, of stdout or stderr, say the metric: a regular expression with the number in parentheses
    ///
    /// A group named `spent`, as in `epoch (?<spent>[0-9]+): accuracy ([0-9.]+)`, says how far the training is, in the
    /// budget's unit; without one the lines are taken to be evenly spaced over the budget.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub metric: Regex,
    /// The larger the better: the loss is the metric with its sign turned
    #[arg(long, alias = "maximize")]
    pub maximise: bool,
    /// Which of the metric's values is the result
    #[arg(long, value_enum, default_value_t = Choice::Last)]
    pub value: Choice,
    /// Another printed number for the result's measures: its last value; may be repeated
    #[arg(long = "measure", value_name = "NAME=PATTERN", value_parser = measure)]
    pub measures: Vec<(String, Regex)>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Which of several values counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The last that was printed
    Last,
    /// The best, of whatever line
    Best,
}

fn pattern(text: &str) -> Result<Regex, String> {
    let pattern = Regex::new(text).map_err(|error| error.to_string())?;
    match number_group(&pattern) {
        Some(_) => Ok(pattern),
        None => Err(format!(
            "the number must stand in parentheses, such as `{text} ([0-9.eE+-]+)`"
        )),
    }
}

fn measure(text: &str) -> Result<(String, Regex), String> {
    let (name, text) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("expected NAME=PATTERN, such as `f1=F1: ([0-9.]+)`")?;
    Ok((name.to_owned(), pattern(text)?))
}

/// The first group that is not `spent`.
fn number_group(pattern: &Regex) -> Option<usize> {
    let mut names = pattern.capture_names().enumerate().skip(1);
    names
        .find(|(_, name)| *name != Some(SPENT))
        .map(|(index, _)| index)
}

/// What a line says: the number, and how far the training is.
///
/// # Errors
/// The pattern matches, but not at a number; NaN and the infinities are numbers.
pub fn reading(pattern: &Regex, line: &str) -> Result<Option<(f64, Option<f64>)>, String> {
    let Some(groups) = pattern.captures(line) else {
        return Ok(None);
    };
    let number = |text: &str| {
        let number = text.trim().parse::<f64>();
        number.map_err(|_not_a_number| {
            let line = line.trim();
            format!("the pattern `{pattern}` finds `{text}` in `{line}`, which is no number")
        })
    };
    let Some(group) = number_group(pattern).and_then(|index| groups.get(index)) else {
        return Ok(None); // in the other half of an alternative
    };
    let spent = groups.name(SPENT).map(|group| number(group.as_str()));
    Ok(Some((number(group.as_str())?, spent.transpose()?)))
}

/// A piece of an argument.
enum Piece<'a> {
    Text(&'a str),
    Place(&'a str),
}

/// What a job gives to the places.
#[derive(Debug, Clone, Default)]
pub struct Values<'a> {
    /// Name and value, the first of a name counts.
    pub named: Vec<(&'a str, String)>,
    /// Hyperparameters that are not active.
    pub inactive: BTreeSet<&'a str>,
}

/// The names of places that are no hyperparameters.
pub const PLACES: [&str; 4] = ["budget", "seed", "checkpoints", "job"];

/// The budget as a script takes it: a whole number of epochs or steps, at least 1; seconds as they are.
pub fn amount(budget: Budget) -> f64 {
    match budget.unit {
        BudgetUnit::Seconds | BudgetUnit::CpuSeconds => budget.amount,
        BudgetUnit::Epochs | BudgetUnit::Steps => budget.amount.round().max(1.0),
    }
}

impl Adapter {
    /// What a command tells `tandem-run`; `None` if it calls another program.
    ///
    /// # Errors
    /// Its arguments are wrong.
    pub fn of(command: &[String]) -> Option<Result<Self, Invalid>> {
        let program = std::path::Path::new(command.first()?);
        if program.file_name() != Some(PROGRAM.as_ref()) {
            return None;
        }
        let expected = "arguments of `tandem-run`, then a program and its arguments";
        let parsed = Self::try_parse_from(command).map_err(|error| {
            let text = error.to_string();
            let text = text.trim_start_matches("error: ");
            let text = text.split("\n\n").next().unwrap_or(text); // the rest is how to call it
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            Invalid::new("command", expected, lines.join(" "))
        });
        Some(parsed.and_then(|adapter| match adapter.unknown_option() {
            None => Ok(adapter),
            Some(found) => {
                let at = command.len() - adapter.command.len();
                Err(Invalid::new(format!("command[{at}]"), expected, found))
            }
        }))
    }

    /// What stands where the program should, if it looks like an option, and what may have been meant.
    pub fn unknown_option(&self) -> Option<String> {
        let known = Self::command();
        let known = known
            .get_arguments()
            .filter_map(|argument| argument.get_long());
        let known: Vec<String> = known.map(|name| format!("--{name}")).collect();
        let first = self.command.first()?;
        first
            .starts_with('-')
            .then(|| with_hint(&format!("`{first}`"), &known, '`'))
    }

    /// Everything that is wrong with a command for `tandem-run` in a search of this space; nothing for other commands.
    pub fn complaints(objective: &CommandObjective, space: &SearchSpace) -> Vec<Invalid> {
        let adapter = match Self::of(&objective.command) {
            None => return Vec::new(),
            Some(Err(invalid)) => return vec![invalid],
            Some(Ok(adapter)) => adapter,
        };
        let mut wrong = Vec::new();
        if objective.keep_alive {
            let expected = "false: `tandem-run` starts its program once a job";
            wrong.push(Invalid::new("keep_alive", expected, "true"));
        }
        let names = space.hyperparameters().iter().map(|h| h.name.as_str());
        let named: Vec<_> = names.chain(PLACES).map(|n| (n, String::new())).collect();
        let values = Values {
            named,
            ..Values::default()
        };
        let first = objective.command.len() - adapter.command.len();
        for (index, argument) in adapter.command.iter().enumerate() {
            if let Err((expected, found)) = filled(argument, &values) {
                let at = format!("command[{}]", first + index);
                wrong.push(Invalid::new(at, expected, found));
            }
        }
        wrong
    }

    /// Hyperparameters that stand nowhere in the program's arguments.
    pub fn unused<'a>(&self, space: &'a SearchSpace) -> Vec<&'a str> {
        let pieces = self.command.iter().filter_map(|text| pieces(text).ok());
        let used: BTreeSet<&str> = pieces
            .flatten()
            .filter_map(|piece| match piece {
                Piece::Place(name) => Some(name),
                Piece::Text(_) => None,
            })
            .collect();
        let names = space.hyperparameters().iter().map(|h| h.name.as_str());
        names.filter(|name| !used.contains(name)).collect()
    }

    /// The program and its arguments for a job.
    ///
    /// # Errors
    /// A place has an unknown name, or braces are open.
    pub fn command_for(&self, values: &Values<'_>) -> Result<Vec<String>, String> {
        let mut command: Vec<String> = Vec::new();
        for argument in &self.command {
            let filled = filled(argument, values)
                .map_err(|(expected, found)| format!("expected {expected}, found {found}"))?;
            match filled {
                Some(argument) => command.push(argument),
                // The option that it is the value of.
                None if command.len() > 1
                    && !argument.starts_with('-')
                    && command.last().is_some_and(|last| is_option(last)) =>
                {
                    command.pop();
                }
                None => {}
            }
        }
        Ok(command)
    }
}

fn is_option(argument: &str) -> bool {
    argument.len() > 1 && argument.starts_with('-') && argument != "--" && !argument.contains('=')
}

/// An argument with its places filled in; `None` if one is of a hyperparameter that is not active. The error says what was
/// expected, and what was found.
fn filled(argument: &str, values: &Values<'_>) -> Result<Option<String>, (String, String)> {
    let mut text = String::new();
    let mut is_left_out = false;
    for piece in pieces(argument)? {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Place(name) => match values.named.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => text.push_str(value),
                None if values.inactive.contains(name) => is_left_out = true,
                None => {
                    let known: Vec<String> = values
                        .named
                        .iter()
                        .map(|(name, _)| (*name).to_owned())
                        .chain(values.inactive.iter().map(|name| (*name).to_owned()))
                        .collect();
                    let expected = format!("one of {} in braces", known.join(", "));
                    let found = with_hint(&format!("`{name}`"), &known, '`');
                    return Err((expected, found));
                }
            },
        }
    }
    Ok((!is_left_out).then_some(text))
}

fn pieces(argument: &str) -> Result<Vec<Piece<'_>>, (String, String)> {
    let wrong = |rest: &str| {
        let expected = "a name in braces; `{{` and `}}` are braces themselves";
        Err((expected.to_owned(), format!("`{rest}`")))
    };
    let mut pieces = Vec::new();
    let mut rest = argument;
    while let Some(at) = rest.find(['{', '}']) {
        pieces.push(Piece::Text(&rest[..at]));
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix(brace) {
            pieces.push(Piece::Text(brace));
            rest = after;
            continue;
        }
        match after.split_once('}') {
            Some((name, after)) if brace == "{" && !name.is_empty() && !name.contains('{') => {
                pieces.push(Piece::Place(name));
                rest = after;
            }
            _ => return wrong(&rest[at..]),
        }
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::SpaceFile;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn adapter(command: &[&str]) -> Adapter {
        let mut all = vec![PROGRAM, "--metric", "accuracy: (.*)"];
        all.extend(command);
        Adapter::of(&words(&all)).unwrap().unwrap()
    }

    #[test]
    fn values_take_their_places_and_what_is_not_active_is_left_out() {
        let values = Values {
            named: vec![
                ("rate", "0.1".into()),
                ("layer.width", "64".into()),
                ("budget", "9".into()),
            ],
            inactive: ["momentum"].into(),
        };
        for (given, expected) in [
            (
                &["python3", "t.py", "--lr", "{rate}", "-n{budget}"][..],
                &["python3", "t.py", "--lr", "0.1", "-n9"][..],
            ),
            (&["t", "a={rate}:{layer.width}"], &["t", "a=0.1:64"]),
            (&["t", "{{\"w\": {rate}}}"], &["t", "{\"w\": 0.1}"]),
            (
                &["t", "--nesterov", "--momentum", "{momentum}", "x"],
                &["t", "--nesterov", "x"],
            ),
            (&["t", "--momentum={momentum}", "x"], &["t", "x"]),
            (&["t", "--verbose", "--m={momentum}"], &["t", "--verbose"]),
            (&["t", "model.momentum={momentum}"], &["t"]),
            (&["t", "--", "{momentum}"], &["t", "--"]),
        ] {
            let filled = adapter(given).command_for(&values);
            assert_eq!(filled, Ok(words(expected)), "{given:?}");
        }
        for (given, complaint) in [
            ("{rat}", "found `rat` (is `rate` meant?)"),
            ("{x}", "one of rate, layer.width, budget, momentum"),
            ("{rate", "found `{rate`"),
            ("a}", "found `}`"),
            ("{}", "found `{}`"),
            ("{a{rate}}", "found `{a{rate}}`"),
        ] {
            let error = adapter(&["t", given]).command_for(&values).unwrap_err();
            assert!(error.contains(complaint), "{given}: {error}");
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_command_is_found_before_anything_runs() {
        let space: SpaceFile = serde_json::from_str(
            r#"{"hyperparameters": [{"name": "rate", "type": "float", "lower": 0, "upper": 1},
                {"name": "width", "type": "integer", "lower": 1, "upper": 9}]}"#,
        )
        .unwrap();
        let space = SearchSpace::new(&space).unwrap();
        let said = |command: &[&str]| {
            let objective = CommandObjective {
                command: words(command),
                keep_alive: false,
            };
            let complaints = Adapter::complaints(&objective, &space);
            let lines = complaints
                .iter()
                .map(|wrong| format!("{}: {}; {}", wrong.at, wrong.expected, wrong.found));
            lines.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(said(&["python3", "t.py", "{nonsense}"]), "");
        let metric = ["bin/tandem-run", "--metric", "loss: (.*)"];
        assert_eq!(said(&[&metric[..], &["t", "{rate}"]].concat()), "");
        let two = said(&[&metric[..], &["t", "{rte}", "{budget}", "{bugdet}"]].concat());
        assert!(
            two.contains("command[4]") && two.contains("`rate` meant"),
            "{two}"
        );
        assert!(
            two.contains("command[6]") && two.contains("`budget` meant"),
            "{two}"
        );
        for (command, complaint) in [
            (&["tandem-run", "t"][..], "--metric"),
            (&["tandem-run", "--metric", "loss: .*", "t"], "parentheses"),
            (&["tandem-run", "--metric", "loss: (", "t"], "open group"),
            (
                &["tandem-run", "--metric", "(?<spent>.*)", "t"],
                "parentheses",
            ),
            (
                &["tandem-run", "--metric", "(.*)", "--maximum", "t"],
                "--maximise",
            ),
            (&["tandem-run", "--metric", "(.*)"], "COMMAND"),
            (
                &["tandem-run", "--metric", "(.*)", "--measure", "x", "t"],
                "NAME=PATTERN",
            ),
        ] {
            let said = said(command);
            assert!(said.contains(complaint), "{command:?}: {said}");
        }
        assert_eq!(adapter(&["t", "{rate}"]).unused(&space), ["width"]);
    }

    #[test]
    fn lines_are_read_as_numbers() {
        let read = |pattern_text: &str, line: &str| reading(&pattern(pattern_text).unwrap(), line);
        assert_eq!(
            read("accuracy: ([0-9.]+)", "epoch 3 accuracy: 0.5\n"),
            Ok(Some((0.5, None)))
        );
        assert_eq!(read("accuracy: ([0-9.]+)", "epoch 3"), Ok(None));
        let named = "epoch (?<spent>[0-9]+).* loss (?<value>[^ ]+)";
        assert_eq!(
            read(named, "epoch 3: loss 1e-3 s"),
            Ok(Some((0.001, Some(3.0))))
        );
        assert_eq!(read("a (.*)|b", "b"), Ok(None));
        assert!(read("loss (.*)", "loss nan").unwrap().unwrap().0.is_nan());
        let error = read("loss: (.*)", "loss: low").unwrap_err();
        assert!(
            error.contains("`low`") && error.contains("no number"),
            "{error}"
        );
    }

    #[test]
    fn budgets_are_whole_epochs() {
        let amount = |amount, unit| super::amount(Budget { amount, unit }).to_string();
        let epochs = [0.2, 1.4, 1.852, 81.0].map(|x| amount(x, BudgetUnit::Epochs));
        assert_eq!(epochs, ["1", "1", "2", "81"]);
        assert_eq!(amount(0.25, BudgetUnit::Seconds), "0.25");
    }
}
