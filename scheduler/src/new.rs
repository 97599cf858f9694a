//! `scheduler new`: a first search file and a first space, with comments, for a program or a data set.
//!
//! What the flags leave open is asked where somebody sits at a terminal, and else has a value that works. The files name
//! their JSON Schemas, which lie beside them, so that editors complete and check what is typed.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Map, Value as Json, json};
use shared::exit::{Code, Failure};
use shared::format::Record as _;
use shared::fs::{self, Published};
use shared::schema::schema;
use shared::space::SpaceFile;
use shared::{Search, SearchFile, cli};

use crate::vary;

/// The space of the built-in network.
const NETWORK_SPACE: &str = include_str!("../../data/spaces/joint-resnet.json");

/// Arguments of `scheduler new`.
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    /// The folder for the files; made if it does not exist
    folder: PathBuf,
    /// Train the built-in network on this data set, instead of running a program
    ///
    /// digits and mnist-10k are built in; mnist, fashion-mnist, cifar-10, cifar-100 and folder need --path.
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    data: Option<String>,
    /// Path of the data
    #[arg(long, value_name = "PATH", requires = "data")]
    path: Option<PathBuf>,
    /// Unit of budgets: `epochs`, `steps`, `seconds` or `cpu_seconds`
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Smallest budget
    #[arg(long, value_name = "AMOUNT")]
    min: Option<f64>,
    /// Largest budget
    #[arg(long, value_name = "AMOUNT")]
    max: Option<f64>,
    /// A hyperparameter: NAME=LOWER..UPPER, with :log behind it for a logarithmic scale, NAME=A,B,C for a choice, or
    /// NAME=A<B<C for values in an order; may be repeated
    #[arg(long, value_name = "NAME=VALUES")]
    vary: Vec<String>,
    /// The program to run for each training, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &NewArgs) -> Result<Code> {
    let asked = Answers::of(args)?;
    let space = asked.space(&args.vary)?;
    let search = asked.search(&args.folder);
    check(&search, &space)?;
    fs::make_folder(&args.folder)?;
    let files = [
        ("search.json", search),
        ("space.json", space),
        ("search.schema.json", schema::<SearchFile>()),
        ("space.schema.json", schema::<SpaceFile>()),
    ];
    for (name, json) in &files {
        write(&args.folder.join(name), json)?;
    }
    let folder = args.folder.display();
    cli::print(&format!(
        "wrote `{folder}/search.json` and `{folder}/space.json`: edit them, then\n\n\
         scheduler init {folder}/search.json DIRECTORY     # says everything that is wrong\n\
         scheduler local {folder}/search.json DIRECTORY    # runs it on this machine\n"
    ))?;
    Ok(Code::Done)
}

/// What the search is to be about.
struct Answers {
    objective: Json,
    is_network: bool,
    unit: String,
    min: f64,
    max: f64,
}

impl Answers {
    /// What flags say, and what is asked where they say nothing.
    fn of(args: &NewArgs) -> Result<Self> {
        let has_flags = args.data.is_some() || !args.command.is_empty();
        let can_ask = !has_flags && std::io::stdin().is_terminal();
        let mut data = args.data.clone();
        let mut command = args.command.clone();
        if can_ask {
            let answer = ask(
                "the program to run for each training, or empty for the built-in network",
                "",
            )?;
            command = answer.split_whitespace().map(str::to_owned).collect();
            if command.is_empty() {
                data = Some(ask("the data set", "digits")?);
            }
        } else if !has_flags {
            command = vec!["python3".into(), "train.py".into()];
        }
        let is_network = data.is_some();
        let objective = match data {
            Some(name) => {
                let mut data = json!({ "name": name });
                if let Some(path) = &args.path {
                    data["path"] = json!(path);
                }
                json!({ "network": { "data": data } })
            }
            None => json!({ "command": command }),
        };
        let largest = if is_network { 9.0 } else { 27.0 };
        let mut answers = Self {
            objective,
            is_network,
            unit: args.unit.clone().unwrap_or_else(|| "epochs".into()),
            min: args.min.unwrap_or(1.0),
            max: args.max.unwrap_or(largest),
        };
        if can_ask {
            answers.unit = ask("what a budget is an amount of", &answers.unit)?;
            answers.min = ask_number("the smallest budget", answers.min)?;
            answers.max = ask_number("the largest budget", answers.max)?;
        }
        Ok(answers)
    }

    fn search(&self, folder: &Path) -> Json {
        let name = folder.file_name().map_or_else(
            || "search".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        let about_objective = if self.is_network {
            "the built-in network; what is minimised is its validation error, a share from 0 to 1"
        } else {
            "called with the path of a job file; it writes {\"loss\": …} to the path that `result` names there. The loss is \
             minimised: to maximise an accuracy, write 1 - accuracy, or -accuracy"
        };
        json!({
            "$schema": "search.schema.json",
            "format": SearchFile::FORMAT,
            "version": SearchFile::VERSION,
            "name": name,
            "//": "fields that begin with // are comments",
            "space_file": "space.json",
            "// objective": about_objective,
            "objective": self.objective,
            "// budget": "each rung has eta times the budget of the one below; one in eta configurations goes on to the next. tandem uses every second rung",
            "budget": { "unit": self.unit, "min": whole(self.min), "max": whole(self.max), "eta": 3 },
            "// limit": "`scheduler init` prints how many trainings that is",
            "limit": { "brackets": 6 },
            "// method": "tandem, bohb, hyperband; on the largest budget only: random, tpe, evolution, tournament, reinforce, smbo, progressive",
            "method": "tandem",
            "// constraints": "limits of what is measured, for example \"constraints\": [{ \"measure\": \"parameters\", \"max\": 5e6 }]",
            "// objectives": "more than the loss is minimised with, for example, \"objectives\": [\"loss\", \"parameters\"]",
            "// repetitions": "with 3, say, what comes to the largest budget is trained there with three seeds, and its mean counts",
            "// promotion": "with \"stopping\" every training is towards the largest budget, and ends early where its loss at a lower one is not among the best 1/eta so far: for trainings that report losses on their way",
            "// seed": "another seed is another search",
            "seed": 0,
        })
    }

    fn space(&self, vary: &[String]) -> Result<Json> {
        let mut json = if self.is_network && vary.is_empty() {
            serde_json::from_str(NETWORK_SPACE)?
        } else if vary.is_empty() {
            example()
        } else {
            let parsed: Result<Vec<Json>> =
                vary.iter().map(|text| vary::hyperparameter(text)).collect();
            json!({ "hyperparameters": parsed? })
        };
        let own = json.as_object_mut().map(std::mem::take).unwrap_or_default();
        let mut space = Map::new();
        space.insert("$schema".into(), "space.schema.json".into());
        space.insert("format".into(), SpaceFile::FORMAT.into());
        space.insert("version".into(), SpaceFile::VERSION.to_vec().into());
        space.extend(
            own.into_iter()
                .filter(|(name, _)| name != "format" && name != "version"),
        );
        Ok(space.into())
    }
}

/// One hyperparameter of each type, a condition, a belief and a forbidden combination.
fn example() -> Json {
    json!({
        "//": "types: float, integer, ordinal (values in an order), categorical, constant",
        "hyperparameters": [
            {
                "name": "learning_rate", "type": "float", "lower": 1e-5, "upper": 0.1, "log": true,
                "// prior": "what you believe to be about the best value; a wrong belief costs little",
                "prior": 1e-3,
            },
            { "name": "batch_size", "type": "ordinal", "sequence": [16, 32, 64, 128, 256] },
            { "name": "layers", "type": "integer", "lower": 1, "upper": 8 },
            { "name": "optimizer", "type": "categorical", "choices": ["adam", "sgd"] },
            {
                "name": "momentum", "type": "float", "lower": 0, "upper": 0.99,
                "// active_when": "only then it has a value; the other one stands above",
                "active_when": { "hyperparameter": "optimizer", "in": ["sgd"] },
            },
        ],
        "// forbidden": "combinations that are never tried: values, lists of values, or ranges",
        "forbidden": [{ "batch_size": 256, "layers": { "min": 7 } }],
    })
}

/// What is written must be right, or say what the flags got wrong.
fn check(search: &Json, space: &Json) -> Result<()> {
    let path = Path::new("search.json");
    let bytes = serde_json::to_vec(search)?;
    let mut file: SearchFile = shared::format::from_bytes(path, &bytes)?;
    let bytes = serde_json::to_vec(space)?;
    file.space = Some(shared::format::from_bytes(Path::new("space.json"), &bytes)?);
    file.space_file = None;
    Search::check(&file).map_err(|source| shared::Error::Value {
        path: path.to_path_buf(),
        format: SearchFile::FORMAT,
        source,
    })?;
    Ok(())
}

/// Writes a file that must be new.
fn write(path: &Path, json: &Json) -> Result<()> {
    let mut text = serde_json::to_string_pretty(json)?;
    text.push('\n');
    match fs::publish_new(path, text.as_bytes())? {
        Published::New => Ok(()),
        Published::AlreadyThere => {
            let message = format!(
                "`{}` is there already and is left as it is; use another folder",
                path.display()
            );
            Err(Failure::new(Code::BadInput, message).into())
        }
    }
}

fn whole(number: f64) -> Json {
    let settings = json!(number);
    if number.fract().abs() < f64::MIN_POSITIVE && number.abs() < 1e15 {
        serde_json::from_str(&format!("{number:.0}")).unwrap_or(settings)
    } else {
        settings
    }
}

/// Asks at the terminal.
fn ask(question: &str, default: &str) -> Result<String> {
    let shown = if default.is_empty() {
        String::new()
    } else {
        format!(" [{default}]")
    };
    let mut terminal = std::io::stderr().lock();
    write!(terminal, "{question}{shown}: ")?;
    terminal.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let answer = line.trim();
    Ok(if answer.is_empty() { default } else { answer }.to_owned())
}

fn ask_number(question: &str, default: f64) -> Result<f64> {
    let answer = ask(question, &default.to_string())?;
    answer.parse().map_err(|_no_number| {
        let message = format!("{question}: expected a number, found `{answer}`");
        Failure::new(Code::BadInput, message).into()
    })
}
