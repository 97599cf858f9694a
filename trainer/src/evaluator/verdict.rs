//! Whose fault the end of a worker is: the configuration's, this machine's, its device's, or nobody's. The one place that
//! decides, from what can be seen; the table is in `docs/design.md`.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use shared::CurvePoint;

use super::contract::{Progress, outcome_of_worker, shortened};
use super::output::last_words;
use crate::checks::Stop;
use crate::memory::mib;
use crate::objective::{Ended, Evaluation, StopReason};
use crate::outcome::speaks_of_a_full_disk;

/// A program's exit code for "this machine cannot do it": the attempt's fault, not the configuration's.
const RUN_ME_AGAIN: i32 = 75;
/// The most of what a program says about its failure that is kept, in bytes.
const MAX_MESSAGE: usize = 1000;
/// A process that was killed with so much of the memory in hand that was free is believed to have been killed for it.
const ALL_BUT: f64 = 0.8;

/// How a worker came to the end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It said that its result is written, and waits for the next job.
    Answered,
    /// It ended by itself, or by somebody else's signal.
    Exited(ExitStatus),
    /// It did not heed SIGTERM, and was killed.
    Killed,
}

/// What is seen of a worker at the end of a job.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) end: End,
    /// Why it was told to stop, if it was.
    pub(crate) told: Option<StopReason>,
    /// The check at which its loss was too large, if that is why.
    pub(crate) stop: Option<Stop>,
    /// What was seen at checks.
    pub(crate) checked: Vec<CurvePoint>,
    /// What its result file says, or why that cannot be read.
    pub(crate) result: Result<Vec<u8>, String>,
    /// How far it had said it was.
    pub(crate) progress: Option<Progress>,
    /// The budget of the job, in its unit.
    pub(crate) budget: f64,
    /// What it printed last.
    pub(crate) printed: String,
    /// Whether it is this program's own training, which nothing but its configuration can make fail in its own way.
    pub(crate) is_built_in: bool,
    pub(crate) memory: MemorySeen,
}

/// What is seen of a worker's memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MemorySeen {
    /// Whether the kernel has killed a process of this control group for lack of memory meanwhile.
    pub(crate) has_killed: bool,
    /// The most that the worker has had.
    pub(crate) peak: Option<u64>,
    /// What was free when the job began.
    pub(crate) free: Option<u64>,
}

/// What came of the job.
pub(crate) fn judge(seen: &Seen) -> Ended {
    let has_succeeded = match seen.end {
        End::Answered => true,
        End::Exited(status) => status.success(),
        End::Killed => false,
    };
    if let Some(stop) = seen.stop {
        return seen.stopped(stop);
    }
    if let Some(reason) = seen.told {
        // It may have ended well all the same.
        return match &seen.result {
            Ok(bytes) if has_succeeded => seen.outcome_in(bytes),
            _ => reason
                .limit()
                .map_or(Ended::Interrupted, |limit| Ended::Crashed {
                    message: seen.with_last_words(&format!("ended because {limit}")),
                }),
        };
    }
    match seen.end {
        End::Answered => of_device(seen.outcome()),
        End::Exited(status) if status.success() => of_device(seen.outcome()),
        End::Exited(status) => seen.failure(status),
        End::Killed => Ended::Interrupted,
    }
}

/// A program may catch what its device does and call it a crash.
fn of_device(ended: Ended) -> Ended {
    match ended {
        Ended::Crashed { message } if says(&message, &NO_MEMORY) => Ended::OutOfMemory {
            needed_mib: 0.0,
            available_mib: 0.0,
        },
        Ended::Crashed { message } if says(&message, &A_FAILED_DEVICE) => {
            Ended::DeviceFailed { message }
        }
        other => other,
    }
}

impl Seen {
    fn spent(&self) -> f64 {
        let progress = self.progress.as_ref();
        progress.map_or(self.budget, |progress| progress.spent)
    }

    fn outcome_in(&self, bytes: &[u8]) -> Ended {
        outcome_of_worker(bytes, self.spent(), self.is_built_in)
    }

    /// The end of a program at a check, however it has ended; what it has written by then is its curve.
    fn stopped(&self, stop: Stop) -> Ended {
        let Stop { spent, loss, limit } = stop;
        let written = self
            .result
            .as_ref()
            .ok()
            .map(|bytes| self.outcome_in(bytes));
        let mut evaluation = match written {
            Some(Ended::Evaluated(evaluation)) => evaluation,
            _ => Evaluation::default(),
        };
        evaluation.loss = loss;
        if evaluation.curve.is_empty() {
            evaluation.curve.clone_from(&self.checked);
        }
        Ended::Stopped {
            spent,
            limit,
            evaluation,
        }
    }

    fn outcome(&self) -> Ended {
        match &self.result {
            Ok(bytes) => self.outcome_in(bytes),
            Err(error) => {
                let message = format!("the program left no readable result file: {error}");
                Ended::Crashed {
                    message: self.with_last_words(&message),
                }
            }
        }
    }

    fn failure(&self, status: ExitStatus) -> Ended {
        if status.code() == Some(RUN_ME_AGAIN) {
            let message = format!("the program asks to be run again (exit code {RUN_ME_AGAIN})");
            return Ended::MachineFailed {
                message: self.with_last_words(&message),
            };
        }
        // What a runtime says; a line that the program printed may be of anything.
        let words = last_words(&self.printed).filter(|words| words.is_exception);
        let words = words.map(|words| words.text).unwrap_or_default();
        if self.is_out_of_memory(status, &words) {
            return self.out_of_memory();
        }
        let message = self.with_last_words(&format!("the program ended with {status}"));
        // Exceptions end a program with an exit code, or abort it.
        let is_by_exception = matches!(status.signal(), None | Some(libc::SIGABRT));
        if is_by_exception && says(&words, &A_FAILED_DEVICE) {
            return Ended::DeviceFailed { message };
        }
        if is_by_exception && speaks_of_a_full_disk(&words) {
            return Ended::MachineFailed { message };
        }
        match status.signal() {
            // Nothing in a built-in training ends itself so.
            Some(
                libc::SIGKILL
                | libc::SIGTERM
                | libc::SIGINT
                | libc::SIGHUP
                | libc::SIGUSR1
                | libc::SIGUSR2,
            ) if self.is_built_in => Ended::MachineFailed { message },
            _ => Ended::Crashed { message },
        }
    }

    fn is_out_of_memory(&self, status: ExitStatus, words: &str) -> bool {
        // A shell in between says 137 of a program that was killed.
        let is_killed =
            status.signal() == Some(libc::SIGKILL) || status.code() == Some(128 + libc::SIGKILL);
        let MemorySeen {
            has_killed,
            peak,
            free,
        } = self.memory;
        let had_nearly_all = peak
            .zip(free)
            .is_some_and(|(peak, free)| peak as f64 >= ALL_BUT * free as f64);
        // What Rust says before it aborts.
        let is_abort = |line: &str| {
            line.starts_with("memory allocation of ") && line.ends_with(" bytes failed")
        };
        let has_aborted =
            status.signal() == Some(libc::SIGABRT) && self.printed.lines().any(is_abort);
        // A process of its own was killed, such as one that loads data, and the program could not go on without it.
        let has_lost_a_process = has_killed && says(&self.printed, &A_KILLED_PROCESS);
        (is_killed && (has_killed || had_nearly_all))
            || has_lost_a_process
            || has_aborted
            || says(words, &NO_MEMORY)
    }

    fn out_of_memory(&self) -> Ended {
        let MemorySeen { peak, free, .. } = self.memory;
        let free = free.map_or(0.0, mib);
        Ended::OutOfMemory {
            // At least as much as there was.
            needed_mib: peak.map_or(free, |peak| mib(peak).max(free)),
            available_mib: free,
        }
    }

    fn with_last_words(&self, message: &str) -> String {
        let text = match last_words(&self.printed) {
            Some(words) => format!("{message}; the last it said: {}", words.text),
            None => message.to_owned(),
        };
        shortened(text, MAX_MESSAGE)
    }
}

/// What programs say of a failure where there was no memory left, on the host or on the device.
const NO_MEMORY: [&str; 13] = [
    "out of memory",
    "Out of Memory",
    "BufferTooBig",
    "OutOfMemory",
    "OUT_OF_MEMORY",
    "MemoryError",
    "std::bad_alloc",
    "Cannot allocate memory",
    "RESOURCE_EXHAUSTED",
    "ResourceExhausted",
    "OOM when allocating",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
];

/// What programs say where a process that they had started was killed: the words of Python's pools, of PyTorch's data
/// loaders and launchers, and of shells.
const A_KILLED_PROCESS: [&str; 6] = [
    "Killed",
    "SIGKILL",
    "signal 9",
    "exitcode: -9",
    "exit code -9",
    "terminated abruptly",
];

/// What programs say of a failure of the device: no later computation in that process can be trusted.
const A_FAILED_DEVICE: [&str; 10] = [
    "wgpu error",
    "CUDA error",
    "CUDA_ERROR",
    "cudaError",
    "device-side assert",
    "cuDNN error",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
    "HIP error",
    "uncorrectable ECC",
];

/// Whether a program says one of these things.
fn says(words: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| words.contains(phrase))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the same numbers are passed on")]
mod tests {
    use super::*;

    fn seen(end: End) -> Seen {
        Seen {
            end,
            told: None,
            stop: None,
            checked: Vec::new(),
            result: Err("it is not there".to_owned()),
            progress: None,
            budget: 9.0,
            printed: String::new(),
            is_built_in: false,
            memory: MemorySeen::default(),
        }
    }

    fn exit(code: i32) -> End {
        End::Exited(ExitStatus::from_raw(code << 8))
    }

    fn signal(number: i32) -> End {
        End::Exited(ExitStatus::from_raw(number))
    }

    fn judged(end: End, change: impl Fn(&mut Seen)) -> Ended {
        let mut seen = seen(end);
        change(&mut seen);
        judge(&seen)
    }

    fn loss() -> Vec<u8> {
        br#"{"loss": 0.5}"#.to_vec()
    }

    fn is_crash(ended: &Ended, words: &str) -> bool {
        matches!(ended, Ended::Crashed { message } if message.contains(words))
    }

    #[test]
    fn a_result_counts_only_of_a_program_that_ended_well() {
        for end in [End::Answered, exit(0)] {
            assert!(matches!(
                judged(end, |seen| seen.result = Ok(loss())),
                Ended::Evaluated(_)
            ));
        }
        assert!(is_crash(
            &judged(exit(1), |seen| seen.result = Ok(loss())),
            "exit status: 1"
        ));
        assert!(is_crash(
            &judged(End::Answered, |_| {}),
            "no readable result file"
        ));
    }

    #[test]
    fn who_was_told_to_stop_is_interrupted_unless_it_was_a_limit() {
        for reason in [
            StopReason::Signal,
            StopReason::TimeLimit,
            StopReason::SearchStopped,
            StopReason::ClaimLost,
        ] {
            for end in [
                exit(0),
                exit(1),
                exit(75),
                signal(libc::SIGTERM),
                End::Killed,
            ] {
                assert_eq!(
                    judged(end, |seen| seen.told = Some(reason)),
                    Ended::Interrupted
                );
            }
            let ended = judged(exit(0), |seen| {
                seen.told = Some(reason);
                seen.result = Ok(loss());
            });
            assert!(matches!(ended, Ended::Evaluated(_)), "{ended:?}");
        }
        for reason in [StopReason::JobLimit, StopReason::Silence] {
            let ended = judged(End::Killed, |seen| seen.told = Some(reason));
            assert!(is_crash(&ended, "_limit_s"), "{ended:?}");
        }
    }

    #[test]
    fn who_was_ended_for_its_loss_is_stopped_however_it_ends() {
        let stop = Stop {
            spent: 3.0,
            loss: 0.5,
            limit: 0.25,
        };
        for end in [
            exit(0),
            exit(1),
            exit(75),
            signal(libc::SIGTERM),
            End::Killed,
        ] {
            for result in [
                Err("it is not there".to_owned()),
                Ok(br#"{"loss": 0.75, "curve": [{"spent": 2, "loss": 0.75}]}"#.to_vec()),
                Ok(br#"{"crashed": "terminated"}"#.to_vec()),
            ] {
                let ended = judged(end, |seen| {
                    seen.told = Some(StopReason::Check);
                    seen.stop = Some(stop);
                    seen.result = result.clone();
                });
                let Ended::Stopped {
                    spent,
                    limit,
                    evaluation,
                } = ended
                else {
                    panic!("{ended:?}");
                };
                assert_eq!([spent, evaluation.loss, limit], [3.0, 0.5, 0.25]);
            }
        }
        // What a program claims of itself is no end.
        let claimed = br#"{"loss": 0.5, "stopped": {"spent": 1, "limit": 0}}"#.to_vec();
        let result = |seen: &mut Seen| seen.result = Ok(claimed.clone());
        assert!(matches!(judged(exit(0), result), Ended::Evaluated(_)));
    }

    #[test]
    fn killed_for_memory_is_out_of_memory_and_killed_otherwise_is_not() {
        for end in [signal(libc::SIGKILL), exit(137)] {
            let ended = judged(end, |seen| seen.memory.has_killed = true);
            assert!(matches!(ended, Ended::OutOfMemory { .. }), "{ended:?}");
            let ended = judged(end, |seen| {
                seen.memory.free = Some(1000 << 20);
                seen.memory.peak = Some(900 << 20);
            });
            let expected = Ended::OutOfMemory {
                needed_mib: 1000.0,
                available_mib: 1000.0,
            };
            assert_eq!(ended, expected);
            let ended = judged(end, |seen| {
                seen.memory.free = Some(1000 << 20);
                seen.memory.peak = Some(100 << 20);
            });
            assert!(matches!(ended, Ended::Crashed { .. }), "{ended:?}");
        }
        // A kill in the group that this program's own end has nothing to do with.
        let ended = judged(exit(1), |seen| seen.memory.has_killed = true);
        assert!(matches!(ended, Ended::Crashed { .. }), "{ended:?}");
    }

    #[test]
    fn a_process_of_the_program_that_was_killed_for_memory_is_out_of_memory() {
        for line in [
            "RuntimeError: DataLoader worker (pid 4242) is killed by signal: Killed. ",
            "concurrent.futures.process.BrokenProcessPool: A process in the process pool was terminated abruptly while \
             the future was running or pending.",
            "The exit codes of the workers are {SIGKILL(-9)}",
            "exitcode: -9 (pid: 7) of binary: /usr/bin/python3",
        ] {
            let ended = |has_killed| {
                judged(exit(1), |seen| {
                    seen.memory.has_killed = has_killed;
                    seen.printed = format!("Traceback (most recent call last):\n{line}\n");
                })
            };
            assert!(matches!(ended(true), Ended::OutOfMemory { .. }), "{line}");
            // The kernel knows of no lack of memory: somebody else has killed it.
            assert!(matches!(ended(false), Ended::Crashed { .. }), "{line}");
        }
    }

    #[test]
    fn what_a_program_says_of_memory_and_device_is_heard() {
        let traceback = |line: &str| {
            format!("Traceback (most recent call last):\n  File \"t.py\", line 1\n{line}\nbye\n")
        };
        for line in [
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
            "MemoryError",
        ] {
            let ended = judged(exit(1), |seen| seen.printed = traceback(line));
            assert!(
                matches!(ended, Ended::OutOfMemory { .. }),
                "{line}: {ended:?}"
            );
        }
        let ended = judged(signal(libc::SIGABRT), |seen| {
            seen.printed = "memory allocation of 52428800 bytes failed\n".to_owned();
        });
        assert!(matches!(ended, Ended::OutOfMemory { .. }), "{ended:?}");
        // What a thread of the GPU backend says before it ends the program.
        let panic = |line: &str| format!("thread 'DSD-0-0' (9) panicked at x.rs:1:2:\n{line}\n");
        for line in [
            "wgpu error: Out of Memory\n\nCaused by:\n  In Device::create_buffer",
            "called `Result::unwrap()` on an `Err` value: BufferTooBig(3000000000)",
        ] {
            let ended = judged(signal(libc::SIGABRT), |seen| seen.printed = panic(line));
            assert!(matches!(ended, Ended::OutOfMemory { .. }), "{ended:?}");
        }
        let ended = judged(signal(libc::SIGABRT), |seen| {
            seen.printed =
                panic("wgpu error: Validation Error\n\nCaused by:\n  Parent device is lost");
        });
        assert!(matches!(ended, Ended::DeviceFailed { .. }), "{ended:?}");
        let line = "RuntimeError: CUDA error: an illegal memory access was encountered";
        let ended = judged(exit(1), |seen| seen.printed = traceback(line));
        assert!(
            matches!(&ended, Ended::DeviceFailed { message } if message.contains("illegal")),
            "{ended:?}"
        );
        // Words in the middle of a log that ended for another reason.
        let ended = judged(exit(1), |seen| {
            seen.printed = format!(
                "warning: CUDA error ignored\n{}",
                traceback("ValueError: x")
            );
        });
        assert!(is_crash(&ended, "ValueError: x"), "{ended:?}");
        let ended = judged(exit(3), |seen| {
            seen.printed = "INFO: allocator stats: 0 out of memory errors\n".to_owned();
        });
        assert!(matches!(ended, Ended::Crashed { .. }), "{ended:?}");
        let ended = judged(signal(libc::SIGSEGV), |seen| seen.printed = traceback(line));
        assert!(matches!(ended, Ended::Crashed { .. }), "{ended:?}");
        // Caught, and said in the result file.
        let ended = judged(End::Answered, |seen| {
            seen.result = Ok(br#"{"crashed": "CUDA error: an illegal memory access"}"#.to_vec());
        });
        assert!(matches!(ended, Ended::DeviceFailed { .. }), "{ended:?}");
    }

    #[test]
    fn a_full_disk_is_this_machines_fault() {
        let python = "OSError: [Errno 28] No space left on device: '/tmp/x'";
        let python = format!("Traceback (most recent call last):\n  File \"t.py\"\n{python}\n");
        let rust = "thread 'DSD-0-0' (9) panicked at cache.rs:164:18:\nFailed to write to chunk: Os { code: 28, kind: \
                    StorageFull, message: \"No space left on device\" }\n";
        for (end, printed) in [(exit(1), python.as_str()), (signal(libc::SIGABRT), rust)] {
            let ended = judged(end, |seen| seen.printed = printed.to_owned());
            assert!(matches!(ended, Ended::MachineFailed { .. }), "{ended:?}");
        }
        // A line of a log.
        let ended = judged(exit(1), |seen| {
            seen.printed = "warning: No space left on device\n".to_owned();
        });
        assert!(matches!(ended, Ended::Crashed { .. }), "{ended:?}");
    }

    #[test]
    fn a_built_in_training_that_somebody_kills_is_this_machines_fault() {
        let is_built_in = |seen: &mut Seen| seen.is_built_in = true;
        assert!(matches!(
            judged(signal(libc::SIGKILL), is_built_in),
            Ended::MachineFailed { .. }
        ));
        assert!(matches!(
            judged(signal(libc::SIGKILL), |_| {}),
            Ended::Crashed { .. }
        ));
        assert!(matches!(
            judged(signal(libc::SIGSEGV), is_built_in),
            Ended::Crashed { .. }
        ));
        assert!(matches!(
            judged(exit(101), is_built_in),
            Ended::Crashed { .. }
        ));
        assert!(matches!(
            judged(exit(75), is_built_in),
            Ended::MachineFailed { .. }
        ));
    }
}
