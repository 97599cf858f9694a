//! How long a step takes, by the wall clock and in CPU time.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Times one step of a training, from the thread that takes it.
#[derive(Debug)]
pub(super) struct Timer {
    started: Instant,
    /// CPU seconds of the training threads so far, where they are counted.
    cpu_s: Option<f64>,
}

/// What a [`Timer`] measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elapsed {
    /// Seconds by the wall clock.
    pub(super) wall_s: f64,
    /// CPU seconds of all training threads together, where they are counted.
    pub(super) cpu_s: Option<f64>,
}

impl Timer {
    /// Starts.
    pub(super) fn start(counts_cpu: bool) -> Self {
        Self {
            started: Instant::now(),
            cpu_s: counts_cpu.then(training_threads_s),
        }
    }

    /// What has passed since.
    pub(super) fn elapsed(&self) -> Elapsed {
        Elapsed {
            wall_s: self.started.elapsed().as_secs_f64(),
            cpu_s: self.cpu_s.map(|before| training_threads_s() - before),
        }
    }
}

/// CPU seconds that this thread and those it computes with have used since they began. Batches are made by another one.
fn training_threads_s() -> f64 {
    let pool: f64 = rayon::broadcast(|_| this_thread_s()).into_iter().sum();
    if rayon::current_thread_index().is_some() {
        pool // and this thread is one of them
    } else {
        pool + this_thread_s()
    }
}

fn this_thread_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).map_or(0.0, |time| time.as_secs_f64()) // never negative
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Duration;

    use rayon::prelude::*;

    use super::*;

    fn spin(duration: Duration) {
        let until = this_thread_s() + duration.as_secs_f64();
        while this_thread_s() < until {
            black_box(0);
        }
    }

    fn timed(threads: usize, work: impl Fn() + Send + Sync) -> Elapsed {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let timer = Timer::start(true);
            work();
            timer.elapsed()
        })
    }

    #[test]
    fn only_computing_costs_cpu_time() {
        let waited = timed(1, || std::thread::sleep(Duration::from_millis(200)));
        assert!(
            waited.wall_s >= 0.2 && waited.cpu_s.unwrap() < 0.1,
            "{waited:?}"
        );
        let elsewhere = timed(1, || {
            std::thread::scope(|scope| scope.spawn(|| spin(Duration::from_millis(200))).join())
                .unwrap();
        });
        assert!(elsewhere.cpu_s.unwrap() < 0.1, "{elsewhere:?}");
        let computed = timed(1, || spin(Duration::from_millis(200)));
        assert!(computed.cpu_s.unwrap() >= 0.2, "{computed:?}");
        assert!(Timer::start(false).elapsed().cpu_s.is_none());
    }

    #[test]
    fn the_cpu_time_of_all_threads_counts() {
        // Two tasks that wait for each other's beginning are on two threads.
        let both = std::sync::Barrier::new(2);
        let computed = timed(2, || {
            (0..2).into_par_iter().with_max_len(1).for_each(|_| {
                both.wait();
                spin(Duration::from_millis(100));
            });
        });
        assert!(computed.cpu_s.unwrap() >= 0.2, "{computed:?}");
    }
}
