//! Measuring searches of many jobs: jobs a second, processor time and memory of each program, as the search grows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use shared::search::SearchFile;
use shared::{Directory, Search, clock, layout};

use crate::{counting_ones, program};

/// How often the processes are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often results are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(2);

/// A search of at least so many jobs of the counting-ones benchmark, with the default settings for trainers.
///
/// # Errors
/// The search is not valid.
pub fn search_of(method: &str, num_jobs: u64) -> Result<SearchFile> {
    let mut json = counting_ones(method, 1);
    if let Some(fields) = json.as_object_mut() {
        // What surrounds a record in a file is no part of it.
        fields.remove("format");
        fields.remove("version");
    }
    json["name"] = format!("{num_jobs} jobs").into();
    json["trainers"] = serde_json::json!({});
    let search = Search::new(&serde_json::from_value::<SearchFile>(json.clone())?)
        .map_err(|invalid| anyhow::anyhow!("{invalid}"))?;
    let (mut brackets, mut jobs) = (0, 0);
    while jobs < num_jobs {
        jobs += search
            .bracket_sizes(brackets)
            .iter()
            .map(|size| u64::from(*size))
            .sum::<u64>();
        brackets += 1;
    }
    json["limit"] = serde_json::json!({ "brackets": brackets });
    Ok(serde_json::from_value(json)?)
}

/// What one program has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Used {
    /// Processor time, user and kernel, in seconds.
    pub cpu_s: f64,
    /// The most memory that was resident, in MiB.
    pub memory_mib: f64,
}

impl Used {
    /// Reads what a process has used; `None` if it has ended.
    fn of(process: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?; // ended
        // Fields 14 and 15, counted from the state, the third, which follows the name in parentheses.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?; // numbers by proc(5)
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?; // ended
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?; // a number by proc(5)
        Some(Self {
            cpu_s: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            memory_mib: kib / 1024.0,
        })
    }
}

/// Jobs that ended one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Jobs of the search that had ended before.
    pub first: usize,
    /// How many.
    pub jobs: usize,
    /// Wall time.
    pub wall_s: f64,
    /// Processor time by program, all its processes together.
    pub cpu_s: BTreeMap<&'static str, f64>,
}

impl Window {
    /// Jobs a second.
    pub fn rate(&self) -> f64 {
        self.jobs as f64 / self.wall_s
    }

    /// Milliseconds of processor time that a program took for each job.
    pub fn cpu_ms(&self, program: &str) -> f64 {
        1000.0 * self.cpu_s.get(program).copied().unwrap_or(0.0) / self.jobs as f64
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Measured {
    /// Windows of equal size; the last may be shorter.
    pub windows: Vec<Window>,
    /// The most memory of any one process, by program.
    pub memory_mib: BTreeMap<&'static str, f64>,
}

/// The programs that run on one directory, and what they used at each look.
#[derive(Debug)]
pub struct Run {
    root: PathBuf,
    children: Vec<(&'static str, Child)>,
    /// Seconds since 1970, and processor time by program.
    looks: Vec<(f64, BTreeMap<&'static str, f64>)>,
    last: BTreeMap<u32, Used>,
    memory_mib: BTreeMap<&'static str, f64>,
    started: f64,
}

impl Run {
    /// Starts a scheduler, a sampler and trainers. Logs are in `logs`.
    ///
    /// # Errors
    /// A program cannot be started.
    pub fn start(root: &Path, logs: &Path, num_trainers: usize) -> Result<Self> {
        shared::fs::make_folder(logs)?;
        let mut run = Self {
            root: root.to_path_buf(),
            children: Vec::new(),
            looks: Vec::new(),
            last: BTreeMap::new(),
            memory_mib: BTreeMap::new(),
            started: clock::unix_s(),
        };
        run.spawn("scheduler", logs, 0)?;
        run.spawn("sampler", logs, 0)?;
        for number in 0..num_trainers {
            run.spawn("trainer", logs, number)?;
        }
        run.look();
        Ok(run)
    }

    fn spawn(&mut self, name: &'static str, logs: &Path, number: usize) -> Result<()> {
        let log = shared::fs::open_log(&logs.join(format!("{name}-{number}.log")))?;
        let child = Command::new(program(name))
            .arg("run")
            .arg(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.children.push((name, child));
        Ok(())
    }

    fn look(&mut self) {
        let mut cpu: BTreeMap<&'static str, f64> = BTreeMap::new();
        for (name, child) in &self.children {
            // Of one that has ended, what was seen last.
            if let Some(used) = Used::of(child.id()) {
                self.last.insert(child.id(), used);
            }
            let used = self.last.get(&child.id()).copied().unwrap_or_default();
            *cpu.entry(name).or_default() += used.cpu_s;
            let peak = self.memory_mib.entry(name).or_default();
            *peak = peak.max(used.memory_mib);
        }
        self.looks.push((clock::unix_s(), cpu));
    }

    /// Waits until the search is finished; or stops it when `stop_at` results are there.
    ///
    /// # Errors
    /// A program ends with an error.
    pub fn wait(&mut self, stop_at: Option<usize>) -> Result<()> {
        let directory = Directory::open(&self.root)?;
        let mut counted = Instant::now();
        loop {
            std::thread::sleep(INTERVAL);
            self.look();
            let mut is_any_left = false;
            for (name, child) in &mut self.children {
                match child.try_wait()? {
                    Some(status) => ensure!(status.success(), "{name} ended with {status}"),
                    None => is_any_left = true,
                }
            }
            if !is_any_left {
                return Ok(());
            }
            if let Some(number) = stop_at
                && counted.elapsed() > COUNT_INTERVAL
            {
                if count(&directory)? >= number {
                    directory.stop("enough is measured")?;
                }
                counted = Instant::now();
            }
        }
    }

    /// What the run came to, in windows of `size` jobs.
    ///
    /// # Errors
    /// A result cannot be read.
    pub fn measured(&self, size: usize) -> Result<Measured> {
        let directory = Directory::open(&self.root)?;
        let mut ends: Vec<f64> = directory
            .all_results()?
            .iter()
            .map(|result| clock::parse(&result.finished_at).context("a stamp"))
            .collect::<Result<_>>()?;
        ends.sort_by(f64::total_cmp);
        let before = ends.partition_point(|end| *end < self.started);
        let mut windows = Vec::new();
        let mut from = self.started;
        for jobs in ends[before..].chunks(size) {
            let to = jobs[jobs.len() - 1];
            let (start, end) = (self.cpu_at(from), self.cpu_at(to));
            let used = end
                .iter()
                .map(|(name, end)| (*name, end - start.get(name).unwrap_or(&0.0)));
            windows.push(Window {
                first: before + windows.len() * size,
                jobs: jobs.len(),
                wall_s: to - from,
                cpu_s: used.collect(),
            });
            from = to;
        }
        Ok(Measured {
            windows,
            memory_mib: self.memory_mib.clone(),
        })
    }

    /// Processor time by program at a moment, interpolated between looks.
    fn cpu_at(&self, moment: f64) -> BTreeMap<&'static str, f64> {
        let after = self.looks.partition_point(|(at, _)| *at < moment);
        let Some((later, end)) = self.looks.get(after) else {
            return self
                .looks
                .last()
                .map(|(_, cpu)| cpu.clone())
                .unwrap_or_default();
        };
        let Some((earlier, start)) = after
            .checked_sub(1)
            .and_then(|before| self.looks.get(before))
        else {
            return end.clone();
        };
        let share = (moment - earlier) / (later - earlier);
        let between = |(name, end): (&&'static str, &f64)| {
            let start = start.get(*name).unwrap_or(&0.0);
            (*name, start + share * (end - start))
        };
        end.iter().map(between).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            // Ended already, most often.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// How many results a directory has.
fn count(directory: &Directory) -> Result<usize> {
    let mut number = 0;
    for shard in directory.shards(layout::RESULTS)? {
        number += shared::fs::list(&directory.layout().shard(layout::RESULTS, shard))?.len();
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use shared::search::Limit;

    use super::*;

    #[test]
    fn a_process_can_be_asked_what_it_has_used() {
        let used = Used::of(std::process::id()).unwrap();
        assert!(used.memory_mib > 0.5, "{used:?}");
        assert_eq!(Used::of(u32::MAX), None);
    }

    #[test]
    fn searches_have_at_least_the_jobs_asked_for() {
        // One bracket has 27 + 9 + 3 + 1 jobs, the next 9 + 3 + 1.
        assert_eq!(search_of("bohb", 40).unwrap().limit, Limit::Brackets(1));
        assert_eq!(search_of("bohb", 41).unwrap().limit, Limit::Brackets(2));
    }

    #[test]
    fn processor_time_between_two_looks_is_interpolated() {
        let look = |at: f64, cpu: f64| (at, BTreeMap::from([("trainer", cpu)]));
        let run = Run {
            root: PathBuf::new(),
            children: Vec::new(),
            looks: vec![look(10.0, 1.0), look(20.0, 3.0)],
            last: BTreeMap::new(),
            memory_mib: BTreeMap::new(),
            started: 0.0,
        };
        let at = |moment| run.cpu_at(moment)["trainer"];
        assert!((at(15.0) - 2.0).abs() < 1e-9);
        assert!((at(5.0) - 1.0).abs() < 1e-9 && (at(30.0) - 3.0).abs() < 1e-9);
    }
}
