//! What happens is said by `TANDEM_FAULTS`; without it, nothing. Its value is a list such as `kill-at=17` (the process kills itself with
//! SIGKILL at its 17th step) or `seed=3,kill=0.001,eio=0.01,enospc=0.01,estale=0.02,lie=0.01`: probabilities of being
//! killed, of errors before the operation, and of an operation that is done but reports EIO, as a rename over NFS may.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use rustix::io::Errno;

use crate::env;
use crate::seed::Seed;

#[derive(Debug, Default)]
struct Plan {
    kill_at: Option<u64>,
    kill: f64,
    before: Vec<(&'static str, f64, Errno)>,
    lie: f64,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    rng: ChaCha12Rng,
    steps: u64,
}

static STATE: OnceLock<Option<Mutex<State>>> = OnceLock::new();

/// Before an operation that changes something: may kill, or make it fail without having been done.
pub(crate) fn before() -> io::Result<()> {
    at_step(|state| {
        let draw: f64 = state.rng.random();
        let mut sum = 0.0;
        for (name, probability, errno) in &state.plan.before {
            sum += probability;
            if draw < sum {
                tell(name);
                return Err((*errno).into());
            }
        }
        Ok(())
    })
}

/// After an operation that succeeded: may kill, or report a failure that did not happen.
pub(crate) fn after() -> io::Result<()> {
    at_step(|state| {
        if state.rng.random_bool(state.plan.lie) {
            tell("lie");
            return Err(Errno::IO.into());
        }
        Ok(())
    })
}

/// So that a test can count them in the log.
fn tell(fault: &str) {
    crate::cli::report(&format!("fault: {fault}"));
}

fn at_step(then: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
    let state = STATE.get_or_init(|| {
        let text = env::FAULTS.get()?;
        let (seed, plan) = match parse(&text) {
            Ok(parsed) => parsed,
            Err(complaint) => panic!("{}: {complaint}", env::FAULTS.name()),
        };
        Some(Mutex::new(State {
            plan,
            rng: Seed::new(seed).rng(),
            steps: 0,
        }))
    });
    let Some(state) = state else { return Ok(()) };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.steps += 1;
    let is_at = state.plan.kill_at == Some(state.steps);
    let kill = state.plan.kill;
    if is_at || (kill > 0.0 && state.rng.random_bool(kill)) {
        // As kill -9 from outside: no destructor runs, no buffer is flushed.
        let killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("killed: {killed:?}");
    }
    then(&mut state)
}

fn parse(text: &str) -> Result<(u64, Plan), String> {
    let mut plan = Plan::default();
    let mut seed = 0;
    for item in text.split(',') {
        let (key, value) = item
            .split_once('=')
            .ok_or_else(|| format!("`{item}` is not `key=value`"))?;
        let whole = || value.parse::<u64>().map_err(|e| format!("`{item}`: {e}"));
        let share = || match value.parse::<f64>() {
            Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
            _ => Err(format!("`{item}`: not a probability")),
        };
        match key {
            "seed" => seed = whole()?,
            "kill-at" => plan.kill_at = Some(whole()?),
            "kill" => plan.kill = share()?,
            "eio" => plan.before.push(("eio", share()?, Errno::IO)),
            "enospc" => plan.before.push(("enospc", share()?, Errno::NOSPC)),
            "estale" => plan.before.push(("estale", share()?, Errno::STALE)),
            "lie" => plan.lie = share()?,
            _ => return Err(format!("`{key}` is no fault")),
        }
    }
    Ok((seed, plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_or_refused_with_a_reason() {
        let (seed, plan) = parse("seed=3,kill=0.5,eio=0.25,lie=1").unwrap();
        assert_eq!((seed, plan.before.len()), (3, 1));
        assert_eq!(parse("kill-at=7").unwrap().1.kill_at, Some(7));
        for bad in ["kill", "kill=2", "x=1", "seed=-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
