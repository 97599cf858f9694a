//! Many trainers at once, on the real protocol.

#[cfg(test)]
mod fake;
#[cfg(test)]
mod simulated;

#[test]
fn a_crowd_of_trainers_finishes_every_job_once() {
    simulated::crowd(100, 400);
}

#[test]
#[ignore = "a minute; for `--ignored --nocapture`: jobs a second with a thousand trainers"]
fn a_thousand_trainers_finish_every_job_once() {
    simulated::crowd(1000, 10_000);
}
