//! One target for every record that a program reads: some bytes in its place, and then all that programs do with them.
//!
//! An error is an answer, as a file that is set aside is. A panic, a number that overflows, a path outside the search
//! directory, a control character on a terminal, a script in a report and a program that does not end are findings. The
//! test in `main.rs` runs every target on seeds, on the corpus and on damaged forms of both; `../fuzz` looks for more.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use analyzer::configspace::Generation;
use sampler::bench::curve;
use sampler::bench::problem::Problem;
use scheduler::batch::submission::Submission;
use serde_json::{Value, json};
use shared::format;
use shared::layout::Layout;
use shared::search::{MethodName, SearchFile};
use shared::space::SpaceFile;
use shared::{
    AttemptId, Claim, ConfigurationId, Directory, JobId, OwnerId, Search, SearchSpace, Seed, layout,
};

mod analysis;
mod base;
mod datasets;
mod disk;
pub(crate) mod mutate;
mod network;
mod programs;

use disk::{Disk, ROOT};
use programs::{Look, Work};

/// Turns on a new search: enough for models to have something to learn from.
const MANY_TURNS: usize = 12;

thread_local! {
    /// Whether an input gets a part of the checks only.
    static IN_PARTS: Cell<bool> = const { Cell::new(false) };
}

/// From now on, an input of this thread gets those of the longer checks that its bytes choose: a fuzzer, which makes many
/// that are much alike, does all of them on some and gets round to ten times as many.
pub(crate) fn check_in_parts() {
    IN_PARTS.set(true);
}

fn in_parts() -> bool {
    IN_PARTS.get()
}

/// Whether an input gets a check, which is one of so many alike; choices for different purposes are independent.
pub(crate) fn is_chosen(input: &[u8], purpose: &str, number: usize, num_checks: usize) -> bool {
    if !in_parts() {
        return true;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(purpose.as_bytes());
    hasher.write(input);
    usize::try_from(hasher.finish() % 1_000_003).is_ok_and(|hash| hash % num_checks == number)
}

/// A kind of input.
pub(crate) struct Target {
    /// Its name, also that of its folder in the corpus.
    pub(crate) name: &'static str,
    /// What programs do with it.
    pub(crate) run: fn(&[u8]),
    /// Whole ones, to begin with.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// How many damaged ones the test takes: fewer where one takes long.
    pub(crate) num_damaged: u32,
}

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    num_damaged: u32,
) -> Target {
    Target {
        name,
        run,
        seeds,
        num_damaged,
    }
}

/// All of them. What is written and never read (late results, models, logs), or read by nobody but for being there (`stop`,
/// `finished.json`), has none.
pub(crate) const ALL: [Target; 25] = [
    target("job", run_job, || in_base("jobs/open/"), 300),
    target("request", run_request, || in_base("requests/"), 300),
    target(
        "configuration",
        run_configuration,
        || in_base("configurations/"),
        300,
    ),
    target("result", run_result, || in_base("results/"), 300),
    target("attempt", run_attempt, || in_base("attempts/"), 300),
    target("heartbeat", run_heartbeat, || in_base("trainers/"), 300),
    target("observation", run_observation, observations, 300),
    target("checks", run_checks, checks, 300),
    target("submission", run_submission, submissions, 300),
    target("directory", run_directory, directories, 300),
    target("name", run_name, names, 300),
    target("search", run_search, searches, 300),
    target("space", run_space, spaces, 300),
    target("checkpoint", run_checkpoint, checkpoints, 100),
    target("outcome", run_outcome, outcomes, 1000),
    target("imported", run_imported, imports, 100),
    target("log", run_log, logs, 100),
    target("configspace", run_configspace, configspaces, 300),
    target("describe", run_describe, descriptions, 300),
    target("created", run_created, || in_base("created"), 300),
    target("table", run_table, tables, 300),
    target("idx", datasets::run_idx, datasets::idx_seeds, 300),
    target("cifar", datasets::run_cifar, datasets::cifar_seeds, 300),
    target("picture", datasets::run_picture, datasets::pictures, 300),
    target(
        "decoded",
        datasets::run_decoded,
        datasets::decoded_seeds,
        300,
    ),
];

/// The target of that name.
///
/// # Panics
/// If there is none.
pub(crate) fn of_name(name: &str) -> &'static Target {
    let found = ALL.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("there is no target `{name}`"))
}

// ---- records in a search directory ----

fn run_job(bytes: &[u8]) {
    in_search(bytes, NOT_FOR_SAMPLERS, |json, layout| {
        let job: JobId = id(&json["job"]).unwrap_or(ConfigurationId(13).job(0));
        layout.open(job.attempt(1))
    });
}

fn run_request(bytes: &[u8]) {
    in_search(bytes, FOR_SAMPLERS, |json, layout| {
        layout.request(id(&json["configuration"]).unwrap_or(ConfigurationId(13)))
    });
}

fn run_configuration(bytes: &[u8]) {
    in_search(bytes, FOR_SAMPLERS, |json, layout| {
        layout.configuration(id(&json["configuration"]).unwrap_or(ConfigurationId(13)))
    });
}

fn run_result(bytes: &[u8]) {
    let job = |json: &Value| {
        let attempt: Option<AttemptId> = id(&json["attempt"]);
        attempt.map_or(ConfigurationId(13).job(0), |attempt| attempt.job)
    };
    let is_chosen = |number| is_chosen(bytes, "reader", number, 4);
    if is_chosen(0) || is_chosen(1) {
        in_search(bytes, FOR_SAMPLERS, |json, layout| layout.result(job(json)));
    }
    if is_chosen(2) {
        on_disk(false, |folder| {
            put(&Layout::new(folder).result(job(&parsed(bytes))), bytes);
            analysis::analyse(folder, bytes);
        });
    }
    if is_chosen(3) {
        let disk = Disk::new(base::files(false));
        let path = Layout::new(ROOT).result(job(&parsed(bytes)));
        disk.put(&inside(&path), bytes.into());
        programs::start_second(&disk);
    }
}

fn run_attempt(bytes: &[u8]) {
    in_search(bytes, NOT_FOR_SAMPLERS, |json, layout| {
        let claim: Option<Claim> = id(&json["claim"]);
        claim.map_or_else(
            || layout.path("attempts/000/c000013-r2-a1.host-1-x.json"),
            |claim| layout.attempt(&claim),
        )
    });
}

fn run_heartbeat(bytes: &[u8]) {
    in_search(bytes, NOT_FOR_SAMPLERS, |json, layout| {
        let owner: Option<OwnerId> = id(&json["owner"]);
        layout.heartbeat(&owner.unwrap_or_else(|| OwnerId::from_parts(&["host", "1"])))
    });
}

fn run_observation(bytes: &[u8]) {
    let mut json = parsed(bytes);
    base::localised(&mut json);
    let bytes = if json.is_null() {
        bytes.to_vec()
    } else {
        serde_json::to_vec(&json).expect("a JSON value can be written")
    };
    let host = shared::owner::host_name();
    in_search(&bytes, NOT_FOR_SAMPLERS, |_, layout| {
        layout.observation(&host)
    });
}

fn run_checks(bytes: &[u8]) {
    on_disk(false, |folder| {
        let job: JobId = id(&parsed(bytes)["job"]).unwrap_or(ConfigurationId(13).job(0));
        put(&Layout::new(folder).checks(job), bytes);
        let directory = Directory::open(folder).expect("a search directory");
        // Of a newer version it is refused; corrupt ones are put aside, and nothing has been seen.
        if let Ok(seen) = directory.read_checks(job) {
            let kept = directory.keep_checks(job, &seen);
            kept.expect("what was read can be written");
            let again = directory.read_checks(job);
            assert_eq!(again.expect("written a moment ago"), seen);
        }
    });
}

fn checks() -> Vec<Vec<u8>> {
    let file = repository().join("shared/tests/formats/1.0/checks.json");
    vec![std::fs::read(file).expect("a golden file")]
}

fn run_submission(bytes: &[u8]) {
    let name = "slurm/0001-trainers.json";
    let read = |bytes| format::from_bytes::<Submission>(Path::new(name), bytes);
    if let Ok(submission) = read(bytes) {
        let written = format::to_bytes(&submission);
        let again = read(&written).expect("written a moment ago");
        assert_eq!(format::to_bytes(&again), written);
    }
    // Only what talks to SLURM reads it: one turn of the others shows that they leave it alone.
    let disk = Disk::new(base::files(false));
    disk.put(name, bytes.into());
    let work = Work {
        num_turns: 1,
        ..work(bytes, NOT_FOR_SAMPLERS)
    };
    programs::run_all(&disk, &work);
    let kept = disk.files().remove(name);
    assert_eq!(kept.as_deref(), Some(bytes), "left alone");
}

fn run_created(bytes: &[u8]) {
    in_search(bytes, NOT_FOR_SAMPLERS, |_, layout| {
        layout.path(layout::CREATED)
    });
}

/// Several files of a search directory at once: an object, path → record.
fn run_directory(bytes: &[u8]) {
    let Value::Object(files) = parsed(bytes) else {
        return;
    };
    let is_inside = |path: &str| {
        let parts = || path.split('/');
        !path.contains('\0')
            && parts().all(|part| !part.is_empty() && !part.starts_with('.') && part.len() <= 255)
    };
    let records = files
        .iter()
        .filter(|(path, _)| is_inside(path) && !path.starts_with(layout::SEARCH))
        .map(|(path, json)| (path.clone(), Rc::from(json.to_string().as_bytes())));
    let search = [layout::SEARCH, layout::CREATED].map(|name| {
        let bytes = base::files(false)[name].clone();
        (name.to_owned(), bytes)
    });
    programs::run_all(
        &Disk::new(records.chain(search)),
        &work(bytes, FOR_SAMPLERS),
    );
}

/// Names of files: each line is one, behind its folder; what is in it belongs to another name.
fn run_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let disk = Disk::new(base::files(false));
    for line in text.lines() {
        let (folder, name) = line.rsplit_once('/').unwrap_or(("", line));
        let is_name = !matches!(name, "" | "." | ".." | "search.json" | "created.json")
            && name.len() <= 255
            && !line.contains('\0');
        let is_folder = layout::FOLDERS.contains(&folder) || folder.ends_with("/000");
        if is_name && is_folder {
            let mut records = base::files(false).into_iter();
            let record = records.rfind(|(path, _)| path.starts_with(folder));
            let bytes = record.map_or_else(|| Rc::from(b"x".as_slice()), |(_, bytes)| bytes);
            disk.put(&format!("{folder}/{name}"), bytes);
        }
    }
    programs::run_all(&disk, &work(bytes, FOR_SAMPLERS));
}

/// Requests, proposals and results, which the sampler's commands read.
const FOR_SAMPLERS: bool = true;
/// The others: what those commands say is the same with them and without.
const NOT_FOR_SAMPLERS: bool = false;

/// Puts bytes in their place in both searches and runs the programs.
fn in_search(bytes: &[u8], for_samplers: bool, place: impl Fn(&Value, &Layout) -> PathBuf) {
    let path = inside(&place(&parsed(bytes), &Layout::new(ROOT)));
    for is_asynchronous in [false, true] {
        if is_chosen(bytes, "search", usize::from(is_asynchronous), 2) {
            let disk = Disk::new(base::files(is_asynchronous));
            disk.put(&path, bytes.into());
            let mut work = work(bytes, for_samplers);
            if in_parts() && parsed(bytes).is_null() {
                // What is no JSON is set aside, whatever it is.
                work.num_turns = 1;
            }
            programs::run_all(&disk, &work);
        }
    }
}

/// What is done with an input in a search in the middle of its life.
fn work(bytes: &[u8], for_samplers: bool) -> Work {
    let is_chosen = |purpose, number, of| is_chosen(bytes, purpose, number, of);
    let looks: &[Look] = if for_samplers {
        &[Look::Status, Look::Replay, Look::Preview, Look::Explain]
    } else {
        &[Look::Status]
    };
    let numbered = looks.iter().enumerate();
    let looks_at = numbered.filter(|(number, _)| is_chosen("look", *number, looks.len()));
    let mut turns = (1..=3).rev();
    Work {
        num_turns: turns
            .find(|turns| is_chosen("turns", turns % 3, 3))
            .expect("one is left over when divided by three"),
        looks: looks_at.map(|(_, look)| *look).collect(),
        looks_before: is_chosen("when", 0, 2),
        looks_after: is_chosen("when", 1, 2),
    }
}

/// The path in the search directory.
fn inside(path: &Path) -> String {
    let path = path.strip_prefix(ROOT);
    path.expect("every place is in the directory")
        .to_string_lossy()
        .into_owned()
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default() // no JSON: null
}

fn id<T: std::str::FromStr>(json: &Value) -> Option<T> {
    json.as_str()?.parse().ok() // no id: the usual place
}

/// The records of the searches whose paths begin so.
fn in_base(folder: &str) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for is_asynchronous in [false, true] {
        let files = base::files(is_asynchronous);
        let inside = files.iter().filter(|(path, _)| path.starts_with(folder));
        // The first and the last differ most.
        let all: Vec<Vec<u8>> = inside.map(|(_, bytes)| bytes.to_vec()).collect();
        seeds.extend(all.first().cloned());
        seeds.extend(all.last().cloned());
    }
    assert!(!seeds.is_empty(), "no record in {folder}");
    seeds
}

fn observations() -> Vec<Vec<u8>> {
    let seeds = in_base("observations/").into_iter();
    let general = |bytes: Vec<u8>| {
        let mut json = parsed(&bytes);
        json["host"] = "@HOST@".into();
        json["reading"]["boot"] = "@BOOT@".into();
        json.to_string().into_bytes()
    };
    seeds.map(general).collect()
}

fn submissions() -> Vec<Vec<u8>> {
    vec![
        json!({
            "format": "submission", "version": [1, 0], "kind": "trainers", "slurm_job": "17",
            "name": "tandem-x-0123456789-trainers", "tasks": 4, "script": "0001-trainers.sh",
            "at": "2026-11-24T02:03:04Z",
        })
        .to_string()
        .into_bytes(),
    ]
}

fn directories() -> Vec<Vec<u8>> {
    let whole = |is_asynchronous| {
        let files = base::files(is_asynchronous).into_iter();
        let record = |(path, bytes): (String, Rc<[u8]>)| (path, parsed(&bytes));
        let all: serde_json::Map<_, _> = files.map(record).collect();
        Value::Object(all).to_string().into_bytes()
    };
    vec![whole(false)]
}

fn names() -> Vec<Vec<u8>> {
    [
        "jobs/open/c000013-r2-a2.json\nresults/000/c000013-r2.json",
        "jobs/claimed/c000013-r2-a1.host-1-x.json\ntrainers/host-1-x.json",
        "checkpoints/000/c000013\nattempts/000/c000013-r2-a3.host-1-x.json",
        "attempts/000/c000014-r2-a4294967295.host-1-x.json",
        "jobs/open/c000013-r2-a4294967295.json",
        "jobs/claimed/c000013-r2-a4294967295.host-1-x.json",
        "jobs/claimed/c000012-r2-a4294967295.host-1-x.json\njobs/open/c000012-r2-a1.json",
        "requests/000/c000059.json\nconfigurations/000/README\nlate/\u{1b}[2J",
    ]
    .map(|lines| lines.as_bytes().to_vec())
    .into()
}

// ---- what people write ----

fn run_search(bytes: &[u8]) {
    let path = Path::new("search.json");
    let Ok(file) = format::from_bytes::<SearchFile>(path, bytes) else {
        return;
    };
    let Ok(search) = Search::new(&file) else {
        return;
    };
    let again = format::from_bytes::<SearchFile>(path, &format::to_bytes(&file));
    assert_eq!(again.ok().as_ref(), Some(&file), "written and read again");
    try_space(&search.space);
    let disk = Disk::new([]);
    let created = disk.with(|| {
        let directory = Directory::create(Path::new(ROOT), &file, path).expect("a sound search");
        scheduler::init::describe(&directory).is_ok()
    });
    if created {
        let work = Work {
            num_turns: MANY_TURNS,
            ..work(bytes, FOR_SAMPLERS)
        };
        programs::run_all(&disk, &work);
    }
}

fn run_space(bytes: &[u8]) {
    if let Ok(file) = format::from_bytes::<SpaceFile>(Path::new("space.json"), bytes)
        && let Ok(space) = SearchSpace::new(&file)
    {
        try_space(&space);
        let written = space.to_file();
        format::to_bytes(&written);
        assert_eq!(SearchSpace::new(&written).as_ref(), Ok(&space));
        let _inexpressible = analyzer::configspace::to_json(&space, "space", Generation::Seven);
    }
}

/// Draws, and goes to configurations and back.
fn try_space(space: &SearchSpace) {
    if space.num_dimensions() > 64 {
        return;
    }
    let mut rng = Seed::new(0).rng();
    let corners = [0.0, 1.0, f64::NAN].map(|x| vec![x; space.num_dimensions()]);
    let draws = (0..4).map(|_| space.sample(&mut rng));
    for vector in corners.into_iter().chain(draws) {
        let configuration = space.decode(&vector);
        let checked = space.check_configuration(&configuration);
        assert_eq!(checked.as_ref(), Ok(&configuration), "decoded");
        let again = space.decode(&space.encode(&configuration));
        space.check_configuration(&again).expect("decoded again");
    }
}

fn searches() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [false, true]
        .map(|is_asynchronous| format::to_bytes(&base::search(is_asynchronous)))
        .into();
    let mut json = parsed(&seeds[0]);
    for method in MethodName::ALL {
        json["method"] = method.as_str().into();
        seeds.push(json.to_string().into_bytes());
    }
    json["objective"] = json!({ "command": ["true", "x"] });
    seeds.push(json.to_string().into_bytes());
    json["objective"] = json!({ "network": { "data": { "name": "digits" } } });
    seeds.push(json.to_string().into_bytes());
    seeds
}

fn spaces() -> Vec<Vec<u8>> {
    let all = json!({
        "format": "space", "version": [1, 1],
        "hyperparameters": [
            { "name": "rate", "type": "float", "lower": 1e-3, "upper": 1.0, "log": true, "prior": 0.1 },
            { "name": "blocks", "type": "integer", "lower": 1, "upper": 5, "log": true },
            { "name": "kind", "type": "categorical", "choices": ["plain", "wide", true, 1],
              "prior": "wide", "confidence": "high" },
            { "name": "size", "type": "ordinal", "sequence": [8, 16, 32], "confidence": 3.5, "prior": 16,
              "active_when": { "hyperparameter": "kind", "in": ["wide"] } },
            { "name": "seed", "type": "constant", "value": 7 },
        ],
        "forbidden": [
            { "kind": "wide", "size": [8, 16] },
            { "blocks": { "min": 4 }, "rate": { "max": 0.01 } },
        ],
    });
    let mut seeds = vec![all.to_string().into_bytes()];
    for name in ["joint-resnet.json", "counting-ones-8.json"] {
        let path = repository().join("data/spaces").join(name);
        seeds.push(shared::fs::read(&path).expect("a space of the repository"));
    }
    seeds
}

fn run_describe(bytes: &[u8]) {
    let Ok(raw) = format::parse::<shared::Configuration>(bytes) else {
        return;
    };
    let shape = data::ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };
    if let Ok(description) = trainer::describe::describe(&raw, shape, 10, 256, Some(1 << 34)) {
        description.table();
        description.json();
    }
    let space = format::from_bytes::<SpaceFile>(Path::new("space"), &spaces()[1]).ok();
    let space = space.and_then(|file| SearchSpace::new(&file).ok());
    let _refused = space.expect("the repository's").check_configuration(&raw);
}

fn descriptions() -> Vec<Vec<u8>> {
    let space = format::from_bytes::<SpaceFile>(Path::new("space"), &spaces()[1]).ok();
    let space = space.and_then(|file| SearchSpace::new(&file).ok());
    let space = space.expect("the repository's");
    let mut rng = Seed::new(0).rng();
    let values = (0..2).map(|_| space.decode(&space.sample(&mut rng)));
    let mut seeds: Vec<Vec<u8>> = values
        .map(|values| json!(values).to_string().into_bytes())
        .collect();
    seeds.push(
        json!({
            "groups": 2, "kernel_size": 5, "activation": "gelu", "squeeze_excitation": true,
            "optimizer": "adamw", "label_smoothing": 0.1, "warm_up": 0.1, "gradient_clipping": 1.0,
            "weight_average": 0.9,
        })
        .to_string()
        .into_bytes(),
    );
    seeds
}

/// A table of losses and a curve of regret for `sampler bench`.
fn run_table(bytes: &[u8]) {
    let disk = Disk::new([]);
    disk.put("table.csv", bytes.into());
    disk.put("space.json", spaces()[0].clone().into());
    disk.with(|| {
        let (table, space) = (
            Path::new(ROOT).join("table.csv"),
            Path::new(ROOT).join("space.json"),
        );
        for curve in [None, Some("rate")] {
            let Ok(problem) = Problem::table(&table, &space, curve) else {
                continue;
            };
            let space = SearchSpace::new(&problem.space).expect("the space of the table");
            let mut rng = Seed::new(0).rng();
            for seed in 0..4 {
                let values = space.decode(&space.sample(&mut rng));
                for budget in [1.0, problem.max_budget as f64] {
                    let _not_in_the_table = problem.evaluate(&values, budget, Seed::new(seed));
                }
                let _not_in_the_table = problem.regret(&values);
            }
        }
        if let Ok(rows) = curve::read(&table) {
            let points = curve::at_points(&rows, &curve::POINTS);
            curve::summary(&[points, points]);
        }
    });
}

fn tables() -> Vec<Vec<u8>> {
    [
        "rate,blocks,kind,size,loss_1,loss_2\n0.01,2,wide,16,0.5,0.6\n0.1,5,plain,8,0.25,1e-3\n0.5,1,true,32,1,2\n",
        "eval,budget,loss,true_regret,cum_restart,cum_cont,started_at,ended_at\n0,1,0.5,0.5,1,1,0,1.5\n1,9,0.25,0.1,9,9,1,9\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

// ---- what trainings leave ----

fn run_checkpoint(bytes: &[u8]) {
    let learnt = trainer::train::learnt(bytes);
    // One that is refused leads to a training from the start, always the same.
    if learnt.is_ok() || is_chosen(bytes, "refused", 0, 16) {
        network::train_from(bytes);
    }
    // The same as a checkpoint of the benchmark function, which is one number.
    let files = base::files(true);
    let path = files.keys().find(|path| path.starts_with("checkpoints/"));
    let path = path.expect("a trainer fell silent").clone();
    let disk = Disk::new(files);
    disk.put(&path, bytes.into());
    programs::run_all(&disk, &work(bytes, NOT_FOR_SAMPLERS));
}

fn checkpoints() -> Vec<Vec<u8>> {
    vec![network::checkpoint(), b"0.5".to_vec(), b"1e300".to_vec()]
}

fn run_outcome(bytes: &[u8]) {
    use shared::record::JobResult;
    let ended = trainer::evaluator::contract::outcome_in(bytes, 1.0);
    let (outcome, measures, curve) = trainer::outcome::outcome_of(ended, &[], &[]);
    let template = &in_base("results/")[0];
    let template = format::from_bytes::<JobResult>(Path::new("result"), template);
    let result = JobResult {
        outcome,
        measures,
        curve,
        ..template.expect("a result of the search")
    };
    // What a program says must be a record that all programs can read.
    let again = format::from_bytes::<JobResult>(Path::new("result"), &format::to_bytes(&result));
    assert_eq!(again.ok(), Some(result));
}

fn outcomes() -> Vec<Vec<u8>> {
    [
        r#"{"loss": 0.25, "measures": {"seconds": 3.5}, "curve": [{"spent": 1, "loss": 0.5, "training_loss": 1.5}]}"#,
        r#"{"crashed": "no such file"}"#,
        r#"{"diverged": "the loss is not finite"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

// ---- what the analyzer reads besides ----

fn run_imported(bytes: &[u8]) {
    on_disk(true, |folder| {
        put(&folder.join(layout::IMPORTED), bytes);
        analysis::analyse(folder, bytes);
    });
}

fn imports() -> Vec<Vec<u8>> {
    let space = base::search(false).space;
    vec![
        json!({
            "format": "imported", "version": [1, 0], "name": "log", "source": "hpbandster", "program": "analyzer",
            "unit": "epochs", "budgets": [1.0, 3.0, 9.0], "space": space, "space_is_inferred": false,
        })
        .to_string()
        .into_bytes(),
    ]
}

/// The files of another program's log, as one: an object, name → text.
fn run_log(bytes: &[u8]) {
    let Value::Object(files) = parsed(bytes) else {
        return;
    };
    let folder = temporary();
    for name in ["configs.json", "results.json", "configspace.json"] {
        if let Some(Value::String(text)) = files.get(name) {
            put(&folder.path().join(name), text.as_bytes());
        }
    }
    analysis::analyse_log(folder.path(), bytes);
}

fn logs() -> Vec<Vec<u8>> {
    let configs = (0..12).map(|i| {
        let x = f64::from(i) / 12.0;
        format!(
            "[[0, 0, {i}], {{\"x\": {x}, \"kind\": \"a\"}}, {{\"model_based_pick\": {}}}]\n",
            i > 6
        )
    });
    let results = (0..12).flat_map(|i| {
        [1.0, 3.0].map(|budget| {
            let loss = if i == 5 { "NaN".to_owned() } else { format!("{}", f64::from(i) * budget) };
            format!(
                "[[0, 0, {i}], {budget}, {{\"submitted\": 1.0, \"started\": 2.0, \"finished\": {}.5}}, \
                 {{\"loss\": {loss}, \"info\": {{\"test\": 1.0}}}}, null]\n",
                i + 3
            )
        })
    });
    let (configs, results): (String, String) = (configs.collect(), results.collect());
    let with = json!({ "configs.json": configs, "results.json": results,
        "configspace.json": String::from_utf8_lossy(&configspaces()[0]) });
    let without = json!({ "configs.json": configs, "results.json": results });
    [with, without]
        .map(|json| json.to_string().into_bytes())
        .into()
}

fn run_configspace(bytes: &[u8]) {
    let Ok(read) = analyzer::configspace::from_json(Path::new("configspace.json"), bytes) else {
        return;
    };
    let space = SearchSpace::new(&read.space).expect("checked by its reader");
    try_space(&space);
    analyzer::configspace::to_json(&space, "space", Generation::One).expect("1.x knows ranges");
}

fn configspaces() -> Vec<Vec<u8>> {
    let seeds = spaces().into_iter().filter_map(|bytes| {
        let file = format::from_bytes::<SpaceFile>(Path::new("space"), &bytes).ok()?;
        let space = SearchSpace::new(&file).ok()?;
        let json = analyzer::configspace::to_json(&space, "space", Generation::One).ok()?;
        Some(json.to_string().into_bytes())
    });
    seeds.collect()
}

// ---- on a real disk ----

/// A directory with the results of one of the searches; as it was imported, or as a search.
fn on_disk(is_imported: bool, act: impl FnOnce(&Path)) {
    let folder = temporary();
    for (path, bytes) in base::files(false) {
        let is_read = ["results/", "configurations/"]
            .iter()
            .any(|kind| path.starts_with(kind))
            || (!is_imported && [layout::SEARCH, layout::CREATED].contains(&path.as_str()));
        if is_read {
            put(&folder.path().join(path), &bytes);
        }
    }
    act(folder.path());
}

fn temporary() -> tempfile::TempDir {
    // Memory is faster than a disk.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .expect("a folder for a moment")
}

fn put(path: &Path, bytes: &[u8]) {
    shared::fs::replace(path, bytes).expect("a file for a moment");
}

/// The folder of the repository.
pub(crate) fn repository() -> PathBuf {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = folders.find(|folder| folder.join("data/spaces").is_dir());
    found
        .expect("this is built in the repository")
        .to_path_buf()
}

/// The folder of a target's corpus.
pub(crate) fn corpus(target: &Target) -> PathBuf {
    repository().join("tests/records/corpus").join(target.name)
}
