import re
import subprocess
import sys

import optuna
import submitit
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

FOLDER, TRIALS, WORKERS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def objective(trial):
    command = [sys.executable, "train.py", "--epochs", "27"]
    command += ["--learning-rate", str(trial.suggest_float("learning_rate", 1e-3, 1, log=True))]
    command += ["--momentum", str(trial.suggest_float("momentum", 0, 0.99))]
    command += ["--width", str(trial.suggest_int("width", 8, 128, log=True))]
    accuracy = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:
        for line in training.stdout:
            if match := re.search(r"epoch (\d+) accuracy: ([0-9.]+)", line):
                accuracy = float(match[2])
                trial.report(accuracy, int(match[1]))
                if trial.should_prune():
                    training.kill()
                    raise optuna.TrialPruned
    if training.returncode:
        raise RuntimeError(f"{command} ended with {training.returncode}")
    return accuracy


def study(seed=None):
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(f"{FOLDER}/journal.log")),
        study_name="digits",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        pruner=optuna.pruners.HyperbandPruner(min_resource=3, max_resource=27, reduction_factor=9),
    )


def work(seed):
    enough = optuna.study.MaxTrialsCallback(TRIALS, states=None)
    study(seed).optimize(objective, callbacks=[enough])


if __name__ == "__main__":
    study()
    executor = submitit.AutoExecutor(folder=FOLDER)
    executor.update_parameters(timeout_min=60, slurm_array_parallelism=WORKERS)
    jobs = executor.map_array(work, range(WORKERS))
    for job in jobs:
        job.result()
    best = study().best_trial
    print(f"best: {best.value} with {best.params}")
