//! Every state of a SLURM job, and what it means for the attempt that ran in it.
//!
//! SLURM's states say something about attempts, never about a configuration: a configuration's own failures
//! (diverged, out of the device's memory, crashed in training) are outcomes that the trainer publishes itself. When
//! SLURM ends a trainer, its job is tried again.
//!
//! Source: `squeue(1)` and `sacct(1)` of SLURM 22.05 to 25.05, "JOB STATE CODES".
#![warn(clippy::wildcard_enum_match_arm)]

use shared::Fate;

use crate::batch::Meaning;

macro_rules! states {
    ($($(#[$doc:meta])* $variant:ident = $name:literal => $meaning:expr;)*) => {
        /// A state of a SLURM job.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum JobState {
            $($(#[$doc])* $variant,)*
            /// A state that this program does not know: taken as living, so that nothing is submitted twice.
            Other(String),
        }

        impl JobState {
            /// The state by its long name.
            pub(super) fn parse(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }

            /// SLURM's long name of it.
            pub(super) fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(name) => name,
                }
            }

            /// What it means.
            pub(super) fn meaning(&self) -> Meaning {
                match self {
                    $(Self::$variant => $meaning,)*
                    Self::Other(_) => Meaning::Living,
                }
            }
        }

        #[cfg(test)]
        const ALL: &[&str] = &[$($name),*];
    };
}

states! {
    /// The node did not start.
    BootFail = "BOOT_FAIL" => Meaning::Ended(Fate::NodeLost);
    /// Cancelled by a person.
    Cancelled = "CANCELLED" => Meaning::Ended(Fate::Preempted);
    /// Ended with exit code 0.
    Completed = "COMPLETED" => Meaning::Done;
    /// The last processes are ending.
    Completing = "COMPLETING" => Meaning::Living;
    /// Nodes are being made ready.
    Configuring = "CONFIGURING" => Meaning::Waiting;
    /// Its deadline passed.
    Deadline = "DEADLINE" => Meaning::Ended(Fate::TimeLimit);
    /// Its priority is being raised.
    Expediting = "EXPEDITING" => Meaning::Waiting;
    /// Ended with another exit code, 75 (run me again) among them.
    Failed = "FAILED" => Meaning::Failed;
    /// The program could not be started.
    LaunchFailed = "LAUNCH_FAILED" => Meaning::Failed;
    /// A node failed.
    NodeFail = "NODE_FAIL" => Meaning::Ended(Fate::NodeLost);
    /// The node's memory, not the device's, was too small: with the same limits it would be again.
    OutOfMemory = "OUT_OF_MEMORY" => Meaning::Ended(Fate::NodeLost);
    /// Waits for resources.
    Pending = "PENDING" => Meaning::Waiting;
    /// Nodes are being switched on.
    PowerUpNode = "POWER_UP_NODE" => Meaning::Waiting;
    /// Had to make room.
    Preempted = "PREEMPTED" => Meaning::Ended(Fate::Preempted);
    /// Nodes could not be configured.
    ReconfigFail = "RECONFIG_FAIL" => Meaning::Ended(Fate::NodeLost);
    /// Is being queued again.
    Requeued = "REQUEUED" => Meaning::Waiting;
    /// Is being queued again in a federation.
    RequeueFed = "REQUEUE_FED" => Meaning::Waiting;
    /// Is queued again and held: a person must release it.
    RequeueHold = "REQUEUE_HOLD" => Meaning::Waiting;
    /// Is about to change its size.
    Resizing = "RESIZING" => Meaning::Living;
    /// Held because its reservation was deleted.
    ResvDelHold = "RESV_DEL_HOLD" => Meaning::Waiting;
    /// Runs on another cluster of the federation.
    Revoked = "REVOKED" => Meaning::Ended(Fate::Preempted);
    /// Runs.
    Running = "RUNNING" => Meaning::Living;
    /// A signal is being sent.
    Signaling = "SIGNALING" => Meaning::Living;
    /// Is queued again in a special state and held.
    SpecialExit = "SPECIAL_EXIT" => Meaning::Waiting;
    /// Files are being moved out.
    StageOut = "STAGE_OUT" => Meaning::Living;
    /// Stopped with its processors kept.
    Stopped = "STOPPED" => Meaning::Living;
    /// Suspended with its processors given away.
    Suspended = "SUSPENDED" => Meaning::Living;
    /// Its time was over.
    Timeout = "TIMEOUT" => Meaning::Ended(Fate::TimeLimit);
    /// Its record is being sent to the database.
    UpdateDb = "UPDATE_DB" => Meaning::Living;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_name_and_none_is_unknown() {
        for name in ALL {
            let state = JobState::parse(name);
            assert_eq!(state.name(), *name);
            assert!(!matches!(state, JobState::Other(_)), "{name}");
        }
        assert_eq!(ALL.len(), 29);
    }

    #[test]
    fn preemption_and_failed_nodes_are_no_fault_of_the_configuration() {
        let meaning = |name: &str| JobState::parse(name).meaning();
        assert_eq!(meaning("PREEMPTED"), Meaning::Ended(Fate::Preempted));
        assert_eq!(meaning("NODE_FAIL"), Meaning::Ended(Fate::NodeLost));
        assert_eq!(meaning("TIMEOUT"), Meaning::Ended(Fate::TimeLimit));
        // Unknown ones are taken as living, so that nothing is submitted twice.
        assert!(JobState::parse("DREAMING").meaning().is_live());
        assert!(!JobState::parse("COMPLETED").meaning().is_live());
    }
}
